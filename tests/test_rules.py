"""Rules over an order, against brute force."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from exact_store import ExactStore

from pagelens.errors import UsageError
from pagelens.ranking import Ranked
from pagelens.records import Stage
from pagelens.rules import boost, diverse, on_named_pages, one_per_document
from pagelens.store.plan import Point, Schema, VectorSpec
from pagelens.store.points import FIELDS, point_id

SIZE = 6


def made(seed: int = 5, number: int = 24) -> tuple[ExactStore, list[Ranked]]:
    """An order of pages: the first two thirds were reranked, the rest only fused. One page has no words."""
    draw = random.Random(seed)
    store = ExactStore()
    store.declare(Schema((VectorSpec("text", "multi", SIZE),), FIELDS))
    order = []
    for place in range(number):
        doc_id, page = f"{place % 7:016x}", place // 7
        id = point_id("page", doc_id, page)
        language = "deu" if place % 3 == 0 else "eng"
        payload = {"kind": "page", "doc_id": doc_id, "number": page, "language": language}
        rows = np.array([[draw.gauss(0.3, 1) for _ in range(SIZE)] for _ in range(1 + place % 3)])
        store.upsert([Point(id, payload, {} if place == 4 else {"text": rows})])
        stage = "rerank" if place < 16 else "fused"
        score = 100.0 - 3 * place if stage == "fused" else 4 - 0.2 * place + draw.uniform(0, 0.1)
        order.append(Ranked(id, score, {"fused": Stage(1, 0.0), stage: Stage(place + 1, score)}))
    return store, order


STORE, ORDER = made()


def ids(order: Sequence[Ranked]) -> list[str]:
    return [page.id for page in order]


def payload(page: Ranked, key: str) -> object:
    return STORE.points[page.id].payload[key]


def sound(order: Sequence[Ranked]) -> bool:
    """Every hit shows the stage: its rank, and reasons that add up to its score."""
    return all(
        page.stage == "rules"
        and page.stages["rules"].rank == rank
        and page.score == page.stages["rules"].score
        and math.fsum(f.share for f in page.stages["rules"].features.values()) == pytest.approx(page.score)
        for rank, page in enumerate(order, start=1)
    )


def test_one_page_a_document_is_the_best_of_each() -> None:
    found = one_per_document(ORDER, STORE)
    best: dict[object, str] = {}
    for page in ORDER:
        best.setdefault(payload(page, "doc_id"), page.id)
    assert ids(found) == list(best.values())
    assert sound(found)
    others = {page.id: page.stages["rules"].features["document"].value for page in found}
    assert sum(others.values()) + len(found) == len(ORDER)


def test_a_boost_lifts_within_its_stage_only() -> None:
    found = boost("language", "deu", 100.0)(ORDER, STORE)
    expected = []
    for tier in (ORDER[:16], ORDER[16:]):
        expected += [page for page in tier if payload(page, "language") == "deu"]
        expected += [page for page in tier if payload(page, "language") == "eng"]
    assert ids(found) == ids(expected)
    assert sound(found)


def test_a_boost_is_in_standard_deviations() -> None:
    found = {page.id: page for page in boost("language", "deu", 0.5)(ORDER, STORE)}
    scores = np.array([page.score for page in ORDER[:16]])
    for page, z in zip(ORDER[:16], (scores - scores.mean()) / scores.std(), strict=True):
        gain = 0.5 if payload(page, "language") == "deu" else 0.0
        assert found[page.id].score == pytest.approx(z + gain)


def test_two_boosts_add_up() -> None:
    once = boost("language", "deu", 0.5)(ORDER, STORE)
    twice = boost("number", 1, 0.25)(once, STORE)
    assert sound(twice)
    before = {page.id: page.score for page in once}
    for page in twice:
        assert page.score == pytest.approx(before[page.id] + 0.25 * (payload(page, "number") == 1))
        assert list(page.stages["rules"].features)[1:] == ["language=deu", "number=1"]


def test_a_field_that_no_page_has_is_refused() -> None:
    with pytest.raises(UsageError, match="'colour'"):
        boost("colour", "red")(ORDER, STORE)


def test_a_named_page_comes_first_and_none_is_lost() -> None:
    found = on_named_pages([2])(ORDER, STORE)
    first = [page for page in found if page.stages["rules"].features["page named"].share]
    assert {payload(page, "number") for page in first} == {1}
    assert set(ids(found)) == set(ids(ORDER)) and sound(found)
    assert found[0] in first


@pytest.mark.parametrize("balance", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_diversity_is_brute_force_mmr(balance: float, seed: int) -> None:
    store, order = made(seed)

    def cosine(a: Ranked, b: Ranked) -> float:
        means = []
        for page in (a, b):
            if "text" not in store.points[page.id].vectors:
                return 0.0
            means.append(np.asarray(store.points[page.id].vectors["text"]).mean(0))
        return float(means[0] @ means[1] / np.linalg.norm(means[0]) / np.linalg.norm(means[1]))

    def marginal(page: Ranked, chosen: Sequence[Ranked], low: float, high: float) -> float:
        nearest = max([0.0, *(cosine(page, other) for other in chosen)])
        return balance * (page.score - low) / (high - low) - (1 - balance) * nearest

    expected: list[tuple[str, float]] = []
    for tier in (order[:16], order[16:]):
        ends = min(page.score for page in tier), max(page.score for page in tier)
        chosen: list[Ranked] = []
        while len(chosen) < len(tier):
            values = {page.id: marginal(page, chosen, *ends) for page in tier if page not in chosen}
            best = min(id for id, value in values.items() if value > max(values.values()) - 1e-12)
            expected.append((best, values[best]))
            chosen.append(next(page for page in tier if page.id == best))
    found = diverse(balance)(order, store)
    assert ids(found) == [id for id, _ in expected]
    assert [page.score for page in found] == pytest.approx([value for _, value in expected], abs=1e-6)
    assert sound(found)
    if balance == 1.0:
        assert ids(found) == ids(order)


def test_diversity_after_a_boost_keeps_its_reasons() -> None:
    found = diverse(0.7)(boost("language", "deu", 0.5)(ORDER, STORE), STORE)
    assert sound(found)
    assert list(found[0].stages["rules"].features) == ["rerank", "language=deu", "diversity"]


@pytest.mark.parametrize("balance", [-0.1, 1.5])
def test_a_balance_beyond_its_ends_is_refused(balance: float) -> None:
    with pytest.raises(UsageError, match=r"0\.\.1"):
        diverse(balance)


@pytest.mark.parametrize("rule", [one_per_document, boost("language", "deu"), on_named_pages([1]), diverse()])
def test_rules_take_an_empty_order_and_one_page(rule: object) -> None:
    assert callable(rule)
    assert rule([], STORE) == []
    (page,) = rule(ORDER[:1], STORE)
    assert page.id == ORDER[0].id and page.stages["rules"].rank == 1
