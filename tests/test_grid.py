"""Every codec with every strategy and every family of models, on three devices with uneven tokens.

A new family joins by one line in ``TINY``, a new codec by one in ``SETTINGS``. Every combination is traced: shapes, and
bytes by formula and by ledger. Compiling takes most of the time, so of a family's programs those are compiled and run
in which a codec meets the strategy whose turn it is; with another family it is another's turn. Quantisers that follow a
prediction take turns at being traced too; for ``pvq`` all is.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import one_attention
import tiny
import tiny_vit
from thinwire.codecs import ALIASES, CODECS, PRESETS, QUANTISERS, Codec
from thinwire.codecs.base import SHARED
from thinwire.engine import Engine
from thinwire.errors import ThinwireError
from thinwire.models.families import FAMILIES
from thinwire.strategies import STRATEGIES, Single, parse_codec, parse_strategy
from thinwire.weights.load import LoadedModel
from thinwire.wire import ledger
from thinwire.wire.audit import audit_hlo
from thinwire.wire.spmd import make_mesh

# Much compiling, and nothing in it depends on the version of Python or JAX.
pytestmark = pytest.mark.thorough

# One tiny model of each family: a function that makes it, with random weights.
TINY = {
    "llama": lambda: tiny.model(D=16, H=4, K=2, d=4, F=12, V=32),
    "gpt2": lambda: tiny.model("gpt2", D=16, H=2, F=12, V=32),
    "bert": lambda: tiny.model("bert", D=16, H=2, F=12, V=32),
    "vit": lambda: tiny_vit.model(D=16, H=2, F=12, grid=(1, TOKENS - 1)),
}
# A modest setting of each codec, for rows of 16 values and 32.
SETTINGS = {
    "float32": "",
    "bfloat16": "",
    "float16": "",
    "int8": "",
    "int4": "block=6",
    "int2": "",
    "vq": "groups=4:size=8",
    "rvq": "groups=4:size=4:stages=2",
    "topk": "keep=5",
    "lowrank": "dims=7",
    "fsq": "dims=9:levels=3",
    "sign": "block=6",
    "means": "length=2",
    "drop": "",
    "pvq": "groups=4:size=8:rank=5",
}
PREDICTED = {f"predict+{name}": f"{SETTINGS[name]}:rank={5 * (name != 'fsq')}".strip(":") for name in QUANTISERS}
SPECS = {name: f"{name}:{options}".strip(":") for name, options in {**SETTINGS, **PREDICTED}.items() if name in CODECS}
del SPECS["predict+vq"]
DEVICES, SPLIT, TOKENS = 3, (3.0, 1.0, 2.0), 14
REFUSED = {("tensor", "drop"): "sends nothing", ("tensor", "means"): "mixes neighbouring tokens"}


def predicts(name: str) -> bool:
    return CODECS[name]().predicts


def serves(strategy: str, name: str) -> bool:
    return (strategy, name) not in REFUSED and not (strategy == "tensor" and predicts(name))


def turn(family: str, name: str) -> int:
    return list(SPECS).index(name) + list(TINY).index(family)


def traced(family: str, strategy: str, name: str) -> bool:
    if not serves(strategy, name):
        return False
    if predicts(name) and name != "pvq":
        return strategy == ("sequence", "ring")[turn(family, name) % 2]
    return family == "llama" or runs(family, strategy, name)  # what is traced does not depend on the family


@functools.cache
def model(family: str) -> LoadedModel:
    return TINY[family]()


def learnt(shapes, seed: int = 0):
    """Arbitrary learnt arrays of these shapes; steps, the only ones that must be, are positive."""
    rng = np.random.default_rng(seed)
    draw = lambda shape: (0.3 * rng.standard_normal(shape.shape)).astype(np.float32)
    return {name: np.abs(draw(shape)) if name == "step" else draw(shape) for name, shape in shapes.items()}


def engine(family: str, spec: str, where=DEVICES) -> Engine:
    dims = FAMILIES[family].dims(model(family).config)
    strategy = parse_strategy(spec if dims.inputs_known else re.sub(r"rank=\d+", "rank=0", spec))
    codec, key = strategy.codec, jax.random.key(0)
    shapes = {
        s: jax.eval_shape(lambda s=s: codec.init_params(key, dims.layers, dims.site_dim(s)))
        for s in strategy.sites(dims)
    }
    shapes |= {SHARED: jax.eval_shape(lambda: codec.init_shared(key, dims.width))} if codec.knows_tokens else {}
    return Engine(model(family), strategy, where, {site: learnt(of_site) for site, of_site in shapes.items()}, SPLIT)


def runs(family: str, strategy: str, name: str) -> bool:
    """Whether it is this combination's turn to be compiled and run."""
    if predicts(name) and name != "pvq":  # layer 0 is a program of its own, so these take twice as long
        return turn(family, name) % 3 == 0
    those = [s for s in ("sequence", "ring", "tensor") if serves(s, name)]
    return strategy == those[turn(family, name) % len(those)]


GRID = [
    (family, strategy, name)
    for family in TINY
    for strategy in ("sequence", "ring", "tensor")
    for name in SPECS
    if traced(family, strategy, name)
]


def test_nothing_is_left_out():
    assert TINY.keys() == FAMILIES.keys()
    assert SPECS.keys() == CODECS.keys() - ALIASES.keys() - PRESETS.keys()
    assert {strategy for _, strategy, _ in GRID} == STRATEGIES.keys() - {Single.name}
    for family in TINY:
        run = {(s, name) for of_family, s, name in GRID if of_family == family and runs(family, s, name)}
        assert {s for s, _ in run} == {"sequence", "ring", "tensor"}
        assert {name for _, name in run} >= SETTINGS.keys()


@pytest.mark.parametrize(("family", "strategy", "name"), GRID)
def test_it_works_and_sends_what_the_formula_says(family, strategy, name):
    made = engine(family, f"{strategy}:{SPECS[name]}")
    with ledger.recording() as record:
        program = made._build(TOKENS, "all", keep_cache="").trace(
            made._params, made._codecs, FAMILIES[family].inputs_spec(made.model.config, TOKENS)
        )
    formula = made.traffic(TOKENS)
    assert (record.bytes_by_device() or (0,) * DEVICES) == formula.bytes_by_device
    assert (record.messages_by_device() or (0,) * DEVICES) == formula.messages_by_device
    assert (min(formula.bytes_by_device) > 0) == made.strategy.codec.sends
    assert len(made.flops(TOKENS)) == DEVICES
    layout = made.layout(TOKENS)
    rows = layout.rows if strategy == "tensor" else layout.shared + layout.rows
    width = made.dims.vocab if made.dims.language else made.dims.width
    assert program.out_info["logits"].shape == (DEVICES, rows, width)
    if runs(family, strategy, name):
        spec = FAMILIES[family].inputs_spec(made.model.config, TOKENS)
        inputs = np.resize(tiny.ids(TOKENS) % 32, spec.shape[::-1]).T.astype(spec.dtype)
        out = program.lower().compile()(made._params, made._codecs, inputs)
        logits = layout.join(np.asarray(out["logits"]))
        assert logits.shape == (TOKENS, width)
        assert np.isfinite(logits).all()


@pytest.mark.parametrize(("strategy", "name"), REFUSED)
def test_what_has_no_meaning_is_refused_in_a_sentence(strategy, name):
    with pytest.raises(ThinwireError, match=rf"{REFUSED[strategy, name]}.*use sequence or ring\.$"):
        engine("llama", f"{strategy}:{SPECS[name]}")


@functools.partial(jax.jit, static_argnums=0)
def payload_of(codec: Codec, params, rows_TD, valid_T):
    return codec.encode(params, rows_TD, {"valid": valid_T})


# One name of each kind of quantiser.
KINDS = {type(parse_codec(spec)): name for name, spec in SPECS.items() if not predicts(name)}


@pytest.mark.parametrize("name", KINDS.values())
def test_only_codes_cross(name):
    """Another device's exact rows may change as long as its payload does not: not a bit changes here."""
    codec, dim = parse_codec(SPECS[name]), one_attention.KV.shape[1]
    shapes = jax.eval_shape(lambda: codec.init_params(jax.random.key(0), 1, dim))
    params = {k: x[0] for k, x in learnt(shapes).items()}
    strategy = ("sequence", "ring")[list(SPECS).index(name) % 2]
    run, layout = one_attention.program(f"{strategy}:{SPECS[name]}", 3, SPLIT, True)
    here = layout.places[0] == 2

    def payload(kv):
        rows = jnp.asarray(kv)[np.minimum(layout.positions_NR[0], len(kv) - 1)]
        return jax.tree.map(np.asarray, payload_of(codec, params, rows, jnp.asarray(layout.valid_NR[0])))

    same = lambda a, b: jax.tree.all(jax.tree.map(np.array_equal, payload(a), payload(b)))
    kv, q, other = one_attention.KV, one_attention.Q, np.flatnonzero(layout.places[0] == 0)[1:]  # the first is shared
    nudged, moved, rng = kv, kv.copy(), np.random.default_rng(0)
    while np.array_equal(nudged, kv) or not same(nudged, kv):  # a value may lie on the edge of its code
        nudged = kv.copy()
        nudged[other] *= 1 + 1e-6 * rng.standard_normal(kv[other].shape, np.float32)
    moved[other] = -2 * moved[other][:, ::-1]
    before, after = run(q, kv, params), run(q, nudged, params)
    np.testing.assert_array_equal(after[here], before[here])
    assert (after != before).any()  # exact at home
    assert (run(q, moved, params)[here] != before[here]).any() == codec.sends


def test_dropped_context_is_as_if_there_were_none():
    """Each device gives what it would alone, with the shared token and its own; also in the compiled program."""
    made = engine("llama", "sequence:drop:halo=0", make_mesh(DEVICES))
    ids, layout = tiny.ids(TOKENS) % 32, made.layout(TOKENS)
    compiled = made.lower(TOKENS, logits="all")[0].compile()
    assert sum(audit_hlo(compiled.as_text()).bytes_by_device()) == 0
    changed = ids.copy()
    changed[layout.places[0] == 0] = 5  # device 0's tokens, but for
    changed[0] = ids[0]  # the shared one
    before, after = made.logits(ids), made.logits(changed)
    np.testing.assert_array_equal(after[layout.places[0] > 0], before[layout.places[0] > 0])
    # The first device has all that its tokens may see.
    alone = Engine(made.model, Single()).logits(ids)
    first = layout.places[0] == 0
    np.testing.assert_allclose(before[first], alone[first], atol=1e-5)
    assert np.abs(before[~first] - alone[~first]).max() > 1e-2


def test_generation_hides_dropped_rows():
    made = engine("llama", "sequence:drop")
    ids = tiny.ids(TOKENS) % 32
    first, second = made.generate(ids, 2)
    assert first == made.logits(ids)[-1].argmax()
    changed = ids.copy()
    changed[1:5] = 5
    assert list(made.generate(changed, 2)) == [first, second]


@pytest.mark.parametrize("spec", ["sequence:means:length=3:layout=zigzag", "ring:means:length=2:chunks=2"])
def test_means_tell_nothing_of_the_future(spec):
    made = engine("llama", spec)
    ids = tiny.ids(TOKENS) % 32
    before = made.logits(ids)
    for at in (3, 6, TOKENS - 1):
        changed = ids.copy()
        changed[at:] = (changed[at:] + 7) % 32
        np.testing.assert_array_equal(made.logits(changed)[:at], before[:at])
