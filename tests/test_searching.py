"""The search path over a store of plain loops, against fusion and filters written out a second time."""

from __future__ import annotations

import datetime
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import pytest
from exact_store import ExactStore

from pagelens import searching
from pagelens.encoders.sparse import Bm25Encoder
from pagelens.errors import UsageError
from pagelens.filters import where
from pagelens.ranking import Ranked
from pagelens.records import Candidate, Query, SparseVector
from pagelens.scores import standardised
from pagelens.searching import Searcher, Step, parse_cascade
from pagelens.store.plan import Point, Schema, VectorSpec
from pagelens.store.points import FIELDS, point_id
from pagelens.words import idf, terms

VOCABULARY = [
    *("lease", "tenant", "rent", "revenue", "quarter", "region", "harbour", "invoice", "signature"),
    *("landlord", "heating", "window", "minutes", "board", "corridor", "laboratory", "sample"),
    *("glucose", "letter", "deadline", "total", "discount", "pallet", "freight", "insurance"),
]
SPARSE = Bm25Encoder(("eng",))
SIZE = 8
DAY = datetime.date(2024, 3, 1)


def midnight(day: datetime.date) -> float:
    return datetime.datetime.combine(day, datetime.time()).timestamp()


def office(seed: int = 3) -> tuple[ExactStore, dict[str, Point]]:
    """60 pages in 12 documents; some pages have no words, and so no vectors."""
    draw = random.Random(seed)
    store = ExactStore()
    store.declare(
        Schema(
            (
                VectorSpec("bm25", "sparse"),
                VectorSpec("document_bm25", "sparse"),
                VectorSpec("text", "multi", SIZE),
            ),
            FIELDS,
        )
    )
    points = []
    for number in range(12):
        doc_id = f"{number:016x}"
        texts = []
        for page in range(5):
            text = " ".join(draw.choices(VOCABULARY, k=draw.choice([0, 5, 30, 80])))
            texts.append(text)
            bm25 = SPARSE.encode(text)
            rows = np.array([[draw.gauss(0, 1) for _ in range(SIZE)] for _ in range(1 + page)], np.float32)
            payload = {
                "kind": "page",
                "digests": {"image": "0" * 64},
                "doc_id": doc_id,
                "number": page,
                "width": 595.0,
                "height": 842.0,
                "text": text,
                "words": len(text.split()),
                "language": draw.choice(["eng", "deu"]),
                "date": midnight(DAY + datetime.timedelta(days=number)) + 3600 * (number % 3 == 0),
            }
            points.append(
                Point(
                    point_id("page", doc_id, page),
                    payload,
                    {} if bm25 is None else {"bm25": bm25, "text": rows},
                )
            )
        whole = SPARSE.encode(" ".join(texts))
        assert whole is not None
        named = {
            "kind": "document",
            "doc_id": doc_id,
            "files": [f"/scans/{'ab'[number % 2]}/file {number}.pdf"],
        }
        points.append(Point(point_id("document", doc_id), named, {"document_bm25": whole}))
    store.upsert(points)
    return store, {point.id: store.points[point.id] for point in points if point.payload["kind"] == "page"}


def paths_of(point: Point) -> Sequence[str]:
    return list(point.payload["files"])


class RandomText:
    """A vector a question, drawn from the question itself."""

    def encode_query(self, text: str) -> np.ndarray:
        draw = random.Random(text)
        return np.array([[draw.gauss(0, 1) for _ in range(SIZE)]], np.float32)


def searcher_of(store: ExactStore, text: bool = True) -> Searcher:
    def no_image(page_id: str) -> Any:
        raise AssertionError(f"nobody asked for the image of {page_id}")

    return Searcher(store, paths_of, no_image, SPARSE, {"text": RandomText} if text else None)


STORE, PAGES = office()
QUESTIONS = [
    "rent of the harbour lease",
    "glucose sample",
    "total discount on freight and insurance",
    "revenue",
]


# Fusion, written out again


def held(point: Point, name: str) -> dict[int, float]:
    """A point's terms and their weights."""
    vector = point.vectors.get(name, SparseVector(np.empty(0), np.empty(0)))
    assert isinstance(vector, SparseVector)
    return dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True))


def best_of(scores: Mapping[str, float], limit: int) -> list[str]:
    return sorted(scores, key=lambda id: (-scores[id], id))[:limit]


def straight_line(question: str, depth: int) -> dict[str, dict[str, float]]:
    """Every stage's scores, from the stored vectors alone."""
    asked = terms(question, ("eng",))
    vector = RandomText().encode_query(question)[0]

    def bm25_of(points: Mapping[str, Point], name: str) -> dict[str, float]:
        stored = {id: held(point, name) for id, point in points.items() if name in point.vectors}
        weight = {t: idf(sum(t in each for each in stored.values()), len(stored)) for t in asked}
        return {
            id: sum(weight[t] * e[t] for t in asked & e.keys())
            for id, e in stored.items()
            if asked & e.keys()
        }

    bm25 = bm25_of(PAGES, "bm25")
    text = {
        id: float(np.max(np.asarray(page.vectors["text"]) @ vector) / np.linalg.norm(vector))
        for id, page in PAGES.items()
        if "text" in page.vectors
    }
    union = sorted({*best_of(bm25, depth), *best_of(text, depth)})
    owners = {p.payload["doc_id"]: p for p in STORE.points.values() if p.payload["kind"] == "document"}
    by_document = bm25_of(owners, "document_bm25")
    owner = {id: PAGES[id].payload["doc_id"] for id in union}
    document = {id: by_document[owner[id]] for id in union if owner[id] in by_document}
    lists = {
        "bm25": {id: bm25[id] for id in union if id in bm25},
        "text": {id: text[id] for id in union if id in text},
        "document": document,
    }
    fused = np.zeros(len(union))
    for name, weight in {"bm25": 1.0, "text": 1.0, "document": 0.5}.items():
        values = np.array([lists[name].get(id, min(lists[name].values())) for id in union])
        fused += weight * (values - values.mean()) / values.std()
    return {**lists, "fused": dict(zip(union, fused.tolist(), strict=True))}


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("depth", [7, 25])
def test_fusion_is_the_straight_line(question: str, depth: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """At depth 7 most pages are in one list only, and get their exact score from the other."""
    monkeypatch.setattr(searching, "CANDIDATES", depth)
    expected = straight_line(question, depth)
    found = searcher_of(STORE).search(Query(question), 1).order  # k is less than the lists are long
    everything = searcher_of(STORE).search(Query(question), depth).order
    assert [page.id for page in everything] == best_of(expected["fused"], depth)
    assert found == everything[:1]
    for page in everything:
        assert page.score == pytest.approx(expected["fused"][page.id], abs=1e-5)
        assert page.stages.keys() == {name for name in expected if page.id in expected[name]}
        for name, stage in page.stages.items():
            assert stage.score == pytest.approx(expected[name][page.id], abs=1e-5)
            better = sum(score > stage.score + 1e-6 for score in expected[name].values())
            assert stage.rank == better + 1
        shares = [feature.share for feature in page.stages["fused"].features.values()]
        assert math.fsum(shares) == pytest.approx(page.score)


@pytest.mark.parametrize("stage", ["bm25", "text", "document"])
def test_one_list_alone(stage: str) -> None:
    expected = straight_line(QUESTIONS[0], 100)[stage]
    order = searcher_of(STORE).search(Query(QUESTIONS[0]), 100, stage).order
    scores = {page.id: page.score for page in order}
    if stage == "document":  # of the pages that hold a word of the question
        assert scores.keys() <= expected.keys()
    else:
        assert scores.keys() == expected.keys()
    assert scores == pytest.approx({id: expected[id] for id in scores}, abs=1e-5)
    assert list(scores) == sorted(scores, key=lambda id: (-scores[id], id))


def test_without_a_model_the_words_are_fused() -> None:
    found = searcher_of(STORE, text=False).search(Query(QUESTIONS[0]), 10)
    assert found.order and all(set(page.stages) == {"bm25", "document", "fused"} for page in found.order)
    with pytest.raises(UsageError, match="no stage 'text'"):
        searcher_of(STORE, text=False).search(Query(QUESTIONS[0]), 10, "text")


def test_idf_is_read_from_the_scores() -> None:
    asked = terms(" ".join(VOCABULARY) + " zeppelin", ("eng",))
    pages = [held(page, "bm25") for page in PAGES.values() if "bm25" in page.vectors]
    counts = {term: sum(term in page for page in pages) for term in asked}
    expected = {term: idf(count, len(pages)) for term, count in counts.items() if count}
    assert len(expected) < len(asked)
    assert searcher_of(STORE).idf(asked) == pytest.approx(expected, rel=1e-5)


def test_standardised_is_numpy_and_deaf_to_order() -> None:
    draw = random.Random(1)
    values = [draw.uniform(-5, 9) for _ in range(40)]
    array = np.array(values)
    assert standardised(values) == pytest.approx(((array - array.mean()) / array.std()).tolist())
    shuffled = values[:]
    random.Random(2).shuffle(shuffled)
    assert dict(zip(values, standardised(values), strict=True)) == dict(
        zip(shuffled, standardised(shuffled), strict=True)
    )
    assert standardised([0.1 + 0.2, 0.3]) == [0.0, 0.0]
    assert standardised([]) == []


def test_what_scores_the_same_is_ordered_by_id_and_shares_a_rank() -> None:
    store = ExactStore()
    store.declare(Schema((VectorSpec("bm25", "sparse"), VectorSpec("document_bm25", "sparse")), FIELDS))
    vector = SPARSE.encode("rent rent")
    assert vector is not None
    points = [
        Point(point_id("page", f"{n:016x}", 0), {"kind": "page", "doc_id": f"{n:016x}"}, {"bm25": vector})
        for n in range(6)
    ]
    store.upsert(points)
    order = searcher_of(store, text=False).search(Query("rent"), 6).order
    assert [page.id for page in order] == sorted(point.id for point in points)
    assert (
        {page.stages["bm25"].rank for page in order} == {page.stages["fused"].rank for page in order} == {1}
    )
    assert {page.score for page in order} == {0.0}


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_is_refused(question: str) -> None:
    with pytest.raises(UsageError, match="empty"):
        searcher_of(STORE).search(Query(question), 3)


def test_a_question_of_stop_words_is_searched_by_meaning_and_says_so() -> None:
    found = searcher_of(STORE).search(Query("what is the"), 5)
    assert len(found.order) == 5 and not found.weights
    assert set(found.order[0].stages) == {"text", "fused"}
    assert any("no word that is searched for" in note for note in found.notes)
    assert searcher_of(STORE, text=False).search(Query("what is the"), 5).order == []


# Filters, against a loop over all pages


def day(page: Mapping[str, Any]) -> datetime.date:
    return datetime.datetime.fromtimestamp(page["date"]).date()


def path(page: Mapping[str, Any]) -> PurePath:
    number = int(page["doc_id"], 16)
    return PurePath(f"/scans/{'ab'[number % 2]}/file {number}.pdf")


LATER = DAY + datetime.timedelta(days=4)
FILTERS: list[tuple[dict[str, Any], Callable[[Mapping[str, Any]], bool]]] = [
    ({}, lambda page: True),
    ({"doc_id": f"{3:016x}"}, lambda page: int(page["doc_id"], 16) == 3),
    ({"doc_id": [f"{3:016x}", f"{5:016x}", "f" * 16]}, lambda page: int(page["doc_id"], 16) in (3, 5)),
    ({"stem": ["file 4", "file 11"]}, lambda page: path(page).stem in ("file 4", "file 11")),
    ({"stem": "file"}, lambda page: False),
    ({"path": "a/*"}, lambda page: path(page).parent.name == "a"),
    ({"path": "/scans/b/file 1*.pdf"}, lambda page: path(page).name in ("file 1.pdf", "file 11.pdf")),
    ({"path": ["file 2.pdf", "file 3.pdf"]}, lambda page: path(page).stem in ("file 2", "file 3")),
    ({"page": [2, 3]}, lambda page: page["number"] in (1, 2)),
    ({"page": 1}, lambda page: page["number"] == 0),
    ({"page": [None, 2]}, lambda page: page["number"] < 2),
    ({"page": ["4", None]}, lambda page: page["number"] >= 3),
    ({"date": [LATER.isoformat(), None]}, lambda page: day(page) >= LATER),
    ({"date": [None, LATER.isoformat()]}, lambda page: day(page) <= LATER),
    ({"date": LATER.isoformat()}, lambda page: day(page) == LATER),
    ({"language": "deu"}, lambda page: page["language"] == "deu"),
    ({"language": ["deu", "eng"]}, lambda page: True),
    (
        {"language": "deu", "page": [1, 2], "path": "a/*"},
        lambda page: page["language"] == "deu" and page["number"] < 2 and path(page).parent.name == "a",
    ),
    ({"stem": "file 4", "doc_id": f"{5:016x}"}, lambda page: False),
]


@pytest.mark.parametrize(("wanted", "holds"), FILTERS, ids=[str(wanted) for wanted, _ in FILTERS])
def test_filters_hold_in_every_list(
    wanted: dict[str, Any], holds: Callable[[Mapping[str, Any]], bool]
) -> None:
    expected = {id for id, page in PAGES.items() if holds(page.payload)}
    among = where(wanted, STORE, paths_of)
    assert {point.id for point in STORE.scroll(among)} == expected
    for stage in ("bm25", "text", "fused"):
        everything = {page.id for page in searcher_of(STORE).search(Query(QUESTIONS[0]), 100, stage).order}
        found = searcher_of(STORE).search(Query(QUESTIONS[0], wanted), 100, stage).order
        assert {page.id for page in found} == everything & expected


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"folder": "a"}, "choose from doc_id, stem"),
        ({"page": [1, 2, 3]}, "two ends"),
        ({"page": [3, 2]}, "1 <= from <= to"),
        ({"page": 0}, "1 <= from <= to"),
        ({"page": "three"}, "numbers from 1"),
        ({"date": "yesterday"}, "2024-03-31"),
        ({"date": ["2024-05-01", "2024-04-01"]}, "from <= to"),
    ],
)
def test_a_wrong_filter_is_refused_with_the_right_one(wanted: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        searcher_of(STORE).search(Query("rent", wanted), 3)


# Rerankers


class Fixed:
    """Scores by page id, as they were given; pages without one get not-a-number."""

    def __init__(
        self, name: str, scores: Mapping[str, float], needs: frozenset[str] = frozenset({"stages"})
    ) -> None:
        self.name, self.scores, self.needs = name, scores, needs
        self.seen: list[str] = []

    def score(self, query: Query | str, candidates: Sequence[Candidate]) -> list[float]:
        self.seen = [candidate.page.page_id for candidate in candidates]
        return [self.scores.get(page_id, math.nan) for page_id in self.seen]


@pytest.fixture
def first() -> Iterator[list[str]]:
    """Page ids in the order of the first stage."""
    yield page_ids(searcher_of(STORE).search(Query(QUESTIONS[0]), 20).order)


def page_ids(order: Sequence[Ranked]) -> list[str]:
    return [f"{PAGES[page.id].payload['doc_id']}#{PAGES[page.id].payload['number']}" for page in order]


def test_what_a_later_stage_did_not_see_stays_below_as_it_was(first: list[str]) -> None:
    backwards = Fixed("one", {page: float(rank) for rank, page in enumerate(first)})
    found = searcher_of(STORE).search(Query(QUESTIONS[0]), 20, steps=[Step(backwards, 6)])
    assert backwards.seen == first[:6]
    assert page_ids(found.order) == first[:6][::-1] + first[6:]
    assert [page.stage for page in found.order] == ["rerank"] * 6 + ["fused"] * 14
    assert [page.score for page in found.order[:6]] == [5, 4, 3, 2, 1, 0]
    assert [page.stages["rerank"].rank for page in found.order[:6]] == [1, 2, 3, 4, 5, 6]


def test_a_cascade_names_each_stage(first: list[str]) -> None:
    backwards = Fixed("one", {page: float(rank) for rank, page in enumerate(first)})
    last = Fixed("two", {first[5]: 1.0, first[4]: 3.0, first[3]: 2.0})
    found = searcher_of(STORE).search(Query(QUESTIONS[0]), 20, steps=[Step(backwards, 6), Step(last, 3)])
    assert last.seen == first[5:2:-1]
    assert page_ids(found.order) == [first[4], first[3], first[5], *first[2::-1], *first[6:]]
    assert [page.stage for page in found.order[:7]] == ["rerank:two"] * 3 + ["rerank:one"] * 3 + ["fused"]
    assert {"rerank:one", "rerank:two"} <= found.timings.keys()


def test_a_later_stage_sees_only_what_the_one_before_it_saw(first: list[str]) -> None:
    one = Fixed("one", dict.fromkeys(first, 0.0))
    two = Fixed("two", dict.fromkeys(first, 0.0), frozenset({"text"}))
    searcher_of(STORE).search(Query(QUESTIONS[0]), 20, steps=[Step(one, 4), Step(two, 9)])
    assert len(two.seen) == 4


def test_not_a_number_keeps_a_page_below_and_is_said(first: list[str]) -> None:
    scores = {page: float(rank) for rank, page in enumerate(first)}
    del scores[first[5]]
    found = searcher_of(STORE).search(Query(QUESTIONS[0]), 20, steps=[Step(Fixed("one", scores), 6)])
    assert page_ids(found.order) == first[:5][::-1] + first[5:]
    (note,) = found.notes
    number = int(first[5].partition("#")[2])
    assert "one gave no number" in note and f"page {number + 1}" in note and ".pdf" in note


def test_a_reranker_that_ignores_the_stages_is_blended(first: list[str]) -> None:
    draw = random.Random(9)
    raw = {page: draw.uniform(-3, 3) for page in first}
    order = searcher_of(STORE).search(Query(QUESTIONS[0]), 20).order[:8]
    step = Step(Fixed("alone", raw, frozenset({"text"})), 8, weight=2.0)
    found = searcher_of(STORE).search(Query(QUESTIONS[0]), 20, steps=[step]).order
    fused = np.array([page.score for page in order])
    own = np.array([raw[page] for page in first[:8]])
    expected = (fused - fused.mean()) / fused.std() + 2 * (own - own.mean()) / own.std()
    assert page_ids(found[:8]) == [first[i] for i in np.argsort(-expected)]
    assert [page.score for page in found[:8]] == pytest.approx(sorted(expected, reverse=True))
    features = found[0].stages["rerank"].features
    assert features["alone"].value == raw[page_ids(found)[0]]
    assert math.fsum(each.share for each in features.values()) == pytest.approx(found[0].score)


@pytest.mark.parametrize("wrong", ["evidence@0", "@5", "text@many", "", ["text@-1"]])
def test_a_wrong_cascade_is_refused(wrong: str | list[str]) -> None:
    with pytest.raises(UsageError, match="evidence@50"):
        parse_cascade(wrong)
