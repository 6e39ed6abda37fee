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

Value: TypeAlias = str | int | bool


@dataclass(frozen=True, slots=True)
class VectorSpec:
    """One named vector of the collection.

    Dense and multivectors are compared by cosine; sparse ones by dot product with the collection's inverse
    document frequencies applied to the query.
    """

    name: str
    kind: Literal["sparse", "dense", "multi"]
    size: int = 0
    """Numbers a row; 0 for sparse."""


@dataclass(frozen=True, slots=True)
class Schema:
    """What a collection holds: its named vectors, and the payload fields that filters may name."""

    vectors: tuple[VectorSpec, ...]
    fields: Mapping[str, Literal["keyword", "integer", "float"]]


@dataclass(frozen=True, slots=True)
class Range:
    """A closed interval; None leaves an end open."""

    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Where:
    """Which points count. Everything given must hold; nothing given holds for all.

    A tuple of values means any of them; an empty tuple, or empty `ids`, matches nothing.
    """

    match: Mapping[str, Value | tuple[Value, ...] | Range] = field(default_factory=dict)
    ids: frozenset[str] | None = None


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
        """Create the collection, or add what it lacks of `schema`; existing points stay as they are.

        Raises:
            UsageError: a vector of that name exists with another kind or size.
        """

    def upsert(self, points: Sequence[Point]) -> None:
        """Write points whole, replacing those of the same id. Durable when it returns.

        Raises:
            UsageError: a vector is not finite, has another size than declared, or an unknown name.
            OSError: the disk has no room (`errno.ENOSPC`); nothing of the batch was written.
        """

    def update(self, points: Sequence[Point]) -> None:
        """Set the payload keys and the vectors these points carry; their other keys and vectors stay. Durable.

        Vectors are written before payloads, so that a signature never vouches for a vector that is not there.
        Points that do not exist are passed over.

        Raises:
            UsageError, OSError: as `upsert`.
        """

    def delete(self, where: Where) -> None:
        """Remove the points that match. Durable."""

    def query(self, queries: Sequence[ListQuery]) -> list[list[Scored]]:
        """Answer several lists as one batch, in their order."""

    def retrieve(
        self, ids: Sequence[str], vectors: Sequence[str] = (), payload: bool | Sequence[str] = True
    ) -> list[Point]:
        """The points that exist among `ids`, in that order, with the named vectors."""

    def scroll(
        self, where: Where, vectors: Sequence[str] = (), payload: bool | Sequence[str] = True
    ) -> Iterator[Point]:
        """Every point that matches, by rising id; `payload` may name the keys wanted."""

    def count(self, where: Where) -> int:
        """How many points match, exactly."""

    def optimize(self) -> None:
        """Merge segments and build indexes; after points were replaced this also mends the IDF."""

    def size(self) -> Mapping[str, int]:
        """Bytes on disk by what they are for: `{"points": ..., "wal": ...}`."""

    def close(self) -> None:
        """Leave; what was written stays."""


MAX_ELEMENTS = 1_048_576
"""Numbers in one multivector that a Qdrant server takes (its `common/validation.rs`)."""


def check_points(points: Iterable[Point], schema: Schema) -> None:
    """Refuse what an engine would accept silently or die of.

    Raises:
        UsageError: naming the point, the vector, and both numbers where two differ.
    """
    specs = {spec.name: spec for spec in schema.vectors}
    for point in points:
        for name, vector in point.vectors.items():
            if name not in specs:
                raise UsageError(
                    f"point {point.id}: no vector {name!r} is declared; there are {sorted(specs)}"
                )
            if wrong := _wrong_vector(vector, specs[name]):
                raise UsageError(f"point {point.id}, vector {name!r}: {wrong}")


def _wrong_vector(vector: Vector, spec: VectorSpec) -> str | None:
    if isinstance(vector, SparseVector):
        if spec.kind != "sparse":
            return f"is sparse, {spec.kind} was declared"
        if len(vector.indices) != len(vector.values):
            return f"has {len(vector.indices)} indices and {len(vector.values)} values"
        if len(np.unique(vector.indices)) != len(vector.indices):
            return "has an index twice"
        return None if np.isfinite(vector.values).all() else "holds a number that is not finite"
    dimensions = {"dense": 1, "multi": 2}.get(spec.kind)
    if vector.ndim != dimensions:
        return f"has {vector.ndim} dimensions, a {spec.kind} vector was declared"
    if vector.shape[-1] != spec.size:
        return f"has size {vector.shape[-1]}, {spec.size} was declared"
    if not vector.size:
        return "is empty"
    if vector.size > MAX_ELEMENTS:
        return f"has {vector.size} numbers, {MAX_ELEMENTS} are allowed"
    return None if np.isfinite(vector).all() else "holds a number that is not finite"
