"""A larger vision Transformer for Fashion-MNIST, on the single device, from pretrained weights.

The first six layers of a DINOv2 ViT-S/14, given patches of 7 by 7 grey pixels and a new head, and an adapter of 16
ranks to learn: 20 times the work of vit_fashion_mnist.py a step.

Command:   python -m train.vit_fashion_mnist configs/vit_pretrained.py
Result:    not run to its end yet.
"""

from pathlib import Path

from thinwire.training.adapters import LoRA
from thinwire.training.image_run import ImageRun
from thinwire.training.loop import Pace
from thinwire.training.optimiser import Optimiser
from thinwire.training.recipe import Recipe
from thinwire.training.session import Session

CONFIG = ImageRun(
    session=Session(Path("runs/vit_pretrained")),
    out=Path("trained/vit-pretrained"),
    recipe=Recipe("single", devices=(1,), noise=0.0),
    optimiser=Optimiser(rate=3e-4, steps=2500, warmup=100),
    model="vit-s14-focus:layers=6:patch=7:side=28:colours=1:classes=10",
    train="adapter",
    lora=LoRA(rank=16, alpha=32.0, targets=("attention", "mlp", "top")),
    pace=Pace(batch=64, log_every=20, save_every=250, evaluate_every=250),
)
