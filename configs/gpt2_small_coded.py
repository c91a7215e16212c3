"""The GPT-2 of gpt2_small_from_scratch.py trained on for coded context on any of 2 to 8 devices.

Command:   python -m train.gpt2_small_from_scratch configs/gpt2_small_coded.py
Time:      about half an hour on one core (Cascade Lake, 2.5 GHz), 5 to 6 s a step beside another job
Result:    perplexity +0.6 % on four devices and +1.4 % on eight, against its own single device (docs/results.md)
"""

from pathlib import Path

from thinwire.training.calibrate import CalibrationJob
from thinwire.training.loop import Pace
from thinwire.training.optimiser import Optimiser
from thinwire.training.recipe import Recipe
from thinwire.training.session import Session
from thinwire.training.text_run import TextRun

CONFIG = TextRun(
    session=Session(Path("runs/gpt2_small_coded")),
    out=Path("trained/gpt2-small-coded"),
    start=Path("trained/gpt2-small"),
    recipe=Recipe("sequence:vq:groups=16:size=256:site=x", devices=(2, 4, 8), noise=1.0),
    optimiser=Optimiser(rate=3e-4, steps=300, warmup=30),
    model="scratch",
    train="weights",
    texts=("wikipedia-excerpt", "moby-dick"),
    tokens=512,
    held_out=16,
    calibration=CalibrationJob(windows=32, window=512, rows=16384),
    pace=Pace(batch=8, log_every=20, save_every=100, evaluate_every=100),
)
