"""One file, opened: how many pages it has, how large they are, what they look like, what they say.

PDF files through pypdfium2, image files through Pillow; the same few methods. Not safe to use from two
threads: pdfium is not.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pagelens.errors import DocumentError
from pagelens.ingest.raster import Engine, fitting_dpi, render
from pagelens.ingest.sources import kind
from pagelens.records import Box, Document, Word

if TYPE_CHECKING:
    import PIL.Image
    import pypdfium2

ASSUMED_DPI = 150
"""Of an image file that does not say, or says something no scanner does."""


class OpenDocument(Protocol):
    """A file whose pages can be read. Numbers count from 0, sizes are points as shown."""

    document: Document

    def size(self, number: int) -> tuple[float, float]:
        """Width and height."""

    def words(self, number: int) -> list[Word]:
        """The page's own text, in reading order; empty when it has none."""

    def scan(self, number: int) -> tuple[float, float]:
        """Share of the page that its largest image covers, 0..1, and that image's resolution in DPI."""

    def render(self, number: int, dpi: float, engine: Engine = "pdfium") -> PIL.Image.Image:
        """The page as shown, RGB; at less than `dpi` when it would be too large."""

    def close(self) -> None:
        """Let the file go."""


def open_document(path: Path) -> OpenDocument:
    """Open a file by what it contains.

    Raises:
        DocumentError: it is empty, no document, encrypted, damaged, or has no page.
    """
    if not path.stat().st_size:
        raise DocumentError("open", "the file is empty; copy or scan it again")
    match kind(path):
        case "pdf":
            return PdfFile(path)
        case "image":
            return ImageFile(path)
        case _:
            raise DocumentError("open", "this is neither a PDF nor an image; convert it to PDF")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class PdfFile:
    """A PDF."""

    def __init__(self, path: Path) -> None:
        import pypdfium2
        import pypdfium2.raw as pdfium

        self._path = path
        try:
            self._pdf = pypdfium2.PdfDocument(path)
        except pypdfium2.PdfiumError as error:
            code = getattr(error, "err_code", None)
            if code == pdfium.FPDF_ERR_PASSWORD:
                reason = "the PDF is encrypted; decrypt it first, for example with `qpdf --decrypt`"
            elif code == pdfium.FPDF_ERR_SECURITY:
                reason = "the PDF is encrypted in a way that cannot be read; decrypt it with the program it came from"
            else:
                reason = "the PDF is damaged or cut short; copy or scan it again, or repair it with `qpdf`"
            raise DocumentError("open", reason) from error
        if not len(self._pdf):
            self._pdf.close()
            raise DocumentError("open", "the PDF has no page")
        self.document = Document(_digest(path), len(self._pdf))

    def size(self, number: int) -> tuple[float, float]:
        """See `OpenDocument`."""
        return self._page(number, lambda page: (page.get_width(), page.get_height()))  # type: ignore[no-any-return]

    def words(self, number: int) -> list[Word]:
        """See `OpenDocument`."""
        from pagelens.ingest.text import layer_words

        return self._page(number, layer_words)  # type: ignore[no-any-return]

    def scan(self, number: int) -> tuple[float, float]:
        """See `OpenDocument`."""
        return self._page(number, _largest_image)  # type: ignore[no-any-return]

    def render(self, number: int, dpi: float, engine: Engine = "pdfium") -> PIL.Image.Image:
        """See `OpenDocument`."""
        try:
            return render(self._pdf, self._path, number, fitting_dpi(*self.size(number), dpi), engine)
        except RuntimeError as error:
            raise DocumentError("raster", f"the page cannot be drawn ({error})", number) from error

    def close(self) -> None:
        """See `OpenDocument`."""
        self._pdf.close()

    def _page(self, number: int, read: object) -> object:
        import pypdfium2

        try:
            page = self._pdf[number]
            try:
                return read(page)  # type: ignore[operator]
            finally:
                page.close()
        except pypdfium2.PdfiumError as error:
            raise DocumentError("open", f"the page cannot be loaded ({error})", number) from error


def _largest_image(page: pypdfium2.PdfPage) -> tuple[float, float]:
    import pypdfium2
    import pypdfium2.raw as pdfium

    best, dpi = 0.0, 0.0
    area = page.get_width() * page.get_height()
    for image in page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE], max_depth=3):
        try:
            left, bottom, right, top = image.get_bounds()
            width, height = image.get_px_size()
        except pypdfium2.PdfiumError:
            continue
        share = min(1.0, (right - left) * (top - bottom) / area)
        if share > best and right > left and top > bottom:
            # Sizes are compared by area: the image may be turned a quarter against the page.
            best, dpi = share, 72 * math.sqrt(width * height / ((right - left) * (top - bottom)))
    return best, dpi


class ImageFile:
    """An image file; a TIFF may have several pages."""

    def __init__(self, path: Path) -> None:
        import PIL.Image

        self._path = path
        try:
            self._image = PIL.Image.open(path)
            pages = getattr(self._image, "n_frames", 1)
        except (OSError, SyntaxError, ValueError, PIL.Image.DecompressionBombError) as error:
            raise DocumentError(
                "open", f"the image cannot be read ({type(error).__name__}: {_about(error)})"
            ) from error
        self.document = Document(_digest(path), pages)

    def size(self, number: int) -> tuple[float, float]:
        """See `OpenDocument`."""
        image, dpi = self._frame(number)
        return image.width * 72 / dpi, image.height * 72 / dpi

    def words(self, number: int) -> list[Word]:
        """An image has no text of its own."""
        return []

    def scan(self, number: int) -> tuple[float, float]:
        """See `OpenDocument`."""
        return 1.0, self._frame(number)[1]

    def render(self, number: int, dpi: float, engine: Engine = "pdfium") -> PIL.Image.Image:
        """See `OpenDocument`."""
        import PIL.Image

        image, own = self._frame(number)
        scale = fitting_dpi(image.width * 72 / own, image.height * 72 / own, dpi) / own
        if scale >= 1:
            return image
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        return image.resize(size, PIL.Image.Resampling.LANCZOS, reducing_gap=3.0)

    def close(self) -> None:
        """See `OpenDocument`."""
        self._image.close()

    def _frame(self, number: int) -> tuple[PIL.Image.Image, float]:
        """The upright image on white, RGB, and its resolution."""
        import PIL.Image
        import PIL.ImageOps

        try:
            self._image.seek(number)
            image = PIL.ImageOps.exif_transpose(self._image)
            if image.mode.startswith("I"):  # 16 bit: Pillow would clip, not scale
                image = image.point(lambda level: level / 257).convert("L")
            if "A" in image.getbands() or "transparency" in image.info:
                image = image.convert("RGBA")
                image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, "white"), image)
            rgb = image.convert("RGB")
        except (OSError, SyntaxError, ValueError, EOFError, PIL.Image.DecompressionBombError) as error:
            raise DocumentError(
                "raster", f"the image is damaged ({type(error).__name__}: {_about(error)})", number
            ) from error
        dpi = float(self._image.info.get("dpi", (0, 0))[0])
        return rgb, dpi if 50 <= dpi <= 1200 else ASSUMED_DPI


def _about(error: BaseException) -> str:
    """The message without the file's path, which the record has already."""
    return str(error).split(" '")[0][:100]


def clip(box: Box, width: float, height: float) -> Box:
    """The part of a box that lies on the page."""
    return Box(max(0.0, box.left), max(0.0, box.top), min(width, box.right), min(height, box.bottom))
