"""What a transmitted bit is worth: perplexity against bits, over enough windows to say how sure it is."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Int

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
    """Reads every window on the single device and by every strategy.

    Windows are the outer loop, so that what is found so far is a table of all strategies, and a run that was broken off
    goes on from ``done``.

    Args:
        where: virtual devices, or a mesh.
        windows_WT: token ids; perplexity is over the T−1 predicted tokens of each.
        codecs_of: the learnt arrays that a strategy needs, by site.
        done: what an earlier run of the same settings has found.
        save: told what has been found after each window.
        progress: told how many windows are done.
        base: the model before it was trained; what its single device finds is kept as ``BASE``.
    """
    reference = _single(model)
    model = reference.model
    engines: list[Engine] = []
    for strategy in strategies:
        engines.append(Engine(model, strategy, where, codecs_of(strategy), split, sharing=[reference, *engines]))
        engines[-1].layout(windows_WT.shape[1])  # what cannot be split is said before anything runs
    named = {engine.strategy.spec(): engine for engine in engines} | ({} if base is None else {BASE: _single(base)})
    found: Found = {name: list((done or {}).get(name, [])) for name in named}
    for w, ids_T in enumerate(windows_WT):
        missing = [name for name in named if len(found[name]) <= w]
        if missing:
            single_TV = reference.logits(ids_T)
            for name in missing:
                found[name].append(distance(named[name].logits(ids_T), single_TV, ids_T))
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
