import argparse
import io
import json
import types

import pytest

from cli.conftest import CONFIG
from thinwire.cli import inputs, run
from thinwire.cli.main import main

PROMPT = "the rain in the inner ring"


@pytest.fixture
def go_on(place, model, capsys):
    """Runs ``thinwire run`` on the prompt; returns what it prints, what it remarks, and what it writes."""

    def go(*argv):
        file = place / "run.json"
        arguments = ["--model", model, "--prompt", PROMPT, "--max-tokens", "12", "--json", str(file), *argv]
        assert main(["run", *arguments]) == 0
        out, err = capsys.readouterr()
        return out, err, json.loads(file.read_text())

    return go


def test_the_text_alone_is_streamed_and_the_seed_decides_it(go_on):
    # The random model writes bytes that are no text: those that are held back must come in the end.
    drawn = ("--strategy", "single", "--temperature", "5", "--top-p", "0.9", "--seed")
    streamed, err, told = go_on(*drawn, "3")
    assert streamed == told["text"] != ""
    assert go_on(*drawn, "4")[0] != streamed
    assert (told["strategy"], told["devices"], told["prefill_bytes_per_device"]) == ("single", 1, 0)
    assert (told["temperature"], told["top_p"], told["seed"], told["emulated"]) == (5.0, 0.9, 3, False)
    assert 3 <= told["new_tokens"] <= 12
    assert told["first_token_s"] > 0
    assert told["tokens_per_s"] > 0
    assert f"[{told['prompt_tokens']} tokens read by single on one device]" in err
    assert f"[{told['new_tokens']} new ones by decoding 'one' at " in err
    assert "nothing sent]" in err


def test_all_devices_say_what_the_single_device_says(go_on):
    single, _, _ = go_on("--strategy", "single")
    split = ("--strategy", "sequence:float32", "--devices", "3", "--split", "3/1/2")
    for decode, sent in (("one", 0), ("all", 2 * (CONFIG.L * CONFIG.H * (CONFIG.d + 2) * 4 + 4))):
        text, err, told = go_on(*split, "--decode", decode)
        assert text == single
        assert told["prefill_bytes_per_device"] > 0
        assert told["bytes_per_new_token_per_device"] == sent
        assert told["cache_bytes_of_this_run"] == told["cache_bytes"][decode] > 0
        assert told["emulated"] is True
        assert f"{sent:,} bytes a token and device" in err or not sent
        assert "[cache of a device, MB, by formula: single 0.0" in err


def test_codes_are_learnt_when_first_needed(go_on, model, text, monkeypatch, little_calibration):
    monkeypatch.setattr(inputs, "DEFAULT_TEXT", text)
    codes = ("--strategy", "sequence:vq:groups=2:size=8", "--devices", "2", "--max-tokens", "1")
    first, err, _ = go_on(*codes)
    assert "learning them now" in err
    again, err, _ = go_on(*codes)
    assert "learning" not in err
    assert again == first
    assert "on 2 virtual devices" in err


@pytest.mark.parametrize("name", ["prompt.txt", "-"])
def test_the_prompt_may_be_a_file_or_standard_input(place, monkeypatch, name):
    (place / "prompt.txt").write_text("Überall\n")
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO("Überall\n".encode())))
    assert run._prompt(argparse.Namespace(prompt_file=name, prompt=None)) == "Überall\n"
