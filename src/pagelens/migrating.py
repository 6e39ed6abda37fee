"""A library copied from one place to another, with its vectors: nothing is read or encoded again.

Each batch is written and read back before the next, and what is there already is only compared; so a copy
that was killed goes on where it stopped. The settings say first that this is an unfinished copy, which nobody
can open, and what they are last.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pagelens.errors import PagelensError, UsageError
from pagelens.places import Place
from pagelens.records import SparseVector
from pagelens.settings import being_copied, is_whole
from pagelens.store.pages import PageFiles
from pagelens.store.plan import Point, Storage, Store, Vector, Where
from pagelens.store.points import SETTINGS
from pagelens.wording import counted

BATCH = 64
"""Points read, written and compared together."""
TOLERANCE: dict[Storage, float] = {"float32": 1e-6, "float16": 2e-3, "turbo8": 5e-2}
"""How far a number of a row of length 1 may be off: both places round, each by its own way of keeping it."""


@dataclass(slots=True)
class Migrated:
    """What a copy took; those that were there already are counted too."""

    points: int = 0
    points_written: int = 0
    files: int = 0
    files_written: int = 0
    bytes: int = 0
    """Of the page files."""
    digest: str = ""
    """SHA-256 over the names and SHA-256 of all page files, the same for both places."""


def migrate(
    source: Place, target: Place, progress: Callable[[int, int, str], None] = lambda *_: None
) -> Migrated:
    """Copy a library: page files, points with vectors, settings; run it again if it was stopped.

    Args:
        source: Left as it is. Nobody should write to it meanwhile.
        target: Made when missing, and else an unfinished or finished copy of the same library.
        progress: Told what is done, of how many, and of what, after every batch.

    Raises:
        UsageError: there is no library at `source`, or another one at `target`.
        PagelensError: what was read back is not what was written, or the counts differ.
        LibraryBusy: one of them does not answer.
        OSError: the target is full.
    """
    if source == target:
        raise UsageError(f"{source} is both the source and the target")
    if not source.exists():
        raise UsageError(f"there is no library at {source}")
    before, pages_before = source.open()
    try:
        settings = before.retrieve([SETTINGS])
        if not settings:
            raise UsageError(f"{source} is empty; there is nothing to copy")
        if not is_whole(settings[0]):
            raise UsageError(f"{source} is itself an unfinished copy; run its own migration again first")
        after, pages_after = target.open()
        try:
            after.declare(before.schema())
            _check_target(settings[0], before, after, target)
            names, there = sorted(pages_before.names()), set(pages_after.names())
            if strangers := there.difference(names):
                raise UsageError(
                    f"{len(strangers)} page files are at the target alone, such as {min(strangers)}: it is "
                    "another library, or one that was changed since; name another target"
                )
            own = pages_after.claim() if target.folder is None else None
            after.upsert([being_copied(own)])
            done = Migrated()
            _copy_files(pages_before, pages_after, names, there, done, progress)
            _copy_points(before, after, done, progress)
            _check_counts(before, after, target)
            after.upsert([Point(SETTINGS, {**settings[0].payload, "page_files": own})])
            after.optimize()
        finally:
            after.close()
    finally:
        before.close()
    return done


def _check_target(settings: Point, before: Store, after: Store, target: Place) -> None:
    """Another library is not written over, nor mixed with this one."""
    cure = "name another target, or empty that one first"
    there = after.retrieve([SETTINGS])
    made = ("signatures", "languages", "ocr", "profile")
    for each in filter(is_whole, there):
        if any(each.payload.get(key) != settings.payload.get(key) for key in made):
            raise UsageError(f"{target} is a library made otherwise; {cure}")
    own, others = ({each.id for each in store.scroll(Where(), payload=[])} for store in (before, after))
    if strangers := others - own:
        raise UsageError(f"{target} holds {counted(len(strangers), 'point')} of another library; {cure}")


def _copy_files(
    before: PageFiles,
    after: PageFiles,
    names: Sequence[str],
    there: Collection[str],
    done: Migrated,
    progress: Callable[[int, int, str], None],
) -> None:
    digests = hashlib.sha256()
    for name in names:
        data = before.read(name)
        digest = hashlib.sha256(data).hexdigest()
        if name not in there or hashlib.sha256(after.read(name)).hexdigest() != digest:
            after.write_file(name, data)
            done.files_written += 1
            if hashlib.sha256(after.read(name)).hexdigest() != digest:
                raise PagelensError(f"page file {name} was read back otherwise than written; try again")
        digests.update(f"{digest}  {name}\n".encode())
        done.files += 1
        done.bytes += len(data)
        progress(done.files, len(names), "page files")
    done.digest = digests.hexdigest()


def _copy_points(
    before: Store, after: Store, done: Migrated, progress: Callable[[int, int, str], None]
) -> None:
    total = before.count(Where())
    storage = {spec.name: spec.storage for spec in before.schema().vectors}
    vectors = list(storage)
    for batch in _batches(before.scroll(Where(), vectors)):
        points = [point for point in batch if point.id != SETTINGS]
        lacking = _unlike(points, after, storage)
        after.upsert(lacking)
        if wrong := _unlike(lacking, after, storage):
            raise PagelensError(f"point {wrong[0].id} was read back otherwise than written; try again")
        done.points += len(batch)
        done.points_written += len(lacking)
        progress(done.points, total, "points")


def _check_counts(before: Store, after: Store, target: Place) -> None:
    expected, found = (
        each.count(Where()) - len(each.retrieve([SETTINGS], payload=[])) for each in (before, after)
    )
    if expected != found:
        raise PagelensError(
            f"{target} has {found} points and not {expected}: one of the two was written to meanwhile, or "
            "the target held others; copy again, to a new target if need be"
        )


def _unlike(points: Iterable[Point], after: Store, storage: dict[str, Storage]) -> list[Point]:
    """Those that are not there, or not the same there."""
    points = list(points)
    there = {point.id: point for point in after.retrieve([each.id for each in points], list(storage))}
    return [point for point in points if not _same(point, there.get(point.id), storage)]


def _same(point: Point, other: Point | None, storage: dict[str, Storage]) -> bool:
    return (
        other is not None
        and point.payload == other.payload
        and point.vectors.keys() == other.vectors.keys()
        and all(
            _alike(vector, other.vectors[name], TOLERANCE[storage[name]])
            for name, vector in point.vectors.items()
        )
    )


def _alike(vector: Vector, other: Vector, tolerance: float) -> bool:
    if isinstance(vector, SparseVector) or isinstance(other, SparseVector):
        return _weights(vector) == _weights(other)
    return vector.shape == other.shape and bool(np.allclose(vector, other, rtol=0, atol=tolerance))


def _weights(vector: Vector) -> dict[int, float] | None:
    """By term: the order of terms is an engine's own."""
    if not isinstance(vector, SparseVector):
        return None
    return dict(zip(vector.indices.tolist(), vector.values.astype(np.float32).tolist(), strict=True))


def _batches(points: Iterator[Point]) -> Iterator[list[Point]]:
    while batch := list(itertools.islice(points, BATCH)):
        yield batch
