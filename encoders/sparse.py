"""BM25 as sparse vectors: the store multiplies in the inverse document frequencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pagelens.records import SparseVector
from pagelens.words import language_of, terms, tokenizer


@dataclass(frozen=True, slots=True)
class Bm25Encoder:
    """Weights of terms in texts of one kind, pages or whole documents."""

    languages: tuple[str, ...]
    """ISO 639-2 codes of what the texts may be written in; the first is the fallback."""
    k: float = 1.2
    """Saturation of a term's frequency (Robertson & Zaragoza 2009, section 3.1)."""
    b: float = 0.75
    """How much a long text is held against it."""
    average_length: float = 256.0
    """Terms in an average text."""

    @property
    def signature(self) -> str:
        """What changes when a stored vector would."""
        return f"bm25 k={self.k} b={self.b} length={self.average_length} {'+'.join(self.languages)}"

    def encode(self, text: str) -> SparseVector | None:
        """The vector of a text in the language it is written in; None when it has no term."""
        model = tokenizer(language_of(text, self.languages), self.k, self.b, self.average_length)
        return _vector(*_parts(model.embed_document(text)))

    def encode_pages(self, texts: Sequence[str]) -> list[SparseVector | None]:
        """A vector a page; None for a page without a term."""
        return [self.encode(text) for text in texts]

    def encode_query(self, text: str) -> SparseVector | None:
        """Each term of the question once, in every language; None for a question of stop words."""
        found = sorted(terms(text, self.languages))
        return _vector(found, [1.0] * len(found))


def _parts(vector: object) -> tuple[Sequence[int], Sequence[float]]:
    return vector.indices, vector.values  # type: ignore[attr-defined]


def _vector(indices: Sequence[int], values: Sequence[float]) -> SparseVector | None:
    if not indices:
        return None
    return SparseVector(np.asarray(indices, np.uint32), np.asarray(values, np.float32))
