"""An adapter and codebooks for SmolLM2-135M on four devices, by self-distillation.

116 bits a token and layer (`balanced`).

Command:   python -m train.lm_smollm2_adapter configs/lm_smollm2_adapter.py
Time:      47 minutes on one core (Ice Lake, 2.8 GHz) beside another job
Result:    +0.30 % perplexity on held-out text against its own single device, which is 0.4 % worse than before
           (with all axes coded, as `sequence:balanced:axes=0` does)
"""

from pathlib import Path

from thinwire.training.adapters import LoRA
from thinwire.training.calibrate import CalibrationJob
from thinwire.training.loop import Pace
from thinwire.training.optimiser import Optimiser
from thinwire.training.recipe import Recipe
from thinwire.training.session import Session
from thinwire.training.text_run import TextRun

CONFIG = TextRun(
    session=Session(Path("runs/lm_smollm2_adapter")),
    out=Path("trained/smollm2-balanced"),
    recipe=Recipe("sequence:balanced", devices=(4,), commitment=0.0, noise=0.0, distil=1.0),
    optimiser=Optimiser(rate=1e-3, steps=72, warmup=5, decay=0.0),
    lora=LoRA(rank=8, alpha=16.0),
    tokens=512,
    calibration=CalibrationJob(windows=48, rows=24576),
    pace=Pace(batch=2, parts=1, log_every=1, save_every=20),
)
