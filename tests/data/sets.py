"""Small sets of labelled images, written as the large ones are published."""

import gzip
import struct

import numpy as np

NAMES = {
    ("train", 3): "train-images-idx3-ubyte",
    ("train", 1): "train-labels-idx1-ubyte",
    ("test", 3): "t10k-images-idx3-ubyte",
    ("test", 1): "t10k-labels-idx1-ubyte",
}


def idx_bytes(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx(folder, split, images_NYX, labels_N, zipped=False):
    """The two files of a split."""
    folder.mkdir(exist_ok=True)
    for array in (np.asarray(images_NYX, np.uint8), np.asarray(labels_N, np.uint8)):
        name, raw = NAMES[split, array.ndim], idx_bytes(array)
        (folder / f"{name}.gz" if zipped else folder / name).write_bytes(gzip.compress(raw) if zipped else raw)


def write_fashion(folder, zipped=False, train=30, test=8, side=6):
    """Both splits of a set of three classes; every image of class c has values from 80 c to 80 c + 79."""
    rng = np.random.default_rng(0)
    written = {}
    for split, count in (("train", train), ("test", test)):
        labels_N = np.arange(count) % 3
        images_NYX = rng.integers(0, 80, (count, side, side)) + 80 * labels_N[:, None, None]
        write_idx(folder, split, images_NYX, labels_N, zipped)
        written[split] = images_NYX, labels_N
    return written


def cifar_record(coarse, fine, image_YXC):
    return bytes([coarse, fine]) + np.asarray(image_YXC, np.uint8).transpose(2, 0, 1).tobytes()
