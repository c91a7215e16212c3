import copy
import dataclasses
import functools

import jax
import numpy as np
import pytest

import tiny
from thinwire.decoding import DECODINGS, OnOne, grown
from thinwire.errors import ThinwireError
from thinwire.generation import decoding, generate
from thinwire.planning.cache_memory import cache_memory, held_bytes
from thinwire.sampling import Sampling
from thinwire.strategies.single import with_positions
from thinwire.wire.audit import audit_hlo
from thinwire.wire.spmd import make_mesh

PROMPT = tiny.ids(13)
VQ = "sequence:vq:groups=6:size=16"
PVQ = "sequence:pvq:groups=6:size=16:rank=4"
CODED = ("ring:vq:groups=6:size=16:site=x", 3, (1.0, 3.0, 2.0))
ALL = [
    ("single", 1, None),
    ("sequence:float32:sink=1:layout=zigzag", 2, None),
    ("sequence:float32:sink=0", 3, (1.0, 4.0, 2.0)),
    ("ring:float32:sink=1:chunks=2", 5, (2.0, 1.0, 1.0, 3.0, 1.0)),
]


@functools.cache
def made(*what):
    return tiny.engine(*what)


def engine(spec, where=1, split=None):
    """What it has compiled serves all tests."""
    return made(spec, where, split)


def single():
    return engine("single")


def greedy_without_a_cache(prompt, count):
    """The reference: all logits again for each token, at one padded length (what follows cannot be seen)."""
    engine = single()
    ids = list(prompt)
    for _ in range(count):
        padded = np.zeros(len(prompt) + count, np.int32)
        padded[: len(ids)] = ids
        ids.append(int(engine.logits(padded)[len(ids) - 1].argmax()))
    return ids[len(prompt) :]


def test_greedy_generation_equals_repeated_whole_passes():
    expected = greedy_without_a_cache(PROMPT, 8)
    assert len(set(expected)) > 2  # not a rut that hides mistakes
    assert list(generate(single(), PROMPT, 8)) == expected
    for spec, devices, split in (ALL[2], ALL[3], ("tensor:float32", 2, None)):
        assert list(generate(engine(spec, devices, split), PROMPT, 8)) == expected, spec


def test_coded_context_is_kept_as_it_was_seen():
    """One more prompt token by a pass, or by the cache of the last device: the same token follows."""
    coded = engine(VQ, 2)
    first, second = generate(coded, PROMPT, 2)
    assert first == int(coded.time_to_first_token(PROMPT).argmax())
    np.testing.assert_array_equal(coded.time_to_first_token(PROMPT), coded.logits(PROMPT)[-1])
    # The last device goes on alone: its own tokens exact and the others' decoded, which is what a longer pass does
    # where the split leaves the first device's tokens as they were.
    longer = engine(VQ, 2, (6.0, 7.0))
    assert coded.layout(13).lengths == (*longer.layout(14).lengths[:1], 6)
    assert second == int(longer.time_to_first_token(np.append(PROMPT, first).astype(np.int32)).argmax())


def test_sampling_is_reproducible_by_its_seed():
    draw = lambda seed, temperature=1.0: list(generate(single(), PROMPT, 8, Sampling(temperature, seed=seed)))
    assert draw(0) == draw(0)
    assert draw(0) != draw(1)
    assert draw(3, temperature=1e-4) == reference()[0]  # cold: the likeliest


def test_generation_stops_at_an_end_token_without_telling_it():
    tokens = list(generate(single(), PROMPT, 8))
    stop = tokens[4]

    class Ends:
        eos_ids = (stop,)

    ending = copy.copy(single())  # with what is compiled
    ending.model = dataclasses.replace(ending.model)
    object.__setattr__(ending.model, "tokenizer", Ends())  # frozen, and a whole tokenizer is not needed
    found = list(generate(ending, PROMPT, 8))
    assert found == tokens[: tokens.index(stop)]


def test_the_context_is_used_to_its_last_token():
    context = tiny.CONFIG.context
    assert len(list(generate(single(), tiny.ids(context - 2), 2))) == 2


@functools.cache
def reference(count=8):
    """The single device's greedy tokens, and the logits of which each was chosen."""
    tokens = list(generate(single(), PROMPT, count))
    logits_TV = single().logits(np.array([*PROMPT, *tokens], np.int32))
    return tokens, logits_TV[len(PROMPT) - 1 : -1]


def told(engine, decode, tokens):
    """The logits of which each token would be chosen when it follows ``tokens``; all devices say the same."""
    how = decoding(engine, decode)
    logits_V, state = how.begin(PROMPT, len(tokens))
    found = [logits_V]
    for n, token in enumerate(tokens[:-1]):
        step = how.step(how.weights, np.int32(token), np.int32(len(PROMPT) + n), state, None)
        found.append(np.asarray(how.first(step.logits)))
        if decode.startswith("all"):
            assert (np.asarray(step.logits) == found[-1][None]).all()
            assert (np.asarray(step.token) == found[-1].argmax()).all()
        state = step.state
    return np.stack(found)


@pytest.mark.parametrize(("spec", "devices", "split"), ALL)
def test_all_devices_together_are_the_single_device(spec, devices, split):
    tokens, logits_NV = reference()
    found_NV = told(engine(spec, devices, split), "all", tokens)
    np.testing.assert_allclose(found_NV, logits_NV, atol=1e-5)
    assert found_NV.argmax(axis=1).tolist() == tokens


def test_a_mesh_goes_on_as_virtual_devices_do():
    tokens, _ = reference()
    spec, devices, split = ALL[2]
    assert list(generate(engine(spec, make_mesh(devices), split), PROMPT, 8, decode="all")) == tokens
    drawn = [
        list(generate(engine(spec, where, split), PROMPT, 8, Sampling(2.0, 0.9, 1), "all"))
        for where in (make_mesh(devices), devices)
    ]
    assert drawn[0] == drawn[1] != tokens


def exact_rows(coded):
    """One device's cache of what each device knows exactly, taken from the caches that hold the others' rows too."""
    setting = coded.setting(len(PROMPT))
    layout = setting.layout
    _, out = coded.prefill(PROMPT, "seen")
    rows = lambda x: np.concatenate(
        [x[0, :, : layout.shared]]
        + [x[n, :, layout.shared + n * layout.rows :][:, : layout.rows] for n in range(layout.devices)],
        axis=1,
    )
    positions_C = np.concatenate([np.arange(layout.shared), layout.positions_NR.reshape(-1)])
    return with_positions({name: rows(np.asarray(x)) for name, x in out["cache"].items()}, positions_C)


def test_all_devices_attend_to_what_each_knows_exactly():
    coded = engine(*CODED)
    assert coded.layout(len(PROMPT)).shared == 1
    tokens, _ = reference()
    found_NV = told(coded, "all", tokens)
    alone = OnOne(single())
    state = jax.device_put(grown(exact_rows(coded), len(tokens)))
    for n, token in enumerate(tokens[:-1]):
        step = alone.step(alone.weights, np.int32(token), np.int32(len(PROMPT) + n), state, None)
        np.testing.assert_allclose(found_NV[n + 1], step.logits, atol=1e-5)
        state = step.state
    mixed_NV = told(coded, "one", tokens)
    np.testing.assert_array_equal(mixed_NV[0], found_NV[0])
    assert np.abs(mixed_NV[1:] - found_NV[1:]).max() > 0.1  # one device goes on with what was decoded


def test_half_the_precision_is_near():
    tokens, logits_NV = reference()
    found_NV = told(engine("sequence:float32:sink=0", 3, (1.0, 4.0, 2.0)), "all:bfloat16", tokens)
    assert 1e-5 < np.abs(found_NV - logits_NV).max() < 0.05 * np.abs(logits_NV).max()


@pytest.mark.parametrize("what", [CODED, (PVQ, 2)])
def test_codes_kept_are_rows_decoded(what):
    tokens, _ = reference()
    both = [told(engine(*what), how, tokens) for how in ("one", "one:coded")]
    np.testing.assert_allclose(*both, atol=1e-5)


def test_a_token_sends_what_the_formula_says():
    """H·(d+2) floats a layer to each other device, and the token: formula, ledger and compiled program."""
    c = tiny.CONFIG
    for name, float_bytes in (("all", 4), ("all:bfloat16", 2)):
        spec, devices, split = ALL[2]
        for where in (make_mesh(devices), devices):
            how = decoding(engine(spec, where, split), name)
            _, state = how.begin(PROMPT, 2)
            lowered, ledger = how.lower(state)
            formula = how.traffic()
            others = how.engine.devices - 1
            assert formula.bytes_by_device == (others * (c.L * c.H * (c.d * float_bytes + 8) + 4),) * (others + 1)
            assert ledger.bytes_by_device() == formula.bytes_by_device
            assert ledger.messages_by_device() == formula.messages_by_device
            if where != devices:
                assert audit_hlo(lowered.compile().as_text()).bytes_by_device() == formula.bytes_by_device
    for name in ("one", "one:coded"):
        how = decoding(engine(*CODED), name)
        assert how.traffic().bytes_by_device == (0,)


@pytest.mark.parametrize(
    ("what", "ways"),
    [(ALL[0], DECODINGS), (CODED, DECODINGS), ((PVQ, 2), ("one", "one:coded")), (("tensor:float32", 2), DECODINGS)],
)
def test_memory_is_what_the_formula_says(what, ways):
    one = engine(*what)
    memory = cache_memory(one, len(PROMPT), 8)
    assert memory.codebooks == held_bytes(one.codecs)
    for name in ways:
        expected = memory.of(name)
        if expected is None:
            with pytest.raises(ThinwireError):
                decoding(one, name)
            continue
        how = decoding(one, name)
        _, state = how.begin(PROMPT, 8)
        holders = one.devices if name.startswith("all") else 1
        assert held_bytes(how.cache(state)) == holders * expected, name
    rows = tiny.CONFIG.L * (len(PROMPT) + 8)
    assert memory.single_float32 == rows * (2 * tiny.CONFIG.K * tiny.CONFIG.d * 4 + 4)
    assert memory.single_bfloat16 == rows * (2 * tiny.CONFIG.K * tiny.CONFIG.d * 2 + 4)


def test_new_tokens_are_dealt_in_turn():
    """Every device writes into its own first empty row, and none is overwritten."""
    how = decoding(engine(*ALL[2]), "all")
    _, state = how.begin(PROMPT, 8)
    for n in range(7):
        state = how.step(how.weights, np.int32(1), np.int32(len(PROMPT) + n), state, None).state
    positions_NLC = np.asarray(state["position"])
    found = np.sort(positions_NLC[:, 0].reshape(-1))
    assert found[found < 2**30].tolist() == list(range(len(PROMPT) + 7))
    new_N = ((positions_NLC[:, 0] >= len(PROMPT)) & (positions_NLC[:, 0] < 2**30)).sum(axis=1)
    assert new_N.max() - new_N.min() == 1
    assert state["k"].shape[2] == how.engine.layout(len(PROMPT)).rows + 3


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda: generate(single(), PROMPT, 4, decode="al"), "no decoding 'al'; did you mean 'all'"),
        (lambda: generate(engine("tensor:float32", 2), PROMPT, 4, decode="all"), "splits heads.*'one'"),
        (lambda: generate(single(), PROMPT, 4, decode="one:coded"), "single sends no codes.*'one'"),
        (lambda: generate(single(), PROMPT, 0), "max-tokens is 0"),
        (lambda: generate(single(), tiny.ids(60), 5), "60 prompt tokens and 5"),
        (lambda: generate(single(), np.zeros(0, np.int32), 3), "empty"),
        (lambda: generate(single(), np.array([3, 64], np.int32), 3), "3 to 64.*0 to 63"),
        (lambda: generate(engine("sequence:float32", 14), PROMPT, 3), "13 tokens.*14 devices"),
    ],
)
def test_mistakes_are_told_at_the_call(act, says):
    with pytest.raises(ThinwireError, match=says) as caught:
        act()
    assert str(caught.value).endswith(".")
