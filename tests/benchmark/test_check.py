"""The latency model beside measured passes: end to end on emulated hosts, and what is refused everywhere."""

import dataclasses
import json
import runpy
from pathlib import Path

import pytest

import tiny
from cluster.emulation import needs_emulation
from thinwire.benchmark import pieces
from thinwire.benchmark.check import checked, errors_of
from thinwire.benchmark.pieces import profile_device
from thinwire.benchmark.profiled import links_of
from thinwire.errors import ThinwireError
from thinwire.planning.latency import predict_latency
from thinwire.planning.profile import Link, from_plain, to_plain
from thinwire.strategies import parse_strategies
from thinwire.strategies.work import codings, traffic_of, work_of

EVAL = runpy.run_path(str(Path(__file__).parents[2] / "eval" / "latency_model.py"))
STRATEGIES = parse_strategies("single,sequence:int8,tensor:int8")
ROWS = (8, 16)


@pytest.fixture(scope="module")
def profile():
    before, pieces._SLICE_S = pieces._SLICE_S, 0.0
    try:
        coded = [one for strategy in STRATEGIES for one in codings(strategy, tiny.dims(), 2)]
        found = profile_device(tiny.model(), coded, rows=ROWS)
    finally:
        pieces._SLICE_S = before
    return dataclasses.replace(found, links={"gather": Link(1e-3, 0.8), "sum": Link(1e-3, 0.5)})


def measured_rows(**changes):
    row = {
        "strategy": "sequence:int8",
        "hosts": 2,
        "cpu": [1.0, 1.0],
        "tokens": 24,
        "mbps": 10,
        "total_s": 0.5,
        "exchange": "streams",
    }
    return [{**row, "spread_s": 0.1, "compute_s": 0.3, "measured": True, "disturbance": "", **changes}]


def test_a_device_profiles_itself(profile):
    assert (profile.model, profile.dtype) == ("tiny", "float32")
    assert profile.layer.sizes == ROWS
    assert profile.attention.sizes == (64, 256)
    assert set(profile.coding) == {"encode int8@48", "decode int8@48", "sum int8@48 over 2"}
    assert all(second > 0 for curve in profile.coding.values() for second in curve.seconds)
    assert from_plain(to_plain(profile)) == profile


def test_checked_rows_are_the_models_and_do_not_depend_on_what_was_measured(profile):
    profiles = {10: [profile, profile]}
    fast, slow = (checked(measured_rows(total_s=s), profiles, tiny.dims())[0] for s in (0.1, 10.0))
    strategy = STRATEGIES[1]
    traffic = traffic_of(strategy, tiny.dims(), 24, 2, streams=True)
    wanted = predict_latency(work_of(strategy, tiny.dims(), 24, 2), traffic, profiles[10], 10)
    assert fast["predicted_s"] == slow["predicted_s"] == pytest.approx(wanted)
    assert fast["ratio"] == pytest.approx(100 * slow["ratio"])
    assert sum(fast["predicted_parts_s"].values()) == pytest.approx(wanted)


def test_disturbed_rows_are_left_out(profile):
    assert checked(measured_rows(disturbance="drop"), {10: [profile] * 2}, tiny.dims()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"measured": False}, "predicted, not measured"),
        ({"hosts": 4}, "4 hosts and 2 profiles"),
        ({"mbps": 50}, "no profile at 50 Mbps"),
    ],
)
def test_rows_that_cannot_be_checked_are_refused(profile, changes, said):
    with pytest.raises(ThinwireError, match=said):
        checked(measured_rows(**changes), {10: [profile] * 2}, tiny.dims())


def test_rows_of_something_else_are_refused(profile):
    with pytest.raises(ThinwireError, match="has no hosts"):
        checked([{"strategy": "single"}], {10: [profile]}, tiny.dims())


def test_errors():
    found = errors_of([{"ratio": ratio} for ratio in (0.9, 1.0, 1.05, 1.2, 2.0)])
    assert found["median_error"] == pytest.approx(0.1)
    assert found["median_ratio"] == 1.05
    assert found["largest_error"] == pytest.approx(1.0)
    with pytest.raises(ThinwireError, match="no measured rows"):
        errors_of([])


def test_links_are_told_from_rounds_with_and_without():
    """1 ms a message and 80 % of 10 Mbps for gathers, 2 ms and 40 % for sums; host 1 is slower anyway."""

    def host(slower, noise):
        found = {}
        for kind, message_s, efficiency, messages in (("gather", 1e-3, 0.8, 3), ("sum", 2e-3, 0.4, 6)):
            for size in (64, 65536):
                cost = messages * (message_s + (size - 64) * 8e-6 / (efficiency * 10))
                found[f"{kind}/{size}/quiet"] = slower + noise
                found[f"{kind}/{size}/loud"] = 0.2 + noise + cost  # all wait for the slowest
        return found

    turns = [[host(0.1, noise), host(0.2, noise)] for noise in (0.0, 0.05, 0.01)]
    links = links_of(turns, 10, 4)
    assert links["gather"].message_s == pytest.approx(1e-3)
    assert links["gather"].efficiency == pytest.approx(0.8)
    assert links["sum"].message_s == pytest.approx(2e-3)
    assert links["sum"].efficiency == pytest.approx(0.4)


def test_noise_that_makes_an_exchange_free_leaves_a_perfect_link():
    names = [f"{kind}/{size}/{how}" for kind in ("gather", "sum") for size in (64, 65536) for how in ("loud", "quiet")]
    host = dict.fromkeys(names, 0.1)
    assert links_of([[host, host]], 10, 2) == {"gather": Link(), "sum": Link()}


def bench_file(tmp_path, **changes):
    path = tmp_path / "bench.json"
    document = {"model": "shape:llama-tiny", "cpu": [1.0, 1.0], "dtype": "float32", "repeats": 1, "split": None}
    path.write_text(json.dumps({**document, "rows": measured_rows(), **changes}))
    return str(path)


def test_rows_of_a_benchmark_with_kept_profiles(tmp_path, profile, capsys):
    place = {"model": "shape:llama-tiny:layers=1", "hosts": 2, "tokens": 24, "cpu": [1.0, 1.0], "mbps": [10]}
    kept = {**place, "strategies": [], "dtype": "float32", "rows": [], "profiles": []}
    coding = {name.replace("48", "64"): curve for name, curve in profile.coding.items()}
    kept["profiles"] = [{"mbps": 10.0, "hosts": [to_plain(dataclasses.replace(profile, coding=coding))] * 2}]
    (tmp_path / "profiles.json").write_text(json.dumps({"cells": [kept]}))
    out = tmp_path / "checked.json"
    options = ["--rows", bench_file(tmp_path), "--profiles", str(tmp_path / "profiles.json")]
    docs = tmp_path / "cost.md"
    docs.write_text("<!-- latency-model:begin -->\n<!-- latency-model:end -->\n")
    files = ["--json", str(out), "--plot", str(tmp_path / "plot.png"), "--docs", str(docs)]
    assert EVAL["run"]([*options, *files]) == 0
    (row,) = json.loads(out.read_text())["rows"]
    assert row["measured_s"] == 0.5
    assert "median error" in docs.read_text()
    assert "median error" in capsys.readouterr().out
    assert (tmp_path / "plot.png").stat().st_size > 10_000


@needs_emulation
@pytest.mark.thorough
def test_the_whole_check_on_emulated_hosts(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("THINWIRE_CACHE", str(tmp_path))
    path = tmp_path / "latency.json"
    options = ["--models", "shape:llama-tiny:layers=1", "--hosts", "2", "--mbps", "10", "--repeats", "1"]
    options += ["--strategies", "single,sequence:int8", "--json", str(path)]
    assert EVAL["run"]([*options, "--tokens", "32"]) == 0
    (cell,) = json.loads(path.read_text())["cells"]
    assert [row["strategy"] for row in cell["rows"]] == ["single", "sequence:int8"]
    (at,) = cell["profiles"]
    assert len(at["hosts"]) == 2
    assert set(from_plain(at["hosts"][0]).links) == {"gather", "sum"}
    # The cell that is there is kept: nothing is measured.
    monkeypatch.setitem(EVAL["run"].__globals__, "measure", None)
    assert EVAL["run"]([*options, "--tokens", "32", "--resume"]) == 0
    assert json.loads(path.read_text())["cells"] == [cell]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--hosts", "0"], "0; give whole numbers"),
        (["--tokens", "12.5"], "12.5; give whole numbers"),
        (["--tokens", "100000"], "more than the 2048"),
        (["--mbps", "0"], "sends nothing"),
        (["--repeats", "0"], "one repeat is the least"),
        (["--models", ","], "--models is empty"),
        (["--models", "shape:llama-tiny:layers=0"], "1 to 1000 layers"),
        (["--strategies", "sequence:vq:groups=7"], "cannot be cut into 7"),
        (["--resume"], "--json names"),
        (["--profiles", "x.json"], "is for the rows that --rows names"),
        (["--rows", "nowhere.json"], "no file of thinwire bench"),
    ],
)
def test_mistakes_are_told_before_a_host_starts(options, said):
    small = ["--models", "shape:llama-tiny", "--tokens", "32", "--hosts", "2"]
    with pytest.raises(ThinwireError, match=said):
        EVAL["run"]([*small, *options])


def test_other_files_are_refused(tmp_path):
    with pytest.raises(ThinwireError, match="no file of thinwire bench"):
        EVAL["run"](["--rows", bench_file(tmp_path, rows=[])])
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ThinwireError, match=r"no result of eval\.latency_model"):
        EVAL["run"](["--rows", bench_file(tmp_path), "--profiles", str(tmp_path / "other.json")])
