r"""Trains an adapter and codebooks with which a language model lives with coded context.

    python -m train.lm_smollm2_adapter configs/lm_smollm2_adapter.py
    python -m train.lm_smollm2_adapter configs/lm_smollm2_adapter.py \
        --recipe.strategy sequence:extreme --session.folder runs/extreme --out trained/smollm2-extreme
"""

import sys

from train.shown import command_of, shown, tell

from thinwire.cli import main
from thinwire.training.jobs import read_config
from thinwire.training.text_run import TextRun, train_text


def run(arguments: list[str], name: str = "train.lm_smollm2_adapter") -> int:
    """Trains what the configuration asks for."""
    config = read_config(TextRun, arguments, f"python -m {name}")
    with shown(config.optimiser.steps) as progress:
        made = train_text(config, command_of(name, arguments), progress)
    tell(made, config.out)
    return 0


if __name__ == "__main__":
    sys.exit(main.guarded(lambda: run(sys.argv[1:])))
