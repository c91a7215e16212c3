"""Peers: what the command line takes, and small programs that keep to the protocol and do not."""

import subprocess
import sys

import pytest

from thinwire.benchmark.peers import Peer, PeerProcess, parse_peers, running_peers
from thinwire.benchmark.rows import with_speedups
from thinwire.cluster.running import IN_LINES, Running
from thinwire.errors import ThinwireError

GOOD = """
import json, sys
print(json.dumps({"ready": True, "dtype": "bfloat16"}), flush=True)
for line in sys.stdin:
    print(json.dumps({"seconds": json.loads(line)["tokens"] / 1e9}), flush=True)
"""
READY = "print('{\"ready\": true}', flush=True); "


def start(command, stdin=subprocess.PIPE, hosts=(0,)):
    """As ``Cluster.start``, but here and not on a host."""
    assert hosts == (0,)
    process = subprocess.Popen(command, stdin=stdin, stdout=subprocess.PIPE, **IN_LINES)
    return Running([process], ["h0"], process.send_signal)


def peer(program):
    return Peer("other", (sys.executable, "-c", program))


def test_a_good_peer_is_asked_as_often_as_wanted_and_ends():
    said = []
    with running_peers([peer(GOOD)], start, said.append) as (one,):
        assert one.facts == {"dtype": "bfloat16"}
        assert [one.run(tokens) for tokens in (1, 3, 1)] == [1e-9, 3e-9, 1e-9]
    assert one.running.processes[0].returncode == 0
    assert said == ["other loads"]


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import sys; sys.exit('no such file')", "peer other ended with exit code 1; the last it said: no such file"),
        ("pass", 'ended without saying {"ready": true}'),
        ("print('Loading...', flush=True); input()", "printed 'Loading...' where .* standard error"),
        ("print('[]', flush=True); input()", r"printed '\[\]' where"),
        ("print('{}', flush=True); input()", "printed '{}' where"),
        (READY + "input(); print('fast')", "printed 'fast' where {\"seconds\": 1.23} is wanted"),
        (READY + "input(); print('{\"seconds\": NaN}')", "where"),
        (READY + "input(); print('{\"seconds\": true}')", "where"),
        (READY + "input(); print('{\"seconds\": 60}')", "a pass took 60 s and answered after"),
        (READY + "input(); print('{\"seconds\": 0}')", "a pass took 0 s"),
        (READY + 'input(); print(\'{"error": "too long"}\')', "peer other: too long"),
        (READY + "input(); import os; os.abort()", "was killed by signal 6"),
        (READY + "input()", 'ended without saying {"seconds": 1.23}'),
    ],
)
def test_what_breaks_the_protocol_is_told_in_a_sentence(program, said):
    with pytest.raises(ThinwireError, match=said), running_peers([peer(program)], start) as (one,):
        one.run(64)


def test_silence_is_told():
    with start(peer("input()").command) as running:
        one = PeerProcess(peer(""), running, patience_s=0.3)
        with pytest.raises(ThinwireError, match=r"was not ready within 0\.3 s"):
            one.wait_ready(0.3)
    with start(peer(READY + "input(); import time; time.sleep(60)").command) as running:
        one = PeerProcess(peer(""), running, patience_s=0.3)
        one.wait_ready()
        with pytest.raises(ThinwireError, match=r"gave no answer within 0\.3 s"):
            one.run(64)


def test_whoever_takes_long_to_end_is_ended():
    with start(peer(READY + "import time; time.sleep(60)").command) as running:
        one = PeerProcess(peer(""), running)
        one.wait_ready()
        one.end(within_s=0.3)
        assert one.running.processes[0].poll() is not None


def test_an_error_in_between_ends_the_peer():
    with pytest.raises(KeyError), running_peers([peer(GOOD)], start) as (one,):
        raise KeyError
    assert one.running.processes[0].poll() is not None


def test_the_command_line_names_programs():
    first, second = parse_peers([f"a-1={sys.executable} -c 'print(1)'", f"b={sys.executable}"])
    assert first == Peer("a-1", (sys.executable, "-c", "print(1)"))
    assert second.name == "b"


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["python"], "is not NAME=COMMAND"),
        (["a b=python"], "is not NAME=COMMAND"),
        (["x="], "no program ''"),
        (["x=/no/such/python job.py"], "no program '/no/such/python'"),
        (["x='python"], "No closing quotation"),
        ([f"x={sys.executable}"] * 2, "another peer"),
        ([f"single={sys.executable}"], "has the name of a strategy"),
    ],
)
def test_mistakes_on_the_command_line(texts, said):
    with pytest.raises(ThinwireError, match=said):
        parse_peers(texts)


def test_speedups_are_over_peers_too():
    rows = [{"strategy": "single", "total_s": 3.0}, {"strategy": "torch", "total_s": 2.0, "peer": {"command": "x"}}]
    single, torch = with_speedups(rows)
    assert single["speedup_vs_peer_torch"] == pytest.approx(2 / 3)
    assert torch["speedup_vs_single"] == 1.5
