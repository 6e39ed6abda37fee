"""Whether pages answer as often as their probabilities say: on questions that taught these nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pagelens.calibration import Calibration, is_relative
from pagelens.errors import Missing, UsageError
from pagelens.evaluation.asking import Asked, fitted_to
from pagelens.evaluation.calibrating import Bin, Examples, binned, brier, expected_error, fit
from pagelens.evaluation.second_stage import Reranking


@dataclass(frozen=True)
class Reliability:
    """Probabilities against what was so."""

    about: str
    """Whose they are, or why there are none."""
    bins: Sequence[Bin] = ()
    ece: float = math.nan
    """See `calibrating.expected_error`."""
    brier: float = math.nan
    """Mean square of probability less outcome."""


def reliability(asked: Asked, last: Reranking | None, kept: Calibration | None) -> Reliability:
    """That of the last reranker: the library's calibration on new questions, else one fitted out of fold.

    Args:
        asked: The task and its runs.
        last: The reranker, out of fold where it was fitted to some of the questions.
        kept: What the library keeps for exactly this reranker.
    """
    if last is None:
        return Reliability("no probabilities: no reranker was asked")
    if last.step is None:
        return Reliability("no probabilities: stored runs have no scores")
    if not last.seen:
        return Reliability(f"no probabilities: the scores of {last.stage} cannot be read back")
    trained = fitted_to([last.step], asked.task.texts)
    if trained and not last.held_out:
        return Reliability(
            f"no probabilities: {last.stage} was trained on {trained} of these questions, which are about "
            "too few documents to leave any out"
        )
    examples = _examples(asked, last)
    known = 0 if kept is None else sum(each.digest in kept.fitted_to for each in asked.task.questions)
    if kept is not None and not known and not trained:
        probabilities = kept.probabilities(examples.scores)
        return Reliability(
            f"the calibration that the library keeps ({kept.method}), which knows none of these questions",
            binned(probabilities, examples.relevant),
            expected_error(probabilities, examples.relevant),
            brier(probabilities, examples.relevant),
        )
    try:
        found = fit(examples, last.stage)
    except (UsageError, Missing) as error:
        return Reliability(f"no probabilities: {error}")
    why = (
        f"the reranker was trained on {trained} of these questions"
        if trained
        else f"the library's calibration was fitted to {known} of these questions"
        if kept
        else "the library keeps no calibration of this reranker"
    )
    return Reliability(
        f"fitted here ({found.calibration.method}), each tenth of the documents by the others, because {why}",
        found.reliability,
        found.ece[1],
        found.brier[1],
    )


def _examples(asked: Asked, last: Reranking) -> Examples:
    """The reranker's own scores of all pages that it saw, but for what is not calibrated (`calibrate`)."""
    relative = last.step is not None and is_relative(last.step)
    scores, relevant, questions = [], [], []
    for number, (question, seen) in enumerate(zip(asked.task.questions, last.seen, strict=True)):
        ids = seen.ids[: len(seen.values)]
        if not ids or (relative and question.filter):
            continue
        own = dict(zip(ids, seen.values[:, 1].tolist(), strict=True)) if seen.blended else seen.scored()
        grades = asked.task.qrels[question.id]
        for id in ids:
            scores.append(own[id])
            relevant.append(grades.get(asked.pages[id].name, 0) > 0)
            questions.append(number)
    rows = np.array(questions, int)
    return Examples(np.array(scores, float), np.array(relevant, bool), rows, asked.task.groups[rows])
