"""Profiles: times by hand, and a pass of a tiny model on virtual devices from the recording to the trace."""

import gzip
import json

import pytest

import tiny
from thinwire.benchmark.inputs import codecs_of, inputs_of
from thinwire.benchmark.profiles import BETWEEN, TRACE, Op, Profile, _nested, _stretches, finish, folder_name, read
from thinwire.benchmark.recording import record, runs_folder, truly_named
from thinwire.benchmark.scopes import SCOPES
from thinwire.engine import Engine
from thinwire.strategies import parse_strategy
from thinwire.wire.silence import silence
from thinwire.wire.spmd import put


def op(scope, begin, end, thread="a"):
    return Op("x", scope, thread, int(begin), int(end), int(end - begin))


def test_seconds_are_added_over_layers_and_threads_and_loops_count_as_nothing():
    ops = (
        op("layer_0/mlp", 1e9, 3e9),
        op("layer_1/mlp", 2e9, 4e9, "b"),
        op(None, 0, 9e9),
        op("layer_1/attention/encode", 6e9, 7e9),
        op("", 7e9, 7.5e9),
    )
    found = Profile(0, 0, 10_000_000_000, ops).seconds_by_scope()
    assert found == {"mlp": 4, "attention/encode": 1, "other": 0.5, BETWEEN: 10 - 3 - 1.5}


def test_time_inside_an_instruction_on_the_same_thread_is_not_its_own():
    outer, inner, other, later = ("o", "a", 0, 9), ("i", "a", 2, 5), ("t", "b", 3, 4), ("l", "a", 9, 12)
    assert sorted(_nested([later, inner, other, outer])) == [(inner, 0), (later, 0), (outer, 3), (other, 0)]


def test_scopes_are_nested_stretches():
    ops = [op("layer_0/attention", 0, 1), op("layer_0/attention/encode", 1, 2), op("layer_0/attention/encode", 3, 4)]
    ops += [op("layer_0/mlp", 4, 6), op("", 7, 8)]
    assert sorted(_stretches(ops)) == [
        (("layer_0",), 0, 6),
        (("layer_0", "attention"), 0, 4),
        (("layer_0", "attention", "encode"), 1, 4),
        (("layer_0", "mlp"), 4, 6),
    ]


def test_names_of_folders_fit_everywhere():
    assert folder_name("sequence:vq:groups=1", 64, 0.5) == "sequence-vq-groups=1-64tokens-0.5mbps"


@pytest.mark.parametrize("silent", [False, True])
def test_a_pass_from_the_recording_to_the_trace(tmp_path, silent):
    model, strategy = tiny.model(), parse_strategy("sequence:vq:groups=6:size=16:site=x")
    engine = Engine(model, strategy, 2, codecs_of(strategy, model, None), unrolled=True)
    with truly_named():
        if silent:
            with silence():
                engine.prepare(tiny.TOKENS, "last")
        else:
            engine.prepare(tiny.TOKENS, "last")
    assert record(engine, put(inputs_of(model, tiny.TOKENS), 2, False), tmp_path, 0) > 0
    table = finish(tmp_path, 1)
    names = {name for scope in table["scopes"] for name in scope.split("/")}
    assert {"attention", "project", "attend_own", "attend_others", "mlp", "encode", "decode", "head"} <= names
    assert names <= {*SCOPES, "other", BETWEEN}
    assert list(table["scopes"].values()) == sorted(table["scopes"].values(), key=lambda one: -one["most_s"])
    assert (runs_folder(tmp_path) / "h0.xplane.pb").stat().st_size > 1000

    profile = read(tmp_path, 0)
    assert (profile.end_ns - profile.begin_ns) / 1e9 == table["pass_s"]
    assert all(profile.begin_ns <= one.begin_ns <= one.end_ns for one in profile.ops)
    layers = {one.scope.split("/")[0] for one in profile.ops if one.scope}
    assert {f"layer_{n}" for n in range(model.config.L)} <= layers

    events = json.loads(gzip.decompress((tmp_path / TRACE).read_bytes()))["traceEvents"]
    assert {"host 0", "pass", "scopes 0", "instructions 0"} <= {e["args"]["name"] for e in events if e["ph"] == "M"}
    slices = [e for e in events if e["ph"] == "X"]
    assert {"layer_0", "attention", "encode", "mlp"} <= {e["name"] for e in slices}
    assert all(e["ts"] >= 0 and e["dur"] >= 0 for e in slices)
