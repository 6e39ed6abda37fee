"""Orders of pages: standardised scores, ranks, fusion, and what a later stage does to an order.

Pages are ordered here and nowhere else: by score, then by id.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pagelens.records import Feature, Opinion, Stage
from pagelens.scores import standardised

FUSION: Mapping[str, float] = {"bm25": 1.0, "text": 1.0, "document": 0.5}
"""Weights of the standardised scores; see docs/decisions/fusion.md."""
OTHER = 0.25
"""Weight of another list, as of a visual encoder, until somebody weighs it: low, because none could be
measured here, and a small encoder must not outvote words."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """One page in an order."""

    id: str
    """Of its point."""
    score: float
    """Of the last stage that saw it."""
    stages: Mapping[str, Stage]
    passage: range | None = None
    """What the last reranker read as the answer: positions in the page's words."""

    @property
    def stage(self) -> str:
        """The last stage that saw it."""
        return next(reversed(list(self.stages)))


def fuse(
    lists: Mapping[str, Mapping[str, float]], weights: Mapping[str, float] = FUSION
) -> dict[str, Opinion]:
    """The weighted sum of the lists' standardised scores, over all pages of any list.

    A page that a list does not hold counts as the lowest of that list: one without words has no BM25.

    Args:
        lists: Scores by page id, by list.
        weights: By list; others have `OTHER`.
    """
    ids = sorted({id for scores in lists.values() for id in scores})
    reasons: dict[str, dict[str, Feature]] = {id: {} for id in ids}
    for name, scores in lists.items():
        lowest = min(scores.values(), default=0.0)
        values = [scores.get(id, lowest) for id in ids]
        for id, value, z in zip(ids, values, standardised(values), strict=True):
            reasons[id][name] = Feature(value, weights.get(name, OTHER) * z)
    return {id: Opinion(sum(each.share for each in why.values()), why) for id, why in reasons.items()}


def first_order(
    lists: Mapping[str, Mapping[str, float]], stage: str, weights: Mapping[str, float] = FUSION
) -> list[Ranked]:
    """The pages that `stage` (a list, or `fused`) saw, in its order, with what each stage thought of them."""
    stages = {name: ranks({id: Opinion(s) for id, s in scores.items()}) for name, scores in lists.items()}
    if stage == "fused":
        stages["fused"] = ranks(fuse(lists, weights))
    return [
        Ranked(id, last.score, {name: by_id[id] for name, by_id in stages.items() if id in by_id})
        for id, last in stages.get(stage, {}).items()
    ]


def reorder(order: Sequence[Ranked], stage: str, opinions: Mapping[str, Opinion]) -> list[Ranked]:
    """The order after a later stage: what it saw by its scores, then the rest in the order it had."""
    by_id = {page.id: page for page in order}
    seen = [
        replace(
            by_id[id],
            score=last.score,
            stages={**by_id[id].stages, stage: last},
            passage=opinions[id].passage or by_id[id].passage,
        )
        for id, last in ranks(opinions).items()
    ]
    return seen + [page for page in order if page.id not in opinions]


def orders(pages: Sequence[Ranked], alone: Sequence[str], later: Sequence[str]) -> dict[str, list[str]]:
    """The ids in the order of each stage, read back from what the pages remember.

    Args:
        pages: All candidates of one search.
        alone: Stages that order what they saw and nothing else: the lists, and last their fusion.
        later: Stages that order the top of the order before them anew; one that saw no page changes nothing.
    """
    found: dict[str, list[str]] = {}
    before: list[str] = []
    for name in (*alone, *later):
        seen = {page.id: page.stages[name].rank for page in pages if name in page.stages}
        order = sorted(seen, key=lambda id: (seen[id], id))
        found[name] = before = order + ([id for id in before if id not in seen] if name in later else [])
    return found


def falling(order: Sequence[Ranked]) -> list[float]:
    """One number a page that never rises: the score, moved down where a page is of a stage before."""
    scores: list[float] = []
    drop = 0.0
    for page in order:
        if scores and page.score - drop > scores[-1]:
            drop = page.score - scores[-1] + 1
        scores.append(page.score - drop)
    return scores


def ranks(opinions: Mapping[str, Opinion]) -> dict[str, Stage]:
    """By falling score, ties by id; what scores the same has the same rank, as pages of one document have."""
    ranked: dict[str, Stage] = {}
    rank, last = 0, math.nan
    for place, id in enumerate(sorted(opinions, key=lambda id: (-opinions[id].score, id)), start=1):
        opinion = opinions[id]
        if opinion.score != last:
            rank, last = place, opinion.score
        ranked[id] = Stage(rank, opinion.score, opinion.features)
    return ranked
