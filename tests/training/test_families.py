"""Calibration of models whose inputs are not embeddings alone, and that see both ways."""

import jax.numpy as jnp
import numpy as np
import pytest

import tiny
from thinwire.codecs import CODECS
from thinwire.models.families import FAMILIES
from thinwire.strategies import parse_strategy
from thinwire.training.calibrate import CalibrationJob, collect
from thinwire.training.predictive import embed_history
from thinwire.training.samples import HISTORY, POSITION

TOKENS = 12


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert"])
def test_features_are_those_that_the_codec_sees_in_use(family):
    """A row's token and those before it as they enter layer 0: with positions, and normalised where the model does."""
    model, ids_T = tiny.model(family), tiny.ids(TOKENS)
    history_TH = np.arange(TOKENS)[:, None] - np.arange(3)
    history_TH = np.where(history_TH >= 0, ids_T[np.maximum(history_TH, 0)], -1)
    tokens_TF = embed_history(model, history_TH, np.arange(TOKENS))
    codec = CODECS["pvq"](groups=6, size=8, rank=5, history=3)
    project_FR = np.random.default_rng(0).standard_normal((tokens_TF.shape[1], 5)).astype(np.float32)
    params = {name: jnp.asarray(x) for name, x in model.params.items() if name != "layers"}
    x_TD = FAMILIES[family].embed(params, model.config, jnp.asarray(ids_T), jnp.arange(TOKENS))
    in_use = codec.token_features({"project": jnp.asarray(project_FR)}, x_TD)
    np.testing.assert_allclose(tokens_TF @ project_FR, in_use, atol=1e-4)


def test_a_bidirectional_model_codes_position_0_and_learns_from_it():
    model, strategy = tiny.model("bert"), parse_strategy("sequence:vq:groups=6:size=16")
    job = CalibrationJob(windows=3, window=TOKENS, rows=3 * TOKENS)
    windows_WT = np.stack([tiny.ids(TOKENS, 100 + w) for w in range(job.windows)])
    samples = collect(model, [strategy], 1, windows_WT, job)
    assert samples["kv"].shape == (2, 3 * TOKENS, 96)
    assert sorted(samples[POSITION][0, :TOKENS, 0]) == list(range(TOKENS))
    first = samples[POSITION][0, :, 0] == 0
    assert (samples[HISTORY][0, first, 1:] == -1).all()
    np.testing.assert_array_equal(samples[HISTORY][0, first, 0], windows_WT[:, 0])
