"""Streams text through a model and keeps a bounded sample of the values at the sites where context is coded."""

import dataclasses
from collections.abc import Callable, Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from thinwire.attention.call import AttentionCall
from thinwire.codecs.predictive import MAX_HISTORY
from thinwire.models.families import FAMILIES
from thinwire.strategies import Setting, Single, Tensor
from thinwire.strategies.tensor import SITES as TENSOR_SITES
from thinwire.weights.load import LoadedModel
from thinwire.wire.spmd import put, spmd

HISTORY, POSITION, WEIGHT = "history", "position", "weight"
TOKENS_BACK = MAX_HISTORY
QUERIES = 256
FAR = 256  # tokens: about a device's share of a prompt

# One row a token: ids, or the values of patches.
Windows = Int[np.ndarray, "W T"] | Float[np.ndarray, "W T P"]
Samples = dict[str, np.ndarray]  # by site (L, n, D) float32


@dataclasses.dataclass(frozen=True)
class _ProbeSingle(Single):
    """The single device, handing out the values at its sites."""

    wanted: tuple[str, ...] = ()

    def attend(self, scope, call):
        scope.emitted["sites"] = {
            site: _regard(call)[:, None] if site == WEIGHT else call.sites[site] for site in self.wanted
        }
        return super().attend(scope, call)


@dataclasses.dataclass(frozen=True)
class _ProbeTensor(Tensor):
    """Tensor parallelism, handing out its partial sums and what they add up to."""

    def reduce(self, scope, partial_TD, site):
        whole_TD = super().reduce(scope, partial_TD, site)
        both = jnp.concatenate([partial_TD.astype(jnp.float32), whole_TD])
        scope.emitted["sites"] = {**scope.emitted.get("sites", {}), site: both}
        return whole_TD


def _regard(call: AttentionCall) -> Float[Array, " T"]:
    """How much an error in a token's key and value disturbs the others: Σ p² over the queries that look at it.

    Each query counts by the chance that it is on another device: in full from FAR tokens on. Of long texts an even
    choice of QUERIES queries or more stands for all.
    """
    k_TKd, _ = call.keys_values("kv", call.sites["kv"])
    k_KTd = call.rotate(k_TKd, call.position_T).swapaxes(0, 1).astype(jnp.float32)
    q_THd = call.rotate(call.q_THd, call.position_T)
    step = max(1, len(q_THd) // QUERIES)
    q_HQd = q_THd[step - 1 :: step].swapaxes(0, 1).astype(jnp.float32)
    back_QT = call.position_T[step - 1 :: step, None] - call.position_T[None, :]
    apart_QT = jnp.clip(jnp.abs(back_QT) / FAR, 0, 1)

    def of_head(regard_T, head):
        score_QT = call.scale * q_HQd[head] @ k_KTd[head * len(k_KTd) // len(q_HQd)].T
        p_QT = jax.nn.softmax(jnp.where(back_QT >= 0, score_QT, -jnp.inf) if call.causal else score_QT)
        return regard_T + jnp.sum(p_QT**2 * apart_QT, axis=0), None

    nothing_T = jnp.zeros(k_KTd.shape[1], jnp.float32)
    return step * jax.lax.scan(of_head, nothing_T, jnp.arange(len(q_HQd)))[0]


def sample_sites(
    model: LoadedModel,
    sites: Iterable[str],
    windows_WT: Windows,
    per_window: int,
    devices: int = 1,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    first: int = 1,
) -> Samples:
    """Values at ``sites`` for randomly chosen rows of every window.

    With sites of sequence strategies of a model that reads token ids come, as ``HISTORY`` (1, n, TOKENS_BACK), the ids
    of each row's token and of those before it, −1 before the first; and, as ``POSITION`` (1, n, 1), where it stands.
    ``WEIGHT`` may be asked for like a site: (L, n, 1), how much the others look at a row's token.

    Position 0 is usually left out: its activations are outliers, and a causal model recomputes them everywhere for
    nothing; a class token that every device has for itself is never sent.

    Args:
        sites: of sequence strategies (``x``, ``norm``, ``kv``) or of tensor parallelism (``attn_out``, ``mlp_out``);
            those depend on ``devices``, and their rows are partial sums and whole ones in about equal number.
        per_window: rows of each window and layer, of all devices together; rounded up to the same for every device.
        progress: told how many windows are done, of how many.
        first: the first position that rows are taken from.
    """
    sites = tuple(sites)
    split = [s for s in sites if s in TENSOR_SITES]
    local = tuple(s for s in sites if s not in TENSOR_SITES)
    positions = np.arange(first, windows_WT.shape[1])
    runs = [_run(model, _ProbeSingle(wanted=local), 1, local, positions, per_window)] if local else []
    runs += [_run(model, _ProbeTensor(), devices, tuple(split), positions, per_window)] if split else []
    kept: Samples = {}
    for w, ids_T in enumerate(windows_WT):
        key = jax.random.fold_in(jax.random.key(seed), w)
        for run in runs:
            for site, values_LnD in run(ids_T, key).items():
                layers, rows, dim = values_LnD.shape
                if site not in kept:
                    kept[site] = np.empty((layers, len(windows_WT) * rows, dim), values_LnD.dtype)
                kept[site][:, w * rows : (w + 1) * rows] = values_LnD
        progress(w + 1, len(windows_WT))
    return kept


def _run(model: LoadedModel, strategy, devices: int, sites: tuple[str, ...], positions, per_window: int):
    """A function from one window and a key to the sampled values (L, n, D) of each site, at some of the positions."""
    family = FAMILIES[model.family]
    dims, tokens = family.dims(model.config), int(positions[-1]) + 1
    setting = Setting(dims, strategy.layout(dims, tokens, devices, None))
    params, sharded = strategy.shard(model.params, family.param_axes(model.config), dims, devices)

    def local(params, ids_T, rows_n):
        position_T = strategy.positions(setting)
        _, emitted = family.forward(params, model.config, ids_T, position_T, strategy, setting)
        return {site: emitted["sites"][site][:, rows_n] for site in sites}

    program = jax.jit(spmd(local, devices, (sharded, False, True)))
    placed = put(params, devices, sharded)
    # Rows to choose from: the positions; behind them, for tensor parallelism, those of the whole sums.
    blocks = 2 if sites[0] in TENSOR_SITES else 1
    rows_B = np.concatenate([block * tokens + positions for block in range(blocks)])
    each = min(-(-per_window // devices), len(rows_B))

    def run(ids_T, key):
        # Each device its own, or the whole sums would be the same ones again and again.
        keys = jax.random.split(key, devices)
        rows_Nn = np.stack([jax.random.choice(k, rows_B, (each,), replace=False) for k in keys])
        out = program(placed, ids_T, rows_Nn)
        values: Samples = {site: np.concatenate(np.asarray(x, np.float32), axis=1) for site, x in out.items()}
        if blocks == 1 and dims.inputs_known:
            back_nH = rows_Nn[0][:, None] - np.arange(TOKENS_BACK)
            values[POSITION] = rows_Nn[0][None, :, None].astype(np.int32)
            values[HISTORY] = np.where(back_nH >= 0, ids_T[np.maximum(back_nH, 0)], -1)[None].astype(np.int32)
        return values

    return run
