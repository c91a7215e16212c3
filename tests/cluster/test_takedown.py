"""What counts as left over, where nothing of a cluster is touched that others may own: on folders of the test's own."""

import pytest

from thinwire.cluster import cpu, namespaces, state, takedown
from thinwire.cluster.specs import HostSpec
from thinwire.errors import ThinwireError


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """The folders that a machine keeps clusters in; nobody may be signalled."""
    for name in ("netns", "files", "run", "groups/thinwire"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(namespaces, "NETNS", tmp_path / "netns")
    monkeypatch.setattr(namespaces, "FILES", tmp_path / "files")
    monkeypatch.setattr(state, "STATE", tmp_path / "run")
    controller = type("Controller", (), {"root": tmp_path / "groups"})
    monkeypatch.setattr(cpu, "find_controller", controller)
    monkeypatch.setattr(takedown.os, "kill", lambda *_: pytest.fail("a process was signalled"))
    return tmp_path


def test_what_is_no_part_of_a_cluster_by_its_name_is_nobodys_leftover(machine):
    state.claim("lab", (HostSpec(1, 10.0),), None)
    for name in (
        "thinwire-probe77",
        "thinwire-lab-h0",
        "thinwire-lab-switch",
        "thinwire--h0",
        "thinwire-x-y",
        "other-h0",
    ):
        (machine / "netns" / name).touch()
    for name in ("lab", "Not-ours"):
        (machine / "groups/thinwire" / name).mkdir()
    assert takedown.leftovers() == {}
    (machine / "netns" / "thinwire-gone-h1").touch()
    (machine / "groups/thinwire" / "away").mkdir()
    assert sorted(takedown.leftovers()) == ["away", "gone"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-", "Lab"])
def test_what_is_no_clusters_name_removes_nothing(machine, name):
    state.claim("lab", (HostSpec(1, 10.0),), None)
    for remove in (takedown.take_down, state.forget):
        with pytest.raises(ThinwireError, match="is no name for a cluster"):
            remove(name)
    assert [record.name for record in state.records()] == ["lab"]
