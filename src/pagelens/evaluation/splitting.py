"""Two rerankers within a budget: the first on many pages, the second on the few that it puts on top.

Read off the scores that were stored, as in `sweeping`: a split is tried if the second reranker was asked
about every page it would see. So let both see as many pages, and every split can be.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np

from pagelens.evaluation.significance import Difference, Interval, compare, interval
from pagelens.evaluation.sweeping import DEPTHS, Quality, Seen, chosen_elsewhere
from pagelens.evaluation.verdict import SURE

Pages: TypeAlias = tuple[int, int]
"""How many the first and the second reranker see; 0: it is left out."""


def split(first: Seen, second: Seen, pages: Pages) -> Seen | None:
    """What the second would have seen of one question; None where it was not asked about one of the pages.

    Args:
        first: Of the first reranker.
        second: Of the second one, which must be `blended`: its own score of a page hangs on no other page.
        pages: How many each sees.
    """
    many, few = pages
    before = first.scored(many) if many else dict(zip(first.ids, first.before.tolist(), strict=False))
    top = list(before)[:few]
    own = dict(zip(second.ids, second.values[:, 1].tolist(), strict=False))
    if not own.keys() >= set(top):
        return None
    return replace(
        second,
        ids=[*before, *first.ids[len(before) :]],
        before=np.array([before[id] for id in top]),
        values=np.array([[before[id], own[id]] for id in top]).reshape(-1, 2),
    )


class Split(NamedTuple):
    """What is best within a budget."""

    budget: float
    """Milliseconds for both rerankers."""
    best: Pages
    """On these questions."""
    milliseconds: float
    """That it takes, as if every page took as long."""
    quality: Interval
    gain: Difference
    """Over what is recommended with less time; each fold of documents by the split that is best on others."""
    p: float
    """Of the gain, corrected for the number of budgets (Bonferroni)."""
    recommended: Pages
    """The best, if its gain is more than luck; else what is recommended with less time."""


def split_sweep(
    first: Sequence[Seen],
    second: Sequence[Seen],
    quality: Quality,
    groups: np.ndarray,
    costs: tuple[float, float],
    budgets: Sequence[float] = (),
) -> list[Split]:
    """The sweep over budgets, from no time to as much as any split takes.

    Args:
        first: One a question.
        second: Likewise.
        quality: What makes an order good.
        groups: See `significance.clusters`.
        costs: Milliseconds a page of each.
        budgets: To try beside 1, 2, 5, 10, 20, 50 ... milliseconds.
    """
    values: dict[Pages, np.ndarray] = {}
    for pages in _tried(first, second):
        seen = [split(*each, pages) for each in zip(first, second, strict=True)]
        there = [each for each in seen if each is not None]
        if len(there) == len(seen):
            values[pages] = quality([each.order() for each in there])
    spent = {pages: float(np.dot(pages, costs)) for pages in values}
    recommended, found = (0, 0), []
    tried = sorted({*_steps(spent), *budgets})
    for budget in tried:
        fitting = [pages for pages in values if spent[pages] <= budget]
        best = max(fitting, key=lambda pages: (round(values[pages].mean(), 9), -spent[pages]))
        now = values[recommended]
        chosen = chosen_elsewhere(np.array([values[pages] for pages in fitting]), now, groups)
        gain = compare(now, chosen, groups)
        p = min(1.0, gain.p * len(tried))
        if gain.low > 0 and p < SURE:
            recommended = best
        found.append(Split(budget, best, spent[best], interval(values[best], groups), gain, p, recommended))
    return found


def _tried(first: Sequence[Seen], second: Sequence[Seen]) -> list[Pages]:
    """None, each alone, both; the second sees no page that the first did not."""
    most, fewest = (max(len(each.values) for each in seen) for seen in (first, second))
    many, few = ([0, *(depth for depth in DEPTHS if depth < all_), all_] for all_ in (most, fewest))
    return [(a, b) for a in many for b in few if not a or b <= a]


def _steps(spent: Mapping[Pages, float]) -> Iterator[float]:
    """1, 2, 5, 10 ... from what the fastest split takes to what the slowest does."""
    times = [each for each in spent.values() if each > 0]
    if not times:
        return
    for power in range(math.floor(math.log10(min(times))), math.ceil(math.log10(max(times))) + 1):
        for step in (1, 2, 5):
            budget = step * 10.0**power
            if budget >= min(times):
                yield budget
            if budget >= max(times):
                return
