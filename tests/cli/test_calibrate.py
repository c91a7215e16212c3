import json

import pytest

from thinwire.cli import inputs
from thinwire.cli.main import main
from thinwire.codebooks import store
from thinwire.strategies import parse_strategy
from thinwire.training.calibrate import CalibrationJob, codebook_path
from thinwire.weights.load import load_model

VQ = "vq:groups=2:size=8"
SMALL = ["--windows", "6", "--tokens", "32", "--rows", "120"]


def test_learns_saves_and_tells(place, model, text, capsys):
    command = ["calibrate", "--model", model, "--text", text, *SMALL, "--json", "manifests.json"]
    assert main([*command, "--strategies", f"sequence:{VQ},sequence:{VQ},sequence:{VQ}:site=x"]) == 0
    out, err = capsys.readouterr()
    assert "reading text through the model: done" in err
    assert err.count("by layer: done") == 2  # the same is not learnt twice
    kv, x = json.loads((place / "manifests.json").read_text())
    assert (list(kv["sites"]), list(x["sites"])) == (["kv"], ["x"])
    assert kv["data"]["source"] == text
    assert (kv["data"]["windows"], kv["data"]["tokens"], kv["data"]["rows"]) == (6, 192, 120)
    paths = [line.split(": ")[1].split(" (")[0] for line in out.splitlines() if line.startswith("sequence:")]
    assert [store.load(path).manifest.arrays_sha256 for path in paths] == [kv["arrays_sha256"], x["arrays_sha256"]]
    assert "relative error" in out


def test_codebooks_in_a_folder_are_used_and_may_be_learnt_again(place, model, text, capsys):
    calibrate = ["calibrate", "--model", model, "--text", text, *SMALL, "--strategy", f"sequence:{VQ}"]
    assert main([*calibrate, "--out", "mine"]) == 0
    first = store.load(place / "mine").manifest
    assert main([*calibrate, "--out", "mine", "--seed", "1"]) == 0
    assert store.load(place / "mine").manifest.arrays_sha256 != first.arrays_sha256
    assert not (place / "cache" / "codebooks").exists()
    run = ["run", "--model", model, "--prompt", "the rain", "--max-tokens", "1", "--devices", "2"]
    assert main([*run, "--strategy", f"sequence:{VQ}", "--codebooks", "mine"]) == 0
    assert "learning" not in capsys.readouterr().err.split("by layer")[-1]
    assert not (place / "cache" / "codebooks").exists()


def test_windows_fit_the_context_unless_asked_for(place, model, text, capsys):
    assert main(["calibrate", "--model", model, "--text", text, "--tokens", "65"]) == 2
    assert "65 tokens are more than the 64" in capsys.readouterr().err
    assert main(["calibrate", "--model", model, "--text", text, "--strategy", f"sequence:{VQ}"]) == 2
    assert "256 were asked for" in capsys.readouterr().err  # 16 windows of 1024, in windows of 64


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--strategy", "sequence:int8"], "sequence:int8 learns nothing, so there is nothing to calibrate"),
        (["--strategy", "single"], "single learns nothing"),
        (["--strategy", "sequence:vq,sequence:vq:groups=1", "--out", "x"], "--out is one folder and there are 2"),
        (["--rows", "0"], "--rows is 0"),
        (["--windows", "0"], "0 windows hold no text"),
        (["--tokens", "1"], "1 tokens leave nothing to predict"),
        (["--devices", "0"], "--devices is 0"),
        (["--strategy", "sequence:vq:groups=5"], "cannot be cut into 5 equal groups; groups that fit: 1, 2, 4, 8"),
        (["--strategy", "tensor:vq:groups=1:size=4", "--devices", "40", "--tokens", "30"], "at most 30 devices"),
        (["--out", "words.txt"], "words.txt is not a codebook set"),
        (["--out", "words.txt/x"], "words.txt is a file, not a folder"),
        (["--json", "words.txt/x"], "words.txt is a file, not a folder"),
        (["--text", "no.txt"], "there is no text 'no.txt'"),
        (["--seed", "-1"], "'-1' is not a whole number from 0"),
        (["--seed", "x"], "'x' is not a whole number from 0"),
    ],
)
def test_mistakes_are_told_before_the_pass(place, model, text, capsys, refuses, argv, words):
    defaults = {"--strategy": f"sequence:{VQ}", "--text": text, "--windows": "2", "--tokens": "32"}
    given = dict(zip(argv[::2], argv[1::2], strict=True))
    refuses(["calibrate", "--model", model, *(word for pair in {**defaults, **given}.items() for word in pair)], words)


def test_too_few_rows_are_told_before_the_pass(place, model, text, capsys):
    assert main(["calibrate", "--model", model, "--text", text, *SMALL]) == 2
    assert "120 rows, one in 10 of them held out, are too few to learn 1024 codewords" in capsys.readouterr().err


def test_random_weights_read_no_text(place, text, refuses):
    refuses(["calibrate", "--model", "shape:llama-tiny", "--text", text], "has no tokenizer and cannot read")


def test_codebooks_of_studies_are_all_learnt_from_enough_text(place, capsys):
    """Those that another command has learnt from less are learnt again, once."""
    model, strategy = load_model("shape:llama-tiny"), parse_strategy(f"sequence:{VQ}")
    few, enough = CalibrationJob(2, 24, 60), CalibrationJob(4, 24, 90)

    def learn(job):
        inputs.codecs_for(model, [strategy], 2, None, 0, window=24, job=job)
        place_of = codebook_path(model, strategy, 2)
        return capsys.readouterr().err, store.load(place_of).manifest.data["tokens"]

    err, tokens = learn(few)
    assert ("learning them now" in err, tokens) == (True, 48)
    err, tokens = learn(enough)
    assert ("no codebooks yet from 4 windows" in err, tokens) == (True, 96)
    for job in (enough, few, None):
        assert learn(job) == ("", 96)
