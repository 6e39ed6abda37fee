"""The text a PDF page carries, and whether it can be trusted."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from ctypes import byref, c_double
from typing import TYPE_CHECKING

from pagelens.records import Box, Word

if TYPE_CHECKING:
    import pypdfium2

HYPHEN = 0x02
"""What pdfium gives for a hyphen that splits a word at the end of a line."""

BAD_SHARE = 0.05
"""Of characters: control, private use, replacement. Sound layers of `mmdocir-dev` have none; the broken one
there, with fonts that lack a Unicode map, has more than half."""
PLAUSIBLE_SHARE = 0.5
"""Of alphabetic words: long enough, short enough, with a vowel. Sound pages there have more than .8."""
FEW_WORDS = 15
"""A stamp, a page number or a file name laid over a scan."""
SCAN_SHARE = 0.5
"""Of the page: an image that covers more is the page."""


def layer_words(page: pypdfium2.PdfPage) -> list[Word]:
    """Words of the text layer, in the order and the lines pdfium reads them in.

    Boxes in points, top-left origin, of the page as shown: rotation and crop box applied.
    """
    import pypdfium2.raw as pdfium

    textpage = page.get_textpage()
    try:
        raw, place = textpage.raw, _placer(page)
        words: list[Word] = []
        letters: list[str] = []
        boxes: list[tuple[float, float, float, float]] = []
        line, joined = 0, False
        left, right, bottom, top = c_double(), c_double(), c_double(), c_double()

        def finish() -> None:
            if letters:
                box = Box.around(Box(*each) for each in boxes)
                words.append(Word("".join(letters), place(box), line))
                letters.clear()
                boxes.clear()

        for i in range(pdfium.FPDFText_CountChars(raw)):
            code = pdfium.FPDFText_GetUnicode(raw, i)
            if code == HYPHEN:
                joined = True
                continue
            character = chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else "\ufffd"
            if character in "\0\t\r\n" or unicodedata.category(character) == "Zs":
                if joined and character in "\r\n":
                    continue  # the word goes on in the next line
                finish()
                line += character == "\n"
                continue
            joined = False
            pdfium.FPDFText_GetCharBox(raw, i, byref(left), byref(right), byref(bottom), byref(top))
            letters.append(character)
            boxes.append((left.value, bottom.value, right.value, top.value))
        finish()
        return words
    finally:
        textpage.close()


def _placer(page: pypdfium2.PdfPage):  # type: ignore[no-untyped-def]
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
        words: What the layer says.
        width: Of the page, in points, as shown.
        height: Likewise.
        image_share: How much of the page its largest image covers, 0..1.
    """
    if image_share > SCAN_SHARE and len(words) < FEW_WORDS:
        return "almost no text over a page that is an image"
    text = "".join(word.text for word in words)
    if not text:
        return "no text"
    if sum(map(_bad, text)) > BAD_SHARE * len(text):
        return "characters without meaning"
    alphabetic = [word.text.strip(".,;:!?()[]\"'“”‘’") for word in words]
    alphabetic = [each for each in alphabetic if each.isalpha()]
    if len(alphabetic) >= 10 and sum(map(plausible, alphabetic)) < PLAUSIBLE_SHARE * len(alphabetic):
        return "few plausible words"
    outside = sum(not (-1 <= w.box.left <= width and -1 <= w.box.top <= height) for w in words)
    return "text outside the page" if outside > len(words) / 2 else None


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
    return character == "\ufffd" or unicodedata.category(character) in ("Cc", "Co", "Cn", "Cs")
