"""A call from a compiled program on a CPU into Python, with numpy's views of what the program holds.

``jax.experimental.io_callback`` first puts each argument on a device again, and that costs more than all that is done
with it here: between matrix products, which leave nothing of it in the caches, some 0.1 ms each.
"""

from collections.abc import Callable

import jax
import numpy as np
from jax.core import ShapedArray
from jax.experimental import io_callback
from jax.extend.core import Primitive
from jax.interpreters import mlir
from jaxtyping import Array

_call = Primitive("host_call")
# As those of JAX's own callbacks: what has any is kept though nobody asks for its result, and may be in loops.
_EFFECTS = jax.make_jaxpr(lambda: io_callback(lambda: None, None))().effects


def host_call(function: Callable[..., np.ndarray | np.generic], like: jax.ShapeDtypeStruct, *given: Array) -> Array:
    """``function`` of the arrays, called each time that the program comes to it; it has no gradient.

    Args:
        function: is given numpy arrays that it must neither change nor keep, and returns one ``like`` this.
    """
    return _call.bind(*given, function=function, like=like)


@_call.def_effectful_abstract_eval
def _like(*_, function, like):
    del function
    return ShapedArray(like.shape, like.dtype), _EFFECTS


def _lower(context, *given, function, like):
    del like
    results, _, _ = mlir.emit_python_callback(
        context,
        lambda *arrays: (function(*arrays),),
        None,
        list(given),
        context.avals_in,
        context.avals_out,
        has_side_effect=True,
        returns_token=False,
    )
    return results


mlir.register_lowering(_call, _lower, platform="cpu", cacheable=False)  # each is a callback of its own
