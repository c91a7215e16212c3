"""What a model or a codebook set is: sizes, shapes, and how well each layer is described."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from thinwire.codebooks.manifest import Manifest
from thinwire.codecs.base import SHARED
from thinwire.dims import ModelDims
from thinwire.reports.plots import LIGHT


def model_facts(dims: ModelDims, params: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes of a model, and every array: its shape, count of values, mean square, largest absolute value."""
    arrays = {}

    def walk(tree: Mapping[str, Any], prefix: str) -> None:
        for name, value in tree.items():
            if isinstance(value, Mapping):
                walk(value, f"{prefix}{name}.")
            else:
                x = np.asarray(value)
                arrays[prefix + name] = {
                    "shape": list(x.shape),
                    "values": int(x.size),
                    "rms": float(np.sqrt(np.mean(np.square(x, dtype=np.float64)))),
                    "max": float(np.abs(x).max()),
                }

    walk(params, "")
    total = sum(array["values"] for array in arrays.values())
    kv = dims.site_dim("kv")
    return {
        "layers": dims.layers,
        "width": dims.width,
        "heads": dims.heads,
        "kv_heads": dims.kv_heads,
        "head": dims.head,
        "hidden": dims.hidden,
        "vocab": dims.vocab,
        "context": dims.context,
        "causal": dims.causal,
        "parameters": total,
        "bytes_float32": 4 * total,
        "bytes_bfloat16": 2 * total,
        "keys_values_a_token_a_layer": kv,
        "cache_bytes_a_token_float32": 4 * kv * dims.layers,
        "arrays": arrays,
    }


def codebook_facts(manifest: Manifest, bits: Mapping[str, float]) -> dict[str, Any]:
    """What a codebook set is for and made from, its size, and the figures of each layer on rows held out.

    Args:
        manifest: of the set.
        bits: bits a row costs, by site.
    """
    values = sum(math.prod(shape) for arrays in manifest.shapes.values() for shape in arrays.values())
    return {
        "model": manifest.model,
        "codec": manifest.codec,
        "sites": manifest.sites,
        "layers": manifest.layers,
        "bits_per_token": dict(bits),
        "compression": {site: 32 * dim / bits[site] for site, dim in manifest.sites.items() if bits[site]},
        "bytes": 4 * values,
        "shapes": manifest.shapes,
        "data": manifest.data,
        "seed": manifest.seed,
        "created": manifest.created,
        "thinwire": manifest.thinwire,
        "by_layer": {site: figures for site, figures in manifest.health.items() if site != SHARED},
    }


def codebook_figure(facts: Mapping[str, Any]) -> Figure:
    """Relative error and dead codewords by layer."""
    theme = LIGHT
    figure = Figure(figsize=(7.2, 4.2), facecolor=theme.paper, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_facecolor(theme.paper)
    dead = None
    for colour, (site, layers) in zip(theme.palette, facts["by_layer"].items(), strict=False):
        index = range(len(layers))
        axes.plot(index, [layer["relative_error"] for layer in layers], color=colour, marker="o", ms=3.5, label=site)
        if any(layer.get("dead", 0) for layer in layers):
            dead = dead or axes.twinx()
            dead.bar(index, [layer.get("dead", 0) for layer in layers], color=colour, alpha=0.25)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("layer", color=theme.ink)
    axes.set_ylabel("residual variance / variance (line)", color=theme.ink)
    if dead is not None:
        dead.set_ylabel("dead codewords (bars)", color=theme.faint)
        dead.set_ylim(0, max(4.0, 4 * dead.get_ylim()[1]))
    axes.grid(color=theme.grid)
    axes.legend(frameon=False)
    axes.set_title(f"{facts['codec']} of {facts['model']}, rows held out", loc="left", color=theme.ink)
    return figure
