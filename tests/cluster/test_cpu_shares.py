from collections import Counter
from pathlib import Path

import pytest

from thinwire.cluster import cpu
from thinwire.errors import ThinwireError


@pytest.mark.parametrize("share", [0.01, 0.2, 0.25, 0.5, 1, 1.5, 4])
def test_a_quota_is_the_share_of_its_period_and_one_that_the_kernel_takes(share):
    quota, period = cpu.quota_us(share)
    assert quota / period == pytest.approx(share, rel=1e-3)
    assert quota >= 1_000
    assert 1_000 <= period <= 1_000_000


def test_either_version_of_control_groups_is_found():
    two = "cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n"
    one = "cgroup /sys/fs/cgroup/cpuset cgroup rw,cpuset 0 0\ncgroup /c/cpu,cpuacct cgroup rw,cpu,cpuacct 0 0\n"
    assert cpu.find_controller(two) == cpu.Controller(Path("/sys/fs/cgroup"), 2)
    assert cpu.find_controller(two + one) == cpu.Controller(
        Path("/c/cpu,cpuacct"), 1
    )  # what limits CPU in a mixed system
    with pytest.raises(ThinwireError, match="none are mounted"):
        cpu.find_controller("proc /proc proc rw 0 0\n")


def test_a_limit_of_version_2_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "find_controller", lambda: cpu.Controller(tmp_path, 2))
    group = tmp_path / cpu.GROUP / "lab" / "h0"
    cpu.make_group(group, 0.5, cores=1)
    assert (group / "cpu.max").read_text() == "5000 10000"
    cpu.set_share(group, 1, cores=2)
    assert (group / "cpu.max").read_text() == "10000 10000"
    cpu.set_share(group, 2.0, cores=2)  # its affinity keeps it there
    assert (group / "cpu.max").read_text() == "max 10000"
    for above in (tmp_path, tmp_path / cpu.GROUP, group.parent):
        assert (above / "cgroup.subtree_control").read_text() == "+cpu"


def test_clusters_are_found_by_groups_of_either_kind(tmp_path, monkeypatch):
    monkeypatch.setattr(cpu, "find_controller", lambda: cpu.Controller(tmp_path, 2))
    assert cpu.clusters_with_groups() == set()
    cpu.make_group(cpu.host_group("lab", 0), 0.5, cores=1)
    cpu.make_idle_group(cpu.idle_group("den"))
    assert (cpu.idle_group("den") / "cpu.idle").read_text() == "1"
    assert cpu.idle_group("den").parent == tmp_path  # beside every other group, thinwire's among them
    assert cpu.clusters_with_groups() == {"lab", "den"}


def test_halves_of_cores_are_spread_and_whole_ones_are_alone():
    assert Counter(cpu.deal_cores([0.5] * 4, cores=[0, 1])) == {(0,): 2, (1,): 2}
    assert cpu.deal_cores([0.5, 1.0, 0.5], cores=[4, 5]) in ([(5,), (4,), (5,)], [(4,), (5,), (4,)])
    assert cpu.deal_cores([2.0], cores=[0, 1, 2]) == [(0, 1)]
    assert cpu.deal_cores([8.0], cores=[0, 1]) == [(0, 1)]
    assert cpu.shared_cores([0.5, 0.5, 1.0, 1.5], [(3,), (3,), (4,), (5, 6)]) == [3, 5, 6]


def test_stolen_time_is_read():
    ticks = cpu.os.sysconf("SC_CLK_TCK")
    assert cpu.stolen_s(f"cpu  1 2 3 4 5 6 7 {3 * ticks} 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n") == 3
    assert cpu.stolen_s("cpu  1 2 3 4\n") == 0  # an old kernel's
    assert 0 <= cpu.stolen_s() <= cpu.stolen_s()
