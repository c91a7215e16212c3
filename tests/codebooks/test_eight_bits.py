"""Codebook sets in eight bits: what comes back, how far off it is, and what is refused."""

import numpy as np
import pytest

from thinwire.codebooks import store
from thinwire.codebooks.eight_bits import pack, rounded, unpack
from thinwire.codebooks.manifest import Manifest
from thinwire.codecs.base import SHARED
from thinwire.errors import ThinwireError

L, G, C, E = 2, 3, 8, 4


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    codebook = draw(L, G, C, E) * np.geomspace(1e-3, 1e3, C, dtype=np.float32)[:, None]
    codebook[0, 1] = 0.0  # a layer that is not coded
    return {"kv": {"codebook": codebook, "bias": draw(L, G * E)}, SHARED: {"project": draw(16, 40)}}


def size(arrays):
    return sum(x.nbytes for of_site in arrays.values() for x in of_site.values())


def manifest():
    return Manifest("m", "0" * 64, "llama", L, f"vq:groups={G}:size={C}", {"kv": G * E}, {}, 0)


def test_every_row_keeps_its_values_to_half_a_step(arrays):
    back = rounded(arrays)
    for site, name in (("kv", "codebook"), (SHARED, "project")):
        whole = arrays[site][name]
        step = np.abs(whole).max(axis=-1, keepdims=True) / 127
        assert (np.abs(back[site][name] - whole) <= 0.501 * step).all()
        assert (back[site][name] != whole).any()
    np.testing.assert_array_equal(back["kv"]["bias"], arrays["kv"]["bias"])


def test_a_stored_set_comes_back_rounded_and_smaller(arrays, tmp_path):
    saved = store.save(tmp_path / "small", manifest(), arrays, eight_bits=True)
    found = store.load(tmp_path / "small")
    assert found.manifest == saved
    for site, of_site in rounded(arrays).items():
        assert found.arrays[site].keys() == of_site.keys()
        for name, x in of_site.items():
            np.testing.assert_array_equal(found.arrays[site][name], x)
    store.save(tmp_path / "large", manifest(), arrays)
    assert size(pack(arrays)) < 0.5 * size(arrays)
    np.testing.assert_array_equal(store.load(tmp_path / "large").arrays["kv"]["codebook"], arrays["kv"]["codebook"])


def test_whole_numbers_without_their_steps_are_refused(arrays, tmp_path):
    packed = pack(arrays)
    del packed["kv"]["codebook.step"]
    with pytest.raises(ValueError, match=r"codebook.int8 at site kv has no steps"):
        unpack(packed)
    store.save(tmp_path / "set", manifest(), arrays, eight_bits=True)
    file = tmp_path / "set" / store.MANIFEST
    file.write_text(file.read_text().replace("codebook.step", "codebook.other"))
    with pytest.raises(ThinwireError, match="damaged"):
        store.load(tmp_path / "set")
