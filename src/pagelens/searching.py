"""The search path, top to bottom: encode, candidates, exact scores, fusion.

Every list is asked by itself, so that a hit knows what each stage thought of it; fusion is ours.
"""

from __future__ import annotations

import datetime
import fnmatch
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from pagelens.errors import UsageError
from pagelens.records import Query, SparseVector, Stage
from pagelens.store.plan import ListQuery, Point, Range, Store, Value, Vector, Where
from pagelens.store.points import files_of, point_id

CANDIDATES = 100
"""Of each list: recall@100 of the fused list was measured at .93 on `mmdocir-dev`, and at .94 with more."""
FUSION = {"bm25": 1.0, "text": 1.0, "document": 0.5}
"""Weights of the standardised scores; see docs/decisions/fusion.md."""
STAGES = ("bm25", "text", "document", "fused")


class SparseQueryEncoder(Protocol):
    """A question to its terms."""

    def encode_query(self, text: str) -> SparseVector | None: ...


class TextQueryEncoder(Protocol):
    """A question to a matrix of one row."""

    def encode_query(self, text: str) -> np.ndarray: ...


@dataclass(frozen=True, slots=True)
class Candidate:
    """One page on its way through the stages."""

    id: str
    """Of its point."""
    score: float
    """Of the last stage that saw it."""
    stages: Mapping[str, Stage]


@dataclass(slots=True)
class Candidates:
    """What a search found, best first."""

    found: list[Candidate]
    timings: dict[str, float] = field(default_factory=dict)
    """Milliseconds by step."""
    terms: frozenset[int] = frozenset()
    """Of the question."""


class Searcher:
    """The first stage.

    Args:
        store: What is searched.
        sparse: Encodes the question for `bm25` and `document`.
        text: Gives the encoder for `text`, loaded when it is first needed; None where the library has none.
    """

    def __init__(
        self,
        store: Store,
        sparse: SparseQueryEncoder,
        text: Callable[[], TextQueryEncoder] | None,
    ) -> None:
        self._store, self._sparse, self._text = store, sparse, text

    def search(self, query: Query, k: int, stage: str = "fused") -> Candidates:
        """The best `k` pages.

        Args:
            query: The question and the pages that count.
            k: How many, at least 1.
            stage: Order by this stage alone, asking only what it needs.

        Raises:
            UsageError: an empty question, an unknown filter or stage.
        """
        if not query.text.strip():
            raise UsageError("the question is empty; say what the page should be about")
        if stage not in STAGES or (stage == "text" and self._text is None):
            raise UsageError(f"there is no stage {stage!r} here; choose one of {', '.join(STAGES)}")
        clock = _Clock()
        where = self._where(query.filter)
        vectors: dict[str, Vector] = {}
        terms = self._sparse.encode_query(query.text)
        if terms is not None:
            vectors["bm25"] = terms
        if self._text is not None and stage in ("text", "fused"):
            vectors["text"] = self._text().encode_query(query.text)
        clock.lap("encode")
        wanted = [
            name for name in vectors if stage in (name, "fused") or (stage == "document" and name == "bm25")
        ]
        lists = self._lists(vectors, wanted, where, max(k, CANDIDATES))
        clock.lap("candidates")
        if stage in ("document", "fused") and terms is not None:
            self._complete(lists, vectors, where, terms)
        clock.lap("scores")
        found = rank(lists, FUSION, stage)[:k]
        clock.lap("fusion")
        return Candidates(found, clock.laps, frozenset(map(int, terms.indices)) if terms else frozenset())

    def _lists(
        self, vectors: Mapping[str, Vector], wanted: Sequence[str], where: Where, limit: int
    ) -> dict[str, dict[str, float]]:
        """Every list by point id; asked as one batch."""
        answers = self._store.query([ListQuery(name, vectors[name], limit, where) for name in wanted])
        return {name: {hit.id: hit.score for hit in hits} for name, hits in zip(wanted, answers, strict=True)}

    def _complete(
        self,
        lists: dict[str, dict[str, float]],
        vectors: Mapping[str, Vector],
        where: Where,
        terms: SparseVector,
    ) -> None:
        """Exact scores of pages that only another list returned, and those of the pages' documents."""
        union = sorted({id for scores in lists.values() for id in scores})
        if not union:
            return
        owner = {p.id: p.payload["doc_id"] for p in self._store.retrieve(union, payload=["doc_id"])}
        queries, names = [], []
        for name, scores in lists.items():
            if missing := frozenset(union).difference(scores):
                queries.append(ListQuery(name, vectors[name], len(missing), Where(ids=missing)))
                names.append(name)
        documents = {point_id("document", doc_id): doc_id for doc_id in set(owner.values())}
        queries.append(ListQuery("document_bm25", terms, len(documents), Where(ids=frozenset(documents))))
        *more, scored = self._store.query(queries)
        for name, hits in zip(names, more, strict=True):
            lists[name].update({hit.id: hit.score for hit in hits})
        by_document = {documents[hit.id]: hit.score for hit in scored}
        lists["document"] = {id: by_document[doc] for id, doc in owner.items() if doc in by_document}

    def _where(self, wanted: Mapping[str, Any]) -> Where:
        """The filter of a question, in the words of the store."""
        match: dict[str, Value | tuple[Value, ...] | Range] = {"kind": "page"}
        documents: set[str] | None = None
        for key, value in wanted.items():
            values = value if isinstance(value, list | tuple) else [value]
            match key:
                case "doc_id":
                    found = {str(each) for each in values}
                case "stem":
                    found = self._documents(lambda name, of=frozenset(map(str, values)): name.stem in of)
                case "path":
                    found = self._documents(
                        lambda name, of=tuple(map(str, values)): any(
                            fnmatch.fnmatch(name.path, glob) or fnmatch.fnmatch(f"/{name.path}", f"*/{glob}")
                            for glob in of
                        )
                    )
                case "page":
                    low, high = _ends(key, value)
                    match["number"] = Range(low and int(low) - 1, high and int(high) - 1)
                    continue
                case "date":
                    match["date"] = _dates(*_ends(key, value))
                    continue
                case "language":
                    match["language"] = tuple(map(str, values))
                    continue
                case _:
                    raise UsageError(
                        f"there is no filter {key!r}; choose from doc_id, stem, path, page, date, language"
                    )
            documents = found if documents is None else documents & found
        if documents is not None:
            match["doc_id"] = tuple(sorted(documents))
        return Where(match)

    def _documents(self, holds: Callable[[Any], bool]) -> set[str]:
        points: Iterable[Point] = self._store.scroll(Where({"kind": "document"}), payload=["doc_id", "files"])
        return {p.payload["doc_id"] for p in points if any(holds(name) for name in files_of(p.payload))}


def rank(
    lists: Mapping[str, Mapping[str, float]], weights: Mapping[str, float], stage: str
) -> list[Candidate]:
    """Pages in the order of `stage`, each with its rank and score in every list; ties by id.

    `fused` is the weighted sum of the lists' standardised scores over all candidates; a page that a list
    does not hold counts as the lowest of that list.
    """
    ids = sorted({id for scores in lists.values() for id in scores})
    ranks = {name: _ranked(scores) for name, scores in lists.items()}
    if stage == "fused":
        total = np.zeros(len(ids))
        for name, scores in lists.items():
            total += weights[name] * standardised(ids, scores)
        ranks["fused"] = _ranked(dict(zip(ids, total.tolist(), strict=True)))
    order = ranks.get(stage, {})
    return [
        Candidate(id, final.score, {name: by_id[id] for name, by_id in ranks.items() if id in by_id})
        for id, final in order.items()
    ]


def standardised(ids: Sequence[str], scores: Mapping[str, float]) -> np.ndarray:
    """Scores of `ids` with mean 0 and standard deviation 1; zeros when they are all the same."""
    if not scores:
        return np.zeros(len(ids))
    lowest = min(scores.values())
    values = np.array([scores.get(id, lowest) for id in ids])
    spread = values.std()
    return (values - values.mean()) / spread if spread > 0 else np.zeros(len(ids))


def _ranked(scores: Mapping[str, float]) -> dict[str, Stage]:
    """In order, ties by id; what scores the same has the same rank, as pages of one document have."""
    ranked: dict[str, Stage] = {}
    last = Stage(0, float("nan"))
    for place, id in enumerate(sorted(scores, key=lambda id: (-scores[id], id)), start=1):
        last = last if scores[id] == last.score else Stage(place, scores[id])
        ranked[id] = last
    return ranked


def _ends(key: str, value: Any) -> tuple[Any, Any]:
    ends = value if isinstance(value, list | tuple) else [value, value]
    if len(ends) != 2:
        raise UsageError(f"filter {key!r} wants two ends, [from, to]; it was given {len(ends)} values")
    return ends[0], ends[1]


def _dates(low: str | None, high: str | None) -> Range:
    """Whole days in the local time zone, both included."""
    try:
        start = datetime.datetime.fromisoformat(low).timestamp() if low else None
        day = datetime.timedelta(days=1)
        end = (datetime.datetime.fromisoformat(high) + day).timestamp() - 1e-3 if high else None
    except (TypeError, ValueError) as error:
        raise UsageError(f"a date looks like 2024-03-31; {error}") from error
    return Range(start, end)


class _Clock:
    """Milliseconds between one lap and the next."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round((now - self._last) * 1000, 3)
        self._last = now
