"""Where on a page a question is answered: similarities of tokens and patches, as places in points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pagelens.records import Box, Page

if TYPE_CHECKING:
    import PIL.Image

    # it loads torch
    from pagelens.encoders.visual import Grid


RED, TINT = (255, 64, 0), 0.6
"""What warm places are tinted with, and how much of it the warmest has."""


@dataclass(frozen=True)
class Heatmap:
    """How near each place of a page is to a question, or to one word of it.

    Every model stretches a page over its patches, so that a patch is a cell of a regular grid over the page
    as shown. Of a model that looks twice, the finer look.
    """

    page: Page
    values: np.ndarray
    """Cosine, *shape:* (rows, columns), from the top left."""

    def box(self, row: int, column: int) -> Box:
        """A patch's place on the page."""
        rows, columns = self.values.shape
        width, height = self.page.width / columns, self.page.height / rows
        return Box(column * width, row * height, (column + 1) * width, (row + 1) * height)

    def over(self, image: PIL.Image.Image) -> PIL.Image.Image:
        """A copy of the page image, RGB, with the warmer half of its places tinted, the warmest most.

        The page shines through: the tint is seen on dark paper, and what is written can be read.
        """
        import PIL.Image

        warm = (self.warmth - 0.5).clip(0) * 2
        mask = PIL.Image.fromarray(np.round(warm * TINT * 255).astype(np.uint8))
        mask = mask.resize(image.size, PIL.Image.Resampling.BILINEAR)
        return PIL.Image.composite(PIL.Image.new("RGB", image.size, RED), image.convert("RGB"), mask)

    def regions(self, least: float = 0.75) -> list[tuple[Box, float]]:
        """Neighbouring patches that are warm, as one box each, warmest first, with their highest warmth.

        Args:
            least: Warmth, 0..1, from which a patch counts.
        """
        warm = self.warmth
        left = (
            {(int(row), int(column)) for row, column in np.argwhere(warm >= least)} if warm.any() else set()
        )
        found = []
        while left:
            growing, region = [left.pop()], []
            while growing:
                row, column = place = growing.pop()
                region.append(place)
                near = {(row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)} & left
                left -= near
                growing += near
            box = Box.around(self.box(*place) for place in region)
            found.append((box, float(max(warm[place] for place in region))))
        return sorted(found, key=lambda each: (-each[1], each[0]))

    def warmest(self, count: int = 5) -> list[tuple[Box, float]]:
        """The patches nearest to the question, nearest first, with their cosine."""
        order = np.argsort(-self.values, axis=None, kind="stable")[:count]
        places = [divmod(int(place), self.values.shape[1]) for place in order]
        return [(self.box(row, column), float(self.values[row, column])) for row, column in places]

    @property
    def warmth(self) -> np.ndarray:
        """The values from 0, the coldest place of the page, to 1, the warmest; all 0 where none differs."""
        low, high = float(self.values.min()), float(self.values.max())
        scaled: np.ndarray = (self.values - low) / (high - low) if high > low else np.zeros_like(self.values)
        return scaled


def similarities(query: np.ndarray, patches: np.ndarray, grid: Grid) -> np.ndarray:
    """Cosine of every token and every patch of the finest grid.

    Args:
        query: *Shape:* (tokens, size), lengths of 1.
        patches: *Shape:* (patches, size), lengths of 1, in the order of `grid`.
        grid: As `Patches.grid`.

    Returns:
        *Shape:* (tokens, rows, columns).
    """
    sizes = [rows * columns for rows, columns in grid]
    finest = int(np.argmax(sizes))
    start = sum(sizes[:finest])
    found: np.ndarray = query @ patches[start : start + sizes[finest]].T
    return found.reshape(len(query), *grid[finest])


def maxsim(query: np.ndarray, patches: np.ndarray) -> float:
    """For each token its nearest patch, added up (ColBERT, arXiv 2004.12832, equation 3)."""
    return float((query @ patches.T).max(axis=1).sum())
