"""Programs that send nothing: the same work, no collective."""

import numpy as np
import pytest

import tiny
from thinwire.wire.audit import audit_hlo
from thinwire.wire.silence import silence, silent


@pytest.mark.parametrize(
    "spec", ["sequence:vq:groups=6:size=16", "ring:int8", "tensor:int8", "sequence:pvq:groups=6:size=16"]
)
def test_nothing_crosses_and_the_work_is_still_done(spec):
    from thinwire.wire.spmd import make_mesh

    engine = tiny.engine(spec, make_mesh(3))
    ids_T = tiny.ids()
    loud = audit_hlo(engine.lower(len(ids_T))[0].compile().as_text())
    with silence():
        assert silent()
        lowered, _ = engine.lower(len(ids_T))
    assert not silent()
    quiet = audit_hlo(lowered.compile().as_text())
    assert sum(loud.bytes_by_device()) > 0 == sum(quiet.bytes_by_device())

    flops = lambda lowered: lowered.cost_analysis()["flops"]
    np.testing.assert_allclose(flops(lowered), flops(engine.lower(len(ids_T))[0]), rtol=0.02)


def test_silence_ends_with_an_error():
    with pytest.raises(RuntimeError), silence():
        raise RuntimeError
    assert not silent()
