"""A benchmark's report: parts of a bar, and rows of other programs, to which little applies."""

import io

import pytest
from rich.console import Console

from thinwire.benchmark.peers import Peer, PeerProcess
from thinwire.benchmark.plan import Plan
from thinwire.benchmark.rows import TimedPass, peer_row, row, with_speedups
from thinwire.reports.bench import bench_html, bench_markdown, bench_table, parts_of, parts_plot, peer_remarks, what
from thinwire.reports.profile import profile_table, profile_title
from thinwire.strategies import parse_strategies

PLAN = Plan("shape:llama-tiny", tuple(parse_strategies("single,sequence:int8")), (0.5, 0.5), (10.0,), (64,))
FACTS = {"codec": "int8", "bits_per_token_per_layer": 8.0, "rounds": 2, "exchange": "xla"}
MEASURED = {
    "spread_s": 0.1, "encode_s": 0.2, "decode_s": 0.3, "bytes_interface": 2000, "repeats": 5, "disturbance": "",
    "same_output": True, "measured": True, "emulated": True,
}  # fmt: skip


def torch():
    peer = PeerProcess.__new__(PeerProcess)  # without a process: only what it said counts here
    peer.peer, peer.facts = Peer("torch", ("python", "prefill.py", "--dtype", "bfloat16")), {"dtype": "bfloat16"}
    return peer


def rows():
    def one(strategy, hosts, sent, total_s, compute_s):
        by_device = {"model_flops": [1e9] * hosts, "bytes_by_device": [sent] * hosts, "messages_by_device": [2] * hosts}
        facts = {**FACTS, "strategy": strategy, "hosts": hosts, **by_device}
        return row(PLAN, facts, 64, 10.0, [TimedPass(total_s, (1e9,) * hosts)], compute_s, 0.1, **MEASURED)

    more = {**MEASURED, "encode_s": None, "decode_s": None, "bytes_interface": None, "same_output": None}
    beside = peer_row(torch(), PLAN, 64, 10.0, **more, total_s=4.0)
    return with_speedups([one("single", 1, 0, 6.0, 6.0), one("sequence:int8", 2, 250_000, 5.0, 3.5), beside])


def document():
    return {
        "model": "tiny", "hosts": 2, "cpu": [0.5, 0.5], "dtype": "float32", "repeats": 5, "measured": True,
        "split": None, "loss": [0.0, 0.0],
        "note": "Measured.", "floor": "floor = this", "command": "thinwire bench", "thinwire": "1", "jax": "1",
        "python": "3", "platform": "cpu", "rows": rows(),
    }  # fmt: skip


def test_the_parts_of_a_bar_are_the_pass():
    _, sequence, torch = rows()
    # 250 kB at 10 Mbps and two round trips of 0.1 s are 0.4 s of the 1.5 s that sending adds.
    parts = parts_of(sequence)
    assert parts == pytest.approx({"compute": 3.0, "encode": 0.2, "decode": 0.3, "wire": 0.4, "wait": 1.1})
    assert sum(parts.values()) == pytest.approx(sequence["total_s"])
    assert parts_of(torch) == {"compute": 4.0, "encode": 0, "decode": 0, "wire": 0, "wait": 0}
    less = {**sequence, "wire_s": 0.1}
    assert parts_of(less)["wire"] == 0.1
    assert parts_of(less)["wait"] == 0
    faster = {**sequence, "total_s": 3.4, "wire_s": 0.0}  # than without sending, by chance
    assert sum(parts_of(faster).values()) == pytest.approx(3.4)


def test_a_peer_stands_in_table_markdown_and_page():
    single, sequence, torch = rows()
    assert torch["speedup_vs_single"] == 1.5
    assert sequence["speedup_vs_peer_torch"] == 0.8
    assert torch["floor_s"] is None
    assert torch["peer"] == {"dtype": "bfloat16", "command": "python prefill.py --dtype bfloat16"}
    assert torch.keys() >= single.keys() - {"peer"}
    assert bench_table(rows(), "title").row_count == 3
    remark = "vs torch, 64 tokens, 10 Mbps: single 0.67×, sequence:int8 0.80×"
    assert peer_remarks(rows()) == [remark]
    assert remark in bench_markdown(document())
    assert "`torch`" in bench_markdown(document())
    assert remark in bench_html(document())


def test_what_was_done_is_said():
    assert what(document()) == (
        "2 emulated hosts of 0.5 cores each, float32, median of 5 interleaved repeats, inputs with seed 0"
    )
    lossy = what({**document(), "split": (0.25, 0.75), "loss": [0.0, 0.05]})
    assert "cores each, 0 % and 5 % of arriving packets lost, float32, split 0.25/0.75, median" in lossy
    assert what({**document(), "hosts": 1, "measured": False}) == "1 virtual host, latency predicted, float32"


def test_a_narrow_terminal_shows_whole_names_and_fewer_columns():
    long = [{**row, "strategy": "sequence:vq:groups=32:codebook_size=64"} for row in rows()]
    for width, columns in ((110, 8), (100, 7), (80, 6), (73, 5), (66, 4)):
        console = Console(width=width, file=io.StringIO())
        table = bench_table(long, "title", width)
        console.print(table)
        assert len(table.columns) == columns
        assert console.file.getvalue().count(long[0]["strategy"]) == 3
        assert "…" not in console.file.getvalue()


def test_a_bar_is_cut_where_it_is_far_longer_than_the_single_device():
    def drawn(*totals, single=()):
        bars = [{**rows()[1], "total_s": total, "compute_s": total - 1.5} for total in totals]
        bars = [{**bar, "strategy": f"s{n}"} for n, bar in enumerate(bars)]
        figure = parts_plot([{**rows()[0], "total_s": total, "compute_s": total} for total in single] + bars)
        end = figure.axes[0].get_xlim()[1]
        return end, " ".join(text.get_text() for text in (*figure.texts, *figure.axes[0].texts))

    end, said = drawn(4.5, 17.0, single=[6.0])
    assert end == pytest.approx(1.04 * 17)
    assert "arrow" not in said
    end, said = drawn(4.5, 20.0, single=[6.0])
    assert end == pytest.approx(1.04 * 6)
    assert "a bar with an arrow is longer" in said
    assert "20.0 s →" in said
    end, said = drawn(5.0, 80.0)
    assert end > 80
    assert "arrow" not in said


def test_the_table_of_a_profile_leaves_trifles_out():
    scopes = {"mlp": {"most_s": 2.0, "least_s": 1.5}, "head": {"most_s": 0.001, "least_s": 0.001}}
    profiled = {**rows()[1], "profile": {"folder": "prof/x", "pass_s": 4.0, "scopes": scopes}}
    table = profile_table(profiled)
    cells = [list(column.cells) for column in table.columns]
    assert cells == [["mlp"], ["2.00 s"], ["1.50 s"], ["50.0 %"]]
    assert profile_title(profiled) == "sequence:int8, 64 tokens, 10 Mbps: 4.00 s, in prof/x"
    assert len(profile_table({**profiled, "hosts": 1}).columns) == 3
