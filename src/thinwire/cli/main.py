"""`thinwire SUBCOMMAND ...`: finds the subcommand, and turns a user's mistake into one sentence and an exit code.

A subcommand is a module of this package with NAME, HELP, EXAMPLES, add_arguments(parser) and run(args) -> int. It is
imported only when it is asked for, so that `thinwire --help` need not wait for jax.
"""

import argparse
import contextlib
import difflib
import errno
import importlib
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import NoReturn

from thinwire.cli.console import fail, say
from thinwire.cluster.signals import held_back
from thinwire.errors import ThinwireError
from thinwire.kernels.choice import using

COMMANDS = {
    "fetch": "download a model, a text or images that thinwire knows by name",
    "calibrate": "learn the codebooks of a model from text",
    "run": "continue a prompt, on one device or on several",
    "compare": "run one prompt by several strategies: quality, bytes, predicted latency",
    "inspect": "show what a model or a codebook set is: sizes, error and dead codewords by layer",
    "cluster": "run a command on several hosts, emulated on this machine (Linux, root) or real (ssh)",
    "bench": "time strategies on emulated hosts and thin links, beside the single host and the floor",
    "doctor": "check whether this machine is fit, and say what to do where it is not",
    "demo": "fetch a small model, calibrate it, compare the strategies, continue a prompt",
}

EXAMPLES = """\
thinwire demo
thinwire fetch smollm2-135m
thinwire run --model smollm2-135m --devices 4 --strategy sequence:vq:groups=16 --prompt "The history of"
thinwire compare --model smollm2-135m --devices 4 --tokens 1024 --html report.html
"""

USAGE_ERROR, INTERRUPTED, PIPE_CLOSED = 2, 130, 141
_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0, 2 for a user's mistake, 130 when interrupted."""
    return guarded(lambda: _dispatch(list(sys.argv[1:] if argv is None else argv)))


def guarded(work: Callable[[], int]) -> int:
    """Runs a command and returns its exit code; what a user can mend is told in one sentence where it fails."""
    try:
        code = work()
        sys.stdout.flush()
        return code
    except ThinwireError as error:
        fail(error)
        return USAGE_ERROR
    except KeyboardInterrupt:
        fail("interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # `thinwire ... | head`
        _silence_stdout()
        return PIPE_CLOSED
    except (MemoryError, RuntimeError) as error:  # XLA tells of both kinds of memory by a RuntimeError
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        fail("there is not enough memory for this: ask for fewer tokens or devices, or for a smaller model")
        return USAGE_ERROR
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        where = f" {error.filename}" if error.filename else ""
        fail(f"cannot use{where}: {error.strerror}; free some space or name a place that you may write to")
        return USAGE_ERROR


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        if argv[:1] == ["help"] and len(argv) > 1:
            return _dispatch([argv[1], "--help"])
        say(_overview())
        return 0 if argv else USAGE_ERROR
    if argv[0] in ("-V", "--version"):
        say(f"thinwire {_version()}")
        return 0
    name, *rest = argv
    if name not in COMMANDS:
        raise ThinwireError(_unknown(name))
    with held_back():
        module = importlib.import_module(f"thinwire.cli.{name}")
    try:
        args = build_parser(module).parse_args(rest)
    except SystemExit as done:  # --help
        return int(done.code or 0)
    args.command_line = shlex.join(["thinwire", *argv])
    with using(args.kernels) if "kernels" in args else contextlib.nullcontext():
        return module.run(args)


def build_parser(module: ModuleType) -> argparse.ArgumentParser:
    """The parser of one subcommand's module, with its examples under the options."""
    parser = _Parser(
        prog=f"thinwire {module.NAME}",
        description=f"{module.HELP[:1].upper()}{module.HELP[1:]}.".replace("..", "."),
        epilog=_examples(module.EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    module.add_arguments(parser)
    return parser


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one sentence instead of printing the usage."""

    def error(self, message: str) -> NoReturn:
        raise ThinwireError(f"{self.prog.removeprefix('thinwire ')}: {message}; see `{self.prog} --help`")


def _examples(examples: str | Sequence[str]) -> str:
    lines = examples.strip("\n").splitlines() if isinstance(examples, str) else list(examples)
    return "\n".join(["examples:", *(f"  {line.strip()}".rstrip() for line in lines)])


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [
        "usage: thinwire SUBCOMMAND [options]",
        "",
        "One Transformer across several devices joined by thin links.",
        "",
        "subcommands:",
        *(f"  {name:<{width}}  {what}" for name, what in COMMANDS.items()),
        "",
        "options:",
        "  -h, --help     this page; `thinwire SUBCOMMAND --help` for one of them",
        "  -V, --version  the version",
        "",
        _examples(EXAMPLES),
    ]
    return "\n".join(lines)


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), COMMANDS, n=1, cutoff=0.5)
    hint = f"did you mean `thinwire {near[0]}`?" if near else f"there are {', '.join(COMMANDS)}"
    if name.startswith("-"):
        return f"unknown option {name!r}: the subcommand comes first; see `thinwire --help`"
    return f"unknown subcommand {name!r}: {hint}"


def _version() -> str:
    from importlib import metadata

    return metadata.version("thinwire")


def _silence_stdout() -> None:
    """Nobody reads on: let the interpreter's own last flush go nowhere."""
    with contextlib.suppress(OSError, ValueError):  # stdout may be no real file
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
