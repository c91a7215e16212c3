"""Codebooks for SmolLM2-135M: everything that docs/results.md needs, from one pass over the calibration articles.

Command:   python -m train.codebooks configs/smollm2_codebooks.py
Time:      about three minutes to read, then one to two minutes a set (two cores, Ice Lake, 2.8 GHz)
Result:    in the cache, with figures on rows held out. The residual variance, over the variance, falls with the bits:
           most for 1 group, least for 48. What a run that was killed has learnt is kept; the same command goes on.
"""

from thinwire.training.calibrate import CalibrationJob
from thinwire.training.jobs import CodebookRun

CONFIG = CodebookRun(
    model="smollm2-135m",
    job=CalibrationJob(windows=24, rows=24576),
    strategies=(
        "sequence:quality",
        "sequence:quality:rotate=joint",
        "sequence:balanced",
        "sequence:balanced:axes=0",
        "sequence:balanced:rotate=joint",
        "sequence:pvq:groups=12:size=32:rotate=fisher",
        "sequence:extreme",
        "sequence:vq:groups=32:size=256",
        "sequence:vq:groups=32:size=256:site=norm",
        "sequence:vq:groups=32:size=256:site=x",
        "sequence:lowrank:dims=30",
        "sequence:vq:groups=1",
        "sequence:paper",
    ),
)
