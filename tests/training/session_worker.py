"""Trains the tiny model in a folder, slowly enough to be killed: python session_worker.py FOLDER [resume]."""

import sys
import time
from pathlib import Path

STEPS = 12


def main(folder: Path, resume: bool, pause: float = 0.0) -> None:
    from thinwire.training.loop import Pace
    from thinwire.training.recipe import Recipe
    from thinwire.training.session import Session, run_session
    from training_setups import state_of, text_setup, texts

    setup = text_setup(Recipe("sequence:vq:groups=4:size=16", devices=(2,)), steps=STEPS)
    session = Session(folder, resume=resume)
    pace = Pace(batch=2, log_every=1, save_every=2)
    wait = lambda step, record: time.sleep(pause)
    run_session(session, {"steps": STEPS}, {}, setup, state_of(setup), texts(setup, 2), pace, progress=wait)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] == ["resume"], pause=0.3)
