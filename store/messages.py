"""The plan's records as plain messages, and back: what `wire` cannot carry is tagged with its type."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from pagelens import wire
from pagelens.records import SparseVector
from pagelens.store.plan import ListQuery, Point, Range, Schema, Scored, VectorSpec, Where

_TAG = "~"
_RECORDS = {
    each.__name__: each for each in (ListQuery, Point, Range, Schema, Scored, SparseVector, VectorSpec, Where)
}


def encode(message: object) -> bytes:
    """Records, tuples and frozen sets arrive as what they were; lists and dicts too."""
    return wire.pack(_plain(message))


def decode(data: bytes) -> Any:
    """What `encode` made."""
    return _record(wire.unpack(data))


def _plain(value: Any) -> Any:
    name = type(value).__name__
    if is_dataclass(value):
        return {_TAG: name, **{each.name: _plain(getattr(value, each.name)) for each in fields(value)}}
    if isinstance(value, tuple) and name in _RECORDS:
        return {_TAG: name, **{key: _plain(each) for key, each in value._asdict().items()}}  # type: ignore[attr-defined]
    if isinstance(value, tuple | frozenset):
        return {_TAG: name, "of": [_plain(each) for each in value]}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    return value


def _record(value: Any) -> Any:
    if isinstance(value, list):
        return [_record(each) for each in value]
    if not isinstance(value, dict):
        return value
    name = value.pop(_TAG, None)
    parts = {key: _record(each) for key, each in value.items()}
    if name is None:
        return parts
    if name == "tuple":
        return tuple(parts["of"])
    if name == "frozenset":
        return frozenset(parts["of"])
    return _RECORDS[name](**parts)
