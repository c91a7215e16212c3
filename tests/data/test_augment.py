"""Random changes of images: each possible one happens, and nothing else."""

import numpy as np
import pytest

from thinwire.data.augment import Augment, as_floats, augmented, levels, random_erase, random_shift_flip
from thinwire.errors import ThinwireError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(1, 256, (5000, 4, 5, 2), np.uint8)


def rng():
    return np.random.default_rng(7)


def test_levels_are_mean_and_deviation():
    images_NYXC = RNG.integers(0, 256, (5000, 3, 4, 3), np.uint8)  # more than are counted at once
    images_NYXC[..., 1] //= 2
    found, values_MC = levels(images_NYXC), images_NYXC.reshape(-1, 3) / 255
    np.testing.assert_allclose(found.mean_C, values_MC.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.std_C, values_MC.std(axis=0), rtol=1e-6)
    floats_NYXC = as_floats(images_NYXC, found)
    assert floats_NYXC.dtype == np.float32
    np.testing.assert_allclose(floats_NYXC.reshape(-1, 3).mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(floats_NYXC.reshape(-1, 3).std(axis=0), 1, atol=1e-4)


def test_levels_of_nothing_to_see():
    images_NYXC = np.stack([IMAGES[..., 0], np.full_like(IMAGES[..., 0], 77)], axis=-1)
    with pytest.raises(ThinwireError, match="colour 1 of the images has one value everywhere"):
        levels(images_NYXC)


@pytest.mark.parametrize("flip", [True, False])
def test_shifts_and_mirrors(flip):
    """Every outcome is a shifted image or its mirror image, and all of them are about equally frequent."""
    image_YXC, pad = IMAGES[0], 1
    found_BYXC = random_shift_flip(rng(), np.repeat(image_YXC[None], 4000, axis=0), pad, flip)
    assert found_BYXC.shape == (4000, 4, 5, 2)
    counts = []
    for way in (image_YXC, image_YXC[:, ::-1]) if flip else (image_YXC,):
        framed = np.pad(way, ((pad, pad), (pad, pad), (0, 0)))
        for y in range(2 * pad + 1):
            for x in range(2 * pad + 1):
                counts.append((found_BYXC == framed[y : y + 4, x : x + 5]).all(axis=(1, 2, 3)).sum())
    assert sum(counts) == 4000
    assert len(counts) == (18 if flip else 9)
    expected = 4000 / len(counts)
    assert min(counts) > expected - 5 * expected**0.5
    assert max(counts) < expected + 5 * expected**0.5


def test_images_are_changed_each_in_its_own_way_and_by_the_generator():
    changes = Augment(pad=1, flip=True, erase=0.5)
    a, b = (augmented(rng(), IMAGES, changes) for _ in range(2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, augmented(np.random.default_rng(8), IMAGES, changes))
    assert a.dtype == np.uint8


def test_no_change_is_none():
    np.testing.assert_array_equal(augmented(rng(), IMAGES, Augment()), IMAGES)


def test_erasing_puts_noise_into_one_rectangle():
    images_BYXC = np.zeros((2000, 20, 30, 3), np.uint8)
    found_BYXC = random_erase(rng(), images_BYXC, 0.25)
    erased_BYX = found_BYXC.any(axis=-1)
    share_B = []
    for erased_YX in erased_BYX[erased_BYX.any(axis=(1, 2))]:
        (top, bottom), (left, right) = ((where[0], where[-1] + 1) for where in map(np.unique, np.nonzero(erased_YX)))
        # Three random bytes are all zero once in 16 million.
        assert erased_YX[top:bottom, left:right].all()
        share_B.append(erased_YX.mean())
    assert 0.25 - 0.05 < len(share_B) / 2000 < 0.25 + 0.05
    assert min(share_B) < 0.05
    assert 0.35 < max(share_B) < 0.43  # 40 %, and what rounding to pixels adds
    assert erased_BYX.any(axis=0).all()  # no place is spared
    values = found_BYXC[erased_BYX]
    assert abs(values.mean() - 127.5) < 1
    assert (np.bincount(values.ravel(), minlength=256) > 0).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"pad": -1}, "cannot be shifted by -1 pixels: give 0 or more"),
        ({"erase": 1.5}, "1.5 is no chance to erase a part of an image: give 0 to 1"),
        ({"erase": float("nan")}, "nan is no chance"),
    ],
)
def test_impossible_changes(changes, words):
    with pytest.raises(ThinwireError, match=words):
        Augment(**changes)
