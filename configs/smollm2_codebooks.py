"""Codebooks for SmolLM2-135M: everything that docs/results.md needs, from one pass over the calibration articles.

Command:   python -m train.codebooks configs/smollm2_codebooks.py
Time:      26 s to read, then about a minute a set (two cores, Ice Lake, 2.8 GHz), two for 16 groups of 1024
Result:    in the cache, with figures on rows held out. The residual variance, over the variance, falls with the bits:
           most for 1 group, least for 48.
"""

from thinwire.training.jobs import CodebookRun

CONFIG = CodebookRun(
    model="smollm2-135m",
    strategies=(
        "sequence:vq:groups=1",
        "sequence:vq:groups=16",
        "sequence:vq:groups=32:size=256",
        "sequence:vq:groups=16:site=x",
        "sequence:quality",
        "sequence:balanced",
        "sequence:extreme",
    ),
)
