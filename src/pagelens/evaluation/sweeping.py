"""What a reranker would have done with other settings, read off the reasons it gave: nothing is asked again.

The score of our rerankers is a sum of features, each standardised among the pages that were seen, each with a
weight; every page keeps the features' values. Of fewer pages, or with other weights, the sum is taken anew.
A reranker whose reasons do not add up that way has no sweep.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pagelens.evaluation.significance import Interval, interval
from pagelens.ranking import Ranked
from pagelens.scores import standardised

DEPTHS = (5, 10, 20, 50, 100, 200, 500)
WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
FOLDS = 5
KEPT = 0.99
"""Of the lift that a skip margin may not touch."""
LITTLE = 0.01
"""Of the measure, that fewer pages may lose."""

Quality = Callable[[Sequence[Sequence[str]]], np.ndarray]
"""Orders, one a question -> one number a question, higher is better."""


@dataclass(frozen=True)
class Seen:
    """What a reranker saw of one question, in the order before it."""

    ids: Sequence[str]
    """All candidates; the first of them were seen."""
    before: np.ndarray
    """Scores of the stage before. *Shape:* (seen,)."""
    values: np.ndarray
    """*Shape:* (seen, features)."""
    weights: np.ndarray
    """*Shape:* (features,)."""
    blended: bool
    """Whether the features are the stage before and the reranker's own score, in this order."""

    def order(
        self,
        depth: int | None = None,
        weights: np.ndarray | None = None,
        scores: np.ndarray | None = None,
    ) -> list[str]:
        """The candidates, had the reranker seen so many, or weighed otherwise, or scored otherwise.

        Args:
            depth: Default: as many as it saw.
            weights: Default: its own.
            scores: Of the reranker alone, as it returns them; they replace those it gave.
        """
        scored = self.scored(depth, weights, scores)
        return [*scored, *self.ids[len(scored) :]]

    def scored(
        self,
        depth: int | None = None,
        weights: np.ndarray | None = None,
        scores: np.ndarray | None = None,
    ) -> dict[str, float]:
        """As `order`, but those seen alone, with what the stage gives them; best first."""
        ids = self.ids[: len(self.values) if depth is None else min(depth, len(self.values))]
        if not ids:
            return {}
        values = self.values[: len(ids)]
        if scores is not None and self.blended:
            values = np.column_stack([values[:, 0], scores])
        if scores is None or self.blended:
            scores = _columns(values) @ (self.weights if weights is None else weights)
        by_score = sorted(zip(-np.round(scores, 9), ids, scores.tolist(), strict=True))
        return {id: score for _, id, score in by_score}

    def columns(self) -> np.ndarray:
        """The features, standardised. *Shape:* (seen, features)."""
        return _columns(self.values)

    @property
    def margin(self) -> float:
        """By how many standard deviations the best page before leads the second (`Limits.skip_margin`)."""
        best, second, *_ = [*standardised(self.before.tolist()), 0.0, 0.0]
        return best - second if len(self.before) > 1 else 0.0


def read_seen(stage: str, before: str, order: Sequence[str], pages: Mapping[str, Ranked]) -> Seen | None:
    """What a reranker saw, from the pages of one search; None where the reasons do not make up the scores.

    Args:
        stage: Of the reranker.
        before: The stage whose order it was given.
        order: That order, of all candidates.
        pages: By id.
    """
    ids = [id for id in order if stage in pages[id].stages]
    opinions = [pages[id].stages[stage] for id in ids]
    if not opinions:
        return Seen(order, np.zeros(0), np.zeros((0, 0)), np.zeros(0), True)
    names = list(opinions[0].features)
    if not names or any(before not in pages[id].stages for id in ids):
        return None
    values = np.array([[each.features[name].value for name in names] for each in opinions], float)
    shares = np.array([[each.features[name].share for name in names] for each in opinions], float)
    columns = _columns(values)
    squares = (columns**2).sum(0)
    weights = np.divide((shares * columns).sum(0), squares, out=np.zeros(len(names)), where=squares > 0)
    scores = np.array([each.score for each in opinions])
    if not np.allclose(columns @ weights, scores, atol=1e-6):
        return None
    own = set(ids)
    return Seen(
        [*ids, *(id for id in order if id not in own)],
        np.array([pages[id].stages[before].score for id in ids]),
        values,
        weights,
        len(names) == 2 and names[0] == before,
    )


class Depth(NamedTuple):
    """How a reranker does that sees so many pages."""

    depth: int
    quality: Interval
    loss: Interval
    """To the best depth of the sweep, paired; 0 for that one."""
    ceiling: float
    """What an oracle would reach with so many pages."""
    milliseconds: float | None
    """Of the reranker, as if every page took as long."""


def depth_sweep(
    seen: Sequence[Seen],
    quality: Quality,
    ceiling: Callable[[int], float],
    groups: np.ndarray,
    milliseconds: float | None,
) -> list[Depth]:
    """The sweep over depths; `milliseconds` is what the reranker took for all that it saw."""
    most = max(len(each.values) for each in seen)
    tried = [depth for depth in DEPTHS if depth < most] + [most]
    values = {depth: quality([each.order(depth) for each in seen]) for depth in tried}
    best = max(tried, key=lambda depth: (values[depth].mean(), -depth))
    return [
        Depth(
            depth,
            interval(values[depth], groups),
            interval(values[depth] - values[best], groups),
            ceiling(depth),
            None if milliseconds is None else milliseconds * depth / most,
        )
        for depth in tried
    ]


def enough(sweep: Sequence[Depth], milliseconds: float | None = None) -> Depth | None:
    """The fewest pages that lose less than 1% to the best depth; the best that fits where none does.

    Args:
        sweep: From few pages to many.
        milliseconds: For the reranker; None: all there are. No depth may fit.
    """
    best = max(each.quality.mean for each in sweep)
    fitting = [
        each
        for each in sweep
        if milliseconds is None or each.milliseconds is None or each.milliseconds <= milliseconds
    ]
    fine = [each for each in fitting if each.quality.mean >= (1 - LITTLE) * best]
    return fine[0] if fine else max(fitting, key=lambda each: each.quality.mean, default=None)


class Margin(NamedTuple):
    """When the reranker may be left out."""

    margin: float
    """Standard deviations, for `skip_margin`."""
    skipped: float
    """Share of the questions."""
    kept: float
    """Share of the lift. Chosen on these questions: on others it may be less."""


def skip_margin(seen: Sequence[Seen], gains: np.ndarray) -> Margin | None:
    """The smallest margin that keeps 99% of the lift, as any larger one does; None where there is none."""
    margins = np.array([each.margin for each in seen])
    total = gains.sum()
    if total <= 0:
        return None
    best = None
    for margin in sorted({math.ceil(100 * each) / 100 for each in margins if each > 0}, reverse=True):
        skipped = margins >= margin
        kept = 1 - gains[skipped].sum() / total
        if kept < KEPT:
            break
        if skipped.any():
            best = Margin(margin, float(skipped.mean()), float(kept))
    return best


class Blend(NamedTuple):
    """The weight of a reranker's score beside the stage before it."""

    weight: float
    """The best of `WEIGHTS` on these questions."""
    used: float
    gain: Interval
    """Over the weight used, each fold of documents by the weight that is best on the others."""


def best_blend(seen: Sequence[Seen], quality: Quality, groups: np.ndarray) -> Blend | None:
    """None for a reranker that weighs the stage before it itself."""
    if not all(each.blended for each in seen):
        return None
    used = next(float(each.weights[1]) for each in seen if len(each.values))
    now = quality([each.order() for each in seen])
    values = np.array(
        [quality([each.order(weights=np.array([1.0, weight])) for each in seen]) for weight in WEIGHTS]
    )
    gains = chosen_elsewhere(values, now, groups) - now
    return Blend(WEIGHTS[int(values.mean(1).argmax())], used, interval(gains, groups))


def chosen_elsewhere(values: np.ndarray, now: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Each fold of documents by the setting that is best on the others: what choosing one is worth.

    Args:
        values: *Shape:* (settings, questions).
        now: Taken where there is one fold. *Shape:* (questions,).
        groups: See `significance.clusters`.

    Returns:
        *Shape:* (questions,).
    """
    folds, found = groups % FOLDS, now.copy()
    for fold in np.unique(folds):
        here = folds == fold
        if not here.all():
            found[here] = values[values[:, ~here].mean(1).argmax()][here]
    return found


def _columns(values: np.ndarray) -> np.ndarray:
    """Each feature standardised. *Shape:* (pages, features)."""
    return np.array([standardised(column.tolist()) for column in values.T]).T.reshape(values.shape)
