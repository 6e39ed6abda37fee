"""A filesystem on another machine, whose errors say what to do."""

from __future__ import annotations

import functools
from typing import Any

from pagelens.errors import LibraryBusy, UsageError


class Far:
    """Any fsspec filesystem. What it raises by itself, its users have never heard of.

    A file that is not there stays a `FileNotFoundError`.

    Args:
        fs: Where calls go.
        root: As the user named it.

    Raises:
        UsageError: by every call, where its keys may not do that.
        LibraryBusy: by every call, where it does not answer, or not as it should.
    """

    def __init__(self, fs: Any, root: str) -> None:
        self._fs, self._root = fs, root

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._fs, name)
        if not callable(value):
            return value

        @functools.wraps(value)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return value(*args, **kwargs)
            except FileNotFoundError:
                raise
            except PermissionError as error:
                about = f"page files at {self._root}: {_said(error)}"
                raise UsageError(f"{about}; give its keys leave") from error
            except Exception as error:  # each package has errors of its own, few of them OSErrors
                raise LibraryBusy(
                    f"page files at {self._root}: {_said(error)}; see that it can be reached and that its "
                    "keys are set, then run the same command again, it goes on from there"
                ) from error

        return call


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
