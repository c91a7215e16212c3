"""Learns codebooks from text, without changing the model.

    python -m train.codebooks configs/smollm2_codebooks.py
    python -m train.codebooks configs/smollm2_codebooks.py --job.windows 24 --strategies sequence:vq:groups=8

Sets that the same job has learnt from the same text are left as they are. ``thinwire calibrate`` does the same for
options instead of a file, and learns anew.
"""

import dataclasses
import sys

from thinwire.cli import console, inputs, main
from thinwire.cli.calibrate import tell
from thinwire.codebooks.store import load as load_codebooks
from thinwire.errors import ThinwireError
from thinwire.strategies import Strategy, parse_strategy
from thinwire.training.calibrate import codebook_path
from thinwire.training.jobs import CodebookRun, read_config
from thinwire.weights.load import LoadedModel


def run(arguments: list[str]) -> int:
    """Learns and saves what the configuration asks for."""
    config = read_config(CodebookRun, arguments, "python -m train.codebooks")
    strategies = list(dict.fromkeys(parse_strategy(spec) for spec in config.strategies))
    if config.out is not None and len(strategies) > 1:
        raise ThinwireError(f"out is one folder and there are {len(strategies)} strategies; learn them one by one.")
    inputs.check_devices(config.devices)
    inputs.check_amount(config.job.window, config.job.windows)
    model = inputs.open_model(config.model)
    there = [s for s in strategies if config.out is None and is_learnt(model, s, config)]
    for strategy in there:
        console.remark(f"{strategy.spec()}: learnt already, in {codebook_path(model, strategy, config.devices)}")
    missing = [s for s in strategies if s not in there]
    if not missing:
        return 0
    found = inputs.calibrate(model, missing, config.devices, config.job, config.text, config.out)
    for strategy, saved in found.items():
        tell(strategy.spec(), saved, config.out or codebook_path(model, strategy, config.devices))
    return 0


def is_learnt(model: LoadedModel, strategy: Strategy, config: CodebookRun) -> bool:
    """Whether the cache has what this job would learn from this text."""
    place = codebook_path(model, strategy, config.devices)
    if not place.exists():
        return False
    data = load_codebooks(place).manifest.data
    return (data.get("source"), data.get("job")) == (config.text, dataclasses.asdict(config.job))


if __name__ == "__main__":
    sys.exit(main.guarded(lambda: run(sys.argv[1:])))
