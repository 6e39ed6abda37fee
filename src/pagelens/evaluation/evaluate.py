"""How good each stage is on questions whose answers are known, and whether the reranker pays.

A stage is compared with the one it builds on: a list with the fused order, a later stage with the stage
before it. Ceiling, sweeps and verdict are about the last reranker; what one before it adds is said too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pagelens.calibration import Calibration
from pagelens.errors import UsageError
from pagelens.evaluation.asking import DEPTH, Asked, Qrels, Run, ask, judged_task, known_pages, stored
from pagelens.evaluation.measures import MEASURES, TOP, correlation, found_in, measured, promoted
from pagelens.evaluation.reliability import Reliability, reliability
from pagelens.evaluation.runs import Question, of_copies
from pagelens.evaluation.second_stage import (
    Advice,
    Budget,
    Reranking,
    advise,
    hold_out,
    limit,
    noise,
    own_milliseconds,
    rerankings,
)
from pagelens.evaluation.significance import Difference, Interval, compare, holm, intervals
from pagelens.evaluation.verdict import MEASURE, SURE, Lift, Preference, Signals, Verdict, decide
from pagelens.evaluation.weighing import ListWeight, list_weights
from pagelens.hits import SCHEMA
from pagelens.searching import Cascade, is_list

if TYPE_CHECKING:
    from pagelens.library import Library

MOST_EXHAUSTIVE = 1_000
"""Pages of a library that a reranker may be asked to score one and all."""
FIRST = "fused"
LATE = 50
"""A page in the top 50 and not in the top 5 is found late."""
_DRAWN = re.compile(
    r"\b(figures?|charts?|graphs?|diagrams?|plots?|pictures?|photos?|images?|logos?|maps?|colou?rs?)\b", re.I
)
_HARDLY = 20
"""Words of a page that has hardly one."""


class Paid(NamedTuple):
    """What time and machines are worth."""

    budget_ms: float | None = None
    """For a search."""
    gpu_hour: float | None = None
    """Price of an hour of the machine."""
    volume: float | None = None
    """Questions a second."""


@dataclass(frozen=True)
class StageReport:
    """One stage: a row of the report."""

    run: Run
    values: Mapping[str, np.ndarray]
    """By measure, a number a question, in the order of the task."""
    measures: Mapping[str, Interval]
    against: str | None = None
    """The stage it builds on."""
    difference: Difference | None = None
    """From that one, in the measure that decides."""
    p: float = math.nan
    """Of the difference, corrected for the number of stages compared (Holm)."""
    latency: tuple[float, float] | None = None
    """Median and 95th percentile of a search up to this stage, milliseconds; None of a list, a stored run."""
    cost: float | None = None
    """Of a thousand searches up to this stage."""
    trained_on: int = 0
    """How many of these questions it, or a reranker before it, was fitted to."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON; what is not known is left out."""
        found: dict[str, Any] = dict(self.measures)
        if self.difference is not None:
            own = self.difference._asdict()
            found["difference"] = {"against": self.against, **own, "p_corrected": self.p}
        if self.latency is not None:
            found["latency_ms"] = dict(zip(("p50", "p95"), self.latency, strict=True))
        if self.cost is not None:
            found["cost_of_1000"] = self.cost
        if self.trained_on:
            found["trained_on"] = self.trained_on
        return found


@dataclass(frozen=True)
class Evaluation:
    """Everything that was measured."""

    asked: Asked
    measure: str
    """Which decides."""
    stages: Mapping[str, StageReport]
    before: str
    """The stage whose order the last reranker was given; the first stage's without one."""
    top: str | None
    """The last reranker's, out of fold where that could be had; None without one."""
    depth: int
    """Pages that it saw."""
    ceiling: float
    """The deciding measure of the best order of those pages."""
    realised: float | None
    """The share of the room below the ceiling that it took; negative where it lost some."""
    noise: float | None
    """See `second_stage.noise`."""
    signals: Signals
    verdict: Verdict
    advice: Advice
    reliability: Reliability
    """Of the last reranker's probabilities."""
    weights: Sequence[ListWeight]
    """Of the lists in the fusion, each at other weights; none of stored runs."""

    @property
    def last(self) -> StageReport:
        """Of the last reranker, or without one of the first stage."""
        return self.stages[self.top or self.before]

    def worst(self, count: int = 10) -> list[int]:
        """Questions by number, the worst answered first; ties as they were asked."""
        return [int(i) for i in np.argsort(self.last.values["nDCG@10"], kind="stable")[:count]]

    def as_dict(self) -> dict[str, Any]:
        """The JSON that `pagelens eval --json` prints."""
        task, advice = self.asked.task, self.advice
        found: dict[str, Any] = _plain(
            {
                "schema": SCHEMA,
                "questions": len(task.questions),
                "documents": task.documents,
                "stages": {name: stage.as_dict() for name, stage in self.stages.items()},
                "verdict": self.verdict,
                "ceiling": {
                    "measure": self.measure,
                    "depth": self.depth,
                    "mean": self.ceiling,
                    "realised": self.realised,
                },
                "noise": self.noise,
                "reliability": asdict(self.reliability),
                "sweep": advice.sweep,
                "exhaustive": advice.exhaustive,
                "splits": advice.splits,
                "weights": self.weights,
                "advice": {
                    "depth": advice.enough and advice.enough.depth,
                    "skip_margin": advice.margin,
                    "blend": advice.blend,
                    "next": advice.next,
                }
                if advice.sweep
                else None,
                "notes": task.notes,
            }
        )
        return found


def evaluate(
    library: Library,
    questions: Sequence[Question],
    qrels: Qrels,
    page_name: str = "{doc_id}#{number}",
    rerank: Cascade = "auto",
    *,
    prefer: Preference | None = None,
    budget_ms: float | None = None,
    gpu_hour: float | None = None,
    queries_per_second: float | None = None,
    exhaustive: bool = False,
    runs: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Ask, measure, compare, decide.

    Args:
        library: What is asked.
        questions: See `runs.read_questions`.
        qrels: Which pages answer, by the names that `page_name` makes.
        page_name: See `runs.page_names`.
        rerank: As `Library.search`.
        prefer: What matters more; it chooses the measure that decides, see `verdict.MEASURE`.
        budget_ms: Milliseconds that a search may take.
        gpu_hour: Price of an hour of the machine.
        queries_per_second: How many questions are asked.
        exhaustive: Whether the last reranker also scores every page of the library.
        runs: A folder of TREC runs to evaluate instead of searching, see `asking.stored`.
        progress: Told how many searches of how many are done.

    Raises:
        UsageError: no question can be evaluated, or the library is too large for `exhaustive`, or it has no
            reranker.
        Missing: ir_measures or scipy, or what a reranker needs, is not there.
    """
    pages = known_pages(library, page_name)
    task = judged_task(questions, of_copies(library, qrels, page_name), pages.values())
    paid = Paid(budget_ms, gpu_hour, queries_per_second)
    if runs is not None:
        return report(stored(task, pages, runs), None, prefer, paid)
    steps = library.steps(rerank)
    if exhaustive and not steps:
        raise UsageError("--exhaustive lets a reranker score every page: name one with --rerank")
    if exhaustive and len(pages) > MOST_EXHAUSTIVE:
        raise UsageError(
            f"--exhaustive scores every page for every question: {len(pages)} pages are more than "
            f"{MOST_EXHAUSTIVE}; evaluate a smaller library"
        )
    number = len(task.questions)
    total = number * (1 + exhaustive)
    asked = ask(library, task, pages, steps, progress=lambda done: progress(done, total))
    searched, moved, deep = rerankings(asked), None, None
    if searched:
        moved = noise(library, asked, searched[-1], MEASURE[prefer])
    if exhaustive:
        all_pages = [replace(steps[-1], depth=len(pages))]
        deep = ask(library, task, pages, all_pages, len(pages), lambda done: progress(number + done, total))
    return report(asked, moved, prefer, paid, deep, library.calibration(steps))


def report(
    asked: Asked,
    moved: float | None = None,
    prefer: Preference | None = None,
    paid: Paid | None = None,
    deep: Asked | None = None,
    kept: Calibration | None = None,
) -> Evaluation:
    """Every stage by itself and against the one it builds on; then ceiling, sweeps and verdict.

    Args:
        asked: The task and its runs.
        moved: The noise of the last reranker.
        prefer: As `evaluate`.
        paid: What time and machines are worth.
        deep: The same questions with every page reranked by the last reranker alone.
        kept: The library's calibration of the last reranker.
    """
    measure, paid = MEASURE[prefer], paid or Paid()
    found = hold_out(asked, rerankings(asked))
    asked = _with(asked, found)
    last = found[-1] if found else None
    before = last.before if last else _base(list(asked.runs))
    stages = _stages(asked, found, measure, paid.gpu_hour)
    depth = last.depth if last else DEPTH
    ceiling = limit(asked.task.qrels, asked.runs[before], depth, measure)
    was = stages[before].values[measure]
    advice, realised = Advice(), None
    if last is not None:
        gains = stages[last.name].values[measure] - was
        room = ceiling - float(was.mean())
        realised = float(gains.mean()) / room if room > 1e-9 else None
        other = found[-2] if len(found) > 1 else None
        budget = Budget(
            _left(paid.budget_ms, stages[before]),
            _left(paid.budget_ms, stages[other.before]) if other else None,
        )
        advice = advise(asked, last, other, measure, gains, budget, deep)
    signals = _signals(asked, stages, before, found, measure, ceiling, moved, paid)
    return Evaluation(
        asked,
        measure,
        stages,
        before,
        last.name if last else None,
        depth,
        ceiling,
        realised,
        moved,
        signals,
        decide(signals, prefer),
        advice,
        reliability(asked, last, kept),
        _weights(asked, measure),
    )


def _weights(asked: Asked, measure: str) -> list[ListWeight]:
    def quality(orders: Sequence[Sequence[str]]) -> np.ndarray:
        return measured(asked.task.qrels, asked.run(orders), [measure])[measure]

    lists = [each.lists for each in asked.answers]
    return list_weights(lists, asked.weights, quality, asked.task.groups)


def _left(budget_ms: float | None, before: StageReport) -> float | None:
    """Of a search's budget, after 95% of the searches up to this stage; None without one."""
    if budget_ms is None or before.latency is None:
        return None
    return max(0.0, budget_ms - before.latency[1])


def _with(asked: Asked, found: Sequence[Reranking]) -> Asked:
    """With the runs out of fold, each after that of the same stage."""
    held_out = {each.stage: each for each in found if each.held_out and each.name not in asked.runs}
    runs: dict[str, Run] = {}
    for name, run in asked.runs.items():
        runs[name] = run
        if name in held_out:
            each = held_out[name]
            runs[each.name] = asked.run([seen.order() for seen in each.seen])
    return replace(asked, runs=runs)


def _stages(
    asked: Asked, rerankers: Sequence[Reranking], measure: str, gpu_hour: float | None
) -> dict[str, StageReport]:
    groups = asked.task.groups
    of = {each.name: each for each in rerankers} | {each.stage: each for each in rerankers}
    values = {name: measured(asked.task.qrels, run) for name, run in asked.runs.items()}
    against = _against(list(asked.runs), rerankers)
    differences = {
        name: compare(values[other][measure], values[name][measure], groups)
        for name, other in against.items()
        if other is not None
    }
    corrected = holm({name: each.p for name, each in differences.items()})
    columns = np.stack([values[name][each] for name in values for each in MEASURES], axis=1)
    found = iter(intervals(columns, groups))
    reports = {}
    for name, run in asked.runs.items():
        times = _milliseconds(asked, of[name].stage if name in of else name)
        reports[name] = StageReport(
            run,
            values[name],
            {each: next(found) for each in MEASURES},
            against[name],
            differences.get(name),
            corrected.get(name, math.nan),
            None if times is None else (float(np.median(times)), float(np.percentile(times, 95))),
            None if times is None or gpu_hour is None else float(times.mean()) / 3600 * gpu_hour,
            _trained_on(name, rerankers),
        )
    return reports


def _base(names: Sequence[str]) -> str:
    """The stage that lists are compared with."""
    return FIRST if FIRST in names else names[0]


def _against(names: Sequence[str], rerankers: Sequence[Reranking]) -> dict[str, str | None]:
    """The stage each one is compared with; None for the fused order."""
    held_out = {each.name: each.before for each in rerankers if each.held_out}
    before = base = _base(names)
    found: dict[str, str | None] = {}
    for name in names:
        if name == base:
            found[name] = None
        elif is_list(name):
            found[name] = base
        elif name in held_out:
            found[name] = held_out[name]
        else:
            found[name], before = before, name
    return found


def _signals(
    asked: Asked,
    stages: Mapping[str, StageReport],
    before: str,
    rerankers: Sequence[Reranking],
    measure: str,
    ceiling: float,
    moved: float | None,
    paid: Paid,
) -> Signals:
    task, base = asked.task, stages[before]
    words = {page.name: page.words for page in asked.pages.values()}
    relevant = [
        [words[page] for page, grade in pages.items() if grade > 0 and page in words]
        for pages in task.qrels.values()
    ]
    drawn = [
        bool(_DRAWN.search(each.query)) or (bool(own) and max(own) < _HARDLY)
        for each, own in zip(task.questions, relevant, strict=True)
    ]
    better = [
        name
        for name, stage in stages.items()
        if is_list(name) and stage.difference and stage.difference.low > 0 and stage.p < SURE
    ]
    early = found_in(task.qrels, base.run, TOP)
    # A page that is not there is lost by no stage.
    there = {
        id: {page: grade for page, grade in pages.items() if page in words}
        for id, pages in task.qrels.items()
        if any(grade > 0 and page in words for page, grade in pages.items())
    }
    recall = measured(there, base.run, [f"R@{TOP}", f"R@{DEPTH}"])
    top_recall, recall_of_all = (float(each.mean()) for each in recall.values())
    wanted = [page for pages in task.qrels.values() for page, grade in pages.items() if grade > 0]
    signals = Signals(
        measure=measure,
        questions=len(task.questions),
        documents=task.documents,
        first=base.measures["nDCG@10"].mean,
        before=float(base.values[measure].mean()),
        ceiling=ceiling,
        absent=sum(page not in words for page in wanted) / len(wanted),
        lost=1 - recall_of_all,
        misplaced=recall_of_all - top_recall,
        late=float((found_in(task.qrels, base.run, LATE) & ~early).mean()),
        better_list=", ".join(better),
        page_words=float(np.median([number for own in relevant for number in own])),
        question_words=float(np.median([len(each.query.split()) for each in task.questions])),
        drawn=float(np.mean(drawn)),
        budget_ms=paid.budget_ms,
    )
    if not rerankers:
        return signals
    *others, last = rerankers
    after, took = stages[last.name], own_milliseconds(asked, last.stage)
    helped = float(found_in(task.qrels, after.run, TOP).mean() - early.mean())
    known = stages[last.stage].difference
    price = None
    if paid.gpu_hour is not None and took is not None and helped > 0:
        price = took / 3_600_000 * paid.gpu_hour / helped
    return replace(
        signals,
        difference=after.difference,
        p=after.p,
        noise=moved,
        trained_on=after.trained_on,
        in_sample=known.mean if known and last.held_out else None,
        others={
            each.name: Lift(difference, stages[each.name].p, stages[each.name].trained_on)
            for each in others
            if (difference := stages[each.name].difference) is not None
        },
        margin=float(np.median([each.margin for each in last.seen])) if last.seen else None,
        correlation=correlation(base.run, after.run, last.depth),
        promoted=promoted(task.qrels, base.run, after.run),
        p95=after.latency[1] if after.latency else None,
        helped_price=price,
        machines=None if paid.volume is None or took is None else paid.volume * took / 1000,
    )


def _trained_on(name: str, rerankers: Sequence[Reranking]) -> int:
    """Of a stage, with those before it; what comes after the rerankers has the order of them all."""
    for each in rerankers:
        if name == each.name and each.held_out:
            return 0
        if name == each.stage:
            return each.trained_on
    return 0 if is_list(name) or name == FIRST or not rerankers else rerankers[-1].trained_on


def _milliseconds(asked: Asked, stage: str) -> np.ndarray | None:
    """What each search took up to this stage; a list alone was not timed."""
    if not asked.answers or is_list(stage):
        return None
    end = "fusion" if stage == FIRST else stage
    spent = []
    for laps in (answer.laps for answer in asked.answers):
        names = list(laps)
        spent.append(sum(laps[name] for name in names[: names.index(end) + 1 if end in names else None]))
    return np.array(spent)


def _plain(value: Any) -> Any:
    """As JSON has it: records as objects, numbers with six digits, null for what is not known."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 6)
    return value
