"""Orders to workers: small programs that answer lines."""

import subprocess
import sys

import pytest

from thinwire.benchmark.fleet import Fleet
from thinwire.cluster.running import Running
from thinwire.errors import ThinwireError

ECHO = """
import json, sys, time
for line in sys.stdin:
    order = json.loads(line)
    print("[Gloo] Rank 0 is connected", flush=True)
    if order["do"] == "die":
        print("out of luck", file=sys.stderr, flush=True)
        sys.exit(3)
    if order["do"] == "sleep":
        time.sleep(60)
    if order["do"] == "refuse":
        print(json.dumps({"error": "no such strategy"}), flush=True)
    else:
        if order.get("tell"):
            print(json.dumps({"begun": True}), flush=True)
        print(json.dumps({"got": order}), flush=True)
"""


@pytest.fixture
def running():
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen([sys.executable, "-c", ECHO], stdin=pipe, stdout=pipe, stderr=pipe, text=True, bufsize=1)
        for _ in range(2)
    ]

    def signal_all(number):
        for process in started:
            process.send_signal(number)

    with Running(started, ["h0", "h1"], signal_all) as running:
        yield running


def test_everybody_answers_and_foreign_lines_are_left_out(running):
    fleet = Fleet(running)
    assert fleet.everybody("run", strategy="single") == [{"got": {"do": "run", "strategy": "single"}}] * 2
    assert fleet.ask([1], "gemm") == [{"got": {"do": "gemm"}}]


def test_the_beginning_is_told_before_the_answer(running):
    told = []
    answers = Fleet(running).ask([0, 1], "run", begun=lambda: told.append("begun"))
    assert (told, len(answers)) == (["begun", "begun"], 2)


def test_a_refusal_names_the_host(running):
    with pytest.raises(ThinwireError, match="host 1: no such strategy"):
        Fleet(running).ask([1], "refuse")


def test_a_death_is_told_with_its_last_words_though_another_host_waits(running):
    fleet = Fleet(running)
    for host, do in ((0, "sleep"), (1, "die")):
        running.processes[host].stdin.write(f'{{"do": "{do}"}}\n')
    with pytest.raises(ThinwireError, match=r"Host h1 ended with exit code 3 .*the last it said: out of luck"):
        fleet.everybody("run")
    assert running.processes[0].poll() is not None  # the others were ended


def test_silence_is_told(running):
    with pytest.raises(ThinwireError, match="host 0 gave no answer to 'sleep' within"):
        Fleet(running, patience_s=0.5).ask([0], "sleep")


def test_workers_end_when_they_are_told_nothing_more(running):
    fleet = Fleet(running)
    fleet.everybody("run")
    fleet.end()
    assert running.wait(20) == (0, 0)
