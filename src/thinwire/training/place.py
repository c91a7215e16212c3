"""Where training runs: virtual devices, data-parallel over a mesh or not, or a device of the mesh for each of them."""

import dataclasses
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from thinwire.errors import ThinwireError
from thinwire.layout import TokenLayout
from thinwire.wire.spmd import AXIS, make_mesh

Spread = Literal["", "examples", "tokens"]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the devices of a layout are.

    Attributes:
        mesh: real devices, of any number of processes; None for the default device.
        spread: ``tokens``: each device of the mesh is one of the layout's; ``examples``: each has all of them as
            virtual devices, and a part of the batch.
    """

    mesh: Mesh | None = None
    spread: str = "examples"

    def __post_init__(self):
        if self.spread not in ("tokens", "examples"):
            raise ThinwireError(f"Training is spread by tokens or by examples, not by {self.spread}.")

    def where(self, layout: TokenLayout) -> Mesh | int:
        """What ``make_step`` is told.

        Raises:
            ThinwireError: the mesh has another number of devices than the layout.
        """
        if self.mesh is None or self.spread == "examples":
            return layout.devices
        if self.mesh.devices.size != layout.devices:
            raise ThinwireError(
                f"A mesh of {self.mesh.devices.size} devices cannot be trained with tokens split over "
                f"{layout.devices}: set devices to {self.mesh.devices.size}, or spread examples."
            )
        return self.mesh

    @property
    def everywhere(self) -> NamedSharding | None:
        """The same on every device of the mesh; None without one."""
        return None if self.mesh is None else NamedSharding(self.mesh, PartitionSpec())

    def check(self, batch: int) -> None:
        """Raises ThinwireError where a part of the batch cannot be spread over the mesh."""
        devices = 1 if self.mesh is None or self.spread == "tokens" else self.mesh.devices.size
        if batch % devices:
            raise ThinwireError(
                f"A batch of {batch} cannot be spread evenly over {devices} devices: use a multiple of {devices}."
            )

    def put(self, tree: Any) -> Any:
        """Host arrays on every device."""
        return self._put(tree, PartitionSpec())

    def put_batch(self, tree: Any) -> Any:
        """A batch (A, B, ...), spread over B where examples are."""
        spread = self.spread == "examples"
        return self._put(tree, PartitionSpec(None, AXIS) if spread else PartitionSpec())

    def _put(self, tree, spec):
        if self.mesh is None:
            return jax.device_put(tree)
        sharding = NamedSharding(self.mesh, spec)

        def place(x):
            x = np.asarray(x)
            return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

        return jax.tree.map(place, tree)


def place_of(spread: Spread) -> Place:
    """All devices that JAX sees, with examples or tokens spread over them, or the default device alone."""
    return Place(make_mesh(jax.device_count()), spread) if spread else Place()
