"""Calibration: what codecs learn from text, without changing the model."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from thinwire.codebooks import store
from thinwire.codebooks.health import figures_of
from thinwire.codebooks.manifest import Manifest, check_fits
from thinwire.codecs import Codec, Predictive
from thinwire.codecs.base import SHARED
from thinwire.errors import ThinwireError
from thinwire.models.families import FAMILIES
from thinwire.strategies import Strategy, Tensor
from thinwire.training import quantisers
from thinwire.training.predictive import embed_history, learn_layers, shared_projection
from thinwire.training.samples import HISTORY, POSITION, WEIGHT, Samples, Windows, sample_sites
from thinwire.training.sensitivity import SITE, sensitivity
from thinwire.training.settings import check_least
from thinwire.training.unfinished import Once, Unfinished
from thinwire.weights.cache import cache_dir
from thinwire.weights.load import LoadedModel

Progress = Callable[[int, int], None]

EXACT = {"relative_error": 0.0}  # figures of a layer that is recomputed
LEAST_WEIGHT, MOST_WEIGHT = 0.1, 10.0  # of a row, where the mean is 1
RECIPE = 2  # raised when the same text would give other codebooks: cached sets of before are learnt anew
METRIC = "metric"  # (L, D, D): how errors of keys and values are counted
_FELT_TOKENS = 6144  # that it is estimated from, in whole windows
_HELD_OUT = 10  # one row in so many is kept for the health figures


@dataclasses.dataclass(frozen=True)
class CalibrationJob:
    """How much text is read, and how much of it is kept."""

    windows: int = 16
    window: int = 1024  # tokens of a window
    rows: int = 16384  # rows a layer that codebooks are learnt from
    seed: int = 0

    def __post_init__(self):
        """Checks the numbers."""
        check_least(self, windows=1, window=2, rows=1, seed=0)

    def within(self, context: int) -> "CalibrationJob":
        """The same amount of text in windows that a model of this context can read."""
        window = min(self.window, context)
        return dataclasses.replace(self, window=window, windows=-(-self.windows * self.window // window))


def codebook_path(model: LoadedModel, strategy: Strategy, devices: int) -> Path:
    """Where the cache keeps the codebooks that ``strategy`` needs for ``model``."""
    dims = FAMILIES[model.family].dims(model.config)
    # Partial sums depend on how many devices share the work; keys and values do not.
    many = f"-{devices}-devices" if isinstance(strategy, Tensor) else ""
    name = "+".join(strategy.sites(dims)) + "-" + strategy.codec.spec().replace(":", "-").replace("=", "") + many
    return cache_dir() / "codebooks" / f"{model.sha256[:16]}-recipe{RECIPE}" / name


def check(manifest: Manifest, model: LoadedModel, strategy: Strategy, devices: int) -> None:
    """Raises ThinwireError where codebooks are for something else than ``strategy`` on ``model``."""
    dims = FAMILIES[model.family].dims(model.config)
    check_fits(
        manifest,
        model_sha256=model.sha256,
        model_name=model.name,
        layers=dims.layers,
        sites_dims={site: dims.site_dim(site) for site in strategy.sites(dims)},
        codec_spec=strategy.codec.spec(),
    )
    made_for = manifest.data.get("devices")
    if isinstance(strategy, Tensor) and made_for != devices:
        raise ThinwireError(
            f"These codebooks are for the partial sums of {made_for} devices, not {devices}; calibrate again with "
            f"--devices {devices}."
        )


def collect(
    model: LoadedModel,
    strategies: Sequence[Strategy],
    devices: int,
    windows_WT: Windows,
    job: CalibrationJob,
    progress: Progress = lambda done, total: None,
) -> Samples:
    """Rows at every site that the strategies code, from one pass over the windows.

    Of keys and values that are predicted comes ``METRIC``, too, how errors of theirs are counted.

    Keeps ``job.rows`` rows a layer and site on the host, whatever the length of the text. Token 0 is not among them
    where it is never sent: in causal models, and where every strategy gives each device a class token of its own.

    Raises:
        ThinwireError: a codec does not fit the model, or needs more rows than will be kept.
    """
    dims = FAMILIES[model.family].dims(model.config)
    tokens = windows_WT.shape[1]
    first = int(dims.causal or all(strategy.layout(dims, tokens, 2, None).shared for strategy in strategies))
    per_window = min(-(-job.rows // len(windows_WT)), tokens - first)
    rows = len(windows_WT) * per_window
    for strategy in strategies:
        strategy.check(dims)
        needed = quantisers.codewords(strategy.codec)
        if rows - rows // _HELD_OUT < needed or rows < _HELD_OUT:
            raise ThinwireError(
                f"{rows} rows, one in {_HELD_OUT} of them held out, are too few to learn {needed} codewords; take more "
                "or longer windows and keep more rows of them, or choose a smaller size."
            )
    sites = sorted({site for strategy in strategies for site in strategy.sites(dims)})
    if any(isinstance(strategy.codec, Predictive) for strategy in strategies):
        sites.append(WEIGHT)
    by_metric = any(has_metric(strategy.codec, site) for strategy in strategies for site in strategy.sites(dims))
    felt = -(-_FELT_TOKENS // tokens) if by_metric else 0
    felt_WT = windows_WT[:felt]
    total = len(windows_WT) + len(felt_WT)
    told = lambda done, _: progress(done, total)
    samples = sample_sites(model, sites, windows_WT, per_window, devices, job.seed, told, first)
    if felt:
        told = lambda done, _: progress(len(windows_WT) + done, total)
        samples[METRIC] = sensitivity(model, felt_WT, job.seed, first, told)
    return samples


def has_metric(codec: Codec, site: str) -> bool:
    """Whether errors at a site are counted by what the predictions feel of them."""
    return isinstance(codec, Predictive) and codec.rotate == "fisher" and site == SITE


def learn(
    model: LoadedModel,
    strategy: Strategy,
    devices: int,
    samples: Samples,
    job: CalibrationJob,
    data: Mapping[str, Any],
    progress: Progress = lambda done, total: None,
    out: Path | None = None,
) -> store.CodebookSet:
    """Learns the codebooks of a strategy from rows, layer by layer, and saves them.

    What is learnt is kept beside the place as it comes: a run that was killed goes on with the layer that it was at.

    Args:
        data: what the rows are of, for the manifest.
        out: where to save; by default in the cache.

    Raises:
        ThinwireError: the codec learns nothing, there are fewer rows than codewords, or the set cannot be saved.
    """
    if not strategy.codec.learns:
        raise ThinwireError(f"{strategy.codec.spec()} learns nothing, so there is nothing to calibrate.")
    dims = FAMILIES[model.family].dims(model.config)
    sites = strategy.sites(dims)
    place = out or codebook_path(model, strategy, devices)
    rows = int(samples[sites[0]].shape[1])
    setting = {"model": model.sha256, "codec": strategy.codec.spec(), "sites": sites, "devices": devices, "rows": rows}
    unfinished = Unfinished(place, {**setting, "seed": job.seed, "data": dict(data)})
    arrays: dict[str, dict[str, np.ndarray]] = {}
    figures: dict[str, list[dict[str, float]]] = {}
    for i, site in enumerate(sites):
        kept = np.arange(samples[site].shape[1]) % _HELD_OUT != _HELD_OUT - 1
        once = lambda name, learn, site=site: unfinished.once(f"{site}-{name}", learn)
        shared, layers = _learner(model, strategy.codec, samples, site, kept, job.seed, once)
        learnt: list[dict[str, np.ndarray]] = []
        figures[site] = []
        for params, coded_nD in layers:
            figures[site].append(figures_of(_quantiser(strategy.codec), params, coded_nD) if len(coded_nD) else EXACT)
            learnt.append(params)
            progress(i * dims.layers + len(learnt), dims.layers * len(sites))
        arrays[site] = {name: np.stack([params[name] for params in learnt]) for name in learnt[0]}
        if shared:
            arrays[SHARED] = shared
    manifest = Manifest(
        model=model.name,
        model_sha256=model.sha256,
        family=model.family,
        layers=dims.layers,
        codec=strategy.codec.spec(),
        sites={site: dims.site_dim(site) for site in sites},
        data={**data, "rows": rows, "devices": devices},
        seed=job.seed,
        health=figures,
    )
    manifest = store.save(place, manifest, arrays)
    unfinished.remove()
    return store.CodebookSet(manifest, arrays)


def _learner(
    model: LoadedModel, codec: Codec, samples: Samples, site: str, kept_n: np.ndarray, seed: int, once: Once
):  # fmt: skip
    """What all layers share, and for one layer after another its arrays and the held-out rows as they are quantised."""
    key, rows_LnD = jax.random.key(seed), samples[site]
    if not isinstance(codec, Predictive):
        learn = lambda i, rows: quantisers.learn(jax.random.fold_in(key, i), codec, rows[kept_n])
        return {}, (
            (once(f"layer-{i}", functools.partial(learn, i, rows)), rows[~kept_n]) for i, rows in enumerate(rows_LnD)
        )
    weights_Ln = _weights(samples[WEIGHT][:, :, 0]) if WEIGHT in samples else None
    metric_LDD = samples[METRIC] if has_metric(codec, site) else None
    if not codec.knows_tokens:
        nothing_n0 = np.zeros((rows_LnD.shape[1], 0), np.float32)
        return {}, learn_layers(key, codec, nothing_n0, rows_LnD, kept_n, weights_Ln, once, metric_LDD)
    back_nH = samples[HISTORY][0][:, : codec.history]
    tokens_nF = embed_history(model, back_nH, samples[POSITION][0, :, 0])
    project = lambda: {"project": shared_projection(tokens_nF[kept_n], rows_LnD[:, kept_n], codec.rank)}
    shared = once("project", project)
    features_nR = tokens_nF @ shared["project"]
    return shared, learn_layers(key, codec, features_nR, rows_LnD, kept_n, weights_Ln, once, metric_LDD)


def _weights(regard_Ln):
    """How much rows count: softened, so that a few tokens that everybody looks at do not stand for all."""
    weights_Ln = np.sqrt(regard_Ln)
    weights_Ln /= weights_Ln.mean(axis=1, keepdims=True) + np.float32(1e-12)
    return np.clip(weights_Ln, LEAST_WEIGHT, MOST_WEIGHT)


def _quantiser(codec: Codec) -> Codec:
    """What codes the rows that ``_learner`` hands out."""
    return codec.quantiser if isinstance(codec, Predictive) else codec
