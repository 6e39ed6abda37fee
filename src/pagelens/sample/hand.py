"""What a hand leaves on paper: signatures, initials, ticks."""

from __future__ import annotations

from pagelens.sample.sheet import Ink, Sheet

PEN: Ink = (32, 48, 130)
"""A ball-point pen's blue."""
FOUNTAIN_PEN: Ink = (40, 40, 44)

TALL, DEEP = "bdfhklt", "gjpqyz"
SLANT = 0.35
"""To the right, in widths a height."""


def sign(sheet: Sheet, x: float, y: float, name: str, size: float = 16, ink: Ink = PEN) -> None:
    """Write `name` as nobody can read it: a loop a letter, tall or deep as the letter is, and a flourish.

    Args:
        sheet: What is signed.
        x: Where the pen is set down.
        y: The base line.
        name: First and last name; each is one stroke.
        size: Height of a capital in points.
        ink: Of the pen.
    """
    for part in name.split():
        points: list[tuple[float, float]] = []
        for number, letter in enumerate(part):
            up = 1.0 if letter.isupper() else 0.85 if letter in TALL else 0.34 - 0.02 * (number % 3)
            down = 0.55 if letter in DEEP else 0.0
            wide = size * (0.62 if letter.isupper() else 0.34)
            # up on the right, over the top to the left, down, and on to the next letter
            for across, rise in (
                (0.35, up * 0.45),
                (0.95, up * 0.92),
                (0.6, up),
                (0.3, up * 0.5),
                (0.5, -down),
            ):
                points.append((x + wide * across + SLANT * size * rise, y - size * rise))
            x += wide
        points.append((x + size * 0.9, y - size * 0.28))
        sheet.curve(points, 0.9, ink)
        x += size * 0.75
    sheet.curve(
        [(x - size * 0.2, y + size * 0.1), (x - size * 2.6, y + size * 0.42), (x, y + size * 0.22)], 0.8, ink
    )


def tick(sheet: Sheet, x: float, y: float, size: float = 9, ink: Ink = PEN) -> None:
    """Cross a box whose top left is (x, y), a little over its edges."""
    over = size * 0.15
    sheet.curve(
        [(x - over, y), (x + size * 0.55, y + size * 0.45), (x + size + over, y + size + over)], 1.1, ink
    )
    sheet.curve([(x + size, y - over), (x + size * 0.5, y + size * 0.6), (x - over, y + size)], 1.1, ink)
