"""The command line: data on standard output, talk on standard error, one exit code a reason."""

from __future__ import annotations

import errno
import io
import os
import sys

import typer

# In the order in which --help lists their commands.
# isort: off
from pagelens.cli import ingest, search, keep, measure

# isort: on
from pagelens.cli.options import app
from pagelens.cli.talk import say
from pagelens.errors import ExitCode, PagelensError

__all__ = ["app", "ingest", "keep", "main", "measure", "search"]


def main() -> None:
    """Run, and turn what went wrong into an exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name need not be text: its stray bytes, in Python lone surrogates, are written as in JSON.
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    sys.exit(_run())


def _run() -> int:
    command = typer.main.get_command(app)
    try:
        # Not `app()`: it turns an interruption and a closed pipe into exit codes of its own.
        with command.make_context("pagelens", sys.argv[1:]) as context:
            command.invoke(context)
        sys.stdout.flush()
        return ExitCode.DONE
    except typer.Exit as stop:
        return stop.exit_code
    except KeyboardInterrupt:
        say("interrupted; the library is sound, and the same command goes on from here")
        return ExitCode.INTERRUPTED
    except PagelensError as error:
        say(str(error), style="red")
        return error.exit_code
    except BrokenPipeError:  # whoever reads our output has seen enough, as `| head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE
    except OSError as error:
        cure = "; free some space and run it again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        say(f"{error}{cure}", style="red")
        return ExitCode.BUG
    except Exception as error:
        # click's usage errors know how to show themselves, whichever copy of click typer carries
        if not hasattr(error, "show"):
            raise
        error.show()
        return ExitCode.USAGE
