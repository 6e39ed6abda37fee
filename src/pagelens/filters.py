"""The filter of a question, in the words of the store."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import Any

from pagelens.errors import UsageError
from pagelens.store.plan import Point, Range, Store, Value, Where
from pagelens.things import known

KEYS = ("doc_id", "stem", "path", "page", "date", "language", "has")
PathsOf = Callable[[Point], Sequence[str]]
"""The absolute paths a document's point was seen under."""


def where(wanted: Mapping[str, Any], store: Store, paths_of: PathsOf, joined: Sequence[str] = ()) -> Where:
    """Which pages count.

    Args:
        wanted: As `records.Query.filter`.
        store: Knows the documents that `stem` and `path` are looked up among.
        paths_of: Gives their paths.
        joined: Names of metadata fields, which are keys too.

    Raises:
        UsageError: an unknown key, or a value that is no page number or date.
    """
    match: dict[str, Value | tuple[Value, ...] | Range] = {"kind": "page"}
    documents: list[set[str]] = []
    for key, value in wanted.items():
        values = [
            str(each) for each in (value if isinstance(value, list | tuple | set | frozenset) else [value])
        ]
        match key:
            case "doc_id":
                documents.append({*values})
            case "stem":
                documents.append(_documents(store, paths_of, values, _called))
            case "path":
                documents.append(_documents(store, paths_of, values, _matches))
            case "page":
                match["number"] = _pages(value)
            case "date":
                match["date"] = _days(value)
            case "language":
                match["language"] = tuple(values)
            case "has":
                match["has"] = tuple(known(values))
            case _ if key in joined:
                match[f"metadata.{key}"] = tuple(values)
            case _:
                raise UsageError(f"there is no filter {key!r}; choose from {', '.join([*KEYS, *joined])}")
    if documents:
        match["doc_id"] = tuple(sorted(documents[0].intersection(*documents[1:])))
    return Where(match)


def _documents(
    store: Store, paths_of: PathsOf, values: Sequence[str], holds: Callable[[str, str], bool]
) -> set[str]:
    """Of the documents, by the paths they were seen under."""
    points = store.scroll(Where({"kind": "document"}), payload=["doc_id", "files"])
    return {
        point.payload["doc_id"]
        for point in points
        if any(holds(path, value) for path in paths_of(point) for value in values)
    }


def _called(path: str, stem: str) -> bool:
    return PurePath(path).stem == stem


def _matches(path: str, glob: str) -> bool:
    """Whether a glob matches the absolute path, or what stands behind one of its slashes."""
    return fnmatchcase(path, glob) or fnmatchcase(path, f"*/{glob}")


def _pages(value: Any) -> Range:
    """Numbers from 0, both ends included; a page alone is both ends."""
    ends = _ends("page", value)
    try:
        low, high = (None if end is None else int(end) for end in ends)
    except (TypeError, ValueError) as error:
        raise UsageError(f"filter 'page' wants numbers from 1, as [3, 5]; it was given {value!r}") from error
    if (low is not None and low < 1) or (low is not None and high is not None and low > high):
        raise UsageError(f"filter 'page' wants [from, to] with 1 <= from <= to; it was given {value!r}")
    return Range(None if low is None else low - 1, None if high is None else high - 1)


def _days(value: Any) -> Range:
    """Seconds since 1970 of whole days in the local time zone, both included."""
    ends = _ends("date", value)
    try:
        low, high = (None if end is None else datetime.date.fromisoformat(str(end)) for end in ends)
        after = None if high is None else high + datetime.timedelta(days=1)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"filter 'date' wants days as 2024-03-31; it was given {value!r}") from error
    if low and high and low > high:
        raise UsageError(f"filter 'date' wants [from, to] with from <= to; it was given {value!r}")
    return Range(None if low is None else _midnight(low), None if after is None else _midnight(after) - 1e-3)


def _midnight(day: datetime.date) -> float:
    return datetime.datetime(day.year, day.month, day.day).timestamp()


def _ends(key: str, value: Any) -> tuple[Any, Any]:
    ends = value if isinstance(value, list | tuple) else [value, value]
    if len(ends) != 2:
        raise UsageError(f"filter {key!r} wants two ends, [from, to]; it was given {len(ends)} values")
    return ends[0], ends[1]
