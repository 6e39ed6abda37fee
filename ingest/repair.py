"""How the text lines of a scan lie, from its picture alone.

Projection profiles: seen along its lines, a page is stripes of text and gaps; seen at any other angle it
blurs (W. Postl, "Detection of linear oblique structures and skew scan in digitized documents", ICPR 1986).
What cannot be told this way is up from down; `reading` reads the page to know.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import PIL.Image

LONG_SIDE = 1000
"""Pixels that a picture is reduced to: its lines are still lines, and a page takes 15 ms."""
WIDEST = 10.0
"""Degrees of skew that are looked for, both ways."""
STRIPED = 10.0
"""Contrast of a page that has lines of text; below it nothing is said about skew."""
DISTINCT = 1.5
"""How many times sharper one direction is than the other before it is taken for the lines'."""
EDGES = 200, 20_000
"""Lower edges of strokes: without as many there is nothing to measure; of more a part will do."""


class Lines(NamedTuple):
    """The text lines of a picture."""

    sideways: bool
    """They run from top to bottom rather than from left to right."""
    distinct: bool
    """Which of the two is beyond doubt."""
    skew: float
    """Degrees by which the picture must be turned counter-clockwise to make them straight; 0 in doubt."""


def find_lines(picture: PIL.Image.Image) -> Lines:
    """Direction and skew of the text lines of a picture (RGB or L)."""
    grey = picture.convert("L")
    pixels = np.asarray(grey.reduce(max(1, round(max(grey.size) / LONG_SIDE))), dtype=np.int16)
    (across, skew), (down, lean) = _sharpest(pixels), _sharpest(np.rot90(pixels))
    sideways = down > across
    contrast, other, angle = (down, across, lean) if sideways else (across, down, skew)
    striped = contrast >= STRIPED
    return Lines(sideways, striped and contrast >= DISTINCT * other, angle if striped else 0.0)


def _sharpest(pixels: np.ndarray) -> tuple[float, float]:
    """How much sharper the stripes are at the best angle than at the middling one, and that angle."""
    y, x = np.nonzero(pixels[1:] - pixels[:-1] > 32)  # dark over light: base lines above all
    few, many = EDGES
    if len(y) < few:
        return 1.0, 0.0
    every = len(y) // many + 1
    y, x = y[::every], x[::every]

    def sharpness(degrees: float) -> float:
        angle = np.radians(degrees)
        rows = np.floor(y * np.cos(angle) - x * np.sin(angle)).astype(np.intp)
        stripes = np.bincount(rows - rows.min()).astype(float)
        return float((np.diff(stripes) ** 2).sum())

    coarse = {float(angle): sharpness(angle) for angle in np.arange(-WIDEST, WIDEST + 0.1, 0.5)}
    near = max(coarse, key=coarse.__getitem__)
    fine = {round(float(angle), 1): sharpness(angle) for angle in np.arange(near - 0.5, near + 0.55, 0.1)}
    best = max(fine, key=fine.__getitem__)
    return fine[best] / max(1.0, float(np.median(list(coarse.values())))), best
