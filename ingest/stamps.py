"""Stamps: coloured ink of one hue with a frame or ring around it, and blocks of print that lie sideways."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pagelens.ingest.ink import Ink, Pieces, pieces
from pagelens.records import Box

SATURATION = 48
"""Difference between the strongest and the weakest of red, green, blue, 0..255, of coloured ink."""
MOST_COLOUR = 0.03
"""Of a page: where more is coloured it is a picture, not paper that was stamped."""
SIZE = 36.0, 260.0
"""Points: the longer side of a stamp."""
THINNEST = 18.0
"""Points: its shorter side."""
FRAME = 0.75
"""Of a stamp's width and height that its frame or ring spans."""
HOLLOW = 0.3
"""Of a frame's box that is ink, at most."""
LEAST_PIECES = 4
"""Inside the frame, of the size of letters."""
GAP = 5.0
"""Points between the pieces of one stamp."""
LETTER = 3.0, 16.0
"""Points: the longer side of a letter, in a block of print that OCR did not read."""
LETTERS, MOST_LETTERS = 16, 1000
"""Of such a block, at least; on the page, at most: more is a page that was not read, or noise."""
SIDEWAYS = 1.4
"""Height over width of a block that lies sideways, at least. OCR reads none, and hardly ever is print set so:
what stands upright may be any line that it could not read."""
CLEAR = 0.5
"""Other free ink within a letter's size around such a block, over its own, at most."""
HUE = 40.0
"""Of a stamp's ink: mean distance of red, green and blue from its own mean, at most."""


class Stamped(NamedTuple):
    """A stamp."""

    box: Box
    confidence: float


def find_stamps(ink: Ink) -> list[Stamped]:
    """Stamps on a scanned page."""
    return [*_framed(ink), *_sideways(ink)]


def _framed(ink: Ink) -> list[Stamped]:
    if ink.colour is None:
        return []
    coloured = ink.dark & (ink.colour.max(axis=2) - ink.colour.min(axis=2) >= SATURATION)
    if not 0 < coloured.mean() <= MOST_COLOUR:
        return []
    found = pieces(coloured)
    stamps = []
    for members in _together(found, ink.scale, np.full(len(found.areas), True)):
        box = _around(found, members)
        sides = found.boxes[members, 2:] - found.boxes[members, :2]
        spans = (sides >= FRAME * (box[2:] - box[:2])).all(axis=1)
        hollow = found.areas[members] <= HOLLOW * sides.prod(axis=1)
        letters = (sides.max(axis=1) >= LETTER[0] * ink.scale) & ~spans
        inks = ink.colour[box[1] : box[3], box[0] : box[2]][coloured[box[1] : box[3], box[0] : box[2]]]
        one_hue = np.abs(inks - inks.mean(axis=0)).mean() <= HUE
        if _fits(box, ink.scale) and (spans & hollow).any() and letters.sum() >= LEAST_PIECES and one_hue:
            stamps.append(Stamped(_points(box, ink.scale), 0.8))
    return stamps


def _sideways(ink: Ink) -> list[Stamped]:
    found, scale = ink.pieces, ink.scale
    longer = (found.boxes[:, 2:] - found.boxes[:, :2]).max(axis=1, initial=0)
    letters = (longer >= LETTER[0] * scale) & (longer <= LETTER[1] * scale)
    if letters.sum() > MOST_LETTERS:
        return []
    stamps = []
    margin = int(LETTER[1] * scale)
    for members in _together(found, scale, letters):
        left, top, right, bottom = box = _around(found, members)
        area = found.areas[members].sum()
        around = ink.free[max(0, top - margin) : bottom + margin, max(0, left - margin) : right + margin]
        sideways = bottom - top >= SIDEWAYS * (right - left)
        if len(members) >= LETTERS and _fits(box, scale) and sideways and around.sum() <= (1 + CLEAR) * area:
            stamps.append(Stamped(_points(box, scale), 0.5))
    return stamps


def _together(found: Pieces, scale: float, wanted: np.ndarray) -> list[np.ndarray]:
    """Pieces whose boxes are nearer than `GAP`, by group: boxes on a coarse grid, whose cells touch."""
    numbers = np.flatnonzero(wanted)
    cells = (found.boxes[numbers] / (GAP * scale)).astype(int)
    if not len(numbers):
        return []
    grid = np.zeros((cells[:, 3].max() + 1, cells[:, 2].max() + 1), bool)
    for left, top, right, bottom in cells:
        grid[top : bottom + 1, left : right + 1] = True
    groups = pieces(grid)
    owner = np.zeros(grid.shape, int)
    for row, first, last, group in groups.runs:
        owner[row, first:last] = group
    of = owner[cells[:, 1], cells[:, 0]]
    return [numbers[of == group] for group in range(len(groups.areas))]


def _around(found: Pieces, members: np.ndarray) -> np.ndarray:
    boxes = found.boxes[members]
    return np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])


def _fits(box: np.ndarray, scale: float) -> bool:
    shorter, longer = sorted((box[2:] - box[:2]) / scale)
    return bool(SIZE[0] <= longer <= SIZE[1] and shorter >= THINNEST)


def _points(box: Sequence[float] | np.ndarray, scale: float) -> Box:
    return Box(*(float(edge) / scale for edge in box))
