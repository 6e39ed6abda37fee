"""A store of dictionaries and plain loops: what every engine must agree with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from math import log
from typing import Any

import numpy as np

from pagelens.errors import UsageError
from pagelens.records import SparseVector
from pagelens.store.plan import (
    FieldKind,
    ListQuery,
    Point,
    Range,
    Schema,
    Scored,
    Vector,
    VectorSpec,
    Where,
    check_points,
    check_queries,
)


class ExactStore:
    """Nothing is approximate, nothing is kept."""

    def __init__(self) -> None:
        self.specs: dict[str, VectorSpec] = {}
        self.fields: dict[str, FieldKind] = {}
        self.points: dict[str, Point] = {}

    def declare(self, schema: Schema) -> None:
        for spec in schema.vectors:
            if self.specs.get(spec.name, spec) != spec:
                raise UsageError(f"{spec.name}: {spec} is not {self.specs[spec.name]}")
        self.specs |= {spec.name: spec for spec in schema.vectors}
        self.fields |= schema.fields

    def schema(self) -> Schema:
        return Schema(tuple(self.specs.values()), self.fields)

    def drop(self, vectors: Sequence[str]) -> None:
        self.specs = {name: spec for name, spec in self.specs.items() if name not in vectors}
        for id, point in self.points.items():
            kept = {name: vector for name, vector in point.vectors.items() if name not in vectors}
            self.points[id] = Point(id, point.payload, kept)

    def upsert(self, points: Sequence[Point]) -> None:
        check_points(points, self.specs)
        for point in points:
            vectors = {name: normalised(vector) for name, vector in point.vectors.items()}
            self.points[point.id] = Point(point.id, json.loads(json.dumps(point.payload)), vectors)

    def update(self, points: Sequence[Point]) -> None:
        check_points(points, self.specs)
        for new in points:
            if old := self.points.get(new.id):
                self.upsert([Point(new.id, {**old.payload, **new.payload}, {**old.vectors, **new.vectors})])

    def strip(self, ids: Sequence[str], vectors: Sequence[str]) -> None:
        for id in set(ids).intersection(self.points):
            point = self.points[id]
            kept = {name: vector for name, vector in point.vectors.items() if name not in vectors}
            self.points[id] = Point(id, point.payload, kept)

    def delete(self, where: Where) -> None:
        if where == Where():
            raise UsageError("delete needs a condition")
        self.points = {id: point for id, point in self.points.items() if not holds(where, point)}

    def query(self, queries: Sequence[ListQuery]) -> list[list[Scored]]:
        check_queries(queries, self.specs)
        return [self._list(query) for query in queries]

    def _list(self, query: ListQuery) -> list[Scored]:
        among = {id: p.vectors[query.using] for id, p in self.points.items() if query.using in p.vectors}
        asked = query.vector
        if isinstance(asked, SparseVector) and self.specs[query.using].idf:
            asked = self._weighted(asked, among.values())
        scored = []
        for id, vector in among.items():
            score = similarity(asked, vector)
            if score is not None and holds(query.where, self.points[id]):
                scored.append(Scored(id, score))
        return sorted(scored, key=lambda hit: (-hit.score, hit.id))[: query.limit]

    def _weighted(self, asked: SparseVector, among: Any) -> SparseVector:
        """The query's weights times ln(1 + (N - n + .5) / (n + .5)): as Qdrant's documentation has it."""
        total = len(among)
        weights = []
        for term, weight in zip(asked.indices, asked.values, strict=True):
            frequency = sum(term in vector.indices for vector in among)
            weights.append(weight * log(1 + (total - frequency + 0.5) / (frequency + 0.5)))
        return SparseVector(asked.indices, np.array(weights))

    def retrieve(
        self, ids: Sequence[str], vectors: Sequence[str] = (), payload: bool | Sequence[str] = True
    ) -> list[Point]:
        return [shown(self.points[id], vectors, payload) for id in ids if id in self.points]

    def scroll(
        self, where: Where, vectors: Sequence[str] = (), payload: bool | Sequence[str] = True
    ) -> Iterator[Point]:
        for id in sorted(self.points):
            if holds(where, self.points[id]):
                yield shown(self.points[id], vectors, payload)

    def count(self, where: Where) -> int:
        return sum(holds(where, point) for point in self.points.values())

    def optimize(self) -> None:
        pass

    def size(self) -> Mapping[str, int]:
        return {"points": 0, "wal": 0}

    def close(self) -> None:
        pass


def normalised(vector: Vector) -> Vector:
    """Rows of length 1, as engines that compare by cosine keep them."""
    if isinstance(vector, SparseVector):
        return vector
    length = np.linalg.norm(vector, axis=-1, keepdims=True)
    scaled: np.ndarray = vector / np.where(length == 0, 1, length)
    return scaled


def similarity(asked: Vector, stored: Vector) -> float | None:
    """Dot product, cosine, or the sum over query rows of the best cosine; None: no term in common."""
    if isinstance(asked, SparseVector):
        assert isinstance(stored, SparseVector)
        weights = dict(zip(stored.indices.tolist(), stored.values.tolist(), strict=True))
        common = [term for term in asked.indices.tolist() if term in weights]
        asked_weights = dict(zip(asked.indices.tolist(), asked.values.tolist(), strict=True))
        return sum(asked_weights[term] * weights[term] for term in common) if common else None
    asked = normalised(asked)
    assert not isinstance(asked, SparseVector) and not isinstance(stored, SparseVector)
    if asked.ndim == 1:
        return float(asked @ stored)
    return float(sum(max(float(row @ other) for other in stored) for row in asked))


def holds(where: Where, point: Point) -> bool:
    """Whether a point counts."""
    if where.ids is not None and point.id not in where.ids:
        return False
    for key, wanted in where.match.items():
        value: Any = point.payload
        for part in key.split("."):
            value = (value or {}).get(part)
        if isinstance(wanted, Range):
            if not isinstance(value, int | float):
                return False
            if not (wanted.low is None or value >= wanted.low) or not (
                wanted.high is None or value <= wanted.high
            ):
                return False
        elif value not in (wanted if isinstance(wanted, tuple) else (wanted,)):
            return False
    return True


def shown(point: Point, vectors: Sequence[str], payload: bool | Sequence[str]) -> Point:
    """As much of a point as was asked for."""
    keys = point.payload if payload is True else payload or ()
    return Point(
        point.id,
        {key: point.payload[key] for key in keys if key in point.payload},
        {name: point.vectors[name] for name in vectors if name in point.vectors},
    )
