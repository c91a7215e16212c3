"""Programs that send nothing: the same work, no collective."""

import numpy as np
import pytest

import tiny
from thinwire.wire.audit import audit_hlo
from thinwire.wire.silence import place_alone, silence, silent


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


@pytest.mark.parametrize(
    "spec", ["sequence:vq:groups=6:size=16", "ring:int8", "tensor:int8", "sequence:pvq:groups=6:size=16"]
)
def test_one_device_alone_does_its_own_part(spec):
    """What a device computes of its own payload alone is what it computes on a mesh that is silent."""
    from thinwire.wire.spmd import make_mesh

    engine, ids_T = tiny.engine(spec, make_mesh(3)), tiny.ids()
    with silence():
        everybody = engine.lower(len(ids_T))[0].compile()(engine.params, engine.codecs, ids_T)["logits"]
    for device in range(3):
        program, arguments = tiny.engine(spec, 3).alone(len(ids_T), device)
        np.testing.assert_allclose(program(*arguments, ids_T)["logits"], everybody[device], atol=1e-4)


@pytest.mark.parametrize("codec", ["vq:groups=6:size=16", "pvq:groups=6:size=16"])
def test_what_only_others_would_look_at_is_computed(codec):
    """Device 0 sees nobody, so that nothing of its own program asks for what it encodes."""
    engine = tiny.engine(f"sequence:{codec}", 3)
    held_back = ["xla_ffi_python_cpu_callback" in engine.alone(tiny.TOKENS, device)[0].as_text() for device in range(3)]
    assert held_back == [True, False, False]


def test_silence_ends_with_an_error():
    with pytest.raises(RuntimeError), silence((1, 3)):
        raise RuntimeError
    assert not silent()
    assert place_alone() is None
