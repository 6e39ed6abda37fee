"""The evidence reranker: how much of the question stands on the page, how close together, and where.

A linear model over a few features that a person can check, each standardised within the candidates. It reads
no model and no image. Its coefficients were fitted to judged questions (`pagelens fit`); their card says to
which, and where they are bad.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from pagelens.errors import UsageError
from pagelens.records import Candidate, Feature, Opinion, Query
from pagelens.scores import standardised
from pagelens.things import named
from pagelens.words import idf as idf_of
from pagelens.words import terms

FEATURES = {
    "page": "BM25 of the page",
    "dense": "nearness of its nearest window",
    "document": "BM25 of its document",
    "name": "share of the question's idf in the file's name",
    "heading": "share of the question's idf in the first 20 words",
    "coverage": "share of the question's idf on the page",
    "numbers": "share of the question's numbers on the page",
    "proximity": "share of the question's idf within 25 words",
    "order": "share of the question's pairs of neighbouring words that stand in that order",
    "named": "whether it has a region that the question names, such as a chart or a signature",
    "length": "logarithm of the number of words",
    "digits": "share of digits among the characters",
}
"""What is measured on a page. Idf: inverse document frequency; a share of it counts rare words for more.

Tried and left out, because nothing is lost without them (docs/second_stage.md): BM25 of the best 100 words,
and whether the question's two rarest words are there.
"""

HEADING = 20
NEAR = 25
"""Words."""
REMEMBERED = 100_000
"""Words, of all pages read so far."""
FEWEST_WORDS, FEWEST_LETTERS = 20, 100
"""A page with fewer counts as one with as many: a lone page number is neither short nor full of figures."""

_DIGIT = re.compile(r"\d")

Idf = Callable[[frozenset[int]], Mapping[int, float]]
"""Terms -> inverse document frequency, without those that no page holds."""


@dataclass(frozen=True, slots=True)
class Coefficients:
    """What each feature is worth, and how that is known."""

    weights: Mapping[str, float]
    """By feature, per standard deviation of the candidates; a feature left out counts nothing."""
    card: Mapping[str, Any]
    """Data and its terms, training questions, figures, limits."""
    blend: Mapping[str, float] = field(default_factory=dict)
    """By the name of a reranker that comes after: the weight of its score, as `searching.Step` has it."""

    @property
    def fitted_to(self) -> frozenset[str]:
        """Digests of the questions they were fitted to; figures on these say little."""
        return frozenset(self.card.get("questions", ()))

    def save(self, path: Path) -> None:
        """Write the file that `load` reads."""
        record = {"schema": 1, "weights": self.weights, "blend": self.blend, "card": self.card}
        path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path | None = None) -> Coefficients:
        """From a file that `pagelens fit` wrote; by default the one that comes with pagelens.

        Raises:
            UsageError: it is no such file.
        """
        path = path or Path(__file__).with_name("evidence.json")
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
            weights = {str(name): float(weight) for name, weight in record["weights"].items()}
            blend = {str(name): float(weight) for name, weight in record["blend"].items()}
            card = dict(record["card"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{path} holds no coefficients ({error}); `pagelens fit` writes some") from error
        if unknown := weights.keys() - FEATURES.keys():
            raise UsageError(
                f"{path}: there is no feature {sorted(unknown)[0]!r}; `pagelens fit` makes a new file"
            )
        return cls(weights, card, blend)


class EvidenceReranker:
    """Scores are sums of each feature's share; 0 is the average candidate, and an only candidate.

    Args:
        languages: As the index was made with.
        coefficients: Default: those that come with pagelens.
        idf: Of the collection's pages; None: of the candidates, which knows less.
    """

    name = "evidence"
    needs = frozenset({"text", "stages", "list"})

    def __init__(
        self, languages: tuple[str, ...], coefficients: Coefficients | None = None, idf: Idf | None = None
    ) -> None:
        self._languages = languages
        self._coefficients = coefficients or Coefficients.load()
        self._idf = idf

    @property
    def coefficients(self) -> Coefficients:
        """What it weighs the features with."""
        return self._coefficients

    @property
    def signature(self) -> str:
        """All that shapes a score, but for the collection and the other candidates."""
        weights = json.dumps(dict(self._coefficients.weights), sort_keys=True)
        digest = hashlib.sha256(weights.encode()).hexdigest()[:12]
        return f"evidence {digest} {'+'.join(self._languages)}"

    def with_coefficients(self, coefficients: Coefficients) -> EvidenceReranker:
        """The same on the same collection, with other coefficients."""
        return EvidenceReranker(self._languages, coefficients, self._idf)

    def score(self, query: Query | str, candidates: Sequence[Candidate]) -> list[float]:
        """One score a candidate; higher is better."""
        return [opinion.score for opinion in self.opinions(query, candidates)]

    def opinions(self, query: Query | str, candidates: Sequence[Candidate]) -> list[Opinion]:
        """One opinion a candidate: the score, and of each feature its value and its share."""
        measured = self.measure(query, candidates)
        columns = {
            name: standardised([values[name] for values in measured]) for name in self._coefficients.weights
        }
        opinions = []
        for row, values in enumerate(measured):
            features = {
                name: Feature(values[name], weight * columns[name][row])
                for name, weight in self._coefficients.weights.items()
            }
            opinions.append(Opinion(math.fsum(each.share for each in features.values()), features))
        return opinions

    def measure(self, query: Query | str, candidates: Sequence[Candidate]) -> list[dict[str, float]]:
        """The features of each candidate, as they are: not standardised.

        Raises:
            UsageError: a candidate is plain text or an image; this member needs the stages before it.
        """
        for candidate in candidates:
            if not isinstance(candidate, Candidate):
                raise UsageError(
                    f"the evidence reranker needs candidates of a search, not {type(candidate).__name__}; "
                    "the text cross-encoder takes plain texts"
                )
        question = _Question(query if isinstance(query, str) else query.text, self._languages)
        texts = [candidate.text.split() for candidate in candidates]
        holding = _vocabulary(self._languages).holding(question.terms, texts)
        pages = [_Page(each, words, holding) for each, words in zip(candidates, texts, strict=True)]
        shares = _Shares(self._idf(question.terms) if self._idf else _idf_among(pages), question)
        lowest = min((c.stages["text"].score for c in candidates if "text" in c.stages), default=0.0)
        return [page.measure(question, shares, lowest) for page in pages]


class _Question:
    """Its words in order, each as terms; stop words are none."""

    def __init__(self, text: str, languages: tuple[str, ...]) -> None:
        self.languages = languages
        words = [(word, terms(word, languages)) for word in text.split()]
        content = [found for _, found in words if found]
        self.terms = frozenset[int]().union(*content)
        self.things = named(text)
        self.pairs = [(a, b) for a, b in zip(content, content[1:], strict=False)]
        self.numbers = frozenset[int]().union(
            *(found for word, found in words if any(letter.isdigit() for letter in word))
        )


class _Vocabulary:
    """Words by the terms in them, so that a word is looked at once and not once a question."""

    def __init__(self, languages: tuple[str, ...]) -> None:
        self._languages = languages
        self._seen = set[str]()
        self._holders = defaultdict[int, list[str]](list)

    def holding(self, asked: frozenset[int], texts: Sequence[Sequence[str]]) -> dict[str, frozenset[int]]:
        """Every word of the texts that holds a term asked for, and which; other words may be among them."""
        if len(self._seen) > REMEMBERED:
            self._seen.clear()
            self._holders.clear()
        for words in texts:
            for word in set(words) - self._seen:
                for term in terms(word, self._languages):
                    self._holders[term].append(word)
            self._seen.update(words)
        found: dict[str, frozenset[int]] = {}
        for term in asked & self._holders.keys():
            for word in self._holders[term]:
                found[word] = found.get(word, frozenset()) | {term}
        return found


@cache
def _vocabulary(languages: tuple[str, ...]) -> _Vocabulary:
    return _Vocabulary(languages)


class _Shares(dict[frozenset[int], float]):
    """Terms -> their share of the question's idf; the same few are asked for on every page."""

    def __init__(self, idf: Mapping[int, float], question: _Question) -> None:
        super().__init__()
        self._idf = idf
        self._total = math.fsum(idf.get(term, 0.0) for term in question.terms) or 1.0

    def __missing__(self, found: frozenset[int]) -> float:
        share = self[found] = math.fsum(self._idf.get(term, 0.0) for term in found) / self._total
        return share


class _Page:
    """Where the question's terms stand on one page."""

    def __init__(
        self, candidate: Candidate, words: Sequence[str], holding: Mapping[str, frozenset[int]]
    ) -> None:
        self.candidate = candidate
        self.hits = [(place, holding[word]) for place, word in enumerate(words) if word in holding]
        self.length = len(words)
        self.terms = frozenset[int]().union(*(found for _, found in self.hits))

    def measure(self, question: _Question, shares: _Shares, lowest: float) -> dict[str, float]:
        """Every feature; `lowest` stands for the nearness of a page without words."""
        stages = self.candidate.stages
        name = re.sub(r"[\W_]+", " ", PurePath(self.candidate.path).stem)
        heading = frozenset[int]().union(*(found for place, found in self.hits if place < HEADING))
        text = self.candidate.text
        return {
            "page": stages["bm25"].score if "bm25" in stages else 0.0,
            "dense": stages["text"].score if "text" in stages else lowest,
            "document": stages["document"].score if "document" in stages else 0.0,
            "name": shares[terms(name, question.languages) & question.terms],
            "heading": shares[heading],
            "coverage": shares[self.terms],
            "numbers": len(question.numbers & self.terms) / max(1, len(question.numbers)),
            "proximity": max((shares[found] for found in self._near()), default=0.0),
            "order": self._ordered(question.pairs) / max(1, len(question.pairs)),
            "named": float(any(each.kind in question.things for each in self.candidate.regions)),
            "length": math.log(max(FEWEST_WORDS, self.length)),
            "digits": len(_DIGIT.findall(text)) / max(FEWEST_LETTERS, len(text)),
        }

    def _near(self) -> Iterator[frozenset[int]]:
        """The terms of every stretch of 25 words that starts with one of them; none within another."""
        end = 0
        for first, (start, _) in enumerate(self.hits):
            before = end
            while end < len(self.hits) and self.hits[end][0] < start + NEAR:
                end += 1
            if end > before:
                yield frozenset[int]().union(*(found for _, found in self.hits[first:end]))

    def _ordered(self, pairs: Sequence[tuple[frozenset[int], frozenset[int]]]) -> int:
        """How many of a question's pairs stand on the page with at most one word between them."""
        places = defaultdict[int, set[int]](set)
        for place, found in self.hits:
            for term in found:
                places[term].add(place)

        def where(word: frozenset[int]) -> set[int]:
            return set[int]().union(*(places[term] for term in word if term in places))

        return sum(
            not where(b).isdisjoint(place + step for place in where(a) for step in (1, 2))
            for a, b in pairs
            if not (a.isdisjoint(self.terms) or b.isdisjoint(self.terms))
        )


def _idf_among(pages: Sequence[_Page]) -> dict[int, float]:
    counts = Counter(term for page in pages for term in page.terms)
    return {term: idf_of(count, len(pages)) for term, count in counts.items()}
