"""Judgements to coefficients of the evidence model.

Pairwise: a page that answers should score above every other candidate of its question. That is a logistic
regression without intercept on the differences of their features (as Joachims, KDD 2002, with another loss).
Every question weighs the same, however many pairs it has. Whatever is reported was measured on documents that
had no part in the fit: neither their questions nor their pages.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pagelens.errors import Missing, UsageError
from pagelens.evaluation.runs import digest
from pagelens.evaluation.significance import clusters, interval
from pagelens.rerankers.evidence import FEATURES, Coefficients, EvidenceReranker
from pagelens.scores import standardised

if TYPE_CHECKING:
    from pagelens.library import Library
    from pagelens.searching import Reranker

DEPTH = 50
"""Candidates a question, as the search has it."""
PENALTIES = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Inverse strengths of the quadratic penalty that are tried (`C` of scikit-learn)."""
FOLDS, INNER_FOLDS = 10, 5
RERANKED = 20
"""Of them, those that a model after the evidence reranker sees."""
BLEND_PENALTY = 1.0
"""Two features need little of it."""
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


@dataclass(frozen=True, slots=True)
class Row:
    """How one way to order the candidates does."""

    name: str
    ndcg: float
    """Mean nDCG@10."""
    gain: tuple[float, float, float]
    """Over the first stage: mean and 95% interval, over documents."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Coefficients and what they are worth."""

    coefficients: Coefficients
    questions: int
    rows: tuple[Row, ...]
    verdict: str
    """Whether they beat the shipped ones, in a sentence."""


def fit_library(
    library: Library,
    queries: Sequence[Mapping[str, Any]],
    qrels: Mapping[str, Mapping[str, int]],
    names: Mapping[str, str],
    after: Reranker | None = None,
) -> Fitted:
    """Fit the evidence model to judged questions, and compare it with the shipped one.

    Args:
        library: What the questions are asked of.
        queries: Each with `id`, `query` and optionally `filter`.
        qrels: Query id -> page name -> relevance; above 0 is relevant.
        names: Page id -> page name, as the qrels have it.
        after: A reranker that comes after it; the weight of its score is fitted too.

    Raises:
        UsageError: too few judgements.
        Missing: scikit-learn is not installed.
    """
    reranker = library.reranker("evidence")
    assert isinstance(reranker, EvidenceReranker)
    features, shipped = list(FEATURES), reranker.coefficients
    judged = judge(library, reranker, queries, qrels, names, features)
    known = np.array([shipped.weights.get(name, 0.0) for name in features])
    held_out = out_of_fold(judged)
    base = [ndcg(each, None) for each in judged]
    old = [ndcg(each, known) for each in judged]
    new = [ndcg(each, weights) for each, weights in zip(judged, held_out, strict=True)]
    ways = {"first stage": base, "shipped": old, "fitted, out of fold": new}
    blend: dict[str, float] = {}
    if after is not None:
        both = _with_reranker(library, after, queries, judged, held_out)
        weights = out_of_fold(both, penalty=BLEND_PENALTY)
        ways[f"fitted, then {after.name}, out of fold"] = [
            ndcg(each, own) for each, own in zip(both, weights, strict=True)
        ]
        blend[after.name] = _ratio(fit(both, BLEND_PENALTY))
    groups = clusters([each.home for each in judged])
    rows = [_row(name, values, base, groups) for name, values in ways.items()]
    penalty = choose_penalty(judged)
    weights_of = dict(zip(features, map(float, fit(judged, penalty)), strict=True))
    card = {
        "data": [{"name": str(library.place), "terms": "yours"}],
        "fitted": f"logistic regression on differences, C={penalty}, {DEPTH} candidates of the first stage",
        "figures": [{"name": row.name, "nDCG@10": row.ndcg, "gain": row.gain} for row in rows],
        "questions": digests(queries, judged),
    }
    verdict = _verdict(interval(np.subtract(new, old), groups), {*digests(queries, judged)}, shipped)
    return Fitted(Coefficients(weights_of, card, blend), len(judged), tuple(rows), verdict)


def _verdict(gain: tuple[float, float, float], questions: set[str], shipped: Coefficients) -> str:
    mean, low, high = gain
    size = f"{mean:+.3f} nDCG@10 [{low:+.3f}, {high:+.3f}]"
    if questions & shipped.fitted_to:
        return f"no comparison with the shipped coefficients: they were fitted on these questions ({size})"
    if low > 0:
        return f"use the fitted coefficients: {size} over the shipped ones"
    if high < 0:
        return f"keep the shipped coefficients: the fitted ones lose {size}"
    return f"keep the shipped coefficients: no difference can be told, more questions may tell one ({size})"


def digests(queries: Iterable[Mapping[str, Any]], judged: Iterable[Judged]) -> list[str]:
    """What the judged ones among these questions are known by later, see `runs.digest`."""
    own = {each.id for each in judged}
    return sorted({digest(query["query"]) for query in queries if query["id"] in own})


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


def _with_reranker(
    library: Library,
    after: Reranker,
    queries: Sequence[Mapping[str, Any]],
    judged: Sequence[Judged],
    weights: Sequence[np.ndarray],
) -> list[Judged]:
    """The top of each question by its own weights; its features: the score before, and the reranker's."""
    asked = {query["id"]: query for query in queries}
    found = []
    for each, own in zip(judged, weights, strict=True):
        query = asked[each.id]
        candidates = library.candidates(query["query"], DEPTH, query.get("filter"))
        before = each.features @ own
        top = np.argsort(-before, kind="stable")[:RERANKED]
        scores = np.array(after.score(query["query"], [candidates[i] for i in top]))
        top, scores = top[np.isfinite(scores)], scores[np.isfinite(scores)]
        columns = [standardised(before[top].tolist()), standardised(scores.tolist())]
        features = np.array(columns).T.reshape(len(top), 2)
        found.append(
            replace(each, features=features, relevant=each.relevant[top], documents=each.documents[top])
        )
    return found


def _ratio(weights: np.ndarray) -> float:
    """Of the reranker's weight to that of the score before it; 0 where it does not help."""
    before, own = weights
    return float(max(0.0, own) / max(before, 0.01))


def _row(name: str, values: Sequence[float], base: Sequence[float], groups: np.ndarray) -> Row:
    return Row(name, float(np.mean(values)), interval(np.subtract(values, base), groups))


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
        from sklearn.linear_model import LogisticRegression
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
    model = LogisticRegression(C=penalty, fit_intercept=False, solver="newton-cholesky")
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
    together: dict[int, set[str]] = defaultdict(set)
    for each, group in zip(judged, clusters([each.home for each in judged]), strict=True):
        together[int(group)] |= each.home
    groups = [frozenset(group) for group in together.values()]
    sizes = {group: sum(bool(each.home & group) for each in judged) for group in groups}
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
