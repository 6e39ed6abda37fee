"""Evidence: its words stand where its boxes say, and the passage is the best there is."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from pagelens import Library
from pagelens.evidence import PER_LINE, SPAN, evidence, passages
from pagelens.records import Box, PageText, Word
from pagelens.words import terms

ENGLISH = ("eng",)


def page(*lines: str, gap: float = 14.0) -> PageText:
    """Lines of words, ten points high, six points a letter."""
    words = []
    for number, line in enumerate(lines):
        left = 50.0
        for text in line.split():
            right = left + 6 * len(text)
            words.append(Word(text, Box(left, gap * number, right, gap * number + 10), number))
            left = right + 6
    return PageText(tuple(words), "layer")


def weights(**worth: float) -> dict[int, float]:
    """What words are worth, by their terms."""
    return {term: weight for word, weight in worth.items() for term in terms(word, ENGLISH)}


LEASE = page(
    "Lease agreement",
    "The landlord lets the shop in Quay Street",
    "to the tenant for a rent of 1,250 a month.",
    "Signed by Martha Lindqvist,",
    "landlord, on 3 May 2021.",
)


def test_words_of_a_passage_are_the_question_s_and_stand_in_its_box() -> None:
    found = passages(LEASE, weights(rent=2.0, tenant=1.0, month=1.0), ENGLISH)
    assert [each.text for each in found] == ["to the tenant for a rent of 1,250 a month."]
    (passage,) = found
    assert [word.text for word in passage.words] == ["tenant", "rent", "month."]
    assert passage.box == Box.around(word.box for word in LEASE.lines[2])


def test_a_label_and_its_value_in_the_next_line_are_one_passage() -> None:
    (first, *_) = passages(LEASE, weights(signed=3.0, landlord=2.0), ENGLISH)
    assert first.text == "Signed by Martha Lindqvist, landlord, on 3 May 2021."
    assert {word.text for word in first.words} == {"Signed", "landlord,"}


def test_a_label_brings_what_stands_beneath_it() -> None:
    form = page("Nature of work:", "Advise if Yucatan honey", "is acceptable.", "Comments:", "None.")
    (passage,) = passages(form, weights(nature=1.0, work=1.0), ENGLISH)
    assert passage.text == "Nature of work: Advise if Yucatan honey is acceptable."
    assert [word.text for word in passage.words] == ["Nature", "work:"]
    assert passage.box == Box.around(word.box for line in form.lines[:3] for word in line)
    (sentence,) = passages(form, weights(honey=1.0), ENGLISH)
    assert sentence.text == "Advise if Yucatan honey"
    far = page("Nature of work:", "Advise", gap=200.0)
    assert [each.text for each in passages(far, weights(nature=1.0, work=1.0), ENGLISH)] == [
        "Nature of work:"
    ]


def test_lines_that_follow_each_other_are_one_passage() -> None:
    """Each for itself gains more than a longer passage would, because the second says nothing new."""
    text = page("the tenant pays", "whatever the tenant owes", "in May", "or the tenant leaves")
    found = passages(text, weights(tenant=1.0), ENGLISH)
    assert [each.text for each in found] == [
        "the tenant pays whatever the tenant owes",
        "or the tenant leaves",
    ]
    assert [word.text for word in found[0].words] == ["tenant", "tenant"]
    apart = page("the tenant pays", "whatever the tenant owes", gap=200.0)
    assert len(passages(apart, weights(tenant=1.0), ENGLISH)) == 2


def test_lines_far_apart_are_no_passage() -> None:
    columns = page("tenant", "rent", gap=200.0)
    assert [each.text for each in passages(columns, weights(tenant=1.0, rent=1.0), ENGLISH)] == [
        "tenant",
        "rent",
    ]


def test_without_a_word_of_the_question_there_is_none() -> None:
    assert passages(LEASE, weights(glucose=1.0), ENGLISH) == ()
    assert passages(LEASE, {}, ENGLISH) == ()
    assert passages(PageText((), "layer"), weights(rent=1.0), ENGLISH) == ()


@pytest.mark.parametrize("seed", range(20))
def test_the_first_passage_is_the_best_of_all(seed: int) -> None:
    draw = random.Random(seed)
    vocabulary = ["rent", "tenant", "month", "signature", "window", "heating", "and", "the"]
    text = page(*(" ".join(draw.choices(vocabulary, k=draw.randint(1, 4))) for _ in range(12)))
    asked = {word: draw.uniform(0.2, 3) for word in draw.sample(vocabulary[:6], 3)}
    worth = weights(**asked)

    def value(start: int, end: int) -> float:
        held = {t for line in text.lines[start:end] for word in line for t in terms(word.text, ENGLISH)}
        return sum(worth[t] for t in held & worth.keys()) / sum(worth.values()) - PER_LINE * (end - start - 1)

    spans = [(a, b) for a in range(12) for b in range(a + 1, min(a + SPAN, 12) + 1)]
    found = passages(text, worth, ENGLISH)
    best = max(value(*span) for span in spans)
    if best <= 0:
        assert found == ()
        return
    bests = [
        " ".join(word.text for line in text.lines[a:b] for word in line)
        for a, b in spans
        if value(a, b) > best - 1e-9
    ]
    assert any(each in found[0].text for each in bests)
    boxes = [each.box for each in found]
    assert all(one.bottom <= other.top or other.bottom <= one.top for one, other in pairwise(sorted(boxes)))


def test_what_a_reranker_read_comes_first_and_its_words_are_marked() -> None:
    read = range(2, 9)
    first, *rest = evidence(LEASE, weights(signed=3.0, landlord=2.0), ENGLISH, read)
    assert first.text == "The landlord lets the shop in Quay"
    assert [word.text for word in first.words] == ["landlord"]
    assert first.box == Box.around(word.box for word in LEASE.words[2:9])
    assert [each.text for each in rest] == ["Signed by Martha Lindqvist, landlord, on 3 May 2021."]
    assert evidence(LEASE, {}, ENGLISH, range(500, 600)) == ()


QUESTIONS = [
    "who signed the lease?",
    "revenue of the northern region",
    "what colour is the corridor painted?",
]


@pytest.mark.parametrize("question", QUESTIONS)
def test_in_a_search_the_marked_words_are_on_the_page_where_the_boxes_are(
    small_library: Library, question: str
) -> None:
    hits = small_library.search(question, k=3)
    assert hits[0].evidence
    for hit in hits:
        stored = small_library.words(hit.page_id).words
        for each in hit.evidence:
            box = each.box
            assert (
                0 <= box.left < box.right <= hit.record.width
                and 0 <= box.top < box.bottom <= hit.record.height
            )
            assert each.words
            for word in each.words:
                assert word in stored and terms(word.text, ENGLISH) & terms(question, ENGLISH)
                assert box.left <= word.box.left and word.box.right <= box.right
                assert box.top <= word.box.top and word.box.bottom <= box.bottom
            assert {word.text for word in each.words} <= set(each.text.split())


def test_pages_without_a_word_of_the_question_say_so(small_library: Library) -> None:
    hits = small_library.search("zeppelin mooring mast", k=2)
    assert hits and not any(hit.evidence for hit in hits)
    assert hits.notes
