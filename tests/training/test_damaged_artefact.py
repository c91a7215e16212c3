"""Trained artefacts that are damaged, or not what their card says: one sentence, before anything runs."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from thinwire.errors import ThinwireError
from thinwire.training.artefact import load, save
from thinwire.weights.cache import sha256_file
from training.trained import trained


@pytest.fixture
def saved(tmp_path):
    save(tmp_path / "set", trained())
    return tmp_path / "set"


def change(**fields):
    def change_card(folder):
        found = json.loads((folder / "card.json").read_text())
        (folder / "card.json").write_text(json.dumps(found | fields))

    return change_card


def truncate(folder):
    path = folder / "adapter.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def flip(folder):
    path = folder / "adapter.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(bytes(content))


def rewrite(edit):
    """Another file with a hash that fits: what only the contents tell."""

    def write(folder):
        path = folder / "adapter.safetensors"
        arrays = load_file(path)
        edit(arrays)
        save_file(arrays, path)
        found = json.loads((folder / "card.json").read_text())
        found["files"]["adapter.safetensors"] = sha256_file(path)
        (folder / "card.json").write_text(json.dumps(found))

    return write


def garbage(folder):
    (folder / "adapter.safetensors").write_bytes(b"garbage" * 9)
    found = json.loads((folder / "card.json").read_text())
    found["files"]["adapter.safetensors"] = sha256_file(folder / "adapter.safetensors")
    (folder / "card.json").write_text(json.dumps(found))


def without_codebooks(folder):
    found = json.loads((folder / "card.json").read_text())
    kept = {name: value for name, value in found["files"].items() if not name.startswith("codebooks/")}
    (folder / "card.json").write_text(json.dumps(found | {"files": kept}))


UP = "layers.wq.up"


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (shutil.rmtree, "There are no trained weights at"),
        (lambda f: (f / "card.json").unlink(), r"set is not a trained artefact: it has no card\.json"),
        (lambda f: (f / "card.json").write_text('{"format": 1,'), r"card\.json is damaged"),
        (lambda f: (f / "card.json").write_bytes(b"\xff\xfe"), r"card\.json cannot be read"),
        (lambda f: (f / "card.json").write_text("[]"), "not a JSON object"),
        (lambda f: (f / "card.json").write_text('{"format": 1}'), "lacks 'model'"),
        (lambda f: (f / "card.json").write_text("[" * 100000), r"card\.json is damaged"),
        (change(format=2), "format 2 and this version reads 1"),
        (change(seed="x"), "'seed' is 'x'"),
        (change(seed=True), "'seed' is True"),
        (change(family="mamba"), "no family 'mamba'"),
        (change(config={"D": 3}), "LlamaConfig lacks 'L'"),
        (change(lora={"rank": 2}), "'lora' is"),
        (change(lora={"rank": 0, "alpha": 1.0, "targets": ["mlp"]}), "'lora' cannot be"),
        (change(lora={"rank": 2, "alpha": 1.0, "targets": ["nothing"]}), "fits no llama of this size"),
        (change(lora={"rank": 2, "alpha": 5.0, "targets": ["attention", "w_up"]}), r"not those that card\.json is of"),
        (change(lora={"rank": 3, "alpha": 4.0, "targets": ["attention", "w_up"]}), "has shape"),
        (change(strategy="sequence:vqq"), "its strategy is unknown"),
        (change(codec="int8"), "its codec int8 is not that of"),
        (change(model_sha256=""), "adapter without a base model"),
        (change(files={}), r"names no adapter\.safetensors"),
        (change(files={"adapter.safetensors": "00"}), r"the hash of adapter\.safetensors is not what card\.json says"),
        (change(files={"adapter.safetensors": 3}), "'files' are not hashes"),
        (change(files={"adapter.safetensors": "0", "../x": "0"}), "hash|not in the folder"),
        (change(dtype="float16"), "is stored as F32, not float16"),
        (lambda f: (f / "adapter.safetensors").unlink(), r"adapter\.safetensors is missing"),
        (truncate, r"the hash of adapter\.safetensors is not"),
        (flip, r"the hash of adapter\.safetensors is not"),
        (garbage, r"adapter\.safetensors is truncated or corrupt"),
        (rewrite(lambda arrays: arrays.pop(UP)), "there is no array layers.wq.up"),
        (rewrite(lambda arrays: arrays.update(more=arrays[UP])), "there is no place for more"),
        (rewrite(lambda arrays: arrays.update({UP: arrays[UP][:1]})), "layers.wq.up has shape"),
        (rewrite(lambda arrays: arrays.update({UP: np.full_like(arrays[UP], np.nan)})), "holds NaN"),
        (rewrite(lambda arrays: arrays.update({UP: 2 * arrays[UP]})), r"not those that card\.json is of"),
        (lambda f: shutil.rmtree(f / "codebooks"), "codebooks/.* is missing"),
        (without_codebooks, "no codebooks for vq:groups=6:size=16"),
    ],
)
def test_damage_is_told_in_one_sentence(saved, harm, says, capfd):
    harm(saved)
    with pytest.raises(ThinwireError, match=says) as caught:
        load(saved)
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_file_outside_the_folder_is_not_touched(saved):
    (saved.parent / "outside").write_text("secret")
    files = load(saved).card.files
    change(files={**files, "../outside": sha256_file(saved.parent / "outside")})(saved)
    with pytest.raises(ThinwireError, match=r"names \.\./outside, which is not in the folder"):
        load(saved)
