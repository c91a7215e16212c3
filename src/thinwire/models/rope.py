"""Rotary frequencies, with the stretching of Llama 3.1."""

import functools
import math

import numpy as np
from jaxtyping import Float

from thinwire.models.llama_config import LlamaConfig


@functools.cache
def rope_frequencies(config: LlamaConfig) -> Float[np.ndarray, " pairs"]:
    """Radians per position of each rotated pair, (d/2,) float32.

    With ``rope_scaling``, waves longer than the original context are slowed by ``factor``, short ones kept, and those
    between blended [Llama 3.1 reference, as Hugging Face's ``rope_type="llama3"``].
    """
    frequency = config.rope_theta ** (-np.arange(0, config.d, 2, dtype=np.float64) / config.d)
    scaling = config.rope_scaling
    if scaling is not None:
        turns = scaling.original_context * frequency / (2 * math.pi)
        blend = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
        blend = np.clip(blend, 0.0, 1.0)
        frequency = (1 - blend) * frequency / scaling.factor + blend * frequency
    return frequency.astype(np.float32)
