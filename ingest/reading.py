"""The story of one page: its picture, its words, the way up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version as installed
from io import BytesIO
from typing import TYPE_CHECKING

from pagelens.errors import DocumentError
from pagelens.ingest import ocr
from pagelens.ingest.documents import OpenDocument, clip
from pagelens.ingest.raster import Engine
from pagelens.ingest.text import distrust
from pagelens.records import Box, Page, PageContent, PageText, Word

if TYPE_CHECKING:
    import PIL.Image


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """How pages are read."""

    # the stored page image
    dpi: int = 150  # the largest pixel budget of the models to come, 1120 x 1600, is 137 DPI of an A4 page
    jpeg_quality: int = 80
    raster: Engine = "pdfium"
    # its words
    ocr: ocr.OcrEngine = "tesseract"
    languages: tuple[str, ...] = ("eng",)  # ISO 639-2, as tesseract has them
    ocr_dpi: tuple[int, int] = (200, 300)  # a scan is read at its own resolution within these
    page_seconds: float = 120.0  # after which a page is given up

    @property
    def image_signature(self) -> str:
        """What a page image is made with; one with another signature is made again."""
        engine = f"pdfium {installed('pypdfium2').split('.')[0]}" if self.raster == "pdfium" else self.raster
        return f"{engine} {self.dpi} DPI JPEG {self.jpeg_quality}"

    def words_signature(self, source: str) -> str:
        """What words from this source, `"layer"` or an OCR engine, are read with."""
        if source == "layer":
            return "layer"
        low, high = self.ocr_dpi
        return f"{ocr.version(source)} {'+'.join(self.languages)} {low}-{high} DPI"  # type: ignore[arg-type]


def read_page(document: OpenDocument, number: int, settings: ReadSettings) -> PageContent:
    """Read page `number` (from 0) of an open document.

    Raises:
        DocumentError: it cannot be drawn or read.
    """
    width, height = document.size(number)
    if not (width > 0 and height > 0):
        raise DocumentError("open", f"the page measures {width:g} x {height:g} points", number)
    layer = [Word(w.text, clip(w.box, width, height), w.line) for w in document.words(number)]
    share, own_dpi = document.scan(number)
    image = document.render(number, settings.dpi, settings.raster)
    text, turn = PageText(tuple(layer), "layer"), 0
    if distrust(layer, width, height, share):
        low, high = settings.ocr_dpi
        dpi = min(max(own_dpi, low), high) if share > 0 else high
        picture = document.render(number, dpi, settings.raster)
        words, turn = _upright(picture, dpi, settings)
        scale = width / picture.width  # points a pixel
        text = PageText(tuple(_in_points(word, scale) for word in words), settings.ocr)
    if turn:
        image = image.rotate(turn, expand=True)
        width, height = (height, width) if turn % 180 else (width, height)
    page = Page(document.document.doc_id, number, round(width, 2), round(height, 2))
    return PageContent(page, _jpeg(image, settings), text)


def _upright(picture: PIL.Image.Image, dpi: float, settings: ReadSettings) -> tuple[list[Word], int]:
    """The words, and by how many degrees (counter-clockwise) the page must be turned to be read.

    Only a page that reads badly is tried another way up: tesseract's own test costs as much as reading.
    """

    def read(turn: int) -> ocr.Reading:
        turned = picture.rotate(turn, expand=True) if turn else picture
        return ocr.read(turned, dpi, settings.ocr, settings.languages, settings.page_seconds)

    best, turn = read(0), 0
    if best.words and best.confidence < ocr.LOW_CONFIDENCE:
        for other in (180, 90, 270):
            reading = read(other)
            if reading.sure_letters > ocr.BETTER * max(best.sure_letters, 10):
                best, turn = reading, other
    return best.words, turn


def _in_points(word: Word, scale: float) -> Word:
    return word._replace(box=Box(*(edge * scale for edge in word.box)))


def _jpeg(image: PIL.Image.Image, settings: ReadSettings) -> bytes:
    buffer = BytesIO()
    grey = _is_grey(image)
    (image.convert("L") if grey else image).save(buffer, "JPEG", quality=settings.jpeg_quality)
    return buffer.getvalue()


def _is_grey(image: PIL.Image.Image) -> bool:
    """Whether a page has no colour to speak of; a third of its bytes need not be stored then."""
    from PIL import ImageChops

    red, green, blue = image.resize((64, 64)).split()
    differs: Callable[..., PIL.Image.Image] = ImageChops.difference
    return max(differs(red, green).getextrema()[1], differs(green, blue).getextrema()[1]) < 8  # type: ignore[operator, type-var]
