"""Batches by the number of the step: a run that goes on later sees those that it would have seen.

A batch is a function of the seed and the step alone. Examples come in an endless row of epochs, each a permutation of
all of them; batches are cut from that row one after another, so one may end an epoch and begin the next, and none is
left out.
"""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Int, Int32

from thinwire.data.augment import Augment, Levels, as_floats, augmented, levels
from thinwire.data.labelled import ImageSet
from thinwire.errors import ThinwireError

ImageBatch = tuple[Float32[np.ndarray, "B Y X C"], Int32[np.ndarray, " B"]]
TokenBatch = Int32[np.ndarray, "B T"]

_SHUFFLED, _CHANGED = 0, 1  # so that the order and the changes of images draw different numbers


def image_batches(
    images: ImageSet, batch: int, seed: int, augment: Augment | None = None, of: Levels | None = None
) -> Callable[[int], ImageBatch]:
    """The images (B, Y, X, C), at even levels, and the labels (B,) of each step.

    Args:
        images: what to take them from.
        batch: images a step.
        seed: of their order and their random changes.
        augment: what is changed at random; nothing by default.
        of: the levels of training images; those of ``images`` by default.

    Raises:
        ThinwireError: ``batch`` or ``seed`` is impossible, or images would be shifted out of sight.
    """
    order = _order(len(images.labels_N), batch, seed, f"images of {images.name}")
    changes = augment or Augment()
    smallest = min(images.images_NYXC.shape[1:3])
    if changes.pad >= smallest:
        raise ThinwireError(
            f"a shift by up to {changes.pad} pixels moves images of {smallest} out of sight: give less than {smallest}"
        )
    even = of or levels(images.images_NYXC)

    def at(step: int) -> ImageBatch:
        chosen_B = order(step)
        rng = np.random.default_rng([seed, _CHANGED, step])
        return as_floats(augmented(rng, images.images_NYXC[chosen_B], changes), even), images.labels_N[chosen_B]

    return at


def token_batches(windows_WT: Int[np.ndarray, "W T"], batch: int, seed: int) -> Callable[[int], TokenBatch]:
    """The token ids (B, T) of each step, one window of ``windows_WT`` a row.

    Raises:
        ThinwireError: ``batch`` or ``seed`` is impossible.
    """
    order = _order(len(windows_WT), batch, seed, "windows of text")
    return lambda step: windows_WT[order(step)].astype(np.int32)


def _order(count: int, batch: int, seed: int, what: str) -> Callable[[int], Int[np.ndarray, " B"]]:
    """Which of ``count`` examples a step sees."""
    if batch < 1:
        raise ThinwireError(f"a batch of {batch} holds nothing: ask for 1 or more")
    if batch > count:
        raise ThinwireError(f"a batch of {batch} is more than the {count} {what}: ask for {count} or fewer")
    if seed < 0:
        raise ThinwireError(f"the seed {seed} is negative: give 0 or more")

    @functools.lru_cache(maxsize=2)  # a batch may need two epochs, and the next one the same
    def permutation(epoch: int) -> Int[np.ndarray, " N"]:
        return np.random.default_rng([seed, _SHUFFLED, epoch]).permutation(count)

    def at(step: int) -> Int[np.ndarray, " B"]:
        epoch, start = divmod(step * batch, count)
        here = permutation(epoch)[start : start + batch]
        more = batch - len(here)
        return np.concatenate([here, permutation(epoch + 1)[:more]]) if more else here

    return at
