"""Codebooks for SmolLM2-135M with parts of ``balanced`` left out: what docs/results.md says that each part brings.

Command:   python -m train.codebooks configs/smollm2_parts.py
Time:      about 90 s to read, then one to two minutes a set (two cores, Ice Lake, 2.8 GHz)
Result:    in the cache. `python -m eval.results --only parts` evaluates them beside the whole of ``balanced``.
"""

from thinwire.training.calibrate import CalibrationJob
from thinwire.training.jobs import CodebookRun

CONFIG = CodebookRun(
    model="smollm2-135m",
    job=CalibrationJob(windows=24, rows=24576),
    strategies=(
        "sequence:balanced",
        "sequence:balanced:layer0=coded",
        "sequence:balanced:rank=0",
        "sequence:balanced:below=0",
        "sequence:balanced:rotate=joint",
        "sequence:balanced:rotate=apart:axes=0",
        "sequence:balanced:rotate=none:axes=0",
    ),
)
