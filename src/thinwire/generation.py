"""Generation: a prompt read by an engine, and tokens from it one after another."""

from collections.abc import Iterator

import jax
import numpy as np
from jaxtyping import Int

from thinwire.decoding import Decoding, parse_decoding
from thinwire.engine import Engine
from thinwire.errors import ThinwireError
from thinwire.models.families import FAMILIES
from thinwire.sampling import Sampling, choose
from thinwire.weights.load import LoadedModel


def decoding(engine: Engine, name: str) -> Decoding:
    """The engine's decoding of that name, made once.

    Raises:
        ThinwireError: there is none of that name, or the engine's model or strategy cannot be gone on from by it.
    """
    kind = parse_decoding(name)
    if name not in engine.decodings:
        kind.check(engine.model.name, engine.strategy, engine.dims)
        engine.decodings[name] = kind(engine)
    return engine.decodings[name]


def generate(
    engine: Engine,
    ids_T: Int[np.ndarray, " T"],
    max_tokens: int,
    sampling: Sampling | None = None,
    decode: str = "one",
) -> Iterator[int]:
    """Reads the prompt by the engine's strategy, then goes on token by token.

    Args:
        decode: ``one``: the device that holds the last token goes on alone, own tokens exact, the others' as decoded.
            ``one:coded``: the same, and their codes are kept instead of decoded rows. ``all``: all devices, each its
            own tokens exactly. ``all:bfloat16``: the same, and what they exchange has half the bytes.

    Returns:
        An iterator over new tokens; it stops after ``max_tokens`` or, without giving it, at an end token.

    Raises:
        ThinwireError: at once, not with the first token: the prompt or the number of tokens does not fit the model, or
            the strategy cannot be gone on from in this way.
    """
    how = decoding(engine, decode)
    check_length(engine.model, len(ids_T), max_tokens)
    ids_T = FAMILIES[engine.model.family].check_inputs(engine.model.config, ids_T)
    engine.layout(len(ids_T))
    ends = set(engine.model.tokenizer.eos_ids) if engine.model.tokenizer else set()
    return _tokens(how, ids_T, max_tokens, sampling or Sampling(), ends)


_choose_here = jax.jit(choose)


def _tokens(how: Decoding, ids_T, max_tokens: int, sampling: Sampling, ends: set[int]) -> Iterator[int]:
    logits_V, state = how.begin(ids_T, max_tokens)
    token = int(_choose_here(logits_V, sampling.draw(0)))
    for step in range(max_tokens):
        if token in ends:
            return
        yield token
        if step + 1 < max_tokens:
            found = how.step(how.weights, np.int32(token), np.int32(len(ids_T) + step), state, sampling.draw(step + 1))
            token, state = int(how.first(found.token.addressable_data(0))), found.state


def check_length(model: LoadedModel, prompt: int, new: int) -> None:
    """Raises ThinwireError where a prompt of so many tokens cannot be continued by so many."""
    dims = FAMILIES[model.family].dims(model.config)
    if not (dims.causal and dims.language):
        raise ThinwireError(f"{model.name} reads a whole input at once and continues nothing; name a language model.")
    context = dims.context
    if new < 1:
        raise ThinwireError(f"max-tokens is {new}; ask for at least 1.")
    if prompt < 1:
        raise ThinwireError("The prompt is empty; give at least one token.")
    if prompt + new > context:
        raise ThinwireError(
            f"{prompt} prompt tokens and {new} new ones are more than the {context} that {model.name} reads; "
            "shorten one of them."
        )
