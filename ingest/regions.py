"""What is on a page, from its stored image, its words, and what the file says: the story of its regions.

First what the file knows, then the layout model where it is installed, then our own look at the ink. All of
it depends on what a library stores, so that regions can be made later than the page was read, and are the
same then.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Sequence
from io import BytesIO

import PIL.Image

from pagelens.ingest import layout
from pagelens.ingest.figures import chart_likelihood, drawn_areas, is_ruled, kind_by_words
from pagelens.ingest.ink import MOST_PIECES, Ink
from pagelens.ingest.layout import iou
from pagelens.ingest.signatures import find_written
from pagelens.ingest.stamps import find_stamps
from pagelens.records import NO_LAYOUT, Box, Page, PageContent, PageText, Region, Regions

RULES = 4
"""Raised with any change to what is found; regions made by other rules are made again by the next ingest."""
SECONDS = 10.0
"""A page may take; what was found until then is kept. Most take a fifth of a second, and layout two."""
MOST_PIXELS = 6_000_000
"""Looked at: an A3 page at 150 DPI has 4.3 million. A larger one is looked at smaller."""
SCAN_SHARE = 0.5
"""Of the page: an image that covers more is the page."""
PLAIN = {"table": "table", "title": "title", "text": "text", "reference": "text", "equation": "equation"}
"""Labels of the layout model that are taken as they are."""
PHOTO = 60.0
"""Points either way, at least, of an image or drawing that is a figure; a logo is smaller."""
WHOLE = 0.85
"""Of the page, at most, of a figure."""
SIGNED = 360.0, 150.0
"""Points across and down, at most, of an image that may be a signature pasted into a letter."""
SAME = 0.5
"""IoU from which two figures are one; or 0.8 of the smaller lies within the other."""
LEAST = 4.0
"""Points either way of a figure on the page."""
SURELY = 0.9
"""How likely a chart is that has next to nothing but rules; forms of `fara-dev` are .8 and less."""
BESIDE = 12.0
"""Points around a figure where its numbers may stand."""
CAPTION = re.compile(r"(figure|fig|table|tab|chart|graph|abb|abbildung|tabelle|exhibit)\b\.?", re.IGNORECASE)
REACH = 40.0
"""Points between a thing and its caption."""
CAPTION_WORDS = 40
CAPTIONED = ("table", "chart", "figure")


def signature() -> str:
    """What regions are made with: another makes them again."""
    return f"regions {RULES}, {layout.version() or NO_LAYOUT}"


def find_regions(content: PageContent, seconds: float = SECONDS) -> Regions:
    """Tables, charts, figures, signatures, stamps, handwriting, titles, text and equations.

    Never raises: the page was read and stays, whatever a library makes of its picture.

    Args:
        content: The page as it is stored.
        seconds: When to stop looking.
    """
    try:
        return _find(content, seconds)
    except Exception as error:
        return Regions(cut=f"{type(error).__name__} while looking; please report this file")


def _find(content: PageContent, seconds: float) -> Regions:
    deadline = time.monotonic() + seconds
    page, words = content.page, content.text.words
    picture: PIL.Image.Image = PIL.Image.open(BytesIO(content.jpeg))
    if picture.width * picture.height > MOST_PIXELS:
        picture = picture.reduce(math.ceil(math.sqrt(picture.width * picture.height / MOST_PIXELS)))
    found: list[Region] = [
        Region(each.kind, each.box, 1.0) for each in content.drawn if each.kind not in ("image", "drawing")
    ]
    captions: list[Box] = []
    if not layout.problem():
        for label, box, confidence in _layout(picture, page):
            if label in PLAIN:
                found.append(Region(PLAIN[label], box, confidence))
            elif label == "figure":
                found.append(Region("figure", box, confidence))
            elif label.endswith("caption"):
                captions.append(box)
    scanned = _is_scanned(content)
    ink = Ink(picture, page, words)
    pasted = [each.box for each in content.drawn if each.kind == "image" and _may_be_signed(each.box)]
    cut = ""
    if time.monotonic() > deadline:
        cut = f"took longer than {seconds:g} s"
    elif (scanned or pasted) and len(ink.pieces.areas) > MOST_PIECES:
        cut = f"has {len(ink.pieces.areas)} pieces of ink, as noise has"
    elif scanned or pasted:
        written = find_written(ink, words, None if scanned else pasted)
        found += [Region(each.kind, each.box, each.confidence) for each in written]
        if scanned:
            found += [Region("stamp", each.box, each.confidence) for each in find_stamps(ink)]
    if time.monotonic() <= deadline:
        found = _with_figures(found, content, picture, ink, scanned)
    else:
        cut = cut or f"took longer than {seconds:g} s"
    texts = _caption_texts(content.text, captions)
    finished = [
        _finished(
            each, page, "" if each.kind not in ("table", "chart", "figure") else _caption(each.box, texts)
        )
        for each in found
    ]
    ordered = sorted(finished, key=lambda each: (each.box.top, each.box.left, each.kind))
    return Regions(tuple(each for each in ordered if each.box.width > 0 and each.box.height > 0), cut)


def _layout(picture: PIL.Image.Image, page: Page) -> Iterator[tuple[str, Box, float]]:
    for label, box, confidence in layout.find_layout(picture):
        yield label, Box(*(edge * page.width / picture.width for edge in box)), confidence


def _with_figures(
    found: list[Region], content: PageContent, picture: PIL.Image.Image, ink: Ink, scanned: bool
) -> list[Region]:
    """The same with figures that the file or the ink tells of added, and those that are charts called so."""
    written = [each.box for each in found if each.kind in ("signature", "handwriting", "stamp")]
    other = written + [each.box for each in found if each.kind == "table"]  # a table is seen as both at times

    def is_form(box: Box) -> bool:
        return scanned and is_ruled(ink, box) and _likely(content, picture, box) <= SURELY

    figures = [
        each
        for each in found
        if each.kind == "figure"
        and not any(_same(each.box, box) for box in other)
        and kind_by_words(content.text.within(each.box), each.box) != "text"
        and not is_form(each.box)
    ]
    taken = [each.box for each in figures] + other
    candidates = [
        each.box
        for each in content.drawn
        if each.kind in ("image", "drawing")
        and min(each.box.width, each.box.height) >= PHOTO
        and each.box.width * each.box.height <= WHOLE * content.page.width * content.page.height
    ]
    if scanned and layout.problem():
        for box in drawn_areas(ink):
            kind = kind_by_words(content.text.within(box), box)
            if kind == "table" or (kind is None and not is_form(box)):
                candidates.append(box)
    for box in candidates:
        if not any(_same(box, other) for other in taken):
            figures.append(Region("figure", box, 0.5))
            taken.append(box)
    result = [each for each in found if each.kind != "figure"]
    for each in figures:
        seen = _cut(each.box, content.page)
        if min(seen.width, seen.height) < LEAST:
            continue
        if kind := kind_by_words(content.text.within(each.box), each.box):
            result.append(Region("table" if kind == "table" else "figure", each.box, each.confidence))
            continue
        likely = _likely(content, picture, each.box)
        what = "chart" if likely > 0.5 else "figure"
        result.append(Region(what, each.box, each.confidence * max(likely, 1 - likely)))
    return result


def _likely(content: PageContent, picture: PIL.Image.Image, box: Box) -> float:
    """How likely a figure is a chart; what of it is on the page is looked at, and the words beside it."""
    left, top, right, bottom = _cut(box, content.page)
    scale = picture.width / content.page.width
    figure = picture.crop(
        (round(left * scale), round(top * scale), round(right * scale), round(bottom * scale))
    )
    near = Box(left - BESIDE, top - BESIDE, right + BESIDE, bottom + BESIDE)
    return chart_likelihood(figure, content.text.within(near), box)


def _is_scanned(content: PageContent) -> bool:
    """Whether the page is a picture, on which a hand or a stamp may have left something anywhere."""
    area = content.page.width * content.page.height
    return content.text.scanned or any(
        each.kind == "image" and each.box.width * each.box.height >= SCAN_SHARE * area
        for each in content.drawn
    )


def _may_be_signed(box: Box) -> bool:
    return box.width <= SIGNED[0] and box.height <= SIGNED[1]


def _same(one: Box, other: Box) -> bool:
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    smaller = min(one.width * one.height, other.width * other.height)
    return iou(one, other) > SAME or (width > 0 < height and width * height > 0.8 * smaller)


def _caption_texts(text: PageText, captions: Sequence[Box]) -> list[tuple[Box, str]]:
    """Captions that the layout model sees, and lines that begin like one."""
    found = []
    for box in captions:
        if words := text.within(box):
            found.append((box, " ".join(word.text for word in words[:CAPTION_WORDS])))
    for line in text.lines:
        if CAPTION.fullmatch(line[0].text.rstrip(":")) and len(line) > 1:
            around = Box.around(word.box for word in line)
            if not any(_same(around, box) for box in captions):
                found.append((around, " ".join(word.text for word in line[:CAPTION_WORDS])))
    return found


def _caption(box: Box, texts: Sequence[tuple[Box, str]]) -> str:
    """The nearest caption above or below."""
    best, text = REACH, ""
    for place, said in texts:
        beside = place.left > box.right or place.right < box.left
        gap = max(0.0, place.top - box.bottom, box.top - place.bottom)
        if not beside and gap < best:
            best, text = gap, said
    return text


def _finished(region: Region, page: Page, caption: str) -> Region:
    box = Box(*(round(edge, 1) for edge in _cut(region.box, page)))
    return Region(region.kind, _cut(box, page), round(region.confidence, 2), caption)


def _cut(box: Box, page: Page) -> Box:
    return Box(
        max(0.0, box.left),
        max(0.0, box.top),
        min(page.width, box.right),
        min(page.height, box.bottom),
    )
