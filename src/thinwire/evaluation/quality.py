"""What a transmitted bit is worth: perplexity against bits, over enough windows to say how sure it is."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from thinwire.engine import Codecs, Engine, cast
from thinwire.evaluation.metrics import Distance, distance, summarise
from thinwire.strategies import Single, Strategy
from thinwire.strategies.balance import Split
from thinwire.strategies.parse import preset_of
from thinwire.weights.load import LoadedModel

Progress = Callable[[int], None]
Found = dict[str, list[Distance]]  # by strategy, one for each window that is done
# Beside the strategies: the single device with the weights as they were before they were trained.
BASE = "base"
Windows = Int[np.ndarray, "W T"] | Float[np.ndarray, "W T P"]
Outputs = Float[np.ndarray, "T V"]


def measure_quality(
    model: LoadedModel,
    strategies: Sequence[Strategy],
    where: Mesh | int,
    windows_WT: Int[np.ndarray, "W T"],
    codecs_of: Callable[[Strategy], Codecs],
    split: Split = None,
    done: Found | None = None,
    save: Callable[[Found], None] = lambda found: None,
    progress: Progress = lambda windows: None,
    base: LoadedModel | None = None,
) -> Found:
    """Reads every window on the single device and by every strategy, as ``measure``.

    Args:
        windows_WT: token ids; perplexity is over the T−1 predicted tokens of each.
    """
    of_window = lambda w, found_TV, single_TV: distance(found_TV, single_TV, windows_WT[w])
    return measure(model, strategies, where, windows_WT, of_window, codecs_of, split, done, save, progress, base)


def measure(
    model: LoadedModel,
    strategies: Sequence[Strategy],
    where: Mesh | int,
    inputs_W: Windows,
    compare: Callable[[int, Outputs, Outputs], Any],
    codecs_of: Callable[[Strategy], Codecs],
    split: Split = None,
    done: Mapping[str, list[Any]] | None = None,
    save: Callable[[dict[str, list[Any]]], None] = lambda found: None,
    progress: Progress = lambda windows: None,
    base: LoadedModel | None = None,
) -> dict[str, list[Any]]:
    """Runs every input on the single device and by every strategy, and keeps what a comparison of the two gives.

    Inputs are the outer loop, so that what is found so far is a table of all strategies, and a run that was broken off
    goes on from ``done``.

    Args:
        where: virtual devices, or a mesh; strategies of the single device run on one.
        inputs_W: windows of token ids, or the rows of images.
        compare: of an input's number, a strategy's outputs and the single device's.
        codecs_of: the learnt arrays that a strategy needs, by site.
        done: what an earlier run of the same settings has found, by strategy.
        save: told what has been found after each input.
        progress: told how many inputs are done.
        base: the model before it was trained; what its single device finds is kept as ``BASE``.
    """
    reference = _single(model)
    model = reference.model
    engines: list[Engine] = []
    for strategy in strategies:
        alone = isinstance(strategy, Single)
        place, shares = (1, None) if alone else (where, split)
        engines.append(Engine(model, strategy, place, codecs_of(strategy), shares, sharing=[reference, *engines]))
        engines[-1].layout(inputs_W.shape[1])  # what cannot be split is said before anything runs
    named = {engine.strategy.spec(): engine for engine in engines} | ({} if base is None else {BASE: _single(base)})
    found = {name: list((done or {}).get(name, [])) for name in named}
    for w, inputs_T in enumerate(inputs_W):
        missing = [name for name in named if len(found[name]) <= w]
        if missing:
            single_TV = reference.logits(inputs_T)
            for name in missing:
                found[name].append(compare(w, named[name].logits(inputs_T), single_TV))
            save(found)
        progress(w + 1)
    return found


def _single(model: LoadedModel) -> Engine:
    """The single device, its weights in place for all engines of the same model."""
    return Engine(dataclasses.replace(model, params=jax.device_put(cast(model.params, "float32"))), Single(), 1)


def quality_rows(
    model_dims: Any, strategies: Sequence[Strategy], found: Found, dropped: str | None = None
) -> list[dict[str, Any]]:
    """A row for each strategy: bits, compression against float32 keys and values, perplexity, context kept.

    Context kept is the part of what remote context is worth that survives coding: 1 − ln(ratio) / ln(ratio without any
    remote context) [coding study, section 4]. It needs ``dropped``, the strategy that sends nothing.

    All figures are against the single device with the same weights. ``base_perplexity`` is what the single device had
    before these were trained, None where they were not: what training has taught of the text is no gain of a codec.
    """
    before = summarise(found[BASE]).perplexity if BASE in found else None
    worth = math.log(summarise(found[dropped]).perplexity_ratio) if dropped in found else math.nan
    rows = []
    for strategy in strategies:
        figures = summarise(found[strategy.spec()])
        bits = strategy.bits_per_token(model_dims)
        rows.append(
            {
                "strategy": strategy.spec(),
                "codec": strategy.codec.spec(),
                "preset": preset_of(strategy),
                "bits_per_token_per_layer": bits,
                "compression": 32 * model_dims.site_dim("kv") / bits if bits else math.inf,
                **dataclasses.asdict(figures),
                "context_kept": 1 - math.log(figures.perplexity_ratio) / worth if worth else math.nan,
                "base_perplexity": before,
                "windows": len(found[strategy.spec()]),
            }
        )
    return rows


def trained_row(model_dims: Any, strategy: Strategy, found: Found) -> dict[str, Any]:
    """What training a model for a strategy came to: against its own single device, and against the model before.

    The first leaves out what training has taught of the text, but forgives what the single device has lost by it; the
    second does neither, so both are told.

    Args:
        found: of the trained model, with ``BASE``.
    """
    own = found[strategy.spec()]
    figures = summarise(own)
    # As if the base were this run's single device; divergence is of the trained one and left out.
    pairs = zip(own, found[BASE], strict=True)
    against = summarise([dataclasses.replace(one, nll_single=base.nll) for one, base in pairs])
    bits = strategy.bits_per_token(model_dims)
    return {
        "strategy": strategy.spec(),
        "bits_per_token_per_layer": bits,
        "compression": 32 * model_dims.site_dim("kv") / bits if bits else math.inf,
        **dataclasses.asdict(figures),
        "single_perplexity": figures.perplexity / figures.perplexity_ratio,
        "base_perplexity": summarise(found[BASE]).perplexity,
        "base_ratio": against.perplexity_ratio,
        "base_standard_error": against.standard_error,
        "windows": len(own),
    }
