"""The nouns of pagelens: what is read, what is asked, what the rooms hand each other.

Geometry everywhere: PDF points (1/72 inch), origin at the top left of the page *as shown* (rotation
already applied), x to the right, y down. Page numbers count from 0 in records and ids, from 1 wherever
a person reads them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image


class Box(NamedTuple):
    """A rectangle on a page, in points, origin at the top left of the page as shown.

    >>> Box.around([Box(10, 20, 30, 40), Box(25, 5, 60, 30)])
    Box(left=10, top=5, right=60, bottom=40)
    """

    left: float
    top: float
    right: float
    bottom: float

    @property
    def width(self) -> float:
        """Points from left to right."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Points from top to bottom."""
        return self.bottom - self.top

    @classmethod
    def around(cls, boxes: Iterable[Box]) -> Box:
        """The smallest box that holds all `boxes`; at least one is needed."""
        lefts, tops, rights, bottoms = zip(*boxes, strict=True)
        return cls(min(lefts), min(tops), max(rights), max(bottoms))


class Word(NamedTuple):
    """One word as it was read, without white space in it."""

    text: str
    box: Box
    line: int
    """Number of its line on the page, from 0, in reading order."""
    confidence: float | None = None
    """0..1 as the OCR engine says it; None for a text layer."""


class Drawn(NamedTuple):
    """A thing that the file itself says is on a page."""

    kind: str
    """`"image"`; `"drawing"`: lines and areas near each other; of annotations `"signature"`, `"stamp"`,
    `"handwriting"`."""
    box: Box


REGION_KINDS = (
    "table",
    "chart",
    "figure",
    "signature",
    "stamp",
    "handwriting",
    "title",
    "text",
    "equation",
)
"""What a region can be; a figure is a photograph or a drawing that is no chart."""
NO_LAYOUT = "no layout model"
"""How what regions were made with ends where they were found by our own look alone."""


class Region(NamedTuple):
    """A part of a page that is one thing."""

    kind: str
    """One of `REGION_KINDS`."""
    box: Box
    """On the page; the words inside are `PageText.within(box)`."""
    confidence: float
    """0..1."""
    caption: str = ""
    """What the page says of it, above or below."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `caption` only where there is one."""
        plain = {"kind": self.kind, "box": list(self.box), "confidence": self.confidence}
        return plain | ({"caption": self.caption} if self.caption else {})


class Regions(NamedTuple):
    """What was found on a page."""

    regions: tuple[Region, ...] = ()
    """Top to bottom, left to right."""
    cut: str = ""
    """Why not all was looked for; empty when it was."""


@dataclass(frozen=True, slots=True)
class PageText:
    """The words of a page in reading order, and who read them."""

    words: tuple[Word, ...]
    source: str
    """`"layer"` for the PDF's own text, `"layer+tesseract"` where OCR read pictures too, else who did OCR:
    `"tesseract"`, `"rapidocr"`."""

    @property
    def scanned(self) -> bool:
        """Whether the file has no text of its own that could be believed."""
        return not self.source.startswith("layer")

    @property
    def lines(self) -> list[list[Word]]:
        """The words grouped by line, in reading order."""
        lines: dict[int, list[Word]] = {}
        for word in self.words:
            lines.setdefault(word.line, []).append(word)
        return list(lines.values())

    def within(self, box: Box) -> tuple[Word, ...]:
        """The words whose middle lies in a box, in reading order."""
        return tuple(
            word
            for word in self.words
            if box.left <= (word.box.left + word.box.right) / 2 <= box.right
            and box.top <= (word.box.top + word.box.bottom) / 2 <= box.bottom
        )

    @property
    def text(self) -> str:
        """Words joined by a space, lines by a newline."""
        return "\n".join(" ".join(word.text for word in line) for line in self.lines)

    @property
    def confidence(self) -> float | None:
        """Mean over the words that OCR read, 0..1; None where there are none."""
        known = [word.confidence for word in self.words if word.confidence is not None]
        return round(sum(known) / len(known), 3) if known else None


@dataclass(frozen=True, slots=True)
class Page:
    """Identity and geometry of one page."""

    doc_id: str
    number: int
    """Position in its document, from 0."""
    width: float
    """Points, as shown."""
    height: float
    turned: float = 0.0
    """Degrees counter-clockwise by which a scan that lay askew was turned to be shown: 180, 90, -2.3."""

    @property
    def page_id(self) -> str:
        """`"<doc_id>#<number>"`, the key of a page everywhere."""
        return f"{self.doc_id}#{self.number}"


@dataclass(frozen=True)
class PageContent:
    """What `ingest` hands on and rerankers read: a page, its picture, its words."""

    page: Page
    jpeg: bytes
    """The page image as it is stored."""
    text: PageText
    drawn: tuple[Drawn, ...] = ()
    """What the file itself says is there."""
    found: Regions | None = None
    """None: nobody has looked."""

    @cached_property
    def image(self) -> PIL.Image.Image:
        """The page image decoded, RGB."""
        import PIL.Image

        return PIL.Image.open(BytesIO(self.jpeg)).convert("RGB")


@dataclass(frozen=True, slots=True)
class Document:
    """One file by content, however many names it has."""

    sha256: str
    pages: int
    """How many pages it has."""

    @property
    def doc_id(self) -> str:
        """The first 16 hex digits of the SHA-256 of the file's bytes."""
        return self.sha256[:16]

    @staticmethod
    def digest(data: bytes) -> str:
        """The SHA-256 of a file's bytes, in hex."""
        return hashlib.sha256(data).hexdigest()


class SparseVector(NamedTuple):
    """Weights by dimension; every index occurs once."""

    indices: np.ndarray
    """uint32, shape (terms,)."""
    values: np.ndarray
    """float32, shape (terms,)."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked, and of which pages.

    `filter` keys: `doc_id`, `stem` (file name without suffix), `path` (glob), `page` ([from, to] from 1,
    both included), `date` ([from, to] of the file, ISO dates), `language`, `has` (of
    `REGION_KINDS`). A list of values means any of them; several keys must all hold.
    """

    text: str
    filter: Mapping[str, Any] = field(default_factory=dict)


class Feature(NamedTuple):
    """One reason for a score."""

    value: float
    """As measured on the page."""
    share: float
    """What it adds to the score; the shares of all features add up to it."""


class Stage(NamedTuple):
    """What one stage of the search thought of a page."""

    rank: int
    """From 1."""
    score: float
    """On the stage's own scale; never comparable with another stage's."""
    features: Mapping[str, Feature] = MappingProxyType({})
    """Why, where the stage can say it."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON; `features` only where there are some."""
        plain: dict[str, Any] = {"rank": self.rank, "score": self.score}
        if self.features:
            plain["features"] = {name: feature._asdict() for name, feature in self.features.items()}
        return plain


@dataclass(frozen=True)
class Candidate:
    """A page as a reranker sees it, with what the stages before thought of it."""

    page: Page
    path: str
    """The file, absolute."""
    text: str
    """As `PageText.text`: the n-th of its parts between white space is the n-th word."""
    stages: Mapping[str, Stage] = field(hash=False)
    read_image: Callable[[], PIL.Image.Image] = field(repr=False, compare=False)
    regions: tuple[Region, ...] = field(default=(), kw_only=True)
    image_sha256: str = field(default="", kw_only=True)
    """Of the page image's file, hex; empty where it is not known, and then nothing is kept of the page."""

    @cached_property
    def image(self) -> PIL.Image.Image:
        """The page image, RGB; its file is read when a member first asks for it."""
        return self.read_image()


class Opinion(NamedTuple):
    """What a reranker makes of one page, and why."""

    score: float
    features: Mapping[str, Feature] = MappingProxyType({})
    passage: range | None = None
    """Positions in the page's words of what it read as the answer."""
    level: str = ""
    """Of the page features that were found stored: `"prefix"`, `"vision"`, `"none"`; `"smaller"`: none, and
    the image made smaller for a budget. Empty from members that know no features."""
    problem: str = ""
    """Why the score is not a number."""


class StoredFile(NamedTuple):
    """A file kept of a page."""

    path: str
    size: int
    """Bytes."""
    used: float
    """When it was last written or said to be used; seconds since the epoch."""


class Prepared(NamedTuple):
    """What became of one page's features, which a reranker keeps."""

    page_id: str
    made: bool
    """False: they were kept before, or could not be made."""
    problem: str
    """Why they could not; empty when they are there now."""


class Reranked(NamedTuple):
    """What a reranker that knows its costs did in one search."""

    signature: str
    """All that shaped its scores: model, revision, type, prompt, size of images. Scores shift with each."""
    pages: Mapping[str, int]
    """How many it scored by `Opinion.level`, `"read"` where that is empty; under `"left out"` those that did
    not fit the budget."""


class Evidence(NamedTuple):
    """A passage of a page that answers for the hit."""

    text: str
    """Its words, joined by white space."""
    box: Box
    words: tuple[Word, ...] = ()
    """The words in it that match the question."""
