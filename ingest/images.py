"""Image files as documents, through Pillow: one file with its frames, or a folder of files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import PIL.Image
from PIL.Image import Resampling, Transpose

from pagelens.errors import DocumentError
from pagelens.ingest.documents import digest, unreadable
from pagelens.ingest.raster import MAX_PIXELS, Engine, fitting_dpi
from pagelens.ingest.sources import images_in
from pagelens.records import Document, Drawn, Word

MOST_PIXELS = 180_000_000
"""Of an image file: an A0 sheet at 300 DPI has 140 million. More is a bomb, or must be split."""
_TOO_MANY = f"more than {MOST_PIXELS // 1_000_000} million; scale it down or split it"
STATED_DPI = (50, 100, 1200)
"""Believed of what a file says: the least, the least of the finer direction (a coarse fax has 204 x 98; 72
and 96 are what programs write that do not know), the most."""
SHEET = 11.7
"""Inches: the long side of A4, of which a page without a resolution is taken to be."""
ASSUMED_DPI = (72, 600)
"""Of such a page, within these."""
_ORIENTATION, _SUBFILE = 0x0112, 254  # EXIF and TIFF tags
_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""What undoes each EXIF orientation; from 5 on width and height change places."""


class ImageFile:
    """See `OpenDocument`; a TIFF may have several pages. Of an animation the first picture is read.

    Raises:
        DocumentError: it is damaged or too large.
    """

    def __init__(self, path: Path) -> None:
        self._upright: tuple[int, PIL.Image.Image] | None = None
        with _reading("open", None):
            self._image = PIL.Image.open(path)
        try:
            with _reading("open", None):
                self._frames = _pages(self._image)
            self.document = Document(digest([path]), len(self._frames))
        except BaseException:
            self._image.close()
            raise

    def size(self, number: int) -> tuple[float, float]:
        """See `OpenDocument`."""
        (width, height), (across, down) = self._measure(number)
        return width * 72 / across, height * 72 / down

    def words(self, number: int) -> list[Word]:
        """An image has no text of its own."""
        return []

    def scan(self, number: int) -> tuple[float, float]:
        """See `OpenDocument`."""
        return 1.0, max(self._measure(number)[1])

    def drawn(self, number: int) -> list[Drawn]:
        """An image says nothing of what is on it."""
        return []

    def render(self, number: int, dpi: float, engine: Engine = "pdfium") -> PIL.Image.Image:
        """See `OpenDocument`."""
        image = self._load(number)
        width, height = self.size(number)
        own = image.width * 72 / width
        wanted = fitting_dpi(width, height, dpi)
        if wanted >= own:
            return image
        size = (max(1, round(width * wanted / 72)), max(1, round(height * wanted / 72)))
        return image.resize(size, Resampling.LANCZOS, reducing_gap=3.0)

    def close(self) -> None:
        """See `OpenDocument`."""
        self._image.close()

    def _measure(self, number: int) -> tuple[tuple[int, int], tuple[float, float]]:
        """Pixels and DPI across and down, of the image held upright."""
        with _reading("open", number):
            self._image.seek(self._frames[number])
            width, height = self._image.size
            if width * height > MOST_PIXELS:
                raise DocumentError("open", f"the image has {width} x {height} pixels, {_TOO_MANY}", number)
            stated = self._image.info.get("dpi") or (0, 0)
            across, down = float(stated[0]), float(stated[1])
            turned = _orientation(self._image) >= 5
        least, least_finer, most = STATED_DPI
        if not (least <= min(across, down) and least_finer <= max(across, down) <= most):
            across = down = min(max(max(width, height) / SHEET, ASSUMED_DPI[0]), ASSUMED_DPI[1])
        return ((height, width), (down, across)) if turned else ((width, height), (across, down))

    def _load(self, number: int) -> PIL.Image.Image:
        """The image upright, on white, with square pixels, no larger than `MAX_PIXELS`; RGB or L. Kept."""
        if self._upright is not None and self._upright[0] == number:
            return self._upright[1]
        self._upright = None
        (width, height), (across, down) = self._measure(number)
        # A fax has twice as many dots along a line as lines.
        width, height = round(width * max(1.0, down / across)), round(height * max(1.0, across / down))
        shrink = min(1.0, (MAX_PIXELS / (width * height)) ** 0.5)
        size = max(1, int(width * shrink)), max(1, int(height * shrink))
        with _reading("raster", number):
            image = _upright(self._image)
            if image.size != size:
                image = image.resize(size, Resampling.LANCZOS, reducing_gap=3.0)
        self._upright = number, image
        return image


class ImageFolder:
    """See `OpenDocument`: the images in a folder, in natural order. A damaged one is a page that fails.

    Raises:
        OSError: the folder cannot be listed, or a file in it not read.
        DocumentError: there is no image in it.
    """

    def __init__(self, folder: Path) -> None:
        files = images_in(folder)
        if not files:
            raise DocumentError("open", "there is no image in this folder")
        self._pages: list[tuple[Path, int] | DocumentError] = []
        self._file: tuple[Path, ImageFile] | None = None
        for path in files:
            try:
                pages = self._open(path).document.pages
                self._pages += [(path, number) for number in range(pages)]
            except DocumentError as error:
                reason = f"{path.name}: {error.reason}"
                self._pages.append(DocumentError(error.stage, reason, len(self._pages)))
        self.document = Document(digest(files), len(self._pages))

    def size(self, number: int) -> tuple[float, float]:
        """See `OpenDocument`."""
        file, frame = self._at(number)
        with _renumbered(number):
            return file.size(frame)

    def words(self, number: int) -> list[Word]:
        """Images have no text of their own."""
        return []

    def scan(self, number: int) -> tuple[float, float]:
        """See `OpenDocument`."""
        file, frame = self._at(number)
        with _renumbered(number):
            return file.scan(frame)

    def drawn(self, number: int) -> list[Drawn]:
        """An image says nothing of what is on it."""
        return []

    def render(self, number: int, dpi: float, engine: Engine = "pdfium") -> PIL.Image.Image:
        """See `OpenDocument`."""
        file, frame = self._at(number)
        with _renumbered(number):
            return file.render(frame, dpi, engine)

    def close(self) -> None:
        """See `OpenDocument`."""
        if self._file is not None:
            self._file[1].close()

    def _open(self, path: Path) -> ImageFile:
        if self._file is None or self._file[0] != path:
            self.close()
            self._file = None
            self._file = path, ImageFile(path)
        return self._file[1]

    def _at(self, number: int) -> tuple[ImageFile, int]:
        page = self._pages[number]
        if isinstance(page, DocumentError):
            raise page
        path, frame = page
        with _renumbered(number):
            return self._open(path), frame


def _pages(image: PIL.Image.Image) -> list[int]:
    """The frames that are pages; a TIFF may carry small copies of its pages beside them."""
    if image.format != "TIFF":
        return [0]
    frames = []
    for frame in range(getattr(image, "n_frames", 1)):
        image.seek(frame)
        if not image.tag_v2.get(_SUBFILE, 0) & 1:  # type: ignore[attr-defined]
            frames.append(frame)
    return frames or [0]


def upright(image: PIL.Image.Image) -> PIL.Image.Image:
    """An image to ask with, as its page would be: held upright, on white, RGB.

    Raises:
        OSError, ValueError, PIL.Image.DecompressionBombError: it is damaged or too large.
    """
    return _upright(image).convert("RGB")


def _upright(image: PIL.Image.Image) -> PIL.Image.Image:
    plain, orientation = _on_white(image), _orientation(image)
    return plain.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else plain


def _orientation(image: PIL.Image.Image) -> int:
    if image.format == "TIFF":
        return 1  # Pillow has turned it
    orientation = image.getexif().get(_ORIENTATION, 1)
    return orientation if orientation in _UPRIGHT else 1


def _on_white(image: PIL.Image.Image) -> PIL.Image.Image:
    """As RGB or L: what is transparent becomes white, more than 8 bits are stretched over 8."""
    if image.mode in ("RGB", "L"):
        image.load()
        return image
    if image.mode[0] in "IF":  # Pillow would clip, not scale
        levels = np.asarray(image, dtype=np.float32)
        darkest, lightest = float(levels.min()), float(levels.max())
        span = (lightest - darkest) or 1.0
        return PIL.Image.fromarray(((levels - darkest) * (255 / span)).astype(np.uint8))
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        return PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("L" if image.mode == "1" else "RGB")


@contextmanager
def _reading(stage: str, number: int | None) -> Iterator[None]:
    """Turn what Pillow raises at a damaged file into a record; what is too large we say ourselves."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except PIL.Image.DecompressionBombError as error:
        reason = f"the image is a decompression bomb: its pixels are {_TOO_MANY}"
        raise DocumentError(stage, reason, number) from error
    except (ArithmeticError, EOFError, LookupError, OSError, SyntaxError, TypeError, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk's fault, not the image's
            raise DocumentError(stage, unreadable(error), number) from error
        about = str(error).split(" '")[0][:100]  # without the path
        reason = f"the image is damaged ({type(error).__name__}: {about}); copy or scan it again"
        raise DocumentError(stage, reason, number) from error


@contextmanager
def _renumbered(number: int) -> Iterator[None]:
    """A frame of a file fails as a page of the folder."""
    try:
        yield
    except DocumentError as error:
        raise DocumentError(error.stage, error.reason, number) from error
