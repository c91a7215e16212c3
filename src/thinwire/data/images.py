"""A few labelled photographs, split by image into calibration and test, and views of them as a model reads them."""

import dataclasses
import re
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from thinwire.errors import ThinwireError
from thinwire.weights.catalogue import IMAGES
from thinwire.weights.fetch import fetch

SPLITS = ("calibration", "test")
DEFAULT = "imagenet-samples"

# Of ImageNet, as nearly every vision Transformer is trained with.
_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
_STD = np.array([0.229, 0.224, 0.225], np.float32)
_NAME = re.compile(r"imagenet_(\d+)_(\d+)\.jpg")
_MARGIN = 8 / 7  # of the usual centre crop: 224 of 256 pixels
_AREA, _ASPECT = (0.3, 1.0), (3 / 4, 4 / 3)  # of random crops

Pixels = UInt8[np.ndarray, "Y X 3"]


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledImage:
    """A photograph, and its class among ImageNet's thousand."""

    name: str
    label: int
    pixels: Pixels


def labelled_images(split: str = "calibration", name: str = DEFAULT) -> list[LabelledImage]:
    """The images of one split, in order: every other one, so that there are ten of each.

    Raises:
        ThinwireError: an unknown split, or the images cannot be fetched or read.
    """
    if split not in SPLITS:
        raise ThinwireError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    return read_folder(fetch(IMAGES[name]).parent)[SPLITS.index(split) :: len(SPLITS)]


def read_folder(folder: Path) -> list[LabelledImage]:
    """The images called ``imagenet_NUMBER_LABEL.jpg`` of a folder, by number.

    Raises:
        ThinwireError: there are none, or one cannot be read.
    """
    found = sorted((int(match[1]), int(match[2]), match[0]) for match in map(_NAME.fullmatch, _names(folder)) if match)
    if not found:
        raise ThinwireError(f"{folder} holds no images called imagenet_NUMBER_LABEL.jpg")
    return [LabelledImage(name, label, _pixels(folder / name)) for _, label, name in found]


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError as e:
        raise ThinwireError(f"cannot read {folder} ({e.strerror or e})") from e


def _pixels(path: Path) -> Pixels:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as e:  # Pillow's own error is an OSError
        raise ThinwireError(f"{path} is no readable image ({e}): delete it to fetch it again") from e


def square(pixels: Pixels, side: int) -> UInt8[np.ndarray, "S S 3"]:
    """The middle of an image: its shorter edge resized to 8/7 of ``side``, and the centre cut out."""
    high, wide = pixels.shape[:2]
    length = min(high, wide) / _MARGIN
    left, top = (wide - length) / 2, (high - length) / 2
    return _resize(pixels, side, (left, top, left + length, top + length))


def random_crop(pixels: Pixels, side: int, rng: np.random.Generator) -> UInt8[np.ndarray, "S S 3"]:
    """A random part of an image, of random size, aspect and handedness."""
    high, wide = pixels.shape[:2]
    area, aspect = high * wide * rng.uniform(*_AREA), np.exp(rng.uniform(*np.log(_ASPECT)))
    w, h = min(wide, np.sqrt(area * aspect)), min(high, np.sqrt(area / aspect))
    left, top = rng.uniform(0, wide - w), rng.uniform(0, high - h)
    cut = _resize(pixels, side, (left, top, left + w, top + h))
    return cut[:, ::-1] if rng.random() < 0.5 else cut


def _resize(pixels: Pixels, side: int, box: tuple[float, float, float, float]) -> UInt8[np.ndarray, "S S 3"]:
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC, box=box))


def normalised(pixels: Pixels) -> Float[np.ndarray, "Y X 3"]:
    """Values as models were trained with: ImageNet's mean and deviation taken out."""
    return (pixels.astype(np.float32) / 255 - _MEAN) / _STD


def views(split: str, side: int, count: int, seed: int = 0, name: str = DEFAULT) -> Float[np.ndarray, "W S S 3"]:
    """``count`` normalised square views of a split's images, taking the images in turn.

    The first view of a test image is its middle, as one evaluates; all others are random crops, from ``seed``.

    Raises:
        ThinwireError: as ``labelled_images``, or there are to be no views.
    """
    if count < 1 or side < 1:
        raise ThinwireError(f"cannot cut {count} views of {side} pixels: both numbers must be positive")
    images = labelled_images(split, name)
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    made = []
    for i in range(count):
        pixels = images[i % len(images)].pixels
        middle = split == "test" and i < len(images)
        made.append(normalised(square(pixels, side) if middle else random_crop(pixels, side, rng)))
    return np.stack(made)
