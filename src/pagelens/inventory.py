"""What a library holds: its pages, what could not be read, what is missing or stale."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagelens.filters import PathsOf
from pagelens.hits import SCHEMA
from pagelens.records import REGION_KINDS
from pagelens.store.plan import Store, Where
from pagelens.store.points import regions_of

if TYPE_CHECKING:
    from pagelens.indexing import Failure
    from pagelens.settings import Settings
    from pagelens.store.pages import PageFiles


def pages(store: Store, paths_of: PathsOf) -> Iterator[dict[str, Any]]:
    """One record a page, by document and number, as `pagelens pages --json` prints them.

    A file that is there several times is stored once, with all its paths.
    """
    documents = store.scroll(Where({"kind": "document"}))
    paths = {point.payload["doc_id"]: paths_of(point) for point in documents}
    keys = ["doc_id", "number", "width", "height", "text_source", "words", "regions"]
    found = [point.payload for point in store.scroll(Where({"kind": "page"}), payload=keys)]
    for page in sorted(found, key=lambda page: (paths[page["doc_id"]], page["number"])):
        yield {
            "page_id": f"{page['doc_id']}#{page['number']}",
            "path": paths[page["doc_id"]][0],
            "paths": paths[page["doc_id"]],
            "page": page["number"] + 1,
            "width": page["width"],
            "height": page["height"],
            "text_source": page["text_source"],
            "words": page["words"],
            "regions": [each.as_dict() for each in regions_of(page)],
        }


def failures(store: Store, paths_of: PathsOf) -> list[Failure]:
    """Files and pages that could not be read."""
    from pagelens.indexing import Failure

    found = [
        Failure(
            paths_of(point)[0],
            None if point.payload["page"] is None else point.payload["page"] + 1,
            point.payload["stage"],
            point.payload["reason"],
        )
        for point in store.scroll(Where({"kind": "failure"}))
    ]
    return sorted(found, key=lambda failure: (failure.path, failure.page or 0))


def status(store: Store, files: PageFiles, paths_of: PathsOf, settings: Settings) -> dict[str, Any]:
    """Counts, failures, missing files, signatures, bytes: what `pagelens status --json` prints."""
    documents = list(store.scroll(Where({"kind": "document"})))
    paths = [path for point in documents for path in paths_of(point)]
    return {
        "schema": SCHEMA,
        "documents": len(documents),
        "pages": store.count(Where({"kind": "page"})),
        "failed": [
            {"path": f.path, "page": f.page, "stage": f.stage, "reason": f.reason}
            for f in failures(store, paths_of)
        ],
        "missing": sorted(path for path in paths if not Path(path).exists()),
        "signatures": dict(settings.signatures),
        "stale": _stale(store, settings),
        "unfinished": list(settings.unfinished),
        "regions": _regions(store),
        "bytes": {**files.size(), **store.size()},
    }


def _regions(store: Store) -> dict[str, int]:
    """Pages by what is on them, as far as they were looked at."""
    counts = {kind: store.count(Where({"kind": "page", "has": kind})) for kind in REGION_KINDS}
    return {kind: count for kind, count in counts.items() if count}


def _stale(store: Store, settings: Settings) -> dict[str, int]:
    """Pages by artefact that the next ingest of their file makes anew: they were made otherwise."""
    from pagelens.encoders.sparse import Bm25Encoder
    from pagelens.ingest.reading import ReadSettings

    current: dict[str, tuple[str, ...]] = {name: (made,) for name, made in settings.signatures.items()}
    engine = settings.ocr
    if engine is not None:
        reading = ReadSettings(ocr=engine, languages=settings.languages)
        current["image"] = (reading.image_signature,)
        current["words"] = tuple(map(reading.words_signature, reading.sources))
        current["bm25"] = (Bm25Encoder(settings.languages).signature,)
    pages = store.count(Where({"kind": "page"}))
    counts = {
        name: pages - store.count(Where({"kind": "page", f"signatures.{name}": made}))
        for name, made in current.items()
    }
    return {name: count for name, count in counts.items() if count}
