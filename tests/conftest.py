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
# Rooms whose cases each compile programs: of a test with several the first, fourth, seventh ... are run by `make test`,
# all by `make thorough`.
COMPILED = {
    *("attention", "kernels", "models", "processes", "strategies", "wire"),
    *("test_generation.py", "training/test_coded.py", "training/test_step.py", "evaluation/test_lost.py"),
}
SHOWN = 3


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


@pytest.hookimpl(tryfirst=True)  # markers are chosen by afterwards
def pytest_collection_modifyitems(config, items):
    here = Path(__file__).parent
    each, (turn, of) = config.getoption("--one-case-in"), config.getoption("--share")
    seen: dict[str, int] = {}
    kept, left_out = [], []
    for item in items:
        path, name = item.path.relative_to(here), item.nodeid.partition("[")[0]
        room = path.parts[0]
        case = seen[name] = seen.get(name, -1) + 1
        if room in ONCE:
            item.add_marker(pytest.mark.once)
        if case % SHOWN and not COMPILED.isdisjoint((room, path.as_posix())):
            item.add_marker(pytest.mark.thorough)
        mine = case % each == 0 and zlib.crc32(item.nodeid.encode()) % of == turn
        (kept if mine else left_out).append(item)
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


@pytest.fixture
def key():
    return jax.random.key(0)
