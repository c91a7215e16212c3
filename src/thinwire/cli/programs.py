"""Compiled programs are kept between runs: a second run of a command starts to compute at once."""

import jax

from thinwire.errors import ThinwireError
from thinwire.weights.cache import cache_dir

_WORTH_KEEPING_S = 0.5  # of compilation


def keep_programs() -> None:
    """Lets JAX keep what it compiles below the cache folder, unless the user has said where (or that it must not)."""
    set_by_user = jax.config.values
    if set_by_user["jax_compilation_cache_dir"] or not set_by_user["jax_enable_compilation_cache"]:
        return
    try:
        folder = cache_dir() / "programs"
    except ThinwireError:
        return  # slower, not wrong
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTH_KEEPING_S)
