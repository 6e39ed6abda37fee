"""Figures of a page, and which of them are charts, tables or text: small tests on pixels and words.

A chart is drawn with few flat colours on an even ground, has lines along and across, and numbers that stand
in a row or a column: its ticks. A photograph has many colours; a drawing or a diagram has no row of numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
import PIL.Image

from pagelens.ingest.ink import Ink, pieces
from pagelens.records import Box, Word

FEATURES: Mapping[str, str] = {
    "numbers": "share of numbers among the words in it",
    "ticks": "logarithm of the numbers that stand in its fullest row or column of numbers",
    "series": "share of those among all its numbers",
    "ground": "share of its pixels that have its most common colour",
    "flat": "share of its pixels, the ground left out, whose neighbours have the same colour",
    "lines": "logarithm of the straight lines through at least a third of it",
}
"""What is measured inside a figure."""
WEIGHTS: Mapping[str, float] = {
    "numbers": 3.3,
    "ticks": 0.87,
    "series": 0.91,
    "ground": 5.3,
    "flat": 4.9,
    "lines": 0.59,
}
THRESHOLD = 7.5
"""A logistic model: a figure is a chart as likely as the weighted sum is over this. Fitted to 116
charts and 80 other figures, evidence boxes of `mmdocir-dev` and pages of `opencqa-dev`; out of fold 79% of
the charts were known and 21% of the others taken for one. `benchmarks/chart_weights.py` fits them anew."""
SIDE = 200
"""Pixels of the longer side of the picture that is measured: a chart is one at any scale."""
CELL = 6.0
"""Points: ink this near to other ink is drawn together with it."""
LEAST = 100.0, 70.0
"""Points across and down of what is taken for a figure by its ink alone."""
MOST = 0.9
"""Of the page, which is no figure on itself."""
LEAST_DRAWN = 0.12
"""Of such a figure's cells that have ink, at least: a form of rules has less."""
UNRULED = 0.7
"""Of the ink of what is taken for a figure by its ink alone, at least, that is no rule. Forms of `fara-dev`
have .6 and less, figures of `mmdocir-dev` and `opencqa-dev` .77 and more."""
LEVELS = 6
"""Levels of each of red, green and blue that count as different colours."""
ALIGNED = 0.02
"""Of the figure's width or height: numbers whose middles or edges are no further apart stand in a row."""
WORDY = 0.4
"""Of a figure that words cover, at most; charts of `mmdocir-dev` and `opencqa-dev` have .36 and less."""
PROSE_WORDS, PROSE_LINES, PROSE_SHARE = 8, 7, 0.6
"""Words of a line of prose; such lines of what is text and no figure, and the share of its words in them, at
least. Charts of `mmdocir-dev` have up to six, forms and screenshots that look alike have more."""
ROWS, ROW_SHARE = 5, 0.2
"""Lines of a table without rules, at least, that begin with words and have a number further right; of all its
lines. Read off `mmdocir-dev`, where bars that bear their names and values have up to four such lines."""
APART = 0.15
"""Of the figure's width, at least, between those words and that number."""
NUMBER = re.compile(r"[(+\-−–]?[$€£¥]?\d[\d.,:/]*\s?[%kKmMbBxX)]?[)]?")


def chart_likelihood(figure: PIL.Image.Image, words: Sequence[Word], box: Box) -> float:
    """How likely a figure is a chart, 0..1; arguments as `measure`."""
    measured = measure(figure, words, box)
    total = sum(weight * measured[name] for name, weight in WEIGHTS.items()) - THRESHOLD
    return 1 / (1 + math.exp(-total))


def kind_by_words(words: Sequence[Word], box: Box) -> Literal["table", "text"] | None:
    """What looks like a figure, and its words tell is none: a table without rules, or text.

    Args:
        words: Of the page, those in the figure.
        box: Of the figure in points.
    """
    lines: dict[int, list[Word]] = {}
    for word in words:
        lines.setdefault(word.line, []).append(word)
    rows = sum(_is_row(line, APART * box.width) for line in lines.values())
    if rows >= max(ROWS, ROW_SHARE * len(lines)):
        return "table"
    covered = sum(word.box.width * word.box.height for word in words) / (box.width * box.height)
    prose = [len(line) for line in lines.values() if len(line) >= PROSE_WORDS]
    if covered > WORDY or (len(prose) >= PROSE_LINES and sum(prose) >= PROSE_SHARE * len(words)):
        return "text"
    return None


def _is_row(line: Sequence[Word], apart: float) -> bool:
    """Whether a line begins with a label and has a number further right."""
    first = min(line, key=lambda word: word.box.left)
    numbers = (word for word in line if NUMBER.fullmatch(word.text))
    return any(letter.isalpha() for letter in first.text) and any(
        word.box.left > first.box.right + apart for word in numbers
    )


def drawn_areas(ink: Ink) -> Iterator[Box]:
    """Where a page is drawn on: parts with much ink that words do not explain, in points.

    For a scan, where the file says nothing and no layout model may be there.
    """
    height, width = ink.dark.shape
    cell = max(1, round(CELL * ink.scale))
    rows, columns = height // cell, width // cell
    if not rows or not columns:
        return
    drawn = (ink.dark & ~ink.print)[: rows * cell, : columns * cell]
    grid = drawn.reshape(rows, cell, columns, cell).any(axis=(1, 3))
    found = pieces(grid)
    for (left, top, right, bottom), area in zip(found.boxes.tolist(), found.areas.tolist(), strict=True):
        points = [edge * cell / ink.scale for edge in (left, top, right, bottom)]
        box = Box(*points)
        large = box.width >= LEAST[0] and box.height >= LEAST[1]
        page = box.width * box.height >= MOST * (width / ink.scale) * (height / ink.scale)
        if large and not page and area >= LEAST_DRAWN * (right - left) * (bottom - top):
            yield box


def is_ruled(ink: Ink, box: Box) -> bool:
    """Whether what is drawn in a box is mostly rules, as in a form or the grid of a table."""
    left, top, right, bottom = (round(edge * ink.scale) for edge in box)
    inside = slice(top, bottom), slice(left, right)
    drawn = ink.dark[inside] & ~ink.print[inside]
    return bool(ink.free[inside].sum() < UNRULED * drawn.sum())


def measure(figure: PIL.Image.Image, words: Sequence[Word], box: Box) -> dict[str, float]:
    """`FEATURES` of a figure.

    Args:
        figure: Its picture, RGB or L.
        words: Of the page, those in and right beside the figure.
        box: Of the figure in points.
    """
    scale = SIDE / max(figure.size)
    size = max(8, round(figure.width * scale)), max(8, round(figure.height * scale))
    pixels = np.asarray(figure.convert("RGB").resize(size, PIL.Image.Resampling.BOX), dtype=np.int32)
    steps = np.clip((pixels * LEVELS) // 256, 0, LEVELS - 1)
    colour = (steps[..., 0] * LEVELS + steps[..., 1]) * LEVELS + steps[..., 2]
    ground = colour == np.bincount(colour.ravel()).argmax()
    change = np.abs(np.diff(pixels, axis=0, prepend=pixels[:1])).sum(axis=2) + np.abs(
        np.diff(pixels, axis=1, prepend=pixels[:, :1])
    ).sum(axis=2)
    drawn = ~ground
    numbers = [word for word in words if NUMBER.fullmatch(word.text)]
    row = _fullest(numbers, box)
    return {
        "numbers": len(numbers) / max(1, len(words)),
        "ticks": math.log1p(row),
        "series": row / max(1, len(numbers)),
        "ground": float(ground.mean()),
        "flat": float((change[drawn] <= 12).mean()) if drawn.any() else 0.0,
        "lines": math.log1p(_lines(pixels)),
    }


def _fullest(numbers: Sequence[Word], box: Box) -> int:
    """How many numbers stand in the fullest row or column; a lone one is none."""
    best = 0
    for low, high, span in (("left", "right", box.width), ("top", "bottom", box.height)):
        for place in (
            [getattr(word.box, low) for word in numbers],
            [getattr(word.box, high) for word in numbers],
            [(getattr(word.box, low) + getattr(word.box, high)) / 2 for word in numbers],
        ):
            places = sorted(place)
            near = max(ALIGNED * span, 1.5)
            ends = np.searchsorted(places, np.array(places) + near, side="right")
            best = max([best, *(int(end) - i for i, end in enumerate(ends))])
    return best if best > 1 else 0


def _lines(pixels: np.ndarray) -> int:
    """Rows and columns along which an edge runs straight for a third of the figure."""
    grey = pixels.mean(axis=2)
    found = 0
    for axis in (0, 1):
        edge = np.abs(np.diff(grey, axis=axis)) > 24
        share = edge.mean(axis=1 - axis)
        strong = share > 1 / 3
        found += int((strong[1:] & ~strong[:-1]).sum()) + int(strong[:1].sum())
    return found
