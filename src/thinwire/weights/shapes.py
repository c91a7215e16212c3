"""``shape:NAME``: the dimensions of well-known models with seeded random weights, to time what cannot be downloaded."""

import dataclasses
import math
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from thinwire.errors import ThinwireError
from thinwire.models.bert_config import BertConfig
from thinwire.models.families import FAMILIES, Config
from thinwire.models.gpt2_config import GPT2Config
from thinwire.models.initial import GAINS
from thinwire.models.llama_config import LlamaConfig, RopeScaling
from thinwire.models.vit_config import ViTConfig

_LLAMA3 = {"V": 128256, "context": 131072, "rope_theta": 500000.0}
_SMOLLM2 = {"d": 64, "V": 49152, "context": 8192, "rope_theta": 100000.0}

SHAPES: dict[str, Config] = {
    "llama-tiny": LlamaConfig(D=64, L=2, H=4, K=2, d=16, F=160, V=256, context=2048),
    "smollm2-135m": LlamaConfig(D=576, L=30, H=9, K=3, F=1536, **_SMOLLM2),
    "smollm2-360m": LlamaConfig(D=960, L=32, H=15, K=5, F=2560, **_SMOLLM2),
    "llama-1b": LlamaConfig(
        D=2048, L=16, H=32, K=8, d=64, F=8192, rope_scaling=RopeScaling(32.0, 1.0, 4.0, 8192), **_LLAMA3
    ),
    "llama-8b": LlamaConfig(
        D=4096, L=32, H=32, K=8, d=128, F=14336, tied=False, rope_scaling=RopeScaling(8.0, 1.0, 4.0, 8192), **_LLAMA3
    ),
    "vit-base": ViTConfig(D=768, L=12, H=12, F=3072, patch=16, grid=(14, 14)),
    "vit-large": ViTConfig(D=1024, L=24, H=16, F=4096, patch=16, grid=(14, 14)),
    "gpt2": GPT2Config(D=768, L=12, H=12, F=3072, V=50257, context=1024),
    "gpt2-medium": GPT2Config(D=1024, L=24, H=16, F=4096, V=50257, context=1024),
    "bert-base": BertConfig(D=768, L=12, H=12, F=3072, V=30522, context=512),
    "bert-large": BertConfig(D=1024, L=24, H=16, F=4096, V=30522, context=512),
}

_POOL = 2**24 - 3  # random numbers drawn; a prime, so that no rows of a matrix are alike
MOST_LAYERS = 1000
_STD = 0.02  # as most models are initialised: activations stay of order one


def shape_config(name: str) -> Config | None:
    """The configuration of ``NAME``, or of ``NAME:layers=N`` with another number of layers; None for no known name.

    Raises:
        ThinwireError: the number of layers is none.
    """
    name, asked, layers = name.partition(":layers=")
    config = SHAPES.get(name)
    if config is None or not asked:
        return config
    if not (layers.isdecimal() and 1 <= int(layers) <= MOST_LAYERS):
        raise ThinwireError(f"shape:{name}:layers={layers} needs 1 to {MOST_LAYERS} layers; write it as layers=4.")
    return dataclasses.replace(config, L=int(layers))  # type: ignore[type-var]


def random_params(config: Config, seed: int = 0) -> dict:
    """A parameter tree of float32 normal(0, 0.02) matrices and biases and unit gains, the same on every machine.

    Billions of draws would take a minute, so large models repeat a pool of 16.8 million, each array from another place.

    Raises:
        ThinwireError: the machine has less memory than the weights need.
    """
    shapes = FAMILIES[config.family].param_shapes(config)
    need = 4 * sum(math.prod(s) for s in [*shapes["layers"].values(), *(v for k, v in shapes.items() if k != "layers")])
    have = _memory_bytes()
    if need > have:
        raise ThinwireError(
            f"weights of this shape need {need / 2**30:.0f} GiB of memory in float32, and this machine has "
            f"{have / 2**30:.0f} GiB: choose a smaller shape"
        )
    jobs: list[np.ndarray] = []

    def make(tree: dict, layers: bool = False) -> dict:
        out = {}
        for name, shape in tree.items():
            if isinstance(shape, dict):
                out[name] = make(shape, layers=True)
            elif name.endswith(GAINS):
                out[name] = np.ones(shape, np.float32)
            else:
                out[name] = np.empty(shape, np.float32)
                jobs.extend(out[name] if layers else [out[name]])  # one job a layer
        return out

    params = make(shapes)
    rng = np.random.Generator(np.random.SFC64(seed))
    drawn = rng.standard_normal(min(_POOL, sum(job.size for job in jobs)), np.float32) * np.float32(_STD)

    def fill(array: np.ndarray, at: int) -> None:
        flat, done = array.reshape(-1), 0
        while done < flat.size:
            n = min(flat.size - done, drawn.size - at)
            flat[done : done + n] = drawn[at : at + n]
            done, at = done + n, 0

    starts = rng.integers(drawn.size, size=len(jobs)).tolist()
    with ThreadPoolExecutor(max(1, os.cpu_count() or 1)) as pool:
        list(pool.map(fill, jobs, starts))
    return params


def _memory_bytes() -> float | int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # no POSIX: let the allocation decide
        return math.inf
