"""A small vision Transformer for Fashion-MNIST, from scratch, on the single device.

The first of three parts: vit_fashion_mnist_in_place.py and vit_fashion_mnist_erased.py go on from it.

Command:   python -m train.vit_fashion_mnist configs/vit_fashion_mnist.py
Time:      45 to 75 minutes on one core, at 4 to 7 steps a second
Result:    91.57 % of the test images
"""

from pathlib import Path

from thinwire.training.image_run import ImageModel, ImageRun
from thinwire.training.loop import Pace
from thinwire.training.optimiser import Optimiser
from thinwire.training.recipe import Recipe
from thinwire.training.session import Session

CONFIG = ImageRun(
    session=Session(Path("runs/vit_fashion_mnist")),
    out=Path("trained/vit-fashion-mnist-shifted"),
    recipe=Recipe("single", devices=(1,), noise=0.0),
    optimiser=Optimiser(rate=2e-3, steps=18000, warmup=300),
    sizes=ImageModel(width=96, layers=5, heads=4, hidden=288, patch=7, stem=16),
    pace=Pace(batch=64, log_every=50, save_every=1000, evaluate_every=1000),
)
