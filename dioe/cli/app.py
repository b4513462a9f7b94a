"""The command line: its commands, and what an error looks like.

Results go to stdout, everything else to stderr. Exit codes: 0 done, 2 wrong usage, 130 interrupted,
those of ``dioe.types`` for errors DIOE raises, 1 for an error it did not expect.
"""

from __future__ import annotations

import errno
import io
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import typer

from dioe.cli import cache, costs, options
from dioe.cli.bench import bench
from dioe.cli.calibrate import calibrate
from dioe.cli.demo import demo
from dioe.cli.devices import devices
from dioe.cli.inspect import inspect
from dioe.cli.node_suite import node_suite
from dioe.cli.placement import placement
from dioe.cli.plan import plan
from dioe.cli.predict import predict
from dioe.cli.profile import profile
from dioe.cli.resolve import resolve
from dioe.cli.run import run as run_command
from dioe.cli.terminal import emit, output_lost
from dioe.cli.validate import validate
from dioe.cli.verify import verify
from dioe.text import printable
from dioe.types import DioeError, OutOfMemory

app = typer.Typer(
    name="dioe",
    help="Runs a trained model where it runs fastest on this machine, and says why.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(devices)
app.command()(inspect)
app.command()(profile)
app.command()(plan)
app.command()(placement)
app.command()(predict)
app.command(name="run")(run_command)
app.command()(bench)
app.command()(calibrate)
app.command()(demo)
app.command(name="node-suite")(node_suite)
app.command()(verify)
app.command()(resolve)
app.command()(validate)
app.add_typer(cache.app)

# typer brings click along, from 0.29 on as a part of itself: what it raises is found through it
_USAGE_ERROR: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

INTERRUPTED = 130
UNEXPECTED = 1


@app.callback(invoke_without_command=True)
def _root(
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    if version:
        from dioe import __version__

        emit(f"dioe {__version__}\n")
        raise typer.Exit


def run(argv: Sequence[str]) -> int:
    """Run one command; gives its exit code. No traceback leaves here unless ``--debug`` is on."""
    command = _shown_as_flags(typer.main.get_command(app))
    costs.start()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that can't show µ gets its number
            stream.reconfigure(errors="backslashreplace")
    try:
        code = command.main(list(argv), prog_name="dioe", standalone_mode=False)
        return _done(code if isinstance(code, int) else 0)
    except typer.Exit as error:
        return _done(error.exit_code)
    except _USAGE_ERROR as error:
        error.show()
        return int(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _done(INTERRUPTED)
    except DioeError as error:
        return _failed(error, error.exit_code)
    except MemoryError:
        return _failed(OutOfMemory("the host has no memory left"), OutOfMemory.exit_code)
    except OSError as error:
        lost = _lost_output(error)
        if lost is None:
            return _unexpected(error)
        return _failed(lost, lost.exit_code)
    except Exception as error:  # noqa: BLE001 - the last place to keep a traceback from a user
        return _unexpected(error)


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def _lost_output(error: OSError) -> DioeError | None:
    """What to say of text that stdout doesn't take, such as that of ``--help``; None of others."""
    if error.errno not in _NO_ROOM or error.filename is not None:
        return None
    return output_lost(error)


def _unexpected(error: Exception) -> int:
    text = f"unexpected {type(error).__name__}: {error}"
    return _failed(DioeError(text, fix="run again with --debug and report it"), UNEXPECTED, error)


def _shown_as_flags(command: Any) -> Any:
    """The command, and those below it, with flags that their help shows without a type."""
    for parameter in command.params:
        if getattr(parameter, "is_flag", False) or getattr(parameter, "count", False):
            parameter.metavar = ""
    for below in getattr(command, "commands", {}).values():
        _shown_as_flags(below)
    return command


def _done(code: int) -> int:
    if code == INTERRUPTED:  # some releases of typer turn Ctrl-C into this code themselves
        _say(costs.interrupted_text())
    return code


def _failed(error: DioeError, code: int, cause: BaseException | None = None) -> int:
    _say(f"error: {error}")
    if options.debugging():
        shown = cause or error
        traceback.print_exception(type(shown), shown, shown.__traceback__, file=sys.stderr)
    return code


def _say(text: str) -> None:
    # names out of models and files may hold what a terminal obeys
    shown = "\n".join(printable(line) for line in text.split("\n"))
    print(f"dioe: {shown}", file=sys.stderr)  # noqa: T201 - the error stream of a command
