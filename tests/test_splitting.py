"""Two rerankers within a budget: against searches that would have been made, and with the answer planted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from test_evaluation import QUESTIONS, Loud, anything, order_of

from pagelens import Library
from pagelens.evaluation.asking import ask, known_pages
from pagelens.evaluation.second_stage import rerankings, splittable
from pagelens.evaluation.splitting import Split, split, split_sweep
from pagelens.evaluation.sweeping import Seen
from pagelens.searching import Step

PAGES = 40


def test_a_split_is_the_search_that_would_have_been_made(small_library: Library) -> None:
    pages = known_pages(small_library, "{doc_id}#{number}")
    evidence = small_library.reranker()
    asked = ask(small_library, anything(pages), pages, [Step(evidence, 6), Step(Loud(), 6, 0.7)])
    first, second = rerankings(asked)
    assert splittable(first, second) and not splittable(second, first)
    for many, few in ((6, 6), (6, 2), (4, 3), (3, 3), (2, 1), (4, 0), (0, 3), (0, 0)):
        steps = [Step(evidence, many)] * (many > 0) + [Step(Loud(), few, 0.7)] * (few > 0)
        for question, before, after in zip(QUESTIONS, first.seen, second.seen, strict=True):
            found = split(before, after, (many, few))
            assert found is not None
            expected = order_of(small_library, question, rerank=steps, stage="rerank")
            assert [pages[id].page_id for id in found.order()] == expected, (many, few)


def test_a_split_that_needs_scores_nobody_has_is_none(small_library: Library) -> None:
    pages = known_pages(small_library, "{doc_id}#{number}")
    asked = ask(small_library, anything(pages), pages, [Step(small_library.reranker(), 6), Step(Loud(), 2)])
    first, second = (each.seen[0] for each in rerankings(asked))
    assert split(first, second, (6, 2)) is not None
    assert split(first, second, (6, 3)) is None


# planted


def made(first_noise: float, second_noise: float, questions: int = 90) -> tuple[list[Seen], list[Seen]]:
    """One right page somewhere among 40 as good; each reranker scores it 1 and the others 0, with noise."""
    draw = np.random.default_rng(0)
    first, second = [], []
    for _ in range(questions):
        ids = [f"{draw.random():.12f}" for _ in range(PAGES)]
        place = int(draw.integers(PAGES))
        ids[place] = "right"
        before = -np.arange(PAGES) / PAGES
        truth = np.eye(PAGES)[place]
        scores = [truth + noise * draw.normal(size=PAGES) for noise in (first_noise, second_noise)]
        first.append(Seen(ids, before, np.column_stack([before, scores[0]]), np.array([0.2, 3.0]), True))
        second.append(Seen(ids, before, np.column_stack([before, scores[1]]), np.array([0.5, 3.0]), True))
    return first, second


def swept(first_noise: float, second_noise: float, documents: int = 30) -> list[Split]:
    """The sweep of rerankers that cost 0.2 and 50 ms a page; an order is worth 1 / rank of the right page."""

    def quality(orders: Sequence[Sequence[str]]) -> np.ndarray:
        return np.array([1 / (1 + order.index("right")) for order in orders])

    first, second = made(first_noise, second_noise)
    return split_sweep(first, second, quality, np.arange(len(first)) % documents, (0.2, 50.0), [700.0])


def recommended(rows: Sequence[Split], budget: float) -> tuple[int, int]:
    return next(row.recommended for row in rows if row.budget == budget)


def test_the_small_one_on_many_and_the_large_one_on_few() -> None:
    rows = swept(0.5, 0.05)
    assert [row.budget for row in rows] == [1, 2, 5, 10, 20, 50, 100, 200, 500, 700, 1000, 2000, 5000]
    assert recommended(rows, 10.0) == recommended(rows, 20.0) == (PAGES, 0)
    assert recommended(rows, 500.0) == (PAGES, 5)
    assert recommended(rows, 700.0) in {(PAGES, 5), (PAGES, 10)}
    for row in rows:
        assert row.milliseconds == pytest.approx(np.dot(row.best, (0.2, 50.0)))
        assert row.milliseconds <= row.budget
    qualities = [row.quality.mean for row in rows]
    assert qualities == sorted(qualities)  # more time never has a worse best


@pytest.mark.parametrize(
    ("noises", "small", "large"),
    [((0.5, 50.0), True, False), ((50.0, 0.05), False, True), ((50.0, 50.0), False, False)],
    ids=["the large one guesses", "the small one guesses", "both guess"],
)
def test_what_guesses_is_left_out(noises: tuple[float, float], small: bool, large: bool) -> None:
    many, few = swept(*noises)[-1].recommended
    assert (many > 0, few > 0) == (small, large)


def test_one_document_recommends_nothing() -> None:
    assert {row.recommended for row in swept(0.5, 0.05, documents=1)} == {(0, 0)}
