import pytest

from thinwire.cluster.specs import HostSpec, parse_hosts, too_much_cpu
from thinwire.errors import ThinwireError


def test_one_value_stands_for_all_hosts_and_a_list_for_each():
    hosts = parse_hosts(3, cpu="0.5,0.5,0.25", mbps="10", loss="0")
    assert hosts == [HostSpec(0.5, 10), HostSpec(0.5, 10), HostSpec(0.25, 10)]


def test_a_list_alone_says_how_many_hosts_there_are():
    assert [host.mbps for host in parse_hosts(None, "1", "10,20", "0")] == [10, 20]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ((2, "1", "0", "0"), "rate of 0 Mbps"),
        ((2, "1", "-5", "0"), "rate of -5 Mbps"),
        ((2, "1", "nan", "0"), "rate of nan"),
        ((2, "1", "inf", "0"), "rate of inf"),
        ((2, "0", "10", "0"), "CPU share of 0"),
        ((2, "0.5,-1", "10", "0"), "CPU share of -1"),
        ((2, "1", "inf", "0"), "rate of inf Mbps cannot be kept to"),
        ((2, "1", "nan", "0"), "rate of nan Mbps"),
        ((2, "1", "10", "1"), "loss of 1"),
        ((2, "1", "10", "-0.1"), "loss of -0.1"),
        ((3, "1,1", "10", "0"), "--cpu has 2 values and there are 3 hosts"),
        ((2, "1", "1,2,3", "0"), "--mbps has 3 values and there are 2 hosts"),
        ((0, "1", "10", "0"), "--hosts is 0"),
        ((2, "a half", "10", "0"), "--cpu has 'a half', which is no number"),
    ],
)
def test_hosts_that_cannot_be(values, words):
    with pytest.raises(ThinwireError, match=words):
        parse_hosts(*values)


def test_more_cpu_than_there_is_is_a_warning():
    hosts = [HostSpec(0.5, 10)] * 4
    assert too_much_cpu(hosts, cores=2) is None
    assert "2 cores together and this machine has 1" in (too_much_cpu(hosts, cores=1) or "")
