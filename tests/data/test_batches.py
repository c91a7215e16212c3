"""Batches by step: nothing is left out, nothing depends on what was asked before."""

import dataclasses

import numpy as np
import pytest

from thinwire.data.augment import Augment, Levels, as_floats, levels
from thinwire.data.batches import image_batches, token_batches
from thinwire.data.labelled import ImageSet
from thinwire.errors import ThinwireError

WINDOWS = np.arange(10 * 3, dtype=np.int64).reshape(10, 3)
# The value of every pixel tells the number of the image, and its label follows from it.
SET = ImageSet(
    "numbers", np.arange(10, dtype=np.uint8)[:, None, None, None] + np.zeros((10, 4, 4, 1), np.uint8),
    (np.arange(10) % 3).astype(np.int32), 3,
)  # fmt: skip
PLAIN = Levels(np.zeros(1, np.float32), np.full(1, 1 / 255, np.float32))


def numbers(batch):
    return batch[:, 0] // 3


@pytest.mark.parametrize("size", [1, 3, 5, 7, 10])
def test_every_epoch_is_a_permutation_and_the_next_another(size):
    at = token_batches(WINDOWS, size, seed=0)
    steps = 40
    batches = [at(step) for step in range(steps)]
    assert all(batch.shape == (size, 3) and batch.dtype == np.int32 for batch in batches)
    seen = np.concatenate([numbers(batch) for batch in batches])
    epochs = seen[: len(seen) // 10 * 10].reshape(-1, 10)
    np.testing.assert_array_equal(np.sort(epochs), np.tile(np.arange(10), (len(epochs), 1)))
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)


def test_a_batch_depends_on_seed_and_step_alone():
    early, late = token_batches(WINDOWS, 4, seed=3), token_batches(WINDOWS, 4, seed=3)
    forwards = [early(step) for step in range(30)]
    for step in reversed(range(30)):
        np.testing.assert_array_equal(late(step), forwards[step])
    other = token_batches(WINDOWS, 4, seed=4)
    assert any((other(step) != forwards[step]).any() for step in range(3))


def test_a_batch_of_images_has_their_labels_and_is_changed_by_the_step():
    at = image_batches(SET, 4, 0, Augment(pad=1), PLAIN)
    again = image_batches(SET, 4, 0, Augment(pad=1), PLAIN)
    cut = set()
    for step in reversed(range(20)):
        images_BYXC, labels_B = at(step)
        assert images_BYXC.dtype == np.float32
        middle_B = images_BYXC[:, 1, 1, 0]  # what a shift by one pixel leaves
        np.testing.assert_allclose(np.rint(middle_B) % 3, labels_B)
        for image_YXC, number in zip(images_BYXC, np.rint(middle_B), strict=True):
            if number == 9:
                cut.add(image_YXC.tobytes())
        for one, other in zip(again(step), (images_BYXC, labels_B), strict=True):
            np.testing.assert_array_equal(one, other)
    assert len(cut) > 3  # of nine possible, in eight epochs


def test_order_does_not_depend_on_the_changes():
    plain, changed = (
        image_batches(SET, 4, 0, augment, PLAIN) for augment in (None, Augment(pad=1, flip=True, erase=1.0))
    )
    for step in range(5):
        np.testing.assert_array_equal(plain(step)[1], changed(step)[1])


def test_levels_are_those_given_or_of_the_set():
    (images_BYXC, _), (given_BYXC, _) = image_batches(SET, 10, 0)(0), image_batches(SET, 10, 0, of=PLAIN)(0)
    assert abs(images_BYXC.mean()) < 1e-6
    np.testing.assert_allclose(np.sort(given_BYXC[:, 0, 0, 0]), np.arange(10), rtol=1e-6)
    np.testing.assert_array_equal(np.sort(images_BYXC, axis=0), as_floats(SET.images_NYXC, levels(SET.images_NYXC)))


@pytest.mark.parametrize(
    ("size", "seed", "words"),
    [
        (0, 0, "a batch of 0 holds nothing: ask for 1 or more"),
        (-2, 0, "a batch of -2 holds nothing"),
        (11, 0, "a batch of 11 is more than the 10 .*: ask for 10 or fewer"),
        (4, -1, "the seed -1 is negative: give 0 or more"),
    ],
)
def test_impossible_batches(size, seed, words):
    with pytest.raises(ThinwireError, match=words):
        token_batches(WINDOWS, size, seed)
    with pytest.raises(ThinwireError, match=words):
        image_batches(SET, size, seed)


def test_a_shift_out_of_sight():
    wide = dataclasses.replace(SET, images_NYXC=np.repeat(SET.images_NYXC, 2, axis=2))
    with pytest.raises(ThinwireError, match="up to 4 pixels moves images of 4 out of sight: give less than 4"):
        image_batches(wide, 2, 0, Augment(pad=4))
