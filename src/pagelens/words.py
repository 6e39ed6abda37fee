"""Text to terms, exactly as BM25 sees them.

Qdrant's own BM25 tokenizer (the server's Rust code, inside `qdrant-edge-py`) decides what a term is: lower
case, split at punctuation, stop words dropped, stemmed, hashed to a dimension of the sparse vector.
Whatever else speaks of matching words (evidence, snippets, features) asks the same tokenizer, so that a
word is marked if and only if the engine counts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from math import log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qdrant_edge import Bm25

# ISO 639-2 codes, as tesseract and `--lang` use them, to the languages Qdrant has stop words and a stemmer
# for. Any other language works too: its words count as they are written.
STEMMED = {
    "ara": "arabic",
    "cat": "catalan",
    "dan": "danish",
    "deu": "german",
    "ell": "greek",
    "eng": "english",
    "eus": "basque",
    "fin": "finnish",
    "fra": "french",
    "hun": "hungarian",
    "ind": "indonesian",
    "ita": "italian",
    "nld": "dutch",
    "nor": "norwegian",
    "por": "portuguese",
    "ron": "romanian",
    "rus": "russian",
    "spa": "spanish",
    "swe": "swedish",
    "tur": "turkish",
}


@cache
def tokenizer(language: str, k: float = 1.2, b: float = 0.75, average_length: float = 256.0) -> Bm25:
    """Qdrant's BM25 for one language.

    Args:
        language: ISO 639-2 code, such as `"eng"`.
        k: Saturation of a term's frequency.
        b: How much a long text is held against it, 0..1.
        average_length: Terms in an average text; fixed, because Qdrant never recomputes stored weights.
    """
    from qdrant_edge import Bm25, Bm25Config, DisabledStemmer, StopwordsSet, TokenizerType

    if language in STEMMED:
        return Bm25(Bm25Config(k=k, b=b, avg_len=average_length, language=STEMMED[language]))
    config = Bm25Config(
        k=k,
        b=b,
        avg_len=average_length,
        tokenizer=TokenizerType.Multilingual,
        stopwords=StopwordsSet(),
        stemmer=DisabledStemmer(),
    )
    return Bm25(config)


@lru_cache(maxsize=100_000)
def terms(text: str, languages: tuple[str, ...]) -> frozenset[int]:
    """The terms of a word or a question, in every one of `languages`; empty for stop words.

    >>> terms("Contracts", ("eng",)) == terms("contract", ("eng",))
    True
    >>> terms("the", ("eng",))
    frozenset()
    """
    return frozenset(term for each in languages for term in tokenizer(each).embed_query(text).indices)


def language_of(text: str, languages: Sequence[str]) -> str:
    """Which of `languages` a text is written in: the one whose stop words occur most in it.

    Ties, and a text without any stop word, go to the first. The first 400 words decide.

    >>> language_of("Die Miete ist am Ersten fällig und wird überwiesen", ["eng", "deu"])
    'deu'
    """
    if len(languages) == 1:
        return languages[0]
    words = [word for word in text.split()[:400] if word.isalpha()]

    def stop_words(language: str) -> int:
        return sum(not terms(word.lower(), (language,)) for word in words)

    return max(languages, key=stop_words)


def idf(frequency: int, total: int) -> float:
    """Inverse document frequency as Qdrant has it: ln(1 + (N - n + .5) / (n + .5)).

    Args:
        frequency: n, how many texts hold the term.
        total: N, how many texts there are.
    """
    return log(1 + (total - frequency + 0.5) / (frequency + 0.5))
