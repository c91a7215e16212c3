"""Codebooks for SmolLM2-135M: presets whose errors are scaled by what predictions feel of them, and the same without.

Command:   python -m train.codebooks configs/smollm2_rotations.py
Time:      about three minutes to read, then one to two minutes a set (two cores, Ice Lake, 2.8 GHz)
Result:    in the cache. `python -m eval.results --only rotations,halo` evaluates them.
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
        "sequence:balanced:rotate=joint",
        "sequence:pvq:groups=12:size=32:rotate=fisher",
    ),
)
