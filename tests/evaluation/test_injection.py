"""A codec in four places of a tiny model: what it touches there, and what it leaves alone."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

import tiny
import tiny_vit
from thinwire.codecs.base import Codec
from thinwire.engine import Engine
from thinwire.errors import ThinwireError
from thinwire.evaluation.injection import PLACES, AllKeysValues, Residual, Sums, bits, injected, place_of
from thinwire.training.samples import sample_sites

FAMILY = ("llama", "gpt2", "bert", "vit")
VQ = "vq:groups=6:size=16"


@dataclasses.dataclass(frozen=True)
class Replacing(Codec):
    """A codec that changes nothing but ``row``, or all rows, which it replaces by one value."""

    row: int | None = None
    value: float = 0.0
    name = "replacing"

    def encode(self, params, x_TD, known=None):
        return {"rows": x_TD.astype(jnp.float32)}

    def decode(self, params, payload, tokens, dim, known=None):
        if self.row is None:
            return jnp.full((tokens, dim), self.value, jnp.float32)
        return payload["rows"].at[self.row].set(self.value)

    def payload_bytes(self, tokens, dim):
        return 4 * tokens * dim

    def bits_per_token(self, dim):
        return 32.0 * dim


def outputs(family, strategy, **changes):
    model, inputs_T = (
        (tiny_vit.model(**changes), tiny_vit.image())
        if family == "vit"
        else (tiny.model(family, **changes), tiny.ids())
    )
    return Engine(model, strategy, 3 if place_of(strategy) == "remote_kv" else 1).logits(inputs_T)


def exact_outputs(family):
    return tiny_vit.single_features() if family == "vit" else tiny.single_logits(family=family)


@pytest.mark.parametrize("family", FAMILY)
@pytest.mark.parametrize("place", PLACES)
def test_a_codec_that_loses_nothing_gives_the_single_device(family, place):
    found = outputs(family, injected(place, "float32"))
    np.testing.assert_allclose(found, exact_outputs(family), rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("family", ["llama", "vit"])
@pytest.mark.parametrize("place", PLACES)
def test_a_codec_that_loses_something_is_felt_in_every_place(family, place):
    found = outputs(family, injected(place, "int2"))
    assert np.abs(found - exact_outputs(family)).max() > 1e-2
    assert np.isfinite(found).all()


@pytest.mark.parametrize("place", [Residual, Sums, AllKeysValues])
def test_token_0_of_a_causal_model_stays_exact(place):
    """It sees itself only, so nothing that happens to the others reaches it."""
    found = outputs("llama", place(Replacing(0, 5.0)))
    np.testing.assert_allclose(found, tiny.single_logits(), rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("place", [Residual, Sums, AllKeysValues])
def test_own_rows_are_coded(place):
    """The last token, whom nobody looks at, is changed by what is done to itself alone."""
    last = tiny.TOKENS - 1
    found = outputs("llama", place(Replacing(last, 5.0)))
    exact = tiny.single_logits()
    np.testing.assert_allclose(found[:last], exact[:last], rtol=1e-4, atol=2e-4)
    assert np.abs(found[last] - exact[last]).max() > 1e-2


def test_remote_keys_and_values_leave_a_token_itself_alone():
    """A device alone codes nothing; with all keys and values coded it makes a difference."""
    strategy = injected("remote_kv", "int2")
    alone = Engine(tiny.model(), strategy, 1).logits(tiny.ids())
    np.testing.assert_allclose(alone, tiny.single_logits(), rtol=1e-4, atol=2e-4)
    assert strategy.halo == 0


def test_a_cut_lets_nothing_by():
    """Where all rows are replaced by one value, nothing behind depends on the tokens, but for token 0."""
    one, other = tiny.ids(), tiny.ids(seed=5)
    other[0] = one[0]
    both = lambda strategy: [Engine(tiny.model(), strategy).logits(ids_T) for ids_T in (one, other)]
    cut = both(Residual(Replacing()))
    np.testing.assert_allclose(cut[0], cut[1], rtol=1e-4, atol=1e-4)
    by_the_stream = both(Sums(Replacing()))
    assert np.abs(by_the_stream[0] - by_the_stream[1]).max() > 1e-2


def test_cuts_lie_as_far_apart_as_asked():
    dims, last = dataclasses.replace(tiny.dims(), layers=5), tiny.TOKENS - 1
    strategies = {every: Residual(Replacing(last, 3.0), every=every) for every in (1, 2, 3)}
    assert {every: bits(strategy, dims) for every, strategy in strategies.items()} == {
        1: (32 * 48, 4),
        2: (32 * 48, 2),
        3: (32 * 48, 1),
    }
    # The last cut decides what becomes of a row that is replaced: of 4 layers it is before layer 3, 2 and 3.
    found = {every: outputs("llama", strategy, L=4)[last] for every, strategy in strategies.items()}
    np.testing.assert_allclose(found[1], found[3], rtol=1e-3, atol=1e-3)
    assert np.abs(found[1] - found[2]).max() > 1e-2


def test_bits_count_every_tensor_that_is_coded():
    dims = tiny.dims()
    counted = {place: bits(injected(place, VQ), dims) for place in PLACES}
    assert counted == {"residual": (24, 1), "sums": (24, 4), "all_kv": (24, 2), "remote_kv": (24, 2)}
    assert bits(injected("remote_kv", "pvq:groups=6:size=16"), dims) == (24, 1)  # layer 0 is recomputed


def test_codebooks_are_those_of_the_place():
    """Rows to learn from are what the codec is given there."""
    model, dims = tiny.model(), tiny.dims()
    windows_WT = np.stack([tiny.ids(seed=seed) for seed in range(2)])
    for place in ("residual", "sums", "all_kv"):
        strategy = injected(place, VQ)
        kept = sample_sites(model, strategy.sites(dims), windows_WT, 8, devices=1)
        assert {kept[site].shape[2] for site in strategy.sites(dims)} == {48}
        found = Engine(model, strategy, 1, tiny.codebooks(strategy, dims)).logits(tiny.ids())
        assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("place", "codec", "words"),
    [
        ("residual", "pvq:groups=6", "predicts other devices' keys and values and cannot act at residual"),
        ("all_kv", "drop", "drop sends nothing, and all_kv needs a codec"),
        ("sums", "means:length=4", "means:length=4 mixes neighbouring tokens, and at sums"),
        ("all_kv", "vq:groups=7", "cannot be cut into 7 equal groups"),
    ],
)
def test_what_cannot_act_there_is_refused(place, codec, words):
    with pytest.raises(ThinwireError, match=words):
        injected(place, codec).check(tiny.dims())


def test_other_mistakes_are_told():
    with pytest.raises(ThinwireError, match="every=0 is below 1"):
        injected("residual", "int8", 0)
    with pytest.raises(ThinwireError, match="every=2 cuts nothing in 2 layers; use 1 or less"):
        injected("residual", "int8", 2).check(tiny.dims())
    with pytest.raises(ThinwireError, match="no place 'kv'; there are residual, sums, all_kv, remote_kv"):
        injected("kv", "int8")


def test_names_tell_strategies_apart():
    names = [injected(place, "int8", 2).spec() for place in PLACES]
    assert names == ["residual:int8:every=2", "sums:int8", "all_kv:int8", "sequence:int8:site=kv:halo=0"]
