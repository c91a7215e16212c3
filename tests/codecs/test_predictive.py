"""The predictive codec: what is predicted is not sent, both ends agree, and learning it pays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from thinwire.codecs import CODECS
from thinwire.codecs.base import SHARED
from thinwire.errors import ThinwireError
from thinwire.training.predictive import learn_layers, shared_projection
from thinwire.training.rotation import rotation_of

T, D, R = 23, 12, 5
CODEC = CODECS["pvq"](groups=4, size=8, rank=R, history=2)


def params(layer=0):
    return {name: x[layer] for name, x in CODEC.init_params(jax.random.key(3), 2, D).items()}


def known(seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda width: jnp.asarray(rng.standard_normal((T, width), np.float32))
    return {"features": draw(R), "below": draw(D)}


def test_size_is_the_formula_of_the_codes_alone():
    payload = CODEC.encode(params(), jnp.ones((T, D)), known())
    assert sum(x.nbytes for x in payload.values()) == CODEC.payload_bytes(T, D) == -(-T * 4 * 3 // 8)
    assert CODEC.bits_per_token(D) == 12


def test_what_is_predicted_and_a_codeword_is_decoded_exactly():
    p, k = params(), known()
    codes = np.random.default_rng(1).integers(0, 8, (T, 4))
    residual = np.asarray(p["codebook"])[np.arange(4), codes].reshape(T, D) @ np.asarray(p["synthesis"])
    rows = np.asarray(CODEC.predict(p, k)) + residual
    payload = CODEC.encode(p, jnp.asarray(rows), k)
    np.testing.assert_allclose(CODEC.decode(p, payload, T, D, k), rows, atol=1e-5)


def test_a_constant_shift_of_prediction_and_row_changes_no_code():
    p, k = params(), known()
    rows = jax.random.normal(jax.random.key(5), (T, D))
    shifted = {**p, "bias": p["bias"] + 4.0}
    np.testing.assert_array_equal(CODEC.encode(p, rows, k)["codes"], CODEC.encode(shifted, rows + 4.0, k)["codes"])


def test_without_side_information_it_refuses():
    with pytest.raises(ValueError, match="known"):
        CODEC.encode(params(), jnp.ones((T, D)))


def test_token_features_look_back_and_never_ahead():
    shared = CODEC.init_shared(jax.random.key(0), 6)
    x = jax.random.normal(jax.random.key(1), (T, 6))
    moved = CODEC.token_features(shared, x.at[9].add(1.0)) != CODEC.token_features(shared, x)
    assert np.flatnonzero(np.asarray(moved).any(axis=1)).tolist() == [9, 10]


def test_groups_that_do_not_divide():
    with pytest.raises(ThinwireError, match="12 values cannot be cut into 5"):
        CODECS["pvq"](groups=5).check(12)


def test_rotation_is_inverted_and_balances_the_groups():
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((4000, 16)) * np.geomspace(0.1, 10, 16)) @ np.linalg.qr(rng.standard_normal((16, 16)))[
        0
    ]
    analysis, synthesis = rotation_of("joint", rows.astype(np.float32), 4)
    np.testing.assert_allclose(analysis @ synthesis, np.eye(16), atol=1e-4)
    logs = np.log((rows @ analysis).var(axis=0)).reshape(4, 4).sum(axis=1)
    plain = np.log(rows.var(axis=0)).reshape(4, 4).sum(axis=1)
    assert np.ptp(logs) < 1.5
    assert logs.mean() < plain.mean()  # decorrelated: less to code


def related_layers(n, features):
    """Tokens' features, and rows of three layers that mostly follow from them and the layer below."""
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((n, features)).astype(np.float32)
    rows = [rng.standard_normal((n, D)).astype(np.float32)]
    for _ in range(2):
        mix, below = rng.standard_normal((features, D)), rng.standard_normal((D, D)) / D**0.5
        rows.append((tokens @ mix + rows[-1] @ below + 0.3 * rng.standard_normal((n, D))).astype(np.float32))
    return tokens, np.stack(rows)


@pytest.mark.parametrize(
    ("name", "options", "rank", "most"),
    [
        ("pvq", {"groups": 2, "size": 4}, 8, 0.1),  # 4 bits for 12 values leave most of plain rows
        ("predict+rvq", {"groups": 1, "size": 4, "stages": 2}, 8, 0.1),
        ("predict+fsq", {"dims": 3, "levels": 3}, 8, 0.1),
        ("predict+lowrank", {"dims": 6, "bits": 4}, 0, 0.5),
        ("predict+int4", {}, 0, 0.05),
    ],
)
def test_learning_sends_less_of_what_can_be_predicted(name, options, rank, most):
    n = 3000
    tokens, rows_LnD = related_layers(n, 8)
    kept = np.arange(n) % 10 != 9
    codec = CODECS[name](rank=rank, **options)
    features_nR = tokens @ shared_projection(tokens, rows_LnD, rank) if rank else tokens[:, :0]
    below = rows_LnD[0] if rank else np.zeros_like(rows_LnD[0])
    there_and_back = jax.jit(
        lambda learnt, x_nD, side: codec.decode(learnt, codec.encode(learnt, x_nD, side), n, D, side)
    )
    for layer, (learnt, _) in enumerate(learn_layers(jax.random.key(0), codec, features_nR, rows_LnD, kept)):
        assert SHARED not in learnt
        assert {k: x.shape for k, x in learnt.items()} == {
            k: x.shape[1:] for k, x in codec.init_params(jax.random.key(0), 1, D).items()
        }
        if layer == 0 and rank:
            continue  # recomputed
        side = {"features": features_nR, "below": below}
        below = np.asarray(there_and_back(learnt, rows_LnD[layer], side))
        left = ((below - rows_LnD[layer])[~kept] ** 2).mean() / rows_LnD[layer][~kept].var()
        assert left < (most if layer else 0.6)  # nothing is below layer 0


def test_what_weighs_more_is_served_better():
    """Two kinds of rows that follow from their tokens differently: the heavier kind is predicted and coded better."""
    n, rng = 2000, np.random.default_rng(5)
    tokens, first = rng.standard_normal((n, 8)).astype(np.float32), np.zeros((n, D), np.float32)
    of_kind = np.arange(n) % 2 == 0
    one, other = rng.standard_normal((2, 8, D)).astype(np.float32)
    rows_nD = np.where(of_kind[:, None], tokens @ one, tokens @ other)
    rows_LnD = np.stack([first, rows_nD])
    codec, left = CODECS["pvq"](rank=8, groups=2, size=4), []
    for weight in (10.0, 0.1):
        weights_Ln = np.where(of_kind, weight, 1.0).astype(np.float32)[None].repeat(2, axis=0)
        *_, (learnt, _) = learn_layers(jax.random.key(0), codec, tokens, rows_LnD, np.ones(n, bool), weights_Ln)
        params, side = jax.tree.map(jnp.asarray, (learnt, {"features": tokens, "below": first}))
        back_nD = codec.decode(params, codec.encode(params, jnp.asarray(rows_nD), side), n, D, side)
        left.append(((np.asarray(back_nD) - rows_nD) ** 2)[of_kind].mean())
    assert left[0] < 0.5 * left[1]


def test_a_prediction_alone_decodes_to_itself():
    codec = CODECS["predict+drop"](rank=R)
    p = {name: x[0] for name, x in codec.init_params(jax.random.key(3), 1, D).items()}
    assert codec.encode(p, jnp.ones((T, D)), known()) == {}
    np.testing.assert_array_equal(codec.decode(p, {}, T, D, known()), codec.predict(p, known()))
    assert codec.payload_bytes(T, D) == codec.bits_per_token(D) == 0


def test_a_rank_above_the_number_of_token_features_adds_zeros():
    """So that every layer's arrays have the shapes that the codec says, also of a narrow model."""
    tokens_nF, rows_LnD = related_layers(500, 4)
    features = tokens_nF.shape[1]
    few, many = (shared_projection(tokens_nF, rows_LnD, rank) for rank in (features, features + 3))
    assert many.shape == (features, features + 3)
    np.testing.assert_array_equal(many[:, :features], few)
    assert not many[:, features:].any()
