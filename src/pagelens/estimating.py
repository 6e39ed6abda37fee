"""How long an ingest would take and what it would store, from a sample of its pages."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pagelens.indexing import PageEncoder
from pagelens.ingest.pool import ReaderPool, Task
from pagelens.looks import PageLooks
from pagelens.records import Document, PageContent, SparseVector
from pagelens.store.pages import packed

SAMPLE = 20


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an ingest would cost."""

    files: int
    unreadable: int
    """Files that cannot be opened."""
    pages: int
    sampled: int
    seconds: float
    bytes: Mapping[str, int]
    """By what they are for: `images`, `words`, `vectors`."""


def estimate(
    paths: Iterable[Path],
    pool: ReaderPool,
    encoders: Mapping[str, PageEncoder],
    looks: Iterable[PageLooks] = (),
    seed: int = 0,
) -> Estimate:
    """Open every file, read and encode up to 20 pages drawn by `seed`; nothing is stored.

    The time is that of the sample, read by the same pool, times pages; opening is counted as it is.
    """
    started = time.monotonic()
    opened = list(_answers(pool, [Task(path) for path in paths]))
    documents = [(task.path, result) for task, result in opened if isinstance(result, Document)]
    opening = time.monotonic() - started
    pages = [Task(path, number) for path, document in documents for number in range(document.pages)]
    sample = random.Random(seed).sample(pages, min(SAMPLE, len(pages)))
    started = time.monotonic()
    contents = [result for _, result in _answers(pool, sample) if isinstance(result, PageContent)]
    texts = [content.text.text for content in contents]
    vectors = [vector for encoder in encoders.values() for vector in encoder.encode_pages(texts)]
    pictured = sum(each.size(made) for each in looks for made in each.encode([c.image for c in contents]))
    reading = time.monotonic() - started
    share = len(pages) / max(1, len(contents))
    arrays = [part for v in vectors if v is not None for part in (v if isinstance(v, SparseVector) else (v,))]
    return Estimate(
        files=len(opened),
        unreadable=len(opened) - len(documents),
        pages=len(pages),
        sampled=len(sample),
        seconds=opening + reading * len(pages) / max(1, len(sample)),
        bytes={
            "images": round(share * sum(len(content.jpeg) for content in contents)),
            "words": round(share * sum(len(packed(content.text)) for content in contents)),
            "vectors": round(share * (pictured + sum(array.nbytes for array in arrays))),
        },
    )


def _answers(pool: ReaderPool, tasks: list[Task]) -> Iterable[tuple[Task, object]]:
    waiting = deque(tasks)
    while waiting or pool.busy:
        while waiting and pool.room:
            pool.submit(waiting.popleft())
        answer = pool.take()
        yield answer.task, answer.result
