"""The latency model beside measured passes: end to end on emulated hosts, and what is refused everywhere."""

import json
import runpy
from pathlib import Path

import pytest

import tiny
from cluster.emulation import needs_emulation
from thinwire.benchmark import pieces
from thinwire.benchmark.check import checked, errors_of
from thinwire.benchmark.pieces import profile_device
from thinwire.benchmark.profiled import Exchange, links_of
from thinwire.errors import ThinwireError
from thinwire.planning.latency import predict_latency
from thinwire.planning.profile import from_plain, to_plain
from thinwire.planning.work import codings, traffic_of, work_of
from thinwire.strategies import parse_strategies

EVAL = runpy.run_path(str(Path(__file__).parents[2] / "eval" / "latency_model.py"))
STRATEGIES = parse_strategies("single,sequence:int8,tensor:int8")
ROWS = (8, 16)


@pytest.fixture(scope="module")
def profile():
    before, pieces._SLICE_S = pieces._SLICE_S, 0.0
    try:
        coded = [one for strategy in STRATEGIES for one in codings(strategy, tiny.dims(), 2)]
        return profile_device(tiny.model(), coded, rows=ROWS)
    finally:
        pieces._SLICE_S = before


def measured_rows(**changes):
    row = {"strategy": "sequence:int8", "hosts": 2, "cpu": [1.0, 1.0], "tokens": 24, "mbps": 10, "total_s": 0.5}
    return [{**row, "spread_s": 0.1, "compute_s": 0.3, "measured": True, "disturbance": "", **changes}]


def test_a_device_profiles_itself(profile):
    assert (profile.model, profile.dtype) == ("tiny", "float32")
    assert profile.layer.sizes == ROWS
    assert profile.attention.sizes == (64, 256)
    assert set(profile.coding) == {"encode int8@48", "decode int8@48", "sum int8@48 over 2"}
    assert all(second > 0 for curve in profile.coding.values() for second in curve.seconds)
    assert from_plain(to_plain(profile)) == profile


def test_checked_rows_are_the_models_and_do_not_depend_on_what_was_measured(profile):
    profiles = [profile, profile]
    fast, slow = (checked(measured_rows(total_s=s), profiles, tiny.dims())[0] for s in (0.1, 10.0))
    strategy = STRATEGIES[1]
    wanted = predict_latency(
        work_of(strategy, tiny.dims(), 24, 2), traffic_of(strategy, tiny.dims(), 24, 2), profiles, 10
    )
    assert fast["predicted_s"] == slow["predicted_s"] == pytest.approx(wanted)
    assert fast["ratio"] == pytest.approx(100 * slow["ratio"])
    assert sum(fast["predicted_parts_s"].values()) == pytest.approx(wanted)


def test_disturbed_rows_are_left_out(profile):
    assert checked(measured_rows(disturbance="drop"), [profile] * 2, tiny.dims()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"measured": False}, "predicted, not measured"), ({"hosts": 4}, "4 hosts and 2 profiles")],
)
def test_rows_that_cannot_be_checked_are_refused(profile, changes, said):
    with pytest.raises(ThinwireError, match=said):
        checked(measured_rows(**changes), [profile] * 2, tiny.dims())


def test_rows_of_something_else_are_refused(profile):
    with pytest.raises(ThinwireError, match="has no hosts"):
        checked([{"strategy": "single"}], [profile], tiny.dims())


def test_errors():
    found = errors_of([{"ratio": ratio} for ratio in (0.9, 1.0, 1.05, 1.2, 2.0)])
    assert found["median_error"] == pytest.approx(0.1)
    assert found["median_ratio"] == 1.05
    assert found["largest_error"] == pytest.approx(1.0)
    with pytest.raises(ThinwireError, match="no measured rows"):
        errors_of([])


def test_links_are_told_from_gathers():
    seconds = lambda mbps, sent: 3 * 2e-3 + sent * (8e-6 / (0.8 * mbps) + 1e-8)
    gathers = [Exchange(mbps, sent, seconds(mbps, sent)) for mbps in (10, 100) for sent in (3 * 64, 3 * 65536)]
    links = links_of(gathers, 4)
    assert links["message_s"] == pytest.approx(2e-3, rel=0.1)
    assert links["efficiency"] == pytest.approx(0.8)
    assert links["byte_s"] == pytest.approx(1e-8)


def test_one_rate_tells_of_its_efficiency_only():
    gathers = [Exchange(10, 64, 1e-3), Exchange(10, 65536 + 64, 1e-3 + 65536 * 8e-6 / 10 / 0.5)]
    assert links_of(gathers, 2) == pytest.approx({"message_s": 1e-3, "byte_s": 0.0, "efficiency": 0.5})


def bench_file(tmp_path, **changes):
    path = tmp_path / "bench.json"
    document = {"model": "shape:llama-tiny", "cpu": [1.0, 1.0], "dtype": "float32", "repeats": 1, "split": None}
    path.write_text(json.dumps({**document, "rows": measured_rows(), **changes}))
    return str(path)


def test_rows_of_a_benchmark_with_kept_profiles(tmp_path, profile, capsys):
    place = {"model": "shape:llama-tiny:layers=1", "hosts": 2, "tokens": 24, "cpu": [1.0, 1.0], "mbps": [10]}
    kept = {**place, "strategies": [], "dtype": "float32", "rows": [], "profiles": [to_plain(profile)] * 2}
    known = {"encode int8@64": profile.coding["encode int8@48"], "decode int8@64": profile.coding["decode int8@48"]}
    for one in kept["profiles"]:
        one["coding"] |= {name: to_plain(profile)["coding"][name.replace("64", "48")] for name in known}
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
    assert len(cell["profiles"]) == 2
    assert from_plain(cell["profiles"][0]).message_s > 0
    # The cell that is there is kept: nothing is measured.
    monkeypatch.setitem(EVAL["run"].__globals__, "measured", None)
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
