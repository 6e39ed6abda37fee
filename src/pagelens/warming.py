"""Before anybody asks: what a reranker makes of pages alone, computed and kept."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from pagelens.records import Candidate, Prepared

SAMPLE = 4
"""Pages that an estimate is made from."""


@runtime_checkable
class FeatureReranker(Protocol):
    """A reranker that keeps features of pages."""

    def prepare(self, pages: Iterable[Candidate]) -> Iterator[Prepared]:
        """Compute and keep the features of pages that have none; each page as it is done."""

    def cost(self, pages: Sequence[Candidate]) -> tuple[float, int]:
        """Seconds and bytes of that; nothing is kept."""


@dataclass(slots=True)
class Warmed:
    """What was done."""

    pages: int = 0
    """That have features now."""
    made: int = 0
    """Of these, kept since this run began."""
    failed: list[Prepared] = field(default_factory=list)
    seconds: float = 0.0


class WarmEstimate(NamedTuple):
    """What it would cost."""

    pages: int
    seconds: float
    bytes: int


def warm(
    pages: Iterable[Candidate], reranker: FeatureReranker, progress: Callable[[Warmed], None] = lambda _: None
) -> Warmed:
    """Compute and keep the features of pages; what is there already is left alone.

    Interrupt it at any time: what was kept stays, and the next run goes on from there.

    Raises:
        OSError: the disk is full.
    """
    done, started = Warmed(), time.monotonic()
    for each in reranker.prepare(pages):
        if each.problem:
            done.failed.append(each)
        else:
            done.pages += 1
            done.made += each.made
        done.seconds = time.monotonic() - started
        progress(done)
    return done


def estimate_warm(pages: Sequence[Candidate], reranker: FeatureReranker, seed: int = 0) -> WarmEstimate:
    """What it would take for all of these pages, from a sample drawn by `seed`."""
    sample = random.Random(seed).sample(pages, min(SAMPLE, len(pages)))
    seconds, size = reranker.cost(sample)
    share = len(pages) / max(1, len(sample))
    return WarmEstimate(len(pages), seconds * share, round(size * share))
