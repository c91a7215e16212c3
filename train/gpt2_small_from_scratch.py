"""Trains a small GPT-2 that reads bytes, from scratch, and on from there with coded context.

python -m train.gpt2_small_from_scratch configs/gpt2_small_from_scratch.py
python -m train.gpt2_small_from_scratch configs/gpt2_small_coded.py
"""

import sys

from train.lm_smollm2_adapter import run

from thinwire.cli import main

if __name__ == "__main__":
    sys.exit(main.guarded(lambda: run(sys.argv[1:], "train.gpt2_small_from_scratch")))
