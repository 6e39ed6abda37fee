"""The third stage: small functions over an order of pages, each to be seen in the stage `rules` of a hit.

A rule adds to the score of the stage before it, standardised among the pages that stage saw; pages that an
earlier stage saw last stay below, because scores of two stages are never compared.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np

from pagelens.errors import UsageError
from pagelens.ranking import Ranked
from pagelens.records import Feature, Stage
from pagelens.scores import standardised
from pagelens.store.plan import Store

Rule = Callable[[Sequence[Ranked], Store], list[Ranked]]
STAGE = "rules"
NAMED_PAGE = 3.0
"""Standard deviations: more than most pages are apart, so that the page a question names comes first, unless
another is far better."""


def one_per_document(order: Sequence[Ranked], store: Store) -> list[Ranked]:
    """The best page of each document; the feature `document` says how many others it stands for."""
    points = store.retrieve([page.id for page in order], payload=["doc_id"])
    owner = {point.id: point.payload["doc_id"] for point in points}
    pages = [page for page in order if page.id in owner]
    counts = Counter(owner[page.id] for page in pages)
    best = {owner[page.id]: page for page in reversed(pages)}
    others = {page.id: Feature(counts[doc_id] - 1, 0.0) for doc_id, page in best.items()}
    return _adjusted([page for page in pages if page.id in others], "document", others)


def boost(field: str, value: Any, weight: float = 1.0) -> Rule:
    """Pages whose payload, or joined metadata, says `field` is `value` gain `weight` standard deviations.

    Raises:
        UsageError: when applied: no page of the order has such a field.
    """

    def rule(order: Sequence[Ranked], store: Store) -> list[Ranked]:
        points = store.retrieve([page.id for page in order], payload=[field, "metadata"])
        known = {point.id: {**point.payload.get("metadata", {}), **point.payload} for point in points}
        stored = {id: payload[field] for id, payload in known.items() if field in payload}
        if order and not stored:
            raise UsageError(
                f"no page found has a field {field!r} to boost; try language, doc_id or text_source"
            )
        return _boosted(
            order, f"{field}={value}", {id for id, each in stored.items() if each == value}, weight
        )

    return rule


def pages_named(question: str) -> tuple[int, ...]:
    """The page numbers that a question names, from 1.

    >>> pages_named("What is drawn on page 3?"), pages_named("Unterschriften auf Seite 15 und Seite 16")
    ((3,), (15, 16))
    >>> pages_named("the totals on pages 4-6"), pages_named("page layout of 2019")
    ((4, 5, 6), ())
    """
    pages: set[int] = set()
    for first, last in _NAMED.findall(question):
        pages.update(range(int(first), min(int(last or first), int(first) + 99) + 1))
    return tuple(sorted(pages))


_NAMED = re.compile(
    r"\b(?:pages?|pp?\.|seiten?|p[áa]ginas?)\s*(\d{1,4})(?:\s*(?:-|–|to|bis)\s*(\d{1,4}))?\b", re.IGNORECASE
)


def on_named_pages(pages: Sequence[int]) -> Rule:
    """A soft filter: pages with one of these numbers (from 1) gain, no page is left out."""

    def rule(order: Sequence[Ranked], store: Store) -> list[Ranked]:
        points = store.retrieve([page.id for page in order], payload=["number"])
        wanted = {point.id for point in points if point.payload["number"] + 1 in pages}
        return _boosted(order, "page named", wanted, NAMED_PAGE)

    return rule


def diverse(balance: float = 0.7) -> Rule:
    """Maximal marginal relevance (Carbonell & Goldstein, SIGIR 1998) over the vectors of `text`.

    The next page is the one with the highest `balance` x relevance - (1 - `balance`) x similarity to the
    nearest page before it. Relevance: the score before, 0..1 among the pages of its stage. Similarity: cosine
    of the mean of the pages' windows; 0 for a page without words.

    Args:
        balance: 0..1; 1 changes nothing.

    Raises:
        UsageError: `balance` is not within 0..1.
    """
    if not 0 <= balance <= 1:
        raise UsageError(f"diversity is weighed with a number within 0..1, not {balance}")

    def rule(order: Sequence[Ranked], store: Store) -> list[Ranked]:
        points = store.retrieve([page.id for page in order], ["text"], payload=False)
        vectors = {point.id: _mean(point.vectors["text"]) for point in points if "text" in point.vectors}
        return _numbered([list(_spread(tier, vectors, balance)) for tier in _tiers(_entered(order))])

    return rule


def _spread(tier: Sequence[Ranked], vectors: Mapping[str, np.ndarray], balance: float) -> Iterator[Ranked]:
    """One tier in the order of marginal relevance."""
    low, high = min(page.score for page in tier), max(page.score for page in tier)
    scale = balance / (high - low) if high > low else 0.0
    size = next((len(vector) for vector in vectors.values()), 1)
    matrix = np.stack([vectors.get(page.id, np.zeros(size)) for page in tier])
    relevance = np.array([(page.score - low) * scale for page in tier])
    nearest = np.zeros(len(tier))
    left = set(range(len(tier)))
    while left:
        value = relevance - (1 - balance) * nearest
        best = min(left, key=lambda i: (-value[i], tier[i].id))  # noqa: B023
        left.remove(best)
        yield _ruled(
            tier[best],
            float(value[best]),
            _scaled(tier[best], scale, low)
            | {"diversity": Feature(float(nearest[best]), -(1 - balance) * float(nearest[best]))},
        )
        nearest = np.maximum(nearest, matrix @ matrix[best])


def _scaled(page: Ranked, scale: float, low: float) -> dict[str, Feature]:
    """The page's reasons, their shares adding up to its relevance."""
    first, *rest = page.stages[STAGE].features.items()
    base = first[1]._replace(share=(first[1].share - low) * scale)
    return {first[0]: base} | {name: each._replace(share=each.share * scale) for name, each in rest}


def _boosted(order: Sequence[Ranked], name: str, gaining: set[str], weight: float) -> list[Ranked]:
    gain, none = Feature(1.0, weight), Feature(0.0, 0.0)
    return _adjusted(order, name, {page.id: gain if page.id in gaining else none for page in order})


def _adjusted(order: Sequence[Ranked], name: str, gains: Mapping[str, Feature]) -> list[Ranked]:
    """Each page with what a rule gives it, in the order that makes."""
    changed = [
        _ruled(page, page.score + gains[page.id].share, {**page.stages[STAGE].features, name: gains[page.id]})
        for page in _entered(order)
    ]
    tiers = [sorted(tier, key=lambda page: (-page.score, page.id)) for tier in _tiers(changed)]
    return _numbered(tiers)


def _entered(order: Sequence[Ranked]) -> list[Ranked]:
    """Pages with a stage `rules`: at first the score of the stage before, standardised among its pages."""
    pages = []
    for tier in _tiers(order):
        if tier[0].stage == STAGE:
            pages += tier
            continue
        starts = standardised([page.score for page in tier])
        pages += [
            _ruled(page, start, {page.stage: Feature(page.score, start)})
            for page, start in zip(tier, starts, strict=True)
        ]
    return pages


def _tiers(order: Sequence[Ranked]) -> list[list[Ranked]]:
    """Pages by the last stage before the rules, in the order of those stages."""
    tiers: dict[str, list[Ranked]] = {}
    for page in order:
        before = next(iter(page.stages[STAGE].features)) if page.stage == STAGE else page.stage
        tiers.setdefault(before, []).append(page)
    return list(tiers.values())


def _ruled(page: Ranked, score: float, features: Mapping[str, Feature]) -> Ranked:
    return replace(page, score=score, stages={**page.stages, STAGE: Stage(0, score, features)})


def _numbered(tiers: Sequence[Sequence[Ranked]]) -> list[Ranked]:
    pages = chain.from_iterable(tiers)
    return [
        replace(page, stages={**page.stages, STAGE: page.stages[STAGE]._replace(rank=rank)})
        for rank, page in enumerate(pages, start=1)
    ]


def _mean(matrix: Any) -> np.ndarray:
    mean = np.asarray(matrix, float).mean(0)
    length = np.linalg.norm(mean)
    return mean / length if length else mean  # type: ignore[no-any-return]
