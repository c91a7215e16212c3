"""A process for the tests of checkpoints: saves one after another until it is killed, or restores on its devices."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from thinwire.training.checkpoints import Checkpoints, restore

SIZE = 20_000  # of the larger array: a save takes a few milliseconds


def state(step: int) -> dict:
    """A state that tells of which step it is, in every part."""
    rng = np.random.default_rng(step)
    return {
        "step": np.array(step, np.int32),
        "w": rng.normal(size=SIZE).astype(np.float32),
        "b": np.full((3, 2), step, np.int32),
    }


def save_until_killed(folder: Path) -> None:
    """Saves every step; a line in ``done`` says which are certainly on the disk."""
    with Checkpoints(folder, keep=2, keep_every=5) as checkpoints, (folder / "done").open("w", buffering=1) as done:
        checkpoints.save(0, state(0), {"of": 0})
        checkpoints.wait()
        done.write("0\n")
        for step in range(1, 100_000):
            checkpoints.save(step, state(step), {"of": step})  # waits for the one before
            done.write(f"{step - 1}\n")


def kill_at_random(folders: list[Path], seed: int) -> None:
    """In each folder a process that saves, killed at some moment after its first checkpoint."""
    rng = random.Random(seed)
    for folder in folders:
        folder.mkdir()
        child = os.fork()
        if child == 0:
            save_until_killed(folder)
        while not (folder / "done").exists() or not (folder / "done").read_text():
            if os.waitpid(child, os.WNOHANG) != (0, 0):
                sys.exit(f"the process that saves to {folder} has ended by itself")
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.25))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def restore_sharded(folder: Path) -> None:
    """Restores rows dealt over all devices that this process has, and says what it got."""
    mesh = Mesh(jax.devices(), ("d",))
    rows = NamedSharding(mesh, PartitionSpec("d"))
    like = {
        "w": jax.ShapeDtypeStruct((12, 5), np.float32, sharding=rows),
        "key": jax.ShapeDtypeStruct((2,), np.uint32, sharding=NamedSharding(mesh, PartitionSpec())),
    }
    step, found, about = restore(folder, None, like)
    shards = sorted(shard.data.shape for shard in found["w"].addressable_shards)
    print(step, about["of"], len(jax.devices()), shards, float(found["w"].sum()), found["key"].tolist())


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["kill", seed, *folders]:
            kill_at_random([Path(folder) for folder in folders], int(seed))
        case ["restore", folder]:
            restore_sharded(Path(folder))
