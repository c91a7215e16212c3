"""Which errors of a key and value the model's predictions feel: the Fisher information at the coded rows, by layer.

An error e of the row that other devices see of a token changes the predictions by ½ eᵀ F e in KL, to second order,
with F the Fisher information of the predictions in that row. A mean of F over tokens is the metric to count errors in.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from thinwire.models.families import FAMILIES
from thinwire.strategies import Setting, Single
from thinwire.training.samples import FAR, Windows
from thinwire.weights.load import LoadedModel

SITE = "kv"
_ERROR = "error"  # a site of the codecs' arrays: what is added to the rows that others see
_TILE = 256  # queries whose scores are in the cache together


@dataclasses.dataclass(frozen=True)
class _SeenWithError(Single):
    """The single device, where distant queries see keys and values with an error added to their rows.

    A query counts by the root of the chance that it is on another device, as in ``samples``: in full from FAR tokens.
    """

    @property
    def recomputed_backwards(self) -> bool:
        """Layers of long windows do not fit side by side."""
        return True

    def attend(self, scope, call):
        """Every query sees its neighbours as they are and the others with their errors."""
        rows_TD = call.sites[SITE]
        of_rows = lambda rows_TD: call.keys_values(SITE, rows_TD)
        (k_TKd, v_TKd), (seen_k_TKd, seen_v_TKd) = of_rows(rows_TD), of_rows(rows_TD + scope.codecs[_ERROR]["rows"])
        q_HTd = call.rotate(call.q_THd, call.position_T).swapaxes(0, 1)
        by_head = lambda x_TKd: x_TKd.swapaxes(0, 1)
        k_KTd, seen_k_KTd = (by_head(call.rotate(k, call.position_T)) for k in (k_TKd, seen_k_TKd))
        v_KTd, seen_v_KTd = by_head(v_TKd), by_head(seen_v_TKd)
        tokens = len(call.position_T)

        def of_head(_, head):
            kv = head * k_KTd.shape[0] // q_HTd.shape[0]
            k_Td, v_Td = k_KTd[kv], v_KTd[kv]
            wrong_k_Td, wrong_v_Td = seen_k_KTd[kv] - k_Td, seen_v_KTd[kv] - v_Td

            def of_tile(start):
                """Some queries, and of a causal model no keys behind them."""
                q_Qd, stop = q_HTd[head, start : start + _TILE], min(start + _TILE, tokens)
                back_QT = call.position_T[start:stop, None] - call.position_T[None, : stop if call.causal else tokens]
                keys = slice(0, back_QT.shape[1])
                apart_QT = jnp.sqrt(jnp.clip(jnp.abs(back_QT) / FAR, 0, 1))
                score_QT = call.scale * (q_Qd @ k_Td[keys].T + apart_QT * (q_Qd @ wrong_k_Td[keys].T))
                p_QT = jax.nn.softmax(jnp.where(back_QT >= 0, score_QT, -jnp.inf) if call.causal else score_QT)
                return p_QT @ v_Td[keys] + (p_QT * apart_QT) @ wrong_v_Td[keys]

            return None, jnp.concatenate([of_tile(start) for start in range(0, tokens, _TILE)])

        return jax.lax.scan(of_head, None, jnp.arange(q_HTd.shape[0]))[1].swapaxes(0, 1)


def sensitivity(
    model: LoadedModel,
    windows_WT: Windows,
    seed: int = 0,
    first: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Float[np.ndarray, "L D D"]:
    """The mean over tokens of g gᵀ / |g|, where E[g gᵀ] is F, of keys and values before rotation.

    One gradient a window: of the log-probability of tokens drawn from the model's own predictions or, for a model that
    predicts no tokens, of its output rows in random directions. Divided by its length, so that a few tokens that
    everybody looks at do not stand for all: by g gᵀ itself a few directions have nearly all of the metric.

    Args:
        first: the first position that counts.
        progress: told how many windows are done, of how many.
    """
    family = FAMILIES[model.family]
    dims, tokens = family.dims(model.config), windows_WT.shape[1]
    strategy = _SeenWithError()
    setting = Setting(dims, strategy.layout(dims, tokens, 1, None))

    def drawn(error_LTD: Float[Array, "L T D"], params, inputs_T, key) -> Array:
        arrays = {_ERROR: {"rows": error_LTD}}
        x_TD, _ = family.forward(params, model.config, inputs_T, jnp.arange(tokens), strategy, setting, arrays)
        if not dims.language:
            return jnp.sum(x_TD * jax.random.normal(key, x_TD.shape, x_TD.dtype))
        log_TV = jax.nn.log_softmax(family.unembed(params, x_TD))
        drawn_T = jax.random.categorical(key, jax.lax.stop_gradient(log_TV))
        return jnp.sum(jnp.take_along_axis(log_TV, drawn_T[:, None], axis=1))

    @jax.jit
    def of_window(params, inputs_T, key) -> Float[Array, "L D D"]:
        none_LTD = jnp.zeros((dims.layers, tokens, dims.site_dim(SITE)), jnp.float32)
        gradient_LTD = jax.grad(drawn)(none_LTD, params, inputs_T, key)[:, first:]
        size_LT1 = jnp.linalg.norm(gradient_LTD, axis=2, keepdims=True)
        softened_LTD = gradient_LTD / jnp.maximum(size_LT1, 1e-30)
        return jnp.einsum("lta,ltb->lab", softened_LTD, gradient_LTD) / (tokens - first)

    params = jax.device_put(model.params)
    total_LDD = np.zeros((dims.layers, dims.site_dim(SITE), dims.site_dim(SITE)), np.float64)
    for w, inputs_T in enumerate(windows_WT):
        total_LDD += np.asarray(of_window(params, inputs_T, jax.random.fold_in(jax.random.key(seed), w)))
        progress(w + 1, len(windows_WT))
    return (total_LDD / len(windows_WT)).astype(np.float32)
