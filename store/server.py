"""The plan on a Qdrant server or cluster: one collection, over gRPC.

Everything asked can be repeated, because ids are derived from content, so whatever fails in passing is asked
again (`rpc`). Several libraries may share a collection as tenants; the server does not keep them apart, this
file does: `_filter`, `_own` and `_theirs`, at its end, are the only ways in and out.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from qdrant_client import grpc

from pagelens.errors import PagelensError, UsageError
from pagelens.store import protobuf
from pagelens.store.plan import (
    ListQuery,
    Point,
    Schema,
    Scored,
    VectorSpec,
    Where,
    check_points,
    check_queries,
)
from pagelens.store.points import COLLECTION
from pagelens.store.rpc import PATIENCE_TO_OPEN, Server

KEY = "QDRANT_API_KEY"
VERSIONS = (1, 20), (1, 21)
"""The first and the last server spoken to. An older one would pass over fields of a message that it does not
know, such as whose pages count in document frequencies, and say nothing."""
BATCH = 4_000_000
"""Bytes in one message of points: proxies often stop at 4 MiB, Qdrant's REST interface at 32 MB."""
SCROLL = {False: 1000, True: 32}
"""Points in one answer, without and with vectors."""
TENANT = "tenant"
_CLEAN = grpc.OptimizersConfigDiff(deleted_threshold=0.05)
"""Replaced and deleted points count in document frequencies until their segment is cleaned of them; by
default that waits for a fifth of it."""
_MADE = "pagelens"
_Message = TypeVar("_Message", bound=Any)


class ServerStore:
    """The `Store` of a library on a server.

    Args:
        url: Of the server's gRPC interface, such as `http://localhost:6334`. The key is `$QDRANT_API_KEY`.
        collection: Made by `declare` when missing.
        tenant: Whose points these are, where several libraries share the collection.

    Raises:
        LibraryBusy: the server does not answer.
        UsageError: it refuses the key, is of another version, or the collection is not pagelens's, or is
            shared by tenants where none was named, or the other way round.
    """

    def __init__(self, url: str, collection: str = COLLECTION, tenant: str | None = None) -> None:
        if tenant == "":
            raise UsageError("the tenant has no name")
        self._server = Server(url, os.environ.get(KEY))
        self._points = grpc.PointsStub(self._server.channel)
        self._collections = grpc.CollectionsStub(self._server.channel)
        self._name, self._tenant = collection, tenant
        self._mask = 0
        if tenant is not None:
            self._mask = int.from_bytes(hashlib.sha256(tenant.encode()).digest()[:16])
        self._specs: dict[str, VectorSpec] = {}
        self._check_version()
        self.exists = self._there()
        """Whether the collection is there."""
        if self.exists:
            self._specs = self._declared()

    # what is declared

    def declare(self, schema: Schema) -> None:
        """See `Store`."""
        if not self.exists:
            self._create(schema)
        specs = self._declared()
        for spec in schema.vectors:
            there = specs.get(spec.name, spec)
            if there != spec:
                raise UsageError(
                    f"vector {spec.name!r} is {there.kind} of size {there.size} in {there.storage} in "
                    f"collection {self._name!r}, {spec.kind} of size {spec.size} in {spec.storage} was "
                    "asked; name another collection"
                )
        lacking = [spec for spec in schema.vectors if spec.name not in specs]
        for spec in lacking:
            self._server.call(self._points.CreateVectorName, protobuf.new_vector(self._name, spec))
        if multi := [spec for spec in lacking if spec.kind == "multi"]:
            self._server.call(self._collections.Update, protobuf.without_graph(self._name, multi))
        self._index(schema)
        self._specs = self._declared()

    def drop(self, vectors: Sequence[str]) -> None:
        """See `Store`.

        Raises:
            UsageError: the collection is shared; its other tenants may have such vectors.
        """
        gone = [name for name in vectors if name in self._specs]
        if gone and self._tenant is not None:
            raise UsageError(f"other tenants of collection {self._name!r} may have {', '.join(gone)} too")
        for name in gone:
            request = grpc.DeleteVectorNameRequest(collection_name=self._name, wait=True, vector_name=name)
            self._server.call(self._points.DeleteVectorName, request)
        self._specs = self._declared()

    def schema(self) -> Schema:
        """See `Store`."""
        kinds = {stored: kind for kind, (_, stored) in protobuf.FIELDS.items()}
        there = self._info().payload_schema.items()
        fields = {name: kinds[field.data_type] for name, field in there if name != TENANT}
        return Schema(tuple(self._specs.values()), fields)

    def _create(self, schema: Schema) -> None:
        request = grpc.CreateCollection(
            collection_name=self._name,
            vectors_config=protobuf.vectors_config(schema.vectors),
            sparse_vectors_config=protobuf.sparse_config(schema.vectors),
            optimizers_config=_CLEAN,
            metadata=protobuf.to_payload({_MADE: {"tenants": self._tenant is not None}}),
        )
        try:
            self._server.call(self._collections.Create, request)
        except PagelensError:  # made meanwhile, by another or by an attempt whose answer was lost
            if not self._there():
                raise
        self.exists = True

    def _index(self, schema: Schema) -> None:
        info = self._info()
        for name, kind in schema.fields.items():
            field, stored = protobuf.FIELDS[kind]
            if name not in info.payload_schema:
                self._create_index(grpc.CreateFieldIndexCollection(field_name=name, field_type=field))
            elif info.payload_schema[name].data_type != stored:
                there = grpc.PayloadSchemaType.Name(info.payload_schema[name].data_type)
                raise UsageError(f"field {name!r} is {there} in collection {self._name!r}, {kind} was asked")
        if self._tenant is not None and TENANT not in info.payload_schema:
            params = grpc.PayloadIndexParams(keyword_index_params=grpc.KeywordIndexParams(is_tenant=True))
            field, _ = protobuf.FIELDS["keyword"]
            self._create_index(
                grpc.CreateFieldIndexCollection(
                    field_name=TENANT, field_type=field, field_index_params=params
                )
            )

    def _create_index(self, request: grpc.CreateFieldIndexCollection) -> None:
        request.collection_name, request.wait = self._name, True
        self._server.call(self._points.CreateFieldIndex, request)

    def _there(self) -> bool:
        request = grpc.CollectionExistsRequest(collection_name=self._name)
        return bool(self._server.call(self._collections.CollectionExists, request).result.exists)

    def _info(self) -> grpc.CollectionInfo:
        request = grpc.GetCollectionInfoRequest(collection_name=self._name)
        info: grpc.CollectionInfo = self._server.call(self._collections.Get, request).result
        return info

    def _declared(self) -> dict[str, VectorSpec]:
        """The collection's vectors.

        Raises:
            UsageError: it is none that this store may touch.
        """
        config = self._info().config
        made = protobuf.from_payload(config.metadata).get(_MADE)
        specs = protobuf.specs_of(config.params)
        if made is None or None in specs.values():
            raise UsageError(
                f"collection {self._name!r} of {self._server.url} was not made by pagelens; name another "
                "with --collection, it will be made"
            )
        if made["tenants"] != (self._tenant is not None):
            kind = "shared by tenants: name one" if made["tenants"] else "one library's: name no tenant"
            raise UsageError(f"collection {self._name!r} of {self._server.url} is {kind}")
        return {name: spec for name, spec in specs.items() if spec is not None}

    def _check_version(self) -> None:
        qdrant = grpc.QdrantStub(self._server.channel)
        said = self._server.call(qdrant.HealthCheck, grpc.HealthCheckRequest(), PATIENCE_TO_OPEN).version
        numbers = re.match(r"(\d+)\.(\d+)", said)
        if numbers is None or not VERSIONS[0] <= tuple(map(int, numbers.groups())) <= VERSIONS[1]:
            first, last = (".".join(map(str, each)) for each in VERSIONS)
            raise UsageError(
                f"the server {self._server.url} is Qdrant {said or 'of no version'}; this version of "
                f"pagelens speaks to {first} to {last}: use the one in docker-compose.yml"
            )

    # points

    def upsert(self, points: Sequence[Point]) -> None:
        """See `Store`; a batch that is cut short by an error may be written in part."""
        check_points(points, self._specs)
        extra = {} if self._tenant is None else {TENANT: self._tenant}
        structs = [
            grpc.PointStruct(
                id=self._own(point.id),
                payload=protobuf.to_payload({**point.payload, **extra}),
                vectors=protobuf.to_vectors(point.vectors),
            )
            for point in points
        ]
        for batch in _cut(structs):
            request = grpc.UpsertPoints(collection_name=self._name, wait=True, points=batch)
            self._server.call(self._points.Upsert, request)

    def update(self, points: Sequence[Point]) -> None:
        """See `Store`."""
        check_points(points, self._specs)
        there = {point.id for point in self.retrieve([each.id for each in points], payload=False)}
        points = [point for point in points if point.id in there]
        vectors = [
            grpc.PointVectors(id=self._own(p.id), vectors=protobuf.to_vectors(p.vectors))
            for p in points
            if p.vectors
        ]
        operations = [
            grpc.PointsUpdateOperation(update_vectors=grpc.PointsUpdateOperation.UpdateVectors(points=batch))
            for batch in _cut(vectors)
        ]
        operations += [
            grpc.PointsUpdateOperation(
                set_payload=grpc.PointsUpdateOperation.SetPayload(
                    payload=protobuf.to_payload(point.payload),
                    points_selector=grpc.PointsSelector(points=grpc.PointsIdsList(ids=[self._own(point.id)])),
                )
            )
            for point in points
            if point.payload
        ]
        for batch in _cut(operations):
            request = grpc.UpdateBatchPoints(collection_name=self._name, wait=True, operations=batch)
            self._server.call(self._points.UpdateBatch, request)

    def strip(self, ids: Sequence[str], vectors: Sequence[str]) -> None:
        """See `Store`."""
        if not (ids and vectors):
            return
        request = grpc.DeletePointVectors(
            collection_name=self._name,
            wait=True,
            points_selector=grpc.PointsSelector(filter=self._filter(Where(ids=frozenset(ids)))),
            vectors=grpc.VectorsSelector(names=vectors),
        )
        self._server.call(self._points.DeleteVectors, request)

    def delete(self, where: Where) -> None:
        """See `Store`."""
        if where == Where():
            raise UsageError("delete needs a condition; to delete everything delete the collection")
        chosen = grpc.PointsSelector(filter=self._filter(where))
        request = grpc.DeletePoints(collection_name=self._name, wait=True, points=chosen)
        self._server.call(self._points.Delete, request)

    def query(self, queries: Sequence[ListQuery]) -> list[list[Scored]]:
        """See `Store`; ties are ordered here."""
        check_queries(queries, self._specs)
        if not queries:
            return []
        corpus = None if self._tenant is None else self._filter(Where())
        with_idf = {name for name, spec in self._specs.items() if spec.kind == "sparse" and spec.idf}
        request = grpc.QueryBatchPoints(
            collection_name=self._name,
            query_points=[
                protobuf.to_query(
                    self._name, each, self._filter(each.where), corpus if each.using in with_idf else None
                )
                for each in queries
            ],
        )
        lists = self._server.call(self._points.QueryBatch, request).result
        return [
            sorted(
                (Scored(self._theirs(hit.id), hit.score) for hit in each.result),
                key=lambda hit: (-hit.score, hit.id),
            )
            for each in lists
        ]

    def retrieve(
        self, ids: Sequence[str], vectors: Sequence[str] = (), payload: bool | Sequence[str] = True
    ) -> list[Point]:
        """See `Store`."""
        found: dict[str, Point] = {}
        step = SCROLL[bool(vectors)]
        for start in range(0, len(ids), step):  # asked by filter: an id alone would know no tenant
            some = Where(ids=frozenset(ids[start : start + step]))
            found |= {point.id: point for point in self.scroll(some, vectors, payload)}
        return [found[id] for id in ids if id in found]

    def scroll(
        self, where: Where, vectors: Sequence[str] = (), payload: bool | Sequence[str] = True
    ) -> Iterator[Point]:
        """See `Store`; of a tenant, by rising id as the server has it."""
        request = grpc.ScrollPoints(
            collection_name=self._name,
            filter=self._filter(where),
            limit=SCROLL[bool(vectors)],
            with_payload=protobuf.with_payload(payload),
            with_vectors=protobuf.with_vectors(vectors),
        )
        while True:
            answer = self._server.call(self._points.Scroll, request)
            for record in answer.result:
                point = protobuf.to_point(record)
                payload_kept = {key: value for key, value in point.payload.items() if key != TENANT}
                yield Point(self._theirs(record.id), payload_kept, point.vectors)
            if not answer.HasField("next_page_offset"):
                return
            request.offset.CopyFrom(answer.next_page_offset)

    def count(self, where: Where) -> int:
        """See `Store`."""
        request = grpc.CountPoints(collection_name=self._name, filter=self._filter(where), exact=True)
        return int(self._server.call(self._points.Count, request).result.count)

    def optimize(self) -> None:
        """The server does so by itself, when a twentieth of a segment was replaced or deleted."""

    def size(self) -> Mapping[str, int]:
        """Nothing: the server does not tell."""
        return {}

    def close(self) -> None:
        """See `Store`."""
        self._server.close()

    # the tenant: what it asks, and how its points are called

    def _filter(self, where: Where) -> grpc.Filter:
        """Every condition that is sent goes through here, and none without the tenant."""
        if TENANT in where.match:
            raise UsageError(f"the field {TENANT!r} is not the caller's to match")
        tenant = {} if self._tenant is None else {TENANT: self._tenant}
        ids = None if where.ids is None else frozenset(map(self._masked, where.ids))
        return protobuf.to_filter(Where({**where.match, **tenant}, ids))

    def _own(self, id: str) -> grpc.PointId:
        return protobuf.point_id(self._masked(id))

    def _theirs(self, id: grpc.PointId) -> str:
        return self._masked(id.uuid)

    def _masked(self, id: str) -> str:
        """A point's id on the server, and back: the same document of two tenants must not be one point."""
        return str(uuid.UUID(int=uuid.UUID(id).int ^ self._mask))


def _cut(messages: Iterable[_Message]) -> Iterator[list[_Message]]:
    """In batches of up to `BATCH` bytes; a larger message goes alone."""
    batch: list[_Message] = []
    size = 0
    for message in messages:
        bytes_more = message.ByteSize()
        if batch and size + bytes_more > BATCH:
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += bytes_more
    if batch:
        yield batch
