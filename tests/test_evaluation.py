"""An evaluation against what each search, each measure and each reranker gives by itself."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pytest
from ir_measures import RR, R, nDCG
from test_fitting import Office, asked_of
from test_verdict import asked_with

from pagelens import Library, UsageError
from pagelens.calibration import Calibration
from pagelens.evaluation import report
from pagelens.evaluation.asking import Known, Task, ask, judged_task, known_pages, store, stored
from pagelens.evaluation.calibrating import expected_error
from pagelens.evaluation.evaluate import Evaluation, evaluate
from pagelens.evaluation.evaluate import report as reported
from pagelens.evaluation.measures import MEASURES, correlation, measured, oracle, promoted
from pagelens.evaluation.runs import Question
from pagelens.evaluation.second_stage import hold_out, noise, rerankings
from pagelens.evaluation.sweeping import enough, skip_margin
from pagelens.evaluation.weighing import fused_order, list_weights
from pagelens.ranking import FUSION
from pagelens.records import Candidate, Query
from pagelens.rerankers.evidence import FEATURES, Coefficients
from pagelens.searching import Cascade, Found, Step

QUESTIONS = [
    Question("q1", "who signed the lease?", {}, 1),
    Question("q2", "revenue of the northern region", {"stem": "annual report"}, 2),
    Question("q3", "is the corridor painted on page 1?", {}, 3),
    Question("q4", "heating and windows", {}, 4),
]


def anything(pages: Mapping[str, Known]) -> Task:
    """The questions, judged somehow: where only orders matter."""
    first = next(iter(pages.values())).name
    return judged_task(QUESTIONS, {each.id: {first: 1} for each in QUESTIONS}, pages.values())


class Loud:
    """Scores a page by how often it says a word; blended, as a model is."""

    name = "loud"
    needs = frozenset({"text"})

    def score(self, query: Query | str, candidates: Sequence[Candidate]) -> list[float]:
        return [float(each.text.lower().count("the") + each.page.number) for each in candidates]


class Unsteady:
    """Its scores depend on where in the batch a page stands."""

    name = "unsteady"
    needs = frozenset({"text"})

    def score(self, query: Query | str, candidates: Sequence[Candidate]) -> list[float]:
        return [float(place) for place, _ in enumerate(candidates)]


class AskedOffice(Office):
    """The office of plain loops, as an evaluation asks it."""

    kept: Calibration | None = None
    weights = FUSION

    def pages(self) -> list[dict[str, Any]]:
        return [
            {
                "page_id": f"{p.payload['doc_id']}#{p.payload['number']}",
                "path": f"/in/{p.payload['doc_id']}.pdf",
                "paths": [f"/in/{p.payload['doc_id']}.pdf"],
                "page": p.payload["number"] + 1,
                "words": p.payload["words"],
            }
            for p in self.points.values()
        ]

    def steps(self, wanted: Cascade = "auto") -> list[Step]:
        if wanted == "auto":
            return [Step(self.reranker("evidence"), 20)]
        return [wanted] if isinstance(wanted, Step) else list(wanted or [])  # type: ignore[arg-type]

    def calibration(self, rerank: Cascade = "auto") -> Calibration | None:
        return self.kept

    def trace(
        self,
        query: str,
        k: int = 100,
        filter: Mapping[str, Any] | None = None,
        rerank: Cascade = "auto",
        named_pages: bool = True,
    ) -> Found:
        return self.searcher.search(Query(query, filter or {}), k, steps=rerank)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def office() -> tuple[Any, list[Question], dict[str, dict[str, int]]]:
    """A library of 60 pages in 12 documents, and a question for each page with words."""
    made = AskedOffice()
    queries, qrels, names = asked_of(made)
    questions = [
        Question(each["id"].replace(" ", "-"), each["query"], {}, line) for line, each in enumerate(queries)
    ]
    by_name = {name: page_id for page_id, name in names.items()}
    judged = {id.replace(" ", "-"): {by_name[p]: g for p, g in pages.items()} for id, pages in qrels.items()}
    return made, questions, judged


def order_of(library: Any, question: Question, **how: Any) -> list[str]:
    """Page ids of a search of its own."""
    return [page_id for page_id, _ in library.rank(question.query, 100, question.filter, **how)]


def test_one_search_gives_the_order_of_every_stage(small_library: Library) -> None:
    pages = known_pages(small_library, "{doc_id}#{number}")
    task = anything(pages)
    asked = ask(small_library, task, pages, small_library.steps())
    assert list(asked.runs) == ["bm25", "text", "document", "fused", "rerank", "rules"]
    for question in QUESTIONS:
        for stage in ("bm25", "text", "fused", "rerank"):
            assert asked.runs[stage][question.id] == order_of(small_library, question, stage=stage)
        assert asked.runs["rules"][question.id] == order_of(small_library, question)
    assert asked.runs["rules"]["q3"] != asked.runs["rerank"]["q3"]  # it names a page
    for answer in asked.answers:
        assert fused_order(answer.lists, asked.weights) == answer.orders["fused"]


@pytest.mark.parametrize(
    ("useful", "used", "expected"),
    [("look", 0.25, {"look": 2.0}), ("bm25", 2.0, {"look": 0.0}), ("both", 1.0, {})],
)
def test_a_list_that_should_count_more_or_less_is_named(
    useful: str, used: float, expected: dict[str, float]
) -> None:
    """One list knows the answer and the other is noise, or both know it."""
    draw = np.random.default_rng(0)
    pages = [f"p{n}" for n in range(30)]
    lists, relevant = [], []
    for _ in range(60):
        answer = int(draw.integers(30))
        relevant.append(pages[answer])
        own = {}
        for name in ("bm25", "look"):
            scores = draw.normal(size=30)
            scores[answer] += 2.5 if useful in (name, "both") else 0.0
            own[name] = dict(zip(pages, scores.tolist(), strict=True))
        lists.append(own)

    def quality(orders: Sequence[Sequence[str]]) -> np.ndarray:
        return np.array([1 / (1 + order.index(each)) for order, each in zip(orders, relevant, strict=True)])

    found = list_weights(lists, {"bm25": 1.0, "look": used}, quality, np.arange(60))
    assert {each.name: each.best for each in found if each.pays and each.name == "look"} == expected


def test_measures_are_those_of_ir_measures() -> None:
    draw = np.random.default_rng(0)
    qrels = {f"q{n}": {f"p{i}": int(g) for i, g in enumerate(draw.integers(0, 3, 30))} for n in range(20)}
    run = {id: [f"p{i}" for i in draw.permutation(60)] for id in list(qrels)[:-2]} | {"q18": []}
    found = measured(qrels, run)
    kinds = [nDCG @ 5, nDCG @ 10, RR @ 10, R @ 1, R @ 10, R @ 50, R @ 100]
    assert list(found) == [str(kind) for kind in kinds] == list(MEASURES)
    scored = [
        ir_measures.ScoredDoc(id, page, float(-rank))
        for id, pages in run.items()
        for rank, page in enumerate(pages)
    ]
    judged = [
        ir_measures.Qrel(id, page, grade) for id, pages in qrels.items() for page, grade in pages.items()
    ]
    for kind, mean in ir_measures.calc_aggregate(kinds, judged, scored).items():
        assert found[str(kind)].mean() == pytest.approx(mean)
    for each in ir_measures.iter_calc(kinds, judged, scored):
        assert found[str(each.measure)][int(each.query_id[1:])] == pytest.approx(each.value)
    assert not any(values[18] or values[19] for values in found.values())  # empty, and not there


def test_no_order_beats_the_oracle() -> None:
    qrels, run = {"q": {"b": 1, "d": 2, "z": 1}}, {"q": ["a", "b", "c", "d", "e"]}
    assert oracle(qrels, run, 4) == {"q": ["d", "b", "a", "c", "e"]}
    assert oracle(qrels, run, 2) == {"q": ["b", "a", "c", "d", "e"]}


def test_what_two_orders_have_in_common() -> None:
    before, after = {"q": list("abcdefg")}, {"q": list("gabcdef")}
    assert promoted({"q": {"g": 1}}, before, after) == (1.0, 0.0)
    assert promoted({"q": {"e": 1}}, before, after) == (0.0, 1.0)
    assert promoted({"q": {"e": 1}}, before, before) is None
    assert correlation(before, before, 7) == pytest.approx(1.0)
    assert correlation(before, {"q": list("gfedcba")}, 7) == pytest.approx(-1.0)
    assert correlation(before, {"q": list("abcdegf")}, 5) == pytest.approx(
        1.0
    )  # below the depth nothing counts


def test_the_sweep_gives_what_the_search_would_at_that_depth(small_library: Library) -> None:
    pages = known_pages(small_library, "{doc_id}#{number}")
    task = anything(pages)
    for reranker in (small_library.reranker(), Loud()):
        asked = ask(small_library, task, pages, [Step(reranker, 6, 0.7)])
        (last,) = rerankings(asked)
        assert len(last.seen) == len(QUESTIONS)
        for depth in (1, 2, 3, 5, 6, 9):
            for question, seen in zip(QUESTIONS, last.seen, strict=True):
                found = [pages[id].page_id for id in seen.order(depth)]
                step = Step(reranker, depth, 0.7)
                assert found == order_of(small_library, question, rerank=step, stage="rerank")
    for weight in (0.0, 0.3, 4.0):
        for question, seen in zip(QUESTIONS, last.seen, strict=True):
            found = [pages[id].page_id for id in seen.order(weights=np.array([1.0, weight]))]
            step = Step(Loud(), 6, weight)
            assert found == order_of(small_library, question, rerank=step, stage="rerank")


def test_the_skip_margin_is_the_search_s(small_library: Library) -> None:
    pages = known_pages(small_library, "{doc_id}#{number}")
    task = anything(pages)
    (last,) = rerankings(ask(small_library, task, pages, small_library.steps("evidence@4")))
    for question, seen in zip(QUESTIONS, last.seen, strict=True):
        for margin, left_out in ((seen.margin - 1e-6, True), (seen.margin + 1e-6, False)):
            hits = small_library.search(
                question.query, filter=question.filter, rerank="evidence@4", skip_margin=margin
            )
            assert any("was left out" in note for note in hits.notes) is left_out


def test_out_of_fold_is_a_search_with_the_coefficients_of_its_fold(office: Any, tmp_path: Path) -> None:
    """And its numbers know nothing of the coefficients that searched."""
    library, questions, qrels = office
    questions = questions[::2]
    evidence, top = library.reranker("evidence"), "rerank, out of fold"
    card = {"questions": [each.digest for each in questions[:7]]}
    shipped = dict.fromkeys(FEATURES, 0.1)
    found, again = (
        evaluate(
            library,
            questions,
            qrels,
            rerank=Step(evidence.with_coefficients(Coefficients(weights, card)), 20),
            exhaustive=True,
        )
        for weights in (shipped, shipped | {"page": -3.0, "length": 2.0})
    )
    runs = found.asked.runs
    assert found.top == top and runs[top] == again.asked.runs[top] != again.asked.runs["rerank"]
    ours, theirs = ([each.quality for each in of.advice.exhaustive] for of in (found, again))
    assert ours == theirs != []
    assert found.stages["rerank"].trained_on == 7 and found.stages[top].trained_on == 0
    assert any("out of fold" in reason for reason in found.verdict.reasons)
    store(found.asked, tmp_path)
    stored_again = evaluate(library, questions, qrels, runs=tmp_path)
    assert stored_again.top == top
    assert stored_again.stages[top].difference == found.stages[top].difference
    (last,) = rerankings(found.asked)
    assert last.trained_on == 7
    (held,) = hold_out(found.asked, [last])
    for question, seen in list(zip(found.asked.task.questions, held.seen, strict=True))[::5]:
        weights = dict(zip(FEATURES, map(float, seen.weights), strict=True))
        step = Step(evidence.with_coefficients(Coefficients(weights, {})), 20)
        order = library.trace(question.query, 100, rerank=[step]).order
        assert [found.asked.pages[page.id].name for page in order] == runs[top][question.id]


def test_each_reranker_of_a_cascade_has_its_lift_out_of_fold_too(office: Any, tmp_path: Path) -> None:
    """The second is given what the first brings up out of fold: all of that was scored."""
    library, questions, qrels = office
    questions = questions[::2]
    evidence = library.reranker("evidence")
    card = {"questions": [each.digest for each in questions[:7]]}
    known = evidence.with_coefficients(Coefficients(dict.fromkeys(FEATURES, 0.1), card))
    found = evaluate(library, questions, qrels, rerank=[Step(known, 20), Step(Loud(), 20, 0.5)])
    rows = ["rerank:evidence", "rerank:evidence, out of fold", "rerank:loud", "rerank:loud, out of fold"]
    assert list(found.stages)[-4:] == rows and found.top == rows[-1]
    assert [found.stages[row].against for row in rows] == ["fused", "fused", rows[0], rows[1]]
    assert [found.stages[row].trained_on for row in rows] == [7, 0, 7, 0]
    lift = found.stages[rows[1]].difference
    assert lift is not None and any(
        reason.startswith(f"{rows[1]}, before it, ") and f"{lift.mean:+.3f}" in reason
        for reason in found.verdict.reasons
    )
    assert found.advice.splits and f"({rows[-1]})" in "\n".join(report.lines(found))
    (first, second) = hold_out(found.asked, rerankings(found.asked))
    for question, seen in list(zip(found.asked.task.questions, first.seen, strict=True))[::5]:
        weights = dict(zip(FEATURES, map(float, seen.weights), strict=True))
        steps = [Step(evidence.with_coefficients(Coefficients(weights, {})), 20), Step(Loud(), 20, 0.5)]
        order = library.trace(question.query, 100, rerank=steps).order
        names = [found.asked.pages[page.id].name for page in order]
        assert names == found.asked.runs[rows[-1]][question.id]
    store(found.asked, tmp_path)
    again = evaluate(library, questions, qrels, runs=tmp_path)
    assert {name: stage.difference for name, stage in again.stages.items()} == {
        name: stage.difference for name, stage in found.stages.items()
    }
    assert again.top == found.top and not again.advice.splits
    fewer = evaluate(library, questions, qrels, rerank=[Step(known, 20), Step(Loud(), 2, 0.5)])
    assert fewer.top == "rerank:loud" and fewer.verdict.decision is None
    assert "let it see as many pages" in fewer.verdict.reasons[0]


def test_nothing_is_held_out_of_what_was_fitted_elsewhere(office: Any) -> None:
    library, questions, qrels = office
    found = evaluate(library, questions, qrels)
    assert found.top == "rerank" and not found.stages["rerank"].trained_on


def test_what_was_learnt_is_known_by_its_words_and_not_by_its_id(office: Any) -> None:
    library, questions, qrels = office
    card = {"questions": [each.digest for each in questions[:7]]}
    coefficients = Coefficients(dict.fromkeys(FEATURES, 0.1), card)
    known = Step(library.reranker("evidence").with_coefficients(coefficients), 20)
    renamed = [each._replace(id=f"new-{each.id}", query=f" {each.query.upper()}") for each in questions]
    found = evaluate(library, renamed, {f"new-{id}": pages for id, pages in qrels.items()}, rerank=[known])
    assert found.stages["rerank"].trained_on == 7
    others = [each._replace(query=f"{each.query}, then?") for each in questions]
    assert not evaluate(library, others, qrels, rerank=[known]).stages["rerank"].trained_on


def test_a_question_without_a_candidate_counts_as_0_and_is_named(small_library: Library) -> None:
    pages = [page["page_id"] for page in small_library.pages()]
    none = Question("q0", "who signed the lease?", {"stem": "nowhere"}, 9)
    qrels = {each.id: {pages[number]: 1} for number, each in enumerate([none, *QUESTIONS])}
    found = evaluate(small_library, [none, *QUESTIONS], qrels)
    assert found.stages["rerank"].values["nDCG@10"][0] == 0
    assert "1 question found no page, for the filter leaves none: 0" in found.asked.task.notes
    with pytest.raises(UsageError, match="no question finds any page"):
        evaluate(small_library, [none], qrels)


def test_noise_is_what_another_order_of_the_pages_does_to_the_scores(office: Any) -> None:
    library, questions, qrels = office
    pages = known_pages(library, "{doc_id}#{number}")
    task = judged_task(questions, qrels, pages.values())
    for reranker, moves in ((library.reranker("evidence"), False), (Loud(), False), (Unsteady(), True)):
        asked = ask(library, task, pages, [Step(reranker, 20, 3.0)])
        (last,) = rerankings(asked)
        moved = noise(library, asked, last, "nDCG@10")
        assert moved is not None and (moved > 0.01) is moves


def test_every_page_can_be_scored(office: Any) -> None:
    """Stopping at all of them is the search whose reranker sees all of them."""
    library, questions, qrels = office
    step = Step(Loud(), 10, 0.5)
    found = evaluate(library, questions, qrels, rerank=step, exhaustive=True)
    last = found.advice.exhaustive[-1]
    assert last.depth > 40
    pages = known_pages(library, "{doc_id}#{number}")
    run = {}
    for each in questions:
        order = library.trace(each.query, 60, rerank=[replace(step, depth=60)]).order
        run[each.id] = [pages[page.id].name for page in order]
    assert last.quality.mean == pytest.approx(measured(qrels, run)["nDCG@10"].mean())
    assert [each.depth for each in found.advice.sweep] == [5, 10]
    ceilings = [each.ceiling for each in found.advice.exhaustive]
    places = []  # of the one relevant page of each question, from 0
    for each in questions:
        names = [pages[page.id].name for page in library.trace(each.query, 60, rerank=[]).order]
        places.append(min(names.index(name) for name in qrels[each.id]))
    for sweep in found.advice.exhaustive:
        best = [0 if place < sweep.depth else place for place in places]
        expected = np.mean([1 / np.log2(place + 2) if place < 10 else 0.0 for place in best])
        assert sweep.ceiling == pytest.approx(expected)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pagelens.evaluation.asking.DEPTH", 3)  # of a run; no matter for the sweep
        short = evaluate(library, questions, qrels, rerank=step, exhaustive=True)
        assert [each.ceiling for each in short.advice.exhaustive] == ceilings
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pagelens.evaluation.evaluate.MOST_EXHAUSTIVE", 59)
        with pytest.raises(UsageError, match="60 pages are more than 59"):
            evaluate(library, questions, qrels, rerank=step, exhaustive=True)


def test_enough_pages_lose_less_than_a_hundredth() -> None:
    found = evaluation_of("late")
    assert found.advice.enough is None  # stored runs have no scores to sweep
    rows = [depth(5, 0.60, 10), depth(10, 0.695, 20), depth(50, 0.70, 100), depth(100, 0.699, 200)]
    assert enough(rows) == rows[1]
    assert enough(rows, 15.0) == rows[0]
    assert enough(rows, 5.0) is None


def depth(pages: int, mean: float, milliseconds: float) -> Any:
    from pagelens.evaluation.significance import Interval
    from pagelens.evaluation.sweeping import Depth

    return Depth(pages, Interval(mean, mean, mean), Interval(0, 0, 0), 1.0, milliseconds)


def test_a_skip_margin_keeps_the_lift_for_itself_and_all_above() -> None:
    class Of:
        def __init__(self, margin: float) -> None:
            self.margin = margin

    seen: Any = [Of(margin) for margin in (0.1, 0.5, 1.0, 1.5, 2.0)]
    found = skip_margin(seen, np.array([0.4, 0.6, 0.0, 0.0, 0.0]))
    assert found is not None and found.margin == 1.0
    assert found.skipped == pytest.approx(0.6) and found.kept == 1.0
    harmed = skip_margin(seen, np.array([0.4, 0.6, 0.0, -0.1, 0.0]))
    assert harmed is not None and harmed.kept > 1.0
    last = skip_margin(seen, np.array([0.4, 0.0, 0.0, 0.5, 0.0]))
    assert last is not None and last.margin == 2.0 and last.skipped == pytest.approx(0.2)
    assert skip_margin(seen, np.array([0.4, 0.0, 0.0, 0.0, 0.5])) is None
    chance = skip_margin(seen, np.array([0.5, -0.5, 0.5, 0.0, 0.0]))  # below 1.0 it is lost and won again
    assert chance is not None and chance.margin == 1.5
    assert skip_margin(seen, np.full(5, -0.1)) is None


# what is odd about the judgements is said


KNOWN = [Known(f"{name}#{n}", f"{name * 16}#{n}", 100) for name in "ab" for n in range(3)]
ASKED = [Question(f"q{n}", "why?", {}, n) for n in range(4)]


def test_left_out_and_missing_is_counted() -> None:
    qrels = {
        "q0": {"a#0": 1, "gone#1": 1},
        "q1": {"gone#2": 1},
        "q2": {"a#1": 0},
        "q9": {"a#1": 1},
        "q8": {"a#1": 1},
    }
    task = judged_task(ASKED, qrels, KNOWN)
    assert [each.id for each in task.questions] == list(task.qrels) == ["q0", "q1"]
    assert task.homes == [frozenset({"a" * 16}), frozenset()] and task.documents == 2
    assert task.notes == [
        "1 question left out: not judged",
        "1 question left out: no page is judged relevant",
        "2 judged questions not asked: the file of questions lacks them",
        "2 relevant pages not in the library, such as gone#1, gone#2: counted as not found; 1 question with "
        "no other: 0",
        "only relevant pages are judged: any other page counts as not relevant",
        "the questions are about 2 independent documents: intervals are rough",
    ]


@pytest.mark.parametrize(
    ("qrels", "words"),
    [
        ({}, "there are no judgements"),
        ({"x1": {"a#0": 1}}, "no question is judged.* q0, q1, q2, ....* x1"),
        ({"q0": {"a#0": 0}, "q1": {"a#1": -1}}, "no page is judged relevant: all judgements of 2 questions"),
        (
            {"q0": {"page-7": 1}},
            "no relevant page is in this library.*page-7.*a#0, a#1, .*--page-name",
        ),
    ],
)
def test_nothing_to_evaluate_is_an_error_and_no_zero(qrels: dict[str, dict[str, int]], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        judged_task(ASKED, qrels, KNOWN)


def test_translations_of_a_question_count_as_one() -> None:
    task = judged_task(ASKED, {"q0": {"a#0": 1}, "q1": {"a#0": 1}, "q2": {"b#0": 1}}, KNOWN)
    assert task.groups.tolist() == [0, 0, 1]


def test_one_question_has_numbers_and_no_verdict(small_library: Library) -> None:
    pages = [page["page_id"] for page in small_library.pages() if page["path"].endswith("lease.pdf")]
    found = evaluate(small_library, QUESTIONS[:1], {"q1": {pages[2]: 1, pages[0]: 0}})
    assert found.verdict.decision is None and "one question cannot show" in found.verdict.reasons[0]
    printed = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert printed["stages"]["fused"]["nDCG@10"] == {"mean": 1.0, "low": None, "high": None}
    assert "no verdict" in "\n".join(report.lines(found))
    assert "no verdict" in report.html(found, small_library)


# probabilities


def test_a_kept_calibration_is_held_against_new_questions(
    office: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, questions, qrels = office
    odds = Calibration("m", "Platt", False, 0.5, -2.0, fitted_to=("elsewhere",))
    monkeypatch.setattr(library, "kept", odds)
    found = evaluate(library, questions, qrels)
    (last,) = rerankings(found.asked)
    said, so = [], []
    for question, answer in zip(found.asked.task.questions, found.asked.answers, strict=True):
        trace = library.trace(question.query, rerank=library.steps())
        scored = [page for page in trace.order if "rerank" in page.stages]
        said += [1 / (1 + np.exp(2.0 - page.stages["rerank"].score / 2)) for page in scored]
        so += [page.id in answer.relevant for page in scored]
    assert found.reliability.about.startswith("the calibration that the library keeps (Platt)")
    assert sum(each.pages for each in found.reliability.bins) == len(said)
    assert found.reliability.brier == pytest.approx(np.mean((np.array(said) - so) ** 2))
    assert found.reliability.ece == expected_error(np.array(said), np.array(so))
    page = report._reliability(found)
    assert page.count("<circle") == len(found.reliability.bins) > 1
    monkeypatch.setattr(library, "kept", replace(odds, fitted_to=(questions[3].digest,)))
    refitted = evaluate(library, questions, qrels).reliability
    assert "fitted here" in refitted.about and "was fitted to 1 of these questions" in refitted.about
    monkeypatch.setattr(library, "kept", None)
    without = evaluate(library, questions, qrels)
    assert without.reliability.bins == refitted.bins != found.reliability.bins
    assert "keeps no calibration" in without.reliability.about


def test_the_own_scores_of_a_blended_reranker_are_calibrated(office: Any) -> None:
    """Loud says the same of a page whatever stands before it, and as loud of any order."""
    library, questions, qrels = office
    found = evaluate(library, questions, qrels, rerank=Step(Loud(), 10, 0.5)).reliability
    other = evaluate(library, questions, qrels, rerank=Step(Loud(), 10, 3.0)).reliability
    assert found == other and found.bins


def test_where_there_is_no_probability_it_is_said_why(office: Any) -> None:
    library, questions, qrels = office
    assert "no reranker was asked" in evaluate(library, questions, qrels, rerank=None).reliability.about
    few = evaluate(library, questions[:4], qrels)
    assert "no probabilities: 2 independent questions" in few.reliability.about and not few.reliability.bins
    assert few.reliability.about in report._reliability(few)
    assert evaluation_of("helps").reliability.about == "no probabilities: stored runs have no scores"
    asked = replace(few.asked, runs={name: few.asked.runs[name] for name in ("fused", "rerank")})
    card = {"questions": [questions[0].digest]}
    known = library.reranker("evidence").with_coefficients(Coefficients(dict.fromkeys(FEATURES, 0.1), card))
    assert "trained on 1 of these" in reported(replace(asked, steps=[Step(known, 20)])).reliability.about


# runs


def evaluation_of(kind: str) -> Evaluation:
    return reported(asked_with(kind))


def test_stored_runs_give_the_same_numbers(office: Any, tmp_path: Path) -> None:
    library, questions, qrels = office
    searched = evaluate(library, questions, qrels)
    store(searched.asked, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir())[0] == "00-bm25.trec"
    again = evaluate(library, questions, qrels, runs=tmp_path)
    assert list(again.stages) == list(searched.stages)
    for name, stage in searched.stages.items():
        assert again.stages[name].measures == stage.measures
        assert again.stages[name].difference == stage.difference
        assert again.stages[name].latency is None
    assert again.verdict.decision == searched.verdict.decision
    qrels_of = {id: qrels[id] for id in searched.asked.task.qrels}
    direct = ir_measures.calc_aggregate(
        [nDCG @ 10],
        qrels_of,
        ir_measures.read_trec_run(str(tmp_path / "04-rerank.trec")),  # type: ignore[no-untyped-call]
    )
    assert searched.stages["rerank"].measures["nDCG@10"].mean == pytest.approx(direct[nDCG @ 10])
    with pytest.raises(UsageError, match="holds no run"):
        stored(searched.asked.task, searched.asked.pages, tmp_path / "none")


def test_lists_stand_before_the_fused_order_whatever_they_are_called(tmp_path: Path) -> None:
    """Also as other tools name the files."""
    asked = asked_with("helps")
    runs = {"rerank:org/model": asked.runs["rerank"], "fused": asked.runs["fused"]}
    for name in ("zebra", "bm25", "rules"):
        runs[name] = asked.runs["fused"]
    store(replace(asked, runs=runs), tmp_path)
    assert (tmp_path / "00-rerank:org%2Fmodel.trec").exists()
    for path in tmp_path.iterdir():
        path.rename(tmp_path / path.name.partition("-")[2])
    found = stored(asked.task, asked.pages, tmp_path)
    assert list(found.runs) == ["bm25", "zebra", "fused", "rerank:org/model", "rules"]
    against = {name: stage.against for name, stage in reported(found).stages.items()}
    assert against == {
        "bm25": "fused",
        "zebra": "fused",
        "fused": None,
        "rerank:org/model": "fused",
        "rules": "rerank:org/model",
    }


def test_runs_of_something_else_are_no_silent_zeros(tmp_path: Path) -> None:
    asked = asked_with("helps")
    some = {id: pages for id, pages in asked.runs["fused"].items() if id not in ("q3", "q4")}
    store(replace(asked, runs={"fused": some}), tmp_path)
    notes = stored(asked.task, asked.pages, tmp_path).task.notes
    assert "2 questions without an answer in 00-fused.trec: counted as 0" in notes
    assert any(re.match(r"\d+ pages of 00-fused.trec not in the library, such as o0-0", n) for n in notes)
    for run, words in (
        ({"other": ["p1"]}, "answers none of the questions.* other, they have ids such as q0, q1"),
        (
            {"q1": ["x.pdf"]},
            "no page of .*00-fused.trec is in this library.* x.pdf, .* p0, p1, .*--page-name",
        ),
    ):
        store(replace(asked, runs={"fused": run}), tmp_path)
        with pytest.raises(UsageError, match=words):
            stored(asked.task, asked.pages, tmp_path)


def test_a_thousand_questions_take_seconds() -> None:
    """100 pages each, from runs: under 10 s on an idle core."""
    asked = asked_with("helps", questions=1_000)
    started = time.process_time()
    reported(asked)
    assert time.process_time() - started < 10


def test_the_json_is_as_agreed(office: Any) -> None:
    library, questions, qrels = office
    found = evaluate(library, questions, qrels, gpu_hour=2.0, queries_per_second=3.0, budget_ms=10_000.0)
    printed = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert printed["schema"] == 1
    assert list(printed["stages"]) == ["bm25", "text", "document", "fused", "rerank"]
    for stage in printed["stages"].values():
        for measure in MEASURES:
            assert stage[measure].keys() == {"mean", "low", "high"}
    assert printed["verdict"].keys() == {"decision", "reasons"}
    assert printed["verdict"]["decision"] in ("add", "skip", "first stage", None)
    rerank = printed["stages"]["rerank"]
    spent = [sum(each.laps.values()) for each in found.asked.answers]
    assert rerank["latency_ms"]["p50"] == pytest.approx(np.median(spent), rel=1e-4)
    fused = [sum(each.laps.values()) - each.laps["rerank"] for each in found.asked.answers]
    assert printed["stages"]["fused"]["latency_ms"]["p50"] == pytest.approx(np.median(fused), rel=1e-4)
    assert "latency_ms" not in printed["stages"]["bm25"]
    assert rerank["cost_of_1000"] == pytest.approx(np.mean(spent) / 3600 * 2, rel=0.05)
    difference = rerank["difference"]
    assert difference["wins"] + difference["ties"] + difference["losses"] == len(questions)
    before = printed["stages"]["fused"]["nDCG@10"]["mean"]
    assert difference["against"] == "fused"
    assert difference["mean"] == pytest.approx(rerank["nDCG@10"]["mean"] - before, abs=2e-6)
    room = printed["ceiling"]["mean"] - before
    assert printed["ceiling"]["realised"] == pytest.approx(difference["mean"] / room, abs=1e-4)
