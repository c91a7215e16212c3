import os
import signal
import subprocess
import sys

import pytest

from thinwire.cluster.signals import held_back


@pytest.mark.skipif(sys.platform == "win32", reason="has no masks of signals")
def test_ctrl_c_waits_until_it_does_no_harm():
    before, done = signal.signal(signal.SIGINT, signal.default_int_handler), []
    try:
        with pytest.raises(KeyboardInterrupt):  # noqa: PT012  it must come at the end of the inner block
            with held_back():
                os.kill(os.getpid(), signal.SIGINT)
                done.append("inside")
            done.append("behind")
    finally:
        signal.signal(signal.SIGINT, before)
    assert done == ["inside"]


def test_a_launcher_starts_without_waiting_for_jax():
    code = "import sys, thinwire.cli.cluster; sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
