"""Evidence on a page image: the passage as a pale band in a frame, its matching words as with a marker pen.

Blue and amber stay apart in every common form of colour blindness. Ink stays ink: light paper is multiplied
with the colour, a dark photo is screened with it, so that what is marked can still be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor
from typing import NamedTuple

from PIL import Image, ImageChops, ImageDraw

from pagelens.records import Box, Evidence, Page


class _Tint(NamedTuple):
    """RGB: multiplied on light paper, screened on dark."""

    light: tuple[int, int, int]
    dark: tuple[int, int, int]


BAND = _Tint(light=(222, 235, 255), dark=(0, 34, 80))
PEN = _Tint(light=(255, 205, 60), dark=(140, 92, 0))
FRAME = (0, 92, 190)
HALO = (255, 255, 255)
"""A line around the frame, unseen on paper, that makes it stand out from a dark photo."""

PASSAGE_MARGIN = 2.0
WORD_MARGIN = 1.0
"""Points between text and mark: a frame or a marker's edge on the letters makes them hard to read."""

CLOSEUP_MARGIN = 20.0
"""Points of page shown around a passage: about one line above and below."""
CLOSEUP_WIDTH = 320.0
"""Points shown at least: a column of text is 240 to 300 wide, so that its lines are seen whole."""
CLOSEUP_SHAPE = 0.6
"""Height of a close-up over its width, at most."""


def mark(image: Image.Image, page: Page, evidence: Sequence[Evidence]) -> Image.Image:
    """A copy of the page image with the evidence marked, RGB, of the same size.

    Args:
        image: The page as shown, of any size; boxes are scaled from points to its pixels.
        page: Whose width and height in points the image shows.
        evidence: Boxes in points, top-left origin; what lies outside the page is cut off.
    """
    marked = image.convert("RGB")
    for passage in evidence:
        _tint(marked, pixels(passage.box, page, image.size, PASSAGE_MARGIN), BAND)
    for passage in evidence:
        for word in passage.words:
            _tint(marked, pixels(word.box, page, image.size, WORD_MARGIN), PEN)
    for passage in evidence:
        _frame(marked, pixels(passage.box, page, image.size, PASSAGE_MARGIN))
    return marked


def pixels(box: Box, page: Page, size: tuple[int, int], margin: float = 0.0) -> tuple[int, int, int, int]:
    """The pixels that a box in points touches, (left, top, right, bottom), right and bottom exclusive.

    Args:
        box: In points, top-left origin.
        page: The page it is on.
        size: Width and height of the page image, in pixels.
        margin: Points added on every side.

    Returns:
        Cut to the image; with no pixels in it (right <= left or bottom <= top) if the box is off the page.

    >>> pixels(Box(10, 20, 30, 40), Page("d", 0, width=100, height=200), (50, 100))
    (5, 10, 15, 20)
    """
    across, down = size[0] / page.width, size[1] / page.height
    return (
        max(0, floor((box.left - margin) * across)),
        max(0, floor((box.top - margin) * down)),
        min(size[0], ceil((box.right + margin) * across)),
        min(size[1], ceil((box.bottom + margin) * down)),
    )


def closeup(page: Page, passage: Evidence) -> Box:
    """The part of the page to show so that the passage can be read, in points, within the page.

    A passage too tall to be shown whole is shown from its first matching word on.
    """
    width = min(page.width, max(CLOSEUP_WIDTH, passage.box.width + 2 * CLOSEUP_MARGIN))
    whole = passage.box.height + 2 * CLOSEUP_MARGIN
    height = min(page.height, whole, CLOSEUP_SHAPE * width)
    start = passage.words[0].box if passage.words and height < whole else passage.box
    left = (passage.box.left + passage.box.right - width) / 2
    left = min(max(0.0, left), page.width - width)
    top = min(max(0.0, start.top - CLOSEUP_MARGIN), page.height - height)
    return Box(left, top, left + width, top + height)


def _tint(image: Image.Image, area: tuple[int, int, int, int], tint: _Tint) -> None:
    if area[0] >= area[2] or area[1] >= area[3]:
        return
    part = image.crop(area)
    # The median is the paper: even under bold type, ink covers less than half of a word's box.
    if _median(part) >= 128:
        part = ImageChops.multiply(part, Image.new("RGB", part.size, tint.light))
    else:
        part = ImageChops.screen(part, Image.new("RGB", part.size, tint.dark))
    image.paste(part, area)


def _median(image: Image.Image) -> int:
    counts = image.convert("L").histogram()
    half, seen = image.width * image.height / 2, 0
    for level, count in enumerate(counts):
        seen += count
        if seen >= half:
            return level
    return 255


def _frame(image: Image.Image, area: tuple[int, int, int, int]) -> None:
    if area[0] >= area[2] or area[1] >= area[3]:
        return
    line = max(1, round(image.width / 500))  # as thick on a thumbnail as on the page
    left, top, right, bottom = (
        area[0],
        area[1],
        area[2] - 1,
        area[3] - 1,
    )  # ImageDraw fills the far corner too
    draw = ImageDraw.Draw(image)
    draw.rectangle((left - line, top - line, right + line, bottom + line), outline=HALO, width=line)
    draw.rectangle((left, top, right, bottom), outline=FRAME, width=line)
