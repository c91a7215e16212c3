import itertools
import threading

import pytest

from thinwire.cluster import traces
from thinwire.errors import ThinwireError


def test_a_file_with_and_without_a_first_line_of_words(tmp_path):
    for text in ("seconds,mbps\n0,100\n\n2.5,10\n", "0,100\n2.5,10\n", "0.0e+00,1e2\n2.5e+00,1.0e+01\n"):
        (tmp_path / "t.csv").write_text(text)
        assert traces.read_trace(tmp_path / "t.csv") == [(0.0, 100.0), (2.5, 10.0)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0,100\n1,0\n", "line 2: A rate of 0 Mbps"),
        ("0,100\n2,10\n1,10\n", "line 3: 1 s comes after 2 s"),
        ("0,100\nsoon,10\n", "line 2: 'soon,10' is not"),
        ("0;100\n", "line 1: '0;100' is not"),
        ("nan,10\n1,2\n", "line 1: nan s comes after 0 s"),
        ("0,nan\n1,2\n", "line 1: A rate of nan"),
        ("1,2\n1,nan\n", "line 2: A rate of nan"),
        ("seconds,mbps\n", "has no rows"),
    ],
)
def test_files_that_are_no_traces(tmp_path, text, words):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ThinwireError, match=words):
        traces.read_trace(tmp_path / "t.csv")


def test_a_markov_trace_alternates_dwells_as_asked_and_follows_its_seed():
    steps = list(itertools.islice(traces.parse_markov("100:10:2", seed=3), 2000))
    assert [mbps for _, mbps in steps[:4]] == [100, 10, 100, 10]
    assert steps[-1][0] / (len(steps) - 1) == pytest.approx(2, rel=0.1)
    assert steps == list(itertools.islice(traces.markov_trace(100, 10, 2, seed=3), 2000))
    assert steps != list(itertools.islice(traces.markov_trace(100, 10, 2, seed=4), 2000))


@pytest.mark.parametrize("text", ["100:10", "100:0:2", "100:10:0", "a:b:c"])
def test_what_is_no_markov_trace(text):
    with pytest.raises(ThinwireError):
        traces.parse_markov(text)


def test_rates_are_set_in_turn_while_the_block_runs_and_no_longer():
    seen, third = [], threading.Event()

    def set_rate(mbps):
        seen.append(mbps)
        if len(seen) == 3:
            third.set()

    with traces.following([(0, 1.0), (0.01, 2.0), (0.02, 3.0), (1e6, 4.0)], set_rate):
        assert third.wait(20)
    assert seen == [1.0, 2.0, 3.0]


def test_a_rate_that_cannot_be_set_is_told():
    tried = threading.Event()

    def set_rate(mbps):
        tried.set()
        raise ThinwireError("no such host")

    def follow():
        with traces.following([(0, 1.0)], set_rate):
            tried.wait(20)

    with pytest.raises(ThinwireError, match="no such host"):
        follow()
