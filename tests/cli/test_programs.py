"""What a command compiles is there for the next run."""

import os
import subprocess
import sys

RUN = [
    sys.executable, "-m", "thinwire.cli.main", "compare", "--model", "shape:llama-tiny", "--devices", "2",
    "--strategies", "sequence:int8", "--tokens", "16",
]  # fmt: skip


def run(cache, **more):
    kept = {k: v for k, v in os.environ.items() if k not in ("JAX_ENABLE_COMPILATION_CACHE", "XLA_FLAGS")}
    environment = {**kept, "THINWIRE_CACHE": str(cache), **more}
    done = subprocess.run(RUN, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def programs(folder):
    return {file.name for file in folder.glob("*") if file.name.endswith("-cache")}


def test_programs_are_kept_below_the_cache(tmp_path):
    run(tmp_path)
    made = programs(tmp_path / "programs")
    assert made
    run(tmp_path)
    assert programs(tmp_path / "programs") == made


def test_the_user_may_say_where(tmp_path):
    run(tmp_path / "cache", JAX_COMPILATION_CACHE_DIR=str(tmp_path / "other"))
    assert programs(tmp_path / "other")
    assert not (tmp_path / "cache" / "programs").exists()
