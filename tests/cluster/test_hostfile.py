"""Real hosts with a stand-in for ssh that runs what it is told to on this machine."""

import os
import stat
import sys
import time

import pytest

from cluster.emulation import until
from thinwire.cluster import hostfile
from thinwire.cluster.hostfile import RealHost
from thinwire.cluster.running import HostError
from thinwire.errors import ThinwireError

HOSTS = [RealHost("pi@192.0.2.11", ("-p", "2222")), RealHost("192.0.2.12")]
posix = pytest.mark.skipif(sys.platform == "win32", reason="runs a shell")


def test_a_file_of_hosts(tmp_path):
    (tmp_path / "hosts").write_text("# two\npi@192.0.2.11 -p 2222  # the left one\n\n192.0.2.12\n")
    assert hostfile.read_hosts(tmp_path / "hosts") == HOSTS
    assert [host.address for host in HOSTS] == ["192.0.2.11", "192.0.2.12"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("-oProxyCommand=x\n", "line 1: '-oProxyCommand=x' is no user@address"),
        ("a\npi@\n", "line 2: 'pi@' is no user@address"),
        ("a -i 'key\n", "line 1: No closing quotation"),
        ("# nobody\n", "names no host"),
    ],
)
def test_files_that_name_no_hosts(tmp_path, text, words):
    (tmp_path / "hosts").write_text(text)
    with pytest.raises(ThinwireError, match=words):
        hostfile.read_hosts(tmp_path / "hosts")


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """A program `ssh` that notes its arguments and gives the last one to a shell, as sshd does."""
    script = tmp_path / "ssh"
    script.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" >> {tmp_path}/said.$$\nfor last; do :; done\nexec /bin/sh -c "$last"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


@posix
def test_every_host_gets_the_command_word_for_word_and_its_place(ssh):
    folder = ssh / "a folder"
    folder.mkdir()
    program = (
        "import os, sys; e = os.environ; print(e['THINWIRE_COORDINATOR'], e['THINWIRE_HOST'], os.getcwd(), sys.argv[1])"
    )
    command = [sys.executable, "-c", program, 'it\'s $HOME; "two" words']
    lines = hostfile.remote_commands(HOSTS, command, 9000, folder=str(folder))
    with hostfile.start_by_ssh(HOSTS, lines) as running:
        said = [process.stdout.read() for process in running.processes]
        assert running.wait(60) == (0, 0)
    for host in range(2):
        assert said[host] == f'192.0.2.11:9000 {host} {folder} it\'s $HOME; "two" words\n'
    calls = [path.read_text() for path in ssh.glob("said.*")]
    assert all("BatchMode=yes\n" in call for call in calls)
    assert any("-p\n2222\n--\npi@192.0.2.11\n" in call for call in calls)


@posix
@pytest.mark.parametrize("deaf", ["", "trap '' TERM; "], ids=["asked", "killed"])  # JAX's processes are deaf, too
def test_one_that_fails_ends_what_runs_on_the_others_with_its_children(ssh, deaf):
    marks = ssh / "alive"
    marks.mkdir()
    beating = f"{deaf}while :; do touch {marks}/beat; sleep 0.1; done"
    fails = f"until [ -e {marks}/beat ]; do sleep 0.1; done; exit 5"
    job = f'if [ "$THINWIRE_HOST" = 1 ]; then {fails}; fi; sh -c "{beating}"; :'
    lines = hostfile.remote_commands(HOSTS, ["sh", "-c", job])
    with hostfile.start_by_ssh(HOSTS, lines) as running, pytest.raises(HostError, match=r"Host 192\.0\.2\.12") as error:
        running.wait(60)
    assert error.value.code == 5

    def silent():
        (marks / "beat").unlink(missing_ok=True)
        time.sleep(0.5)
        return not (marks / "beat").exists()

    assert until(silent)
