import io

import pytest
from rich.console import Console

from thinwire.reports.table import columns, comparison_table


def shown(table, width=100):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(table)
    return console.file.getvalue()


def test_terminal_table_shows_every_row_within_100_columns(rows):
    text = shown(comparison_table(rows, title="smollm2"))
    for row in rows:
        assert row["strategy"] in text
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 100
    assert text.index("single") < text.index("sequence:float32") < text.index("sequence:vq")
    assert "latency is predicted" in text


def test_terminal_table_folds_long_strategies(rows):
    rows[0]["strategy"] = "sequence:vq:groups=16,size=1024,site=kv,zero=exact"
    assert "…" not in shown(comparison_table(rows))


def test_terminal_table_does_not_read_markup(rows):
    rows[0]["strategy"] = "sequence:[red]x[/red]"
    assert "[red]x[/red]" in shown(comparison_table(rows))


def test_tables_of_incomplete_rows():
    rows = [
        {"strategy": "single"},
        {"strategy": "sequence:int8", "perplexity": float("nan"), "predicted_speedup": None},
    ]
    assert "sequence:int8" in shown(comparison_table(rows))
    assert shown(comparison_table([]))


def test_bandwidths_have_columns_with_speedups(rows):
    heading, _, cell = next(column for column in columns(rows) if column[0] == "1 Gbps, predicted")
    assert heading
    assert "(3.1×)" not in cell(rows[0])  # the single device is what others are compared with


def test_devices_have_a_column_where_they_differ(rows):
    headings = lambda: [heading for heading, _, _ in columns(rows)]
    assert "devices" not in headings()
    rows[0]["devices"] = 2
    assert "devices" in headings()


@pytest.mark.parametrize(("windows", "words"), [(1, "over one window moves"), (7, "over 7 windows"), (8, None)])
def test_table_says_that_few_windows_tell_little(rows, windows, words):
    text = " ".join(shown(comparison_table(rows, windows=windows)).split())
    assert ("compare --windows 32 tells more" in text) == (words is not None)
    assert words is None or words in text
