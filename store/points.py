"""What a point of each kind looks like: the only place that knows ids and payload keys."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

from pagelens.records import Box, Document, Drawn, Page, PageText, Region, Regions
from pagelens.store.plan import FieldKind

_NAMESPACE = uuid.UUID("9d1c36f2-6a0b-5d53-8d5e-2f6f0b7f3a11")  # of pagelens points; drawn once
COLLECTION = "pagelens"
"""Of a library on a server, unless another is named."""
FORMAT = 1
"""Of the library; another is refused."""
FIELDS: Mapping[str, FieldKind] = {
    "kind": "keyword",
    "doc_id": "keyword",
    "language": "keyword",
    "has": "keyword",
    "number": "integer",
    "date": "float",
}
"""Payload fields that filters name."""


@dataclass(frozen=True, slots=True)
class SeenFile:
    """One name of a document."""

    root: str
    """Name of the root it lies under."""
    path: str
    """Below the root, with forward slashes."""
    size: int
    """Bytes."""
    mtime_ns: int

    @property
    def stem(self) -> str:
        """The file's name without its last suffix."""
        return PurePosixPath(self.path).stem


def point_id(*parts: str | int) -> str:
    """UUIDv5 of what the point is: writing it again replaces it.

    >>> point_id("page", "0123456789abcdef", 0) == point_id("page", "0123456789abcdef", 0)
    True
    """
    return str(uuid.uuid5(_NAMESPACE, "\n".join(map(str, parts))))


SETTINGS = point_id("library")
"""Of the one point that says how a library was made."""


def page_point_id(page_id: str) -> str:
    """Of the page called `<doc_id>#<number>`."""
    return point_id("page", *page_id.split("#"))


def page_payload(
    page: Page,
    text: PageText,
    language: str,
    date: float,
    signatures: Mapping[str, str],
    digests: Mapping[str, str],
    metadata: Mapping[str, str],
    drawn: Sequence[Drawn] = (),
    found: Regions | None = None,
) -> dict[str, Any]:
    """Everything about a page that is not a vector.

    Args:
        page: Identity and geometry.
        text: Its words.
        language: ISO 639-2.
        date: Seconds since 1970, of the file unless its metadata have a date.
        signatures: Artefact -> what it is made with.
        digests: Page file -> SHA-256 of its bytes.
        metadata: Fields the user joined.
        drawn: What its file says is on it.
        found: Its regions; None where nobody has looked.
    """
    return {
        "kind": "page",
        "doc_id": page.doc_id,
        "number": page.number,
        "width": page.width,
        "height": page.height,
        "turned": page.turned,
        "text": text.text,
        "text_source": text.source,
        "words": len(text.words),
        "confidence": text.confidence,
        "language": language,
        "date": date,
        "signatures": dict(signatures),
        "digests": dict(digests),
        "metadata": dict(metadata),
        "drawn": [[each.kind, *each.box] for each in drawn],
        **({} if found is None else regions_payload(found)),
    }


def regions_payload(found: Regions) -> dict[str, Any]:
    """What a page's payload says of its regions; `has` is what filters ask for."""
    return {
        "regions": [each.as_dict() for each in found.regions],
        "has": sorted({each.kind for each in found.regions}),
        "regions_cut": found.cut,
    }


def regions_of(payload: Mapping[str, Any]) -> tuple[Region, ...]:
    """The regions of a page; none where nobody has looked."""
    return tuple(
        Region(each["kind"], Box(*each["box"]), each["confidence"], each.get("caption", ""))
        for each in payload.get("regions", ())
    )


def drawn_of(payload: Mapping[str, Any]) -> tuple[Drawn, ...]:
    """What the file of a page says is on it; nothing for a page read before that was asked."""
    return tuple(Drawn(each[0], Box(*each[1:])) for each in payload.get("drawn", ()))


def page_of(payload: Mapping[str, Any]) -> Page:
    """The page a payload is of."""
    return Page(
        payload["doc_id"], payload["number"], payload["width"], payload["height"], payload.get("turned", 0.0)
    )


def document_payload(
    document: Document,
    files: Sequence[SeenFile],
    metadata: Mapping[str, str],
    signatures: Mapping[str, Sequence[str]] | None,
) -> dict[str, Any]:
    """A document under all its names.

    Args:
        document: The file by content.
        files: Its names.
        metadata: Fields the user joined.
        signatures: Artefact -> what its pages are made with, written last, once every page has its point or
            its failure; None until then: the document is not whole.
    """
    return {
        "kind": "document",
        "doc_id": document.doc_id,
        "sha256": document.sha256,
        "pages": document.pages,
        "files": [asdict(each) for each in files],
        "metadata": dict(metadata),
        "signatures": {key: list(each) for key, each in (signatures or {}).items()},
        "whole": signatures is not None,
    }


def document_of(payload: Mapping[str, Any]) -> Document:
    """The document a payload is of."""
    return Document(payload["sha256"], payload["pages"])


def files_of(payload: Mapping[str, Any]) -> list[SeenFile]:
    """The names a document or failure payload holds."""
    return [SeenFile(**each) for each in payload["files"]]


def failure_payload(
    file: SeenFile, doc_id: str | None, page: int | None, stage: str, reason: str
) -> dict[str, Any]:
    """A file (`page` None) or page (from 0) that could not be read."""
    return {
        "kind": "failure",
        "doc_id": doc_id,
        "files": [asdict(file)],
        "page": page,
        "stage": stage,
        "reason": reason,
    }
