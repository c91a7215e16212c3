"""What eval.ablate varies: vit_fashion_mnist_coded.py on four devices only, and shorter.

Command:   python -m eval.ablate configs/vit_fashion_mnist_ablation.py --folder runs/ablate --json ablate.json
"""

from pathlib import Path

from thinwire.data.augment import Augment
from thinwire.training.image_run import ImageRun
from thinwire.training.loop import Pace
from thinwire.training.optimiser import Optimiser
from thinwire.training.recipe import Recipe
from thinwire.training.session import Session

CONFIG = ImageRun(
    session=Session(Path("runs/vit_fashion_mnist_ablation")),
    out=Path("trained/vit-fashion-mnist-ablation"),
    start=Path("trained/vit-fashion-mnist"),
    recipe=Recipe("sequence:vq:groups=16:size=64:site=x", devices=(4,), commitment=2e-4, noise=1.0),
    optimiser=Optimiser(rate=4e-4, steps=400, warmup=30),
    augment=Augment(flip=True, erase=0.25),
    pace=Pace(batch=64, log_every=50, save_every=0, evaluate_every=0),
)
