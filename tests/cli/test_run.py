import argparse
import io
import json
import types

import pytest

from thinwire.cli import inputs, run
from thinwire.cli.main import main

PROMPT = "the rain in the inner ring"


@pytest.fixture
def go_on(place, model, capsys):
    """Runs ``thinwire run`` on the prompt; returns what it prints, parsed where it is JSON."""

    def go(*argv, prompt=("--prompt", PROMPT)):
        assert main(["run", "--model", model, *prompt, "--max-tokens", "12", *argv]) == 0
        out, err = capsys.readouterr()
        return (json.loads(out) if "--json" in argv else out), err

    return go


def test_text_is_streamed_exactly_and_the_seed_decides_it(go_on):
    # The random model writes bytes that are no text: those that are held back must come in the end.
    drawn = ("--strategy", "single", "--temperature", "5", "--seed")
    streamed, err = go_on(*drawn, "3")
    told, _ = go_on(*drawn, "3", "--json")
    assert streamed == told["text"] + "\n"
    assert told["text"]
    assert go_on(*drawn, "4")[0] != streamed
    assert (told["strategy"], told["devices"], told["bytes_sent_per_device"]) == ("single", 1, 0)
    assert 0 < told["new_tokens"] <= 12
    assert told["total_s"] >= told["first_token_s"] > 0
    assert (told["emulated"], told["seed"]) == (False, 3)
    assert f"[{told['prompt_tokens']} tokens read by single on one device; {told['new_tokens']} new ones]" in err


def test_float32_over_devices_says_what_the_single_device_says(go_on):
    single, _ = go_on("--strategy", "single", "--json")
    split, _ = go_on("--strategy", "sequence:float32", "--devices", "3", "--split", "3/1/2", "--json")
    assert split["text"] == single["text"]
    assert split["bytes_sent_per_device"] > 0
    assert split["emulated"] is True


def test_codes_are_learnt_when_first_needed(go_on, model, text, monkeypatch, little_calibration):
    monkeypatch.setattr(inputs, "DEFAULT_TEXT", text)
    codes = ("--strategy", "sequence:vq:groups=2:size=8", "--devices", "2", "--max-tokens", "1")
    first, err = go_on(*codes)
    assert "learning them now" in err
    again, err = go_on(*codes)
    assert "learning" not in err
    assert again == first
    assert "on 2 virtual devices" in err


@pytest.mark.parametrize("name", ["prompt.txt", "-"])
def test_the_prompt_may_be_a_file_or_standard_input(place, monkeypatch, name):
    (place / "prompt.txt").write_text("Überall\n")
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO("Überall\n".encode())))
    assert run._prompt(argparse.Namespace(prompt_file=name, prompt=None)) == "Überall\n"


def test_what_is_held_back_is_printed_when_it_is_whole(capsys):
    shown = ""
    for text in ("a", "a\ufffd", "aé", "aéb", "aéb\ufffd"):
        shown = run._stream(text, shown)
    assert capsys.readouterr().out == shown == "aéb"
