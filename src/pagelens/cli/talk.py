"""What commands write: data on standard output, talk and progress on standard error."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from pagelens.errors import UsageError
from pagelens.wording import counted, printable

if TYPE_CHECKING:
    from pagelens.indexing import Progress

talk = Console(stderr=True, highlight=False)

TELL = 10.0
"""Seconds between two lines of progress where standard error is no terminal."""


@contextlib.contextmanager
def ingest_progress(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Pages, rate, time left and failures of an ingest on standard error."""
    started, before = time.monotonic(), 0

    def advance(now: Progress) -> None:
        nonlocal started, before
        if now.done < before:  # what was there is made anew first, then files are read: each at its own rate
            started = time.monotonic()
        before = now.done
        tell(now.done, now.total, pace(now, time.monotonic() - started))

    with meter(quiet) as tell:
        yield advance


def pace(now: Progress, seconds: float) -> str:
    """Progress in words; the time left is known once every file has been opened."""
    parts = [f"{now.done} of {counted(now.total, 'page')}"]
    if now.files_left:
        parts.append(f"{counted(now.files_left, 'file')} to open")
    elif now.done and now.done < now.total:
        left = (now.total - now.done) * seconds / now.done
        parts.append(f"{now.done / seconds:.1f}/s, {duration(left)} left")
    if now.failed:
        parts.append(f"{now.failed} failed")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as `1:02:03`; below a minute in seconds."""
    whole = round(seconds)
    return f"{seconds:.1f} s" if seconds < 60 else f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


@contextlib.contextmanager
def question_progress(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Questions answered and the time left, on standard error."""
    started = time.monotonic()
    with meter(quiet) as tell:

        def advance(done: int, total: int) -> None:
            left = (time.monotonic() - started) / done * (total - done) if done else 0.0
            rest = f", {duration(left)} left" if 0 < done < total else ""
            tell(done, total, f"{done} of {counted(total, 'question')}{rest}")

        yield advance


@contextlib.contextmanager
def meter(quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """A bar in a terminal; elsewhere a line now and then, or nothing when `quiet`."""
    if talk.is_terminal:
        from rich import progress

        columns = progress.BarColumn(), progress.TextColumn("{task.description}")
        with progress.Progress(*columns, console=talk) as bars:
            bar = bars.add_task("", total=None)
            yield lambda done, total, text: bars.update(bar, completed=done, total=total, description=text)
        return
    told = time.monotonic()

    def tell(done: int, total: int, text: str) -> None:
        nonlocal told
        if not quiet and time.monotonic() - told >= TELL:
            told = time.monotonic()
            say(text)

    yield tell


def failed_line(path: str, page: int | None, reason: str) -> str:
    """What could not be read, and why, in a line."""
    return f"could not read {path}{f', page {page}' if page else ''}: {reason}"


def say(text: str, style: str = "") -> None:
    """A line on standard error."""
    talk.print(Text(printable(text), style), soft_wrap=True)


def put(text: str) -> None:
    """A line of data for people on standard output."""
    sys.stdout.write(f"{printable(text)}\n")


def put_json(value: object) -> None:
    """A line of JSON on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def write_file(path: Path, text: str) -> None:
    """A file that an option names.

    Raises:
        UsageError: it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error
