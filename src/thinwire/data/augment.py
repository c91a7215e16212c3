"""Images as a model learns from them: randomly shifted, mirrored and partly erased, then brought to even levels."""

import dataclasses

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from thinwire.errors import ThinwireError

_AREA, _ASPECT = (0.02, 0.4), (0.3, 1 / 0.3)  # of what is erased, as in the paper
_CHUNK = 4096  # images whose values are counted at once

Images = UInt8[np.ndarray, "B Y X C"]


@dataclasses.dataclass(frozen=True, eq=False)
class Levels:
    """Mean and standard deviation of every colour, of values from 0 to 1."""

    mean_C: Float32[np.ndarray, " C"]
    std_C: Float32[np.ndarray, " C"]


@dataclasses.dataclass(frozen=True)
class Augment:
    """What is changed at random in training images.

    Raises:
        ThinwireError: ``pad`` is negative, or ``erase`` no chance.
    """

    pad: int = 0  # pixels by which an image is shifted at most, each way; black comes in
    flip: bool = False  # mirrors every second image, left to right
    erase: float = 0.0  # the chance that a rectangle of an image becomes noise

    def __post_init__(self):
        if self.pad < 0:
            raise ThinwireError(f"images cannot be shifted by {self.pad} pixels: give 0 or more")
        if not 0 <= self.erase <= 1:
            raise ThinwireError(f"{self.erase} is no chance to erase a part of an image: give 0 to 1")


def levels(images_NYXC: UInt8[np.ndarray, "N Y X C"]) -> Levels:
    """The levels of a set of images, exactly: their values are counted.

    Raises:
        ThinwireError: a colour has the same value everywhere, so that there is nothing to see.
    """
    colours = images_NYXC.shape[-1]
    count_CV = np.zeros((colours, 256), np.int64)
    for start in range(0, len(images_NYXC), _CHUNK):
        chunk = images_NYXC[start : start + _CHUNK]
        count_CV += np.stack([np.bincount(chunk[..., c].ravel(), minlength=256) for c in range(colours)])
    share_CV, value_V = count_CV / count_CV.sum(axis=1, keepdims=True), np.arange(256) / 255
    mean_C = share_CV @ value_V
    std_C = np.sqrt((share_CV * (value_V - mean_C[:, None]) ** 2).sum(axis=1))
    if not std_C.all():
        raise ThinwireError(
            f"colour {np.argmin(std_C)} of the images has one value everywhere: give images of something"
        )
    return Levels(mean_C.astype(np.float32), std_C.astype(np.float32))


def as_floats(images_BYXC: Images, of: Levels) -> Float32[np.ndarray, "B Y X C"]:
    """Values of mean 0 and standard deviation 1 over the images whose levels are given: those of training."""
    return (images_BYXC.astype(np.float32) / np.float32(255) - of.mean_C) / of.std_C


def augmented(rng: np.random.Generator, images_BYXC: Images, augment: Augment) -> Images:
    """Images with all changes that ``augment`` names, each with its own."""
    shifted_BYXC = random_shift_flip(rng, images_BYXC, augment.pad, augment.flip)
    return random_erase(rng, shifted_BYXC, augment.erase)


def random_shift_flip(rng: np.random.Generator, images_BYXC: Images, pad: int, flip: bool = True) -> Images:
    """Each image shifted by up to ``pad`` pixels along both axes, black where it has left, and half of them mirrored.

    The same as a crop of the image with a black frame (K. He et al., "Deep residual learning", 2016, section 4.2).
    """
    count, high, wide, _ = images_BYXC.shape
    down_B1, right_B1 = rng.integers(0, 2 * pad + 1, (2, count, 1))
    mirrored_B1 = rng.random((count, 1)) < (0.5 if flip else 0.0)
    x_BX = np.where(mirrored_B1, np.arange(wide)[::-1], np.arange(wide)) + right_B1
    y_BY = np.arange(high) + down_B1
    framed_BYXC = np.pad(images_BYXC, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    return framed_BYXC[np.arange(count)[:, None, None], y_BY[:, :, None], x_BX[:, None, :]]


def random_erase(rng: np.random.Generator, images_BYXC: Images, chance: float) -> Images:
    """Each image, with this chance, with random values in a rectangle of 2 to 40 % of its area.

    Z. Zhong et al., "Random erasing data augmentation", arXiv:1708.04896, algorithm 1, with two differences: aspects
    are drawn evenly by their logarithm, and a rectangle that is longer than the image is cut to it, not drawn again.
    """
    if not chance:
        return images_BYXC
    erased_BYX = _rectangles(rng, images_BYXC.shape[:3]) & (rng.random(len(images_BYXC)) < chance)[:, None, None]
    return np.where(erased_BYX[..., None], rng.integers(0, 256, images_BYXC.shape, np.uint8), images_BYXC)


def _rectangles(rng: np.random.Generator, shape: tuple[int, int, int]) -> Bool[np.ndarray, "B Y X"]:
    """A random rectangle of each image."""
    count, high, wide = shape
    area_B = rng.uniform(*_AREA, count) * high * wide
    aspect_B = np.exp(rng.uniform(np.log(_ASPECT[0]), np.log(_ASPECT[1]), count))
    rows_B1 = np.clip(np.rint(np.sqrt(area_B * aspect_B)), 1, high).astype(np.int64)[:, None]
    columns_B1 = np.clip(np.rint(np.sqrt(area_B / aspect_B)), 1, wide).astype(np.int64)[:, None]
    top_B1, left_B1 = rng.integers(0, high - rows_B1 + 1), rng.integers(0, wide - columns_B1 + 1)
    y_BY, x_BX = np.arange(high) - top_B1, np.arange(wide) - left_B1
    inside_BY, inside_BX = (y_BY >= 0) & (y_BY < rows_B1), (x_BX >= 0) & (x_BX < columns_B1)
    return inside_BY[:, :, None] & inside_BX[:, None, :]
