"""What is asked of a store, in words that no engine owns.

Every engine translates the same few records: a schema of named vectors and payload fields, points,
filters, and lists of candidates asked as one batch. Fusion is not here: each list comes back with its
own scores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np

from pagelens.errors import UsageError
from pagelens.records import SparseVector

Vector: TypeAlias = SparseVector | np.ndarray
"""Sparse; dense, shape (size,); or a multivector (late interaction, MaxSim), shape (rows, size)."""

Value: TypeAlias = str | int
FieldKind: TypeAlias = Literal["keyword", "integer", "float"]
Storage: TypeAlias = Literal["float32", "float16", "turbo8"]
"""How the numbers of a vector are kept: in 4 bytes, in 2, or about 1 (TurboQuant). What was put in is what
comes out only of the first."""


@dataclass(frozen=True, slots=True)
class VectorSpec:
    """One named vector of the collection.

    Dense and multivectors are compared by cosine; sparse ones by dot product.
    """

    name: str
    kind: Literal["sparse", "dense", "multi"]
    size: int = 0
    """Numbers a row; 0 for sparse."""
    storage: Storage = "float32"
    """Of dense and multivectors."""
    idf: bool = True
    """Of sparse vectors: whether the collection's inverse document frequencies are applied to the query."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What a collection holds: its named vectors, and the payload fields that filters may name."""

    vectors: tuple[VectorSpec, ...]
    fields: Mapping[str, FieldKind]


@dataclass(frozen=True, slots=True)
class Range:
    """A closed interval; None leaves an end open."""

    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Where:
    """Which points count. Everything given must hold; nothing given holds for all.

    A tuple of values means any of them; an empty tuple, or empty `ids`, matches nothing.

    Raises:
        UsageError: a truth value is to be matched; Edge 0.9.0 takes `True` for 1 and finds nothing.
    """

    match: Mapping[str, Value | tuple[Value, ...] | Range] = field(default_factory=dict)
    ids: frozenset[str] | None = None

    def __post_init__(self) -> None:
        for key, wanted in self.match.items():
            if isinstance(wanted, bool):
                raise UsageError(f"filter {key!r}: a truth value cannot be matched; store a word or a number")


@dataclass(frozen=True, slots=True)
class Point:
    """One record of the collection. `id` is a UUID; payload values are JSON."""

    id: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    vectors: Mapping[str, Vector] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ListQuery:
    """One list of candidates: the `limit` points nearest to `vector` in the named vector `using`.

    A multivector is asked with a matrix, also when it has one row.
    """

    using: str
    vector: Vector
    limit: int
    where: Where = field(default_factory=Where)


class Scored(NamedTuple):
    """One candidate of one list."""

    id: str
    score: float


class Store(Protocol):
    """What every engine offers. Lists come back by falling score, ties by id."""

    def declare(self, schema: Schema) -> None:
        """Create the collection, or add what it lacks of `schema`; what is there stays as it is.

        Raises:
            UsageError: a vector or field of that name exists with another kind or size.
        """

    def drop(self, vectors: Sequence[str]) -> None:
        """Take named vectors out of the collection and of all points; `optimize` frees their space.

        Those that are not declared are passed over.
        """

    def schema(self) -> Schema:
        """All that is declared."""

    def upsert(self, points: Sequence[Point]) -> None:
        """Write points whole, replacing those of the same id. Durable when it returns.

        Raises:
            UsageError: a vector is not finite, has another size than declared, or an unknown name.
            OSError: the disk has no room (`errno.ENOSPC`); nothing of the batch was written.
        """

    def update(self, points: Sequence[Point]) -> None:
        """Set the payload keys and the vectors these points carry; the rest stays. Durable.

        Vectors are written before payloads, so that a signature never vouches for a vector that is not there.
        Points that do not exist are passed over.

        Raises:
            UsageError, OSError: as `upsert`.
        """

    def strip(self, ids: Sequence[str], vectors: Sequence[str]) -> None:
        """Take named vectors off the points that exist among `ids`; they stay declared. Durable."""

    def delete(self, where: Where) -> None:
        """Remove the points that match. Durable."""

    def query(self, queries: Sequence[ListQuery]) -> list[list[Scored]]:
        """Answer several lists as one batch, in their order.

        A sparse list holds only points that share a term with the query; where several tie at its end, any of
        them may be the last.

        Raises:
            UsageError: a query's vector is not finite, or not of the kind and size declared.
        """

    def retrieve(
        self, ids: Sequence[str], vectors: Sequence[str] = (), payload: bool | Sequence[str] = True
    ) -> list[Point]:
        """The points that exist among `ids`, in that order, with the named vectors."""

    def scroll(
        self, where: Where, vectors: Sequence[str] = (), payload: bool | Sequence[str] = True
    ) -> Iterator[Point]:
        """Every point that matches, by rising id as the engine has it; `payload` may name the keys wanted."""

    def count(self, where: Where) -> int:
        """How many points match, exactly."""

    def optimize(self) -> None:
        """Merge segments and build indexes; after points were replaced this also mends the IDF."""

    def size(self) -> Mapping[str, int]:
        """Bytes on disk: `points`, `wal`; apart, where that is known, `payload` and `<name> vectors`.

        Empty where the engine does not tell.
        """

    def close(self) -> None:
        """Leave; what was written stays."""


MAX_ELEMENTS = 1_048_576
"""Numbers in one multivector that a Qdrant server takes (its `common/validation.rs`)."""


def check_points(points: Iterable[Point], specs: Mapping[str, VectorSpec]) -> None:
    """Refuse what an engine would accept silently or die of.

    Args:
        points: About to be written.
        specs: Of the vectors that are declared, by name.

    Raises:
        UsageError: naming the point, the vector, and both numbers where two differ.
    """
    for point in points:
        for name, vector in point.vectors.items():
            if wrong := _wrong_vector(name, vector, specs):
                raise UsageError(f"point {point.id}: {wrong}")


def check_queries(queries: Iterable[ListQuery], specs: Mapping[str, VectorSpec]) -> None:
    """Refuse what no vector of its kind can be compared with; `specs` and `UsageError` as `check_points`."""
    for query in queries:
        if wrong := _wrong_vector(query.using, query.vector, specs):
            raise UsageError(f"query: {wrong}")


def _wrong_vector(name: str, vector: Vector, specs: Mapping[str, VectorSpec]) -> str | None:
    if name not in specs:
        return f"no vector {name!r} is declared; there are {', '.join(sorted(specs)) or 'none'}"
    wrong = (
        _wrong_sparse(vector, specs[name])
        if isinstance(vector, SparseVector)
        else _wrong_dense(vector, specs[name])
    )
    return wrong and f"vector {name!r} {wrong}"


def _wrong_sparse(vector: SparseVector, spec: VectorSpec) -> str | None:
    if spec.kind != "sparse":
        return f"is sparse, {spec.kind} was declared"
    if len(vector.indices) != len(vector.values):
        return f"has {len(vector.indices)} indices and {len(vector.values)} values"
    if len(np.unique(vector.indices)) != len(vector.indices):
        return "has an index twice"
    return None if np.isfinite(vector.values).all() else "holds a number that is not finite"


def _wrong_dense(vector: np.ndarray, spec: VectorSpec) -> str | None:
    if vector.ndim != {"dense": 1, "multi": 2}.get(spec.kind):
        return f"has {vector.ndim} dimensions, a {spec.kind} vector was declared"
    if vector.shape[-1] != spec.size:
        return f"has size {vector.shape[-1]}, {spec.size} was declared"
    if not vector.size:
        return "is empty"
    if vector.size > MAX_ELEMENTS:
        return f"has {vector.size} numbers, {MAX_ELEMENTS} are allowed"
    return None if np.isfinite(vector).all() else "holds a number that is not finite"
