"""A few plots as SVG inside a page: no script, no style of their own; colours are those of `STYLE`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from pagelens.gallery import escaped

WIDTH, HEIGHT = 640, 240
"""Of a plot, in its own units; it fills the width it is given."""
SQUARE = 360
"""Width of what is 0..1 both ways."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 12, 34
"""What is left free around the axes, for their labels."""
_ROW = 26
"""Height of a row of `whiskers`."""
_SIGN = 7
"""Width of a letter, more than less."""

STYLE = """
.plot { display: block; width: 100%; height: auto; margin: 4px 0 20px; font-size: 12px; }
.plot text { fill: currentColor; opacity: .75; }
.plot .axis { stroke: currentColor; opacity: .3; }
.plot .up { fill: #2e9d5b; } .plot .down { fill: #c8553d; } .plot .dot { fill: #3b82d0; }
.plot .line { fill: none; stroke: #3b82d0; stroke-width: 2; }
.plot .limit { fill: none; stroke: #d98c00; stroke-width: 2; stroke-dasharray: 5 4; }
.plot .band { fill: #3b82d0; opacity: .15; } .plot .whisker { stroke: #3b82d0; stroke-width: 2; }
"""


class Whisker(NamedTuple):
    """A value and its interval."""

    label: str
    mean: float
    low: float
    high: float


def differences(values: Sequence[float], label: str) -> str:
    """A bar a question, best first, ties in the middle; `label` says of what."""
    ordered = sorted(values, reverse=True)
    most = max((abs(each) for each in ordered), default=0.0) or 1.0
    y = _Scale(-most, most)
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(ordered))
    bars = [
        f'<rect class="{"up" if each > 0 else "down"}" x="{_LEFT + step * place:.2f}" '
        f'y="{y(max(each, 0)):.1f}" width="{max(0.5, step * 0.9):.2f}" height="{abs(y(each) - y(0)):.1f}"/>'
        for place, each in enumerate(ordered)
        if each
    ]
    return _plot(HEIGHT, label, [*_level(y, [-most, 0.0, most]), *bars])


def sweep(rows: Sequence[Whisker], limits: Sequence[float], label: str) -> str:
    """Values along a row of settings, their intervals as a band, and the limit above them, dashed."""
    low = min([each.low for each in rows] + [each.mean for each in rows])
    high = max(*limits, *(each.mean for each in rows))
    low, high = low - 0.05 * (high - low), high + 0.05 * (high - low)
    y = _Scale(low, high if high > low else low + 1)
    xs = [
        _LEFT + 20 + (WIDTH - _LEFT - _RIGHT - 40) * place / max(1, len(rows) - 1)
        for place in range(len(rows))
    ]
    edge = [(x, y(each.high)) for x, each in zip(xs, rows, strict=True)]
    edge += [(x, y(each.low)) for x, each in reversed(list(zip(xs, rows, strict=True)))]
    line = [(x, y(each.mean)) for x, each in zip(xs, rows, strict=True)]
    dashed = [(x, y(each)) for x, each in zip(xs, limits, strict=True)]
    marks = [
        f'<polygon class="band" points="{_points(edge)}"/>',
        f'<polyline class="limit" points="{_points(dashed)}"/>',
        f'<polyline class="line" points="{_points(line)}"/>',
    ]
    for (x, at), each in zip(line, rows, strict=True):
        marks.append(f'<circle class="dot" cx="{x:.1f}" cy="{at:.1f}" r="3.5"/>')
        marks.append(f'<text x="{x:.1f}" y="{HEIGHT - 14}" text-anchor="middle">{escaped(each.label)}</text>')
    return _plot(HEIGHT, label, [*_level(y, [low, (low + high) / 2, high]), *marks])


def whiskers(rows: Sequence[Whisker], label: str) -> str:
    """A row a value: the mean as a dot, its interval as a line."""
    left = 20 + _SIGN * max(len(each.label) for each in rows)
    height = _TOP + _ROW * len(rows) + _BOTTOM
    low, high = min(each.low for each in rows), max(each.high for each in rows)
    span = (high - low) or 1.0

    def x(value: float) -> float:
        return left + (WIDTH - left - 60) * (value - low) / span

    marks = []
    for place, each in enumerate(rows):
        y = _TOP + _ROW * (place + 0.5)
        marks += [
            f'<text x="0" y="{y + 4:.1f}">{escaped(each.label)}</text>',
            f'<path class="whisker" d="M{x(each.low):.1f} {y:.1f}H{x(each.high):.1f}"/>',
            f'<circle class="dot" cx="{x(each.mean):.1f}" cy="{y:.1f}" r="4"/>',
            f'<text x="{x(each.high) + 8:.1f}" y="{y + 4:.1f}">{each.mean:.3f}</text>',
        ]
    for value in (low, high):
        marks.append(f'<text x="{x(value):.1f}" y="{height - 14}" text-anchor="middle">{value:.2f}</text>')
    return _plot(height, label, marks)


def reliability(bins: Sequence[tuple[int, float, float]], label: str) -> str:
    """What was said against what was so, both 0..1: a dot a bin, larger of more pages; dashed: the goal.

    Args:
        bins: Pages, mean probability, share that was so.
        label: Of what.
    """
    y = _Scale(0, 1)
    left, side = (WIDTH - SQUARE) / 2, SQUARE

    def x(value: float) -> float:
        return left + side * value

    most = max(pages for pages, _, _ in bins)
    marks = _level(y, [0.0, 0.5, 1.0])
    marks.append(f'<line class="limit" x1="{x(0)}" y1="{y(0):.1f}" x2="{x(1)}" y2="{y(1):.1f}"/>')
    for pages, said, so in bins:
        radius = max(2.5, 12 * math.sqrt(pages / most))
        marks.append(f'<circle class="dot" cx="{x(said):.1f}" cy="{y(so):.1f}" r="{radius:.1f}"/>')
    for value in (0.0, 0.5, 1.0):
        marks.append(f'<text x="{x(value):.1f}" y="{HEIGHT - 14}" text-anchor="middle">{value:.2f}</text>')
    return _plot(HEIGHT, label, marks)


class _Scale(NamedTuple):
    """A value to its height in the plot."""

    low: float
    high: float

    def __call__(self, value: float) -> float:
        return _TOP + (HEIGHT - _TOP - _BOTTOM) * (self.high - value) / (self.high - self.low)


def _level(y: _Scale, values: Sequence[float]) -> list[str]:
    """Lines across, and what they stand for."""
    marks = []
    for value in values:
        at = y(value)
        marks.append(f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        marks.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:.2f}</text>')
    return marks


def _points(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _plot(height: float, label: str, marks: Sequence[str]) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escaped(label)}">'
        f"{''.join(marks)}</svg>\n"
    )
