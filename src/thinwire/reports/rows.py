"""What every report needs of a comparison's rows: reading a number that may be missing, order, and words for sizes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]
Number = float | int  # said in full, for checkers that hold the two apart

HONEST_NOTE = "Virtual devices on one machine: outputs and bytes are real, latency is predicted."
ENOUGH_WINDOWS = 8  # of text, for changes of perplexity of a percent to mean something


def caution(windows: int | None) -> str:
    """What a reader should know of a perplexity over so few windows; nothing where there are enough, or unknown."""
    if windows is None or windows >= ENOUGH_WINDOWS:
        return ""
    over = "one window" if windows == 1 else f"{windows} windows"
    return (
        f"Perplexity over {over} moves by a percent or two by chance; KL is steadier. compare --windows 32 tells more."
    )


def number(row: Row, key: str) -> float | None:
    """The finite number under `key`, or None where it is missing, null, NaN or infinite."""
    return finite(row.get(key))


def finite(value: Any) -> float | None:
    """`value` as a float, or None where it is no finite number."""
    if value is None or isinstance(value, bool | str):
        return None
    value = float(value)
    return value if math.isfinite(value) else None


def predictions(row: Row, key: str = "predicted_latency_s") -> dict[float, float]:
    """A by-bandwidth column as {Mbps: value}, ascending, without what is not finite."""
    table = row.get(key) or {}
    pairs = ((float(mbps), finite(value)) for mbps, value in table.items())
    return dict(sorted((mbps, value) for mbps, value in pairs if value is not None))


def family(row: Row) -> str:
    """The strategy's first word: `sequence` of `sequence:vq:groups=16`."""
    return str(row.get("strategy", "?")).split(":", 1)[0]


def is_single(row: Row) -> bool:
    """Whether this row is the single device, the reference of all others."""
    return family(row) == "single"


def in_order(rows: Sequence[Row]) -> list[Row]:
    """The single device first, then strategy by strategy as they were asked for, each from many bits to few."""
    families = list(dict.fromkeys(family(row) for row in rows))
    return sorted(
        rows,
        key=lambda row: (
            not is_single(row),
            families.index(family(row)),
            -(number(row, "bits_per_token_per_layer") or 0.0),
            str(row.get("strategy")),
        ),
    )


def bandwidths(rows: Sequence[Row]) -> list[float]:
    """Every bandwidth in Mbps for which some row has a prediction, ascending."""
    return sorted({mbps for row in rows for mbps in predictions(row)})


def significant(value: Number | None, digits: int = 3) -> str:
    """A number in `digits` significant digits without an exponent where that reads well; an en dash for None."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6 or size < 1e-4:
        return f"{value:.{digits - 1}e}".replace("e-0", "e-").replace("e+0", "e+")
    decimals = max(0, digits - 1 - math.floor(math.log10(float(f"{size:.{digits - 1}e}"))))
    return f"{value:,.{decimals}f}"


def as_bytes(value: Number | None) -> str:
    """`1572864` as `1.57 MB`: powers of ten, as links are sold."""
    if value is None:
        return "–"
    if value < 1000:
        return f"{value:.0f} B"
    power = 1
    while value >= 999.5 * 1000**power and power < 4:
        power += 1
    return f"{significant(value / 1000**power)} {('kB', 'MB', 'GB', 'TB')[power - 1]}"


def as_seconds(value: Number | None) -> str:
    """`0.0421` as `42.1 ms`."""
    if value is None:
        return "–"
    return f"{significant(value * 1000)} ms" if 0 < value < 0.1 else f"{significant(value)} s"


def as_times(value: Number | None) -> str:
    """`2.031` as `2.0×`."""
    return "–" if value is None else f"{significant(value, 2)}×"


def as_count(value: Number | None) -> str:
    """`4.0` as `4`, `12000` as `12,000`."""
    return "–" if value is None else f"{value:,.0f}"


def as_percent(value: Number | None) -> str:
    """A share: `0.9871` as `98.7 %`."""
    return "–" if value is None else f"{100 * value:.1f} %"


def as_change(ratio: Number | None) -> str:
    """A ratio as a change: `1.003` as `+0.3 %`."""
    if ratio is None:
        return "–"
    change = 100 * (ratio - 1)
    if abs(change) < 0.005:
        return "±0 %"
    if abs(change) >= 1000:
        return f"×{significant(ratio)}"
    return f"{change:+.2f} %" if abs(change) < 1 else f"{change:+.{0 if abs(change) >= 100 else 1}f} %"


def as_mbps(mbps: Number) -> str:
    """`1000.0` as `1 Gbps`, `10.0` as `10 Mbps`."""
    return f"{mbps / 1000:g} Gbps" if mbps >= 1000 else f"{mbps:g} Mbps"
