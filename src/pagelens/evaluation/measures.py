"""Measures of a run, question by question, and what two runs have in common."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pagelens.errors import Missing
from pagelens.evaluation.asking import Qrels, Run

MEASURES = ("nDCG@5", "nDCG@10", "RR@10", "R@1", "R@10", "R@50", "R@100")
TOP = 5
"""Pages that a reader looks at first."""


def measured(qrels: Qrels, run: Run, names: Sequence[str] = MEASURES) -> dict[str, np.ndarray]:
    """Each measure of each judged question, in their order; a question that the run lacks scores 0.

    The order counts, not the scores: ir_measures is given 1 / rank. nDCG is graded: its gain is the grade,
    its discount log2(1 + rank) (Järvelin & Kekäläinen, TOIS 2002).

    Args:
        qrels: Of the questions that count.
        run: What was found.
        names: As ir_measures spells them: nDCG, RR and R, each with a cut-off.

    Raises:
        Missing: ir_measures is not installed.
    """
    try:
        import ir_measures
    except ImportError as error:
        raise Missing("measures need ir_measures: pip install 'pagelens[eval]'") from error
    kinds = {"nDCG": ir_measures.nDCG, "RR": ir_measures.RR, "R": ir_measures.R}
    wanted = {name: kinds[name.partition("@")[0]] @ int(name.partition("@")[2]) for name in names}
    scored = {id: {page: 1 / rank for rank, page in enumerate(run.get(id, ()), start=1)} for id in qrels}
    place = {id: number for number, id in enumerate(qrels)}
    values = {str(measure): np.zeros(len(qrels)) for measure in wanted.values()}
    for each in ir_measures.iter_calc(list(wanted.values()), qrels, scored):
        values[str(each.measure)][place[each.query_id]] = each.value
    return values


def oracle(qrels: Qrels, run: Run, depth: int) -> Run:
    """The best order that a reranker could give the first `depth` pages of each question."""
    return {
        id: [*sorted(pages[:depth], key=lambda page: -qrels[id].get(page, 0)), *pages[depth:]]
        for id, pages in run.items()
        if id in qrels
    }


def found_in(qrels: Qrels, run: Run, depth: int) -> np.ndarray:
    """Whether a relevant page is among the first `depth`, by question."""
    return np.array(
        [any(pages.get(page, 0) > 0 for page in run.get(id, ())[:depth]) for id, pages in qrels.items()]
    )


def promoted(qrels: Qrels, before: Run, after: Run) -> tuple[float, float] | None:
    """Of the pages that came into the top the share that are relevant, and of those they drove out."""
    came, went = [], []
    for id, pages in qrels.items():
        old, new = before.get(id, ())[:TOP], after.get(id, ())[:TOP]
        came += [pages.get(page, 0) > 0 for page in new if page not in old]
        went += [pages.get(page, 0) > 0 for page in old if page not in new]
    return (float(np.mean(came)), float(np.mean(went))) if came and went else None


def correlation(before: Run, after: Run, depth: int) -> float | None:
    """Median of Kendall's tau (Biometrika 1938) between the ranks of the first `depth`, before and after."""
    from scipy.stats import kendalltau

    found = []
    for id, pages in after.items():
        place = {page: rank for rank, page in enumerate(before.get(id, ())[:depth])}
        ranks = [place[page] for page in pages if page in place]
        if len(ranks) > 1:
            found.append(float(kendalltau(ranks, range(len(ranks))).statistic))
    return float(np.median(found)) if found else None
