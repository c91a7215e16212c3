"""Greedy continuations by strategy and way of decoding, beside those of the single device."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from thinwire.decoding import Decoding, Step, parse_decoding
from thinwire.engine import Codecs, Engine, cast
from thinwire.generation import check_length, decoding
from thinwire.planning.cache_memory import cache_memory
from thinwire.strategies import Single, Strategy
from thinwire.strategies.balance import Split
from thinwire.weights.load import LoadedModel

BATCH = 10  # prompts that are continued at a time: a step reads the weights once for all of them


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How far continuations are from the single device's, over all prompts."""

    identical: float  # share of prompts with all tokens the same
    common_prefix: float  # mean number of tokens before the first difference
    same_token: float  # share of equal tokens at equal places: small soon after a difference, whatever its weight
    top1_told: float  # share of equal choices where each follows the single device's tokens (teacher forcing)


def agreement(
    free_PN: Int[np.ndarray, "P N"], told_PN: Int[np.ndarray, "P N"], single_PN: Int[np.ndarray, "P N"]
) -> Agreement:
    """Compares the tokens chosen freely, and those chosen when told the single device's, with the latter."""
    same_PN = free_PN == single_PN
    prefix_P = np.cumprod(same_PN, axis=1).sum(axis=1)
    return Agreement(
        identical=float(same_PN.all(axis=1).mean()),
        common_prefix=float(prefix_P.mean()),
        same_token=float(same_PN.mean()),
        top1_told=float((told_PN == single_PN).mean()),
    )


def compare_continuations(
    model: LoadedModel,
    strategies: Sequence[Strategy],
    decodes: Sequence[str],
    devices: int,
    prompts_PT: Int[np.ndarray, "P T"],
    count: int,
    codecs_of: Callable[[Strategy], Codecs],
    split: Split = None,
    dtype: str = "float32",
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[list[dict[str, Any]], Int[np.ndarray, "P N"]]:
    """Continues every prompt by ``count`` tokens (end tokens do not end it), by every strategy in every way.

    Args:
        decodes: names of ``thinwire.decoding.DECODINGS``.
        prompts_PT: of one length, so that each program is compiled once.
        progress: told what is worked on, at each prompt read and each token made (``steps`` times in all).

    Returns:
        A row for each strategy and way, and the tokens of the single device.

    Raises:
        ThinwireError: at once, where a strategy cannot be gone on from in a way, or the tokens do not fit the model.
    """
    prompt = prompts_PT.shape[1]
    check_length(model, prompt, count)
    model = dataclasses.replace(model, params=jax.device_put(cast(model.params, dtype)))  # once for all engines
    reference = Engine(model, Single(), 1, dtype=dtype)
    for strategy in strategies:
        for name in decodes:
            parse_decoding(name).check(model.name, strategy, reference.dims)
    single_PN, _ = _continue(decoding(reference, "one"), prompts_PT, count, None, lambda: progress("single"))
    rows = []
    for strategy in strategies:
        alone = isinstance(strategy, Single)
        where = (1, {}, None) if alone else (devices, codecs_of(strategy), split)
        engine = Engine(model, strategy, *where, dtype, sharing=[reference])
        for name in decodes:
            how, what = decoding(engine, name), f"{strategy.spec()} {name}"
            free_PN, told_PN = _continue(how, prompts_PT, count, single_PN, lambda what=what: progress(what))
            rows.append(
                {
                    "strategy": strategy.spec(),
                    "decode": name,
                    "devices": engine.devices,
                    "prompts": len(prompts_PT),
                    "prompt_tokens": prompt,
                    "new_tokens": count,
                    **dataclasses.asdict(agreement(free_PN, told_PN, single_PN)),
                    "prefill_bytes_per_device": max(engine.traffic(prompt).bytes_by_device),
                    "bytes_per_new_token_per_device": max(how.traffic().bytes_by_device),
                    "cache_bytes_per_device": cache_memory(engine, prompt, count).of(name),
                    "cache_bytes": dataclasses.asdict(cache_memory(engine, prompt, count)),
                }
            )
            engine.decodings.clear()  # a program of every way and batch would add up
    return rows, single_PN


def steps(prompts: int, count: int, rows: int) -> int:
    """How often ``compare_continuations`` tells of progress, the single device included."""
    batches = -(-prompts // BATCH)
    return (rows + 1) * (prompts + batches * (count - 1))


def _continue(how: Decoding, prompts_PT, count: int, told_PN, progress: Callable[[], None]):
    """The tokens of free continuations, and of those that are told what to go on with (if there is any)."""
    step = jax.jit(jax.vmap(_one_device(how), in_axes=(None, 0, None, 0)), donate_argnums=3)
    free, told = [], []
    for start in range(0, len(prompts_PT), BATCH):
        batch = slice(start, start + BATCH)
        begun = []
        for ids_T in prompts_PT[batch]:
            begun.append(how.begin(ids_T, count))
            progress()
        logits_BV = np.stack([logits_V for logits_V, _ in begun])
        told_BN = None if told_PN is None else told_PN[batch]
        states = [state for _, state in begun] * (1 if told_BN is None else 2)
        del begun
        state = jax.tree.map(lambda *one: jnp.stack(one), *states)
        del states
        found_BN = _greedy(how, step, logits_BV, state, prompts_PT.shape[1], count, told_BN, progress)
        free.append(found_BN[: len(logits_BV)])
        told.append(found_BN[len(logits_BV) :])
    return np.concatenate(free), np.concatenate(told)


def _greedy(
    how: Decoding, step, logits_BV: Float[np.ndarray, "B V"], state, position: int, count: int, told_BN, progress
):
    """``count`` tokens of each prompt; with ``told_BN`` of each prompt twice, free and told."""
    token_B = logits_BV.argmax(axis=1).astype(np.int32)
    chosen = [token_B if told_BN is None else np.concatenate([token_B, token_B])]
    for n in range(count - 1):
        fed_B = chosen[-1]
        if told_BN is not None:
            fed_B = np.concatenate([fed_B[: len(told_BN)], told_BN[:, n]])
        found = step(how.weights, fed_B, np.int32(position + n), state)
        state = found.state
        chosen.append(np.asarray(found.token))
        progress()
    return np.stack(chosen, axis=1)


def _one_device(how: Decoding):
    """A greedy step of one prompt, and the token that the first device says; nobody reads the logits."""

    def step(weights, token, position, state):
        found = how.function(weights, token, position, state, None)
        return Step(how.first(found.token), jnp.zeros(()), found.state)

    return step
