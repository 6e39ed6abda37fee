"""Search over scanned pages that people trust.

Names are looked up when they are first used: the store's worker and the readers of pages are fresh
interpreters that import this package too, and need next to nothing of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pagelens.errors import (
        DocumentError,
        ExitCode,
        LibraryBusy,
        Missing,
        PagelensError,
        UsageError,
    )
    from pagelens.hits import Hit, Hits
    from pagelens.indexing import Failure, Progress, Report
    from pagelens.library import Library
    from pagelens.records import Box, Evidence, Page, PageText, Stage, Word

_HOMES = {
    "errors": ["DocumentError", "ExitCode", "LibraryBusy", "Missing", "PagelensError", "UsageError"],
    "hits": ["Hit", "Hits"],
    "indexing": ["Failure", "Progress", "Report"],
    "library": ["Library"],
    "records": ["Box", "Evidence", "Page", "PageText", "Stage", "Word"],
}

__all__ = [
    "Box",
    "DocumentError",
    "Evidence",
    "ExitCode",
    "Failure",
    "Hit",
    "Hits",
    "Library",
    "LibraryBusy",
    "Missing",
    "Page",
    "PageText",
    "PagelensError",
    "Progress",
    "Report",
    "Stage",
    "UsageError",
    "Word",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"pagelens.{module}"), name)
    raise AttributeError(f"module 'pagelens' has no attribute {name!r}")
