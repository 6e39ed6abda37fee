"""A Qdrant server on this machine's loopback, made of qdrant-client's own servicers, for want of a real one.

It knows nothing of pagelens: it reads Qdrant's messages, refuses what the interface has no word for, and lets
an engine answer, Qdrant Edge or qdrant-client's own store in memory. Faults come when they are told to.

    python tests/qdrant_server.py        # serves Edge in a temporary folder, prints its URL, until killed
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import grpc
import qdrant_edge as qe
from qdrant_client import QdrantClient, models
from qdrant_client import grpc as messages
from qdrant_client.conversions.conversion import (
    GrpcToRest,
    RestToGrpc,
    grpc_field_type_to_payload_schema,
    grpc_to_payload,
    json_to_value,
)
from qdrant_client.grpc import collections_service_pb2_grpc, points_service_pb2_grpc, qdrant_pb2_grpc

VERSION = "1.20.0"
OK = grpc.StatusCode.OK


class Engine(Protocol):
    """Answers for one collection."""

    def add_vector(self, request: messages.CreateVectorNameRequest) -> None: ...
    def drop_vector(self, name: str) -> None: ...
    def index(self, name: str, kind: Any) -> None: ...
    def upsert(self, points: Any) -> None: ...
    def update_vectors(self, points: Any) -> None: ...
    def set_payload(self, payload: Any, ids: list[str]) -> None: ...
    def strip(self, condition: messages.Filter, names: list[str]) -> None: ...
    def delete(self, condition: messages.Filter) -> None: ...
    def query(self, request: messages.QueryPoints) -> list[messages.ScoredPoint]: ...
    def scroll(self, request: messages.ScrollPoints) -> tuple[list[messages.RetrievedPoint], str | None]: ...
    def count(self, condition: messages.Filter) -> int: ...


@dataclass
class Faults:
    """What goes wrong with the next calls, in order, and what came of all."""

    coming: list[Callable[[Any], None]] = field(default_factory=list)
    """Each is told the context of a call and may abort it, or be slow."""
    calls: list[tuple[str, int]] = field(default_factory=list)
    """Method and bytes of its message."""
    key: str | None = None
    """Wanted of every call."""
    away: bool = False
    """Whether every call is refused, as by a server that shuts down."""

    def meet(self, method: str, request: Any, context: Any) -> None:
        self.calls.append((method, request.ByteSize()))
        if self.away:
            context.abort(grpc.StatusCode.UNAVAILABLE, "shutting down")
        if self.coming:
            self.coming.pop(0)(context)
        if self.key is not None and ("api-key", self.key) not in [
            tuple(m) for m in context.invocation_metadata()
        ]:
            context.abort(
                grpc.StatusCode.UNAUTHENTICATED, "Must provide an API key or an Authorization bearer token"
            )


def unavailable(context: Any) -> None:
    context.abort(grpc.StatusCode.UNAVAILABLE, "restarting")


def exhausted(context: Any) -> None:
    context.set_trailing_metadata((("retry-after", "1"),))
    context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "write rate limit exceeded")


def slow(seconds: float) -> Callable[[Any], None]:
    return lambda context: time.sleep(seconds)


def broken(context: Any) -> None:
    context.abort(grpc.StatusCode.INTERNAL, "Service internal error: segment is poisoned")


@dataclass
class Collection:
    request: messages.CreateCollection
    engine: Engine
    fields: dict[str, Any] = field(default_factory=dict)


class Server(
    points_service_pb2_grpc.PointsServicer,
    collections_service_pb2_grpc.CollectionsServicer,
    qdrant_pb2_grpc.QdrantServicer,
):
    """The three services; `Get` and `Update` mean the collections', `Delete` either."""

    def __init__(self, make: Callable[[messages.CreateCollection], Engine], version: str = VERSION) -> None:
        self.make, self.version = make, version
        self.faults = Faults()
        self.collections: dict[str, Collection] = {}
        self.port = 0
        self._server: Any = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen, on the same port again after `stop`."""
        server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
        for add in (
            points_service_pb2_grpc.add_PointsServicer_to_server,
            collections_service_pb2_grpc.add_CollectionsServicer_to_server,
            qdrant_pb2_grpc.add_QdrantServicer_to_server,
        ):
            add(self, server)  # type: ignore[no-untyped-call]
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        server.start()
        self._server = server

    def stop(self) -> None:
        """Drop every connection and call."""
        self._server.stop(0).wait()

    # collections

    def HealthCheck(self, request: Any, context: Any) -> Any:
        self.faults.meet("HealthCheck", request, context)
        return messages.HealthCheckReply(title="stub", version=self.version)

    def CollectionExists(self, request: Any, context: Any) -> Any:
        self.faults.meet("CollectionExists", request, context)
        exists = messages.CollectionExists(exists=request.collection_name in self.collections)
        return messages.CollectionExistsResponse(result=exists)

    def Create(self, request: Any, context: Any) -> Any:
        self.faults.meet("Create", request, context)
        if request.collection_name in self.collections:
            context.abort(grpc.StatusCode.ALREADY_EXISTS, f"Collection {request.collection_name} exists")
        self.collections[request.collection_name] = Collection(request, self.make(request))
        return messages.CollectionOperationResponse(result=True)

    def Get(self, request: Any, context: Any) -> Any:
        self.faults.meet("Get", request, context)
        there = self._of(request, context)
        params = messages.CollectionParams(
            shard_number=1,
            vectors_config=there.request.vectors_config,
            sparse_vectors_config=there.request.sparse_vectors_config,
        )
        info = messages.CollectionInfo(
            status=messages.CollectionStatus.Green,
            config=messages.CollectionConfig(params=params, metadata=there.request.metadata),
            payload_schema={
                name: messages.PayloadSchemaInfo(data_type=grpc_field_type_to_payload_schema(kind))  # type: ignore[arg-type]
                for name, kind in there.fields.items()
            },
        )
        return messages.GetCollectionInfoResponse(result=info)

    def Update(self, request: Any, context: Any) -> Any:
        self.faults.meet("Update", request, context)
        there = self._of(request, context).request.vectors_config.params_map.map
        for name, diff in request.vectors_config.params_map.map.items():
            there[name].hnsw_config.CopyFrom(diff.hnsw_config)
        return messages.CollectionOperationResponse(result=True)

    def CreateVectorName(self, request: Any, context: Any) -> Any:
        self.faults.meet("CreateVectorName", request, context)
        there = self._of(request, context)
        name = request.vector_name
        if request.HasField("sparse_config"):
            params = messages.SparseVectorParams(modifier=request.sparse_config.modifier)
            there.request.sparse_vectors_config.map[name].CopyFrom(params)
        else:
            made = there.request.vectors_config.params_map.map[name]
            made.size, made.distance = request.dense_config.size, request.dense_config.distance
            made.datatype = request.dense_config.datatype
            if request.dense_config.HasField("multivector_config"):
                made.multivector_config.CopyFrom(request.dense_config.multivector_config)
        there.engine.add_vector(request)
        return self._done()

    def DeleteVectorName(self, request: Any, context: Any) -> Any:
        self.faults.meet("DeleteVectorName", request, context)
        there = self._of(request, context)
        there.request.vectors_config.params_map.map.pop(request.vector_name, None)
        there.request.sparse_vectors_config.map.pop(request.vector_name, None)
        there.engine.drop_vector(request.vector_name)
        return self._done()

    def CreateFieldIndex(self, request: Any, context: Any) -> Any:
        self.faults.meet("CreateFieldIndex", request, context)
        there = self._of(request, context)
        there.fields[request.field_name] = request.field_type
        there.engine.index(request.field_name, request.field_type)
        return self._done()

    # points

    def Upsert(self, request: Any, context: Any) -> Any:
        self.faults.meet("Upsert", request, context)
        self._of(request, context).engine.upsert(request.points)
        return self._done()

    def UpdateBatch(self, request: Any, context: Any) -> Any:
        self.faults.meet("UpdateBatch", request, context)
        engine = self._of(request, context).engine
        for operation in request.operations:
            match operation.WhichOneof("operation"):
                case "update_vectors":
                    engine.update_vectors(operation.update_vectors.points)
                case "set_payload":
                    chosen = operation.set_payload.points_selector.points.ids
                    engine.set_payload(operation.set_payload.payload, [id.uuid for id in chosen])
                case other:
                    context.abort(grpc.StatusCode.UNIMPLEMENTED, str(other))
        return messages.UpdateBatchResponse(result=[messages.UpdateResult(status=messages.Completed)])

    def DeleteVectors(self, request: Any, context: Any) -> Any:
        self.faults.meet("DeleteVectors", request, context)
        if not request.points_selector.filter.must:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "this server deletes by conditions alone")
        engine = self._of(request, context).engine
        engine.strip(request.points_selector.filter, request.vectors.names[:])
        return self._done()

    def Delete(self, request: Any, context: Any) -> Any:
        self.faults.meet("Delete", request, context)
        if isinstance(request, messages.DeleteCollection):
            self.collections.pop(request.collection_name, None)
            return messages.CollectionOperationResponse(result=True)
        if not request.points.filter.must:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "this server deletes by conditions alone")
        self._of(request, context).engine.delete(request.points.filter)
        return self._done()

    def QueryBatch(self, request: Any, context: Any) -> Any:
        self.faults.meet("QueryBatch", request, context)
        engine = self._of(request, context).engine
        lists = [messages.BatchResult(result=engine.query(each)) for each in request.query_points]
        return messages.QueryBatchResponse(result=lists)

    def Scroll(self, request: Any, context: Any) -> Any:
        self.faults.meet("Scroll", request, context)
        found, following = self._of(request, context).engine.scroll(request)
        offset = None if following is None else messages.PointId(uuid=following)
        return messages.ScrollResponse(result=found, next_page_offset=offset)

    def Count(self, request: Any, context: Any) -> Any:
        self.faults.meet("Count", request, context)
        count = self._of(request, context).engine.count(request.filter)
        return messages.CountResponse(result=messages.CountResult(count=count))

    def _of(self, request: Any, context: Any) -> Collection:
        if request.collection_name not in self.collections:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Collection {request.collection_name} does not exist")
        return self.collections[request.collection_name]

    def _done(self) -> messages.PointsOperationResponse:
        return messages.PointsOperationResponse(result=messages.UpdateResult(status=messages.Completed))


class InMemory:
    """qdrant-client's own store, through qdrant-client's own conversions."""

    NAME = "pages"

    def __init__(self, request: messages.CreateCollection) -> None:
        self._client = QdrantClient(":memory:")
        self._client.create_collection(
            self.NAME,
            GrpcToRest.convert_vectors_config(request.vectors_config),
            sparse_vectors_config=GrpcToRest.convert_sparse_vector_config(request.sparse_vectors_config),
        )

    def add_vector(self, request: messages.CreateVectorNameRequest) -> None:
        config: Any
        if request.HasField("sparse_config"):
            modifier = GrpcToRest.convert_modifier(request.sparse_config.modifier)
            config = models.SparseVectorNameConfig(sparse=models.SparseVectorConfig(modifier=modifier))
        else:
            asked = request.dense_config
            multi = asked.HasField("multivector_config")
            config = models.DenseVectorNameConfig(
                dense=models.DenseVectorConfig(
                    size=asked.size,
                    distance=GrpcToRest.convert_distance(asked.distance),
                    multivector_config=GrpcToRest.convert_multivector_config(asked.multivector_config)
                    if multi
                    else None,
                )
            )
        self._client.create_vector_name(self.NAME, request.vector_name, config)

    def drop_vector(self, name: str) -> None:
        self._client.delete_vector_name(self.NAME, name)

    def index(self, name: str, kind: Any) -> None:
        pass  # it has none, and warns

    def upsert(self, points: Any) -> None:
        self._client.upsert(self.NAME, [GrpcToRest.convert_point_struct(point) for point in points])

    def update_vectors(self, points: Any) -> None:
        self._client.update_vectors(self.NAME, [GrpcToRest.convert_point_vectors(point) for point in points])

    def set_payload(self, payload: Any, ids: list[str]) -> None:
        self._client.set_payload(self.NAME, grpc_to_payload(payload), list(ids))

    def strip(self, condition: messages.Filter, names: list[str]) -> None:
        chosen = models.FilterSelector(filter=GrpcToRest.convert_filter(condition))
        self._client.delete_vectors(self.NAME, names, chosen)

    def delete(self, condition: messages.Filter) -> None:
        self._client.delete(self.NAME, models.FilterSelector(filter=GrpcToRest.convert_filter(condition)))

    def query(self, request: messages.QueryPoints) -> list[messages.ScoredPoint]:
        [answer] = self._client.query_batch_points(self.NAME, [GrpcToRest.convert_query_points(request)])
        return [RestToGrpc.convert_scored_point(point) for point in answer.points]

    def scroll(self, request: messages.ScrollPoints) -> tuple[list[messages.RetrievedPoint], str | None]:
        records, following = self._client.scroll(
            self.NAME,
            GrpcToRest.convert_filter(request.filter),
            limit=request.limit,
            offset=request.offset.uuid or None,
            with_payload=GrpcToRest.convert_with_payload_selector(request.with_payload),
            with_vectors=GrpcToRest.convert_with_vectors_selector(request.with_vectors),
        )
        for record in records:
            record.payload = record.payload or {}  # or the conversion dies of None
        found = [RestToGrpc.convert_record(record) for record in records]
        return found, None if following is None else str(following)

    def count(self, condition: messages.Filter) -> int:
        return self._client.count(self.NAME, GrpcToRest.convert_filter(condition)).count


DATATYPES = {
    messages.Datatype.Float32: qe.VectorStorageDatatype.Float32,
    messages.Datatype.Float16: qe.VectorStorageDatatype.Float16,
    messages.Datatype.Turbo8: qe.VectorStorageDatatype.Turbo8,
}


class OnEdge:
    """The server's own segments, in this process."""

    _FOLDERS = itertools.count()

    def __init__(self, request: messages.CreateCollection, folder: Path, flush: bool = False) -> None:
        self._flush = flush
        self._folder = folder / str(next(self._FOLDERS))
        self._folder.mkdir(parents=True)
        config = qe.EdgeConfig(
            vectors={n: self._dense(p) for n, p in request.vectors_config.params_map.map.items()},
            sparse_vectors={
                name: qe.EdgeSparseVectorParams(
                    modifier=qe.Modifier.Idf if params.modifier == messages.Modifier.Idf else None
                )
                for name, params in request.sparse_vectors_config.map.items()
            },
            # A server cleans segments in the background; here that is done before the next query.
            optimizers=qe.EdgeOptimizersConfig(deleted_threshold=0.0, vacuum_min_vector_number=0),
        )
        self._shard = qe.EdgeShard.create(str(self._folder), config)
        self._stale = False

    @staticmethod
    def _dense(params: Any) -> qe.EdgeVectorParams:
        assert params.distance == messages.Distance.Cosine
        multi = params.HasField("multivector_config")
        graph = params.HasField("hnsw_config") and params.hnsw_config.HasField("m")
        return qe.EdgeVectorParams(
            size=params.size,
            distance=qe.Distance.Cosine,
            multivector_config=qe.MultiVectorConfig(qe.MultiVectorComparator.MaxSim) if multi else None,
            datatype=DATATYPES[params.datatype],
            hnsw_config=qe.HnswIndexConfig(params.hnsw_config.m, 100, 10_000) if graph else None,
        )

    def add_vector(self, request: messages.CreateVectorNameRequest) -> None:
        name = request.vector_name
        if request.HasField("sparse_config"):
            modifier = qe.Modifier.Idf if request.sparse_config.modifier == messages.Modifier.Idf else None
            self._shard.update(qe.UpdateOperation.create_sparse_vector(name, modifier=modifier))
            return
        asked = request.dense_config
        multi = asked.HasField("multivector_config")
        comparator = qe.MultiVectorConfig(qe.MultiVectorComparator.MaxSim) if multi else None
        self._shard.update(
            qe.UpdateOperation.create_dense_vector(
                name, asked.size, qe.Distance.Cosine, comparator, DATATYPES[asked.datatype]
            )
        )

    def drop_vector(self, name: str) -> None:
        self._shard.update(qe.UpdateOperation.delete_vector_name(name))

    def index(self, name: str, kind: Any) -> None:
        kinds = {
            messages.FieldType.FieldTypeKeyword: qe.PayloadSchemaType.Keyword,
            messages.FieldType.FieldTypeInteger: qe.PayloadSchemaType.Integer,
            messages.FieldType.FieldTypeFloat: qe.PayloadSchemaType.Float,
        }
        self._shard.update(qe.UpdateOperation.create_field_index(name, kinds[kind]))

    def upsert(self, points: Any) -> None:
        batch = [qe.Point(p.id.uuid, self._vectors(p.vectors), grpc_to_payload(p.payload)) for p in points]
        known = self._shard.retrieve([p.id.uuid for p in points], with_payload=False, with_vector=False)
        self._stale |= bool(known)
        self._shard.update(qe.UpdateOperation.upsert_points(batch))
        if self._flush:
            self._shard.flush()

    def update_vectors(self, points: Any) -> None:
        self._stale = True
        batch = [qe.PointVectors(p.id.uuid, self._vectors(p.vectors)) for p in points]
        self._shard.update(qe.UpdateOperation.update_vectors(batch))

    def set_payload(self, payload: Any, ids: list[str]) -> None:
        self._shard.update(qe.UpdateOperation.set_payload([*ids], grpc_to_payload(payload)))

    def strip(self, condition: messages.Filter, names: list[str]) -> None:
        self._stale = True
        wanted = self._filter(condition)
        assert wanted is not None
        self._shard.update(qe.UpdateOperation.delete_vectors_by_filter(wanted, names))

    def delete(self, condition: messages.Filter) -> None:
        self._stale = True
        wanted = self._filter(condition)
        assert wanted is not None
        self._shard.update(qe.UpdateOperation.delete_points_by_filter(wanted))

    def query(self, request: messages.QueryPoints) -> list[messages.ScoredPoint]:
        if self._stale:
            self._shard.optimize()
            self._stale = False
        asked = request.query.nearest
        vector: Any
        match asked.WhichOneof("variant"):
            case "sparse":
                vector = qe.SparseVector(asked.sparse.indices[:], asked.sparse.values[:])
            case "dense":
                vector = asked.dense.data[:]
            case _:
                vector = [row.data[:] for row in asked.multi_dense.vectors]
        params = None
        if request.params.idf.HasField("corpus"):
            params = qe.SearchParams(idf=qe.IdfParams(self._filter(request.params.idf.corpus)))
        hits = self._shard.query(
            qe.QueryRequest(
                limit=request.limit,
                query=qe.Query.Nearest(vector, using=request.using),
                filter=self._filter(request.filter),
                params=params,
            )
        )
        return [messages.ScoredPoint(id=messages.PointId(uuid=str(h.id)), score=h.score) for h in hits]

    def scroll(self, request: messages.ScrollPoints) -> tuple[list[messages.RetrievedPoint], str | None]:
        payload: Any = request.with_payload.enable
        if request.with_payload.HasField("include"):
            payload = list(request.with_payload.include.fields)
        records, following = self._shard.scroll(
            qe.ScrollRequest(
                offset=request.offset.uuid or None,
                limit=request.limit,
                filter=self._filter(request.filter),
                with_payload=payload,
                with_vector=list(request.with_vectors.include.names) or False,
            )
        )
        return [self._told(record) for record in records], None if following is None else str(following)

    def count(self, condition: messages.Filter) -> int:
        return self._shard.count(qe.CountRequest(exact=True, filter=self._filter(condition)))

    def _vectors(self, vectors: messages.Vectors) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, vector in vectors.vectors.vectors.items():
            match vector.WhichOneof("vector"):
                case "sparse":
                    found[name] = qe.SparseVector(vector.sparse.indices[:], vector.sparse.values[:])
                case "dense":
                    found[name] = vector.dense.data[:]
                case _:
                    found[name] = [row.data[:] for row in vector.multi_dense.vectors]
        return found

    def _told(self, record: qe.Record) -> messages.RetrievedPoint:
        named = {}
        vectors: Any = record.vector or {}
        for name, vector in vectors.items():
            if isinstance(vector, qe.SparseVector):
                sparse = messages.SparseVector(indices=vector.indices, values=vector.values)
                named[name] = messages.VectorOutput(sparse=sparse)
            elif isinstance(vector[0], list):
                rows = [messages.DenseVector(data=row) for row in vector]
                named[name] = messages.VectorOutput(multi_dense=messages.MultiDenseVector(vectors=rows))
            else:
                named[name] = messages.VectorOutput(dense=messages.DenseVector(data=vector))
        return messages.RetrievedPoint(
            id=messages.PointId(uuid=str(record.id)),
            payload={key: json_to_value(value) for key, value in (record.payload or {}).items()},
            vectors=messages.VectorsOutput(vectors=messages.NamedVectorsOutput(vectors=named)),
        )

    def _filter(self, wanted: messages.Filter) -> qe.Filter | None:
        assert not (wanted.should or wanted.must_not)
        conditions = [self._condition(condition) for condition in wanted.must]
        return qe.Filter(must=conditions) if conditions else None

    def _condition(self, condition: messages.Condition) -> Any:
        if condition.HasField("has_id"):
            return qe.HasIdCondition({id.uuid for id in condition.has_id.has_id})
        wanted = condition.field
        if wanted.HasField("range"):
            low = wanted.range.gte if wanted.range.HasField("gte") else None
            high = wanted.range.lte if wanted.range.HasField("lte") else None
            return qe.FieldCondition(wanted.key, range=qe.RangeFloat(gte=low, lte=high))
        match wanted.match.WhichOneof("match_value"):
            case "keyword":
                return qe.FieldCondition(wanted.key, match=qe.MatchValue(wanted.match.keyword))
            case "integer":
                return qe.FieldCondition(wanted.key, match=qe.MatchValue(wanted.match.integer))
            case "keywords":
                return qe.FieldCondition(wanted.key, match=qe.MatchAny(list(wanted.match.keywords.strings)))
            case "integers":
                return qe.FieldCondition(wanted.key, match=qe.MatchAny(list(wanted.match.integers.integers)))
        raise ValueError(f"no such condition: {condition}")


@contextlib.contextmanager
def serving(folder: Path | None = None, version: str = VERSION, flush: bool = False) -> Iterator[Server]:
    """A server over Edge in a folder, or in memory; with `flush` an upsert is on the disk when it answers."""
    made: Callable[[messages.CreateCollection], Engine] = (
        InMemory if folder is None else lambda request: OnEdge(request, folder, flush)
    )
    server = Server(made, version)
    try:
        yield server
    finally:
        server.stop()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place, serving(Path(place), flush=True) as running:
        print(running.url, flush=True)  # noqa: T201
        sys.stdin.read()  # until whoever started it is gone
