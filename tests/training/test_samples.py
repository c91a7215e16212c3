"""Sampled values against a forward pass written again in numpy."""

import numpy as np
import pytest

import tiny
from thinwire.strategies.heads import deal
from thinwire.training.samples import FAR, HISTORY, POSITION, TOKENS_BACK, WEIGHT, sample_sites

TOKENS, WINDOWS, ROWS = 20, 3, 8
DEVICES = 3  # nine query heads and three key heads: three and one each


@pytest.fixture(scope="module")
def windows_WT():
    return np.stack([tiny.ids(TOKENS, seed) for seed in range(WINDOWS)])


def forward(ids_T) -> list[dict[str, np.ndarray]]:
    """Every site of every layer in float64: (T, D), and (N, T, D) for partial sums."""
    model = tiny.model()
    c, params = model.config, model.params
    at = np.arange(len(ids_T))
    angle_TF = at[:, None] * c.rope_theta ** (-np.arange(0, c.d, 2) / c.d)

    def rotate(x_THd):
        a, b = np.split(x_THd, 2, axis=-1)
        cos, sin = np.cos(angle_TF)[:, None], np.sin(angle_TF)[:, None]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def norm(x_TD, gain_D):
        return x_TD / np.sqrt((x_TD**2).mean(axis=1, keepdims=True) + c.norm_eps) * gain_D

    x_TD = params["embed"][ids_T].astype(float)
    found = []
    for layer in range(c.L):
        w = {name: values[layer].astype(float) for name, values in params["layers"].items()}
        h_TD = norm(x_TD, w["attn_norm"])
        q, k, v = (np.einsum("td,dhe->the", h_TD, w[name]) for name in ("wq", "wk", "wv"))
        site = {"x": x_TD, "norm": h_TD, "kv": np.concatenate([k, v], axis=1).reshape(len(at), -1)}
        k, v = (np.repeat(y, c.H // c.K, axis=1) for y in (rotate(k), v))
        score_HTS = np.einsum("thd,shd->hts", rotate(q), k) / np.sqrt(c.d)
        score_HTS[:, at[:, None] < at[None]] = -np.inf
        weight_HTS = np.exp(score_HTS - score_HTS.max(axis=2, keepdims=True))
        weight_HTS /= weight_HTS.sum(axis=2, keepdims=True)
        site[WEIGHT] = (weight_HTS**2 * np.minimum(1, (at[:, None] - at) / FAR)).sum(axis=(0, 1))[:, None]
        o_THd = np.einsum("hts,shd->thd", weight_HTS, v)
        mine = [slice(n * 3, n * 3 + 3) for n in range(DEVICES)]
        site["attn_out"] = np.stack([np.einsum("thd,hdm->tm", o_THd[:, own], w["wo"][own]) for own in mine])
        x_TD = x_TD + site["attn_out"].sum(axis=0)
        h_TD = norm(x_TD, w["mlp_norm"])
        gate = h_TD @ w["w_gate"]
        hidden_TF = gate / (1 + np.exp(-gate)) * (h_TD @ w["w_up"])
        columns = [own[own >= 0] for own in deal(c.F, DEVICES)]
        site["mlp_out"] = np.stack([hidden_TF[:, own] @ w["w_down"][own] for own in columns])
        x_TD = x_TD + site["mlp_out"].sum(axis=0)
        found.append(site)
    return found


def positions(rows_nD, reference_TD) -> np.ndarray:
    """Which row of the reference each row is; fails where it is none."""
    apart_nT = np.abs(rows_nD[:, None] - reference_TD[None]).max(axis=2)
    assert apart_nT.min(axis=1).max() < 1e-3
    return apart_nT.argmin(axis=1)


def test_rows_are_the_right_values_of_the_right_window_and_layer(windows_WT):
    kept = sample_sites(tiny.model(), ("kv", "norm", "x"), windows_WT, ROWS)
    history_nH, position_n = kept.pop(HISTORY)[0], kept.pop(POSITION)[0, :, 0]
    assert {site: rows.shape for site, rows in kept.items()} == dict.fromkeys(
        ("kv", "norm", "x"), (2, WINDOWS * ROWS, 48)
    )
    chosen = set()
    for w, ids_T in enumerate(windows_WT):
        at = {}
        for layer, sites in enumerate(forward(ids_T)):
            for site in kept:
                at[site, layer] = positions(kept[site][layer, w * ROWS : (w + 1) * ROWS], sites[site])
        first = at["x", 1]
        # In layer 0 a token that comes again has the same values again.
        assert all((found == first).all() for (_, layer), found in at.items() if layer > 0)
        assert len(set(first)) == ROWS
        assert first.min() > 0
        np.testing.assert_array_equal(position_n[w * ROWS : (w + 1) * ROWS], first)
        before = [np.where(first >= k, ids_T[first - k], -1) for k in range(TOKENS_BACK)]
        np.testing.assert_array_equal(history_nH[w * ROWS : (w + 1) * ROWS], np.stack(before, axis=1))
        chosen.add(tuple(first))
    assert len(chosen) == WINDOWS  # every window has a draw of its own


def test_all_rows_but_the_first(windows_WT):
    kept = sample_sites(tiny.model(), ("kv",), windows_WT[:1], 1000)
    assert kept["kv"].shape[1] == TOKENS - 1
    found = positions(kept["kv"][1], forward(windows_WT[0])[1]["kv"])
    assert sorted(found) == list(range(1, TOKENS))


def test_a_row_weighs_what_later_tokens_look_at_it(windows_WT):
    kept = sample_sites(tiny.model(), ("kv", WEIGHT), windows_WT[:1], 1000)
    for layer, sites in enumerate(forward(windows_WT[0])):
        order = kept[POSITION][0, :, 0]
        assert sites[WEIGHT][1] > 10 * sites[WEIGHT][-2] > sites[WEIGHT][-1] == 0
        np.testing.assert_allclose(kept[WEIGHT][layer], sites[WEIGHT][order], rtol=1e-4, atol=1e-7)


def test_partial_and_whole_sums_of_every_device(windows_WT):
    kept = sample_sites(tiny.model(), ("attn_out", "mlp_out"), windows_WT[:1], 3000, DEVICES)
    each = 2 * (TOKENS - 1)
    for layer, sites in enumerate(forward(windows_WT[0])):
        for site in ("attn_out", "mlp_out"):
            assert kept[site].shape == (2, DEVICES * each, 48)
            for n in range(DEVICES):
                both = np.concatenate([sites[site][n], sites[site].sum(axis=0)])
                found = positions(kept[site][layer, n * each : (n + 1) * each], both)
                wanted = [at for at in range(2 * TOKENS) if at % TOKENS]  # neither partial nor whole of position 0
                assert sorted(found) == wanted


def test_devices_draw_rows_of_their_own(windows_WT):
    kept = sample_sites(tiny.model(), ("attn_out",), windows_WT[:1], DEVICES * 10, DEVICES)["attn_out"]
    sums_TD = forward(windows_WT[0])[1]["attn_out"].sum(axis=0)
    apart = np.abs(kept[1][:, None] - sums_TD[None]).max(axis=2)
    whole = [tuple(apart[n * 10 : (n + 1) * 10].argmin(axis=1)) for n in range(DEVICES)]
    assert len(set(whole)) == DEVICES


def test_the_seed_decides_and_progress_is_told(windows_WT):
    told = []
    draw = lambda seed: sample_sites(tiny.model(), ("kv",), windows_WT, ROWS, 1, seed, lambda *at: told.append(at))
    one, same, other = draw(0)["kv"], draw(0)["kv"], draw(1)["kv"]
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)
    assert told[:WINDOWS] == [(w + 1, WINDOWS) for w in range(WINDOWS)]
