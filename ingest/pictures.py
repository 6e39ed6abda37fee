"""Pictures on a page that has its own text, of which that text says nothing: they are read by OCR.

A chart pasted as an image, a title drawn as paths, a letter scanned into a report: whoever takes the text
layer of such a page for all that it says loses these words and does not know.
"""

from __future__ import annotations

from collections.abc import Iterable

import PIL.Image
from PIL import ImageDraw

from pagelens.records import Box, Drawn, PageText, Word

LEAST = 60.0, 24.0
"""Points across and down of a picture that is read; a logo or an icon is smaller."""
FEW = 3
"""Words of the layer in a picture: from so many on they say what stands in it."""


def silent_pictures(drawn: Iterable[Drawn], layer: PageText) -> list[Box]:
    """Images and drawings in which the layer has next to no words, in points.

    Args:
        drawn: What the file says is on the page.
        layer: What its text layer says.
    """
    boxes = [each.box for each in drawn if each.kind in ("image", "drawing")]
    large = [box for box in boxes if box.width >= LEAST[0] and box.height >= LEAST[1]]
    return [box for box in large if len(layer.within(box)) < FEW]


def alone(page: PIL.Image.Image, boxes: Iterable[Box], words: Iterable[Word], dpi: float) -> PIL.Image.Image:
    """A page of which only these pictures are left, without the words that the layer has in them.

    Args:
        page: As shown.
        boxes: Of the pictures, in points.
        words: Of the layer.
        dpi: Of `page`.
    """
    left = PIL.Image.new(page.mode, page.size, "white")
    for box in boxes:
        edges = _pixels(box, dpi)
        left.paste(page.crop(edges), edges)
    draw = ImageDraw.Draw(left)
    for word in words:
        draw.rectangle(_pixels(word.box, dpi), "white")
    return left


def _pixels(box: Box, dpi: float) -> tuple[int, int, int, int]:
    left, top, right, bottom = (round(edge * dpi / 72) for edge in box)
    return left, top, right, bottom
