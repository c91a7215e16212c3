"""Is this machine fit for thinwire, alone or as one of several hosts? Each check says what it found and what to do."""

import contextlib
import importlib.util
import os
import platform
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from thinwire.errors import ThinwireError
from thinwire.weights.cache import cache_dir

Status = Literal["ok", "warning", "problem"]

# From the version that is needed up to, and without, the first that nobody has tried.
SUPPORTED = {
    "python": ("3.11", "3.15"),
    "jax": ("0.10", "0.13"),
    "jaxlib": ("0.10", "0.13"),
    "flax": ("0.12", "0.13"),
    "orbax-checkpoint": ("0.12.8", "0.13"),
}
OPTIONAL = {"huggingface_hub": "models by Hub id need it: pip install 'thinwire[hub]'"}


@dataclass(frozen=True)
class Check:
    """One thing looked at."""

    name: str
    status: Status
    found: str
    advice: str = ""  # what to do, where it is not ok


def examine(speed: bool = True) -> list[Check]:
    """Every check, in the order in which a user would want to solve them; `speed` measures for a second or two."""
    checks = [check_version("python", platform.python_version())]
    checks += [check_version(name, _installed(name)) for name in SUPPORTED if name != "python"]
    checks += [check_devices(), check_cores(), check_memory(_available_bytes()), check_cache(), check_pip()]
    checks += [check_optional(name) for name in OPTIONAL]
    checks.append(check_hostname())
    if speed:
        checks.append(check_speed())
    return checks


def check_version(name: str, installed: str | None) -> Check:
    """An installed version against the range that is supported."""
    low, high = SUPPORTED[name]
    wanted = f"thinwire needs {low} or newer and is tried below {high}"
    if installed is None:
        return Check(name, "problem", "not installed", f"pip install '{name}>={low}'")
    if _numbers(installed) < _numbers(low):
        way = "use a newer interpreter" if name == "python" else f"pip install --upgrade '{name}>={low}'"
        return Check(name, "problem", f"{installed} is too old", f"{way} ({wanted})")
    if _numbers(installed) >= _numbers(high):
        return Check(
            name, "warning", installed, f"newer than what thinwire is tried with: if it fails, use {name}<{high}"
        )
    return Check(name, "ok", installed)


def check_devices() -> Check:
    """What jax computes on."""
    try:
        import jax

        devices = jax.devices()
    except Exception as error:  # whatever a broken installation throws
        why = " ".join(str(error).split())[:200]
        advice = "unset JAX_PLATFORMS, or install the jax that fits your accelerator"
        return Check("devices", "problem", f"jax finds none ({type(error).__name__}: {why})", advice)
    kind = devices[0].device_kind
    found = f"{len(devices)} × {devices[0].platform}" + ("" if kind == devices[0].platform else f" ({kind})")
    if devices[0].platform == "cpu" and Path("/dev/nvidia0").exists():
        return Check("devices", "warning", found, "a GPU is here but jax does not see it: pip install 'jax[cuda13]'")
    return Check("devices", "ok", found)


def check_cores() -> Check:
    """How many cores this process may use."""
    there = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    quota = _cpu_quota()
    found = f"{usable} of {there} usable" + (f", limited to the time of {quota:.3g}" if quota else "")
    if quota is not None and quota < usable:
        advice = (
            "a container's limit is below the number of cores: expect stalls, raise the limit or pin to fewer cores"
        )
        return Check("cores", "warning", found, advice)
    return Check("cores", "ok", found)


def check_memory(available: float | int | None) -> Check:
    """Memory that is free for us."""
    if available is None:
        return Check("memory", "ok", "unknown")
    found = f"{available / 1e9:.1f} GB available"
    if available < 1e9:
        return Check(
            "memory",
            "problem",
            found,
            "SmolLM2-135M in float32 needs about 2 GB: close something or use a larger machine",
        )
    if available < 3e9:
        return Check(
            "memory", "warning", found, "enough for short prompts: use fewer tokens if the system stops the process"
        )
    return Check("memory", "ok", found)


def check_cache() -> Check:
    """Whether models can be kept."""
    try:
        folder = cache_dir()
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
        free = shutil.disk_usage(folder).free
    except ThinwireError as error:
        return Check("cache", "problem", *str(error).partition(": ")[::2])
    except OSError as error:
        advice = "make it writable, or set THINWIRE_CACHE to another folder"
        return Check(
            "cache", "problem", f"cannot write to {error.filename or 'the cache folder'} ({error.strerror})", advice
        )
    found = f"{folder}, {free / 1e9:.1f} GB free"
    if free < 1e9:
        return Check("cache", "warning", found, "free some space, or set THINWIRE_CACHE to a folder on another disk")
    return Check("cache", "ok", found)


def check_pip() -> Check:
    """`thinwire fetch` downloads through pip."""
    version = _installed("pip") if importlib.util.find_spec("pip") else None
    if version is None:
        return Check("pip", "warning", "missing", "`thinwire fetch` needs it: python -m ensurepip")
    return Check("pip", "ok", version)


def check_optional(name: str) -> Check:
    """A package that only some uses need."""
    version = _installed(name)
    return Check(name, "ok", version or f"not installed (optional: {OPTIONAL[name]})")


def check_hostname(resolve: Callable[[str], list[str]] | None = None) -> Check:
    """Several hosts: gloo listens at the address that this host's own name resolves to; loopback cannot be reached."""
    name = socket.gethostname()
    try:
        addresses = (resolve or _resolve)(name)
    except OSError:
        addresses = []
    fix = f"for runs over several hosts put '<this host's LAN address> {name}' into /etc/hosts"
    if not addresses:
        return Check("host name", "warning", f"{name} does not resolve, so processes here cannot find each other", fix)
    found = f"{name} is {', '.join(addresses)}"
    if ip_address(addresses[0].partition("%")[0]).is_loopback:
        advice = f"others cannot reach a loopback address: {fix}, in place of the line with {addresses[0]}"
        return Check("host name", "warning", found, advice)
    return Check("host name", "ok", found)


def check_speed(size: int = 1024, budget_s: float = 1.0) -> Check:
    """The rate of float32 matrix products, which every prediction of latency rests on."""
    try:
        rate = gemm_flops_per_second(size, budget_s)
    except Exception as error:  # check_devices says more
        return Check("speed", "problem", f"a matrix product fails ({type(error).__name__})", "see devices above")
    found = f"{rate / 1e9:,.0f} GFLOP/s (float32, {size}×{size}×{size})"
    if rate < 5e9:
        return Check("speed", "warning", found, "slow for one core: is the machine busy or throttled?")
    return Check("speed", "ok", found)


def gemm_flops_per_second(size: int = 1024, budget_s: float = 1.0) -> float:
    """Measure a float32 product of two size × size matrices on jax's first device, the best within the budget."""
    import jax
    import jax.numpy as jnp

    a = jax.random.normal(jax.random.key(0), (size, size), jnp.float32)
    product = jax.jit(lambda x: x @ x)
    product(a).block_until_ready()
    best, end = float("inf"), time.perf_counter() + budget_s
    while True:
        begin = time.perf_counter()
        product(a).block_until_ready()
        now = time.perf_counter()
        best = min(best, now - begin)
        if now > end:
            return 2 * size**3 / best


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """`0.12.8rc1` as (0, 12, 8)."""
    numbers = []
    for part in version.split("+")[0].split("."):
        leading = re.match(r"\d+", part)
        if not leading:
            break
        numbers.append(int(leading.group()))
        if leading.group() != part:
            break
    return tuple(numbers)


def _resolve(name: str) -> list[str]:
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _available_bytes() -> float | None:
    """What the system would give us, or less where a container's limit says so."""
    limits = []
    with contextlib.suppress(OSError, AttributeError):
        words = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        limits.append(int(words.group(1)) * 1024.0 if words else 0.0)
    if not limits and sys.platform != "win32":
        with contextlib.suppress(OSError, ValueError):
            limits.append(float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE"))
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        with contextlib.suppress(OSError, ValueError):
            limits.append(float(Path(limit).read_text()) - float(Path(used).read_text()))
    return min(limits, default=None)


def _cpu_quota() -> float | None:
    """The cores' worth of time that a container may use, None where it is not limited."""
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return float(quota) / float(period)  # "max" is no number
    with contextlib.suppress(OSError, ValueError):
        folder = Path("/sys/fs/cgroup/cpu")
        quota = float((folder / "cpu.cfs_quota_us").read_text())
        return quota / float((folder / "cpu.cfs_period_us").read_text()) if quota > 0 else None
    return None
