"""Local work of devices, alone."""

import json

import pytest
from eval import local_work

import tiny
from thinwire.benchmark.local import local_rows
from thinwire.errors import ThinwireError
from thinwire.strategies import parse_strategy


def test_every_device_is_beside_the_single_one():
    strategy = parse_strategy("sequence:vq:groups=6:size=16")
    rows = local_rows(tiny.model(), strategy, 12, [2], (1.0, 3.0), repeats=2)
    assert [(row["devices"], row["device"]) for row in rows] == [(1, 0), (2, 0), (2, 1)]
    single, few, many = rows
    assert (single["strategy"], single["tokens"], single["single_over_this"]) == ("single", 12, 1.0)
    assert few["tokens"] < many["tokens"]
    assert all(row["cpu_s"] > 0 for row in rows)
    assert few["single_over_this"] == pytest.approx(single["cpu_s"] / few["cpu_s"])


@pytest.mark.parametrize(
    ("options", "said"),
    [(["--strategy", "tensor:int8"], "tensor:int8 splits no tokens"), (["--devices", "0"], "--devices has 0"),
     (["--repeats", "0"], "the least")],
)  # fmt: skip
def test_mistakes_are_told_before_a_model_is_opened(options, said):
    with pytest.raises(ThinwireError, match=said):
        local_work.run(["--model", "there-is-none", *options])


@pytest.mark.thorough
def test_end_to_end(tmp_path, capsys):
    file = tmp_path / "local.json"
    options = ["--model", "shape:vit-base:layers=1", "--strategy", "sequence:int8", "--split", "even", "--tokens", "65"]
    assert local_work.run([*options, "--devices", "2", "--repeats", "1", "--json", str(file)]) == 0
    assert len(json.loads(file.read_text())["rows"]) == 3
    assert "0 of 2" in capsys.readouterr().out
