"""One document, opened: how many pages it has, how large they are, what they look like, what they say.

A PDF, an image file, or a folder of images; the same few methods. Not safe to use from two threads.
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pagelens.errors import DocumentError
from pagelens.ingest.raster import Engine
from pagelens.ingest.sources import kind
from pagelens.records import Document, Drawn, Word

if TYPE_CHECKING:
    import PIL.Image


class OpenDocument(Protocol):
    """A document whose pages can be read. Numbers count from 0, sizes are points as shown."""

    document: Document

    def size(self, number: int) -> tuple[float, float]:
        """Width and height."""

    def words(self, number: int) -> list[Word]:
        """The page's own text, in reading order, also what lies off the page; empty when it has none."""

    def scan(self, number: int) -> tuple[float, float]:
        """Share of the page that its largest image covers, 0..1, and that image's resolution in DPI."""

    def drawn(self, number: int) -> list[Drawn]:
        """What the file says is on the page beside words, the largest first."""

    def render(self, number: int, dpi: float, engine: Engine = "pdfium") -> PIL.Image.Image:
        """The page as shown, RGB or L; at less than `dpi` when it would be too large or has less itself."""

    def close(self) -> None:
        """Let the file go."""


def open_document(path: Path, password: str | None = None) -> OpenDocument:
    """Open a document by what it contains.

    Args:
        path: A file, or a folder whose images are the pages.
        password: Of PDF files that are encrypted.

    Raises:
        DocumentError: it cannot be read, is empty, no document, encrypted, damaged, or has no page.
    """
    from pagelens.ingest.images import ImageFile, ImageFolder
    from pagelens.ingest.pdf import PdfFile

    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return ImageFolder(path)
        if not stat.S_ISREG(status.st_mode):
            raise DocumentError("open", "this is not a file but a device, a pipe or a socket; leave it out")
        if not status.st_size:
            raise DocumentError("open", "the file is empty; copy or scan it again")
        match kind(path):
            case "pdf":
                return PdfFile(path, password)
            case "image":
                return ImageFile(path)
            case None:
                formats = "PNG, JPEG, JPEG 2000, TIFF, WebP, GIF"
                reason = f"this is neither a PDF nor an image ({formats}); convert it to PDF"
                raise DocumentError("open", reason)
    except OSError as error:
        inside = error.filename if isinstance(error.filename, str) else ""
        name = f"{Path(inside).name}: " if inside not in ("", str(path)) else ""
        raise DocumentError("open", name + unreadable(error)) from error


def unreadable(error: OSError) -> str:
    """Why a file or folder cannot be read, and what helps."""
    if isinstance(error, FileNotFoundError):
        return "the file is gone, or the link leads nowhere; ingest the folder again"
    if isinstance(error, PermissionError):
        return "you may not read this; change its permissions (chmod)"
    return f"reading it failed ({error.strerror or error}); check the disk, or copy it again"


def digest(paths: Sequence[Path]) -> str:
    """The SHA-256, in hex, of the bytes of files, one after the other."""
    sha256 = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                sha256.update(chunk)
    return sha256.hexdigest()
