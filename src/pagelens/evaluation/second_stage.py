"""The rerankers of an evaluation: scores out of fold, their noise, what other settings would give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pagelens.errors import UsageError
from pagelens.evaluation.asking import DEPTH, Asked, Qrels, Run, fitted_to
from pagelens.evaluation.fitting import FEWEST, Judged, out_of_fold
from pagelens.evaluation.measures import measured, oracle
from pagelens.evaluation.splitting import Split, split, split_sweep
from pagelens.evaluation.sweeping import (
    Blend,
    Depth,
    Margin,
    Seen,
    best_blend,
    depth_sweep,
    enough,
    skip_margin,
)
from pagelens.searching import Step, stage_names
from pagelens.store.points import page_point_id

if TYPE_CHECKING:
    from pagelens.library import Library

AGAIN = 10
"""Questions that are scored a second time, to see how much scores move by themselves."""
LITTLE_LEFT = 0.01
OUT_OF_FOLD = ", out of fold"


@dataclass(frozen=True)
class Reranking:
    """A reranker, and what it saw."""

    stage: str
    before: str
    """The row of the report it is compared with: of the stage whose order it was given."""
    step: Step | None
    """None for a stored run."""
    seen: Sequence[Seen]
    """One a question; none where its scores cannot be read back."""
    trained_on: int = 0
    """How many of the questions it, or a reranker before it, was fitted to."""
    held_out: bool = False
    """Whether `seen` is weighed with coefficients that know nothing of a question's documents."""

    @property
    def name(self) -> str:
        """Of its row in the report."""
        return self.stage + OUT_OF_FOLD if self.held_out else self.stage

    @property
    def depth(self) -> int:
        """Pages that it saw."""
        return max((len(each.values) for each in self.seen), default=0) or DEPTH


def rerankings(asked: Asked) -> list[Reranking]:
    """Every reranker, in their order, as it searched; out of fold where there is a stored run of that."""
    names = list(asked.runs)
    searched = [name for name in names if not name.endswith(OUT_OF_FOLD)]
    steps, trained = dict(zip(stage_names(asked.steps), asked.steps, strict=True)), 0
    found: list[Reranking] = []
    for before, stage in pairwise(searched):
        if stage.partition(":")[0] != "rerank":
            continue
        step = steps.get(stage)
        trained = max(trained, 0 if step is None else fitted_to([step], asked.task.texts))
        seen = [each.seen[stage] for each in asked.answers if stage in each.seen]
        if held_out := stage + OUT_OF_FOLD in names:
            before = before + OUT_OF_FOLD if before + OUT_OF_FOLD in names else before
        whole = seen if len(seen) == len(asked.answers) else []
        found.append(Reranking(stage, before, step, whole, trained, held_out))
    return found


def hold_out(asked: Asked, searched: Sequence[Reranking]) -> list[Reranking]:
    """Those that were fitted to some of the questions, and those after them, out of fold where that can be.

    One that comes after is given the order that the one before it has out of fold, if it was asked about all
    the pages that this brings up.
    """
    found: list[Reranking] = []
    for each in searched:
        if each.step is not None and fitted_to([each.step], asked.task.texts):
            found.append(_weighed_anew(asked, each))
        elif found and found[-1].held_out and found[-1].seen:
            found.append(_following(found[-1], each))
        else:
            found.append(each)
    return found


def splittable(first: Reranking, second: Reranking) -> bool:
    """Whether the scores of both say what other numbers of pages would give."""
    alone = second.step is not None and "list" not in second.step.reranker.needs
    return alone and bool(first.seen and second.seen) and all(each.blended for each in second.seen)


def _following(first: Reranking, second: Reranking) -> Reranking:
    if not splittable(first, second):
        return second
    pages = (first.depth, second.depth)
    seen = [split(*each, pages) for each in zip(first.seen, second.seen, strict=True)]
    there = [each for each in seen if each is not None]
    if len(there) < len(seen):
        return second
    return replace(second, before=first.name, seen=there, held_out=True)


def _weighed_anew(asked: Asked, last: Reranking) -> Reranking:
    """Each question by coefficients fitted without its documents.

    The folds are those of `fitting.out_of_fold`. With too little to learn from it stays as it is.
    """
    if not last.seen:
        return last
    judged = []
    for question, home, seen in zip(asked.task.questions, asked.task.homes, last.seen, strict=True):
        pages = [asked.pages[id] for id in seen.ids[: len(seen.values)]]
        relevant = {page for page, grade in asked.task.qrels[question.id].items() if grade > 0}
        if home and pages:
            judged.append(
                Judged(
                    question.id,
                    seen.columns(),
                    np.array([page.name in relevant for page in pages], bool),
                    np.array([page.doc_id for page in pages]),
                    home,
                    len(relevant),
                )
            )
    if len({each.home for each in judged}) < FEWEST:
        return last
    try:
        own = dict(zip((each.id for each in judged), out_of_fold(judged), strict=True))
    except UsageError:  # in some fold nothing is left to learn from
        return last
    weighed = [
        # without a relevant page in the library any weights will do
        replace(seen, weights=own.get(question.id, seen.weights))
        for question, seen in zip(asked.task.questions, last.seen, strict=True)
    ]
    return replace(last, seen=weighed, held_out=True)


def noise(library: Library, asked: Asked, last: Reranking, measure: str) -> float | None:
    """Mean absolute change of a measure when the same pages are scored in the opposite order.

    They come in other batches then, and sums in 16 bits come out otherwise. Of a sample of the questions;
    None where it cannot be told.
    """
    if last.step is None or not last.seen:
        return None
    score, moved = last.step.reranker.score, []
    for number in np.linspace(0, len(last.seen) - 1, min(AGAIN, len(last.seen))).astype(int):
        seen, question = last.seen[number], asked.task.questions[number]
        there = {
            page_point_id(each.page.page_id): each
            for each in library.candidates(question.query, DEPTH, question.filter)
        }
        ids = seen.ids[: len(seen.values)]
        if len(ids) < 2 or not there.keys() >= set(ids):
            continue
        one = score(question.query, [there[id] for id in ids])
        two = score(question.query, [there[id] for id in reversed(ids)])[::-1]
        if np.isfinite([*one, *two]).all():
            qrels = {question.id: asked.task.qrels[question.id]}
            orders = [seen.order(scores=np.array(scores)) for scores in (one, two)]
            runs = [{question.id: [asked.pages[id].name for id in order]} for order in orders]
            first, second = (measured(qrels, run, [measure])[measure][0] for run in runs)
            moved.append(abs(second - first))
    return float(np.mean(moved)) if moved else None


class Budget(NamedTuple):
    """Milliseconds that rerankers may take; None: as long as they like."""

    last: float | None = None
    both: float | None = None
    """The last and the one before it."""


@dataclass(frozen=True)
class Advice:
    """What the sweeps say."""

    sweep: Sequence[Depth] = ()
    enough: Depth | None = None
    """The fewest pages that do as well, within the budget."""
    margin: Margin | None = None
    blend: Blend | None = None
    exhaustive: Sequence[Depth] = ()
    """The sweep up to every page of the library that a list holds; this reranker alone."""
    splits: Sequence[Split] = ()
    """How to part a budget between the reranker before and this one."""
    unseen: float = 0.0
    """What the deciding measure loses because a page is in the first 100 and not among those seen."""
    low: float = 0.0
    """What it loses because a page that was seen ranks low."""

    @property
    def next(self) -> str:
        """Where more is to be had."""
        if max(self.unseen, self.low) < LITTLE_LEFT:
            return "little is left for any reranker"
        if self.low >= self.unseen:
            return (
                f"a better reranker, be it on fewer pages: {self.low:.3f} is lost in the order of the pages "
                f"seen, {self.unseen:.3f} below them"
            )
        return (
            f"more pages, be it for a smaller reranker: {self.unseen:.3f} is lost below the pages seen, "
            f"{self.low:.3f} in their order"
        )


def advise(
    asked: Asked,
    last: Reranking,
    first: Reranking | None,
    measure: str,
    gains: np.ndarray,
    budget: Budget,
    deep: Asked | None,
) -> Advice:
    """Sweep what can be swept.

    Args:
        asked: The task and its runs.
        last: The reranker.
        first: The one before it.
        measure: Which decides.
        gains: In that measure, over the stage before. *Shape:* (questions,).
        budget: Milliseconds that they may take.
        deep: The same questions with every page reranked by the last alone.
    """
    if not last.seen:
        return Advice()
    qrels, groups = asked.task.qrels, asked.task.groups

    def quality(orders: Sequence[Sequence[str]]) -> np.ndarray:
        return measured(qrels, asked.run(orders), [measure])[measure]

    def sweep_of(of: Asked, stage: str, seen: Sequence[Seen]) -> list[Depth]:
        run = asked.run([each.ids for each in seen], whole=True)
        took = own_milliseconds(of, stage)
        return depth_sweep(seen, quality, lambda depth: limit(qrels, run, depth, measure), groups, took)

    sweep = sweep_of(asked, last.stage, last.seen)
    more: list[Depth] = []
    if deep is not None and (other := rerankings(deep)) and other[-1].seen:
        pairs = zip(other[-1].seen, last.seen, strict=True)
        alone = [replace(each, weights=own.weights) for each, own in pairs]
        more = sweep_of(deep, other[-1].stage, alone)
    splits: list[Split] = []
    if first is not None and splittable(first, last):
        costs = _page_milliseconds(asked, first), _page_milliseconds(asked, last)
        own_budget = [] if budget.both is None else [budget.both]
        splits = split_sweep(first.seen, last.seen, quality, groups, costs, own_budget)
    reached = float(quality([each.order() for each in last.seen]).mean())
    here, most = (limit(qrels, asked.runs[last.before], depth, measure) for depth in (last.depth, DEPTH))
    return Advice(
        sweep,
        enough(sweep, budget.last),
        skip_margin(last.seen, gains),
        best_blend(last.seen, quality, groups),
        more,
        splits,
        max(0.0, most - here),
        max(0.0, here - reached),
    )


def limit(qrels: Qrels, run: Run, depth: int, measure: str) -> float:
    """What the best order of the first `depth` pages of a run gives."""
    return float(measured(qrels, oracle(qrels, run, depth), [measure])[measure].mean())


def own_milliseconds(asked: Asked, stage: str) -> float | None:
    """What a stage by itself takes, mean; None of stored runs."""
    if not asked.answers:
        return None
    return float(np.mean([answer.laps.get(stage, 0.0) for answer in asked.answers]))


def _page_milliseconds(asked: Asked, reranking: Reranking) -> float:
    """What a page costs it, mean."""
    pages = float(np.mean([len(each.values) for each in reranking.seen]))
    return (own_milliseconds(asked, reranking.stage) or 0.0) / max(1.0, pages)
