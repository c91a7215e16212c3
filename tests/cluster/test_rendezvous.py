import pytest

from thinwire.cluster import rendezvous
from thinwire.cluster.rendezvous import COORDINATOR, EXCHANGE, HOST, HOSTS, START_TIMEOUT, Rendezvous
from thinwire.errors import ThinwireError

GOOD = {COORDINATOR: "10.0.0.1:8476", HOSTS: "4", HOST: "3", START_TIMEOUT: "5"}


@pytest.mark.parametrize("address", ["10.0.0.1", "pi.local", "fd00::1"])
def test_what_is_written_is_read(address):
    meeting = Rendezvous(address, 8476, 4, 3, 5.0, "gloo")
    assert rendezvous.from_environment(meeting.environment()) == meeting


def test_hosts_gather_by_streams_unless_told_otherwise():
    assert rendezvous.from_environment(GOOD).exchange == "streams"


@pytest.mark.parametrize("name", [COORDINATOR, HOSTS, HOST])
def test_a_program_started_by_hand_is_told_how_to_start_it(name):
    left = {key: value for key, value in GOOD.items() if key != name}
    with pytest.raises(ThinwireError, match=f"{name} is not set: start this program by `thinwire cluster run"):
        rendezvous.from_environment(left)


@pytest.mark.parametrize(
    "change",
    [
        {COORDINATOR: "10.0.0.1"},
        {COORDINATOR: ":8476"},
        {COORDINATOR: "10.0.0.1:0"},
        {COORDINATOR: "10.0.0.1:http"},
        {HOSTS: "four"},
        {HOST: "4"},
        {HOST: "-1"},
        {START_TIMEOUT: "0"},
        {START_TIMEOUT: "soon"},
        {EXCHANGE: "pigeons"},
    ],
)
def test_variables_that_make_no_sense_are_named(change):
    with pytest.raises(ThinwireError, match=next(iter(change))):
        rendezvous.from_environment({**GOOD, **change})
