"""One function of local arrays, run on a real mesh by shard_map or on one device by vmap over virtual devices."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from thinwire.errors import ThinwireError

AXIS = "devices"


def make_mesh(devices: int) -> Mesh:
    """A one-dimensional mesh of the first ``devices`` devices of all processes. The only place that makes meshes."""
    found = jax.devices()
    if devices > len(found):
        raise ThinwireError(
            f"A mesh of {devices} devices was asked for and JAX sees {len(found)}; start more processes, set "
            f"JAX_NUM_CPU_DEVICES={devices} for CPU devices, or run virtual devices."
        )
    return Mesh(np.asarray(found[:devices]), (AXIS,), axis_types=(AxisType.Auto,))


def spmd(function: Callable, where: Mesh | int, sharded: tuple) -> Callable:
    """Runs ``function`` once a device; its arguments and results are what one device holds.

    Args:
        function: of local arrays, using the collectives of ``thinwire.wire``.
        where: a mesh, or a number of virtual devices to emulate on one device.
        sharded: for each argument a bool, or a tree of bools: True where the argument has a leading axis of devices,
            False where every device holds the same.

    Returns:
        A function of global arrays; every result has a leading axis of devices.
    """
    if isinstance(where, int):
        axes = jax.tree.map(lambda one: 0 if one else None, sharded)
        return jax.vmap(function, in_axes=axes, axis_size=where, axis_name=AXIS)

    def local(*arguments):
        own = _map_prefix(lambda one, tree: jax.tree.map(lambda x: x[0], tree) if one else tree, sharded, arguments)
        return jax.tree.map(lambda x: x[None], function(*own))

    specs = jax.tree.map(lambda one: PartitionSpec(AXIS) if one else PartitionSpec(), sharded)
    # Replication is not inferred through gathers of codes, and nothing here relies on it.
    return jax.shard_map(local, mesh=where, in_specs=specs, out_specs=PartitionSpec(AXIS), check_vma=False)


def is_virtual() -> bool:
    """Whether what is being traced runs on virtual devices (vmap), not on a mesh."""
    return AXIS not in jax.sharding.get_abstract_mesh().manual_axes


def put(tree: Any, where: Mesh | int, sharded: Any) -> Any:
    """Places host arrays as ``spmd`` wants them: split by the leading axis where ``sharded``, else on every device."""
    if isinstance(where, int):
        return jax.device_put(tree)

    def place(one, subtree):
        sharding = NamedSharding(where, PartitionSpec(AXIS) if one else PartitionSpec())
        return jax.tree.map(lambda x: _place_one(np.asarray(x), sharding), subtree)

    return _map_prefix(place, sharded, tree)


def _place_one(x, sharding):
    # Each process makes only its own shards; device_put of a host array would need every process to hold the mesh.
    return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])


def fetch(tree: Any) -> Any:
    """Global arrays as numpy on every process."""
    if jax.process_count() == 1:
        return jax.tree.map(np.asarray, tree)
    from jax.experimental import multihost_utils

    return jax.tree.map(lambda x: np.asarray(multihost_utils.process_allgather(x, tiled=True)), tree)


def _map_prefix(function, prefix, tree):
    return jax.tree.map(function, prefix, tree, is_leaf=lambda x: isinstance(x, bool))
