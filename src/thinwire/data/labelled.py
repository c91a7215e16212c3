"""Sets of labelled images to learn from, by name or from a folder as they are published."""

import dataclasses
import difflib
from pathlib import Path

import numpy as np
from jaxtyping import Int32, UInt8

from thinwire.data import cifar, idx
from thinwire.errors import ThinwireError
from thinwire.weights.catalogue import IMAGES
from thinwire.weights.client import Progress
from thinwire.weights.fetch import fetch

SPLITS = ("train", "test")
SETS = ("fashion-mnist",)  # of the catalogue's images, those with a label each and enough of them to learn from

_PREFIX = {"train": "train", "test": "t10k"}
_PICKLED = ("train", "test", "meta", "data_batch_1", "test_batch")  # of CIFAR-100's and CIFAR-10's python versions


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSet:
    """Images of one size, each of one class."""

    name: str
    images_NYXC: UInt8[np.ndarray, "N Y X C"]
    labels_N: Int32[np.ndarray, " N"]  # 0 to classes − 1
    classes: int  # of the training images, whichever split this is


def read_image_set(name: str | Path, split: str, progress: Progress | None = None) -> ImageSet:
    """The images of one split, in the order in which they were published.

    A folder holds four idx files (``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the same of ``t10k``,
    each plain or with ``.gz``), or ``train.bin`` and ``test.bin`` of CIFAR-100's binary version, whose fine labels are
    read.

    Args:
        name: ``fashion-mnist``, fetched if needed, or a folder.
        split: ``train`` or ``test``.
        progress: told of bytes while a set is fetched.

    Raises:
        ThinwireError: an unknown split or name; files are missing, damaged, empty or do not fit each other; the set
            cannot be fetched.
    """
    if split not in SPLITS:
        raise ThinwireError(f"unknown split {split!r}: choose one of {', '.join(SPLITS)}")
    if str(name) in SETS:
        return _read_idx(fetch(IMAGES[str(name)], progress).parent, split, str(name))
    folder = Path(name).expanduser()
    files = _names(folder, str(name))
    if files & {plain + end for s in SPLITS for plain in _idx_names(s) for end in ("", ".gz")}:
        return _read_idx(folder, split, str(name))
    if files & set(cifar.FILES.values()):
        return _read_cifar(folder, split, str(name))
    if files & set(_PICKLED):
        raise ThinwireError(
            f"{name} holds CIFAR's python version, whose pickles could run any program and are not read: give the "
            "folder of CIFAR-100's binary version, which holds train.bin and test.bin"
        )
    raise ThinwireError(
        f"{name} holds no set of images: give a folder with {', '.join((*_idx_names('train'), *_idx_names('test')))} "
        "(plain or .gz), or with train.bin and test.bin of CIFAR-100's binary version"
    )


def framed(images: ImageSet, side: int) -> ImageSet:
    """The set with black around its images, so that they are ``side`` pixels high and wide.

    Raises:
        ThinwireError: they are larger already.
    """
    _, high, wide, _ = images.images_NYXC.shape
    if max(high, wide) > side:
        raise ThinwireError(
            f"the images of {images.name} are {high} pixels high and {wide} wide: a side of {side} does not hold them; "
            f"ask for {max(high, wide)} or more"
        )
    top, left = (side - high) // 2, (side - wide) // 2
    around = ((0, 0), (top, side - high - top), (left, side - wide - left), (0, 0))
    return dataclasses.replace(images, images_NYXC=np.pad(images.images_NYXC, around))


def _names(folder: Path, name: str) -> set[str]:
    """What a folder holds."""
    try:
        return {path.name for path in folder.iterdir()}
    except FileNotFoundError as e:
        close = difflib.get_close_matches(name, SETS, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else f"give the path of one, or {', '.join(SETS)}"
        raise ThinwireError(f"there is no folder of images {name!r}: {hint}") from e
    except NotADirectoryError as e:
        raise ThinwireError(f"{name} is a file: give the folder that it is in") from e
    except (OSError, ValueError) as e:
        raise ThinwireError(f"cannot read {name} ({getattr(e, 'strerror', None) or e})") from e


def _idx_names(split: str) -> tuple[str, str]:
    return f"{_PREFIX[split]}-images-idx3-ubyte", f"{_PREFIX[split]}-labels-idx1-ubyte"


def _read_idx(folder: Path, split: str, name: str) -> ImageSet:
    images, labels = (_existing(folder, plain) for plain in _idx_names(split))
    # Which classes there are is known from the training labels only, and both splits must agree about it.
    training = _existing(folder, _idx_names("train")[1])
    known_N = idx.read_idx(training, idx.LABELS)
    label_N = known_N if split == "train" else idx.read_idx(labels, idx.LABELS)
    image_NYX = idx.read_idx(images, idx.IMAGES)
    for path, array in ((images, image_NYX), (training, known_N)):
        if not array.size:
            raise ThinwireError(f"{path} is empty: give files with images and labels")
    if len(image_NYX) != len(label_N):
        raise ThinwireError(
            f"{images} holds {len(image_NYX)} images and {labels} {len(label_N)} labels: give files of one data set"
        )
    classes = int(known_N.max()) + 1
    if label_N.max() >= classes:
        raise ThinwireError(
            f"{labels} has the label {label_N.max()}, and those of the training images go from 0 to {classes - 1}: "
            "give files of one data set"
        )
    return ImageSet(name, image_NYX[..., None], label_N.astype(np.int32), classes)


def _existing(folder: Path, plain: str) -> Path:
    """The file of this name, or compressed with .gz behind its name."""
    for path in (folder / plain, folder / f"{plain}.gz"):
        if path.is_file():
            return path
    raise ThinwireError(
        f"{folder} lacks {plain} (plain or .gz): put it there, its neighbours cannot be read without it"
    )


def _read_cifar(folder: Path, split: str, name: str) -> ImageSet:
    path = folder / cifar.FILES[split]
    if not path.is_file():
        raise ThinwireError(f"{folder} lacks {path.name}: put that file of CIFAR-100's binary version there")
    image_NYXC, label_N = cifar.read_cifar100(path)
    if not len(label_N):
        raise ThinwireError(f"{path} is empty: give a file with images and labels")
    return ImageSet(name, image_NYXC, label_N, cifar.FINE)
