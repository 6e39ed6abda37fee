"""The text a PDF page carries, and whether it can be trusted.

What is not asked: whether glyphs have a Unicode map. pdfium says of sound Polish and Arabic pages that they
have none (`issue-625-identity-cmap.pdf`, `habibi-rotated.pdf` of the odd PDFs), because it found their
letters by other means.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Sequence
from ctypes import byref, c_double
from typing import TYPE_CHECKING

import numpy as np

from pagelens.records import Box, Word

if TYPE_CHECKING:
    import PIL.Image
    import pypdfium2

HYPHEN = 0x02
"""What pdfium gives for a hyphen that splits a word, and the end of the line after it."""
LINE_END = (0x0D, 0x0A)
"""What it gives for another end of a line."""
LAST = LINE_END[1]
SPACES = {*LINE_END, 0x09, *(code for code in range(0x3001) if unicodedata.category(chr(code)) == "Zs")}
UNKNOWN = "\ufffd"
"""For a glyph whose character nobody knows."""

RULES = 3
"""Raised with any change to what is read from a layer or to when it is believed: words that a library holds
under another number are read again by the next ingest of their file."""
BAD_SHARE = 0.05
"""Of characters: control, private use, replacement. Sound layers of `mmdocir-dev` have none; the broken one
there, with fonts that lack a Unicode map, has more than half."""
PLAUSIBLE_SHARE = 0.5
"""Of alphabetic words: long enough, short enough, with a vowel. Sound pages there have more than .8."""
SCAN_SHARE = 0.5
"""Of the page: an image that covers more is the page."""
FEW_WORDS = 15
"""A stamp, a page number or a file name laid over a scan."""
ON_INK = 0.85
"""Of the words over such an image: where something is printed. In `fara-dev` and `mmdocir-dev` layers that
OCR made have .91 and more, the 18 that are a sheet of metadata nobody can see .75 and less."""
FEW_BANDS = 2
"""Of ten across the page: a line of download notice or court stamp at its edge, however many words it has."""


def layer_words(page: pypdfium2.PdfPage) -> list[Word]:
    """Words of the text layer, in the order and the lines pdfium reads them in.

    Boxes in points, top-left origin, of the page as shown: rotation and crop box applied. Words may lie off
    the page. A word hyphenated at the end of a line is one word, in the line and the box where it begins.
    """
    import pypdfium2.raw as pdfium

    textpage = page.get_textpage()
    try:
        raw, place = textpage.raw, placer(page)
        unicode, char_box = pdfium.FPDFText_GetUnicode, pdfium.FPDFText_GetCharBox
        left, right, bottom, top = c_double(), c_double(), c_double(), c_double()
        edges = byref(left), byref(right), byref(bottom), byref(top)
        words: list[Word] = []
        letters: list[str] = []
        boxes: list[Box] = []
        line, joined, crossed = 0, False, 0  # crossed: line ends inside the word
        count = pdfium.FPDFText_CountChars(raw)
        for i in range(count + 1):
            code = unicode(raw, i) if i < count else LAST
            if code == HYPHEN:
                crossed, joined = crossed + 1, True
                continue
            if joined and code in LINE_END:
                continue
            joined = False
            if code in SPACES:
                if letters:
                    words.append(Word("".join(letters), place(Box.around(boxes)), line))
                    letters, boxes = [], []
                line, crossed = line + crossed + (code == LAST), 0
                continue
            letters.append(chr(code) if code and code < 0x110000 and not 0xD800 <= code < 0xE000 else UNKNOWN)
            if not crossed or not boxes:
                char_box(raw, i, *edges)
                boxes.append(Box(left.value, bottom.value, right.value, top.value))
        return words
    finally:
        textpage.close()


def placer(page: pypdfium2.PdfPage) -> Callable[[Box], Box]:
    """From the PDF's own coordinates (origin at the bottom left, unrotated) to the page as shown."""
    left, bottom, right, top = page.get_bbox()
    rotation = page.get_rotation()

    def place(box: Box) -> Box:  # box.top and box.bottom hold the PDF's lower and upper y
        x0, x1 = box.left - left, box.right - left
        y0, y1 = box.top - bottom, box.bottom - bottom
        width, height = right - left, top - bottom
        match rotation:
            case 90:
                return Box(y0, x0, y1, x1)
            case 180:
                return Box(width - x1, y0, width - x0, y1)
            case 270:
                return Box(height - y1, width - x1, height - y0, width - x0)
            case _:
                return Box(x0, height - y1, x1, height - y0)

    return place


def distrust(words: Sequence[Word], width: float, height: float, image_share: float) -> str | None:
    """Why a text layer cannot be trusted; None when it can.

    Args:
        words: What the layer says, also off the page.
        width: Of the page, in points, as shown.
        height: Likewise.
        image_share: How much of the page its largest image covers, 0..1.
    """
    seen = on_page(words, width, height)
    if not seen:
        return "no text"
    if len(seen) < len(words) / 2:
        return "text outside the page"
    bands = {int(10 * (word.box.top + word.box.bottom) / 2 / height) for word in seen}
    if image_share > SCAN_SHARE and (len(seen) < FEW_WORDS or len(bands) <= FEW_BANDS):
        return "almost no text over a page that is an image"
    text = "".join(word.text for word in seen)
    if sum(map(_bad, text)) > BAD_SHARE * len(text):
        return "characters without meaning"
    alphabetic = [word.text.strip(".,;:!?()[]\"'“”‘’") for word in seen]
    alphabetic = [each for each in alphabetic if each.isalpha()]
    if len(alphabetic) >= 10 and sum(map(plausible, alphabetic)) < PLAUSIBLE_SHARE * len(alphabetic):
        return "few plausible words"
    return None


def share_on_ink(words: Sequence[Word], picture: PIL.Image.Image, width: float) -> float:
    """Of the words, how many stand where something is printed, 0..1.

    Some layers have nothing to do with the scan they lie over: in half of `fara-dev` it is a sheet of
    metadata, of which OCR finds a fifth on the page. Reading the page to find out would cost a second; where
    a layer tells the truth there are strokes in the boxes of its words.

    Args:
        words: On the page; at least one.
        picture: The page as shown.
        width: Of the page, in points.
    """
    grey = np.asarray(picture.convert("L"), dtype=np.int16)
    stroke = np.zeros(grey.shape, dtype=bool)
    stroke[1:] = np.abs(np.diff(grey, axis=0)) > 32
    stroke[:, 1:] |= np.abs(np.diff(grey, axis=1)) > 32
    scale = picture.width / width
    printed = 0
    for word in words:
        left, top, right, bottom = (edge * scale for edge in word.box)
        inside = stroke[int(top) : math.ceil(bottom), int(left) : math.ceil(right)]
        printed += bool(inside.size) and bool(inside.any(axis=0).mean() > 0.5)
    return printed / len(words)


def on_page(words: Sequence[Word], width: float, height: float) -> list[Word]:
    """The words whose middle lies on the page, their boxes cut to it, in points."""
    return [
        word._replace(box=Box(max(0, left), max(0, top), min(width, right), min(height, bottom)))
        for word in words
        for left, top, right, bottom in [word.box]
        if 0 <= left + right <= 2 * width and 0 <= top + bottom <= 2 * height
    ]


def plausible(word: str) -> bool:
    """Whether an alphabetic word could be one; other scripts than Latin are taken as they are.

    >>> [plausible(word) for word in ("invoice", "xkqzt", "A", "счёт")]
    [True, False, True, True]
    """
    plain = unicodedata.normalize("NFKD", word).lower()
    if not plain[0].isascii():
        return True
    short = len(word) <= 2 or (len(word) <= 5 and word.isupper())  # initials and acronyms
    return len(word) <= 30 and (short or any(letter in "aeiouyæœø" for letter in plain))


def _bad(character: str) -> bool:
    return character == UNKNOWN or unicodedata.category(character) in ("Cc", "Co", "Cn", "Cs")
