"""Ink on a page that its words do not explain, in connected pieces.

A page has two kinds of marks that are neither print nor picture: long straight rules, and what hands and
stamps leave. This file takes away what is known and says what is left, a piece at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import PIL.Image
from PIL import ImageChops, ImageFilter

from pagelens.records import Page, Word

DARKER = 0.75
"""Of the paper around it: what is darker is ink."""
RULE = 24.0
"""Points: a straight run of ink this long, and thin, is a rule; strokes of letters are shorter."""
THIN = 2.5
"""Points: a rule is no thicker. A page that was copied has rules of 2."""
SURE = 0.6
"""Confidence of a word that explains the ink in its box."""
TALL, QUITE_SURE = 2.0, 0.9
"""Times the height of the page's middle word: of a box taller than that OCR must be this sure, it may be a
guess at something else."""
MOST_PIECES = 10_000
"""On a page; noise and halftones have more, and a page of them is not looked at further."""


@dataclass(frozen=True)
class Pieces:
    """Connected pieces of ink, by number from 0."""

    boxes: np.ndarray
    """Left, top, right, bottom in pixels, right and bottom exclusive; shape (pieces, 4)."""
    areas: np.ndarray
    """Pixels of ink; shape (pieces,)."""
    runs: np.ndarray
    """Row, first column, column after the last, piece; shape (runs, 4), by row and column."""


class Ink:
    """What is drawn on a page beside its words; looked at when somebody asks.

    Args:
        picture: The page as shown, RGB or L.
        page: Whose size in points it shows.
        words: What was read on it, in points.
    """

    def __init__(self, picture: PIL.Image.Image, page: Page, words: Sequence[Word]) -> None:
        self.scale = picture.width / page.width
        """Pixels a point."""
        self._picture, self._words = picture, words

    @cached_property
    def grey(self) -> np.ndarray:
        """0 black to 255 white, shape (height, width)."""
        return np.asarray(self._picture.convert("L"))

    @cached_property
    def colour(self) -> np.ndarray | None:
        """Red, green, blue, shape (height, width, 3); None of a page that has none."""
        if self._picture.mode == "L":
            return None
        return np.asarray(self._picture.convert("RGB"), dtype=np.int16)

    @cached_property
    def dark(self) -> np.ndarray:
        """Where ink is, bool, shape (height, width)."""
        return darkness(self._picture)

    @cached_property
    def rules(self) -> np.ndarray:
        """Pixels of thin straight lines, across or down, as `dark`."""
        lines: np.ndarray = _rules(self.dark, self.scale) | _rules(self.dark.T, self.scale).T
        return lines

    @cached_property
    def print(self) -> np.ndarray:
        """Pixels in the boxes of words that were surely read, as `dark`."""
        covered = np.zeros_like(self.dark)
        heights = sorted(word.box.height for word in self._words)
        tallest = TALL * heights[len(heights) // 2] if heights else 0.0
        for word in self._words:
            confidence = 1.0 if word.confidence is None else word.confidence
            if confidence >= (SURE if word.box.height <= tallest else QUITE_SURE):
                left, top, right, bottom = (round(edge * self.scale) for edge in word.box)
                covered[max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = True
        return covered

    @cached_property
    def free(self) -> np.ndarray:
        """Ink that neither words nor rules explain, as `dark`."""
        unexplained: np.ndarray = self.dark & ~self.rules & ~self.print
        return unexplained

    @cached_property
    def pieces(self) -> Pieces:
        """Of `free`."""
        return pieces(self.free)


def darkness(picture: PIL.Image.Image) -> np.ndarray:
    """Where a page is much darker, in any colour, than the paper around; bool, shape (height, width)."""
    if picture.mode == "L":
        darkest = picture
    else:
        red, green, blue = picture.convert("RGB").split()
        darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
    block = 8
    paper = darkest.reduce(block).filter(ImageFilter.MaxFilter(7)).filter(ImageFilter.BoxBlur(3))
    around = np.asarray(paper.resize(darkest.size, PIL.Image.Resampling.BILINEAR), dtype=np.float32)
    dark: np.ndarray = np.asarray(darkest, dtype=np.float32) < around * DARKER
    return dark


def runs(mask: np.ndarray) -> np.ndarray:
    """The unbroken stretches of each row: row, first column, column after the last.

    *Shape:* (runs, 3), by row and column.

    >>> runs(np.array([[0, 1, 1, 0], [1, 0, 0, 1]], bool)).tolist()
    [[0, 1, 3], [1, 0, 1], [1, 3, 4]]
    """
    height, width = mask.shape
    edged = np.zeros((height, width + 2), np.int8)
    edged[:, 1:-1] = mask
    change = np.flatnonzero(np.diff(edged.ravel()))  # rows end in 0, so no run crosses into the next
    row, column = np.divmod(change, width + 2)
    found: np.ndarray = np.stack([row[0::2], column[0::2], column[1::2]], axis=1)
    return found


def pieces(mask: np.ndarray, most: int | None = None) -> Pieces:
    """The 8-connected components of a mask.

    Runs of neighbouring rows that touch are one piece; each run points to the first one known of its piece,
    and the pointers are shortened until nothing changes (Shiloach and Vishkin, 1982).
    """
    found = runs(mask)
    row, first, last = found.T
    starts = np.searchsorted(row, np.arange(mask.shape[0] + 1))
    # For each run those of the next row that begin before it ends, without those that end before it begins.
    wide = mask.shape[1] + 2
    low = np.searchsorted(row * wide + last, (row + 1) * wide + first, side="left")
    high = np.searchsorted(row * wide + first, (row + 1) * wide + last, side="right")
    below = np.minimum(row + 1, mask.shape[0])
    low = np.maximum(low, starts[below])
    high = np.minimum(high, starts[np.minimum(below + 1, mask.shape[0])])
    count = np.maximum(0, high - low)
    above = np.repeat(np.arange(len(found)), count)
    under = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(low, count)
    parent = np.arange(len(found))
    while True:
        one, other = parent[above], parent[under]
        if not (one != other).any():
            break
        np.minimum.at(parent, np.maximum(one, other), np.minimum(one, other))
        while True:
            shorter = parent[parent]
            if (shorter == parent).all():
                break
            parent = shorter
    names, piece = np.unique(parent, return_inverse=True)
    number = len(names)
    boxes = np.empty((number, 4), int)
    boxes[:, :2], boxes[:, 2:] = max(mask.shape), 0
    for edge, values, least in ((0, first, True), (1, row, True), (2, last, False), (3, row + 1, False)):
        (np.minimum if least else np.maximum).at(boxes[:, edge], piece, values)
    areas = np.bincount(piece, weights=last - first, minlength=number).astype(int)
    return Pieces(boxes, areas, np.column_stack([found, piece]))


def _rules(dark: np.ndarray, scale: float) -> np.ndarray:
    """Pixels of runs along the rows that are long, where they are thin."""
    long = runs(dark)
    lines = filled(dark.shape, long[long[:, 2] - long[:, 1] >= RULE * scale])
    if not lines.any():
        return lines
    # One row more on either side: the edge of a scanned rule is ragged.
    edge = lines.copy()
    edge[1:] |= lines[:-1]
    edge[:-1] |= lines[1:]
    edge &= dark
    down = runs(edge.T)
    thin = filled(dark.T.shape, down[down[:, 2] - down[:, 1] <= THIN * scale]).T
    # Ink that goes on above and below crosses the rule and stays.
    beyond = dark & ~edge
    high = int(THIN * scale) + 1
    above, below = np.zeros_like(dark), np.zeros_like(dark)
    for step in range(1, high + 1):
        above[step:] |= beyond[:-step]
        below[:-step] |= beyond[step:]
    kept: np.ndarray = thin & ~(above & below)
    return kept


def filled(shape: tuple[int, ...], stretches: np.ndarray) -> np.ndarray:
    """The mask whose runs are `stretches`, which neither overlap nor touch.

    >>> filled((2, 3), np.array([[1, 0, 2]])).astype(int).tolist()
    [[0, 0, 0], [1, 1, 0]]
    """
    edges = np.zeros((shape[0], shape[1] + 1), np.int8)
    edges[stretches[:, 0], stretches[:, 1]] += 1
    edges[stretches[:, 0], stretches[:, 2]] -= 1
    return np.cumsum(edges, axis=1, dtype=np.int8)[:, :-1].astype(bool)
