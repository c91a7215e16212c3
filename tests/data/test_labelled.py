"""Sets of labelled images: what is read from each kind of folder, and what is refused in one sentence."""

import gzip
import pickle

import numpy as np
import pytest

from data.sets import NAMES, cifar_record, idx_bytes, write_fashion, write_idx
from thinwire.data import labelled
from thinwire.data.labelled import framed, read_image_set
from thinwire.errors import ThinwireError
from thinwire.weights.catalogue import IMAGES

SPLITS = ("train", "test")


@pytest.fixture
def folder(tmp_path):
    write_fashion(tmp_path / "set")
    return tmp_path / "set"


@pytest.mark.parametrize("zipped", [False, True], ids=["plain", "gz"])
def test_idx_files(tmp_path, zipped):
    written = write_fashion(tmp_path / "set", zipped)
    for split, (images_NYX, labels_N) in written.items():
        found = read_image_set(tmp_path / "set", split)
        assert found.images_NYXC.dtype == np.uint8
        assert found.labels_N.dtype == np.int32
        np.testing.assert_array_equal(found.images_NYXC[..., 0], images_NYX)
        np.testing.assert_array_equal(found.labels_N, labels_N)
        assert (found.name, found.classes) == (str(tmp_path / "set"), 3)


def test_classes_are_those_of_training_in_either_split(folder):
    write_idx(folder, "test", np.zeros((2, 6, 6)), [0, 1])
    assert read_image_set(folder, "test").classes == 3


def test_a_set_by_name_comes_from_the_catalogue(tmp_path, monkeypatch):
    written = write_fashion(tmp_path / "cached", zipped=True)
    asked = []

    def fetch(artifact, progress):
        asked.append((artifact, progress))
        return tmp_path / "cached" / artifact.member.rsplit("/", 1)[-1]

    monkeypatch.setattr(labelled, "fetch", fetch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fashion-mnist").mkdir()  # a name of the catalogue is no path
    progress = lambda done, total: None
    found = read_image_set("fashion-mnist", "test", progress)
    np.testing.assert_array_equal(found.labels_N, written["test"][1])
    assert asked == [(IMAGES["fashion-mnist"], progress)]
    names = {member.path.rsplit("/", 1)[-1] for member in IMAGES["fashion-mnist"].members}
    assert names == {f"{name}.gz" for name in NAMES.values()}


def test_cifar_100(tmp_path):
    rng = np.random.default_rng(0)
    images_NYXC = rng.integers(0, 256, (3, 32, 32, 3), np.uint8)
    records = [cifar_record(19, 99, images_NYXC[0]), cifar_record(0, 0, images_NYXC[1])]
    (tmp_path / "train.bin").write_bytes(b"".join(records))
    (tmp_path / "test.bin").write_bytes(cifar_record(3, 42, images_NYXC[2]))
    train, test = (read_image_set(str(tmp_path), split) for split in SPLITS)
    np.testing.assert_array_equal(train.images_NYXC, images_NYXC[:2])
    np.testing.assert_array_equal(train.labels_N, [99, 0])
    np.testing.assert_array_equal(test.images_NYXC, images_NYXC[2:])
    np.testing.assert_array_equal(test.labels_N, [42])
    assert train.classes == test.classes == 100
    # Red comes first, and within it the first row: a place of the file, not of our own writer.
    assert train.images_NYXC[0, 0, 5, 0] == records[0][2 + 5]
    assert train.images_NYXC[0, 1, 0, 2] == records[0][2 + 2 * 1024 + 32]


def test_a_frame(folder):
    small = read_image_set(folder, "train")
    wide = framed(small, 9)
    assert wide.images_NYXC.shape == (30, 9, 9, 1)
    np.testing.assert_array_equal(wide.images_NYXC[:, 1:7, 1:7], small.images_NYXC)
    assert wide.images_NYXC.sum() == small.images_NYXC.sum()
    assert framed(small, 6).images_NYXC.shape == small.images_NYXC.shape
    with pytest.raises(ThinwireError, match=r"6 pixels high and 6 wide: a side of 5 .* ask for 6 or more"):
        framed(small, 5)


def test_no_such_set(folder):
    with pytest.raises(ThinwireError, match="unknown split 'calibration': choose one of train, test"):
        read_image_set(folder, "calibration")
    with pytest.raises(ThinwireError, match=r"no folder of images 'fashion-mnst': did you mean fashion-mnist\?"):
        read_image_set("fashion-mnst", "train")
    with pytest.raises(ThinwireError, match=r"no folder of images '.*nowhere': give the path of one, or fashion-mnist"):
        read_image_set(folder / "nowhere", "train")
    with pytest.raises(ThinwireError, match="is a file: give the folder that it is in"):
        read_image_set(folder / NAMES["train", 3], "train")
    with pytest.raises(ThinwireError, match="cannot read"):
        read_image_set("a\0b", "train")


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(ThinwireError, match=r"holds no set of images: give a folder with train-images-idx3-ubyte"):
        read_image_set(tmp_path, "train")


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def test_pickles_are_not_opened(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(
        ThinwireError, match=r"python version.* not read: give the folder of CIFAR-100's binary version"
    ):
        read_image_set(tmp_path / "set", "train")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("missing", [("train", 3), ("train", 1), ("test", 3), ("test", 1)])
def test_missing_idx_files(folder, missing):
    (folder / NAMES[missing]).unlink()
    with pytest.raises(ThinwireError, match=f"lacks {NAMES[missing]} "):
        read_image_set(folder, missing[0])


def test_the_test_split_needs_to_know_the_classes(folder):
    (folder / NAMES["train", 1]).unlink()
    with pytest.raises(ThinwireError, match=f"lacks {NAMES['train', 1]}"):
        read_image_set(folder, "test")


def test_missing_cifar_file(tmp_path):
    (tmp_path / "train.bin").write_bytes(cifar_record(1, 2, np.zeros((32, 32, 3))))
    with pytest.raises(ThinwireError, match=r"lacks test\.bin"):
        read_image_set(tmp_path, "test")


LABELS = idx_bytes(np.array([0, 1, 2] * 10, np.uint8))
IMAGE_BYTES = idx_bytes(np.zeros((30, 6, 6), np.uint8))


@pytest.mark.parametrize(
    ("axes", "raw", "words"),
    [
        (3, LABELS, r"begins with 0x00000801 and not with 0x00000803, so it is no idx file of images"),
        (1, IMAGE_BYTES, r"begins with 0x00000803 and not with 0x00000801, so it is no idx file of labels"),
        (3, b"\x89PNG and more", r"begins with 0x89504e47"),
        (3, b"\0\0\x0d\x03" + IMAGE_BYTES[4:], r"begins with 0x00000d03"),  # floats
        (3, b"", r"is truncated: it ends after 0 bytes"),
        (3, IMAGE_BYTES[:15], r"is truncated: it ends after 15 bytes, within its header"),
        (3, IMAGE_BYTES[:-1], r"is truncated: its header promises 1080 bytes of images and 1079 follow"),
        (3, IMAGE_BYTES + b"x", r"is damaged: its header promises 1080 bytes of images and 1081 follow"),
        (3, b"\0\0\x08\x03" + b"\xff" * 12 + b"x", r"is truncated: its header promises 79228162458924105385300197375"),
        (3, idx_bytes(np.zeros((0, 6, 6), np.uint8)), r"is empty"),
        (3, idx_bytes(np.zeros((30, 0, 6), np.uint8)), r"is empty"),
        (1, idx_bytes(np.zeros(0, np.uint8)), r"is empty"),
        (3, idx_bytes(np.zeros((29, 6, 6), np.uint8)), r"holds 29 images and .* 30 labels: give files of one data set"),
    ],
)
def test_damaged_idx_files(folder, axes, raw, words):
    path = folder / NAMES["train", axes]
    path.write_bytes(raw)
    with pytest.raises(ThinwireError, match=words) as error:
        read_image_set(folder, "train")
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-9],
        lambda raw: raw[:20],
        lambda raw: b"no gzip",
        lambda raw: raw[:30] + b"\xff" * 30 + raw[60:],
    ],
    ids=["end", "start", "other", "middle"],
)
def test_damaged_gzip_files(tmp_path, damage):
    write_fashion(tmp_path / "set", zipped=True)
    path = tmp_path / "set" / f"{NAMES['train', 3]}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ThinwireError, match=r"\.gz is no whole gzip file"):
        read_image_set(tmp_path / "set", "train")


def test_a_plain_file_goes_before_a_compressed_one(folder):
    (folder / f"{NAMES['train', 3]}.gz").write_bytes(gzip.compress(b"old"))
    assert read_image_set(folder, "train").images_NYXC.shape == (30, 6, 6, 1)


def test_labels_that_training_does_not_have(folder):
    write_idx(folder, "test", np.zeros((2, 6, 6)), [0, 3])
    with pytest.raises(ThinwireError, match=r"has the label 3, and those of the training images go from 0 to 2"):
        read_image_set(folder, "test")


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", r"train\.bin is empty"),
        (
            cifar_record(1, 2, np.zeros((32, 32, 3)))[:-1],
            r"is truncated: its 3073 bytes are no whole number of records",
        ),
        (
            cifar_record(1, 2, np.zeros((32, 32, 3))) + cifar_record(20, 2, np.zeros((32, 32, 3))),
            r"record 1 of .* coarse label 20, and CIFAR-100 has 0 to 19: give its binary version",
        ),
        (cifar_record(19, 100, np.zeros((32, 32, 3))), r"record 0 of .* fine label 100, and CIFAR-100 has 0 to 99"),
    ],
    ids=["empty", "truncated", "coarse", "fine"],
)
def test_damaged_cifar_files(tmp_path, raw, words):
    (tmp_path / "train.bin").write_bytes(raw)
    with pytest.raises(ThinwireError, match=words):
        read_image_set(tmp_path, "train")
