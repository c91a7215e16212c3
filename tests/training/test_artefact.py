"""Trained artefacts on disk: what is saved is loaded and runs, what is damaged or foreign is one sentence."""

import dataclasses
import errno
import shutil

import jax
import numpy as np
import pytest
from safetensors import SafetensorError

import tiny
import tiny_vit
from thinwire.codebooks import eight_bits, store
from thinwire.engine import Engine
from thinwire.errors import ThinwireError
from thinwire.models import vit
from thinwire.strategies import Single, parse_strategy
from thinwire.training import adapters, artefact, calibrate
from thinwire.training.artefact import Artefact, apply, codecs, describe, load, save, serves
from thinwire.training.card import Card
from training.trained import FACTS, LORA, SPEC, STRATEGY, trained


def scratch() -> Artefact:
    """A vision Transformer that was trained from a random start."""
    model = tiny_vit.model()
    strategy = parse_strategy("sequence:vq:groups=6:size=16:class_tokens=each")
    card = describe(model, strategy, None, **FACTS, from_scratch=True)
    return Artefact(card, model.params, tiny_vit.codebooks(strategy, vit.dims(model.config)))


@pytest.fixture
def saved(tmp_path):
    save(tmp_path / "set", trained())
    return tmp_path / "set"


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def same(found, wanted):
    jax.tree.map(np.testing.assert_array_equal, found, wanted)


def test_round_trip(tmp_path):
    given = trained(health={"kv": [{"dead": 0.0}, {"dead": 1.0}]})
    kept = save(tmp_path / "set", given)
    found = load(tmp_path / "set", tiny.model())
    same(found.arrays, given.arrays)
    same(found.codecs, given.codecs)
    assert found.health == {"kv": [{"dead": 0.0}, {"dead": 1.0}]}
    assert dataclasses.replace(found.card, figures={}) == dataclasses.replace(kept.card, figures={})
    assert found.card.figures == {"perplexity": {"before": 20.512345678, "after": 19.25}, "broken": None, "counted": 3}
    assert (found.card.model, found.card.model_sha256, found.card.seed) == ("tiny", "0" * 64, 7)
    assert (found.card.codec, found.card.kind, found.card.dtype) == ("vq:groups=6:size=16", "adapter", "float32")
    assert found.card.lora == {"rank": 2, "alpha": 4.0, "targets": ["attention", "w_up"]}
    files = {str(path.relative_to(tmp_path / "set")) for path in (tmp_path / "set").rglob("*") if path.is_file()}
    assert found.card.files.keys() == files - {"card.json", "README.md"}
    assert names(tmp_path) == ["set"]
    assert names(tmp_path / "set") == ["README.md", "adapter.safetensors", "card.json", "codebooks"]


def test_the_readme_says_what_it_is(saved):
    text = (saved / "README.md").read_text()
    for words in (
        f"# tiny, trained for `{SPEC}`",
        "rank 2, alpha 4, on attention and w_up",
        f"thinwire compare --model tiny --trained FOLDER --devices 4 --strategies single,{SPEC}",
        "python -m train.it config.py",
        "| perplexity before | 20.512 |",
        "| perplexity after | 19.25 |",
        "| tokens train | 4096 |",
        load(saved).card.files["adapter.safetensors"],
    ):
        assert words in text


def test_the_readme_of_images_trained_alone(tmp_path):
    model = tiny_vit.model()
    card = describe(model, Single(), None, {}, 0, "make it", from_scratch=True)
    save(tmp_path / "set", Artefact(card, model.params))
    text = (tmp_path / "set" / "README.md").read_text()
    assert "on a single device" in text
    assert "from a random start" in text
    assert "thinwire compare" not in text
    program = text.split("```python\n")[1].split("```")[0].replace("FOLDER", str(tmp_path / "set"))
    found = {}
    exec(program, found)  # what a reader would type
    np.testing.assert_allclose(found["engine"].logits(tiny_vit.image()), tiny_vit.single_features(), atol=1e-5)


def test_half_the_size(tmp_path):
    given = trained()
    kept = save(tmp_path / "half", given, "float16")
    save(tmp_path / "whole", given)
    found = load(tmp_path / "half")
    same(found.arrays, kept.arrays)
    same(found.arrays, jax.tree.map(lambda x: np.asarray(x, np.float16).astype(np.float32), given.arrays))
    values = adapters.size_bytes(given.arrays) // 4
    sizes = [(tmp_path / name / "adapter.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[1] - sizes[0] == pytest.approx(2 * values, abs=64)
    assert found.card.dtype == "float16"
    assert apply(found, tiny.model()).sha256 != apply(load(tmp_path / "whole"), tiny.model()).sha256


def test_codebooks_in_eight_bits(tmp_path):
    given = trained()
    kept = save(tmp_path / "small", given, eight_bits=True)
    same(load(tmp_path / "small").codecs, kept.codecs)
    same(kept.codecs, eight_bits.rounded(jax.tree.map(np.asarray, given.codecs)))
    assert "| codebooks stored as | 8 bits" in (tmp_path / "small" / "README.md").read_text()
    assert kept.card.sha256 == save(tmp_path / "large", given).card.sha256  # of the weights alone


def test_the_trained_model_has_the_adapter_merged_and_an_identity_of_its_own(saved):
    base, found = tiny.model(), load(saved)
    before = jax.tree.map(np.copy, base.params)
    model = apply(found, base)
    same(model.params, adapters.merge(base.params, found.arrays, LORA))
    same(base.params, before)
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(model.params))
    assert model.params["embed"] is base.params["embed"]
    assert (model.family, model.config, model.sha256) == ("llama", tiny.CONFIG, found.card.sha256)
    assert model.name == f"tiny+adapter-{model.sha256[:8]}"
    others = [
        trained(seed=1),
        trained(lora=dataclasses.replace(LORA, alpha=5.0)),
        trained(dataclasses.replace(base, sha256="1" * 64)),
    ]
    hashes = {base.sha256, model.sha256, apply(others[2], dataclasses.replace(base, sha256="1" * 64)).sha256}
    assert len(hashes | {apply(other, base).sha256 for other in others[:2]}) == 5
    assert apply(trained(), base).sha256 == model.sha256  # as before it was saved


def test_it_runs_by_its_strategy_with_its_codebooks(saved):
    model, found = apply(load(saved), tiny.model()), load(saved)
    logits = Engine(model, STRATEGY, 3, codecs(found, STRATEGY)).logits(tiny.ids())
    untrained = Engine(tiny.model(), STRATEGY, 3, codecs(found, STRATEGY)).logits(tiny.ids())
    assert np.isfinite(logits).all()
    assert np.abs(logits - untrained).max() > 0.1
    exact = Engine(model, parse_strategy("sequence:float32"), 3).logits(tiny.ids())
    np.testing.assert_allclose(exact, Engine(model, Single()).logits(tiny.ids()), atol=2e-4)


def test_its_codebooks_are_a_set_for_the_trained_model(saved):
    manifest = store.load(saved / "codebooks").manifest
    calibrate.check(manifest, apply(load(saved), tiny.model()), STRATEGY, 3)
    with pytest.raises(ThinwireError, match="other weights of tiny"):
        calibrate.check(manifest, tiny.model(), STRATEGY, 3)


def test_codecs_that_predict_bring_what_all_layers_share(tmp_path):
    strategy = parse_strategy("sequence:pvq:groups=6:size=16:rank=4")
    given = trained(strategy=strategy)
    save(tmp_path / "set", given)
    same(load(tmp_path / "set").codecs, given.codecs)


def test_whole_weights_of_a_base_model(tmp_path, monkeypatch):
    base = tiny.model()
    params = jax.tree.map(lambda x: x + np.float32(0.5), base.params)
    card = describe(base, parse_strategy("sequence:int8"), None, **FACTS)
    save(tmp_path / "set", Artefact(card, params))
    assert names(tmp_path / "set") == ["README.md", "card.json", "weights.safetensors"]
    model = apply(load(tmp_path / "set", base), base)
    same(model.params, params)
    assert model.name == f"tiny+weights-{model.sha256[:8]}"
    with pytest.raises(ThinwireError, match="is a part of tiny: load that model"):
        artefact.from_scratch(load(tmp_path / "set"))
    with pytest.raises(ThinwireError, match="unknown model 'tiny'"):
        artefact.open_trained(tmp_path / "set")
    monkeypatch.setattr(artefact, "load_model", {"tiny": base}.get)
    same(artefact.open_trained(tmp_path / "set").params, params)


def test_a_model_from_scratch_is_a_model_by_itself(tmp_path):
    given = scratch()
    save(tmp_path / "set", given)
    model = artefact.open_trained(tmp_path / "set")
    assert (model.family, model.config, model.name, model.tokenizer) == ("vit", tiny_vit.CONFIG, "tiny-vit", None)
    same(model.params, given.arrays)
    found = load(tmp_path / "set")
    features = Engine(model, parse_strategy(found.card.strategy), 2, found.codecs).logits(tiny_vit.image())
    assert vit.classify(model.params, features).shape == (7,)
    with pytest.raises(ThinwireError, match="trained from scratch; leave model tiny-vit out"):
        apply(found, tiny_vit.model())
    assert artefact.trained_model(found, lambda: pytest.fail("there is no base model")).sha256 == model.sha256


@pytest.mark.parametrize(
    ("spec", "serving"),
    [
        (SPEC, True),
        (SPEC + ":halo=0", True),
        (SPEC.replace("sequence", "ring"), True),
        ("sequence:vq:groups=6:size=32", False),
        (SPEC + ":site=x", False),
        (SPEC.replace("sequence", "tensor"), False),
    ],
)
def test_whom_its_codebooks_serve(spec, serving):
    given, strategy = trained(), parse_strategy(spec)
    assert serves(given, strategy) == serving
    if serving:
        assert codecs(given, strategy) is given.codecs
    else:
        with pytest.raises(ThinwireError, match=f"than these weights were trained with, which are for {SPEC}: use"):
            codecs(given, strategy)


def test_who_learns_nothing_needs_nothing():
    assert codecs(trained(), parse_strategy("sequence:int4")) == {}
    assert not serves(trained(), parse_strategy("sequence:int4"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sha256": "1" * 64}, "for other weights of tiny: give the model of sha256 0000000000000000…"),
        ({"sha256": "1" * 64, "name": "big"}, "for tiny, not big"),
    ],
)
def test_another_base_model_is_refused(saved, change, says):
    model = dataclasses.replace(tiny.model(), **change)
    for refuse in (lambda: load(saved, model), lambda: apply(load(saved), model)):
        with pytest.raises(ThinwireError, match=says) as error:
            refuse()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("make", [lambda p: p.write_text("mine"), lambda p: (p.mkdir(), (p / "x").write_text("mine"))])
def test_nothing_else_is_overwritten(tmp_path, make):
    make(tmp_path / "mine")
    with pytest.raises(ThinwireError, match="mine is not a trained artefact, so nothing was saved over it"):
        save(tmp_path / "mine", trained())
    assert names(tmp_path) == ["mine"]


def test_an_artefact_replaces_an_artefact(saved):
    save(saved, trained(seed=1))
    same(load(saved).arrays, trained(seed=1).arrays)
    assert names(saved.parent) == ["set"]


@pytest.mark.parametrize(
    ("given", "dtype", "says"),
    [
        (trained, "int8", "not stored as int8; choose one of float32, float16"),
        (scratch, "float16", "Only adapters may be stored as float16"),
        (lambda: spoilt(1e5), "float16", "layers.wo.up holds NaN or infinity as float16, .*: leave float16 out"),
        (lambda: spoilt(np.inf), "float32", "layers.wo.up holds NaN or infinity as float32, .*: the training diverged"),
    ],
)
def test_what_cannot_be_stored(tmp_path, given, dtype, says):
    with pytest.raises(ThinwireError, match=says):
        save(tmp_path / "set", given(), dtype)
    assert names(tmp_path) == []


def spoilt(value):
    given = trained()
    given.arrays["layers"]["wo"]["up"] = given.arrays["layers"]["wo"]["up"].at[0, 1, 2].set(value)
    return given


def test_arrays_that_are_not_what_the_card_says(tmp_path):
    given = trained()
    lacking = {"layers": {name: low for name, low in given.arrays["layers"].items() if name != "wo"}}
    with pytest.raises(ValueError, match=r"there is no array layers\.wo\.down"):
        save(tmp_path / "set", dataclasses.replace(given, arrays=lacking))
    with pytest.raises(ValueError, match="learns codebooks, and there are none"):
        save(tmp_path / "set", dataclasses.replace(given, codecs={}))
    assert names(tmp_path) == []


def failing(error):
    def fail(*_):
        raise error

    return fail


@pytest.mark.parametrize(
    ("where", "error", "says"),
    [
        ("save_file", OSError(errno.EROFS, "x"), "Read-only file system"),
        ("save_file", SafetensorError("I/O error: something (os error 28)"), "No space left on device"),
        ("save_file", SafetensorError('IoError(Os { code: 28, kind: StorageFull, message: "x" })'), "No space left"),
        ("store.ocp.save", ValueError("Failed to write [os_error_code='28']"), "No space left on device"),
    ],
)
def test_a_failed_save_leaves_the_old_artefact(saved, monkeypatch, where, error, says):
    monkeypatch.setattr(f"thinwire.training.artefact.{where}", failing(error))
    with pytest.raises(ThinwireError, match=f"could not be saved to .*set: {says}") as caught:
        save(saved, trained(seed=1))
    assert "\n" not in str(caught.value)
    same(load(saved).arrays, trained().arrays)
    assert names(saved.parent) == ["set"]


def test_an_interrupted_save_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(artefact, "save_file", failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "set", trained())
    assert names(tmp_path) == []


def test_a_full_disk_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
    with pytest.raises(ThinwireError, match="No space left on device; free some space or name another place"):
        save(tmp_path / "set", trained())
    assert names(tmp_path) == []


def test_the_card_is_a_card(saved):
    text = (saved / "card.json").read_text()
    assert Card.from_json(text).to_json() == text
