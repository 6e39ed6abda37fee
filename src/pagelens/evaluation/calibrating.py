"""Judgements to a calibration, and what it is worth on questions that had no part in the fit.

Every page that the last reranker saw is an example, answering or not; a page that nobody judged does not
answer. Each way to calibrate is fitted to the questions of all folds but one and tried on that one; questions
that share a document are in the same fold. The way with the lowest log loss is fitted to all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pagelens.calibration import (
    Calibration,
    Method,
    is_relative,
    log_odds,
    own_score,
    sigmoid,
    signature_of,
)
from pagelens.errors import Missing, UsageError
from pagelens.evaluation.asking import DEPTH, Known, Qrels, fitted_to, known_pages
from pagelens.evaluation.runs import Question, of_copies
from pagelens.evaluation.significance import clusters
from pagelens.hits import SCHEMA
from pagelens.searching import Cascade, Step, stage_names
from pagelens.wording import counted

if TYPE_CHECKING:
    from pagelens.library import Library

METHODS: tuple[Method, ...] = ("temperature", "Platt", "isotonic")
FOLDS = 10
FEWEST = 10
"""Independent questions with a page that answers, and with one that does not: one in each fold."""
BINS = 15
"""Of the expected calibration error (Guo et al., ICML 2017)."""
RATES = np.arange(10) / 10
"""Shares of questions that are left unanswered."""
_FREE = 1e6
"""Inverse strength of a penalty that is none; the smoothed targets keep the fit finite."""


@dataclass(frozen=True)
class Examples:
    """Pages that the reranker saw."""

    scores: np.ndarray
    """Its own. *Shape:* (pages,)."""
    relevant: np.ndarray
    """Bool. *Shape:* (pages,)."""
    questions: np.ndarray
    """The number of each page's question. *Shape:* (pages,)."""
    groups: np.ndarray
    """The number of each page's group of questions (`significance.clusters`). *Shape:* (pages,)."""

    def __getitem__(self, rows: np.ndarray) -> Examples:
        return Examples(self.scores[rows], self.relevant[rows], self.questions[rows], self.groups[rows])


class Bin(NamedTuple):
    """Pages of about the same probability."""

    pages: int
    probability: float
    """Mean."""
    relevant: float
    """Share that answers."""


class Answered(NamedTuple):
    """What a threshold does."""

    coverage: float
    """Share of the questions that have a page at least so probable."""
    threshold: float
    risk: float
    """Share of these whose most probable page does not answer."""


@dataclass(frozen=True)
class Calibrated:
    """A calibration, and what is known about it. All figures but `before` are out of fold."""

    calibration: Calibration
    questions: int
    pages: int
    relevant: int
    log_loss: Mapping[str, float]
    """By way, and `before`: the scores taken as log odds, or as the probabilities that they are."""
    ece: tuple[float, float]
    """Before and after; see `expected_error`."""
    brier: tuple[float, float]
    """Before and after; see `brier`."""
    reliability: Sequence[Bin]
    curve: Sequence[Answered]
    """Risk and coverage, from all questions answered to few."""
    nauc: float
    """See `normalised_area`."""
    notes: Sequence[str]

    def as_dict(self) -> dict[str, Any]:
        """What `pagelens calibrate --json` prints; NaN is null."""
        found = {"schema": SCHEMA, **asdict(self), "calibration": self.calibration.as_dict()}
        found |= {name: dict(zip(("before", "after"), found[name], strict=True)) for name in ("ece", "brier")}
        found["reliability"] = [each._asdict() for each in self.reliability]
        found["curve"] = [each._asdict() for each in self.curve]
        found["nauc"] = None if np.isnan(self.nauc) else self.nauc
        return found

    def lines(self) -> list[str]:
        """For a terminal."""
        losses = ", ".join(f"{name} {loss:.4f}" for name, loss in self.log_loss.items())
        whole = self.curve[0]
        found = [
            f"{counted(self.questions, 'question')}, {counted(self.pages, 'page')} seen, {self.relevant} of "
            "them judged relevant; what follows is of questions that had no part in the fit",
            f"log loss: {losses}; {self.calibration.method} is used",
            f"expected calibration error {self.ece[0]:.4f} before, {self.ece[1]:.4f} after",
            f"Brier score {self.brier[0]:.4f} before, {self.brier[1]:.4f} after",
            "",
            f"{'answered':>9}{'at least':>10}{'wrong':>8}",
        ]
        found += [f"{e.coverage:9.0%}{e.threshold:10.3f}{e.risk:8.0%}" for e in self.curve]
        area = (
            f"all questions have {'a right' if whole.risk == 0 else 'a wrong'} first page: no area"
            if np.isnan(self.nauc)
            else f"nAUC {self.nauc:.3f}: 1 leaves out the wrong answers first, 0 any"
        )
        return [*found, "", area, *(f"note: {note}" for note in self.notes)]


def calibrate(
    library: Library,
    questions: Sequence[Question],
    qrels: Qrels,
    page_name: str = "{doc_id}#{number}",
    rerank: Cascade = "auto",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Calibrated:
    """Ask every judged question and calibrate the last reranker's own scores.

    Args:
        library: What is asked; it does not keep the calibration by itself, see `Library.keep`.
        questions: Those without a judgement are left out, as are those whose answers are not in the library,
            and those with a filter if the reranker compares pages with each other; those judged to have no
            answer count.
        qrels: Which pages answer.
        page_name: See `runs.page_names`.
        rerank: As `Library.search`.
        progress: Told how many questions of how many are answered.

    Raises:
        UsageError: there is no reranker, or the judgements are too few or all the same.
        Missing: scikit-learn is not installed.
    """
    steps = library.steps(rerank)
    if not steps:
        raise UsageError("there is nothing to calibrate without a reranker; name one with --rerank")
    signature = signature_of(steps[-1])
    if signature is None:
        raise UsageError(f"{steps[-1].reranker.name} does not say what shapes its scores: no calibration")
    judged = [each for each in questions if each.id in qrels]
    if not judged:
        raise UsageError("no question is judged: no id of the questions is an id of the judgements")
    pages, told = known_pages(library, page_name), of_copies(library, qrels, page_name)
    left = {"not judged": len(questions) - len(judged)}
    names = {page.name for page in pages.values()}
    right = {id: {page for page, grade in own.items() if grade > 0} for id, own in told.items()}
    there = [each for each in judged if not right[each.id] or right[each.id] & names]
    left["left out: no page that answers is in this library"] = len(judged) - len(there)
    judged = [each for each in there if not (each.filter and is_relative(steps[-1]))]
    left["left out: the reranker compares pages with each other, and a filter leaves it others"] = len(
        there
    ) - len(judged)
    notes = [f"{counted(number, 'question')} {why}" for why, number in left.items() if number]
    if missing := set[str]().union(*right.values()) - names:
        notes.append(f"{counted(len(missing), 'relevant page')} not in this library, such as {min(missing)}")
    if not judged:
        raise UsageError(f"nothing to calibrate on: {'; '.join(notes)}")
    examples = _examples(library, judged, told, pages, steps, progress)
    if trained := fitted_to(steps, [each.query for each in judged]):
        notes.append(
            f"the evidence reranker was fitted to {trained} of these questions: it is too sure of them, and "
            "so are the probabilities"
        )
    found = fit(examples, signature, notes)
    known = replace(found.calibration, fitted_to=tuple(sorted({each.digest for each in judged})))
    return replace(found, calibration=known)


def fit(examples: Examples, signature: str, notes: Sequence[str] = ()) -> Calibrated:
    """Try every way, choose, measure.

    Raises:
        UsageError: too few judgements, or all the same.
        Missing: scikit-learn is not installed.
    """
    _check(examples)
    as_odds = bool((examples.scores >= 0).all() and (examples.scores <= 1).all())
    parts = _folds(examples)
    tried: dict[Method, np.ndarray] = {}
    for method in METHODS:
        tried[method] = np.empty(len(examples.scores))
        for part in parts:
            own = _fit(examples[~part], method, as_odds, signature)
            tried[method][part] = own.probabilities(examples.scores[part])
    before = examples.scores if as_odds else sigmoid(examples.scores)
    log_loss: dict[str, float] = {
        name: _log_loss(values, examples.relevant) for name, values in tried.items()
    }
    best = min(METHODS, key=lambda method: log_loss[method])
    after = tried[best]
    curve, nauc = _abstaining(after, examples)
    return Calibrated(
        _fit(examples, best, as_odds, signature),
        len(np.unique(examples.questions)),
        len(examples.scores),
        int(examples.relevant.sum()),
        {"before": _log_loss(before, examples.relevant), **log_loss},
        (expected_error(before, examples.relevant), expected_error(after, examples.relevant)),
        (brier(before, examples.relevant), brier(after, examples.relevant)),
        binned(after, examples.relevant),
        curve,
        nauc,
        notes,
    )


def expected_error(probabilities: np.ndarray, relevant: np.ndarray) -> float:
    """Mean distance of probability and share that answers, over 15 bins of equal width (Guo et al. 2017).

    >>> expected_error(np.array([0.9, 0.9, 0.1, 0.1]), np.array([True, True, False, True]))
    0.25
    """
    found = binned(probabilities, relevant)
    total = sum(each.pages * abs(each.probability - each.relevant) for each in found)
    return round(total / len(relevant), 12)


def normalised_area(confidence: np.ndarray, quality: np.ndarray) -> float:
    """How well confidence tells which questions to leave unanswered: 1 as well as could be, 0 as by chance.

    The area under mean quality by share left out, between that of no choice and that of the best choice
    (Gisserot-Boukhlef et al. 2024, arXiv:2402.12997); NaN where all questions are answered alike.
    """
    own, best = _left_out(confidence, quality), _left_out(quality, quality)
    flat = quality.mean() * (RATES[-1] - RATES[0])
    room = np.trapezoid(best, RATES) - flat
    return float((np.trapezoid(own, RATES) - flat) / room) if room > 1e-12 else float("nan")


def _left_out(confidence: np.ndarray, quality: np.ndarray) -> np.ndarray:
    """Mean quality of what is left at each of the rates; those equally sure count as their mean."""
    _, place = np.unique(confidence, return_inverse=True)
    level = (np.bincount(place, quality) / np.bincount(place))[place]
    ordered = level[np.argsort(confidence, kind="stable")]
    cuts = [min(round(rate * len(ordered)), len(ordered) - 1) for rate in RATES]
    return np.array([ordered[cut:].mean() for cut in cuts])


def _abstaining(probabilities: np.ndarray, examples: Examples) -> tuple[list[Answered], float]:
    best = []
    for question in np.unique(examples.questions):
        own = np.flatnonzero(examples.questions == question)
        best.append(own[np.argmax(probabilities[own])])
    sure, right = probabilities[best], examples.relevant[best].astype(float)
    curve = []
    for rate in RATES:
        threshold = np.sort(sure)[min(round(rate * len(sure)), len(sure) - 1)]
        kept = sure >= threshold
        curve.append(Answered(float(kept.mean()), float(threshold), float(1 - right[kept].mean())))
    return list(dict.fromkeys(curve)), normalised_area(sure, right)


def _examples(
    library: Library,
    judged: Sequence[Question],
    qrels: Qrels,
    pages: Mapping[str, Known],
    steps: Sequence[Step],
    progress: Callable[[int, int], None],
) -> Examples:
    homes = {page.name: page.doc_id for page in pages.values()}
    stage, name = stage_names(steps)[-1], steps[-1].reranker.name
    scores, relevant, questions = [], [], []
    for number, each in enumerate(judged):
        progress(number, len(judged))
        for page in library.trace(each.query, DEPTH, each.filter, steps).order:
            if stage in page.stages and page.id in pages:
                scores.append(own_score(page.stages[stage], name))
                relevant.append(qrels[each.id].get(pages[page.id].name, 0) > 0)
                questions.append(number)
    progress(len(judged), len(judged))
    groups = clusters(
        [{homes[p] for p, grade in qrels[each.id].items() if grade > 0 and p in homes} for each in judged]
    )
    asked = np.array(questions, int)
    return Examples(np.array(scores, float), np.array(relevant, bool), asked, groups[asked])


def _check(examples: Examples) -> None:
    seen = counted(len(examples.scores), "page")
    for kind, which in (("relevant", examples.relevant), ("not relevant", ~examples.relevant)):
        number = len(np.unique(examples.groups[which]))
        if not number:
            other = "not relevant" if kind == "relevant" else "relevant"
            raise UsageError(
                f"all {seen} that the reranker saw are judged {other}: a probability needs both; do the "
                "judgements name pages as --page-name does?"
            )
        if number < FEWEST:
            raise UsageError(
                f"{counted(number, 'independent question')} with a page that is {kind} among those the "
                f"reranker saw; {FEWEST} are the fewest to calibrate on: judge more (`pagelens judge`)"
            )


def _folds(examples: Examples) -> list[np.ndarray]:
    """Rows of each fold; those groups that have a page of the rarer kind are dealt out first."""
    rare = examples.relevant if examples.relevant.mean() < 0.5 else ~examples.relevant
    first = set(examples.groups[rare].tolist())
    groups = np.random.default_rng(0).permutation(np.unique(examples.groups))
    dealt = sorted(groups.tolist(), key=lambda group: group not in first)
    fold = {group: place % FOLDS for place, group in enumerate(dealt)}
    numbers = np.array([fold[group] for group in examples.groups.tolist()])
    return [numbers == number for number in range(FOLDS)]


def _fit(examples: Examples, method: Method, as_odds: bool, signature: str) -> Calibration:
    """One way, on these examples.

    A relevant page counts as one with probability (n + 1) / (n + 2), any other as 1 / (n + 2), n those of its
    kind (Platt 1999): however well scores part the two, no probability becomes 0 or 1.
    """
    try:
        from sklearn.isotonic import IsotonicRegression
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise Missing("calibrating needs scikit-learn: pip install 'pagelens[fit]'") from error
    values = log_odds(examples.scores) if as_odds else examples.scores
    yes = int(examples.relevant.sum())
    no = len(values) - yes
    most, least = (yes + 1) / (yes + 2), 1 / (no + 2)
    targets = np.where(examples.relevant, most, least)
    if method == "isotonic":
        model = IsotonicRegression(y_min=least, y_max=most).fit(values, targets)
        knots = zip(model.X_thresholds_.tolist(), model.y_thresholds_.tolist(), strict=True)
        return Calibration(signature, method, as_odds, knots=tuple(knots))
    model = LogisticRegression(C=_FREE, fit_intercept=method == "Platt", tol=1e-8)
    twice = np.concatenate([values, values])[:, None]
    labels = np.repeat([1, 0], len(values))
    model.fit(twice, labels, np.concatenate([targets, 1 - targets]))
    slope = float(model.coef_[0, 0])
    if slope <= 0:  # better pages score lower: the score tells nothing, the share of relevant pages is left
        shift = float(log_odds(np.array(targets.mean()))) if method == "Platt" else 0.0
        return Calibration(signature, method, as_odds, 0.0, shift)
    shift = float(model.intercept_[0]) if method == "Platt" else 0.0
    return Calibration(signature, method, as_odds, slope, shift)


def _log_loss(probabilities: np.ndarray, relevant: np.ndarray) -> float:
    """Mean of -log of the probability of what was so."""
    inside = np.clip(probabilities, 1e-9, 1 - 1e-9)
    return float(-np.log(np.where(relevant, inside, 1 - inside)).mean())


def brier(probabilities: np.ndarray, relevant: np.ndarray) -> float:
    """Mean square of probability less outcome (Brier, Monthly Weather Review 1950)."""
    return float(((probabilities - relevant) ** 2).mean())


def binned(probabilities: np.ndarray, relevant: np.ndarray) -> list[Bin]:
    """Those of `BINS` equal ones that hold a page."""
    place = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    return [
        Bin(int(here.sum()), float(probabilities[here].mean()), float(relevant[here].mean()))
        for here in (place == number for number in range(BINS))
        if here.any()
    ]
