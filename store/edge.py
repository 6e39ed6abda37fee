"""The plan translated to Qdrant Edge: one shard in one folder, in this process.

Used inside the worker only: Edge holds the interpreter lock during every call, owns its folder alone, and
dies of SIGBUS when the disk is full.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as qe

from pagelens.errors import LibraryBusy, UsageError
from pagelens.records import SparseVector
from pagelens.store.plan import ListQuery, Point, Range, Schema, Scored, Vector, VectorSpec, Where

# Edge preallocates its write-ahead log in segments of 32 MB and was seen to hold two; one more while it
# rolls over, one for its segments.
RESERVE = 4 * 32 * 2**20
NO_GRAPH = qe.HnswIndexConfig(m=0, ef_construct=100, full_scan_threshold=10_000)
_FIELDS = {
    "keyword": qe.PayloadSchemaType.Keyword,
    "integer": qe.PayloadSchemaType.Integer,
    "float": qe.PayloadSchemaType.Float,
}


class EdgeEngine:
    """One Edge shard.

    Args:
        folder: The shard's; made when missing.

    Raises:
        OSError: the disk has no room to open it (`errno.ENOSPC`).
        LibraryBusy: another process has it open.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shard: qe.EdgeShard | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._room(0)
        if (folder / "edge_config.json").exists():
            self._shard = self._load(None)

    def declare(self, schema: Schema) -> None:
        """Create the shard, or add the vectors and fields it lacks."""
        config = _config(schema.vectors)
        if self._shard is None:
            self._shard = qe.EdgeShard.create(str(self._folder), config)
        else:
            self._add_vectors(schema)
        indexed = self._open.info().payload_schema
        for name, kind in schema.fields.items():
            if name not in indexed:
                self._open.update(qe.UpdateOperation.create_field_index(name, _FIELDS[kind]))
        self._open.flush()

    def upsert(self, points: Sequence[Point]) -> None:
        """Write points whole, durably."""
        self._room(sum(_bytes(point) for point in points))
        batch = [
            qe.Point(p.id, {name: _to_edge(vector) for name, vector in p.vectors.items()}, dict(p.payload))
            for p in points
        ]
        self._open.update(qe.UpdateOperation.upsert_points(batch))
        self._open.flush()

    def update(self, points: Sequence[Point]) -> None:
        """Vectors first, then payloads."""
        self._room(sum(_bytes(point) for point in points))
        there = {
            str(record.id)
            for record in self._open.retrieve([p.id for p in points], with_payload=False, with_vector=False)
        }
        points = [point for point in points if point.id in there]
        vectors = [
            qe.PointVectors(p.id, {name: _to_edge(vector) for name, vector in p.vectors.items()})
            for p in points
            if p.vectors
        ]
        if vectors:
            self._open.update(qe.UpdateOperation.update_vectors(vectors))
        for point in points:
            self._open.update(qe.UpdateOperation.set_payload([point.id], dict(point.payload)))
        self._open.flush()

    def delete(self, where: Where) -> None:
        """Remove what matches."""
        self._open.update(qe.UpdateOperation.delete_points_by_filter(_filter(where)))
        self._open.flush()

    def query(self, queries: Sequence[ListQuery]) -> list[list[Scored]]:
        """One batch; ties are ordered here, because Edge does not."""
        requests = [
            qe.QueryRequest(
                limit=each.limit,
                query=qe.Query.Nearest(_to_edge(each.vector), using=each.using),
                filter=_filter(each.where),
            )
            for each in queries
        ]
        lists = self._open.query_batch(qe.QueryBatchRequest(requests))
        return [
            sorted((Scored(str(hit.id), hit.score) for hit in hits), key=lambda hit: (-hit.score, hit.id))
            for hits in lists
        ]

    def retrieve(
        self, ids: Sequence[str], vectors: Sequence[str] = (), payload: bool | Sequence[str] = True
    ) -> list[Point]:
        """Those that exist, in the order asked."""
        records = self._open.retrieve(
            list(ids),
            with_payload=payload if isinstance(payload, bool) else list(payload),
            with_vector=list(vectors) or False,
        )
        found = {str(record.id): _point(record) for record in records}
        return [found[id] for id in ids if id in found]

    def scroll_page(
        self,
        where: Where,
        vectors: Sequence[str],
        payload: bool | Sequence[str],
        offset: str | None,
        limit: int,
    ) -> tuple[list[Point], str | None]:
        """Up to `limit` points from id `offset` on, and the id to go on from."""
        request = qe.ScrollRequest(
            offset=offset,
            limit=limit,
            filter=_filter(where),
            with_payload=payload if isinstance(payload, bool) else list(payload),
            with_vector=list(vectors) or False,
        )
        records, following = self._open.scroll(request)
        return [_point(record) for record in records], None if following is None else str(following)

    def count(self, where: Where) -> int:
        """Exactly."""
        return self._open.count(qe.CountRequest(exact=True, filter=_filter(where)))

    def optimize(self) -> None:
        """Merge segments; old and new copies coexist meanwhile, so twice the space is asked for."""
        self._room(sum(self.size().values()))
        self._open.optimize()
        self._open.flush()

    def size(self) -> dict[str, int]:
        """Bytes on disk, allocated: the log's files are longer than what they hold."""
        sizes = {"points": 0, "wal": 0}
        for path in self._folder.rglob("*"):
            if path.is_file():
                part = "wal" if "wal" in path.relative_to(self._folder).parts else "points"
                sizes[part] += path.stat().st_blocks * 512
        return sizes

    def close(self) -> None:
        """Flush and let the folder go."""
        if self._shard is not None:
            self._shard.flush()
            self._shard.close()
            self._shard = None

    @property
    def _open(self) -> qe.EdgeShard:
        if self._shard is None:
            raise UsageError("the library has no collection yet; `pagelens ingest` makes it")
        return self._shard

    def _load(self, config: qe.EdgeConfig | None) -> qe.EdgeShard:
        try:
            return qe.EdgeShard.load(str(self._folder), config)
        except Exception as error:  # Edge raises nothing more specific
            if "WouldBlock" in str(error):
                raise LibraryBusy(
                    f"{self._folder} is open in another process; end it and try again"
                ) from error
            raise

    def _add_vectors(self, schema: Schema) -> None:
        known = json.loads((self._folder / "edge_config.json").read_text())
        present = {**known.get("vectors", {}), **known.get("sparse_vectors", {})}
        for spec in schema.vectors:
            if spec.name in present:
                size = (present[spec.name] or {}).get("size", 0)
                if size != spec.size:
                    raise UsageError(
                        f"vector {spec.name!r} has size {size} in this library, {spec.size} was asked"
                    )
                continue
            self._open.update(_create(spec))
        if any(spec.name not in present for spec in schema.vectors):
            # A vector added to an open shard takes no HNSW setting: loaded again with one, before any
            # optimize() could build a graph over full multivectors.
            self.close()
            self._shard = self._load(_config(schema.vectors))

    def _room(self, needed: int) -> None:
        free = shutil.disk_usage(self._folder).free
        if free < needed + RESERVE:
            raise OSError(
                errno.ENOSPC,
                f"{self._folder}: {free / 2**20:.0f} MB free, {(needed + RESERVE) / 2**20:.0f} MB needed; "
                "free some space and run the same command again, it goes on where it stopped",
            )


def _config(specs: Sequence[VectorSpec]) -> qe.EdgeConfig:
    return qe.EdgeConfig(
        vectors={spec.name: _dense(spec) for spec in specs if spec.kind != "sparse"},
        sparse_vectors={
            spec.name: qe.EdgeSparseVectorParams(modifier=qe.Modifier.Idf)
            for spec in specs
            if spec.kind == "sparse"
        },
    )


def _dense(spec: VectorSpec) -> qe.EdgeVectorParams:
    if spec.kind == "dense":
        return qe.EdgeVectorParams(size=spec.size, distance=qe.Distance.Cosine)
    return qe.EdgeVectorParams(
        size=spec.size, distance=qe.Distance.Cosine, multivector_config=_MAX_SIM, hnsw_config=NO_GRAPH
    )


_MAX_SIM = qe.MultiVectorConfig(qe.MultiVectorComparator.MaxSim)


def _create(spec: VectorSpec) -> qe.UpdateOperation:
    if spec.kind == "sparse":
        return qe.UpdateOperation.create_sparse_vector(spec.name, modifier=qe.Modifier.Idf)
    multi = _MAX_SIM if spec.kind == "multi" else None
    return qe.UpdateOperation.create_dense_vector(spec.name, spec.size, qe.Distance.Cosine, multi)


def _filter(where: Where) -> qe.Filter | None:
    conditions: list[Any] = []
    for key, wanted in where.match.items():
        if isinstance(wanted, Range):
            between = qe.RangeFloat(gte=wanted.low, lte=wanted.high)
            conditions.append(qe.FieldCondition(key, range=between))
        elif isinstance(wanted, tuple):
            conditions.append(qe.FieldCondition(key, match=qe.MatchAny(list(wanted))))
        else:
            conditions.append(qe.FieldCondition(key, match=qe.MatchValue(wanted)))
    if where.ids is not None:
        conditions.append(qe.HasIdCondition(set(where.ids)))
    return qe.Filter(must=conditions) if conditions else None


def _to_edge(vector: Vector) -> Any:
    if isinstance(vector, SparseVector):
        return qe.SparseVector(vector.indices.tolist(), vector.values.tolist())
    return vector.tolist()  # measured faster than handing over the array


def _point(record: qe.Record) -> Point:
    vectors = record.vector if isinstance(record.vector, dict) else {}
    return Point(
        str(record.id), record.payload or {}, {name: _from_edge(vector) for name, vector in vectors.items()}
    )


def _from_edge(vector: Any) -> Vector:
    if isinstance(vector, qe.SparseVector):
        return SparseVector(np.asarray(vector.indices, np.uint32), np.asarray(vector.values, np.float32))
    return np.asarray(vector, np.float32)


def _bytes(point: Point) -> int:
    arrays = [part for v in point.vectors.values() for part in (v if isinstance(v, SparseVector) else (v,))]
    return sum(array.nbytes for array in arrays) + len(json.dumps(dict(point.payload)))
