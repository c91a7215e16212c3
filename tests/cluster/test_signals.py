import subprocess
import sys

import pytest

# In a process of its own: here other threads, which hold nothing back, might be given the signal.
HELD_BACK = """
import os, signal
from thinwire.cluster.signals import held_back
signal.signal(signal.SIGINT, signal.default_int_handler)
done = []
try:
    with held_back():
        os.kill(os.getpid(), signal.SIGINT)
        done.append("inside")
    done.append("behind")
except KeyboardInterrupt:
    done.append("interrupted")
print(*done)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no masks of signals")
def test_ctrl_c_waits_until_it_does_no_harm():
    assert subprocess.check_output([sys.executable, "-c", HELD_BACK], text=True).split() == ["inside", "interrupted"]


def test_a_launcher_starts_without_waiting_for_jax():
    code = "import sys, thinwire.cli.cluster; sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
