"""qdrant-client's in-memory store, a Python re-implementation of the server: an oracle we did not write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from qdrant_client import QdrantClient, models

from pagelens.errors import UsageError
from pagelens.records import SparseVector
from pagelens.store.plan import (
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

NAME = "pages"
MAX_SIM = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)


class MemoryStore:
    """The plan translated to `QdrantClient(":memory:")`."""

    def __init__(self) -> None:
        self._client = QdrantClient(":memory:")
        self._specs: dict[str, VectorSpec] = {}

    def declare(self, schema: Schema) -> None:
        for spec in schema.vectors:
            if self._specs.get(spec.name, spec) != spec:
                raise UsageError(f"{spec.name}: {spec} is not {self._specs[spec.name]}")
        dense = {
            s.name: models.VectorParams(
                size=s.size,
                distance=models.Distance.COSINE,
                multivector_config=MAX_SIM if s.kind == "multi" else None,
            )
            for s in schema.vectors
            if s.kind != "sparse"
        }
        sparse = {
            s.name: models.SparseVectorParams(modifier=models.Modifier.IDF)
            for s in schema.vectors
            if s.kind == "sparse"
        }
        if not self._specs:
            self._client.create_collection(NAME, dense, sparse_vectors_config=sparse)
        else:
            for spec in schema.vectors:
                if spec.name not in self._specs:
                    self._add(spec)
        self._specs |= {spec.name: spec for spec in schema.vectors}

    def _add(self, spec: VectorSpec) -> None:
        config: Any
        if spec.kind == "sparse":
            config = models.SparseVectorNameConfig(
                sparse=models.SparseVectorConfig(modifier=models.Modifier.IDF)
            )
        else:
            config = models.DenseVectorNameConfig(
                dense=models.DenseVectorConfig(
                    size=spec.size,
                    distance=models.Distance.COSINE,
                    multivector_config=MAX_SIM if spec.kind == "multi" else None,
                )
            )
        self._client.create_vector_name(NAME, spec.name, config)

    def drop(self, vectors: Sequence[str]) -> None:
        for name in [name for name in vectors if name in self._specs]:
            self._client.delete_vector_name(NAME, name)
            del self._specs[name]

    def upsert(self, points: Sequence[Point]) -> None:
        check_points(points, self._specs)
        records = [
            models.PointStruct(
                id=p.id, payload=dict(p.payload), vector={name: plain(v) for name, v in p.vectors.items()}
            )
            for p in points
        ]
        if records:
            self._client.upsert(NAME, records)

    def update(self, points: Sequence[Point]) -> None:
        check_points(points, self._specs)
        there = {point.id for point in self.retrieve([each.id for each in points])}
        for point in points:
            if point.id not in there:
                continue
            if point.vectors:
                vectors = {name: plain(v) for name, v in point.vectors.items()}
                self._client.update_vectors(NAME, [models.PointVectors(id=point.id, vector=vectors)])
            self._client.set_payload(NAME, dict(point.payload), [point.id])

    def delete(self, where: Where) -> None:
        wanted = translated(where)
        if wanted is None:
            raise UsageError("delete needs a condition")
        self._client.delete(NAME, models.FilterSelector(filter=wanted))

    def query(self, queries: Sequence[ListQuery]) -> list[list[Scored]]:
        check_queries(queries, self._specs)
        requests = [
            models.QueryRequest(
                query=plain(each.vector), using=each.using, limit=each.limit, filter=translated(each.where)
            )
            for each in queries
        ]
        answers = self._client.query_batch_points(NAME, requests) if requests else []
        return [
            sorted((Scored(str(p.id), p.score) for p in a.points), key=lambda hit: (-hit.score, hit.id))
            for a in answers
        ]

    def retrieve(
        self, ids: Sequence[str], vectors: Sequence[str] = (), payload: bool | Sequence[str] = True
    ) -> list[Point]:
        records = self._client.retrieve(
            NAME,
            list(ids),
            with_payload=payload if isinstance(payload, bool) else list(payload),
            with_vectors=list(vectors) or False,
        )
        found = {str(record.id): told(record) for record in records}
        return [found[id] for id in ids if id in found]

    def scroll(
        self, where: Where, vectors: Sequence[str] = (), payload: bool | Sequence[str] = True
    ) -> Iterator[Point]:
        records, _ = self._client.scroll(
            NAME,
            translated(where),
            limit=10_000,
            with_payload=payload if isinstance(payload, bool) else list(payload),
            with_vectors=list(vectors) or False,
        )
        yield from map(told, records)

    def count(self, where: Where) -> int:
        return self._client.count(NAME, translated(where)).count

    def optimize(self) -> None:
        pass

    def size(self) -> Mapping[str, int]:
        return {"points": 0, "wal": 0}

    def close(self) -> None:
        self._client.close()


def plain(vector: Vector) -> Any:
    if isinstance(vector, SparseVector):
        return models.SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist())
    return vector.tolist()


def told(record: models.Record) -> Point:
    vectors: dict[str, Vector] = {}
    for name, vector in (record.vector or {}).items():  # type: ignore[union-attr]
        if isinstance(vector, models.SparseVector):
            vectors[name] = SparseVector(np.array(vector.indices, np.uint32), np.array(vector.values))
        else:
            vectors[name] = np.array(vector)
    return Point(str(record.id), record.payload or {}, vectors)


def translated(where: Where) -> models.Filter | None:
    conditions: list[Any] = []
    for key, wanted in where.match.items():
        if isinstance(wanted, Range):
            between = models.Range(gte=wanted.low, lte=wanted.high)
            conditions.append(models.FieldCondition(key=key, range=between))
        elif isinstance(wanted, tuple):
            values: Any = list(wanted)
            conditions.append(models.FieldCondition(key=key, match=models.MatchAny(any=values)))
        else:
            conditions.append(models.FieldCondition(key=key, match=models.MatchValue(value=wanted)))
    if where.ids is not None:
        conditions.append(models.HasIdCondition(has_id=list(where.ids)))
    return models.Filter(must=conditions) if conditions else None
