import json

import pytest

from thinwire.cli import doctor as cli
from thinwire.cli.main import main
from thinwire.cluster.doctor import Check


@pytest.fixture
def found(monkeypatch):
    def put(*checks):
        monkeypatch.setattr(cli, "examine", lambda speed: list(checks))

    return put


def test_a_problem_fails_and_says_what_to_do(found, capsys):
    found(Check("a", "ok", "[fine]"), Check("b", "problem", "missing", "install it"), Check("c", "warning", "old", "w"))
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "[fine]" in out
    assert "→ install it" in out
    assert "1 problem, 1 warning" in out


def test_a_warning_does_not_fail(found, capsys):
    found(Check("a", "warning", "old", "renew"))
    assert main(["doctor"]) == 0
    assert "fit for thinwire, with 1 warning." in capsys.readouterr().out


def test_json(found, capsys):
    found(Check("a", "problem", "old", "renew"))
    assert main(["doctor", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "checks": [{"name": "a", "status": "problem", "found": "old", "advice": "renew"}],
        "counts": {"ok": 0, "warning": 0, "problem": 1},
    }


def test_this_machine(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("THINWIRE_CACHE", str(tmp_path))
    main(["doctor", "--no-speed", "--json"])
    names = [check["name"] for check in json.loads(capsys.readouterr().out)["checks"]]
    assert names[:5] == ["python", "jax", "jaxlib", "flax", "orbax-checkpoint"]
    assert {"devices", "cores", "memory", "cache", "pip", "host name", "huggingface_hub"} <= set(names)
