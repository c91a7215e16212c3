r"""The vision Transformer of vit_fashion_mnist_erased.py trained on for coded context, as ASTRA is.

Straight-through grouped VQ with EMA codebooks, a commitment loss, noise of the residual, a class token on every device;
two, four or eight devices by turns, so that one artefact serves all of them.

Command:   python -m train.vit_fashion_mnist configs/vit_fashion_mnist_coded.py
           python -m train.vit_fashion_mnist configs/vit_fashion_mnist_coded.py \
               --recipe.strategy sequence:vq:groups=1:site=x --session.folder runs/vit_g1 --out trained/vit-g1
Time:      8 minutes of one core
Result:    92.22 % of the test images on four devices, 92.37 % on one
"""

from pathlib import Path

from thinwire.data.augment import Augment
from thinwire.training.image_run import ImageRun
from thinwire.training.loop import Pace
from thinwire.training.optimiser import Optimiser
from thinwire.training.recipe import Recipe
from thinwire.training.session import Session

CONFIG = ImageRun(
    session=Session(Path("runs/vit_fashion_mnist_coded")),
    out=Path("trained/vit-fashion-mnist-g16"),
    start=Path("trained/vit-fashion-mnist"),
    recipe=Recipe("sequence:vq:groups=16:size=64:site=x", devices=(2, 4, 8), commitment=2e-4, noise=1.0),
    optimiser=Optimiser(rate=3e-4, steps=1000, warmup=50),
    augment=Augment(flip=True, erase=0.25),
    pace=Pace(batch=64, log_every=50, save_every=500, evaluate_every=0),
)
