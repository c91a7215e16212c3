"""A small GPT-2 that reads bytes of Wikipedia articles and of Moby Dick, from scratch, on the single device.

Command:   python -m train.gpt2_small_from_scratch configs/gpt2_small_from_scratch.py
Time:      about an hour and a half on one core (Cascade Lake, 2.5 GHz), 2.5 s a step beside another job
Result:    perplexity 6.01 a byte of held-out text; nothing but pairs of bytes is learnt in the first 700 steps
"""

from pathlib import Path

from thinwire.training.loop import Pace
from thinwire.training.optimiser import Optimiser
from thinwire.training.recipe import Recipe
from thinwire.training.session import Session
from thinwire.training.text_run import TextModel, TextRun

CONFIG = TextRun(
    session=Session(Path("runs/gpt2_small")),
    out=Path("trained/gpt2-small"),
    recipe=Recipe("single", devices=(1,), noise=0.0),
    optimiser=Optimiser(rate=1e-3, steps=2000, warmup=100),
    model="scratch",
    sizes=TextModel(width=192, layers=4, heads=6, context=512),
    train="weights",
    texts=("wikipedia-excerpt", "moby-dick"),
    tokens=512,
    held_out=16,
    pace=Pace(batch=8, log_every=20, save_every=200, evaluate_every=500),
)
