"""`thinwire cluster`: what users get wrong, what is printed, exit codes."""

import json
import os
import sys

import pytest

from cluster.emulation import needs_emulation
from thinwire.cli.main import main
from thinwire.cluster import namespaces, state, tools
from thinwire.cluster.emulated import Cluster

RUN = ["cluster", "run", "--hosts", "2"]


@pytest.fixture
def permitted(monkeypatch):
    """As root on Linux; nothing is made by what is refused."""
    monkeypatch.setattr(tools, "missing_for_emulation", lambda: None)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["cluster"], "required: ACTION"),
        (["cluster", "rnu"], "invalid choice: 'rnu'"),
        ([*RUN], "no command to run"),
        (["cluster", "run", "--", "true"], "How many hosts"),
        ([*RUN, "--mbps", "0", "--", "true"], "rate of 0 Mbps"),
        ([*RUN, "--mbps", "-3", "--", "true"], "--mbps|rate of -3"),
        ([*RUN, "--cpu", "0", "--", "true"], "CPU share of 0"),
        (["cluster", "run", "--hosts", "3", "--cpu", "1,1", "--", "true"], "--cpu has 2 values and there are 3 hosts"),
        ([*RUN, "--start-timeout", "0", "--", "true"], "--start-timeout is 0"),
        ([*RUN, "--timeout", "-1", "--", "true"], "--timeout"),
        ([*RUN, "--trace", "missing.csv", "--", "true"], "Cannot read the trace missing.csv"),
        ([*RUN, "--markov", "100:10", "--", "true"], "--markov is '100:10'"),
        ([*RUN, "--print", "--", "true"], "--print is for real hosts"),
        ([*RUN, "--hostfile", "hosts", "--", "true"], "--hosts cannot be given here"),
        (["cluster", "run", "--hostfile", "hosts", "--", "true"], "Cannot read the host file hosts"),
        (["cluster", "run", "--name", "no-such", "--mbps", "3", "--", "true"], "--mbps cannot be given here"),
        (["cluster", "run", "--name", "no-such", "--", "true"], "There is no cluster 'no-such'"),
        (["cluster", "up", "--hosts", "2", "--name", "My_Lab"], "'My_Lab' is no name"),
        (["cluster", "down", "--name", "no-such"], "There is no cluster 'no-such'"),
        (["cluster", "down"], "--name --all"),
    ],
)
def test_mistakes(refuses, permitted, argv, words):
    refuses(argv, words)


@pytest.mark.parametrize(
    ("platform", "user", "path", "words"),
    [
        ("darwin", 0, None, "network namespaces are a part of Linux and this is darwin"),
        ("linux", 1000, None, "network namespaces need root"),
        ("linux", 0, "/nowhere", "`ip` is missing"),
    ],
)
def test_where_hosts_cannot_be_emulated_the_way_out_is_told(refuses, monkeypatch, platform, user, path, words):
    monkeypatch.setattr(tools.sys, "platform", platform)
    monkeypatch.setattr(tools.os, "geteuid", lambda: user, raising=False)
    if path:
        monkeypatch.setenv("PATH", path)
    refuses([*RUN, "--cpu", "0.5", "--", "true"], f"{words}.*`thinwire compare` predicts latency on virtual devices")


def test_commands_to_paste(place, capsys):
    (place / "hosts.txt").write_text("pi@192.0.2.11\n192.0.2.12\n")
    argv = [
        "cluster",
        "run",
        "--hostfile",
        "hosts.txt",
        "--print",
        "--cd",
        "/srv/a b",
        "--",
        "python",
        "job.py",
        "--",
        "x y",
    ]
    assert main(argv) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("#")] == ["# on pi@192.0.2.11", "# on 192.0.2.12"]
    for host, line in enumerate(lines[1::2]):
        assert line.startswith("cd '/srv/a b' && env ")
        assert "THINWIRE_COORDINATOR=192.0.2.11:8476 THINWIRE_HOSTS=2 " in line
        assert f"THINWIRE_HOST={host} " in line
        assert line.endswith(" python job.py -- 'x y'")


@needs_emulation
def test_output_is_streamed_behind_the_hosts_number_and_the_exit_code_is_the_one_that_failed(place, capsys):
    script = 'echo out of $THINWIRE_HOSTS; if [ "$THINWIRE_HOST" = 1 ]; then echo no ink >&2; exit 3; fi; sleep 600'
    assert main([*RUN, "--cpu", "0.5", "--mbps", "10", "--", "sh", "-c", script]) == 3
    out, err = capsys.readouterr()
    assert "h1| out of 2" in out.splitlines()
    assert "h1| no ink" in err.splitlines()
    assert "thinwire: Host h1 ended with exit code 3" in err


@needs_emulation
def test_a_cluster_that_stays(place, capsys):
    name = f"test{os.getpid()}-stays"
    try:
        assert main(["cluster", "up", "--cpu", "0.5,0.25", "--mbps", "10", "--name", name]) == 0
        capsys.readouterr()
        for _ in range(2):
            trace = ["--markov", "20:5:0.1"]
            assert main(["cluster", "run", "--name", name, *trace, "--", sys.executable, "-c", "print('here')"]) == 0
            assert sorted(capsys.readouterr().out.splitlines()) == ["h0| here", "h1| here"]
        Cluster(state.find(name)).set_rate(3.0)  # as a command with a trace leaves it that is killed
        assert main(["cluster", "run", "--name", name, "--", "true"]) == 0
        assert "rate 10Mbit" in tools.call("tc", "-n", namespaces.host_namespace(name, 1), "qdisc", "show")
        capsys.readouterr()
        assert main(["cluster", "status", "--json"]) == 0
        (row,) = [row for row in json.loads(capsys.readouterr().out)["clusters"] if row["name"] == name]
        assert [host["cpu"] for host in row["hosts"]] == [0.5, 0.25]
        assert (row["owner"], row["left_over"], row["processes"]) == (None, None, 0)
        assert main(["cluster", "gc"]) == 0
        assert name in {record.name for record in state.records()}
    finally:
        assert main(["cluster", "down", "--name", name]) == 0
    assert name not in {record.name for record in state.records()}
