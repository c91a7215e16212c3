"""Checkpoints and processes: a kill at any moment, and restoration on other devices than those saved from."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from compiling import FLAGS
from thinwire.training import checkpoint_files as files
from thinwire.training.checkpoints import Checkpoints, restore
from training import saver


def assert_equal(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert (one.dtype, one.shape, type(one)) == (other.dtype, other.shape, type(other))
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def run_saver(*arguments, devices=1):
    kept = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    paths = [str(Path(__file__).parents[2] / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {
        **kept,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "XLA_FLAGS": FLAGS,
    }
    command = [sys.executable, saver.__file__, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
def test_a_kill_at_any_moment_leaves_whole_checkpoints(tmp_path):
    folders = [tmp_path / str(n) for n in range(8)]
    run_saver("kill", 5, *folders)
    left_behind = 0
    for folder in folders:
        certain = int((folder / "done").read_text().splitlines()[-1])
        left_behind += len(list(folder.glob(".step-*")))
        steps = files.steps_in(folder)
        assert steps[-1] >= certain
        for step in steps:
            wanted = saver.state(step)
            _, found, told = restore(folder, step, jax.tree.map(np.zeros_like, wanted))
            assert told == {"of": step}
            assert_equal(found, wanted)
        with Checkpoints(folder, keep=2, keep_every=5) as checkpoints:
            assert sorted(path.name for path in folder.iterdir()) == sorted(
                [".lock", "done", *(files.path_of(folder, step).name for step in steps)]
            )
            checkpoints.restore(None, jax.tree.map(np.zeros_like, wanted))
            checkpoints.save(steps[-1] + 1, wanted, {})
        assert files.steps_in(folder)[-1] == steps[-1] + 1
    assert left_behind > 0  # some were killed in the midst of a save


def sharded(devices):
    mesh = Mesh(jax.devices()[:devices], ("d",))
    deal = lambda x, *axes: jax.device_put(x, NamedSharding(mesh, PartitionSpec(*axes)))
    return {
        "w": deal(np.arange(60, dtype=np.float32).reshape(12, 5), "d"),
        "key": deal(np.array([7, 9], np.uint32)),
    }


@pytest.mark.parametrize(("before", "after"), [(4, 2), (2, 6), (1, 3), (6, 1)])
def test_a_state_goes_where_it_is_asked_for(tmp_path, before, after):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, sharded(before), {})
    for like in (
        sharded(after),
        jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), sharded(after)),
    ):
        _, found, _ = restore(tmp_path, None, like)
        assert_equal(found, sharded(after))
        for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(sharded(after)), strict=True):
            assert one.sharding == other.sharding
            assert one.committed


def test_a_state_that_is_bound_to_no_device_stays_so(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, {"w": jnp.ones(3)}, {})
    _, found, _ = restore(tmp_path, None, {"w": jnp.zeros(3)})
    assert not found["w"].committed
    assert (found["w"] + jax.device_put(jnp.ones(3), jax.devices()[3])).devices() == {jax.devices()[3]}


@pytest.mark.parametrize("devices", [2, 3])
def test_another_process_with_fewer_devices(tmp_path, devices):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(5, sharded(6), {"of": 5})
    shards = [(12 // devices, 5)] * devices
    assert run_saver("restore", tmp_path, devices=devices) == f"5 5 {devices} {shards} {59 * 30.0} [7, 9]\n"
