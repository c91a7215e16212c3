import itertools

import matplotlib as mpl
import pytest

from thinwire.errors import ThinwireError
from thinwire.reports.labels import _apart
from thinwire.reports.plots import DARK, LIGHT, latency_plot, quality_plot, save_figure


def named_lines(figure):
    return [line.get_label() for line in figure.axes[0].get_lines() if not str(line.get_label()).startswith("_")]


def written(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_latency_has_a_labelled_line_for_every_strategy(rows):
    figure = latency_plot(rows)
    assert sorted(named_lines(figure)) == sorted(row["strategy"] for row in rows)
    names = {"single device" if row["strategy"] == "single" else row["strategy"] for row in rows}
    assert sorted(written(figure)) == sorted(names)
    axes = figure.axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    single = next(line for line in axes.get_lines() if line.get_label() == "single")
    assert len(set(single.get_ydata())) == 1


def test_quality_has_a_point_for_every_strategy_and_a_reference_line(rows):
    figure = quality_plot(rows)
    assert sorted(named_lines(figure)) == sorted(row["strategy"] for row in rows if row["strategy"] != "single")
    assert "single device" in written(figure)
    markers = {line.get_label(): line.get_marker() for line in figure.axes[0].get_lines()}
    assert markers["tensor:int8"] != markers["sequence:float32"] != markers["ring:vq:groups=16"]


def test_points_in_one_place_share_a_label(rows):
    assert written(quality_plot(rows)).count("vq G=16") == 1


def test_what_sends_nothing_is_a_line_and_errors_are_bars(rows):
    silent = dict(rows[0], strategy="sequence:drop", bits_per_token_per_layer=0.0, perplexity_ratio=1.22)
    axes = quality_plot([silent, dict(rows[0], standard_error=0.01, preset="quality")]).axes[0]
    line = next(line for line in axes.get_lines() if line.get_label() == "sequence:drop")
    assert list(line.get_ydata()) == pytest.approx([22.0, 22.0])
    assert axes.get_ylim()[1] > 22
    assert {"drop: nothing sent", "quality"} <= {text.get_text() for text in axes.texts}
    (bar,) = axes.containers
    assert bar.has_yerr


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_what_is_not_finite_is_left_out(rows, theme):
    rows[0]["perplexity_ratio"] = float("nan")
    rows[0]["predicted_latency_s"] = {"10": float("inf")}
    assert rows[0]["strategy"] not in named_lines(quality_plot(rows, theme))
    assert rows[0]["strategy"] not in named_lines(latency_plot(rows, theme))


def test_empty_and_extreme_rows_draw(tmp_path, rows):
    ruined = dict(rows[0], strategy="sequence:int2", perplexity_ratio=5e4)
    better = dict(rows[0], strategy="sequence:lucky", perplexity_ratio=0.97)
    for some in ([], [rows[3]], [ruined], [better, ruined], [dict(rows[0], strategy="x" * 90)] * 30):
        save_figure(quality_plot(some), tmp_path / "q.png")
        save_figure(latency_plot(some), tmp_path / "l.png")


def test_drawing_touches_nothing_global(rows, tmp_path):
    before = dict(mpl.rcParams)
    save_figure(quality_plot(rows), tmp_path / "q.png")
    assert dict(mpl.rcParams) == before


def test_saved_as_png_or_svg(rows, tmp_path):
    figure = quality_plot(rows)
    assert save_figure(figure, tmp_path / "new" / "q.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in save_figure(figure, tmp_path / "q.svg").read_bytes()[:600]
    assert save_figure(figure, tmp_path / "again.png").read_bytes() == (tmp_path / "new" / "q.png").read_bytes()
    with pytest.raises(ThinwireError, match="folder"):
        save_figure(figure, tmp_path)


@pytest.mark.parametrize("wanted", [[0.0], [5.0, 5.0, 5.0], [0.0, 1.0, 50.0, 51.0, 99.0, 100.0], [100.0] * 8])
def test_labels_are_moved_apart_within_the_frame(wanted):
    heights = _apart(wanted, 10.0, 0.0, 100.0)
    assert len(heights) == len(wanted)
    assert all(b - a >= 10.0 - 1e-9 for a, b in itertools.pairwise(heights))
    assert heights[0] >= -1e-9
    assert heights[-1] <= 100.0 + 1e-9
