"""What a scanner does to a page: a little skew, soft edges, noise, a shadow, paper that is not white."""

from __future__ import annotations

import numpy as np
import PIL.Image
import PIL.ImageFilter


def scan(page: PIL.Image.Image, random: np.random.Generator) -> PIL.Image.Image:
    """The page as a worn office scanner gives it: greyscale, same size.

    Args:
        page: Clean, greyscale, black on white.
        random: Decides skew (up to .7 degrees), noise and the side of the shadow.
    """
    skew = random.uniform(-0.7, 0.7)
    page = page.rotate(skew, PIL.Image.Resampling.BICUBIC, fillcolor=255)
    page = page.filter(PIL.ImageFilter.GaussianBlur(random.uniform(0.5, 0.8)))
    grey = np.asarray(page, np.float32)
    height, width = grey.shape
    paper = random.uniform(0.93, 0.97)
    across = np.linspace(0, 1, width, dtype=np.float32)
    if random.random() < 0.5:
        across = across[::-1]
    shadow = paper - 0.25 * np.clip((across - 0.92) / 0.08, 0, 1) ** 2  # the book's spine, or the lid's edge
    noise = random.standard_normal((height // 2 + 1, width // 2 + 1), dtype=np.float32)
    grain = noise.repeat(2, 0).repeat(2, 1)[:height, :width] * 5
    specks = random.random((height, width), dtype=np.float32) < 2e-5
    grey = np.where(specks, 60, grey * shadow + grain)
    return PIL.Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
