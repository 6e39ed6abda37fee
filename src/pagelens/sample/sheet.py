"""A blank sheet to draw on: text in PDF's standard fonts, lines, boxes, curves; rendered by pdfium.

pdfium carries the standard fonts in its own binary, with the whole Latin-1 range, so a bare machine draws
umlauts without any font installed. (Pillow's built-in font has no ä, ö, ü, ß, €, – or µ: looked at, 13.0.)
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from math import cos, radians, sin
from typing import TYPE_CHECKING, Literal

import pypdfium2
import pypdfium2.raw as pdfium

from pagelens.records import Box

if TYPE_CHECKING:
    import PIL.Image

SANS, BOLD = "Helvetica", "Helvetica-Bold"
SERIF, SERIF_BOLD, ITALIC = "Times-Roman", "Times-Bold", "Times-Italic"
MONO = "Courier"

ASCENT, DESCENT = 0.74, 0.22
"""Height above and depth below the base line of a word's box, in font sizes (Helvetica: .718 and .207)."""


class Sheet:
    """One page being drawn. Coordinates in points from its top left; `y` of a text is its base line.

    `drawn` remembers every word with its box: what a perfect reader would find on the page.
    """

    def __init__(self, width: float = 595.0, height: float = 842.0) -> None:  # A4
        self.width, self.height = width, height
        self.drawn: list[tuple[str, Box]] = []
        self._document = pypdfium2.PdfDocument.new()
        self._page = self._document.new_page(width, height)
        self._fonts: dict[str, pdfium.FPDF_FONT] = {}

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: float = 10,
        font: str = SANS,
        align: Literal["left", "right", "center"] = "left",
        gray: int = 0,
        turn: float = 0,
    ) -> None:
        """Write one line beginning at `x`, ending there (`right`) or around it (`center`).

        Args:
            x: Points from the left.
            y: Points from the top to the base line.
            text: One line, of characters in Latin-1 or Windows-1252.
            size: Font size in points.
            font: One of the names above.
            align: Which end of the text stands at `x`.
            gray: 0 black to 255 white.
            turn: Degrees counter-clockwise around (x, y), as stamps are; `drawn` leaves turned words out.
        """
        x -= {"left": 0.0, "right": 1.0, "center": 0.5}[align] * self.measure(text, size, font)
        glyphs = pdfium.FPDFPageObj_CreateTextObj(self._document, self._font(font), size)
        encoded = (text + "\0").encode("utf-16-le")
        pdfium.FPDFText_SetText(glyphs, ctypes.cast(encoded, pdfium.FPDF_WIDESTRING))
        pdfium.FPDFPageObj_SetFillColor(glyphs, gray, gray, gray, 255)
        across, up = cos(radians(turn)), sin(radians(turn))
        pdfium.FPDFPageObj_Transform(glyphs, across, up, -up, across, x, self.height - y)
        pdfium.FPDFPage_InsertObject(self._page, glyphs)
        if not turn:
            self._remember(x, y, text, size, font)

    def _remember(self, x: float, y: float, text: str, size: float, font: str) -> None:
        end = 0
        for word in text.split():
            start = text.index(word, end)
            end = start + len(word)
            left, right = (x + self.measure(text[:cut], size, font) for cut in (start, end))
            self.drawn.append((word, Box(left, y - ASCENT * size, right, y + DESCENT * size)))

    def paragraph(
        self,
        x: float,
        y: float,
        width: float,
        text: str,
        size: float = 10,
        font: str = SANS,
        leading: float = 1.4,
    ) -> float:
        """Write `text` in lines at most `width` wide, `leading` font sizes apart; the next base line."""
        line = ""
        for word in text.split():
            longer = f"{line} {word}".lstrip()
            if line and self.measure(longer, size, font) > width:
                self.text(x, y, line, size, font)
                y, line = y + leading * size, word
            else:
                line = longer
        self.text(x, y, line, size, font)
        return y + leading * size

    def measure(self, text: str, size: float, font: str) -> float:
        """How wide `text` will be, in points."""
        width, total = ctypes.c_float(), 0.0
        for character in text:
            pdfium.FPDFFont_GetGlyphWidth(self._font(font), ord(character), size, width)
            total += width.value
        return total

    def line(self, x0: float, y0: float, x1: float, y1: float, weight: float = 0.6, gray: int = 0) -> None:
        """Rule a straight line, `weight` points thick."""
        self._stroke(self._path(x0, y0, [("line", (x1, y1))]), weight, gray)

    def box(self, box: Box, weight: float = 0.6, fill: int | None = None) -> None:
        """Rule a box, and fill it with a grey (0 black to 255 white); weight 0 leaves the frame out."""
        left, top, right, bottom = box
        corners = [(right, top), (right, bottom), (left, bottom), (left, top)]
        path = self._path(left, top, [("line", corner) for corner in corners])
        if fill is not None:
            pdfium.FPDFPageObj_SetFillColor(path, fill, fill, fill, 255)
        self._stroke(path, weight, 0, filled=fill is not None)

    def pen(self, points: Sequence[tuple[float, float]], weight: float = 1.1, gray: int = 30) -> None:
        """Draw by hand: one smooth curve through all `points` (Catmull-Rom, as Bézier pieces)."""
        around = [points[0], *points, points[-1]]
        pieces: list[tuple[Literal["line", "curve"], tuple[float, ...]]] = []
        for before, start, end, after in zip(around, around[1:], around[2:], around[3:], strict=False):
            first = (start[0] + (end[0] - before[0]) / 6, start[1] + (end[1] - before[1]) / 6)
            second = (end[0] - (after[0] - start[0]) / 6, end[1] - (after[1] - start[1]) / 6)
            pieces.append(("curve", (*first, *second, *end)))
        self._stroke(self._path(*points[0], pieces), weight, gray)

    def find(self, words: Sequence[str]) -> Box:
        """The box around these words, drawn one after the other exactly once.

        Raises:
            ValueError: they were drawn never, or more than once.
        """
        texts = [text for text, _ in self.drawn]
        starts = [i for i in range(len(texts)) if texts[i : i + len(words)] == list(words)]
        if len(starts) != 1:
            raise ValueError(f"{' '.join(words)!r} was drawn {len(starts)} times, not once: reword the page")
        return Box.around(box for _, box in self.drawn[starts[0] : starts[0] + len(words)])

    def render(self, dpi: float) -> PIL.Image.Image:
        """The page in grey, clean as from a printer. May be called once: the drawing is given up."""
        image: PIL.Image.Image = self._page.render(scale=dpi / 72, grayscale=True).to_pil()
        image = image.copy()  # pypdfium2's image is a view of a bitmap that closes with the document
        self._document.close()
        return image

    def _font(self, name: str) -> pdfium.FPDF_FONT:
        if name not in self._fonts:
            self._fonts[name] = pdfium.FPDFText_LoadStandardFont(self._document, name.encode())
        return self._fonts[name]

    def _path(
        self, x: float, y: float, pieces: Sequence[tuple[Literal["line", "curve"], tuple[float, ...]]]
    ) -> pdfium.FPDF_PAGEOBJECT:
        path = pdfium.FPDFPageObj_CreateNewPath(x, self.height - y)
        for kind, numbers in pieces:
            upwards = [self.height - n if i % 2 else n for i, n in enumerate(numbers)]
            (pdfium.FPDFPath_LineTo if kind == "line" else pdfium.FPDFPath_BezierTo)(path, *upwards)
        return path

    def _stroke(self, path: pdfium.FPDF_PAGEOBJECT, weight: float, gray: int, filled: bool = False) -> None:
        pdfium.FPDFPageObj_SetStrokeColor(path, gray, gray, gray, 255)
        pdfium.FPDFPageObj_SetStrokeWidth(path, weight)
        mode = pdfium.FPDF_FILLMODE_WINDING if filled else pdfium.FPDF_FILLMODE_NONE
        pdfium.FPDFPath_SetDrawMode(path, mode, weight > 0)
        pdfium.FPDFPage_InsertObject(self._page, path)
