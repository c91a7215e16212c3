"""Learns codebooks from text, without changing the model.

    python -m train.codebooks configs/smollm2_codebooks.py
    python -m train.codebooks configs/smollm2_codebooks.py --job.windows 24 --strategies sequence:vq:groups=8

``thinwire calibrate`` does the same for options instead of a file.
"""

import sys

from thinwire.cli import inputs, main
from thinwire.cli.calibrate import tell
from thinwire.errors import ThinwireError
from thinwire.strategies import parse_strategy
from thinwire.training.calibrate import codebook_path
from thinwire.training.jobs import CodebookRun, read_config


def run(arguments: list[str]) -> int:
    """Learns and saves what the configuration asks for."""
    config = read_config(CodebookRun, arguments, "python -m train.codebooks")
    strategies = list(dict.fromkeys(parse_strategy(spec) for spec in config.strategies))
    if config.out is not None and len(strategies) > 1:
        raise ThinwireError(f"out is one folder and there are {len(strategies)} strategies; learn them one by one.")
    inputs.check_devices(config.devices)
    inputs.check_amount(config.job.window, config.job.windows)
    model = inputs.open_model(config.model)
    found = inputs.calibrate(model, strategies, config.devices, config.job, config.text, config.out)
    for strategy, saved in found.items():
        tell(strategy.spec(), saved, config.out or codebook_path(model, strategy, config.devices))
    return 0


if __name__ == "__main__":
    sys.exit(main.guarded(lambda: run(sys.argv[1:])))
