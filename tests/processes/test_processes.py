"""Real processes, one CPU device each, joined by gloo over the loopback: they give what virtual devices give."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tiny
from compiling import FLAGS
from processes import training_worker, worker

SECONDS = 120


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run_processes(count, folder, program=worker):
    """Starts the workers, waits, and leaves none behind; what each wrote to its log if one fails."""
    kept = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "JAX_NUM_CPU_DEVICES")}
    tests = Path(__file__).parent.parent
    paths = [str(tests), str(tests.parent / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {
        **kept,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": FLAGS,
    }
    port = free_port()
    logs = [folder / f"log{n}.txt" for n in range(count)]
    workers = []
    try:
        for n, log in enumerate(logs):
            command = [sys.executable, program.__file__, str(n), str(count), str(port), str(folder)]
            with log.open("w") as out:
                workers.append(subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT))
        codes = [process.wait(timeout=SECONDS) for process in workers]
    finally:
        for process in workers:
            if process.poll() is None:
                process.kill()
            process.wait()
    assert codes == [0] * count, "\n".join(log.read_text()[-2000:] for log in logs)
    return [np.load(folder / f"found{n}.npz") for n in range(count)]


@pytest.mark.parametrize("count", [2, 4])
def test_processes_equal_virtual_devices(count, tmp_path):
    everybody = run_processes(count, tmp_path)
    for number, (spec, split) in enumerate(worker.runs(count)):
        virtual = tiny.engine(spec, count, split).logits(tiny.ids())
        for found in everybody:
            np.testing.assert_allclose(found[f"logits{number}"], virtual, atol=1e-5, err_msg=spec)
    for number, (spec, split) in enumerate(worker.streamed(count)):
        virtual = tiny.engine(spec, count, split).logits(tiny.ids())
        for found in everybody:
            np.testing.assert_allclose(found[f"streamed{number}"], virtual, atol=1e-5, err_msg=spec)
            assert found[f"sent{number}"] == found[f"counted{number}"] == found[f"formula{number}"]
        assert sum(found[f"sent{number}"] for found in everybody) > 0
    said = [str(found["other_inputs"]) for found in everybody]
    assert all("another pass than" in one or "is gone" in one for one in said), said
    assert any("another pass than" in one for one in said), said
    assert everybody[-1]["sent0"] == 0  # nobody looks at the last tokens
    tokens = list(tiny.engine("single").generate(tiny.ids(13), 4)) if count == 2 else []
    for found in everybody:
        assert found["tokens_one"].tolist() == found["tokens_all"].tolist() == tokens


@pytest.mark.thorough
def test_training_in_processes_equals_training_of_virtual_devices(tmp_path):
    """Tokens of every example are split over the processes; codebooks move with the rows of all of them."""
    virtual = training_worker.trained(2, None)
    assert len(virtual["losses"]) == training_worker.STEPS
    for found in run_processes(2, tmp_path, training_worker):
        np.testing.assert_allclose(found["losses"], virtual["losses"], atol=1e-4)
        np.testing.assert_allclose(found["codebook"], virtual["codebook"], atol=1e-3)
        np.testing.assert_allclose(found["counts"], virtual["counts"], atol=1e-2)
