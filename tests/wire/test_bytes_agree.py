"""Three witnesses of the bytes: the formula, the ledger of the traced program, and the compiled HLO."""

import functools
import itertools

import pytest

import tiny
from thinwire.wire.audit import audit_hlo
from thinwire.wire.spmd import make_mesh

STRATEGIES = ["sequence", "ring:chunks=1", "ring:chunks=3", "tensor"]
CODECS = ["float32", "bfloat16", "int8", "int4", "vq:groups=6:size=1024", "vq:groups=6:size=16"]


def spec(strategy, codec):
    name, *options = strategy.split(":")
    return ":".join([name, codec, *options])


def uneven(devices):
    return tuple(float(n + 1) for n in range(devices))


@functools.cache
def engine(spec, where, uneven_split=False):
    devices = where if isinstance(where, int) else where.devices.size
    return tiny.engine(spec, where, uneven(devices) if uneven_split else None)


def agree(engine, tokens):
    """The formula and the ledger say the same; returns the lowered program and the bytes."""
    lowered, ledger = engine.lower(tokens)
    formula = engine.traffic(tokens)
    assert ledger.bytes_by_device() == formula.bytes_by_device
    assert ledger.messages_by_device() == formula.messages_by_device
    assert sorted(ledger.by_layer()) == list(range(engine.dims.layers))
    assert len(set(ledger.by_layer().values())) == 1
    return lowered, formula.bytes_by_device


@pytest.mark.parametrize(("strategy", "codec"), list(itertools.product(STRATEGIES, CODECS)))
def test_formula_equals_ledger(strategy, codec):
    """Traced only: every strategy with every codec, uneven on a mesh of 3, and on 2 or 8 virtual devices in turn."""
    name = spec(strategy, codec)
    zigzag = ":layout=zigzag" if strategy != "tensor" and codec in ("bfloat16", "int4") else ""
    virtual = 2 if (STRATEGIES.index(strategy) + CODECS.index(codec)) % 2 else 8
    for where, split in ((make_mesh(3), True), (virtual, False)):
        _, sent = agree(engine(name + zigzag, where, split), tiny.TOKENS)
        assert min(sent) > 0


def test_one_device_sends_nothing():
    for name in ("sequence:float32", "ring:int8", "tensor:float32"):
        assert engine(name, 1).traffic(9).bytes_by_device == (0,)
        assert engine(name, 1).lower(9)[1].bytes_by_device() in ((), (0,))


# What is compiled: every strategy, codec, number of devices and kind of layout at least once.
COMPILED = [
    ("sequence:float32", 8, False),
    ("sequence:bfloat16", 2, True),
    ("sequence:int8:site=x", 3, True),
    ("sequence:vq:groups=6:size=1024", 3, True),
    ("sequence:vq:groups=6:size=16:layout=zigzag", 2, False),
    ("ring:float32", 2, False),
    ("ring:bfloat16:chunks=3:sink=0", 3, True),
    ("ring:int4:chunks=3:layout=zigzag", 8, False),
    ("ring:vq:groups=6:size=1024", 3, False),
    ("tensor:float32", 2, False),
    ("tensor:bfloat16", 3, False),
    ("tensor:int8", 8, False),
    ("tensor:vq:groups=6:size=1024", 3, True),
]


@pytest.mark.parametrize(("name", "devices", "split"), COMPILED)
def test_formula_equals_ledger_equals_hlo(name, devices, split):
    lowered, sent = agree(engine(name, make_mesh(devices), split), tiny.TOKENS)
    audit = audit_hlo(lowered.compile().as_text())
    assert audit.bytes_by_device() == sent


def test_the_compiled_subset_covers_everything():
    heads = {(name.split(":")[0], name.split(":")[1]) for name, _, _ in COMPILED}
    assert {s for s, _ in heads} == {s.split(":")[0] for s in STRATEGIES}
    assert {c for _, c in heads} == {c.split(":")[0] for c in CODECS}
    assert {n for _, n, _ in COMPILED} == {2, 3, 8}


def test_vq_sends_exactly_its_packed_codes():
    """1024 codewords cost 10 bits: ⌈T·G·10/8⌉ bytes to each other device and layer, and nothing beside."""
    for devices, tokens in itertools.product((2, 4), (8, 13)):
        rows = -(-(tokens - 1) // devices)  # token 0 is recomputed
        sent = engine("sequence:vq:groups=6:size=1024", devices).traffic(tokens).bytes_by_device
        assert sent == (tiny.CONFIG.L * (devices - 1) * -(-rows * 6 * 10 // 8),) * devices
