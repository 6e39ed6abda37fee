"""What can go wrong, and what to do about it.

    PagelensError                 exit code 1
      UsageError                  2   the request cannot be met as it was made
      LibraryBusy                 4   another process holds the library and does not answer
      Missing                     5   a model, a program or an extra is not installed
      DocumentError               3   a file or page cannot be read; recorded, the rest goes on

Every message names the thing (file, page, number expected and number found) and ends in a cure. Only the
command line turns an error into an exit code.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What the command line answers the shell."""

    DONE = 0
    BUG = 1
    USAGE = 2
    FAILURES = 3  # done, but some files or pages could not be read
    BUSY = 4
    MISSING = 5
    INTERRUPTED = 130  # 128 + SIGINT, as shells have it


class PagelensError(Exception):
    """The root of what pagelens raises on purpose."""

    exit_code = ExitCode.BUG


class UsageError(PagelensError):
    """The request cannot be met as it was made: a wrong filter, another format, other settings."""

    exit_code = ExitCode.USAGE


class LibraryBusy(PagelensError):
    """Another process holds the library and does not answer."""

    exit_code = ExitCode.BUSY


class Missing(PagelensError):
    """A model, a program or an extra is not installed; the message says how to get it."""

    exit_code = ExitCode.MISSING


class DocumentError(PagelensError):
    """A file or one of its pages cannot be read.

    Args:
        stage: Where it failed: `"open"`, `"raster"`, `"text"`, `"store"`.
        reason: What is wrong and what helps, without the path: the record has that already.
        page: Number from 0, or None when it is the whole file.
    """

    exit_code = ExitCode.FAILURES

    def __init__(self, stage: str, reason: str, page: int | None = None) -> None:
        super().__init__(reason)
        self.stage = stage
        self.reason = reason
        self.page = page
