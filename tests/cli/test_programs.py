"""What a command compiles is there for the next run."""

import os
import subprocess
import sys

import pytest

RUN = [
    sys.executable, "-m", "thinwire.cli.main", "compare", "--model", "shape:llama-tiny", "--devices", "2",
    "--strategies", "sequence:int8", "--tokens", "16",
]  # fmt: skip
ASK = "from thinwire.cli.programs import *; keep_programs(); print(jax.config.jax_compilation_cache_dir)"


def started(command, cache, **more):
    kept = {k: v for k, v in os.environ.items() if k not in ("JAX_ENABLE_COMPILATION_CACHE", "XLA_FLAGS")}
    environment = {**kept, "THINWIRE_CACHE": str(cache), **more}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.thorough
def test_programs_are_kept_below_the_cache(tmp_path):
    started(RUN, tmp_path)
    assert any(file.name.endswith("-cache") for file in (tmp_path / "programs").iterdir())


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ({}, "CACHE/programs"),
        ({"JAX_COMPILATION_CACHE_DIR": "/elsewhere"}, "/elsewhere"),
        ({"JAX_ENABLE_COMPILATION_CACHE": "false"}, "None"),
    ],
)
def test_the_user_may_say_where_and_whether(tmp_path, said, kept):
    assert started([sys.executable, "-c", ASK], tmp_path, **said) == kept.replace("CACHE", str(tmp_path))
