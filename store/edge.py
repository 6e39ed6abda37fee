"""The plan translated to Qdrant Edge: one shard in one folder, in this process.

Used inside the worker only: Edge holds the interpreter lock during every call, owns its folder alone, and
dies of SIGBUS when the disk is full.
"""

from __future__ import annotations

import contextlib
import errno
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as qe

from pagelens.errors import LibraryBusy, UsageError
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

MB = 2**20
TO_OPEN = 16 * MB
"""Free space without which a shard is not opened: opening wrote less than 1 MB, and found none it died. On a
tmpfs, where looking into a hole fills it, 25 MB were written; a worker that dies of that is started again."""
TO_WRITE = 128 * MB
"""Free space that a write leaves: the log was seen to hold two segments of 32 MB, and twice that is safe."""
GROWTH = 3
"""Bytes set aside for a byte of points: 1.25 in the log and 1.0 in the segments were measured."""
CONFIG = "edge_config.json"
_MAX_SIM = qe.MultiVectorConfig(qe.MultiVectorComparator.MaxSim)
_NO_GRAPH = qe.HnswIndexConfig(m=0, ef_construct=100, full_scan_threshold=10_000)
# By default a segment is cleaned of replaced and deleted points from 1000 vectors and a fifth of them on;
# until then they count in the document frequencies.
_CLEAN = qe.EdgeOptimizersConfig(deleted_threshold=0.0, vacuum_min_vector_number=0)
_STORAGE: Mapping[str, qe.VectorStorageDatatype | None] = {
    "float32": None,  # as without one: libraries made before there was a choice say nothing
    "float16": qe.VectorStorageDatatype.Float16,
    "turbo8": qe.VectorStorageDatatype.Turbo8,
}
_FIELDS: Mapping[FieldKind, qe.PayloadSchemaType] = {
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
        self._specs: dict[str, VectorSpec] = {}
        folder.mkdir(parents=True, exist_ok=True)
        self._room(TO_OPEN)
        if (folder / CONFIG).exists():  # written before anything else of a shard
            self._specs = _stored(folder)
            self._load()

    def declare(self, schema: Schema) -> None:
        """Create the shard, or add the vectors and fields it lacks."""
        for spec in schema.vectors:
            there = self._specs.get(spec.name, spec)
            if there != spec:
                raise UsageError(
                    f"vector {spec.name!r} is {there.kind} of size {there.size} in {there.storage} in this "
                    f"library, {spec.kind} of size {spec.size} in {spec.storage} was asked"
                )
        lacking = [spec for spec in schema.vectors if spec.name not in self._specs]
        if lacking:
            self._room(TO_WRITE)
        if self._shard is None:
            with self._own_errors():
                self._shard = qe.EdgeShard.create(str(self._folder), _config(lacking))
        elif lacking:
            # A vector added to an open shard takes no HNSW setting: loaded again with one, before any
            # optimize() builds a graph over full multivectors.
            self._update(*map(_create, lacking))
            self.close()
        self._specs |= {spec.name: spec for spec in lacking}
        if self._shard is None:
            self._load()
        self._index(schema)

    def drop(self, vectors: Sequence[str]) -> None:
        """Delete named vectors, and load the shard without them."""
        gone = [name for name in vectors if name in self._specs]
        if gone:
            self._room(TO_WRITE)
            self._update(*map(qe.UpdateOperation.delete_vector_name, gone))
            self._specs = {name: spec for name, spec in self._specs.items() if name not in gone}
            self.close()
            self._load()

    def schema(self) -> Schema:
        """All that is declared."""
        kinds = {stored: kind for kind, stored in _FIELDS.items()}
        there = self._open.info().payload_schema.items()
        return Schema(tuple(self._specs.values()), {name: kinds[about.data_type] for name, about in there})

    def upsert(self, points: Sequence[Point]) -> None:
        """Write points whole, durably."""
        self._check(points)
        batch = [qe.Point(p.id, _to_edge_vectors(p), dict(p.payload)) for p in points]
        self._update(qe.UpdateOperation.upsert_points(batch))

    def update(self, points: Sequence[Point]) -> None:
        """Vectors first, then payloads."""
        self._check(points)
        there = {point.id for point in self.retrieve([each.id for each in points], payload=False)}
        points = [point for point in points if point.id in there]
        vectors = [qe.PointVectors(p.id, _to_edge_vectors(p)) for p in points if p.vectors]
        payloads = [qe.UpdateOperation.set_payload([p.id], dict(p.payload)) for p in points if p.payload]
        self._update(*([qe.UpdateOperation.update_vectors(vectors)] if vectors else []), *payloads)

    def strip(self, ids: Sequence[str], vectors: Sequence[str]) -> None:
        """Take vectors off some points."""
        if there := self.retrieve(ids, payload=False):
            self._update(qe.UpdateOperation.delete_vectors([point.id for point in there], [*vectors]))

    def delete(self, where: Where) -> None:
        """Remove what matches."""
        wanted = _filter(where)
        if wanted is None:
            raise UsageError("delete needs a condition; to delete everything remove the library's folder")
        self._room(TO_WRITE)
        self._update(qe.UpdateOperation.delete_points_by_filter(wanted))

    def query(self, queries: Sequence[ListQuery]) -> list[list[Scored]]:
        """One batch; ties are ordered here, because Edge does not."""
        check_queries(queries, self._specs)
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
            [*ids],
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
        """Write segments anew; old and new copies coexist meanwhile, so twice the space is asked for."""
        self._room(TO_WRITE + sum(self.size().values()))
        with self._own_errors():
            self._open.optimize()
            self._open.flush()

    def size(self) -> dict[str, int]:
        """Bytes on disk, allocated: the log's files are longer than what they hold."""
        sizes = {"points": 0, "wal": 0}
        for path in self._folder.rglob("*"):
            if path.is_file():
                what = _part(path.relative_to(self._folder))
                sizes[what] = sizes.get(what, 0) + path.stat().st_blocks * 512
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

    def _load(self) -> None:
        """Open with all settings: what a worker that was killed did not come to set is set now."""
        with self._own_errors():
            self._shard = qe.EdgeShard.load(str(self._folder), _config(self._specs.values()))

    def _index(self, schema: Schema) -> None:
        """Index the payload fields that are not yet."""
        there = {name: about.data_type for name, about in self._open.info().payload_schema.items()}
        for name, kind in schema.fields.items():
            if there.get(name, _FIELDS[kind]) != _FIELDS[kind]:
                raise UsageError(f"field {name!r} is {there[name]} in this library, {kind} was asked")
        self._update(
            *(
                qe.UpdateOperation.create_field_index(name, _FIELDS[kind])
                for name, kind in schema.fields.items()
                if name not in there
            )
        )

    def _update(self, *operations: qe.UpdateOperation) -> None:
        """Apply, then flush once: an update alone survives a killed process, but no power cut."""
        if not operations:
            return
        with self._own_errors():
            for operation in operations:
                self._open.update(operation)
            self._open.flush()

    def _check(self, points: Sequence[Point]) -> None:
        """Refuse points that Edge would take and should not, or that the disk does not hold."""
        check_points(points, self._specs)
        self._room(TO_WRITE + GROWTH * sum(map(_bytes, points)))

    @contextlib.contextmanager
    def _own_errors(self) -> Iterator[None]:
        """Edge raises nothing more specific than `Exception`."""
        try:
            yield
        except Exception as error:
            if "WouldBlock" in str(error):
                raise open_elsewhere(self._folder) from error
            if f"os error {errno.ENOSPC}" in str(error):
                raise _full(str(error)) from error
            raise

    def _room(self, needed: int) -> None:
        """Ask the disk before Edge does: it writes through memory maps and dies of SIGBUS."""
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise _full(f"{self._folder}: {free / MB:.0f} MB free, {needed / MB:.0f} MB needed")


def _part(path: Path) -> str:
    """What a file of a shard is for: `segments/<id>/vector_storage-text/...` for the vectors `text`."""
    folder = path.parts[2] if path.parts[0] == "segments" and len(path.parts) > 3 else ""
    if folder.startswith("vector_"):
        return f"{folder.partition('-')[2]} vectors"
    if folder.startswith("payload_"):
        return "payload"
    return "wal" if path.parts[0] == "wal" else "points"


def open_elsewhere(folder: Path) -> LibraryBusy:
    """What is raised where another process owns a folder."""
    return LibraryBusy(f"{folder} is open in a process that cannot be joined from here; end that first")


def _full(what: str) -> OSError:
    cure = "free some space and run the same command again, it goes on where it stopped"
    return OSError(errno.ENOSPC, f"{what}; {cure}")


def _stored(folder: Path) -> dict[str, VectorSpec]:
    """The vectors of a shard, from the file that Edge keeps and does not tell of."""
    config = json.loads((folder / CONFIG).read_text())
    specs = [
        VectorSpec(
            name,
            "multi" if "multivector_config" in vector else "dense",
            vector["size"],
            vector.get("datatype", "float32"),
        )
        for name, vector in config.get("vectors", {}).items()
    ]
    specs += [
        VectorSpec(name, "sparse", idf=sparse.get("modifier") == "idf")
        for name, sparse in config.get("sparse_vectors", {}).items()
    ]
    return {spec.name: spec for spec in specs}


def _config(specs: Iterable[VectorSpec]) -> qe.EdgeConfig:
    return qe.EdgeConfig(
        vectors={spec.name: _dense(spec) for spec in specs if spec.kind != "sparse"},
        sparse_vectors={
            spec.name: qe.EdgeSparseVectorParams(modifier=_modifier(spec))
            for spec in specs
            if spec.kind == "sparse"
        },
        optimizers=_CLEAN,
    )


def _dense(spec: VectorSpec) -> qe.EdgeVectorParams:
    if spec.kind == "dense":
        return qe.EdgeVectorParams(
            size=spec.size, distance=qe.Distance.Cosine, datatype=_STORAGE[spec.storage]
        )
    return qe.EdgeVectorParams(
        size=spec.size,
        distance=qe.Distance.Cosine,
        multivector_config=_MAX_SIM,
        datatype=_STORAGE[spec.storage],
        hnsw_config=_NO_GRAPH,
    )


def _modifier(spec: VectorSpec) -> qe.Modifier | None:
    return qe.Modifier.Idf if spec.idf else None


def _create(spec: VectorSpec) -> qe.UpdateOperation:
    if spec.kind == "sparse":
        return qe.UpdateOperation.create_sparse_vector(spec.name, modifier=_modifier(spec))
    multi = _MAX_SIM if spec.kind == "multi" else None
    return qe.UpdateOperation.create_dense_vector(
        spec.name, spec.size, qe.Distance.Cosine, multi, _STORAGE[spec.storage]
    )


def _filter(where: Where) -> qe.Filter | None:
    conditions: list[Any] = []
    for key, wanted in where.match.items():
        if isinstance(wanted, Range):
            between = qe.RangeFloat(gte=wanted.low, lte=wanted.high)
            conditions.append(qe.FieldCondition(key, range=between))
        elif isinstance(wanted, tuple):
            values: Any = list(wanted)
            conditions.append(qe.FieldCondition(key, match=qe.MatchAny(values)))
        else:
            conditions.append(qe.FieldCondition(key, match=qe.MatchValue(wanted)))
    if where.ids is not None:
        conditions.append(qe.HasIdCondition(set(where.ids)))
    return qe.Filter(must=conditions) if conditions else None


def _to_edge_vectors(point: Point) -> dict[str, Any]:
    return {name: _to_edge(vector) for name, vector in point.vectors.items()}


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
