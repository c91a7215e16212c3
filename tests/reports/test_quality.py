"""The table of perplexity against bits."""

import math

from thinwire.reports.quality import COLUMNS, quality_markdown, training_note


def row(strategy, bits, ratio, preset=None):
    return {
        "strategy": strategy, "preset": preset, "bits_per_token_per_layer": bits, "windows": 2,
        "compression": 12288 / bits if bits else math.inf, "perplexity": 20 * ratio, "perplexity_ratio": ratio,
        "standard_error": 0.002, "kl_to_single": 0.01, "context_kept": 0.9,
    }  # fmt: skip


ROWS = [
    row("sequence:drop", 0.0, 1.22),
    row("sequence:int4", 1728.0, 1.005),
    row("sequence:q", 232.0, 1.003, "quality"),
]


def test_markdown_names_the_command_and_every_row():
    document = {
        "rows": ROWS, "split": [3, 4], "tokens": 7, "text": "a text", "seed": 5, "model": "m", "devices": 2,
        "emulated": "virtual devices", "thinwire": "0", "jax": "1", "python": "3", "command": "python -m eval.quality",
    }  # fmt: skip
    text = quality_markdown(document)
    assert "2 windows of 7 tokens (split 3 + 4) of a text" in text
    assert "python -m eval.quality" in text
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    assert [line.count("|") for line in lines] == [len(COLUMNS) + 1] * 3
    assert "+0.30 %" in lines[2]
    assert "| – |" in lines[0]  # nothing sent: no compression to speak of


def test_what_training_has_taught_is_told_apart():
    assert training_note(ROWS) == ""
    rows = [{**one, "base_perplexity": 30.0} for one in ROWS]
    assert training_note(rows) == "; perplexity of the single device 20.00 with the trained weights, 30.00 before"
