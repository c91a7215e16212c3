"""The loop of training: batches by step, figures, checkpoints, and an end where the loss is no number."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from thinwire.errors import ThinwireError
from thinwire.training.place import Place
from thinwire.training.step import Setup, make_step
from thinwire.training.train_state import TrainState

HostBatch = Mapping[str, np.ndarray]  # leading axis: examples


@dataclasses.dataclass(frozen=True)
class Pace:
    """How the work is cut, and when it is looked at.

    Attributes:
        batch: examples of a step.
        parts: that these are cut into, one after another (gradient accumulation).
        log_every, save_every, evaluate_every: in steps; 0 for never (a state is kept at the end in any case).
    """

    batch: int = 64
    parts: int = 1
    log_every: int = 10
    save_every: int = 200
    evaluate_every: int = 0

    def __post_init__(self):
        if self.batch < 1 or self.parts < 1 or self.batch % self.parts:
            raise ThinwireError(f"A batch of {self.batch} cannot be cut into {self.parts} equal parts.")


def run(
    setup: Setup,
    state: TrainState,
    batches: Callable[[int], HostBatch],
    pace: Pace,
    place: Place | None = None,
    log: Callable[[int, dict[str, float]], None] | None = None,
    save: Callable[[int, TrainState, dict[str, Any]], None] | None = None,
    about: dict[str, Any] | None = None,
    evaluate: Callable[[TrainState], Mapping[str, float]] | None = None,
    progress: Callable[[int, Mapping[str, float]], None] = lambda step, record: None,
    stop: int | None = None,
) -> TrainState:
    """Goes on from a state to the last step.

    Args:
        batches: from the number of a step to its examples; the same ones whenever it is asked, so that a run that
            was broken off goes on as if it had not been.
        log: is given figures by step.
        save: keeps states; ``about`` goes with each.
        evaluate: figures of a state that take longer; logged with ``eval/`` before their names.
        progress: told of every step.
        stop: leave off after so many steps, for tests; by default at the end.

    Raises:
        ThinwireError: the loss or a gradient is no number: says in which layer it began and what was kept last.
    """
    place = place or Place()
    place.check(pace.batch // pace.parts)
    layouts = setup.recipe.layouts(setup.strategy, setup.dims, setup.tokens, setup.seed)
    steps = [make_step(setup, layout, place) for layout in layouts]
    frozen = place.put(setup.trainable.frozen)
    teacher = place.put(setup.model.params) if setup.has_teacher else {}
    state, last = place.put(state), stop or setup.optimiser.steps
    schedule, saved = setup.optimiser.schedule(), None
    begun = time.perf_counter()
    for number in range(int(state.step), last):
        chosen = which_layout(setup.seed, number, len(layouts))
        state, found = steps[chosen](state, frozen, teacher, place.put_batch(cut(batches(number), pace.parts)))
        found = jax.tree.map(np.asarray, found)
        _check_finite(number, found, saved)
        record = {name: float(x) for name, x in found.items() if x.ndim == 0}
        record["devices"] = layouts[chosen].devices
        done = number + 1
        due = lambda every, done=done: bool(every) and (done % every == 0 or done == last)
        if evaluate is not None and due(pace.evaluate_every):
            record |= {f"eval/{name}": float(x) for name, x in evaluate(state).items()}
        if log is not None and (done == last or due(pace.log_every) or due(pace.evaluate_every)):
            rate = float(np.asarray(schedule(number)))
            log(done, {**record, **codebook_use(state), "rate": rate, "seconds": time.perf_counter() - begun})
        if save is not None and (done == last or due(pace.save_every)):
            save(done, state, about or {})
            saved = done
        progress(done, record)
    return state


def which_layout(seed: int, step: int, layouts: int) -> int:
    """The layout of a step: any of them with the same chance, the same one whenever it is asked."""
    return int(np.random.default_rng([seed, 1, step]).integers(layouts)) if layouts > 1 else 0


def cut(batch: HostBatch, parts: int) -> dict[str, np.ndarray]:
    """Examples (A·B, ...) as (A, B, ...)."""
    return {name: np.asarray(x).reshape(parts, -1, *x.shape[1:]) for name, x in batch.items()}


def codebook_use(state: TrainState) -> dict[str, float]:
    """How evenly codewords are used, of EMA codebooks: the perplexity of their counts, and how many are hardly used.

    Returns:
        ``codebook/perplexity``, mean over layers and groups (the size where all are used alike), and ``codebook/idle``,
        the part of codewords that get less than a tenth of an even share; {} for other codebooks.
    """
    if not state.averages:
        return {}
    counts_nC = np.concatenate(
        [np.asarray(of_site["counts"]).reshape(-1, of_site["counts"].shape[-1]) for of_site in state.averages.values()]
    )
    part_nC = counts_nC / counts_nC.sum(axis=1, keepdims=True)
    entropy_n = -(part_nC * np.log(np.where(part_nC > 0, part_nC, 1))).sum(axis=1)
    idle = float((part_nC < 0.1 / part_nC.shape[1]).mean())
    return {"codebook/perplexity": float(np.exp(entropy_n).mean()), "codebook/idle": idle}


def _check_finite(number: int, found: Mapping[str, np.ndarray], saved: int | None) -> None:
    loss, gradient = float(found["loss"]), float(found["gradient"])
    if math.isfinite(loss) and math.isfinite(gradient):
        return
    if not found["finite"].all():
        layer = int(np.argmin(found["finite"]))
        what = f"what enters layer {layer} is not finite"
    elif not found["finite_gradient"].all():
        layer = len(found["finite_gradient"]) - 1 - int(np.argmin(found["finite_gradient"][::-1]))
        what = f"the gradients of layer {layer} are not finite"
    else:
        what = "it came about behind the last layer"
    kept = f"the state of step {saved} was kept last" if saved else "no state of this run had been kept"
    raise ThinwireError(
        f"The loss of step {number + 1} is {loss} and its gradient {gradient}: {what}; {kept}. Lower the learning "
        "rate, or look at the data of that step."
    )
