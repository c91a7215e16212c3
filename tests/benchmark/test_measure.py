"""The whole benchmark, on emulated hosts where the machine lets us have them, and predicted everywhere."""

import gzip
import json
import re
import shutil
import sys

import pytest

from cluster.emulation import needs_emulation
from thinwire.benchmark.rows import with_speedups
from thinwire.cli import main
from thinwire.cluster.shaping import LEAST_BURST_BYTES

ROW = {
    "strategy", "codec", "hosts", "mbps", "tokens", "total_s", "compute_s", "wire_s", "speedup_vs_single", "floor_s",
    "ratio_to_floor", "bytes_ledger", "bytes_interface", "emulated",
}  # fmt: skip
SMALL = ["--model", "shape:llama-tiny", "--tokens", "64", "--hosts", "2", "--repeats", "1"]


def bench(tmp_path, *options):
    path = tmp_path / "rows.json"
    assert main.main(["bench", *SMALL, *options, "--json", str(path)]) == 0
    return json.loads(path.read_text())


def test_speedups_are_over_the_same_rate_and_length():
    rows = with_speedups([{"strategy": "single", "total_s": 3.0}, {"strategy": "sequence:int8", "total_s": 2.0}])
    assert [row["speedup_vs_single"] for row in rows] == [1, 1.5]
    assert rows[1]["speedup_vs_tensor_float32"] is None


def test_predicted_where_nobody_may_emulate(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("THINWIRE_CACHE", str(tmp_path))
    strategies = "single,sequence:float32,sequence:vq:groups=4:size=16"
    document = bench(tmp_path, "--predict", "--strategies", strategies, "--mbps", "10,100")
    shown = capsys.readouterr()
    assert "Predicted, not measured" in shown.err + shown.out
    rows = document["rows"]
    assert [(row["strategy"], row["mbps"]) for row in rows[:4]] == [
        *((spec, 10) for spec in strategies.split(",")),
        ("single", 100),
    ]
    assert not any(row["measured"] for row in rows)
    assert rows[1]["total_s"] > rows[4]["total_s"] > rows[4]["compute_s"]
    assert all(row.keys() >= ROW for row in rows)


def test_a_profile_of_virtual_devices(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("THINWIRE_CACHE", str(tmp_path))
    folder = tmp_path / "profile"
    document = bench(
        tmp_path, "--predict", "--strategies", "single,sequence:int4", "--mbps", "10,100", "--profile", str(folder)
    )
    assert ["profile" in row for row in document["rows"]] == [True, True, False, False]
    scopes = document["rows"][1]["profile"]["scopes"]
    assert {"mlp", "attention/encode", "attention/attend_others/decode"} <= scopes.keys()
    assert {place.name for place in folder.iterdir()} == {"single-64tokens", "sequence-int4-64tokens"}
    shown = capsys.readouterr()
    assert "attention/encode" in shown.out
    assert "all devices' work in one program" in shown.err


PEER = """
import json, sys, os
print(json.dumps({"ready": True, "cores": len(os.sched_getaffinity(0))}), flush=True)
for line in sys.stdin:
    print(json.dumps({"seconds": 1e-6}), flush=True)
"""


@needs_emulation
@pytest.mark.thorough
def test_a_peer_and_profiles_of_all_hosts(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("THINWIRE_CACHE", str(tmp_path))
    program, folder = tmp_path / "peer.py", tmp_path / "profile"
    program.write_text(PEER)
    document = bench(
        tmp_path, "--mbps", "10", "--strategies", "single,sequence:int8", "--disturb", "slow",
        "--peer", f"other={sys.executable} {program}", "--profile", str(folder),
    )  # fmt: skip
    single, sequence, other, *disturbed = document["rows"]
    assert other["strategy"] == "other"
    assert other["peer"]["cores"] == 1
    assert other["total_s"] == 1e-6
    assert other["bytes_interface"] is None
    assert single["speedup_vs_peer_other"] == 1e-6 / single["total_s"]
    assert [row["strategy"] for row in disturbed] == ["single", "sequence:int8"]
    assert "vs other, 64 tokens, 10 Mbps: single" in capsys.readouterr().err
    assert sequence["profile"]["scopes"]["attention/exchange"]["least_s"] > 0
    place = folder / "sequence-int8-64tokens-10mbps"
    assert {file.name for file in place.glob("plugins/profile/*/*.xplane.pb")} == {"h0.xplane.pb", "h1.xplane.pb"}
    events = json.loads(gzip.decompress((place / "trace.json.gz").read_bytes()))["traceEvents"]
    assert {event["pid"] for event in events} == {0, 1}


@needs_emulation
@pytest.mark.thorough
def test_measured_on_emulated_hosts(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("THINWIRE_CACHE", str(tmp_path))
    files = ["--html", str(tmp_path / "report.html"), "--plot", str(tmp_path / "plot.png")]
    disturbances = ("drop", *(("lose",) if shutil.which("nft") or shutil.which("iptables") else ()), "slow")
    document = bench(
        tmp_path,
        "--mbps",
        "10",
        "--strategies",
        "single,sequence:float32,tensor:int8",
        "--disturb",
        ",".join(disturbances),
        *files,
    )
    single, sequence, tensor, *disturbed = document["rows"]
    assert [row["disturbance"] for row in disturbed] == [name for name in disturbances for _ in range(3)]
    assert all(row["same_output"] for row in document["rows"])
    assert all(row["measured"] and row.keys() >= ROW for row in document["rows"])
    assert single["hosts"] == 1
    assert single["bytes_ledger"] == 0
    for row in (sequence, tensor):
        assert row["hosts"] == 2
        # The wire carries what the ledger says, headers, and what a message costs with its acknowledgements.
        assert row["bytes_ledger"] < row["bytes_interface"] < 1.1 * row["bytes_ledger"] + 1000 * row["messages"]
        at_once = LEAST_BURST_BYTES  # a full bucket lets so much through without waiting
        assert row["total_s"] >= 8e-6 * (row["bytes_ledger"] - at_once) / 10
    assert "<svg" in (tmp_path / "report.html").read_text() or "image/svg" in (tmp_path / "report.html").read_text()
    capsys.readouterr()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--mbps", "0"], "sends nothing"),
        (["--mbps", "fast"], "--mbps has 'fast', which is no number"),
        (["--mbps", ""], "--mbps has '', which is no number"),
        (["--tokens", "64.5"], "--tokens has 64.5; give whole numbers"),
        (["--strategies", ""], "list of strategies is empty"),
        (["--json", "a.out", "--html", "a.out"], "a.out is to hold two different results"),
        (["--html", "/proc/report.html"], "cannot write /proc/report.html"),
        (["--predict", "--loss", "0.05"], "--loss is measured on emulated hosts, not predicted"),
        (["--predict", "--disturb", "drop"], "--disturb is measured on emulated hosts, not predicted"),
        (["--repeats", "0"], "one repeat is the least"),
        (["--disturb", "flood"], "flood is unknown; there are drop, lose, slow"),
        (["--loss", "1.5"], "1.5"),
        (["--hosts", "0"], "--hosts is 0|0 devices"),
        (["--tokens", "100000"], "more than the 2048"),
        (["--strategies", "sequence:vq:groups=7"], "cannot be cut into 7"),
        (["--peer", "other"], "is not NAME=COMMAND"),
        (["--peer", f"other={sys.executable}", "--predict"], "--peer runs programs on an emulated host"),
        (["--profile", __file__], "is a file, not a folder"),
        (["--cpu", "0.5,0.5,0.5"], "3 values and there are 2 hosts"),
    ],
)
def test_mistakes_are_told_before_a_host_starts(options, said, capsys):
    assert main.main(["bench", *SMALL, *options]) == 2
    assert re.search(said, capsys.readouterr().err.replace("\n", " "))
