import io

from rich.console import Console

from thinwire.reports.table import comparison_table, markdown_section, markdown_table


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
    assert markdown_table(rows).count("\n") == 4
    assert "nan" not in markdown_table(rows).lower()
    assert shown(comparison_table([]))


def test_markdown_has_equal_columns_and_all_rows(rows):
    lines = markdown_table(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert len({line.count("|") for line in lines}) == 1
    assert "1 Gbps, predicted" in lines[0]
    assert lines[2].startswith("| `single` |")
    assert "(3.1×)" not in lines[2]


def test_markdown_escapes_what_would_break_the_table():
    (line,) = markdown_table([{"strategy": "a|b`c"}]).splitlines()[2:]
    assert "a\\|b'c" in line


def test_markdown_section_tells_the_command_and_what_is_predicted(document):
    text = markdown_section(document)
    assert document["command"] in text
    assert "latency is predicted" in text
    assert "98.0 GFLOP/s" in text
    assert "256 + 256" in text


def test_devices_have_a_column_where_they_differ(rows):
    assert "devices" not in markdown_table(rows)
    rows[0]["devices"] = 2
    assert "| devices |" in markdown_table(rows)
