"""Tables and pictures of the studies."""

import math

import pytest

from thinwire.reports.compressors import compressors_markdown, compressors_plot
from thinwire.reports.flow_cut import flow_cut_markdown, flow_cut_plot, loss_of, name_of, told_apart, within_budgets
from thinwire.reports.lost import lost_markdown, lost_plot

HEAD = {
    "model": "m",
    "thinwire": "0",
    "jax": "1",
    "python": "3",
    "command": "python -m eval.x",
    "measure": "perplexity",
}


def place(name, tensors, bits, loss, every=1, predicts=False):
    return {
        "place": name, "codec": f"c{bits}", "every": every, "predicts": predicts, "tensors": tensors,
        "bits_per_tensor": bits, "bits_whole": bits * tensors, "loss": loss, "loss_error": 0.002,
    }  # fmt: skip


PLACES = [
    place("residual", 29, 64, 7.0),
    place("residual", 3, 512, 0.05, every=8),
    place("residual", 3, 2048, 0.001, every=8),
    place("remote_kv", 30, 64, 0.08),
    place("remote_kv", 29, 60, 0.01, predicts=True),
]


def lost(rate, repair, loop, loss):
    return {
        "strategy": "sequence:pvq", "bits_per_token_per_layer": 116.0, "rate": rate, "repair": repair, "loop": loop,
        "loss": loss, "loss_error": math.nan, "rise": loss - 0.01, "rise_error": 0.001,
    }  # fmt: skip


LOST = [lost(0.0, "mask", "broken", 0.01), lost(0.1, "mask", "broken", 0.03), lost(0.1, "predict", "mended", 0.02)]


def compressor(codec, bits, loss, tuned=None):
    return {
        "codec": codec, "tuned": tuned, "predicts": codec.startswith("p"), "bits_per_token_per_layer": bits,
        "loss": loss, "loss_error": 0.002,
    }  # fmt: skip


CODECS = [compressor("pvq", 232.0, 0.004), compressor("vq", 240.0, 0.02, "mine"), compressor("drop", 0.0, 0.09)]


def table_rows(text):
    return [line for line in text.splitlines() if line.startswith("| `")]


def test_a_loss_and_its_error():
    assert loss_of({"loss": 0.0043, "loss_error": 0.0014}) == "+0.43 ± 0.14 %"
    assert (
        loss_of({"loss": -0.001, "loss_error": math.nan}) == loss_of({"loss": -0.001, "loss_error": None}) == "-0.10 %"
    )


def test_places_within_a_budget():
    """Of the cuts only the cheaper one costs no more than remote keys and values by plain codes."""
    (cheaper, _), (own, best) = within_budgets(PLACES)
    assert (cheaper["bits_whole"], own["bits_whole"]) == (1740, 1920)
    named = {name: row and row["codec"] for name, row in best.items()}
    assert named == {
        "residual stream, a cut a layer": "c64",
        "residual stream, a cut every 8 layers": "c512",
        "remote keys and values": "c64",
        "remote keys and values, after prediction": "c60",
    }


def test_places_in_markdown():
    text = flow_cut_markdown({**HEAD, "rows": PLACES}, "two windows")
    assert len(table_rows(text)) == len(PLACES)
    assert "| `c512` | residual stream, a cut every 8 layers | 3 | 512 | 1,536 | +5.00 ± 0.20 % |" in text
    assert "| 1,920 | +700.00 ± 0.20 % (`c64`) | +5.00 ± 0.20 % (`c512`) |" in text
    assert "| 1,740 | – | +5.00" in text


def test_a_line_for_each_place():
    left, right = flow_cut_plot({**HEAD, "rows": PLACES}, "two windows").axes
    for axes in (left, right):
        assert {str(line.get_label()) for line in axes.get_lines()} >= set(map(name_of, PLACES))
    whole = next(line for line in right.get_lines() if "every 8" in str(line.get_label()))
    assert list(whole.get_xdata()) == [1536, 6144]
    assert list(whole.get_ydata()) == pytest.approx([5.0, 0.1])


def test_losses_that_cannot_be_told_apart_are_drawn_to_scale():
    assert told_apart(PLACES) == 1  # errors of 0.2
    unsure = [{**PLACES[0], "loss_error": error} for error in (math.nan, None, 0.0)]
    assert told_apart(unsure) == 0.01
    assert told_apart([*unsure, {**PLACES[0], "loss_error": 0.0005}]) == pytest.approx(0.1)
    assert told_apart([{**PLACES[0], "loss_error": 1e-6}]) == 0.01


def test_losses():
    text = lost_markdown({**HEAD, "rows": LOST, "draws": 2}, "two windows")
    first, masked, mended = table_rows(text)
    assert first.endswith("| – | 0 % | +1.00 % | – |")
    assert masked.endswith("| left out of the softmax | 10 % | +3.00 % | +2.00 ± 0.10 % |")
    assert "predicted, mended" in mended
    axes = lost_plot({**HEAD, "rows": LOST, "draws": 2}, "two windows").axes[0]
    ends = [container.lines[0].get_xydata().tolist() for container in axes.containers]
    # What losses add; beside each other by a twentieth of the least part that is lost, so that both are seen.
    assert ends == [[[0, 0], [9.75, pytest.approx(2)]], [[0, 0], [10.25, pytest.approx(1)]]]
    assert not lost_plot({**HEAD, "rows": LOST[:1], "draws": 2}, "nothing is lost").axes[0].containers


def test_compressors():
    text = compressors_markdown({**HEAD, "rows": CODECS}, "two windows")
    assert [line.split(" | ")[1] for line in table_rows(text)] == ["no", "mine", "no"]
    axes = compressors_plot({**HEAD, "rows": CODECS}, "two windows").axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.4, 2.0])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["pvq", "vq (fine-tuned: mine)"]
    assert [line.get_label() for line in axes.get_lines() if not str(line.get_label()).startswith("_")] == ["drop"]
