"""Which files there are, and what they are by content."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
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
_IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".jp2", ".j2k", ".gif"}


@dataclass(frozen=True, slots=True)
class Source:
    """One document to read: a file, or a folder of images.

    A file or folder that cannot be looked at is a source too: opening it says what is wrong.
    """

    path: Path
    """Absolute; links on the way from `root` are kept."""
    root: Path
    """The folder that was named, or that holds the file that was named; links resolved."""
    size: int
    """Bytes; of all images of a folder. 0 if it cannot be looked at."""
    mtime_ns: int
    """Of the newest image of a folder. 0 if it cannot be looked at."""


def find(
    paths: Sequence[Path],
    item_per_folder: bool = False,
    passed_over: Callable[[Path], bool] = lambda _: False,
) -> Iterator[Source]:
    """Documents below `paths`, in the order of their names, each once however many links lead to it.

    Passed over: hidden files and folders, and files in a folder that neither by content nor by name claim
    to be a document. A file named directly is always returned.

    Args:
        paths: Files and folders.
        item_per_folder: The images that lie directly in one folder are the pages of one document.
        passed_over: Whether a folder further down is left alone.

    Raises:
        UsageError: a path does not exist.
    """
    seen: set[str] = set()
    for named in paths:
        if not os.path.exists(named):  # noqa: PTH110  # Path.exists raises where no one may enter
            raise UsageError(f"{named} does not exist or cannot be reached; give a file or a folder")
        top = Path(os.path.realpath(named))
        root = top if top.is_dir() else top.parent
        if _first_time(top, seen):
            for path in _walk(top, seen, item_per_folder, passed_over) if top.is_dir() else [top]:
                yield _source(path, root)


def kind(path: Path) -> Kind | None:
    """What a file is by its content; None when it is no document that can be read.

    A PDF may have up to 1024 bytes of something else before its header (PDF 1.7, appendix H, note 13).

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(1024)
    webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
    if head.startswith(_IMAGES) or webp or head[4:12] == b"jP  \r\n\x87\n":
        return "image"
    return "pdf" if b"%PDF-" in head else None


def images_in(folder: Path) -> list[Path]:
    """The images directly in a folder, hidden ones left out, in natural order: `page9` before `page10`.

    Raises:
        OSError: it cannot be listed.
    """
    files = sorted(folder.iterdir(), key=lambda path: _natural(path.name))
    return [path for path in files if not _is_hidden(path) and _is_image(path)]


def _walk(
    folder: Path, seen: set[str], item_per_folder: bool, passed_over: Callable[[Path], bool]
) -> Iterator[Path]:
    try:
        paths = sorted(folder.iterdir())
        images = set(images_in(folder)) if item_per_folder else set()
    except OSError:
        yield folder
        return
    if images:
        yield folder
    for path in paths:
        if _is_hidden(path) or path in images:
            continue
        if path.is_dir():
            if _first_time(path, seen) and not passed_over(path):
                yield from _walk(path, seen, item_per_folder, passed_over)
        elif _claims(path, {".pdf", *_IMAGE_SUFFIXES}, "pdf", "image") and _first_time(path, seen):
            yield path


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".")


def _is_image(path: Path) -> bool:
    return not path.is_dir() and _claims(path, _IMAGE_SUFFIXES, "image")


def _first_time(path: Path, seen: set[str]) -> bool:
    real = os.path.realpath(path)
    if real in seen:
        return False
    seen.add(real)
    return True


def _claims(path: Path, suffixes: set[str], *kinds: Kind) -> bool:
    """Whether a file says it is such a document, by name or content, or may be one and cannot be read."""
    if path.suffix.lower() in suffixes:
        return True
    try:
        return stat.S_ISREG(path.stat().st_mode) and kind(path) in kinds
    except FileNotFoundError:  # gone since it was listed, or a link that leads nowhere
        return False
    except OSError:
        return not path.is_symlink()  # a link to itself is no document


def _source(path: Path, root: Path) -> Source:
    try:
        files = images_in(path) if path.is_dir() else [path]
        found = [file.stat() for file in files]
    except OSError:
        found = []
    size = sum(status.st_size for status in found)
    return Source(path, root, size, max((status.st_mtime_ns for status in found), default=0))


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Runs of digits compare as numbers.

    >>> sorted(["p10", "p9", "P1"], key=_natural)
    ['P1', 'p9', 'p10']
    """
    runs = re.findall(r"([0-9]+)|([^0-9]+)", name.casefold())
    return [(int(digits), "") if digits else (-1, other) for digits, other in runs], name
