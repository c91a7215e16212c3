"""Trains a vision Transformer to tell images apart, and on from there with coded context.

    python -m train.vit_fashion_mnist configs/vit_fashion_mnist.py
    python -m train.vit_fashion_mnist configs/vit_fashion_mnist_coded.py
    python -m train.vit_fashion_mnist configs/vit_fashion_mnist_coded.py --session.resume

Any set of images with labels will do (``--data FOLDER``), in idx files or in CIFAR-100's binary layout.
"""

import sys

from train.shown import command_of, shown, tell

from thinwire.cli import main
from thinwire.training.image_run import ImageRun, train_images
from thinwire.training.jobs import read_config


def run(arguments: list[str]) -> int:
    """Trains what the configuration asks for."""
    config = read_config(ImageRun, arguments, "python -m train.vit_fashion_mnist")
    with shown(config.optimiser.steps) as progress:
        made = train_images(config, command_of("train.vit_fashion_mnist", arguments), progress)
    tell(made, config.out)
    return 0


if __name__ == "__main__":
    sys.exit(main.guarded(lambda: run(sys.argv[1:])))
