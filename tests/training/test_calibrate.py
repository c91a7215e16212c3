"""Codebooks learnt from text: what is saved, what is refused, and that they serve the model."""

import dataclasses
import errno

import numpy as np
import pytest

import tiny
from thinwire.codebooks import folders, store
from thinwire.codecs.base import SHARED
from thinwire.engine import Engine
from thinwire.errors import ThinwireError
from thinwire.evaluation.metrics import distance
from thinwire.models import llama
from thinwire.strategies import parse_strategy
from thinwire.training.calibrate import RECIPE, CalibrationJob, check, codebook_path, collect, learn
from thinwire.training.samples import HISTORY, POSITION, TOKENS_BACK

SPEC = "sequence:vq:groups=6:size=16"
TENSOR, DEVICES = "tensor:vq:groups=6:size=16", 3
JOB = CalibrationJob(windows=12, window=36, rows=420)


def windows_WT(job: CalibrationJob = JOB) -> np.ndarray:
    return np.stack([tiny.ids(job.window, 100 + w) for w in range(job.windows)])


def calibrated(spec, path, job=JOB, devices=DEVICES, model=None):
    strategy, model = parse_strategy(spec), model or tiny.model()
    samples = collect(model, [strategy], devices, windows_WT(job), job)
    return learn(model, strategy, devices, samples, job, {"source": "random"}, out=path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("codebooks")


@pytest.fixture(scope="module")
def learnt(folder):
    return calibrated(SPEC, folder / "kv")


@pytest.fixture(scope="module")
def learnt_tensor(folder):
    return calibrated(TENSOR, folder / "sums")


def test_what_is_saved_is_what_was_learnt_and_says_what_it_is(learnt, folder):
    loaded = store.load(folder / "kv")
    assert loaded.manifest.sites == {"kv": 48}
    assert loaded.manifest.seed == 0
    assert loaded.manifest.data == {"source": "random", "rows": 420, "devices": DEVICES}
    assert len(loaded.manifest.health["kv"]) == 2
    assert all(0 < layer["relative_error"] < 1 for layer in loaded.manifest.health["kv"])
    np.testing.assert_array_equal(loaded.arrays["kv"]["codebook"], learnt.arrays["kv"]["codebook"])
    assert loaded.arrays["kv"]["codebook"].shape == (2, 6, 16, 8)
    check(loaded.manifest, tiny.model(), parse_strategy(SPEC), DEVICES)
    check(loaded.manifest, tiny.model(), parse_strategy(SPEC), 7)  # keys and values are the same for any number
    check(loaded.manifest, tiny.model(), parse_strategy(SPEC.replace("sequence", "ring")), 2)


def test_the_seed_decides(learnt, folder):
    again = calibrated(SPEC, folder / "again")
    np.testing.assert_array_equal(again.arrays["kv"]["codebook"], learnt.arrays["kv"]["codebook"])
    assert again.manifest.arrays_sha256 == learnt.manifest.arrays_sha256
    other = calibrated(SPEC, folder / "other", dataclasses.replace(JOB, seed=1))
    assert other.manifest.arrays_sha256 != learnt.manifest.arrays_sha256


@pytest.mark.parametrize(
    ("change", "spec", "words"),
    [
        ({"sha256": "1" * 64}, SPEC, "for other weights of tiny: calibrate"),
        ({"sha256": "1" * 64, "name": "big"}, SPEC, "model tiny, not big"),
        ({"config": dataclasses.replace(tiny.CONFIG, L=5)}, SPEC, "2 layers, not 5"),
        ({"config": dataclasses.replace(tiny.CONFIG, d=16)}, SPEC, "width 48 at site kv, not 96"),
        ({}, SPEC + ":site=norm", "sites kv, not norm"),
        ({}, "sequence:vq:groups=6:size=32", "codec vq:groups=6:size=16, not vq:groups=6:size=32"),
    ],
)
def test_what_does_not_fit_is_refused(learnt, change, spec, words):
    model = dataclasses.replace(tiny.model(), **change)
    with pytest.raises(ThinwireError, match=words) as error:
        check(learnt.manifest, model, parse_strategy(spec), DEVICES)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("codec", "names"),
    [
        ("rvq:groups=6:size=8:stages=2", {"codebook"}),
        ("lowrank:dims=9", {"mean", "basis", "step"}),
        ("fsq:dims=9:levels=5", {"mean", "basis", "step"}),
        ("sign", {"mean"}),
        ("predict+rvq:groups=6:size=8:stages=2:rank=4", {"codebook"}),
        ("predict+fsq:dims=9:levels=5:rank=0", {"mean", "basis", "step"}),
        ("predict+topk:keep=5:rank=4", set()),
        ("predict+drop:rank=4", set()),
    ],
)
def test_every_codec_that_learns_is_learnt_and_saved(codec, names, tmp_path):
    """From rows that follow from their tokens and the layer below, with noise."""
    strategy, model, rng = parse_strategy(f"sequence:{codec}"), tiny.model(), np.random.default_rng(0)
    history = rng.integers(0, tiny.CONFIG.V, (1, 300, TOKENS_BACK)).astype(np.int32)
    below = model.params["embed"][history[0, :, 0]]
    rows = np.stack([below, below[:, ::-1] + 0.1 * rng.standard_normal(below.shape)]).astype(np.float32) + 3
    learn(
        model,
        strategy,
        1,
        {"kv": rows, HISTORY: history, POSITION: np.full((1, 300, 1), 9)},
        JOB,
        {},
        out=tmp_path / "set",
    )
    saved = store.load(tmp_path / "set")
    predicted = {"predict", "bias", "analysis", "synthesis"} if strategy.codec.predicts else set()
    assert saved.arrays["kv"].keys() == names | predicted
    assert (SHARED in saved.arrays) == strategy.codec.knows_tokens
    check(saved.manifest, model, strategy, 1)
    error = [layer["relative_error"] for layer in saved.manifest.health["kv"]]
    assert (error[0] == 0) == strategy.codec.knows_tokens  # layer 0 is exact where tokens are known
    assert error[1] < 1 or not strategy.codec.sends


def test_partial_sums_belong_to_a_number_of_devices(learnt_tensor):
    check(learnt_tensor.manifest, tiny.model(), parse_strategy(TENSOR), DEVICES)
    with pytest.raises(ThinwireError, match=r"partial sums of 3 devices, not 2; calibrate again with --devices 2"):
        check(learnt_tensor.manifest, tiny.model(), parse_strategy(TENSOR), 2)


@pytest.mark.parametrize("spec", [SPEC, TENSOR])
def test_learnt_codebooks_serve_better_than_random_ones(request, spec):
    saved = request.getfixturevalue("learnt" if spec == SPEC else "learnt_tensor")
    strategy, model, ids_T = parse_strategy(spec), tiny.model(), tiny.ids(36, seed=7)  # a window not learnt from
    single_TV = Engine(model, parse_strategy("single")).logits(ids_T)

    def kl(codecs):
        return distance(Engine(model, strategy, DEVICES, codecs).logits(ids_T), single_TV, ids_T).kl

    assert kl(saved.arrays) < kl(tiny.codebooks(strategy, llama.dims(model.config)))


def test_sites_of_several_strategies_come_from_one_pass():
    windows = 4
    job = dataclasses.replace(JOB, windows=windows, rows=50)
    told = []
    strategies = [parse_strategy(spec) for spec in (SPEC, SPEC + ":site=x", TENSOR)]
    samples = collect(tiny.model(), strategies, DEVICES, windows_WT(job), job, lambda *at: told.append(at))
    assert told == [(w + 1, windows) for w in range(windows)]
    assert samples["kv"].shape == samples["x"].shape == (2, 4 * 13, 48)  # 50 rows, rounded up to whole windows
    assert samples["mlp_out"].shape == (2, 4 * 15, 48)  # and to whole devices


@pytest.mark.parametrize(
    ("spec", "job", "words"),
    [
        ("sequence:vq:groups=6:size=512", JOB, r"420 rows, .* too few to learn 512 codewords; take more"),
        ("sequence:vq:groups=6:size=512", dataclasses.replace(JOB, rows=9000), "420 rows"),
        ("sequence:vq:groups=6:size=2", dataclasses.replace(JOB, windows=1, rows=5), "5 rows, one in 10"),
        ("sequence:vq:groups=7", JOB, "cannot be cut into 7 equal groups"),
    ],
)
def test_what_cannot_be_learnt_is_said_before_the_pass(spec, job, words):
    with pytest.raises(ThinwireError, match=words):
        collect(tiny.model(), [parse_strategy(spec)], 1, windows_WT(job), job, lambda *_: pytest.fail("it began"))


def test_a_codec_that_learns_nothing_is_refused(tmp_path):
    strategy = parse_strategy("sequence:int8:site=kv")
    with pytest.raises(ThinwireError, match="int8 learns nothing"):
        learn(tiny.model(), strategy, 1, {"kv": np.ones((2, 30, 48), np.float32)}, JOB, {}, out=tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_save_that_fails_leaves_the_old_set(tmp_path, monkeypatch, failure):
    rng = np.random.default_rng(0)
    samples = {"kv": rng.normal(size=(2, JOB.rows, 48)).astype(np.float32)}
    strategy, path = parse_strategy(SPEC), tmp_path / "set"
    old = learn(tiny.model(), strategy, 1, samples, JOB, {}, out=path)

    def fail(*_):
        raise failure

    monkeypatch.setattr(folders, "_flush", fail)
    with pytest.raises((ThinwireError, KeyboardInterrupt)):
        learn(tiny.model(), strategy, 1, {"kv": 2 * samples["kv"]}, JOB, {}, out=path)
    monkeypatch.undo()
    np.testing.assert_array_equal(store.load(path).arrays["kv"]["codebook"], old.arrays["kv"]["codebook"])
    assert [p.name for p in tmp_path.iterdir() if "unfinished" not in p.name] == ["set"]  # what was learnt is kept


def test_places_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("THINWIRE_CACHE", str(tmp_path))
    place = lambda spec, devices: codebook_path(tiny.model(), parse_strategy(spec), devices)
    assert place(SPEC, 2) == tmp_path / "codebooks" / ("0" * 16 + f"-recipe{RECIPE}") / "kv-vq-groups6-size16"
    assert place(SPEC, 2) == place(SPEC, 3) == place(SPEC.replace("sequence", "ring"), 4)
    assert len({place(TENSOR, 2), place(TENSOR, 3), place(SPEC, 2), place(SPEC + ":site=x", 2)}) == 4


def test_a_short_context_takes_more_windows_of_the_same_text():
    assert CalibrationJob().within(8192) == CalibrationJob()
    assert CalibrationJob(windows=3, window=100, rows=7).within(64) == CalibrationJob(windows=5, window=64, rows=7)
