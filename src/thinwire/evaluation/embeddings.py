"""Sentence embeddings by strategy: how near they are to the single device's, and whether they rank pairs alike."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from thinwire.engine import Codecs, Engine
from thinwire.errors import ThinwireError
from thinwire.evaluation.compare import identity, make_engine
from thinwire.strategies import Single, Strategy
from thinwire.strategies.balance import Split
from thinwire.weights.load import LoadedModel

Progress = Callable[[str], None]


def sentence_embedding(features_TD: Float[np.ndarray, "T D"]) -> Float[np.ndarray, " D"]:
    """The mean of the tokens' features, of length one."""
    mean_D = features_TD.mean(axis=0, dtype=np.float64)
    return (mean_D / np.linalg.norm(mean_D)).astype(np.float32)


def pair_similarities(embeddings_SD: Float[np.ndarray, "S D"]) -> Float[np.ndarray, " P"]:
    """The cosine of every pair of sentences, each pair once."""
    similar_SS = embeddings_SD @ embeddings_SD.T
    return similar_SS[np.triu_indices(len(embeddings_SD), 1)]


def spearman(a: Float[np.ndarray, " P"], b: Float[np.ndarray, " P"]) -> float:
    """Spearman's rank correlation, equal values at their mean rank; NaN where one side does not vary."""
    rank_a, rank_b = _ranks(a), _ranks(b)
    if not (rank_a.std() and rank_b.std()):
        return float("nan")
    return float(np.corrcoef(rank_a, rank_b)[0, 1])


def _ranks(values):
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[place]


def closeness(found_SD: Float[np.ndarray, "S D"], single_SD: Float[np.ndarray, "S D"]) -> dict[str, float]:
    """How near embeddings are to the single device's, sentence by sentence and as a ranking of all pairs."""
    cosine_S = (found_SD.astype(np.float64) * single_SD).sum(axis=1)
    return {
        "mean_cosine": float(cosine_S.mean()),
        "lowest_cosine": float(cosine_S.min()),
        "rank_correlation": spearman(pair_similarities(found_SD), pair_similarities(single_SD)),
    }


def compare_embeddings(
    model: LoadedModel,
    strategies: Sequence[Strategy],
    devices: int,
    windows_WT: Int[np.ndarray, "W T"],
    codecs_of: Callable[[Strategy], Codecs],
    split: Split = None,
    dtype: str = "float32",
    progress: Progress = lambda _: None,
) -> list[dict[str, Any]]:
    """Embeds every window by every strategy on virtual devices.

    Args:
        strategies: the single device is run as the reference whether it is among them or not.
        windows_WT: token ids, a text each; all of one length, so that nothing is padded and each program is compiled
            once.
        codecs_of: the learnt arrays that a strategy needs, by site.
        progress: told what is run, once a window.

    Returns:
        A row for each strategy, in order.

    Raises:
        ThinwireError: the model gives no features of tokens, or there are too few windows to rank pairs of them.
    """
    reference = make_engine(model, Single(), 1, codecs_of, dtype=dtype)
    if reference.dims.language or not reference.dims.inputs_known:
        raise ThinwireError(f"{model.name} gives no features of text to embed sentences by; name an encoder of text.")
    if len(windows_WT) < 3:
        raise ThinwireError(f"{len(windows_WT)} texts make too few pairs to rank; ask for at least 3.")
    engines: list[Engine] = []
    for strategy in strategies:  # all of them first: what is missing or cannot be split is said before anything runs
        engine = make_engine(model, strategy, devices, codecs_of, split, dtype, [reference, *engines])
        engine.layout(windows_WT.shape[1])
        engines.append(engine)

    def embed(engine: Engine) -> Float[np.ndarray, "S D"]:
        found = []
        for ids_T in windows_WT:
            progress(engine.strategy.spec())
            found.append(sentence_embedding(engine.logits(ids_T)))
        return np.stack(found)

    single_SD = embed(reference)
    rows = []
    for engine in engines:
        found_SD = single_SD if isinstance(engine.strategy, Single) else embed(engine)
        rows.append({**identity(engine, windows_WT.shape[1]), **closeness(found_SD, single_SD)})
    return rows
