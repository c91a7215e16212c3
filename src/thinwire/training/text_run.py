"""Training a language model for coded context: an adapter, all weights, or a model from scratch."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Int

from thinwire.codebooks.eight_bits import rounded
from thinwire.data.batches import token_batches
from thinwire.data.fingerprint import fingerprint
from thinwire.data.text import read_documents
from thinwire.data.windows import windows
from thinwire.engine import Codecs
from thinwire.errors import ThinwireError
from thinwire.evaluation.quality import measure_quality, quality_rows
from thinwire.models.families import FAMILIES
from thinwire.models.gpt2_config import GPT2Config
from thinwire.models.initial import initialise_by_width
from thinwire.strategies import Single, Strategy
from thinwire.training import artefact
from thinwire.training.adapters import LoRA
from thinwire.training.artefact import Artefact
from thinwire.training.averages import after_training
from thinwire.training.beginning import Part, beginning
from thinwire.training.calibrate import CalibrationJob
from thinwire.training.loop import Pace
from thinwire.training.optimiser import Optimiser
from thinwire.training.place import Spread, place_of
from thinwire.training.recipe import Recipe
from thinwire.training.session import Session, run_session
from thinwire.training.settings import Dtype, check_least
from thinwire.training.step import Setup, start_state, trained_model
from thinwire.training.tasks import NextToken
from thinwire.training.train_state import TrainState
from thinwire.weights.byte_tokenizer import ByteTokenizer
from thinwire.weights.load import LoadedModel

Progress = Callable[[int, Mapping[str, float]], None]


@dataclasses.dataclass(frozen=True)
class TextModel:
    """The sizes of a GPT-2 that is trained from scratch on bytes."""

    width: int = 256
    layers: int = 6
    heads: int = 8
    context: int = 512

    def __post_init__(self):
        """Checks the numbers."""
        check_least(self, width=1, layers=1, heads=1, context=2)


@dataclasses.dataclass(frozen=True)
class TextRun:
    """What ``train/lm_smollm2_adapter.py`` and ``train/gpt2_small_from_scratch.py`` run.

    Attributes:
        model: the base model, or ``scratch`` for one of the sizes of ``sizes`` that reads bytes.
        start: a trained artefact to go on from instead: its weights or its adapter, not its codebooks.
        train: ``adapter``, ``weights``, or ``codebooks`` alone.
        lora: the settings of a new adapter; that of ``start`` keeps its own.
        texts: what is read, by name or as files; of each its calibration part.
        tokens: of a window.
        windows: of the texts; 0 for as many as they hold.
        held_out: of these, kept for the figures while training and at the end.
        calibration: how many windows and rows first codebooks are learnt from; the windows and the seed are the run's.
        out: where the trained artefact is put.
        eight_bits: stores its codebooks rounded to eight bits, in a quarter of their size.
        spread: over all devices of this process: nothing, ``examples`` or ``tokens``.
    """

    session: Session
    out: Path
    recipe: Recipe
    optimiser: Optimiser
    model: str = "smollm2-135m"
    sizes: TextModel = dataclasses.field(default_factory=TextModel)
    start: Path | None = None
    train: Part = "adapter"
    lora: LoRA = dataclasses.field(default_factory=LoRA)
    texts: tuple[str, ...] = ("wikipedia-excerpt",)
    tokens: int = 1024
    windows: int = 0
    held_out: int = 4
    calibration: CalibrationJob = dataclasses.field(default_factory=CalibrationJob)
    pace: Pace = dataclasses.field(default_factory=lambda: Pace(batch=8, parts=8, log_every=1, save_every=20))
    dtype: Dtype = "float32"
    remat: bool = False
    eight_bits: bool = False
    spread: Spread = ""
    seed: int = 0

    def __post_init__(self):
        """Checks the numbers."""
        check_least(self, tokens=2, windows=0, held_out=1, seed=0)


def random_model(config: TextRun) -> LoadedModel:
    """A model of bytes of the configuration's sizes with random weights.

    Raises:
        ThinwireError: the sizes do not fit each other.
    """
    m = config.sizes
    if m.width % m.heads:
        raise ThinwireError(f"A width of {m.width} cannot be cut into {m.heads} heads: use numbers that divide.")
    gpt2 = GPT2Config(m.width, m.layers, m.heads, 4 * m.width, ByteTokenizer.vocab, m.context)
    family, key = FAMILIES["gpt2"], jax.random.key(config.seed)
    params = initialise_by_width(key, family.param_shapes(gpt2), family.param_axes(gpt2), gpt2.L)
    return LoadedModel("gpt2-bytes", "gpt2", gpt2, jax.tree.map(np.asarray, params), ByteTokenizer(), "")


def open_texts(config: TextRun, model: LoadedModel) -> tuple[Int[np.ndarray, "W T"], Int[np.ndarray, "H T"]]:
    """Windows to learn from, and those that are held out from them.

    Raises:
        ThinwireError: the texts are too short, or the model reads no text.
    """
    dims = FAMILIES[model.family].dims(model.config)
    if not dims.language:
        raise ThinwireError(f"{model.name} predicts no tokens; train it on images, or name a language model.")
    if config.tokens > dims.context:
        raise ThinwireError(f"{config.tokens} tokens are more than the {dims.context} that {model.name} reads at once.")
    encoder = model.tokenizer or ByteTokenizer()  # models of random weights have none
    documents = [document for text in config.texts for document in read_documents(text, "calibration")]
    count = config.windows or _as_many_as_there_are(documents, encoder, config.tokens)
    if not 0 < config.held_out < count:
        raise ThinwireError(
            f"{config.held_out} of {count} windows cannot be held out: use fewer, and 1 at least, or longer texts."
        )
    windows_WT = windows(documents, encoder, config.tokens, count, config.seed)
    return windows_WT[: -config.held_out], windows_WT[-config.held_out :]


def _as_many_as_there_are(documents, encoder, tokens: int) -> int:
    """Windows that long documents hold by themselves."""
    body = tokens - len(encoder.prefix) - len(encoder.suffix)
    return sum(len(ids) // body for ids in encoder.encode_batch(documents))


def train_text(config: TextRun, command: str, progress: Progress = lambda step, record: None) -> Artefact:
    """Trains, measures on held-out windows of the same texts, and saves the artefact.

    Args:
        command: what the user typed, for the model card.

    Raises:
        ThinwireError: texts, sizes or settings do not fit; before any training.
    """
    config.session.check()
    artefact.check_place(config.out)
    begun = beginning(config, lambda: random_model(config))
    model = begun.model
    learnt_WT, held_out_HT = open_texts(config, model)
    at = token_batches(learnt_WT, config.pace.batch, config.seed)
    task = NextToken(config.recipe.distil)
    setup = Setup(
        model, config.recipe, task, begun.part, config.optimiser, config.tokens, config.dtype, config.remat, config.seed
    )
    strategy, devices = config.recipe.parsed(), max(config.recipe.devices)
    source = ", ".join(config.texts)
    job = dataclasses.replace(
        config.calibration,
        window=config.tokens,
        windows=min(config.calibration.windows, len(learnt_WT)),
        seed=config.seed,
    )
    given = {"source": source, "job": dataclasses.asdict(job)}
    codecs = config.session.first_codebooks(model, strategy, devices, learnt_WT[: job.windows], job, given)
    state = start_state(setup, codecs, min(config.recipe.statistics, config.pace.batch * config.tokens))
    data = {
        "source": source,
        "part": "calibration",
        "windows": len(learnt_WT),
        "held out": len(held_out_HT),
        "fingerprint": fingerprint(learnt_WT, held_out_HT),
    }

    def evaluate(state: TrainState) -> dict[str, float]:
        arrays = jax.tree.map(np.asarray, after_training(strategy.codec, state.arrays))
        arrays = rounded(arrays) if config.eight_bits else arrays
        return _figures(trained_model(setup, state), strategy, devices, arrays, held_out_HT)

    batches = lambda step: {"inputs": at(step)}
    state = run_session(
        config.session, config, data, setup, state, batches, config.pace, place_of(config.spread), evaluate, progress
    )
    figures = {f"held-out {name}": value for name, value in evaluate(state).items()}
    return begun.save(config.out, state, strategy, data, config.seed, command, figures, config.eight_bits)


def _figures(
    model: LoadedModel, strategy: Strategy, devices: int, arrays: Codecs, windows_WT: Int[np.ndarray, "W T"]
) -> dict[str, float]:
    """Perplexity on the single device, and by the strategy relative to it."""
    dims = FAMILIES[model.family].dims(model.config)
    if isinstance(strategy, Single):
        found = measure_quality(model, [strategy], 1, windows_WT, lambda _: {})
    else:
        found = measure_quality(model, [strategy], devices, windows_WT, lambda _: arrays)
    row = quality_rows(dims, [strategy], found)[0]
    ratio = row["perplexity_ratio"]
    return {"perplexity_single": row["perplexity"] / ratio, "perplexity_ratio": ratio}
