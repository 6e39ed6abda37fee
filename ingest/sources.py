"""Which files there are, and what they are by content."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pagelens.errors import UsageError

Kind = Literal["pdf", "image"]

# First bytes of the image formats read; WebP and JPEG 2000 are recognised by more than their start.
_IMAGES = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"II*\0",
    b"MM\0*",
    b"II+\0",
    b"MM\0+",
    b"\xff\x4f\xff\x51",
    b"GIF8",
)
_SUFFIXES = {".pdf", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".jp2", ".j2k", ".gif"}


@dataclass(frozen=True, slots=True)
class Source:
    """One file to read."""

    path: Path
    """Absolute, links resolved."""
    root: Path
    """The folder that was named, or that holds the file that was named."""
    size: int
    """Bytes."""
    mtime_ns: int


def find(paths: Sequence[Path]) -> Iterator[Source]:
    """Files below `paths`, in the order of their names, each once however it is reached.

    Passed over: hidden files and folders, and files in a folder that neither by content nor by name claim
    to be a document. A file named directly is always returned.

    Raises:
        UsageError: a path does not exist.
    """
    seen: set[Path] = set()
    for named in paths:
        if not named.exists():
            raise UsageError(f"{named} does not exist; give a file or a folder that does")
        top = named.resolve()
        root = top if top.is_dir() else top.parent
        for path in _walk(top, seen) if top.is_dir() else [top]:
            if path in seen:
                continue
            seen.add(path)
            if path == top or path.suffix.lower() in _SUFFIXES or kind(path):
                status = path.stat()
                yield Source(path, root, status.st_size, status.st_mtime_ns)


def kind(path: Path) -> Kind | None:
    """What a file is by its content; None when it is no document that can be read.

    A PDF may have up to 1024 bytes of something else before its header (PDF 1.7, appendix H, note 13).
    """
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError:
        return None
    if b"%PDF-" in head:
        return "pdf"
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    return "image" if head.startswith(_IMAGES) or webp or head[4:12] == b"jP  \r\n\x87\n" else None


def _walk(folder: Path, seen: set[Path]) -> Iterator[Path]:
    seen.add(folder)
    for name in sorted(os.listdir(folder)):
        path = (folder / name).resolve()
        if name.startswith(".") or path in seen:
            continue
        if path.is_dir():
            yield from _walk(path, seen)
        elif path.is_file():
            yield path
