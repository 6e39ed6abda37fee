"""What a scanner does to a sheet: skew, soft edges, tinted paper, shadow, noise, dust; and where words go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, radians, sin
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import PIL.ImageChops
import PIL.ImageDraw
import PIL.ImageFilter

from pagelens.records import Box
from pagelens.sample.sheet import Ink, Sheet

if TYPE_CHECKING:
    from numpy.random import Generator

SKEW = 0.7
"""Degrees at most, either way: what a feeder does to a sheet that is put in with care."""
LID: Ink = (188, 188, 190)
"""What is seen beside a skewed sheet."""


@dataclass(frozen=True, slots=True)
class Scan:
    """One scanned page."""

    image: PIL.Image.Image
    """RGB or, from a grey scanner, L."""
    skew: float
    """Degrees, counter-clockwise."""
    width: float
    """Of the sheet, in points."""
    height: float

    def place(self, box: Box) -> Box:
        """Where a box of the sheet lies on the scan: the upright box around the turned one, in points.

        Seen from the sheet's own way up, also when the scan was fed upside down: half a turn before a skew
        and back after it leaves the skew.
        """
        x, y = self.width / 2, self.height / 2
        along, across = cos(radians(self.skew)), sin(radians(self.skew))
        corners = [(left - x, top - y) for left in (box.left, box.right) for top in (box.top, box.bottom)]
        turned = [(x + a * along + b * across, y - a * across + b * along) for a, b in corners]
        return Box.around(Box(a, b, a, b) for a, b in turned)


@dataclass(frozen=True, slots=True)
class Scanner:
    """A machine and the paper put into it."""

    colour: bool = False
    dpi: int = 200
    paper: Ink = (246, 245, 241)
    blur: float = 0.7
    """Pixels to each side of one that show in it."""
    grain: float = 4.5
    """Standard deviation of the noise in grey levels."""
    dust: bool = False
    """A grain on the glass of the feeder draws a pale line down every page."""
    holes: bool = False
    """The sheets were filed: two holes 80 mm apart at the left edge (ISO 838)."""

    def scan(self, sheets: Sequence[Sheet], random: Generator, upside_down: Sequence[int] = ()) -> list[Scan]:
        """Scan a pile of sheets.

        Args:
            sheets: Given up by it, as `Sheet.render` says.
            random: Decides skew, noise, specks and the side of the shadow.
            upside_down: Numbers from 0 of sheets fed the wrong way round.
        """
        streak = random.uniform(0.15, 0.85)
        return [
            self._scan(sheet, random, streak, number in upside_down) for number, sheet in enumerate(sheets)
        ]

    def _scan(self, sheet: Sheet, random: Generator, streak: float, upside_down: bool) -> Scan:
        skew = float(random.uniform(-SKEW, SKEW))
        page = sheet.render(self.dpi).convert("RGB" if self.colour else "L")
        lid = LID if self.colour else LID[0]
        if self.holes:
            page.paste(lid, mask=_holes(page.size, self.dpi))
        if upside_down:
            page = page.transpose(PIL.Image.Transpose.ROTATE_180)
        page = page.rotate(skew, PIL.Image.Resampling.BILINEAR, fillcolor=lid)
        page = page.filter(PIL.ImageFilter.BoxBlur(self.blur))
        light = PIL.Image.fromarray(self._light(page.size, random, streak))
        light = PIL.Image.merge(
            page.mode, [light.point(_dimmed(level)) for level in self.paper[: len(page.getbands())]]
        )
        noise = PIL.Image.fromarray(self._noise(page.size, random)).convert(page.mode)
        image = PIL.ImageChops.add(PIL.ImageChops.multiply(page, light), noise, 1, -128)
        return Scan(image, skew, sheet.width, sheet.height)

    def _light(self, size: tuple[int, int], random: Generator, streak: float) -> np.ndarray:
        """How much light falls on the paper, 0..255: the shadow at one side, the dust."""
        width, height = size
        across = np.linspace(0, 1, width, dtype=np.float32)
        if random.random() < 0.5:
            across = across[::-1]
        down = np.linspace(random.uniform(0.97, 1), random.uniform(0.97, 1), height, dtype=np.float32)
        light = 1 - 0.28 * np.clip((across - 0.93) / 0.07, 0, 1) ** 2
        if self.dust:
            at = round(streak * width)
            light[at : at + 2] *= 0.86
        return np.outer(255 * down, light).astype(np.uint8)

    def _noise(self, size: tuple[int, int], random: Generator) -> np.ndarray:
        """Grain, coarser than a pixel as after a scanner's own smoothing, and dark specks; 128 for none."""
        width, height = size
        small = random.standard_normal((height // 2 + 1, width // 2 + 1), dtype=np.float32)
        grain = PIL.Image.fromarray(np.clip(128 + 1.5 * self.grain * small, 0, 255).astype(np.uint8))
        noise = np.array(grain.resize((width, height), PIL.Image.Resampling.BILINEAR))
        specks = random.integers(0, width * height, round(width * height * 1e-5))
        noise.flat[specks] = 20
        return noise


def _dimmed(level: int) -> list[int]:
    """A table for `Image.point`: what paper of this grey level sends back of each level of light."""
    return [light * level // 255 for light in range(256)]


def _holes(size: tuple[int, int], dpi: int) -> PIL.Image.Image:
    """A mask with two holes of 6 mm, 12 mm from the left, 80 mm apart around the middle of the height."""
    mm, mask = dpi / 25.4, PIL.Image.new("L", size)
    for side in (-1, 1):
        PIL.ImageDraw.Draw(mask).circle((12 * mm, size[1] / 2 + side * 40 * mm), 3 * mm, fill=255)
    return mask
