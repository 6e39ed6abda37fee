"""Judgements to coefficients of the evidence model.

Pairwise: a page that answers should score above every other candidate of its question. That is a logistic
regression without intercept on the differences of their features (as Joachims, KDD 2002, with another loss).
Every question weighs the same, however many pairs it has. Whatever is reported was measured on documents that
had no part in the fit: neither their questions nor their pages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pagelens.errors import Missing, UsageError
from pagelens.scores import standardised

if TYPE_CHECKING:
    from pagelens.library import Library
    from pagelens.rerankers.evidence import EvidenceReranker

DEPTH = 50
"""Candidates a question, as the search has it."""
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Inverse strengths of the quadratic penalty that are tried (`C` of scikit-learn)."""
FOLDS, INNER_FOLDS = 10, 5
FEWEST = 10
"""Documents with judged questions: with fewer there is no fold to speak of."""


@dataclass(frozen=True)
class Judged:
    """One question's candidates, measured, in the order of the first stage."""

    id: str
    features: np.ndarray
    """Standardised within the candidates, *Shape:* (candidates, features)."""
    relevant: np.ndarray
    """Bool, *Shape:* (candidates,)."""
    documents: np.ndarray
    """The doc_id of each candidate, *Shape:* (candidates,)."""
    home: frozenset[str]
    """The doc_ids of the relevant pages, also of those that are no candidates."""
    answers: int
    """How many pages are relevant, in the whole collection."""


def judge(
    library: Library,
    reranker: EvidenceReranker,
    queries: Sequence[Mapping[str, Any]],
    qrels: Mapping[str, Mapping[str, int]],
    names: Mapping[str, str],
    features: Sequence[str],
) -> list[Judged]:
    """Measure the candidates of every question that has judgements.

    Args:
        library: Searched for the candidates.
        reranker: Measures them.
        queries: Each with `id`, `query` and optionally `filter`.
        qrels: Query id -> page name -> relevance; above 0 is relevant.
        names: Page id -> page name.
        features: Which, in this order.

    Raises:
        UsageError: no question has a relevant page in the library.
    """
    homes = {name: page_id.partition("#")[0] for page_id, name in names.items()}
    judged = []
    for query in queries:
        relevant = {page for page, grade in qrels.get(query["id"], {}).items() if grade > 0 and page in homes}
        if not relevant:
            continue
        candidates = library.candidates(query["query"], DEPTH, query.get("filter"))
        measured = reranker.measure(query["query"], candidates)
        columns = [standardised([values[name] for values in measured]) for name in features]
        judged.append(
            Judged(
                query["id"],
                np.array(columns).T.reshape(len(candidates), len(features)),
                np.array([names[each.page.page_id] in relevant for each in candidates], bool),
                np.array([each.page.doc_id for each in candidates]),
                frozenset(homes[page] for page in relevant),
                len(relevant),
            )
        )
    if not judged:
        raise UsageError("no judged page is in this library; qrels name pages as --page-name does")
    return judged


def fit(judged: Sequence[Judged], penalty: float, without: frozenset[str] = frozenset()) -> np.ndarray:
    """One weight a feature.

    Args:
        judged: Questions to learn from.
        penalty: Inverse strength of the quadratic penalty.
        without: Documents that must have no part in it.

    Raises:
        UsageError: no question has both a relevant and another page among its candidates.
        Missing: scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression  # type: ignore[import-untyped]
    except ImportError as error:
        raise Missing("fitting needs scikit-learn: pip install 'pagelens[fit]'") from error
    differences, shares = [], []
    for each in judged:
        if each.home & without:
            continue
        here = ~np.isin(each.documents, list(without))
        better, worse = each.features[each.relevant & here], each.features[~each.relevant & here]
        if len(better) and len(worse):
            pairs = (better[:, None] - worse[None]).reshape(-1, each.features.shape[1])
            differences.append(pairs)
            shares.append(np.full(len(pairs), 1 / len(pairs)))
    if not differences:
        raise UsageError("no question has a relevant page among its candidates together with another page")
    pairs, weights = np.concatenate(differences), np.concatenate(shares)
    model = LogisticRegression(C=penalty, fit_intercept=False, max_iter=1000)
    both = np.concatenate([pairs, -pairs])  # the same loss twice: scikit-learn wants two classes
    labels = np.repeat([1, 0], len(pairs))
    return model.fit(both, labels, np.concatenate([weights, weights])).coef_[0]  # type: ignore[no-any-return]


def choose_penalty(judged: Sequence[Judged], without: frozenset[str] = frozenset()) -> float:
    """The one with the best nDCG@10 in folds over documents, `without` left out of all of them."""
    usable = [each for each in judged if not each.home & without]
    parts = folds(usable, INNER_FOLDS)

    def quality(penalty: float) -> float:
        return math.fsum(
            ndcg(each, weights)
            for part in parts
            for weights in [fit(usable, penalty, without | part)]
            for each in usable
            if each.home & part
        )

    return max(PENALTIES, key=quality)


def out_of_fold(
    judged: Sequence[Judged], also: Sequence[Judged] = (), penalty: float | None = None
) -> list[np.ndarray]:
    """For each question the weights fitted without its documents.

    Args:
        judged: Questions to score.
        also: More questions to learn from; those about documents of a fold are left out of it too.
        penalty: As in `fit`; None: chosen in each fold, without its documents.

    Raises:
        UsageError: too few documents have judged questions.
    """
    homes = {each.home for each in judged}
    if len(homes) < FEWEST:
        raise UsageError(f"{len(homes)} documents have judged questions; {FEWEST} are the fewest to fit on")
    everything = [*judged, *also]
    found: dict[str, np.ndarray] = {}
    for part in folds(judged, FOLDS):
        weights = fit(everything, penalty or choose_penalty(everything, part), part)
        found |= {each.id: weights for each in judged if each.home & part}
    return [found[each.id] for each in judged]


def folds(judged: Sequence[Judged], number: int) -> list[frozenset[str]]:
    """Documents in `number` parts with about as many questions each; those that share a question in one."""
    groups: list[set[str]] = []
    for each in judged:
        touching = [group for group in groups if group & each.home]
        groups = [group for group in groups if not group & each.home]
        groups.append(set(each.home).union(*touching))
    sizes = {frozenset(group): sum(bool(each.home & group) for each in judged) for group in groups}
    parts: list[set[str]] = [set() for _ in range(min(number, len(groups)))]
    loads = [0] * len(parts)
    for group in sorted(sizes, key=lambda group: (-sizes[group], min(group))):
        lightest = loads.index(min(loads))
        parts[lightest] |= group
        loads[lightest] += sizes[group]
    return [frozenset(part) for part in parts]


def ndcg(judged: Judged, weights: np.ndarray | None, depth: int = 10) -> float:
    """Ranking quality of one question's candidates in the order of the weights; None: of the first stage.

    nDCG: gain 1 for a relevant page, discount log2(1 + rank) (Järvelin & Kekäläinen, TOIS 2002).
    """
    order = np.arange(len(judged.relevant))
    if weights is not None:
        order = np.argsort(-(judged.features @ weights), kind="stable")
    gains = judged.relevant[order][:depth] / np.log2(np.arange(2, 2 + min(depth, len(order))))
    ideal = 1 / np.log2(np.arange(2, 2 + min(depth, judged.answers)))
    return float(gains.sum() / ideal.sum())


def interval(differences: Sequence[float], resamples: int = 10_000) -> tuple[float, float, float]:
    """The mean of paired differences and its 95% interval by the bootstrap over questions (Efron 1979)."""
    values = np.asarray(differences, float)
    draws = np.random.default_rng(0).integers(0, len(values), (resamples, len(values)))
    low, high = np.percentile(values[draws].mean(1), [2.5, 97.5])
    return float(values.mean()), float(low), float(high)
