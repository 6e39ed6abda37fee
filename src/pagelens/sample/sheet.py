"""A blank sheet to draw on: text in PDF's standard fonts, lines, boxes, curves, tables; rendered by pdfium.

pdfium carries the standard fonts in its own binary, with the whole Latin-1 range, so a bare machine draws
umlauts without any font installed. (Pillow's built-in font has no ä, ö, ü, ß, €, – or µ: looked at, 13.0.)
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from math import cos, radians, sin
from typing import TYPE_CHECKING, Literal, NamedTuple

import pypdfium2
import pypdfium2.raw as pdfium

from pagelens.records import Box

if TYPE_CHECKING:
    import PIL.Image

SANS, BOLD = "Helvetica", "Helvetica-Bold"
SERIF, SERIF_BOLD, ITALIC = "Times-Roman", "Times-Bold", "Times-Italic"
MONO, MONO_BOLD = "Courier", "Courier-Bold"
BOLDER = {SANS: BOLD, SERIF: SERIF_BOLD, MONO: MONO_BOLD}

Ink = tuple[int, int, int]
"""Red, green, blue, 0..255 each."""
BLACK: Ink = (25, 25, 28)
GREY: Ink = (105, 105, 110)
PALE: Ink = (224, 226, 229)
STRIPE: Ink = (244, 245, 247)
WHITE: Ink = (255, 255, 255)

Align = Literal["left", "right", "center"]
Column = tuple[float, Align]
"""Width in points, and at which edge its texts stand."""
Segment = tuple[float, ...]
"""x, y of a line's end; or the three points of a Bézier curve after its start, as x, y, x, y, x, y."""

ASCENT, DESCENT = 0.74, 0.22
"""Height above and depth below the base line of a word's box, in font sizes (Helvetica: .718 and .207)."""
ROUND = 0.5523
"""How far the control points of a quarter circle lie, in radii: 4 (sqrt 2 - 1) / 3."""


class Style(NamedTuple):
    """How text looks."""

    size: float = 10
    """In points."""
    font: str = SANS
    ink: Ink = BLACK
    leading: float = 1.4
    """From one base line to the next, in font sizes."""
    justify: bool = False
    """Spread every line of a paragraph but the last over the whole width."""


PLAIN = Style()
SMALL = Style(8, ink=GREY)


def cells(text: str) -> list[list[str]]:
    r"""Rows of a table from lines of text.

    >>> cells("North | 1,870\nSouth | 1,525")
    [['North', '1,870'], ['South', '1,525']]
    """
    return [[cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()]


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
        style: Style = PLAIN,
        align: Align = "left",
        turn: float = 0,
    ) -> None:
        """Write one line beginning at `x`, ending there (`right`) or around it (`center`).

        Args:
            x: Points from the left.
            y: Points from the top to the base line.
            text: One line, of characters in Windows-1252.
            style: Its look.
            align: Which end of the text stands at `x`.
            turn: Degrees counter-clockwise around its beginning, as in stamps; not kept in `drawn`.
        """
        x -= {"left": 0.0, "right": 1.0, "center": 0.5}[align] * self.measure(text, style)
        glyphs = pdfium.FPDFPageObj_CreateTextObj(self._document, self._font(style.font), style.size)
        encoded = ctypes.create_string_buffer((text + "\0").encode("utf-16-le"))
        pdfium.FPDFText_SetText(glyphs, ctypes.cast(encoded, pdfium.FPDF_WIDESTRING))
        pdfium.FPDFPageObj_SetFillColor(glyphs, *style.ink, 255)
        across, up = cos(radians(turn)), sin(radians(turn))
        pdfium.FPDFPageObj_Transform(glyphs, across, up, -up, across, x, self.height - y)
        pdfium.FPDFPage_InsertObject(self._page, glyphs)
        if not turn:
            self._remember(x, y, text, style)

    def lines(self, x: float, y: float, text: str, style: Style = PLAIN, align: Align = "left") -> None:
        """Write the lines of `text` below each other."""
        for line in text.strip().splitlines():
            self.text(x, y, line.strip(), style, align)
            y += style.leading * style.size

    def prose(self, x: float, y: float, width: float, text: str, style: Style = PLAIN) -> float:
        """Write paragraphs, set apart in `text` by empty lines, broken to `width`; the next base line."""
        for paragraph in text.split("\n\n"):
            words = paragraph.split()
            while words:
                fits = 1
                while fits < len(words) and self.measure(" ".join(words[: fits + 1]), style) <= width:
                    fits += 1
                line, words = words[:fits], words[fits:]
                if style.justify and words and fits > 1:
                    self._spread(x, y, width, line, style)
                else:
                    self.text(x, y, " ".join(line), style)
                y += style.leading * style.size
            y += 0.75 * style.size
        return y

    def table(
        self,
        left: float,
        top: float,
        columns: Sequence[Column],
        rows: Sequence[Sequence[str]],
        style: Style = PLAIN,
        height: float = 20,
        grid: bool = False,
        head: Ink = PALE,
        stripes: bool = False,
        strong: Sequence[int] = (),
    ) -> float:
        """Draw rows of cells, the first row as the head; where the table ends, in points from the top.

        Args:
            left: Of the first column.
            top: Of the head.
            columns: Width and alignment of each.
            rows: Texts of one line.
            style: Of all rows; head and strong rows in bold.
            height: Of a row.
            grid: Rule a box around every cell, not only a line below every row.
            head: What the head is filled with; on a dark one the text is white.
            stripes: Tint every second row.
            strong: Numbers of rows in bold with a heavier line above.
        """
        right, bold = left + sum(width for width, _ in columns), style._replace(font=BOLDER[style.font])
        for number, row in enumerate(rows):
            y = top + number * height
            tint = head if number == 0 else STRIPE if stripes and number % 2 == 0 else None
            self.box(Box(left, y, right, y + height), 0, fill=tint)
            look = bold if number == 0 or number in strong else style
            if number == 0 and sum(head) < sum(GREY) * 1.2:
                look = look._replace(ink=WHITE)
            x = left
            for cell, (width, align) in zip(row, columns, strict=True):
                at = {"left": x + 5, "right": x + width - 5, "center": x + width / 2}[align]
                self.text(at, y + height / 2 + 0.35 * style.size, cell, look, align)
                if grid:
                    self.box(Box(x, y, x + width, y + height))
                x += width
            if not grid:
                self.line(left, y + height, right, y + height, 0.4, GREY)
            if number in strong:
                self.line(left, y, right, y, 1.0)
        return top + len(rows) * height

    def measure(self, text: str, style: Style) -> float:
        """How wide `text` will be, in points."""
        width, total = ctypes.c_float(), 0.0
        for character in text:
            pdfium.FPDFFont_GetGlyphWidth(self._font(style.font), ord(character), style.size, width)
            total += width.value
        return total

    def line(self, x0: float, y0: float, x1: float, y1: float, weight: float = 0.6, ink: Ink = BLACK) -> None:
        """Rule a straight line, `weight` points thick."""
        self._draw((x0, y0), [(x1, y1)], weight, ink)

    def box(self, box: Box, weight: float = 0.6, ink: Ink = BLACK, fill: Ink | None = None) -> None:
        """Rule a box, and fill it; weight 0 leaves the frame out."""
        left, top, right, bottom = box
        self._draw(
            (left, top), [(right, top), (right, bottom), (left, bottom), (left, top)], weight, ink, fill
        )

    def circle(
        self,
        x: float,
        y: float,
        radius: float,
        weight: float = 0.6,
        ink: Ink = BLACK,
        fill: Ink | None = None,
    ) -> None:
        """Rule a circle around (x, y), and fill it; weight 0 leaves the line out."""
        r, c = radius, radius * ROUND
        quarters = [
            (x + r, y + c, x + c, y + r, x, y + r),
            (x - c, y + r, x - r, y + c, x - r, y),
            (x - r, y - c, x - c, y - r, x, y - r),
            (x + c, y - r, x + r, y - c, x + r, y),
        ]
        self._draw((x + r, y), quarters, weight, ink, fill)

    def curve(self, points: Sequence[tuple[float, float]], weight: float = 1.0, ink: Ink = BLACK) -> None:
        """Draw one smooth curve through all `points` (Catmull-Rom, as Bézier pieces)."""
        around = [points[0], *points, points[-1]]
        pieces: list[Segment] = []
        for before, start, end, after in zip(around, around[1:], around[2:], around[3:], strict=False):
            first = (start[0] + (end[0] - before[0]) / 6, start[1] + (end[1] - before[1]) / 6)
            second = (end[0] - (after[0] - start[0]) / 6, end[1] - (after[1] - start[1]) / 6)
            pieces.append((*first, *second, *end))
        self._draw(points[0], pieces, weight, ink)

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
        """The page, RGB, clean as from a printer. May be called once: the drawing is given up."""
        image: PIL.Image.Image = self._page.render(scale=dpi / 72).to_pil()
        image = image.convert(
            "RGB"
        ).copy()  # pypdfium2's image is a view of a bitmap that closes with the page
        self._document.close()
        return image

    def _remember(self, x: float, y: float, text: str, style: Style) -> None:
        end = 0
        for word in text.split():
            start = text.index(word, end)
            end = start + len(word)
            left, right = (x + self.measure(text[:cut], style) for cut in (start, end))
            box = Box(left, y - ASCENT * style.size, right, y + DESCENT * style.size)
            self.drawn.append((word, box))

    def _spread(self, x: float, y: float, width: float, line: Sequence[str], style: Style) -> None:
        """Words over the whole width, the same gap between any two."""
        gap = (width - sum(self.measure(word, style) for word in line)) / (len(line) - 1)
        for word in line:
            self.text(x, y, word, style)
            x += self.measure(word, style) + gap

    def _font(self, name: str) -> pdfium.FPDF_FONT:
        if name not in self._fonts:
            self._fonts[name] = pdfium.FPDFText_LoadStandardFont(self._document, name.encode())
        return self._fonts[name]

    def _draw(
        self,
        start: tuple[float, float],
        segments: Sequence[Segment],
        weight: float,
        ink: Ink,
        fill: Ink | None = None,
    ) -> None:
        """One path: its segments stroked, unless the weight is 0, and filled."""
        path = pdfium.FPDFPageObj_CreateNewPath(start[0], self.height - start[1])
        for segment in segments:
            upwards = [self.height - n if i % 2 else n for i, n in enumerate(segment)]
            (pdfium.FPDFPath_LineTo if len(segment) == 2 else pdfium.FPDFPath_BezierTo)(path, *upwards)
        pdfium.FPDFPageObj_SetStrokeColor(path, *ink, 255)
        pdfium.FPDFPageObj_SetStrokeWidth(path, weight)
        if fill is not None:
            pdfium.FPDFPageObj_SetFillColor(path, *fill, 255)
        mode = pdfium.FPDF_FILLMODE_NONE if fill is None else pdfium.FPDF_FILLMODE_WINDING
        pdfium.FPDFPath_SetDrawMode(path, mode, weight > 0)
        pdfium.FPDFPage_InsertObject(self._page, path)
