"""Training a vision Transformer to tell images apart: from scratch, or on from there with coded context."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from thinwire.data.augment import Augment, Levels, as_floats, levels
from thinwire.data.batches import image_batches
from thinwire.data.fingerprint import fingerprint
from thinwire.data.labelled import ImageSet, framed, read_image_set
from thinwire.engine import Codecs
from thinwire.errors import ThinwireError
from thinwire.evaluation.accuracy import accuracy, logits_of_images
from thinwire.models.initial import initialise_by_width
from thinwire.models.vit import param_axes, param_shapes, patches
from thinwire.models.vit_config import ViTConfig
from thinwire.strategies import Single
from thinwire.training import artefact
from thinwire.training.adapters import LoRA
from thinwire.training.artefact import Artefact
from thinwire.training.averages import after_training
from thinwire.training.beginning import SCRATCH, Part, beginning
from thinwire.training.calibrate import CalibrationJob
from thinwire.training.card import Card, config_of
from thinwire.training.loop import Pace
from thinwire.training.optimiser import Optimiser
from thinwire.training.place import Spread, place_of
from thinwire.training.recipe import Recipe
from thinwire.training.session import Session, run_session
from thinwire.training.settings import Dtype, check_least
from thinwire.training.step import Setup, start_state, trained_model
from thinwire.training.tasks import Classify
from thinwire.training.train_state import TrainState
from thinwire.weights.load import LoadedModel

Progress = Callable[[int, Mapping[str, float]], None]


@dataclasses.dataclass(frozen=True)
class ImageModel:
    """The sizes of a vision Transformer that is trained from scratch."""

    width: int = 96
    layers: int = 4
    heads: int = 4
    hidden: int = 288
    patch: int = 4
    side: int = 28  # of images, with black around smaller ones
    stem: int = 0  # channels of the first of two convolutions before the patches' embedding; 0 for none

    def __post_init__(self):
        """Checks the numbers."""
        check_least(self, width=1, layers=1, heads=1, hidden=1, patch=1, side=1, stem=0)


@dataclasses.dataclass(frozen=True)
class ImageRun:
    """What ``train/vit_fashion_mnist.py`` runs.

    Attributes:
        data: a set of images by name, or a folder.
        images: training images that are used, the first ones; 0 for all.
        held_out: the last training images, for the accuracy while training; test images are read at the end only.
        model: a vision Transformer with a head, by its name (``weights.variants`` says how one is given a head), or
            ``scratch`` for random weights.
        sizes: of a model from scratch.
        start: a trained artefact to go on from instead: its weights, not its codebooks.
        train: ``weights`` or an ``adapter``, of these settings (``lora``); an adapter of ``start`` keeps its own.
        smoothing: of labels.
        calibration: training images that first codebooks are learnt from.
        out: where the trained artefact is put.
        dtype: of computation; what is trained stays float32.
        remat: layers are computed again on the way back instead of kept.
        spread: over all devices of this process: nothing, ``examples`` or ``tokens``.
        tests: test images that accuracy is taken of at the end; 0 for all.
    """

    session: Session
    out: Path
    recipe: Recipe
    optimiser: Optimiser
    data: str = "fashion-mnist"
    images: int = 0
    held_out: int = 2000
    model: str = SCRATCH
    sizes: ImageModel = dataclasses.field(default_factory=ImageModel)
    start: Path | None = None
    train: Part = "weights"
    lora: LoRA = dataclasses.field(default_factory=LoRA)
    augment: Augment = dataclasses.field(default_factory=lambda: Augment(pad=2, flip=True))
    smoothing: float = 0.1
    calibration: int = 400
    pace: Pace = dataclasses.field(default_factory=lambda: Pace(batch=128, save_every=500, evaluate_every=500))
    dtype: Dtype = "float32"
    remat: bool = False
    spread: Spread = ""
    seed: int = 0
    tests: int = 0

    def __post_init__(self):
        """Checks the numbers."""
        check_least(self, images=0, held_out=1, calibration=1, seed=0, tests=0)


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """A set of images as a model reads them."""

    train: ImageSet
    held_out: ImageSet
    levels: Levels


def as_rows(images_BYXC: Float[np.ndarray, "B Y X C"], config: ViTConfig) -> Float[np.ndarray, "B T P"]:
    """Images as the model reads them: ``models.vit.patches`` of each."""
    return np.stack([patches(image_YXC, config.patch, config.margin) for image_YXC in images_BYXC])


def cut(config: ImageRun, whole: ImageSet) -> Images:
    """The images to learn from and those that are held out from them.

    Raises:
        ThinwireError: there are too few.
    """
    count = len(whole.labels_N)
    if not 0 < config.held_out < count:
        raise ThinwireError(
            f"{config.held_out} of {count} training images cannot be held out; use fewer, and 1 at least."
        )
    kept = min(config.images or count, count - config.held_out)
    part = lambda a, b: dataclasses.replace(whole, images_NYXC=whole.images_NYXC[a:b], labels_N=whole.labels_N[a:b])
    train = part(0, kept)
    return Images(train, part(count - config.held_out, count), levels(train.images_NYXC))


def random_model(config: ImageRun, classes: int, channels: int) -> LoadedModel:
    """A model of the configuration's sizes with random weights.

    Raises:
        ThinwireError: the sizes do not fit each other.
    """
    m = config.sizes
    if m.width % m.heads or m.side % m.patch:
        raise ThinwireError(
            f"A width of {m.width} in {m.heads} heads, or {m.side} pixels in patches of {m.patch}: use numbers that "
            "divide."
        )
    grid = (m.side // m.patch, m.side // m.patch)
    vit = ViTConfig(m.width, m.layers, m.heads, m.hidden, m.patch, grid, channels, 1e-6, classes=classes, stem=m.stem)
    key = jax.random.key(config.seed)
    params = jax.tree.map(np.asarray, initialise_by_width(key, param_shapes(vit), param_axes(vit), vit.L))
    return LoadedModel(f"vit-{Path(config.data).name}", "vit", vit, params, None, "")


def train_images(config: ImageRun, command: str, progress: Progress = lambda step, record: None) -> Artefact:
    """Trains, measures on the test images, and saves the artefact.

    Args:
        command: what the user typed, for the model card.

    Raises:
        ThinwireError: data, sizes or settings do not fit; before any training.
    """
    config.session.check()
    artefact.check_place(config.out)
    whole = read_image_set(config.data, "train")
    classes, channels = whole.classes, whole.images_NYXC.shape[-1]
    begun = beginning(config, lambda: random_model(config, classes, channels))
    model = begun.model
    check_reads(model, whole)
    tokens = model.config.tokens
    images = cut(config, framed(whole, model.config.grid[0] * model.config.patch))
    task = Classify(config.smoothing, config.recipe.distil)
    setup = Setup(
        model, config.recipe, task, begun.part, config.optimiser, tokens, config.dtype, config.remat, config.seed,
        unrolled=True,
    )  # fmt: skip
    strategy = config.recipe.parsed()
    devices = max(config.recipe.devices)
    job = CalibrationJob(windows=config.calibration, window=tokens, seed=config.seed)
    first_BTP = as_rows(as_floats(images.train.images_NYXC[: config.calibration], images.levels), model.config)
    codecs = config.session.first_codebooks(model, strategy, devices, first_BTP, job, {"source": config.data})
    state = start_state(setup, codecs, min(config.recipe.statistics, config.pace.batch * tokens))
    at = image_batches(images.train, config.pace.batch, config.seed, config.augment, images.levels)

    def batches(step: int):
        pixels_BYXC, labels_B = at(step)
        return {"inputs": as_rows(pixels_BYXC, model.config), "labels": labels_B}

    held_out_BTP = as_rows(as_floats(images.held_out.images_NYXC, images.levels), model.config)

    def evaluate(state: TrainState) -> dict[str, float]:
        now = trained_model(setup, state)
        arrays = after_training(strategy.codec, state.arrays)
        logits_BC = logits_of_images(now, strategy, devices, arrays, held_out_BTP)
        return {"accuracy": accuracy(logits_BC, images.held_out.labels_N)}

    data = {
        "source": config.data,
        "images": len(images.train.labels_N),
        "held out": len(images.held_out.labels_N),
        "fingerprint": fingerprint(images.train.images_NYXC, images.train.labels_N),
        "levels": {"mean": images.levels.mean_C.tolist(), "std": images.levels.std_C.tolist()},
    }
    state = run_session(
        config.session, config, data, setup, state, batches, config.pace, place_of(config.spread), evaluate, progress
    )
    made = trained_model(setup, state)
    arrays = jax.tree.map(np.asarray, after_training(strategy.codec, state.arrays))
    figures = _test_figures(config, made, arrays, images.levels)
    return begun.save(config.out, state, strategy, data, config.seed, command, figures)


def check_reads(model: LoadedModel, images: ImageSet) -> None:
    """Raises ThinwireError where a model reads no images like these, or tells not so many classes apart."""
    if not isinstance(model.config, ViTConfig):
        raise ThinwireError(f"{model.name} reads no images; name a vision Transformer, or train it on text.")
    classes, channels = model.config.classes, model.config.channels
    if (classes, channels) != (images.classes, images.images_NYXC.shape[-1]):
        raise ThinwireError(
            f"{model.name} tells {classes} classes apart in images of {channels} colours and {images.name} has "
            f"{images.classes} in {images.images_NYXC.shape[-1]}; name another model, such as vit-s14-focus:"
            f"patch=7:side=28:colours={images.images_NYXC.shape[-1]}:classes={images.classes}."
        )


def _test_figures(config: ImageRun, model: LoadedModel, arrays: Codecs, of: Levels) -> dict[str, Any]:
    strategy = config.recipe.parsed()
    test, rows_BTP = read_test(config.data, model.config, of, config.tests)
    alone = accuracy(logits_of_images(model, Single(), 1, {}, rows_BTP), test.labels_N)
    figures: dict[str, Any] = {"test images": len(test.labels_N), "test accuracy, 1 device": alone}
    for devices in () if isinstance(strategy, Single) else config.recipe.devices:
        found = logits_of_images(model, strategy, devices, arrays, rows_BTP)
        figures[f"test accuracy, {devices} devices"] = accuracy(found, test.labels_N)
    return figures


def read_test(data: str, config: ViTConfig, of: Levels, count: int = 0) -> tuple[ImageSet, Float[np.ndarray, "B T P"]]:
    """The first ``count`` test images (0: all) of a set, and as a model reads them that was trained at these levels."""
    whole = framed(read_image_set(data, "test"), config.grid[0] * config.patch)
    some = slice(0, count or None)
    test = dataclasses.replace(whole, images_NYXC=whole.images_NYXC[some], labels_N=whole.labels_N[some])
    return test, as_rows(as_floats(test.images_NYXC, of), config)


def images_to_learn(card: Card, count: int) -> Float[np.ndarray, "B T P"]:
    """The first training images of the data that a model was trained on, as it reads them.

    Raises:
        ThinwireError: the model was trained on no images, or they cannot be read.
    """
    config, of = _of_card(card)
    whole = framed(read_image_set(card.data["source"], "train"), config.grid[0] * config.patch)
    return as_rows(as_floats(whole.images_NYXC[:count], of), config)


def images_to_test(card: Card, data: str | None = None, count: int = 0) -> tuple[ImageSet, Float[np.ndarray, "B T P"]]:
    """The test images of the data that a model was trained on, or of other ones.

    Raises:
        ThinwireError: the model was trained on no images, or they cannot be read.
    """
    config, of = _of_card(card)
    images, rows_BTP = read_test(data or card.data["source"], config, of, count)
    if images.classes != config.classes:
        raise ThinwireError(
            f"{card.model} tells {config.classes} classes apart and {images.name} has {images.classes}."
        )
    return images, rows_BTP


def _of_card(card: Card) -> tuple[ViTConfig, Levels]:
    config, told = config_of(card), card.data.get("levels")
    if not isinstance(config, ViTConfig) or not isinstance(told, dict):
        raise ThinwireError(f"{card.model} was not trained on labelled images and has no accuracy; use eval.quality.")
    return config, Levels(np.asarray(told["mean"], np.float32), np.asarray(told["std"], np.float32))
