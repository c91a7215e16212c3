"""Checkpoints of a run: what is saved comes back; no full disk and no damage harms the former ones."""

import errno
import json
import shutil
import threading
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from thinwire.errors import ThinwireError
from thinwire.training import checkpoint_files as files
from thinwire.training.checkpoints import Checkpoints, DamagedCheckpointError, about, latest, restore

SIZE = 6000  # of the largest array, which the format keeps apart from the others


class State(NamedTuple):
    step: jax.Array
    params: dict
    opt_state: optax.OptState
    key: jax.Array
    noise: dict


def state(step: int, scale: float = 1.0) -> State:
    params = {
        "layers": {
            "w": jnp.arange(SIZE, dtype=jnp.float32).reshape(2, 3, -1) * scale,
            "half": jnp.ones(3, jnp.bfloat16) / 3,
        },
        "empty": jnp.zeros((0, 4)),
        "list": [jnp.full((), step, jnp.float32), np.array([True, False])],
    }
    optimiser = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-3))
    key = jax.random.key_data(jax.random.key(step))
    return State(jnp.int32(step), params, optimiser.init(params["layers"]), key, {})


def assert_same(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert (one.dtype, one.shape, type(one)) == (other.dtype, other.shape, type(other))
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def fill(folder, steps, **more):
    with Checkpoints(folder, **more) as checkpoints:
        for step in steps:
            checkpoints.save(step, state(step), {"of": step})


def empty_like(tree):
    return jax.tree.map(lambda x: np.zeros_like(x) if isinstance(x, np.ndarray) else jnp.zeros_like(x), tree)


def test_what_is_saved_comes_back(tmp_path):
    with Checkpoints(tmp_path / "a" / "run") as checkpoints:
        assert checkpoints.latest() is None
        checkpoints.save(7, state(7), {"config": {"seed": 1, "devices": (2, 4)}, "text": "ä"})
        checkpoints.wait()
        assert checkpoints.latest() == 7
        step, found, told = checkpoints.restore(None, empty_like(state(7)))
    assert step == 7
    assert told == {"config": {"seed": 1, "devices": [2, 4]}, "text": "ä"}
    assert about(tmp_path / "a" / "run") == told
    assert_same(found, state(7))
    assert names(tmp_path / "a" / "run") == ["step-000000007"]


def test_the_run_goes_on_while_a_save_is_written(tmp_path, monkeypatch):
    saving, go_on = threading.Event(), threading.Event()
    save = files.ocp.save

    def slow(*given):
        saving.set()
        assert go_on.wait(60)
        save(*given)

    monkeypatch.setattr(files.ocp, "save", slow)
    memory = np.arange(5.0, dtype=np.float32)
    device = jnp.arange(6, dtype=jnp.float32)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, {"m": memory, "d": device}, {})
        assert saving.wait(60)
        memory[:] = -1  # the state's memory is used again
        jax.jit(lambda x: x * -1, donate_argnums=0)(device).block_until_ready()
        assert checkpoints.latest() is None
        checkpoints.check()
        go_on.set()
    _, found, _ = restore(tmp_path, 1, {"m": np.zeros(5, np.float32), "d": np.zeros(6, np.float32)})
    np.testing.assert_array_equal(found["m"], np.arange(5))
    np.testing.assert_array_equal(found["d"], np.arange(6))


def test_the_newest_and_those_of_round_steps_are_kept(tmp_path):
    fill(tmp_path, range(1, 10), keep=2, keep_every=4)
    assert files.steps_in(tmp_path) == [4, 8, 9]
    assert names(tmp_path) == ["step-000000004", "step-000000008", "step-000000009"]
    for step in (4, 8, 9):
        assert_same(restore(tmp_path, step, state(0))[1], state(step))


def test_a_step_is_saved_once(tmp_path, monkeypatch):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, state(3), {})
        checkpoints.wait()
        monkeypatch.setattr(files.ocp, "save", lambda *_: pytest.fail("it is saved again"))
        checkpoints.save(3, state(3), {})
        checkpoints.wait()
        with pytest.raises(ValueError, match="step 2 is before step 3"):
            checkpoints.save(2, state(2), {})
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.restore(3, state(0))
        checkpoints.save(3, state(3), {})


def test_going_back_replaces_what_came_after(tmp_path):
    fill(tmp_path, [1, 2, 3, 4], keep=9)
    with Checkpoints(tmp_path, keep=9) as checkpoints:
        checkpoints.restore(2, state(0))
        assert checkpoints.latest() == 4  # nothing is lost before there is something new
        checkpoints.save(3, state(3, 5.0), {"of": "another"})
    assert files.steps_in(tmp_path) == [1, 2, 3]
    _, found, told = restore(tmp_path, None, state(0))
    assert told == {"of": "another"}
    assert_same(found, state(3, 5.0))
    assert names(tmp_path) == ["step-000000001", "step-000000002", "step-000000003"]


def test_a_new_run_does_not_touch_another_s_checkpoints(tmp_path):
    fill(tmp_path, [1, 2])
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(ThinwireError, match="has the checkpoint of step 2 of an earlier run: resume that, or name"):
            checkpoints.check_new()
        with pytest.raises(ThinwireError, match="earlier run"):
            checkpoints.save(9, state(9), {})
    assert files.steps_in(tmp_path) == [1, 2]
    with Checkpoints(tmp_path / "new") as checkpoints:
        checkpoints.check_new()


def test_two_runs_do_not_share_a_folder(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state(1), {})
        checkpoints.wait()
        with pytest.raises(ThinwireError, match=r"another run has the folder .*: wait for it, or name another"):
            Checkpoints(tmp_path)
        assert restore(tmp_path, None, state(0))[0] == 1  # reading is free
    Checkpoints(tmp_path).close()


@pytest.mark.parametrize(
    ("given", "says"), [({"keep": 0}, "keep is 0: keep at least 1"), ({"keep_every": -5}, "keep_every is -5")]
)
def test_what_cannot_be_kept(tmp_path, given, says):
    with pytest.raises(ThinwireError, match=says):
        Checkpoints(tmp_path / "run", **given)
    assert names(tmp_path) == []


def test_places_that_cannot_be_used(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(
        ThinwireError, match=r"cannot be saved to .*file/run: (Not a directory|File exists); name another"
    ):
        Checkpoints(tmp_path / "file" / "run")
    with pytest.raises(ThinwireError, match=r"no checkpoint in .*nowhere: name the folder of a run"):
        restore(tmp_path / "nowhere", None, {})
    fill(tmp_path / "run", [1, 2])
    with pytest.raises(ThinwireError, match=r"no checkpoint of step 5 in .*: there are those of 1, 2\."):
        restore(tmp_path / "run", 5, state(0))
    with pytest.raises(ThinwireError, match="no checkpoint of step 5"):
        about(tmp_path / "run", 5)


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (
            lambda s: s._replace(params={**s.params, "more": jnp.ones(2)}),
            r"holds nothing as params.more, .* \(2,\) float32",
        ),
        (lambda s: s._replace(noise={"kv": jnp.ones(2)}), r"holds nothing as noise.kv"),
        (lambda s: s._replace(params={"empty": s.params["empty"]}), r"as params\.\S+, where this run has nothing"),
        (lambda s: s._replace(key=jnp.zeros(3, jnp.uint32)), r"\(2,\) uint32 as key, where this run has \(3,\) uint32"),
        (lambda s: s._replace(step=jnp.float32(1)), r"\(\) int32 as step, where this run has \(\) float32"),
    ],
)
def test_a_state_of_another_structure(tmp_path, other, says):
    fill(tmp_path, [1])
    with pytest.raises(ThinwireError, match=says) as caught:
        restore(tmp_path, None, other(state(0)))
    assert "of another model or recipe" in str(caught.value)


def test_about_must_be_json(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for wrong in ({"x": float("nan")}, {"x": object()}):
            with pytest.raises((ValueError, TypeError)):
                checkpoints.save(1, state(1), wrong)
        assert checkpoints.latest() is None


def test_latest_of_what_is_no_folder_of_a_run(tmp_path):
    for name in ("step-000000004.bak", "step-5", ".step-000000006.x.saving", "step-000000007x"):
        (tmp_path / name).mkdir()
    (tmp_path / "step-000000008").write_text("a file")
    assert latest(tmp_path) is None
    assert latest(tmp_path / "nowhere") is None


# Full disks


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.EROFS, "x"), "Read-only file system"),
        (ValueError("RESOURCE_EXHAUSTED: Failed to write [os_error_code='28']"), "No space left on device"),
    ],
)
@pytest.mark.parametrize("tell", ["wait", "check", "save"])
def test_a_failed_save_leaves_the_former_checkpoints(tmp_path, monkeypatch, error, says, tell):
    fill(tmp_path, [1, 2], keep=2)
    over = threading.Event()

    def fails(path, _):
        Path(path).mkdir()
        (Path(path) / "half").write_text("half")
        over.set()
        raise error

    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.restore(None, state(0))
    with monkeypatch.context() as change:
        change.setattr(files.ocp, "save", fails)
        checkpoints.save(3, state(3), {})
        assert over.wait(60)
        checkpoints._saving.exception(60)
        call = {"wait": checkpoints.wait, "check": checkpoints.check, "save": lambda: checkpoints.save(4, state(4), {})}
        with pytest.raises(ThinwireError, match=f"step 3 could not be saved to .*: {says}; make room") as caught:
            call[tell]()
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == ["step-000000001", "step-000000002"]
    assert_same(restore(tmp_path, None, state(0))[1], state(2))
    checkpoints.save(3, state(3), {})  # there is room again
    checkpoints.close()
    assert files.steps_in(tmp_path) == [2, 3]


def test_a_full_disk_is_told_before_the_run_goes_on(tmp_path, monkeypatch):
    fill(tmp_path, [1])
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.restore(None, state(0))
        monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 99, 1))
        with pytest.raises(ThinwireError, match=r"step 2 could not be saved to .*: No space left on device"):
            checkpoints.save(2, state(2), {})
    assert names(tmp_path) == ["step-000000001"]


def test_what_has_ended_the_run_is_told_rather_than_the_save_that_failed_too(tmp_path, monkeypatch):
    def fails(*_):
        raise OSError(errno.ENOSPC, "x")

    def run(ends=None):
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints.save(1, state(1), {})
            if ends is not None:
                raise ends

    monkeypatch.setattr(files.ocp, "save", fails)
    with pytest.raises(KeyboardInterrupt):
        run(KeyboardInterrupt())
    with pytest.raises(ThinwireError, match="No space left"):
        run()
    Checkpoints(tmp_path).close()  # the folder was given back


# Damage


def largest(folder):
    return max((path for path in (folder / files.ARRAYS).rglob("*") if path.is_file()), key=lambda p: p.stat().st_size)


def truncate(folder):
    path = largest(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(folder):
    """One bit of an array, as a bad disk would."""
    some = np.arange(SIZE, dtype=np.float32)[500:510].tobytes()
    (path,) = (path for path in (folder / files.ARRAYS).rglob("*") if path.is_file() and some in path.read_bytes())
    data = bytearray(path.read_bytes())
    data[data.index(some)] ^= 1
    path.write_bytes(data)


def change(folder):
    found = json.loads((folder / files.ABOUT).read_text())
    found["about"]["of"] = 77
    (folder / files.ABOUT).write_text(json.dumps(found))


def newer(folder):
    found = json.loads((folder / files.ABOUT).read_text())
    (folder / files.ABOUT).write_text(json.dumps({**found, "format": 99}))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (truncate, "incomplete or unreadable|is not what was saved"),
        (flip, "layers.w is not what was saved"),
        (lambda f: largest(f).unlink(), "incomplete or unreadable"),
        (lambda f: shutil.rmtree(f / files.ARRAYS), "incomplete or unreadable"),
        (lambda f: (f / files.ABOUT).unlink(), "about.json cannot be read: No such file"),
        (lambda f: (f / files.ABOUT).write_bytes(b'{"format"\xff'), "about.json is no JSON"),
        (lambda f: (f / files.ABOUT).write_text("[1]"), "about.json is not a JSON object"),
        (change, "about.json was changed"),
        (newer, "has format 99, and this version reads 1"),
    ],
)
# The checkpoint library's own threads may drop an exception of theirs while they are collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_damage_is_told_and_the_newest_whole_checkpoint_named(tmp_path, harm, says, capfd):
    fill(tmp_path, [1, 2, 3])
    harm(files.path_of(tmp_path, 3))
    with pytest.raises(DamagedCheckpointError, match=says) as caught:
        restore(tmp_path, None, state(0))
    assert f"the checkpoint of step 3 in {tmp_path} is damaged" in str(caught.value)
    assert "remove step-000000003 to go on from step 2, the newest before it that is whole" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")
    with Checkpoints(tmp_path) as checkpoints:
        _, found, _ = checkpoints.restore(caught.value.instead, state(0))
        assert_same(found, state(2))
        checkpoints.save(3, state(3), {})
    assert_same(restore(tmp_path, None, state(0))[1], state(3))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_several_damaged_checkpoints(tmp_path):
    fill(tmp_path, [1, 2, 3])
    for step in (2, 3):
        truncate(files.path_of(tmp_path, step))
    with pytest.raises(DamagedCheckpointError, match="go on from step 1"):
        restore(tmp_path, None, state(0))
    truncate(files.path_of(tmp_path, 1))
    with pytest.raises(DamagedCheckpointError, match="none before it is whole, so begin anew in another") as caught:
        restore(tmp_path, None, state(0))
    assert caught.value.instead is None
    change(files.path_of(tmp_path, 3))
    with pytest.raises(DamagedCheckpointError, match=r"step 3 .*was changed"):
        about(tmp_path)
