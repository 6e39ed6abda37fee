"""Terms are Qdrant's own."""

from __future__ import annotations

from math import log

import pytest
from qdrant_edge import Bm25, Bm25Config

from pagelens.words import STEMMED, idf, language_of, terms, tokenizer

TEXTS = [
    "The tenants signed the lease agreements on 3 May 2021, for $12,500.75 a year.",
    "e-mail: m.lindqvist@example.org / U.S. Form 10-K; state-of-the-art; O'Neill's naïve café",
    "Die Mieter unterschrieben die Verträge; Grundstücke, Straßenlärm und Müllgebühren sind enthalten.",
    "ÅNGSTRÖM under_score  tab\there  ½ № 契約書",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("language", ["eng", "deu"])
def test_terms_of_a_question_are_those_of_an_equal_page(text: str, language: str) -> None:
    own = Bm25(Bm25Config(language=STEMMED[language]))
    assert terms(text, (language,)) == frozenset(own.embed_document(text).indices)


@pytest.mark.parametrize("text", TEXTS)
def test_words_one_by_one_have_the_terms_of_the_whole(text: str) -> None:
    """Evidence and features look at single words: what they see must be what the engine counts."""
    one_by_one = frozenset[int]().union(*(terms(word, ("eng",)) for word in text.split()))
    assert one_by_one == terms(text, ("eng",))


def test_every_language_has_a_stemmer_and_any_other_is_taken_as_written() -> None:
    for language in STEMMED:
        assert terms("harbour", (language,)), language
    assert terms("Hafenmeister", ("xho",)) and terms("the", ("xho",))
    assert terms("contracts", ("xho",)) != terms("contract", ("xho",))
    assert terms("contracts", ("xho", "eng")) > terms("contract", ("eng",))


def test_stop_words_and_signs_are_no_terms() -> None:
    assert terms("what is the of and", ("eng",)) == frozenset()
    assert terms("— … ()", ("eng",)) == frozenset()
    assert terms("", ("eng",)) == frozenset()


def test_language_is_that_of_the_stop_words() -> None:
    german = "Der Mieter hat die Heizung und die Fenster auf seine Kosten zu erhalten"
    english = "The tenant keeps the heating and the windows in repair at his own cost"
    assert language_of(german, ("eng", "deu")) == "deu"
    assert language_of(english, ("deu", "eng")) == "eng"
    assert language_of("4711 0815", ("deu", "eng")) == "deu"
    assert language_of(german, ("eng",)) == "eng"


@pytest.mark.parametrize(("frequency", "total"), [(0, 5), (1, 1), (3, 950), (950, 950)])
def test_idf_is_the_published_formula(frequency: int, total: int) -> None:
    assert idf(frequency, total) == pytest.approx(log(1 + (total - frequency + 0.5) / (frequency + 0.5)))
    assert idf(frequency, total) > 0


def test_one_tokenizer_a_language() -> None:
    assert tokenizer("eng") is tokenizer("eng")
