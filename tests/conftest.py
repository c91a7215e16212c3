"""Strict JAX for every test: eight CPU devices, no silent promotion of dtypes or ranks."""

import os
import zlib
from pathlib import Path

from compiling import FLAGS

os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}".strip()
# Compiled programs are not kept: a test must not find what another has compiled.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


# Rooms whose tests run on one version of Python only (see .ci/run): what they need of JAX the others try on both.
ONCE = {"evaluation", "training", "weights", "reports", "planning", "cluster", "benchmark", "codebooks", "data"}


def pytest_addoption(parser):
    parser.addoption(
        "--one-case-in", type=int, default=1, metavar="N", help="of each parametrised test run 1 of N cases"
    )
    parser.addoption(
        "--share", type=_share, default=(0, 1), metavar="K/N", help="run one test in N, those of turn K, by their names"
    )


def _share(text: str) -> tuple[int, int]:
    turn, of = map(int, text.split("/"))
    return turn % of, of


def pytest_collection_modifyitems(config, items):
    here = Path(__file__).parent
    for item in items:
        if item.path.relative_to(here).parts[0] in ONCE:
            item.add_marker(pytest.mark.once)
    each, (turn, of) = config.getoption("--one-case-in"), config.getoption("--share")
    seen: dict[str, int] = {}
    kept, left_out = [], []
    for item in items:
        name = item.nodeid.partition("[")[0]
        seen[name] = seen.get(name, -1) + 1
        mine = seen[name] % each == 0 and zlib.crc32(item.nodeid.encode()) % of == turn
        (kept if mine else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


@pytest.fixture
def key():
    return jax.random.key(0)
