"""Real namespaces, shaped links and quotas, where the machine lets us have them; every test leaves nothing behind."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import emulated_worker
from cluster.emulation import needs_emulation, until
from thinwire.cluster import cpu, namespaces, shaping, state
from thinwire.cluster.emulated import HostSpec, emulated
from thinwire.cluster.running import HostError
from thinwire.cluster.takedown import leftovers, take_down
from thinwire.errors import ThinwireError

pytestmark = needs_emulation
SECONDS = 120
HOST = HostSpec(0.5, 50.0)


def parts_of(name):
    """Everything of a cluster that the machine still has."""
    spaces = {space for space in namespaces.existing() if namespaces.cluster_of(space) == name}
    groups = {str(group) for group in (cpu.cluster_group(name), cpu.idle_group(name)) if group.exists()}
    return spaces | groups | {record.name for record in state.records() if record.name == name}


@pytest.fixture
def pair():
    with emulated([HOST, HOST]) as cluster:
        yield cluster
    assert not parts_of(cluster.name)


def worker(cluster, *arguments, **options):
    """The worker of these tests on every host; what each has printed."""
    source = str(Path(__file__).parents[2] / "src")
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))}
    command = [sys.executable, emulated_worker.__file__, *arguments]
    with cluster.start(command, environment, **options) as running:
        said = [process.stdout.read() for process in running.processes]
        assert running.wait(SECONDS) == (0,) * len(cluster.specs)
    return said


def test_hosts_know_their_name_and_address_and_see_no_other_network(pair):
    program = "import socket as s; print(s.gethostname(), s.gethostbyname(s.gethostname()), len(s.if_nameindex()))"
    with pair.start([sys.executable, "-c", program]) as running:
        said = [process.stdout.read().split() for process in running.processes]
        assert running.wait(SECONDS) == (0, 0)
    assert said == [["h0", pair.addresses[0], "2"], ["h1", pair.addresses[1], "2"]]
    assert len(set(pair.addresses)) == 2


def test_a_program_of_one_host_is_host_0_of_1_to_itself(pair):
    program = (
        "import os, socket; print(socket.gethostname(), os.environ['THINWIRE_HOSTS'], os.environ['THINWIRE_HOST'])"
    )
    with pair.start([sys.executable, "-c", program], hosts=(1,)) as running:
        assert [process.stdout.read().split() for process in running.processes] == [["h1", "1", "0"]]
        assert running.wait(SECONDS) == (0,)
    with pytest.raises(ThinwireError, match="no host 2"):
        pair.start([sys.executable], hosts=(2,))


def test_they_meet_by_name_at_the_rate_that_was_asked_for_and_both_count_the_same(pair):
    before = pair.counters()
    amount, mbps = 1_000_000, 20.0
    pair.set_rate(mbps)
    received, seconds = map(float, worker(pair, "stream", str(amount))[1].split())
    assert received == amount
    assert 0.5 * mbps < amount * 8 / seconds / 1e6 < 1.2 * mbps
    sent = pair.counters()[0].sent_bytes - before[0].sent_bytes
    arrived = pair.counters()[1].received_bytes - before[1].received_bytes
    assert amount < sent < 1.15 * amount
    assert arrived == pytest.approx(sent, rel=0.01)


def test_a_rate_and_a_share_are_changed_for_one_host(pair):
    def shape(host):
        command = ["tc", "-n", namespaces.host_namespace(pair.name, host), "qdisc", "show", "dev", "eth0"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "rate 50Mbit" in shape(0)
    pair.set_rate(7, host=1)
    assert "rate 50Mbit" in shape(0)
    assert "rate 7Mbit" in shape(1)
    pair.set_cpu(0.25, host=1)
    with pytest.raises(ThinwireError, match="h1 was made with 1 core"):
        pair.set_cpu(2, host=1)
    with pytest.raises(ThinwireError, match="no host 2"):
        pair.set_rate(1, host=2)


@pytest.mark.skipif(not (shutil.which("nft") or shutil.which("iptables")), reason="no nft and no iptables")
def test_packets_are_lost_where_that_was_asked_for():
    with emulated([HOST, HostSpec(0.5, 50.0, loss=0.3)]) as cluster:
        arrived = [int(worker(cluster, "datagrams", "500")[1])]
        for loss in (0.6, 0.0):
            cluster.set_loss(loss, 1)
            arrived.append(int(worker(cluster, "datagrams", "500")[1]))
        with pytest.raises(ThinwireError, match="loss of 1 is no share"):
            cluster.set_loss(1)
    assert 0.5 < arrived[0] / 500 < 0.9
    assert 0.2 < arrived[1] / 500 < 0.6
    assert arrived[2] == 500


def test_loss_without_a_program_for_it_is_told_before_anything_is_made(monkeypatch):
    monkeypatch.setattr(shaping.shutil, "which", lambda program: program if program in ("ip", "tc") else None)
    before = namespaces.existing()
    with pytest.raises(ThinwireError, match="install the package nftables"), emulated([HostSpec(1, 10, 0.1)]):
        pass
    assert namespaces.existing() == before


def test_a_host_gets_the_share_of_a_core_that_it_was_given():
    with emulated([HostSpec(0.25, 10.0)]) as cluster:
        used, passed = map(float, worker(cluster, "spin")[0].split())
    assert used / passed < 0.4  # 0.25 and a generous margin; without a quota about 1


def test_cores_that_a_host_has_a_part_of_are_kept_awake_while_something_runs(pair):
    spinning = lambda: cpu.processes_in(cpu.idle_group(pair.name))
    cores = cpu.shared_cores([0.5, 0.5], cpu.deal_cores([0.5, 0.5]))
    with pair.start(["cat"], stdin=subprocess.PIPE):
        assert until(lambda: len(spinning()) == len(cores))
        assert all(os.sched_getscheduler(pid) == os.SCHED_IDLE for pid in spinning())
        group = cpu.idle_group(pair.name)
        assert group.parent == cpu.find_controller().root  # there it gives way to the whole machine, not to hosts alone
        if (group / "cpu.idle").exists():  # Linux from 5.15
            assert (group / "cpu.idle").read_text().strip() == "1"
    assert not spinning()


def test_one_that_dies_ends_the_others_and_is_named(pair):
    script = 'if [ "$THINWIRE_HOST" = 1 ]; then echo out of paper >&2; exit 7; fi; sleep 600; :'
    with pair.start(["sh", "-c", script]) as running:
        with pytest.raises(HostError, match=r"Host h1 ended with exit code 7.*out of paper") as error:
            running.wait(SECONDS)
        assert error.value.code == 7
        assert all(process.returncode is not None for process in running.processes)
    for host in range(2):
        assert not cpu.processes_in(cpu.host_group(pair.name, host))


def test_workers_can_be_driven_by_lines(pair):
    with pair.start(["cat"], stdin=subprocess.PIPE) as running:
        for host, process in enumerate(running.processes):
            process.stdin.write(f"to host {host}\n")
            assert process.stdout.readline() == f"to host {host}\n"
            process.stdin.close()
        assert running.wait(SECONDS) == (0, 0)


def test_a_port_in_use_and_a_program_that_is_not_there_are_told(pair):
    with pair.start([sys.executable, emulated_worker.__file__, "occupy"], port=23456) as running:
        assert running.processes[0].stdout.readline() == "occupied\n"
        with pytest.raises(ThinwireError, match="Port 23456 of h0"):
            pair.start(["true"], port=23456)
    with pytest.raises(ThinwireError, match="no program 'nonsense'"):
        pair.start(["nonsense"])
    with pytest.raises(ThinwireError, match="give a list"):
        pair.start("true")


def test_processes_of_jax_join_and_add_up_and_listen_at_their_own_address_only(pair):
    for said, address in zip(worker(pair, "psum"), pair.addresses, strict=True):
        summed, listening, again = said.splitlines()[-3:]
        assert summed == "sum 3.0 of 2"
        assert "has joined the others already" in again
        assert set(listening.split()[2:]) == {address}


def test_passes_with_large_packets_may_be_given_out_before_one_is_done(pair):
    with pair.start([sys.executable, emulated_worker.__file__, "crowd"]) as running:
        running.wait(SECONDS)
        assert [process.stdout.read().splitlines()[-1] for process in running.processes] == ["given out 1.0"] * 2


def test_a_program_that_fails_ends_though_the_others_wait_for_it(pair):
    with (
        pair.start([sys.executable, emulated_worker.__file__, "fails"]) as running,
        pytest.raises(HostError, match="Host h1 ended with exit code 1"),
    ):
        running.wait(SECONDS)
    assert "RuntimeError: out of luck" in running.errors_of(1)


def test_a_host_that_never_comes_is_named_by_the_others(pair):
    with (
        pair.start([sys.executable, emulated_worker.__file__, "absent"], start_timeout_s=5) as running,
        pytest.raises(HostError, match="Host 1 has not come within 5 s"),
    ):
        running.wait(SECONDS)


def test_two_clusters_live_side_by_side_and_a_name_is_taken_once(pair):
    with emulated([HOST]) as other:
        assert set(other.addresses).isdisjoint(pair.addresses)
        with (
            pytest.raises(ThinwireError, match=f"There is a cluster '{pair.name}' already"),
            emulated([HOST], pair.name),
        ):
            pass
    assert parts_of(pair.name)
    assert not parts_of(other.name)


def test_nothing_is_left_after_an_error():
    name = f"test{os.getpid()}-error"

    def fail():
        with emulated([HOST], name) as cluster, cluster.start(["sleep", "600"]):
            assert parts_of(name)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not parts_of(name)


OWNER = """
import sys
from thinwire.cluster.emulated import HostSpec, emulated
with emulated([HostSpec(0.5, 10.0)], sys.argv[1]) as cluster, cluster.start(["sh", "-c", "sleep 600; :"]) as running:
    print("up", flush=True)
    running.wait()
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_an_owner_that_is_ended_leaves_no_process_and_what_else_it_leaves_is_found(how):
    name = f"test{os.getpid()}-{how.name.lower()}"
    with subprocess.Popen([sys.executable, "-c", OWNER, name], stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdout.readline() == "up\n"
            group = cpu.host_group(name, 0)
            assert until(lambda: cpu.processes_in(group))
            assert name not in leftovers()
            owner.send_signal(how)
            assert owner.wait(SECONDS) == (143 if how == signal.SIGTERM else -how)
            assert until(lambda: not cpu.processes_in(group))
            if how == signal.SIGTERM:
                assert not parts_of(name)
            else:
                assert "is gone" in leftovers()[name]
        finally:
            owner.kill()
            take_down(name)
    assert not parts_of(name)
    assert name not in leftovers()
