import errno
import io
import os
import subprocess
import sys
from types import ModuleType

import pytest
from rich.console import Console

from thinwire.cli import console, main
from thinwire.errors import ThinwireError


@pytest.fixture
def command(monkeypatch):
    """Registers a subcommand `probe` that does what it is told."""

    def register(run):
        module = ModuleType("thinwire.cli.probe")
        module.NAME, module.HELP, module.EXAMPLES = "probe", "try things", "thinwire probe --number 3\n"
        module.add_arguments = lambda parser: parser.add_argument("--number", type=int, default=0)
        module.run = run
        monkeypatch.setitem(sys.modules, "thinwire.cli.probe", module)
        monkeypatch.setitem(main.COMMANDS, "probe", module.HELP)

    return register


def fails(error):
    def run(args):
        raise error

    return run


def test_the_overview_is_quick_and_does_not_import_jax():
    code = "import sys; from thinwire.cli.main import main; main(['--help']); sys.exit('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    for name in main.COMMANDS:
        assert f"  {name} " in done.stdout
    assert "examples:" in done.stdout


def test_no_arguments_show_the_overview_and_fail(capsys):
    assert main.main([]) == 2
    assert "usage:" in capsys.readouterr().out


def test_version(capsys):
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("thinwire 0.")


def test_arguments_reach_the_subcommand(command):
    command(lambda args: args.number)
    assert main.main(["probe", "--number", "7"]) == 7


@pytest.mark.parametrize("argv", [["probe", "--help"], ["help", "probe"]])
def test_help_shows_examples(command, capsys, argv):
    command(lambda args: 0)
    assert main.main(argv) == 0
    out = capsys.readouterr().out
    assert "Try things." in out
    assert "examples:\n  thinwire probe --number 3" in out


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["prob"], "did you mean `thinwire probe`?"),
        (["xyzzy"], "there are fetch"),
        (["--wrong"], "the subcommand comes first"),
        (["probe", "--number", "x"], "invalid int value"),
        (["probe", "--nmber", "1"], "see `thinwire probe --help`"),
        (["probe", "--num", "1"], "unrecognized arguments"),
    ],
)
def test_mistakes_are_one_sentence(command, capsys, argv, sentence):
    command(lambda args: 0)
    assert main.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("thinwire: ")
    assert err.count("\n") == 1
    assert sentence in err


def test_thinwire_error_is_one_line_and_2(command, capsys):
    command(fails(ThinwireError("no such\nmodel 'x':  name another")))
    assert main.main(["probe"]) == 2
    assert capsys.readouterr().err == "thinwire: no such model 'x': name another\n"


def test_interrupt_is_130(command, capsys):
    command(fails(KeyboardInterrupt()))
    assert main.main(["probe"]) == 130
    assert capsys.readouterr().err == "thinwire: interrupted\n"


def test_a_full_disk_is_told_wherever_it_happens(command, capsys):
    command(fails(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/x/y")))
    assert main.main(["probe"]) == 2
    assert "/x/y: No space left on device" in capsys.readouterr().err


def test_a_bug_stays_a_traceback(command):
    command(fails(OSError(errno.EINVAL, "odd")))
    with pytest.raises(OSError, match="odd"):
        main.main(["probe"])


def test_a_closed_pipe_is_quiet():
    code = (
        "import sys\nfrom thinwire.cli import main\n"
        "main._overview = lambda: 'x\\n' * 200_000\nsys.exit(main.main(['--help']))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == main.PIPE_CLOSED


def test_plain_progress_without_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(console, "PLAIN_EVERY_S", 0.0)
    with console.progress("counting", 3) as bar:
        bar.advance()
        bar.advance(2)
    with console.progress("fetching", 10, unit="bytes") as bar:
        bar.update(5_000_000, 10_000_000)
    out, err = capsys.readouterr()
    assert out == ""
    assert "counting: 1 of 3" in err
    assert "counting: 3 of 3" in err
    assert "counting: done in" in err
    assert "fetching: 5.0 MB of 10.0 MB" in err
    assert "\x1b" not in err


def test_plain_progress_is_rare(capsys):
    with console.progress("counting", 1000) as bar:
        for _ in range(1000):
            bar.advance()
    assert capsys.readouterr().err.count("\n") == 1


def test_progress_that_fails_says_nothing_of_done(capsys):
    def work():
        with console.progress("counting", 3):
            raise ThinwireError("no")

    with pytest.raises(ThinwireError):
        work()
    assert "done" not in capsys.readouterr().err


def test_animated_progress_on_a_terminal(monkeypatch):
    stream = io.StringIO()
    terminal = Console(file=stream, force_terminal=True, width=100, legacy_windows=False, _environ={"TERM": "xterm"})
    monkeypatch.setattr(console, "stderr", lambda: terminal)
    with console.progress("[layers]", 2) as bar:
        bar.advance()
        bar.update(2, 2)
    assert "[layers]" in stream.getvalue()
    assert "2/2" in stream.getvalue()


def test_results_keep_their_width_in_a_pipe(capsys, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    assert console.stdout().width == console.WIDTH_WITHOUT_TERMINAL
    console.say("[red]x[/red] " * 40)
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize("command", ["bench", "compare", "run --prompt x"])
def test_kernels_are_chosen_for_the_whole_of_a_command_and_no_longer(command, monkeypatch):
    from thinwire.kernels.choice import VARIABLE, chosen

    monkeypatch.setenv(VARIABLE, "jax")
    name, *options = command.split()
    seen = []
    monkeypatch.setattr(f"thinwire.cli.{name}.run", lambda args: seen.append(chosen()) or 0)
    assert main.main([name, *options]) == main.main([name, *options, "--kernels", "tables"]) == 0
    assert seen == ["jax", "tables"]
    assert chosen() == "jax"


def test_unknown_kernels_in_the_environment_are_told(monkeypatch, capsys):
    monkeypatch.setenv("THINWIRE_KERNELS", "fast")
    assert main.main(["run", "--prompt", "x"]) == 2
    assert "THINWIRE_KERNELS=fast is unknown; use one of auto, jax, tables, pallas." in capsys.readouterr().err
