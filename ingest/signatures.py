"""Signatures and handwriting: strokes of a pen among the ink that neither words nor rules explain.

A pen joins letters, so it leaves pieces wider than any letter of print, thin, curved, and on clear paper.
Whether such strokes are a signature only their place tells: by a word such as "signed", or on a rule where
little else was written. All limits were read off the pages of
`fara-dev` and `mmdocir-dev` by eye; docs/regions.md has what they are worth.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pagelens.ingest.ink import Ink, filled, runs
from pagelens.records import Box, Word

JOINED = 18.0, 7.0
"""Points across and down, at least, of a piece made in one go."""
WHOLE = 330.0, 110.0
"""Points across and down, at most, of all that a hand wrote in one place."""
FULL = 0.45
"""Of a piece's box that is ink, at most: more is a blot or an area."""
SPECK = 2.0
"""Points: what is smaller both ways is no stroke."""
NEAR = 7.0, 4.0
"""Points across and down between pieces of one hand."""
MOST_SEEDS = 400
"""Pieces that a page is begun with, the widest."""
EDGE = 3.0
"""Points: what touches the edge of the page is the edge of the paper."""
MARGIN = 18.0
"""Points around a mark that are looked at with it."""

LIMITS: Mapping[str, tuple[float, float]] = {
    "width": (24.0, WHOLE[0]),
    "height": (10.0, WHOLE[1]),
    "pieces": (1, 60),
    "density": (0.0, 0.35),
    "stroke": (0.9, 3.4),
    "thickest": (0.0, 7.5),
    "around": (0.0, 1.0),
    "shades": (0.0, 0.08),
    "upright": (0.0, 0.5),
    "print": (0.0, 0.3),
}
"""Least and most of each measure of a hand's strokes; see `Mark`."""

SIGNING = re.compile(
    r"(sign|signs|signed|signature|signatures|signatory|undersigned|sworn|notary|witness|sincerely|regards|"
    r"yours|truly|faithfully|submitted|by:|/s/|unterschrift|unterschriften|unterzeichnet|unterzeichner|"
    r"gezeichnet|gez|grüßen|grüssen|grüße|grüsse|gruß|gruss|hochachtungsvoll)",
    re.IGNORECASE,
)
"""Words that stand where people sign."""
LOOSE = "()[]{},;.!*_|\"'’‘“”^°0123456789"
"""Around such a word: brackets, and the number of a footnote as OCR may read it."""
REACH = 40.0
"""Points from such a word; along the line half as far counts as much."""
RULED = 0.9
"""Of a mark's width that has a rule in or right below it, for a mark on a rule."""
ALONE = 3, 0.15
"""Marks on a page, and free ink around one, at most, where a rule alone tells a signature: on a form that was
filled in by hand every field has a rule."""


class Mark(NamedTuple):
    """What a hand may have left, and what is measured on it."""

    box: Box
    """In points."""
    width: float
    height: float
    pieces: int
    """Connected pieces of ink."""
    density: float
    """Share of the box that is ink: 0..1."""
    stroke: float
    """Thickness of its strokes in points, the median; print that was not read is finer or coarser."""
    thickest: float
    """That of the thickest twentieth."""
    around: float
    """Other free ink in the box and `MARGIN` around it, over its own: drawings and photographs go on."""
    shades: float
    """Share of the box that is neither paper nor ink: photographs and noise."""
    upright: float
    """Share of its edges that run along or across: diagrams and print."""
    print: float
    """Share of the box that words cover."""
    ruled: float
    """Share of the width with a rule in the lower half or right below."""

    @property
    def by_hand(self) -> bool:
        """Whether every measure is one of strokes of a pen."""
        return all(low <= getattr(self, name) <= high for name, (low, high) in LIMITS.items())


class Written(NamedTuple):
    """Strokes of a pen."""

    kind: str
    """`"signature"` or `"handwriting"`."""
    box: Box
    confidence: float


def find_written(ink: Ink, words: Sequence[Word], among: Sequence[Box] | None) -> list[Written]:
    """Signatures and other handwriting.

    Args:
        ink: Of the page.
        words: Of the page.
        among: Where alone a hand can have written: the images of a page that is otherwise drawn by a
            program. None: anywhere.
    """
    hands = [mark for mark in marks(ink) if mark.by_hand and (among is None or _inside(mark.box, among))]
    signing = list(_signing(words))
    found = []
    for mark in hands:
        distance = min((_distance(mark.box, box) for box in signing), default=np.inf)
        on_rule = mark.ruled >= RULED and mark.around <= ALONE[1] and len(hands) <= ALONE[0]
        if distance <= REACH:
            found.append(Written("signature", mark.box, 0.9 if mark.ruled >= RULED else 0.8))
        elif on_rule and among is None:
            found.append(Written("signature", mark.box, 0.6))
        elif among is None and (mark.ruled >= RULED or len(hands) > ALONE[0]) and mark.around <= 0.3:
            found.append(Written("handwriting", mark.box, 0.6))
    return found


def marks(ink: Ink) -> Iterator[Mark]:
    """Groups of pieces around strokes that are too long to be letters, measured."""
    found, scale = ink.pieces, ink.scale
    boxes = found.boxes
    wide, tall = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    height, width = ink.dark.shape
    edge = EDGE * scale
    usable = (boxes[:, :2] > edge).all(axis=1) & (boxes[:, 2:] < [width - edge, height - edge]).all(axis=1)
    usable &= (wide <= WHOLE[0] * scale) & (tall <= WHOLE[1] * scale)
    usable &= np.maximum(wide, tall) >= SPECK * scale
    seeds = usable & (wide >= JOINED[0] * scale) & (tall >= JOINED[1] * scale)
    seeds &= found.areas <= FULL * wide * tall
    order = np.flatnonzero(seeds)
    for seed in order[np.argsort(-wide[order], kind="stable")][:MOST_SEEDS]:
        if usable[seed]:
            yield _measured(ink, _grown(boxes, seed, usable, scale))


def _grown(boxes: np.ndarray, seed: int, usable: np.ndarray, scale: float) -> np.ndarray:
    """The pieces of one hand: the nearest is added until none is near; they are used up."""
    members = [seed]
    usable[seed] = False
    left, top, right, bottom = boxes.T
    box = boxes[seed].copy()
    while True:
        across = np.maximum(0, np.maximum(left - box[2], box[0] - right))
        down = np.maximum(0, np.maximum(top - box[3], box[1] - bottom))
        near = usable & (across <= NEAR[0] * scale) & (down <= NEAR[1] * scale)
        near &= np.maximum(right, box[2]) - np.minimum(left, box[0]) <= WHOLE[0] * scale
        near &= np.maximum(bottom, box[3]) - np.minimum(top, box[1]) <= WHOLE[1] * scale
        if len(members) > 2 * LIMITS["pieces"][1] or not near.any():
            return np.array(members)
        nearest = int(np.where(near, across + down, np.inf).argmin())
        members.append(nearest)
        usable[nearest] = False
        box[:2] = np.minimum(box[:2], boxes[nearest, :2])
        box[2:] = np.maximum(box[2:], boxes[nearest, 2:])


def _measured(ink: Ink, members: np.ndarray) -> Mark:
    boxes, scale = ink.pieces.boxes[members], ink.scale
    left, top = boxes[:, :2].min(axis=0)
    right, bottom = boxes[:, 2:].max(axis=0)
    own = ink.pieces.runs[np.isin(ink.pieces.runs[:, 3], members)][:, :3] - [top, left, left]
    mask = filled((bottom - top, right - left), own)
    area = int(mask.sum())
    thickness = np.minimum(_lengths(mask), _lengths(mask.T).T)[mask] / scale
    margin = int(MARGIN * scale)
    around = (
        slice(max(0, top - margin), bottom + margin),
        slice(max(0, left - margin), right + margin),
    )
    inner = slice(top, bottom), slice(left, right)
    paper = np.quantile(ink.grey[around], 0.8)
    shades = (ink.grey[inner] < paper - 25) & ~ink.dark[inner]
    below = slice(top + (bottom - top) // 2, bottom + int(14 * scale))
    return Mark(
        Box(*(float(edge) / scale for edge in (left, top, right, bottom))),
        width=(right - left) / scale,
        height=(bottom - top) / scale,
        pieces=len(members),
        density=area / mask.size,
        stroke=float(np.median(thickness)),
        thickest=float(np.quantile(thickness, 0.95)),
        around=(int(ink.free[around].sum()) - area) / area,
        shades=float(shades.mean()),
        upright=_upright(ink.grey[inner]),
        print=float(ink.print[inner].mean()),
        ruled=float(ink.rules[below, left:right].any(axis=0).mean()),
    )


def _lengths(mask: np.ndarray) -> np.ndarray:
    """For each pixel of the mask how long its run along the row is; 0 elsewhere."""
    lengths = np.zeros(mask.shape, np.int32)
    for row, first, last in runs(mask):
        lengths[row, first:last] = last - first
    return lengths


def _upright(grey: np.ndarray) -> float:
    """Share of the edges, by their strength, that lie within 10 degrees of along or across."""
    if min(grey.shape) < 3:
        return 1.0
    down, across = np.gradient(grey.astype(np.float32))
    strength: np.ndarray = np.hypot(across, down)
    strong: np.ndarray = strength > 30
    if not strong.any():
        return 1.0
    angle = np.asarray(np.arctan2(down, across))[strong] % (np.pi / 2)
    straight: np.ndarray = np.minimum(angle, np.pi / 2 - angle) < np.radians(10)
    weights: np.ndarray = strength[strong]
    return float(weights[straight].sum() / weights.sum())


def _signing(words: Sequence[Word]) -> Iterator[Box]:
    """Boxes of the words that stand where people sign; "date of signature" stands where they do not."""
    for i, word in enumerate(words):
        if SIGNING.fullmatch(word.text.strip(LOOSE)):
            before = " ".join(each.text.lower().strip("(") for each in words[max(0, i - 2) : i])
            if before != "date of":
                yield word.box


def _distance(mark: Box, word: Box) -> float:
    across = max(0.0, word.left - mark.right, mark.left - word.right)
    down = max(0.0, word.top - mark.bottom, mark.top - word.bottom)
    return max(across / 2, down)


def _inside(box: Box, areas: Sequence[Box]) -> bool:
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    return any(area.left <= x <= area.right and area.top <= y <= area.bottom for area in areas)
