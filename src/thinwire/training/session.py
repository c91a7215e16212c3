"""A run of training as a user sees it: a folder with checkpoints and figures, a bar, and a way to go on."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from thinwire.codebooks import store
from thinwire.engine import Codecs
from thinwire.errors import ThinwireError
from thinwire.strategies import Strategy
from thinwire.training import calibrate, loop
from thinwire.training.calibrate import CalibrationJob
from thinwire.training.checkpoints import Checkpoints, latest
from thinwire.training.log import FILE, MetricsLog
from thinwire.training.loop import HostBatch, Pace
from thinwire.training.place import Place
from thinwire.training.resume import check_same_run, describe
from thinwire.training.samples import Windows
from thinwire.training.step import Setup
from thinwire.training.train_state import TrainState
from thinwire.weights.load import LoadedModel


@dataclasses.dataclass(frozen=True)
class Session:
    """Where a run is kept.

    Attributes:
        folder: of checkpoints and figures.
        keep: checkpoints that stay, the newest ones.
        tensorboard: also write what TensorBoard reads.
        resume: go on from the newest checkpoint of the folder; from the beginning if a run ended before its first.
    """

    folder: Path
    keep: int = 2
    tensorboard: bool = False
    resume: bool = False

    def check(self) -> None:
        """Raises ThinwireError where the folder has a run that is not to be resumed, or none to resume."""
        found = latest(self.folder)
        if found is not None and not self.resume:
            raise ThinwireError(
                f"{self.folder} holds a run that was broken off or ended at step {found}: go on with it by "
                "--session.resume, or name another folder."
            )
        if self.resume and found is None and not (self.folder / FILE).exists():
            raise ThinwireError(f"{self.folder} holds no run to resume: leave --session.resume out.")

    def has_state(self) -> bool:
        """Whether there is a checkpoint to go on from, and it is wanted."""
        return self.resume and latest(self.folder) is not None

    def first_codebooks(
        self,
        model: LoadedModel,
        strategy: Strategy,
        devices: int,
        inputs_W: Windows,
        job: CalibrationJob,
        data: Mapping[str, Any],
    ) -> Codecs:
        """Codebooks of the model as it begins, by k-means; those of the run that is resumed; {} if none are learnt."""
        if not strategy.codec.learns:
            return {}
        place = self.folder / "codebooks-at-the-start"
        if self.has_state() and place.exists():
            return store.load(place).arrays
        samples = calibrate.collect(model, [strategy], devices, inputs_W, job)
        return calibrate.learn(model, strategy, devices, samples, job, data, out=place).arrays


def run_session(
    session: Session,
    config: Any,
    data: Mapping[str, Any],
    setup: Setup,
    state: TrainState,
    batches: Callable[[int], HostBatch],
    pace: Pace,
    place: Place | None = None,
    evaluate: Callable[[TrainState], Mapping[str, float]] | None = None,
    progress: Callable[[int, Mapping[str, float]], None] = lambda step, record: None,
) -> TrainState:
    """Trains from a state, or from the newest checkpoint, to the last step.

    Args:
        config: all settings of the run, which a resumed run must share.
        data: what it learns from, with hashes.
        state: before the first step; of a resumed run only its shapes count.

    Returns:
        The last state, on the host.

    Raises:
        ThinwireError: as of ``Session.check`` and ``loop.run``; or the run to be resumed had other settings.
    """
    session.check()
    place, about = place or Place(), describe(config, data)
    with Checkpoints(session.folder, session.keep) as kept:
        done = 0
        if session.has_state():
            check_same_run(kept.about(), about)
            done, state, _ = kept.restore(None, state)

        def tell(step: int, record: Mapping[str, float]) -> None:
            kept.check()
            progress(step, record)

        with MetricsLog(session.folder, session.tensorboard, after=done) as log:
            state = loop.run(setup, state, batches, pace, place, log.scalars, kept.save, about, evaluate, tell)
    return jax.device_get(state)
