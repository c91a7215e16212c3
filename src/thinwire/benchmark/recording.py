"""One pass under JAX's profiler on one host, and what is needed to read it."""

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from thinwire.benchmark.scopes import scopes_of
from thinwire.engine import Engine

PASS = "pass"  # the annotation around it, and the name of the run that xprof shows


def runs_folder(folder: Path) -> Path:
    """Where xprof looks for the files of the run."""
    return folder / "plugins" / "profile" / PASS


def record(engine: Engine, inputs_T: Any, folder: Path, host: int, begin: Callable[[], object] = lambda: None) -> float:
    """Runs a prepared pass under the profiler; its seconds, which are more than without.

    Leaves ``hN.xplane.pb`` (for xprof) and ``hN.ops.json`` (the scope of each instruction) in ``runs_folder(folder)``.

    Args:
        engine, inputs_T: as for ``Engine.dispatch``.
        host: number of this host.
        begin: called when the profiler listens: to wait for the other hosts.
    """
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # Python's own calls are many, and none of them is part of a pass
    here = folder / f"h{host}"
    with _emptied(here):
        with jax.profiler.trace(str(here), profiler_options=options):
            begin()
            begun = time.perf_counter()
            with jax.profiler.TraceAnnotation(PASS):
                jax.block_until_ready(engine.dispatch(inputs_T))
            seconds = time.perf_counter() - begun
        runs_folder(folder).mkdir(parents=True, exist_ok=True)
        (written,) = here.rglob("*.xplane.pb")
        written.replace(runs_folder(folder) / f"h{host}.xplane.pb")
    ops = scopes_of(engine.program_text(len(inputs_T)))
    (runs_folder(folder) / f"h{host}.ops.json").write_text(json.dumps(ops))
    return seconds


@contextlib.contextmanager
def truly_named() -> Iterator[None]:
    """Programs compiled inside keep their own scopes; a kept program may have those of an older version."""
    name = "jax_compilation_cache_include_metadata_in_key"
    before = jax.config.values[name]
    jax.config.update(name, True)
    try:
        yield
    finally:
        jax.config.update(name, before)


@contextlib.contextmanager
def _emptied(folder: Path) -> Iterator[None]:
    """A folder that holds nothing before and is gone after."""
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
