"""The story of one page: its picture, its words, the way up."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version as installed
from io import BytesIO

import PIL.Image
from PIL import ImageChops
from PIL.Image import Resampling, Transpose

from pagelens.errors import DocumentError
from pagelens.ingest import ocr
from pagelens.ingest.documents import OpenDocument
from pagelens.ingest.pictures import alone, silent_pictures
from pagelens.ingest.raster import Engine, fitting_dpi
from pagelens.ingest.regions import find_regions
from pagelens.ingest.repair import find_lines, without_margins
from pagelens.ingest.text import ON_INK, RULES, SCAN_SHARE, distrust, on_page, share_on_ink
from pagelens.records import Box, Drawn, Page, PageContent, PageText, Word

LEAST_SKEW = 1.0
"""Degrees. tesseract follows lines that lean less: 94% of words at 0, 93% at 1, 92% at 3, 82% at 5."""
BETTER = 1.5
"""How many times more letters must be read surely before a page is taken to stand on its head."""
_QUARTERS = {90: Transpose.ROTATE_90, 180: Transpose.ROTATE_180, 270: Transpose.ROTATE_270}


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
    page_seconds: float = 60.0  # drawing and reading; after which a page is given up
    # what is on them
    regions: bool = True  # tables, charts, signatures; by the layout model too, where it is installed
    # of the documents
    password: str | None = field(default=None, repr=False)  # of encrypted PDF files; in no signature

    @property
    def image_signature(self) -> str:
        """What a page image is made with; one with another signature is made again."""
        engine = f"pdfium {installed('pypdfium2').split('.')[0]}" if self.raster == "pdfium" else self.raster
        return f"{engine} {self.dpi} DPI JPEG {self.jpeg_quality}"

    @property
    def sources(self) -> tuple[str, str, str]:
        """Where words may come from; see `PageText.source`."""
        return "layer", f"layer+{self.ocr}", self.ocr

    def words_signature(self, source: str) -> str:
        """What words from one of `sources` are read with.

        The rules that choose between layer and OCR are the layer's alone: words that OCR read stay right when
        the rules change, and cost a second a page to read again.
        """
        layer, _, engine = source.rpartition("+")
        if engine == "layer":
            return f"layer, rules {RULES}"
        low, high = self.ocr_dpi
        read = f"{ocr.version(engine)} {'+'.join(self.languages)} {low}-{high} DPI"
        return f"{self.words_signature(layer)}, pictures by {read}" if layer else read


def read_page(document: OpenDocument, number: int, settings: ReadSettings) -> PageContent:
    """Read page `number` (from 0) of an open document.

    Raises:
        DocumentError: it cannot be drawn or read, or not in time.
    """
    deadline = time.monotonic() + settings.page_seconds
    width, height = document.size(number)
    if not (0 < width < math.inf and 0 < height < math.inf):
        raise DocumentError("open", f"the page measures {width:g} x {height:g} points; save it again", number)
    layer, drawn = document.words(number), document.drawn(number)
    share, own_dpi = document.scan(number)
    turned = 0.0
    trusted = distrust(layer, width, height, share) is None
    if trusted:
        image = document.render(number, settings.dpi, settings.raster)
        words = on_page(layer, width, height)
        trusted = share <= SCAN_SHARE or share_on_ink(words, image, width) >= ON_INK
    if trusted:
        text = PageText(tuple(words), "layer")
        if pictures := silent_pictures(drawn, text):
            picture = document.render(number, settings.ocr_dpi[0], settings.raster)
            text = _with_pictures(text, pictures, picture, picture.width * 72 / width, settings, deadline)
    else:
        low, high = settings.ocr_dpi
        dpi = min(max(own_dpi, low), high) if share > 0 else high
        picture = document.render(number, dpi, settings.raster)
        dpi = picture.width * 72 / width  # a large page has less, and so may an image
        picture, turned, words = _read_scan(picture, dpi, settings, deadline)
        width, height = picture.width * 72 / dpi, picture.height * 72 / dpi
        image = _resized(picture, min(1.0, settings.dpi / dpi))
        text = PageText(tuple(words), settings.ocr)
    page = Page(document.document.doc_id, number, round(width, 2), round(height, 2), turned)
    drawn = turned_things(drawn, round(turned / 90) % 4, *document.size(number))
    content = PageContent(page, _jpeg(image, settings.jpeg_quality), text, tuple(drawn))
    return replace(content, found=find_regions(content)) if settings.regions else content


def turned_things(drawn: Iterable[Drawn], quarters: int, width: float, height: float) -> list[Drawn]:
    """What the file says of a page that was turned to be shown, by quarters counter-clockwise.

    Args:
        drawn: On the page as it was before.
        quarters: 0 to 3.
        width: Of the page before, in points.
        height: Likewise.
    """
    drawn = list(drawn)
    for _ in range(quarters):
        drawn = [
            Drawn(kind, Box(top, width - right, bottom, width - left))
            for kind, (left, top, right, bottom) in drawn
        ]
        width, height = height, width
    return drawn


def _read_scan(
    picture: PIL.Image.Image, dpi: float, settings: ReadSettings, deadline: float
) -> tuple[PIL.Image.Image, float, list[Word]]:
    """The picture straightened, by how many degrees it was turned for that, and its words in points.

    How the lines lie is seen from the picture in 15 ms. Up and down only reading can tell: a page that reads
    badly is read again the other way up (tesseract's own test costs as much as reading the page). What lies
    beside the paper is hidden from OCR alone: the page is shown as it was scanned.
    """
    paper = without_margins(picture)
    lines = find_lines(paper)
    skew = lines.skew if lines.distinct and abs(lines.skew) >= LEAST_SKEW else 0.0
    straight = _rotated(paper, skew)
    first = 90 if lines.distinct and lines.sideways else 0
    turn, best = first, _read(_turned(straight, first), dpi, settings, deadline)
    if best.confidence < ocr.UPRIGHT[settings.ocr] and (best.words or lines.distinct):
        for other in (first + 180,) if lines.distinct else (180, 90, 270):
            reading = _read(_turned(straight, other), dpi, settings, deadline)
            if reading.sure_letters > BETTER * max(best.sure_letters, 10):
                turn, best = other, reading
    shown = straight if paper is picture else _rotated(picture, skew)
    return _turned(shown, turn), turn + skew, [_in_points(word, dpi) for word in best.words]


def _with_pictures(
    layer: PageText,
    pictures: Sequence[Box],
    page: PIL.Image.Image,
    dpi: float,
    settings: ReadSettings,
    deadline: float,
) -> PageText:
    """A layer and, in lines after its own, what OCR reads surely in pictures; in photographs little."""
    reading = _read(alone(page, pictures, layer.words, dpi), dpi, settings, deadline)
    first = layer.words[-1].line + 1
    read = tuple(
        _in_points(word, dpi)._replace(line=first + word.line)
        for word in reading.words
        if (word.confidence or 0.0) >= ocr.LOW_CONFIDENCE and any(map(str.isalnum, word.text))
    )
    return PageText(layer.words + read, f"layer+{settings.ocr}")


def _in_points(word: Word, dpi: float) -> Word:
    return word._replace(box=Box(*(edge * 72 / dpi for edge in word.box)))


def _read(picture: PIL.Image.Image, dpi: float, settings: ReadSettings, deadline: float) -> ocr.Reading:
    """Words with boxes in pixels; a picture too coarse for OCR is enlarged for it."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise DocumentError("text", f"the page took longer than {settings.page_seconds:g} s")
    width, height = picture.width * 72 / dpi, picture.height * 72 / dpi
    scale = max(1.0, fitting_dpi(width, height, settings.ocr_dpi[0]) / dpi)
    reading = ocr.read(_resized(picture, scale), dpi * scale, settings.ocr, settings.languages, left)
    words = [word._replace(box=Box(*(edge / scale for edge in word.box))) for word in reading.words]
    return ocr.Reading(words)


def _turned(picture: PIL.Image.Image, quarters: int) -> PIL.Image.Image:
    return picture.transpose(_QUARTERS[quarters]) if quarters else picture


def _rotated(picture: PIL.Image.Image, degrees: float) -> PIL.Image.Image:
    if not degrees:
        return picture
    return picture.rotate(degrees, Resampling.BICUBIC, expand=True, fillcolor="white")


def _resized(picture: PIL.Image.Image, scale: float) -> PIL.Image.Image:
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    return picture if size == picture.size else picture.resize(size, Resampling.LANCZOS, reducing_gap=3.0)


def _jpeg(image: PIL.Image.Image, quality: int) -> bytes:
    buffer = BytesIO()
    (image.convert("L") if _is_grey(image) else image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _is_grey(image: PIL.Image.Image) -> bool:
    """Whether a page has no colour to speak of; a third of its bytes need not be stored then."""
    if image.mode == "L":
        return True
    red, green, blue = image.reduce(8).split()
    return not any(
        ImageChops.difference(one, green).point(lambda level: level >= 8).getbbox() for one in (red, blue)
    )
