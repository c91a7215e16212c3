"""Names beside what they name, without covering each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

GAP = 13.0  # points between two lines of labels


@dataclass(frozen=True)
class Label:
    """A text that belongs to the point (x, y) in data coordinates."""

    text: str
    x: float
    y: float
    colour: str
    bold: bool = False


# Where a label may stand around its point: offset in points, and its alignment; the first that is free is taken.
Place = tuple[tuple[int, int], Literal["left", "center", "right"], Literal["bottom", "center", "top"]]
_PLACES: tuple[Place, ...] = (
    ((9, 0), "left", "center"),
    ((0, 9), "center", "bottom"),
    ((0, -9), "center", "top"),
    ((-9, 0), "right", "center"),
    ((7, 7), "left", "bottom"),
    ((7, -7), "left", "top"),
    ((-7, 7), "right", "bottom"),
    ((-7, -7), "right", "top"),
    ((14, 20), "left", "bottom"),
    ((14, -20), "left", "top"),
    ((-14, 20), "right", "bottom"),
    ((-14, -20), "right", "top"),
)


def place_beside_points(axes: Axes, labels: Sequence[Label], level: float | None = None) -> list[Annotation]:
    """Write each label next to its point, where it covers no label, no point, no border and no line at `level`."""
    canvas = axes.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    renderer = canvas.get_renderer()
    axes.apply_aspect()
    frame = axes.get_window_extent(renderer).frozen()
    half = 6 * renderer.dpi / 72
    taken: list[Bbox] = []
    for label in labels:
        x, y = axes.transData.transform((label.x, label.y))
        taken.append(Bbox.from_extents(x - half, y - half, x + half, y + half))
    if level is not None:
        y = axes.transData.transform((labels[0].x if labels else 1, level))[1]
        taken.append(Bbox.from_extents(frame.x0, y - half / 4, frame.x1, y + half / 4))
    placed = []
    for label in labels:
        text = axes.annotate(
            label.text,
            (label.x, label.y),
            xytext=(0, 0),
            textcoords="offset points",
            fontsize=9,
            color=label.colour,
            zorder=5,
        )
        best: tuple[float, int] | None = None
        for index in range(len(_PLACES)):
            cost = _cost(_extent(text, index, renderer), frame, taken)
            if best is None or cost < best[0]:
                best = (cost, index)
            if cost == 0:
                break
        assert best is not None
        taken.append(_extent(text, best[1], renderer))
        placed.append(text)
    return placed


def _extent(text: Annotation, place: int, renderer) -> Bbox:
    offset, horizontal, vertical = _PLACES[place]
    text.set_position(offset)
    text.set_horizontalalignment(horizontal)
    text.set_verticalalignment(vertical)
    return text.get_window_extent(renderer).frozen()


def _cost(box: Bbox, frame: Bbox, taken: Sequence[Bbox]) -> float:
    """Area of the box that lies outside the frame or over something else."""
    cost = 0.0
    inside = Bbox.intersection(box, frame)
    cost += box.width * box.height - (inside.width * inside.height if inside else 0.0)
    for other in taken:
        common = Bbox.intersection(box, other)
        cost += common.width * common.height if common else 0.0
    return round(cost, 3)


def spread_left(axes: Axes, labels: Sequence[Label]) -> list[Annotation]:
    """Write the labels in a column left of the axes, each as high as its point, moved apart where they would touch."""
    if not labels:
        return []
    canvas = axes.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    points_per_pixel = 72 / canvas.get_renderer().dpi
    frame = axes.get_window_extent(canvas.get_renderer())
    ordered = sorted(labels, key=lambda label: label.y)
    wanted = [axes.transData.transform((label.x, label.y))[1] * points_per_pixel for label in ordered]
    bottom, top = frame.y0 * points_per_pixel, frame.y1 * points_per_pixel
    gap = min(GAP, (top - bottom) / max(1, len(ordered) - 1))
    heights = _apart(wanted, gap, bottom, top)
    written = []
    for label, want, height in zip(ordered, wanted, heights, strict=True):
        moved = abs(height - want) > 0.5
        written.append(
            axes.annotate(
                label.text,
                (label.x, label.y),
                xytext=(-30 if moved else -10, height - want),
                textcoords="offset points",
                va="center",
                ha="right",
                fontsize=min(9.0, 0.8 * gap),
                color=label.colour,
                fontweight="bold" if label.bold else "normal",
                annotation_clip=False,
                arrowprops={
                    "arrowstyle": "-",
                    "color": label.colour,
                    "linewidth": 0.6,
                    "alpha": 0.6,
                    "relpos": (1, 0.5),
                    "shrinkB": 4,
                }
                if moved
                else None,
            )
        )
    return written


def _apart(wanted: Sequence[float], gap: float, bottom: float, top: float) -> list[float]:
    """Ascending heights at least `gap` apart, within bottom..top where they fit, near to the ascending `wanted`."""
    blocks: list[list[float]] = []  # [mean of the block's first height, how many]
    for height in wanted:
        blocks.append([height, 1])
        while len(blocks) > 1 and blocks[-1][0] < blocks[-2][0] + gap * blocks[-2][1]:
            start, count = blocks.pop()
            before, already = blocks[-1]
            # The later block's members, were they where the earlier block's first would put them.
            blocks[-1] = [(before * already + (start - gap * already) * count) / (already + count), already + count]
    heights = [start + gap * i for start, count in blocks for i in range(int(count))]
    for i in range(len(heights)):
        heights[i] = max(heights[i], bottom + gap * i)
    for i in range(len(heights)):
        heights[-1 - i] = min(heights[-1 - i], top - gap * i)
    return heights
