"""An adapter and codebooks for SmolLM2-135M on four devices in less than 8 MB, by self-distillation.

116 bits a token and layer: `balanced` with smaller products (a bottleneck, fewer axes), stored in eight bits.

Command:   python -m train.lm_smollm2_adapter configs/lm_smollm2_compact.py
Time:      about half an hour on one core (Ice Lake, 2.8 GHz), 20 minutes of it for the 24 steps
Result:    in trained/smollm2-compact, 6.8 MB; docs/results.md has its perplexity
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
    session=Session(Path("runs/lm_smollm2_compact")),
    out=Path("trained/smollm2-compact"),
    recipe=Recipe(
        "sequence:pvq:groups=24:size=32:rank=128:rotate=fisher:bottleneck=160:axes=72",
        devices=(4,),
        commitment=0.0,
        noise=0.0,
        distil=1.0,
    ),
    optimiser=Optimiser(rate=3e-4, steps=24, warmup=2, decay=0.0),
    lora=LoRA(rank=2, alpha=4.0),
    tokens=512,
    calibration=CalibrationJob(windows=48, rows=24576),
    pace=Pace(batch=2, parts=1, log_every=1, save_every=0),
    eight_bits=True,
)
