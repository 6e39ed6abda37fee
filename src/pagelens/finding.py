"""Regions for pages that were read before, or with other rules: from what the library stores of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

from pagelens.errors import DocumentError
from pagelens.ingest.pool import ReaderPool, Task
from pagelens.records import PageContent, Regions
from pagelens.store.pages import PageFiles
from pagelens.store.plan import Point, Store, Where
from pagelens.store.points import drawn_of, page_of, regions_payload

BATCH = 64
"""Pages written together."""


def find_stale(
    store: Store,
    files: PageFiles,
    pool: ReaderPool,
    signature: str,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> int:
    """Look anew at every page of the library whose regions were not made so; how many those are.

    A page whose files are damaged is left as it is: `check` tells of it. One on which looking itself fails is
    noted as cut off, and not tried again until the rules change.

    Args:
        store: Holds the pages.
        files: Holds their images and words.
        pool: Looks.
        signature: What regions are made with now.
        progress: Told how many pages of how many are done, after each.
    """
    pages = Where({"kind": "page"})
    total = store.count(pages) - store.count(Where({"kind": "page", "signatures.regions": signature}))
    if not total:
        return 0
    keys = ["doc_id", "number", "width", "height", "turned", "drawn", "signatures"]
    stale = deque(point for point in store.scroll(pages, payload=keys) if _made(point) != signature)
    asked: dict[str, Point] = {}
    found: list[Point] = []
    done = 0
    while stale or pool.busy:
        while stale and pool.room:
            point = stale.popleft()
            page = page_of(point.payload)
            try:
                jpeg, text = files.image(page.page_id), files.text(page.page_id)
            except DocumentError:
                continue
            asked[page.page_id] = point
            content = PageContent(page, jpeg, text, drawn_of(point.payload))
            pool.submit(Task(Path(page.page_id), page.number, content))
        if not pool.busy:
            break
        answer = pool.take()
        regions = answer.result.found if isinstance(answer.result, PageContent) else None
        if isinstance(answer.result, DocumentError):
            regions = Regions(cut=answer.result.reason)
        point = asked.pop(str(answer.task.path))
        made = dict(point.payload["signatures"]) | {"regions": signature}
        found.append(Point(point.id, {"signatures": made, **regions_payload(regions or Regions())}))
        done += 1
        progress(done, total)
        if len(found) >= BATCH or not (stale or pool.busy):
            store.update(found)
            found = []
    store.update(found)
    return done


def _made(point: Point) -> str:
    return str(point.payload["signatures"].get("regions", ""))
