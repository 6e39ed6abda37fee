"""The verdict on collections made so that the right answer is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pagelens.evaluation.asking import Asked, Known, Task
from pagelens.evaluation.evaluate import Paid, report
from pagelens.evaluation.runs import Question
from pagelens.evaluation.significance import Difference, clusters
from pagelens.evaluation.verdict import Signals, decide
from pagelens.rerankers.evidence import FEATURES, Coefficients, EvidenceReranker
from pagelens.searching import Step

PAGES = 100


def asked_with(kind: str, questions: int = 120, documents: int = 30, seed: int = 0) -> Asked:
    """Runs of a first stage and of a reranker; one relevant page a question.

    kind: `helps`: the reranker moves most answers to the top; `hurts`: away from there; `nothing`: the same
    order; `below`: it changes what stands below the tenth; `noise`: it moves answers up as often as down;
    `good`: the first stage has nearly all; `lost`: it has not; `tiny`: up by a place, seldom; `late`: answers
    stand between 6 and 50.
    """
    draw = np.random.default_rng(seed)
    pages = {
        f"id{i}": Known(f"p{i}", f"{i % documents:016x}#{i // documents}", 120) for i in range(questions)
    }
    runs: dict[str, dict[str, list[str]]] = {"fused": {}, "rerank": {}}
    asked: list[Question] = []
    qrels: dict[str, Mapping[str, int]] = {}
    homes: list[frozenset[str]] = []
    for number in range(questions):
        id, answer = f"q{number}", f"p{number}"
        others = [f"o{number}-{i}" for i in range(PAGES)]
        place = int(draw.integers(0, 12))
        moved = place
        if kind == "helps":
            moved = 0 if draw.random() < 0.6 else place
        elif kind == "hurts":
            moved = place + 6 if draw.random() < 0.5 else place
        elif kind == "noise":
            moved = max(0, place + int(draw.choice([-2, -1, 0, 1, 2])))
        elif kind == "good":
            place = 0 if draw.random() < 0.95 else 2
            moved = 0
        elif kind == "lost":
            place = PAGES + 1 if draw.random() < 0.5 else 0
            moved = place
        elif kind == "tiny":
            moved = max(0, place - 1) if draw.random() < 0.04 and place > 6 else place
        elif kind == "late":
            place, moved = int(draw.integers(6, 40)), 0
        elif kind == "below":
            place = int(draw.choice([0, 20]))
            moved = place - 5 if place else 0
        for stage, at in (("fused", place), ("rerank", moved)):
            runs[stage][id] = [*others[:at], answer, *others[at:]][:PAGES]
        asked.append(Question(id, f"what is the sum of {id} in the end?", {}, number))
        qrels[id] = {answer: 1}
        homes.append(frozenset({f"{number % documents:016x}"}))
    return Asked(Task(asked, qrels, homes, clusters(homes), []), pages, runs)


CASES: list[tuple[str, dict[str, Any], dict[str, Any], str | None, str]] = [
    ("helps", {}, {}, "add", "the reranker helps"),
    ("late", {}, {}, "add", "the reranker helps"),
    ("hurts", {}, {}, "skip", "makes it worse"),
    ("nothing", {}, {}, "skip", "the reranker changes nothing"),
    ("below", {}, {}, "skip", "the reranker changes nothing"),
    ("noise", {}, {}, "skip", "no lift can be told from luck"),
    ("good", {}, {}, "skip", "the first stage is good already"),
    ("good", {}, {"prefer": "precision"}, "add", "the reranker helps"),
    ("lost", {}, {}, "first stage", "your first stage loses the page: 44%"),
    ("tiny", {"questions": 2_000, "documents": 1_000}, {}, "skip", "the lift is less than 1%"),
    ("helps", {"questions": 4}, {}, "skip", "would show a difference of"),
    ("helps", {"documents": 1}, {}, None, "120 questions about one document"),
    ("helps", {}, {"moved": 0.9}, "skip", "not more than the scores' own noise (0.900)"),
    ("helps", {}, {"paid": Paid(budget_ms=30)}, "skip", "a budget of 30 ms"),
]


@pytest.mark.parametrize(("kind", "made", "how", "decision", "words"), CASES)
def test_the_answer_is_the_planted_one(
    kind: str, made: dict[str, Any], how: dict[str, Any], decision: str | None, words: str
) -> None:
    found = report(asked_with(kind, **made), **how).verdict
    assert found.decision == decision, found.reasons
    assert words in found.reasons[0]
    assert not any(found.reasons[0] in each for each in found.reasons[1:])


def test_luck_is_seldom_taken_for_a_lift() -> None:
    """At most as often as 5% says, and half of that goes the other way."""
    taken = [report(asked_with("noise", seed=seed)).verdict.decision == "add" for seed in range(20)]
    assert sum(taken) <= 2


def test_the_signs_have_their_numbers() -> None:
    late = report(asked_with("late"))
    assert (
        "for: 100% of the questions have their page in the top 50 and not in the top 5"
        in late.verdict.reasons
    )
    assert late.ceiling == 1.0 and late.realised == pytest.approx(1.0)
    same = report(asked_with("nothing"))
    assert "against: the reranked order is nearly the one before (tau 1.00)" in same.verdict.reasons
    assert same.realised == 0.0
    worse = report(asked_with("hurts")).verdict.reasons
    assert any(
        "brings into the top 5, 0% are relevant, of those it drives out 100%" in each for each in worse
    )


def test_a_list_that_beats_the_fused_order_is_named() -> None:
    asked = asked_with("helps")
    runs = {"bm25": asked.runs["fused"], "text": asked.runs["rerank"], **asked.runs}
    reasons = report(replace(asked, runs=runs)).verdict.reasons
    assert "the list text alone does better than the lists fused" in reasons


def test_a_page_that_is_not_there_is_lost_by_no_stage() -> None:
    asked = asked_with("helps")
    gone = {page for id, pages in asked.task.qrels.items() for page in pages if int(id[1:]) % 2}
    without = replace(asked, pages={id: page for id, page in asked.pages.items() if page.name not in gone})
    found = report(without)
    assert found.verdict.decision != "first stage" and found.signals.lost == report(asked).signals.lost == 0
    assert any("50% of the relevant pages are not in this library" in each for each in found.verdict.reasons)


def test_no_verdict_in_sample() -> None:
    """Too few documents to hold any out: the stage is marked, and nothing is decided."""
    asked = asked_with("helps", documents=5)
    card = {"questions": [each.digest for each in asked.task.questions[:2]]}
    known = Coefficients(dict.fromkeys(FEATURES, 0.1), card)
    asked = replace(asked, steps=[Step(EvidenceReranker(("eng",), known), 50)])
    found = report(asked)
    assert found.stages["rerank"].trained_on == 2 and not found.stages["fused"].trained_on
    assert found.verdict.decision is None
    assert "trained on 2 of these 120 questions" in found.verdict.reasons[0]
    assert found.as_dict()["stages"]["rerank"]["trained_on"] == 2


def test_without_a_reranker_the_room_is_told() -> None:
    asked = asked_with("late")
    found = report(replace(asked, runs={"fused": asked.runs["fused"]}))
    assert found.top is None and found.verdict.decision is None
    assert "to 1.000" in found.verdict.reasons[0]


LIFT = Difference(0.1, 0.05, 0.15, 0.001, 0.03, 50, 20, 10)
HELPING = Signals(
    measure="nDCG@10", questions=80, documents=40, first=0.6, before=0.6, difference=LIFT, p=0.001, noise=0.0
)


@pytest.mark.parametrize(
    ("changed", "decision", "words"),
    [
        ({}, "add", "helps"),
        ({"p": 0.06}, "skip", "luck"),
        ({"difference": LIFT._replace(low=-0.01)}, "skip", "luck"),
        ({"budget_ms": 49.0}, "skip", "49 ms"),
        ({"budget_ms": 200.0, "p95": 300.0}, "skip", "up to 300 ms"),
        ({"budget_ms": 400.0, "p95": 300.0}, "add", "helps"),
        ({"helped_price": 1.5}, "skip", "costs 1.50"),
        ({"machines": 9.0}, "skip", "9.0 machines"),
        ({"lost": 0.3, "misplaced": 0.2}, "first stage", "30%"),
        ({"lost": 0.3, "misplaced": 0.4}, "add", "helps"),
        ({"difference": LIFT._replace(mean=0.005, low=0.001)}, "skip", "less than 1%"),
    ],
)
def test_each_rule_by_itself(changed: dict[str, Any], decision: str, words: str) -> None:
    found = decide(replace(HELPING, **changed))
    assert found.decision == decision and words in found.reasons[0]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"late": 0.2}, "for: 20%"),
        ({"better_list": "text"}, "the list text alone does better than the lists fused"),
        ({"page_words": 400.0}, "for: long pages, 400 words"),
        ({"drawn": 0.5}, "for: 50% of the questions are about what is drawn"),
        ({"margin": 0.1}, "for: the first stage hardly prefers"),
        ({"page_words": 20.0, "question_words": 2.0}, "against: short pages (20 words) and keywords"),
        ({"noise": None}, "not measured"),
        ({"in_sample": 0.2}, "gain +0.200 on them"),
        ({"in_sample": 0.2}, "helps once it is fitted to such documents"),
    ],
)
def test_each_sign_by_itself(changed: dict[str, Any], words: str) -> None:
    assert not any(words in each for each in decide(HELPING).reasons)
    assert any(words in each for each in decide(replace(HELPING, **changed)).reasons)


def test_what_matters_chooses_the_measure() -> None:
    asked = asked_with("late")
    assert [report(asked, prefer=each).measure for each in (None, "precision", "recall")] == [
        "nDCG@10",
        "nDCG@5",
        "R@10",
    ]
    assert (
        "for: precision matters more to you than recall" in report(asked, prefer="precision").verdict.reasons
    )
