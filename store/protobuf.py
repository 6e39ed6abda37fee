"""The plan in the messages of Qdrant's gRPC interface, as qdrant-client 1.20 carries them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from qdrant_client import grpc
from qdrant_client.conversions.conversion import GrpcToRest, grpc_to_payload, json_to_value

from pagelens.records import SparseVector
from pagelens.store.plan import FieldKind, ListQuery, Point, Range, Storage, Value, Vector, VectorSpec, Where

FIELDS: Mapping[FieldKind, tuple[grpc.FieldType.ValueType, grpc.PayloadSchemaType.ValueType]] = {
    "keyword": (grpc.FieldType.FieldTypeKeyword, grpc.PayloadSchemaType.Keyword),
    "integer": (grpc.FieldType.FieldTypeInteger, grpc.PayloadSchemaType.Integer),
    "float": (grpc.FieldType.FieldTypeFloat, grpc.PayloadSchemaType.Float),
}
"""What an index of a payload field is created as, and what a collection then calls it."""
_STORAGE: Mapping[Storage, grpc.Datatype.ValueType] = {
    "float32": grpc.Datatype.Float32,
    "float16": grpc.Datatype.Float16,
    "turbo8": grpc.Datatype.Turbo8,
}
_STORED: dict[int, Storage] = {number: name for name, number in _STORAGE.items()}
_STORED[grpc.Datatype.Default] = "float32"
_MAX_SIM = grpc.MultiVectorConfig(comparator=grpc.MultiVectorComparator.MaxSim)
_NO_GRAPH = grpc.HnswConfigDiff(m=0)  # over full multivectors it takes minutes and gains nothing


def vectors_config(specs: Iterable[VectorSpec]) -> grpc.VectorsConfig:
    """Of a new collection: its dense vectors and multivectors."""
    params = {
        spec.name: grpc.VectorParams(
            size=spec.size,
            distance=grpc.Distance.Cosine,
            datatype=_STORAGE[spec.storage],
            multivector_config=_MAX_SIM if spec.kind == "multi" else None,
            hnsw_config=_NO_GRAPH if spec.kind == "multi" else None,
        )
        for spec in specs
        if spec.kind != "sparse"
    }
    return grpc.VectorsConfig(params_map=grpc.VectorParamsMap(map=params))


def sparse_config(specs: Iterable[VectorSpec]) -> grpc.SparseVectorConfig:
    """Of a new collection: its sparse vectors."""
    sparse = [spec for spec in specs if spec.kind == "sparse"]
    params = {spec.name: grpc.SparseVectorParams(modifier=_modifier(spec)) for spec in sparse}
    return grpc.SparseVectorConfig(map=params)


def _modifier(spec: VectorSpec) -> grpc.Modifier.ValueType:
    return grpc.Modifier.Idf if spec.idf else grpc.Modifier.Value("None")


def new_vector(collection: str, spec: VectorSpec) -> grpc.CreateVectorNameRequest:
    """One more vector for a collection that is there."""
    request = grpc.CreateVectorNameRequest(collection_name=collection, wait=True, vector_name=spec.name)
    if spec.kind == "sparse":
        request.sparse_config.modifier = _modifier(spec)
    else:
        request.dense_config.size, request.dense_config.distance = spec.size, grpc.Distance.Cosine
        request.dense_config.datatype = _STORAGE[spec.storage]
        if spec.kind == "multi":
            request.dense_config.multivector_config.CopyFrom(_MAX_SIM)
    return request


def without_graph(collection: str, specs: Iterable[VectorSpec]) -> grpc.UpdateCollection:
    """What `new_vector` cannot say: that no graph is to be built over these."""
    diffs = {spec.name: grpc.VectorParamsDiff(hnsw_config=_NO_GRAPH) for spec in specs}
    config = grpc.VectorsConfigDiff(params_map=grpc.VectorParamsDiffMap(map=diffs))
    return grpc.UpdateCollection(collection_name=collection, vectors_config=config)


def specs_of(params: grpc.CollectionParams) -> dict[str, VectorSpec | None]:
    """The vectors of a collection by name; None for one that the plan cannot ask.

    That is one compared otherwise than by cosine, or kept otherwise.
    """
    specs: dict[str, VectorSpec | None] = {}
    if params.vectors_config.HasField("params"):
        specs[""] = None  # a collection with one vector without a name is not ours
    for name, dense in params.vectors_config.params_map.map.items():
        specs[name] = None
        if dense.distance == grpc.Distance.Cosine and dense.datatype in _STORED:
            multi = dense.HasField("multivector_config")
            specs[name] = VectorSpec(name, "multi" if multi else "dense", dense.size, _STORED[dense.datatype])
    for name, sparse in params.sparse_vectors_config.map.items():
        specs[name] = VectorSpec(name, "sparse", idf=sparse.modifier == grpc.Modifier.Idf)
    return specs


def point_id(id: str) -> grpc.PointId:
    """A UUID."""
    return grpc.PointId(uuid=id)


def to_filter(where: Where) -> grpc.Filter:
    """An empty filter where everything counts."""
    conditions = [_field(key, wanted) for key, wanted in where.match.items()]
    if where.ids is not None:
        ids = grpc.HasIdCondition(has_id=map(point_id, sorted(where.ids)))
        conditions.append(grpc.Condition(has_id=ids))
    return grpc.Filter(must=conditions)


def _field(key: str, wanted: Value | tuple[Value, ...] | Range) -> grpc.Condition:
    match wanted:
        case Range(low, high):
            field = grpc.FieldCondition(key=key, range=grpc.Range(gte=low, lte=high))
        case str():
            field = grpc.FieldCondition(key=key, match=grpc.Match(keyword=wanted))
        case int():
            field = grpc.FieldCondition(key=key, match=grpc.Match(integer=wanted))
        case (int(), *_):
            numbers = grpc.RepeatedIntegers(integers=wanted)  # type: ignore[arg-type]
            field = grpc.FieldCondition(key=key, match=grpc.Match(integers=numbers))
        case _:
            words = grpc.RepeatedStrings(strings=wanted)  # type: ignore[arg-type]
            field = grpc.FieldCondition(key=key, match=grpc.Match(keywords=words))
    return grpc.Condition(field=field)


def to_query(
    collection: str, query: ListQuery, filter: grpc.Filter, corpus: grpc.Filter | None
) -> grpc.QueryPoints:
    """One list.

    Args:
        collection: Asked.
        query: Its vector and limit.
        filter: Which points count.
        corpus: Which points count in document frequencies; None: all. A server refuses it of a vector that
            has none.
    """
    vector = query.vector
    if isinstance(vector, SparseVector):
        asked = grpc.VectorInput(sparse=_sparse(vector))
    elif vector.ndim == 2:
        asked = grpc.VectorInput(multi_dense=_rows(vector))
    else:
        asked = grpc.VectorInput(dense=grpc.DenseVector(data=vector.tolist()))
    params = None
    if corpus is not None:
        params = grpc.SearchParams(idf=grpc.IdfParams(corpus=corpus))
    return grpc.QueryPoints(
        collection_name=collection,
        query=grpc.Query(nearest=asked),
        using=query.using,
        filter=filter,
        params=params,
        limit=query.limit,
        with_payload=grpc.WithPayloadSelector(enable=False),
    )


def to_payload(payload: Mapping[str, Any]) -> dict[str, grpc.Value]:
    """JSON values."""
    return {key: json_to_value(value) for key, value in payload.items()}


def from_payload(payload: Any) -> dict[str, Any]:
    """What `to_payload` was given."""
    return dict(grpc_to_payload(payload))


def to_vectors(vectors: Mapping[str, Vector]) -> grpc.Vectors:
    """Vectors by name."""
    return grpc.Vectors(vectors=grpc.NamedVectors(vectors={n: _vector(v) for n, v in vectors.items()}))


def with_payload(wanted: bool | Sequence[str]) -> grpc.WithPayloadSelector:
    """All, nothing, or some keys of it."""
    if isinstance(wanted, bool):
        return grpc.WithPayloadSelector(enable=wanted)
    return grpc.WithPayloadSelector(include=grpc.PayloadIncludeSelector(fields=wanted))


def with_vectors(names: Sequence[str]) -> grpc.WithVectorsSelector:
    """Some vectors, or none."""
    if not names:
        return grpc.WithVectorsSelector(enable=False)
    return grpc.WithVectorsSelector(include=grpc.VectorsSelector(names=names))


def to_point(record: grpc.RetrievedPoint) -> Point:
    """A point as it was stored."""
    vectors = {
        name: _from_vector(GrpcToRest.convert_vector_output(vector))
        for name, vector in record.vectors.vectors.vectors.items()
    }
    return Point(record.id.uuid, from_payload(record.payload), vectors)


def _vector(vector: Vector) -> grpc.Vector:
    if isinstance(vector, SparseVector):
        return grpc.Vector(sparse=_sparse(vector))
    if vector.ndim == 2:
        return grpc.Vector(multi_dense=_rows(vector))
    return grpc.Vector(dense=grpc.DenseVector(data=vector.tolist()))


def _sparse(vector: SparseVector) -> grpc.SparseVector:
    return grpc.SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist())


def _rows(vector: np.ndarray) -> grpc.MultiDenseVector:
    return grpc.MultiDenseVector(vectors=[grpc.DenseVector(data=row) for row in vector.tolist()])


def _from_vector(vector: Any) -> Vector:
    if hasattr(vector, "indices"):
        return SparseVector(np.asarray(vector.indices, np.uint32), np.asarray(vector.values, np.float32))
    return np.asarray(vector, np.float32)
