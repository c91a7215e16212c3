"""How XLA is asked to compile the programs of a pass."""

import jax
from jax.sharding import Mesh

# By default XLA's CPU backend orders a program for most work at a time. So the first values of all layers' loops are
# made at the start and live until their layer: 75 MB instead of 19 for twelve layers. glibc gives what is over 32 MB
# back to the system after every pass, and the next one waits for each page again.
CPU_OPTIONS = {"xla_cpu_scheduler_type": "CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED"}


def compiler_options(where: Mesh | int) -> dict[str, str] | None:
    """What ``jax.jit`` tells the compiler of a program that runs there.

    Args:
        where: a mesh, or a number of virtual devices.
    """
    platform = where.devices.flat[0].platform if isinstance(where, Mesh) else jax.default_backend()
    return dict(CPU_OPTIONS) if platform == "cpu" else None
