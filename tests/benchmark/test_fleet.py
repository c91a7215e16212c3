"""Orders to workers: small programs that answer lines."""

import subprocess
import sys

import pytest

from thinwire.benchmark.fleet import Fleet
from thinwire.errors import ThinwireError

ECHO = """
import json, sys, time
for line in sys.stdin:
    order = json.loads(line)
    print("[Gloo] Rank 0 is connected", flush=True)
    if order["do"] == "die":
        sys.exit(3)
    if order["do"] == "sleep":
        time.sleep(60)
    if order["do"] == "refuse":
        print(json.dumps({"error": "no such strategy"}), flush=True)
    else:
        print(json.dumps({"got": order}), flush=True)
"""


@pytest.fixture
def workers():
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen([sys.executable, "-c", ECHO], stdin=pipe, stdout=pipe, text=True, bufsize=1) for _ in range(2)
    ]
    yield started
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_everybody_answers_and_foreign_lines_are_left_out(workers):
    fleet = Fleet(workers, [[], []])
    assert fleet.everybody("run", key=3) == [{"got": {"do": "run", "key": 3}}] * 2
    assert fleet.one(1, "gemm") == {"got": {"do": "gemm"}}


def test_a_refusal_names_the_host(workers):
    with pytest.raises(ThinwireError, match="host 1: no such strategy"):
        Fleet(workers, [[], []]).one(1, "refuse")


def test_a_death_is_told_with_its_last_words_though_another_host_waits(workers):
    fleet = Fleet(workers, [["a"], ["segmentation fault"]])
    for host, do in ((0, "sleep"), (1, "die")):
        workers[host].stdin.write(f'{{"do": "{do}"}}\n')
    with pytest.raises(ThinwireError, match=r"(?s)host 1 ended during 'run' with exit code 3.*segmentation fault"):
        fleet.everybody("run")


def test_silence_is_told(workers):
    fleet = Fleet(workers, [[], []], patience_s=0.5)
    with pytest.raises(ThinwireError, match="host 0 gave no answer to 'sleep' within"):
        fleet.one(0, "sleep")


def test_workers_end_when_they_are_told_nothing_more(workers):
    fleet = Fleet(workers, [[], []])
    fleet.everybody("run")
    fleet.end()
    assert [process.wait(timeout=20) for process in workers] == [0, 0]
