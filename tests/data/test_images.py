"""Labelled images: which there are, who gets which, and what becomes of them on the way to a model."""

import numpy as np
import pytest
from PIL import Image

from thinwire.data import images
from thinwire.errors import ThinwireError
from thinwire.weights.catalogue import IMAGES


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Six flat images 40 pixels high and 56 wide, brighter by number; the catalogue's place is this folder."""
    for i in range(6):
        Image.new("RGB", (56, 40), (40 * i, 0, 255)).save(tmp_path / f"imagenet_{i:02}_{100 + i}.jpg", quality=100)
    (tmp_path / "other.txt").write_text("no image")
    monkeypatch.setattr(images, "fetch", lambda artifact: tmp_path / "imagenet_00_100.jpg")
    return tmp_path


def test_images_are_split_by_turns(folder):
    parts = {split: images.labelled_images(split) for split in images.SPLITS}
    assert [image.label for image in parts["calibration"]] == [100, 102, 104]
    assert [image.name for image in parts["test"]] == [f"imagenet_{i:02}_{100 + i}.jpg" for i in (1, 3, 5)]
    assert parts["test"][1].pixels.shape == (40, 56, 3)
    assert abs(parts["test"][1].pixels.astype(int) - [120, 0, 255]).max() <= 3


def test_views_are_the_middle_first_then_random_ones_by_the_seed(folder):
    first = images.views("test", 14, 8)
    assert first.shape == (8, 14, 14, 3)
    assert first.dtype == np.float32
    red_W = first[:, :, :, 0].mean(axis=(1, 2)) * 0.229 + 0.485
    np.testing.assert_allclose(red_W * 255, [40, 120, 200, 40, 120, 200, 40, 120], atol=3)
    np.testing.assert_array_equal(
        first[0], images.normalised(images.square(images.labelled_images("test")[0].pixels, 14))
    )
    np.testing.assert_array_equal(images.views("test", 14, 8), first)


def test_crops():
    """Of an image whose colours are its coordinates."""
    y, x = np.mgrid[:120, :200].astype(np.uint8)
    pixels = np.stack([y, x, 0 * x], axis=-1)
    middle = images.square(pixels, 70)
    # The square in the middle is 105 of the 120 pixels high, from 7.5 and 47.5 on.
    np.testing.assert_allclose(middle[[0, -1], 0, 0], [8, 112], atol=1)
    np.testing.assert_allclose(middle[0, [0, -1], 1], [48, 152], atol=1)
    rng = np.random.default_rng(0)
    crops = [images.random_crop(pixels, 32, rng).astype(int) for _ in range(40)]
    across = np.array([crop[0, -1, 1] - crop[0, 0, 1] for crop in crops])
    down = np.array([crop[-1, 0, 0] - crop[0, 0, 0] for crop in crops])
    assert (across < 0).any()  # mirrored
    assert (across > 0).any()
    assert (down > 0).all()
    assert len(set(down)) > 10
    area = np.abs(across) * down / (120 * 200)
    assert area.min() > 0.2
    assert area.max() <= 1


def test_normalised():
    pixels = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    expected = [[[-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225], [0.515 / 0.229, 0.544 / 0.224, 0.594 / 0.225]]]
    np.testing.assert_allclose(images.normalised(pixels), expected, atol=1e-5)


def test_what_cannot_be_read_is_said(folder, tmp_path_factory):
    with pytest.raises(ThinwireError, match="unknown split 'train'"):
        images.labelled_images("train")
    with pytest.raises(ThinwireError, match="cannot cut 0 views"):
        images.views("test", 14, 0)
    (folder / "imagenet_03_103.jpg").write_bytes(b"no image")
    with pytest.raises(ThinwireError, match=r"imagenet_03_103\.jpg is no readable image"):
        images.labelled_images("test")
    with pytest.raises(ThinwireError, match="holds no images"):
        images.read_folder(tmp_path_factory.mktemp("empty"))
    with pytest.raises(ThinwireError, match="cannot read"):
        images.read_folder(folder / "nowhere")


def test_the_catalogue_has_twenty():
    members = IMAGES[images.DEFAULT].members
    assert len({member.sha256 for member in members}) == 20
    assert all(images._NAME.fullmatch(member.path.rsplit("/", 1)[-1]) for member in members)
