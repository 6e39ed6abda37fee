"""Does the reranker pay? Three answers, by rules; docs/verdict.md has them with their sources.

The lift decides, and only one that is more than luck and more than the scores' own noise. What else was seen
says why, and what to do next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from pagelens.evaluation.significance import Difference

Decision: TypeAlias = Literal["add", "skip", "first stage"]
Preference: TypeAlias = Literal["precision", "recall"]

MEASURE: dict[Preference | None, str] = {None: "nDCG@10", "precision": "nDCG@5", "recall": "R@10"}
"""What decides, by what matters to the user."""
GOOD_ENOUGH = 0.90
"""nDCG@10 of a first stage that is left alone."""
INTERACTIVE = 50.0
"""Milliseconds: a budget in which no reranker is worth its time."""
LITTLE = 0.01
"""A smaller lift, relative to the stage before, is none."""
SURE = 0.05
LOST = 0.2
"""Share of the relevant pages that the first stage may lose before it is the one to mend."""
LATE = 0.1
"""Share of questions that have their page in the top 50 and not in the top 5, that is worth a word."""
SAME = 0.95
"""Rank correlation of two orders that are nearly the same."""
FLAT = 0.25
"""Standard deviations between best and second page: a first stage that hardly prefers one."""
LONG, SHORT = 250, 60
"""Words a page: a full page of prose has 400 to 600, a slide or a form's half page 60."""
KEYWORDS = 3
"""Words of a question that is more of a list of keywords."""
DRAWN = 0.3
"""Share of questions about what is drawn."""
ABSENT = 0.05
"""Share of the relevant pages that the library does not have, that is worth a word."""
DEAR = 1.0
"""Price of one more question answered in the top 5, in the currency of `gpu_hour`; ours, without a source."""
MACHINES = 4
"""More than so many for the reranker alone is dear; ours too."""


class Lift(NamedTuple):
    """What a reranker before the last one adds to the stage before it."""

    difference: Difference
    p: float
    """As `Signals.p`."""
    trained_on: int
    """As `Signals.trained_on`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """What was measured, as the rules read it. Shares are 0..1."""

    measure: str
    """Which decides, one of `MEASURE`."""
    questions: int
    documents: int
    """How many groups of questions are independent."""
    first: float
    """nDCG@10 before the reranker."""
    before: float
    """The deciding measure before the reranker."""
    difference: Difference | None = None
    """Of the deciding measure; None: no reranker was asked."""
    p: float = math.nan
    """Of the difference, corrected for the other stages that were compared."""
    noise: float | None = None
    """How much the measure moves when the same pages are scored in another order; None: not measured."""
    trained_on: int = 0
    """How many of these questions the reranker was fitted to, in the numbers given here."""
    in_sample: float | None = None
    """The mean difference of the coefficients that searched, where `difference` is of others out of fold."""
    others: Mapping[str, Lift] = field(default_factory=dict)
    """The rerankers before it, by name."""
    ceiling: float = 1.0
    """The best that any order of those pages gives."""
    absent: float = 0.0
    """Share of the relevant pages that the library does not have."""
    lost: float = 0.0
    """Share of those that it has that are not in the top 100."""
    misplaced: float = 0.0
    """Share of them that are in the top 100 and not in the top 5."""
    late: float = 0.0
    """Share of the questions whose first relevant page is in the top 50 and not in the top 5."""
    better_list: str = ""
    """A list that alone does better than the lists fused, more than luck."""
    page_words: float | None = None
    """Median, of the relevant pages."""
    question_words: float = 0.0
    """Median."""
    drawn: float = 0.0
    """Share of the questions that name a figure, or whose page has hardly a word."""
    margin: float | None = None
    """Median, in standard deviations, by which the best page leads before the reranker."""
    correlation: float | None = None
    """Median Kendall tau of the pages that were seen, before and after."""
    promoted: tuple[float, float] | None = None
    """Of the pages that came into the top 5 the share that are relevant, and of those they drove out."""
    p95: float | None = None
    """Milliseconds of a whole search with the reranker."""
    budget_ms: float | None = None
    helped_price: float | None = None
    """Of one more question answered in the top 5."""
    machines: float | None = None
    """That the reranker alone keeps busy at the volume given."""


class Verdict(NamedTuple):
    """The answer, and the numbers behind it."""

    decision: Decision | None
    """None: these questions cannot tell."""
    reasons: list[str]
    """The deciding one first."""


def decide(signals: Signals, prefer: Preference | None = None) -> Verdict:
    """The rules, the first that fits decides."""
    decision, reason = _decision(signals, prefer)
    return Verdict(decision, [reason, *_signs(signals, prefer, decision, reason)])


def _decision(s: Signals, prefer: Preference | None) -> tuple[Decision | None, str]:
    if s.documents < 2:
        what = "one question" if s.questions < 2 else f"{s.questions} questions about one document"
        return None, f"no verdict: {what} cannot show how much is luck; ask about more documents"
    if s.lost >= LOST and s.lost > s.misplaced:
        return "first stage", (
            f"your first stage loses the page: {s.lost:.0%} of the relevant ones are not among its first 100 "
            f"and only {s.misplaced:.0%} stand there below the top 5; no reranker can bring the others back. "
            "Better OCR, another encoder or more candidates come first"
        )
    if s.trained_on:
        which = "the reranker, or one before it," if s.others else "the reranker"
        cure = (
            ", or let it see as many pages as the one before it: then it can be held out" if s.others else ""
        )
        return None, (
            f"no verdict: {which} was trained on {s.trained_on} of these {s.questions} questions; ask "
            f"others{cure}"
        )
    if s.difference is None:
        if s.first > GOOD_ENOUGH and prefer != "precision":
            return "skip", _enough(s)
        return None, (
            f"no verdict: no reranker was asked. With these candidates one could at most bring nDCG@10 from "
            f"{s.first:.3f} to {s.ceiling:.3f}"
        )
    lift = _told(s.measure, s.difference, s.p)
    if s.difference.high < 0:
        return "skip", f"the reranker makes it worse: {lift}"
    if s.budget_ms is not None and s.budget_ms < INTERACTIVE:
        return (
            "skip",
            f"a budget of {s.budget_ms:.0f} ms, less than {INTERACTIVE:.0f}, has no time to rerank",
        )
    if s.budget_ms is not None and s.p95 is not None and s.p95 > s.budget_ms:
        return "skip", (
            f"too slow as it is: 95% of the searches take up to {s.p95:.0f} ms, the budget is "
            f"{s.budget_ms:.0f} ms; see the sweep for fewer pages"
        )
    if s.first > GOOD_ENOUGH and prefer != "precision":
        return "skip", _enough(s)
    if not s.difference.wins + s.difference.losses:
        return "skip", (
            f"the reranker changes nothing: {s.measure} of each of the {s.questions} questions is what it was"
        )
    if not s.difference.low > 0 or not s.p < SURE:
        return "skip", (
            f"no lift can be told from luck: {lift}. These {s.questions} questions would show a difference "
            f"of {s.difference.detectable:.3f}; for a smaller one ask more"
        )
    if s.noise is not None and s.difference.mean <= s.noise:
        return "skip", f"the lift, {lift}, is not more than the scores' own noise ({s.noise:.3f})"
    if s.difference.mean < LITTLE * s.before:
        return "skip", f"the lift is less than {LITTLE:.0%} of {s.before:.3f}: {lift}"
    if s.helped_price is not None and s.helped_price > DEAR:
        return "skip", (
            f"too dear: each further question answered in the top 5 costs {s.helped_price:.2f} ({lift})"
        )
    if s.machines is not None and s.machines > MACHINES:
        return "skip", f"too dear: at this volume the reranker keeps {s.machines:.1f} machines busy ({lift})"
    fitted = "" if s.in_sample is None else " once it is fitted to such documents (`pagelens fit`)"
    return "add", f"the reranker helps{fitted}: {lift}"


def _signs(s: Signals, prefer: Preference | None, decision: Decision | None, reason: str) -> list[str]:
    """What else than the reason speaks for or against a reranker, by its number."""
    found = []
    if s.absent >= ABSENT:
        found.append(
            f"every figure is too low: {s.absent:.0%} of the relevant pages are not in this library; ingest "
            "them, or mend their names in the judgements"
        )
    if s.in_sample is not None:
        found.append(
            "out of fold: the figures are of coefficients fitted without the documents of each question; "
            f"those that searched know the questions, and gain {s.in_sample:+.3f} on them"
        )
    if s.better_list:
        found.append(f"the list {s.better_list} alone does better than the lists fused")
    if s.late >= LATE:
        found.append(f"for: {s.late:.0%} of the questions have their page in the top 50 and not in the top 5")
    if s.page_words is not None and s.page_words >= LONG:
        found.append(f"for: long pages, {s.page_words:.0f} words in the middle one, and small answers")
    if s.drawn >= DRAWN:
        found.append(
            f"for: {s.drawn:.0%} of the questions are about what is drawn, not written; a reranker that "
            "looks at the page sees it"
        )
    if s.margin is not None and s.margin < FLAT:
        found.append(f"for: the first stage hardly prefers a page ({s.margin:.2f} standard deviations)")
    if prefer == "precision":
        found.append("for: precision matters more to you than recall")
    if s.difference is not None and decision == "first stage":
        found.append(f"the reranker for its part: {_told(s.measure, s.difference, s.p)}")
    found += [_other(s.measure, name, lift) for name, lift in s.others.items()]
    if s.first > GOOD_ENOUGH and reason != _enough(s):
        found.append(f"against: {_enough(s)}")
    if s.page_words is not None and s.page_words <= SHORT and s.question_words <= KEYWORDS:
        found.append(
            f"against: short pages ({s.page_words:.0f} words) and keywords as questions "
            f"({s.question_words:.0f} words)"
        )
    if s.correlation is not None and s.correlation >= SAME:
        found.append(f"against: the reranked order is nearly the one before (tau {s.correlation:.2f})")
    if s.promoted is not None and s.promoted[0] <= s.promoted[1] > 0:
        found.append(
            f"against: of the pages it brings into the top 5, {s.promoted[0]:.0%} are relevant, of those it "
            f"drives out {s.promoted[1]:.0%}"
        )
    if s.difference is not None and s.ceiling - s.before <= LITTLE:
        found.append(f"against: these candidates allow {s.ceiling:.3f} at most; there is no room")
    if s.noise is None and s.difference is not None:
        found.append("not measured: how much the scores move by themselves")
    return found


def _other(measure: str, name: str, lift: Lift) -> str:
    """What a reranker before the last one does."""
    d, told = lift.difference, _told(measure, lift.difference, lift.p)
    if lift.trained_on:
        return f"{name}, before it, was trained on {lift.trained_on} of these questions: {told}"
    if d.high < 0:
        return f"{name}, before it, makes it worse: {told}"
    helps = d.low > 0 and lift.p < SURE
    return f"{name}, before it, " + (f"helps: {told}" if helps else f"shows no lift but luck: {told}")


def _told(measure: str, d: Difference, p: float) -> str:
    return f"{d.mean:+.3f} {measure} [{d.low:+.3f}, {d.high:+.3f}], p = {p:.2g}"


def _enough(s: Signals) -> str:
    return f"the first stage is good already: nDCG@10 {s.first:.3f}"
