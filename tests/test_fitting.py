"""Fitting, against an optimiser and a measure that others wrote, and with a document that must not leak."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pytest
from ir_measures import nDCG
from test_searching import office, searcher_of

from pagelens import Library
from pagelens.errors import Missing, UsageError
from pagelens.evaluation.fitting import (
    FOLDS,
    Judged,
    _verdict,
    choose_penalty,
    fit,
    fit_library,
    folds,
    judge,
    ndcg,
    out_of_fold,
)
from pagelens.evaluation.runs import digest
from pagelens.records import Candidate, Query
from pagelens.rerankers.evidence import FEATURES, Coefficients, EvidenceReranker

TRUTH = np.array([1.5, -0.8, 0.0])


def made(questions: int, seed: int = 0, documents: int = 20) -> list[Judged]:
    """Questions whose relevant page is drawn by a logit of the features."""
    draw = np.random.default_rng(seed)
    judged = []
    for number in range(questions):
        features = draw.normal(size=(12, 3))
        noisy = features @ TRUTH + draw.gumbel(size=12)
        home = f"{number % documents:016x}"
        owners = [
            home if i == int(noisy.argmax()) else f"{int(draw.integers(documents)):016x}" for i in range(12)
        ]
        relevant = np.arange(12) == noisy.argmax()
        judged.append(Judged(f"q{number}", features, relevant, np.array(owners), frozenset({home}), 1))
    return judged


def test_the_fit_is_the_minimum_of_the_penalised_loss() -> None:
    """scipy minimises the formula itself: every question weighs 1, the penalty is |w|^2 / (4 C)."""
    from scipy.optimize import minimize

    judged, penalty = made(40), 0.3

    def loss(weights: np.ndarray) -> float:
        total = weights @ weights / (4 * penalty)
        for each in judged:
            differences = each.features[each.relevant] - each.features[~each.relevant]
            total += np.log1p(np.exp(-(differences @ weights))).mean()
        return float(total)

    expected = minimize(loss, np.zeros(3), tol=1e-12).x
    np.testing.assert_allclose(fit(judged, penalty), expected, atol=1e-3)


def test_the_truth_is_found() -> None:
    weights = fit(made(600), 100.0)
    assert weights[0] > 0 > weights[1] and abs(weights[2]) < 0.2
    assert weights[0] / -weights[1] == pytest.approx(1.5 / 0.8, rel=0.25)


def test_a_document_left_out_has_no_part_in_the_fit() -> None:
    """Neither its questions nor its pages: changing them changes nothing."""
    judged, out = made(60), f"{3:016x}"
    draw = np.random.default_rng(1)
    changed = []
    for each in judged:
        features = each.features.copy()
        rows = slice(None) if out in each.home else each.documents == out
        features[rows] = draw.normal(size=features[rows].shape) * 50
        changed.append(Judged(each.id, features, each.relevant, each.documents, each.home, each.answers))
    without = frozenset({out})
    np.testing.assert_array_equal(fit(judged, 0.1, without), fit(changed, 0.1, without))
    assert not np.allclose(fit(judged, 0.1), fit(changed, 0.1))
    assert choose_penalty(judged, without) == choose_penalty(changed, without)


def test_a_question_about_a_document_left_out_is_left_out_whole() -> None:
    """Also where another of its answers is in a document that stays."""
    judged, out = made(60), f"{3:016x}"
    others = [each for each in judged if out not in each.home]
    (one,) = made(1, seed=9)
    two = Judged("two", one.features, one.relevant, one.documents, one.home | {out}, 2)
    np.testing.assert_array_equal(
        fit([*others, two], 0.1, frozenset({out})), fit(others, 0.1, frozenset({out}))
    )


def test_out_of_fold_weights_do_not_know_the_question() -> None:
    judged = made(60)
    weights = out_of_fold(judged, penalty=0.1)
    each = judged[7]
    poisoned = (
        judged[:7]
        + [Judged(each.id, -50 * each.features, each.relevant, each.documents, each.home, 1)]
        + judged[8:]
    )
    np.testing.assert_array_equal(out_of_fold(poisoned, penalty=0.1)[7], weights[7])
    assert not np.allclose(out_of_fold(poisoned, penalty=0.1)[8], weights[8])


def test_folds_hold_every_document_once_and_keep_a_question_s_together() -> None:
    draw = random.Random(2)
    judged = []
    for number in range(80):
        home = frozenset(f"{draw.randrange(30):016x}" for _ in range(1 + (number % 9 == 0)))
        judged.append(Judged(f"q{number}", np.zeros((1, 1)), np.ones(1, bool), np.array(["x"]), home, 1))
    parts = folds(judged, FOLDS)
    documents = [doc for part in parts for doc in part]
    assert len(documents) == len(set(documents)) == len({doc for each in judged for doc in each.home})
    for each in judged:
        assert sum(bool(each.home & part) for part in parts) == 1
    assert 1 < len(parts) <= FOLDS


def test_too_few_documents_are_refused() -> None:
    with pytest.raises(UsageError, match="3 documents"):
        out_of_fold(made(30, documents=3))


def test_questions_without_an_answer_among_their_candidates_teach_nothing() -> None:
    none = [Judged(e.id, e.features, np.zeros(12, bool), e.documents, e.home, 1) for e in made(12)]
    with pytest.raises(UsageError, match="no question has a relevant page"):
        fit(none, 0.1)
    np.testing.assert_array_equal(fit([*made(12), *none], 0.1), fit(made(12), 0.1))


@pytest.mark.parametrize("seed", range(8))
def test_ndcg_is_that_of_ir_measures(seed: int) -> None:
    draw = np.random.default_rng(seed)
    relevant = draw.random(25) < 0.2
    missing = int(draw.integers(3))
    each = Judged(
        "q",
        draw.normal(size=(25, 3)),
        relevant,
        np.array(["d"] * 25),
        frozenset("d"),
        int(relevant.sum()) + missing,
    )
    if not each.answers:
        pytest.skip("this draw has no relevant page")
    scores = each.features @ TRUTH
    qrels = {"q": {f"p{i}": 1 for i in np.flatnonzero(relevant)} | {f"lost{i}": 1 for i in range(missing)}}
    run = {"q": {f"p{i}": float(score) for i, score in enumerate(scores)}}
    expected = ir_measures.calc_aggregate([nDCG @ 10], qrels, run)[nDCG @ 10]
    assert ndcg(each, TRUTH) == pytest.approx(expected)
    first = {"q": {f"p{i}": float(-i) for i in range(25)}}
    assert ndcg(each, None) == pytest.approx(ir_measures.calc_aggregate([nDCG @ 10], qrels, first)[nDCG @ 10])


QUERIES: list[dict[str, Any]] = [
    {"id": "a", "query": "who signed the lease?"},
    {"id": "b", "query": "revenue of the northern region", "filter": {"stem": "annual report"}},
    {"id": "c", "query": "is the corridor painted?"},
    {"id": "d", "query": "never judged"},
]


def names_of(library: Library) -> dict[str, str]:
    return {
        page["page_id"]: f"{page['path'].rpartition('/')[2]}, page {page['page']}" for page in library.pages()
    }


def test_judging_measures_the_candidates_of_the_search(small_library: Library) -> None:
    reranker = small_library.reranker("evidence")
    assert isinstance(reranker, EvidenceReranker)
    qrels = {
        "a": {"lease.pdf, page 3": 1, "lease.pdf, page 1": 0},
        "b": {"annual report.pdf, page 1": 2},
        "c": {"minutes.pdf, page 1": 1, "elsewhere.pdf, page 9": 1},
        "d": {"elsewhere.pdf, page 1": 1},
    }
    features: Sequence[str] = list(FEATURES)
    judged = judge(small_library, reranker, QUERIES, qrels, names_of(small_library), features)
    assert [each.id for each in judged] == ["a", "b", "c"]
    assert [len(each.relevant) for each in judged] == [6, 2, 6]
    assert [int(each.relevant.sum()) for each in judged] == [each.answers for each in judged] == [1, 1, 1]
    for each, query in zip(judged, QUERIES, strict=False):
        order = small_library.candidates(query["query"], 50, query.get("filter"))
        assert each.documents.tolist() == [candidate.page.doc_id for candidate in order]
        assert each.features.mean(0) == pytest.approx(np.zeros(len(features)), abs=1e-9)
    with pytest.raises(UsageError, match="no judged page"):
        judge(small_library, reranker, QUERIES, {"d": qrels["d"]}, names_of(small_library), features)


class Office:
    """What fitting asks of a library, over a store of plain loops."""

    place = folder = Path("office.pagelens")

    def __init__(self) -> None:
        self.store, self.points = office()
        self.searcher = searcher_of(self.store)

    def candidates(self, query: str, k: int, filter: Mapping[str, Any] | None = None) -> list[Candidate]:
        order = self.searcher.search(Query(query, filter or {}), k).order
        return [each for each in self.searcher.candidates(order) if each]

    def reranker(self, name: str) -> EvidenceReranker:
        return EvidenceReranker(("eng",), idf=self.searcher.idf)


def asked_of(made: Office) -> tuple[list[dict[str, Any]], dict[str, dict[str, int]], dict[str, str]]:
    """Each page is asked for by three words of it."""
    names = {
        f"{p.payload['doc_id']}#{p.payload['number']}": f"p{n}" for n, p in enumerate(made.points.values())
    }
    queries, qrels = [], {}
    for point, name in zip(made.points.values(), names.values(), strict=True):
        if words := point.payload["text"].split():
            queries.append({"id": f"for {name}", "query": " ".join(words[:3])})
            qrels[f"for {name}"] = {name: 1}
    return queries, qrels, names


class Knowing:
    """Knows the answer, or the opposite of it."""

    needs = frozenset({"text"})

    def __init__(self, name: str, worth: float) -> None:
        self.name, self.worth = name, worth

    def score(self, query: Query | str, candidates: Sequence[Candidate]) -> list[float]:
        return [self.worth * each.text.startswith(str(query)) for each in candidates]


def test_a_library_is_fitted_and_compared() -> None:
    library: Any = Office()
    queries, qrels, names = asked_of(library)
    fitted = fit_library(library, queries, qrels, names, Knowing("oracle", 1.0))
    assert fitted.questions == len(queries)
    first, shipped, own, blended = fitted.rows
    assert [row.name for row in fitted.rows][2:] == [
        "fitted, out of fold",
        "fitted, then oracle, out of fold",
    ]
    assert first.gain == (0.0, 0.0, 0.0)
    assert own.gain[0] == pytest.approx(own.ndcg - first.ndcg)
    assert blended.ndcg > own.ndcg > first.ndcg
    assert fitted.coefficients.blend["oracle"] > 0.5
    assert fitted.coefficients.card["questions"] == sorted(digest(query["query"]) for query in queries)
    assert set(fitted.coefficients.weights) == set(FEATURES)
    assert "shipped" in fitted.verdict and f"{own.ndcg - shipped.ndcg:+.3f}" in fitted.verdict
    harmful = fit_library(library, queries, qrels, names, Knowing("liar", -1.0))
    assert harmful.coefficients.blend["liar"] == 0.0


@pytest.mark.parametrize(
    ("gain", "word"),
    [((0.1, 0.05, 0.15), "use the"), ((0.1, -0.05, 0.15), "no diff"), ((-0.1, -0.2, -0.05), "lose")],
)
def test_the_verdict_follows_the_interval(gain: tuple[float, float, float], word: str) -> None:
    assert word in _verdict(gain, {"q"}, Coefficients({}, {"questions": ["p"]}))
    assert "no comparison" in _verdict(gain, {"q"}, Coefficients({}, {"questions": ["p", "q"]}))


def test_without_the_extra_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(Missing, match=re.escape("pip install 'pagelens[fit]'")):
        fit(made(12), 0.1)
