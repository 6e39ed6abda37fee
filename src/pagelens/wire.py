"""Plain messages between our own processes: MessagePack, never pickle.

A helper process (the store's worker, the pool's readers) is a fresh interpreter started by module name,
not a fork: it inherits no model, no lock and no need for `if __name__ == "__main__"` in the user's script.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import msgpack
import numpy as np


class Format:
    """Messages of None, bool, numbers, str, bytes, lists, dicts, tuples, frozen sets, arrays and records.

    What MessagePack does not know travels as a list behind a mark, an extension that nothing else makes; so
    no data can pass for a record, and no name in a message is ever looked up or called.

    Args:
        records: Dataclasses and named tuples that may travel; both ends name the same in the same order.

    >>> wire = Format()
    >>> wire.unpack(wire.pack({"a": [1, (None, "ä")], 2: frozenset({3})}))
    {'a': [1, (None, 'ä')], 2: frozenset({3})}
    """

    def __init__(self, *records: type) -> None:
        makers: dict[type, Callable[..., Any]] = {
            np.ndarray: _array,
            tuple: lambda *parts: parts,
            frozenset: lambda *parts: frozenset(parts),
        }
        makers |= {record: record for record in records}
        self._marks = [_Mark(make) for make in makers.values()]
        self._codes = {kind: msgpack.ExtType(code, b"") for code, kind in enumerate(makers)}
        self._fields = {each: [f.name for f in fields(each)] for each in records if is_dataclass(each)}

    def pack(self, message: object) -> bytes:
        """Encode.

        Raises:
            TypeError: it holds something of another type.
        """
        packed: bytes = msgpack.packb(message, default=self._encode, strict_types=True)
        return packed

    def unpack(self, data: bytes) -> Any:
        """Decode what `pack` made. Arrays are read-only views of the message.

        Raises:
            ValueError, TypeError: it is no such message.
        """
        return msgpack.unpackb(data, ext_hook=self._mark, list_hook=_decode, strict_map_key=False)

    def _encode(self, value: Any) -> Any:
        kind = type(value)
        if isinstance(value, np.ndarray):
            return [self._codes[np.ndarray], value.dtype.str, list(value.shape), value.tobytes()]
        if kind in self._fields:
            return [self._codes[kind], *(getattr(value, name) for name in self._fields[kind])]
        if kind in self._codes:
            return [self._codes[kind], *value]
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, Mapping):
            return dict(value)
        raise TypeError(f"cannot send a {kind.__name__} to another process")

    def _mark(self, code: int, data: bytes) -> _Mark:
        if not 0 <= code < len(self._marks):
            raise ValueError(f"unknown MessagePack extension {code}")
        return self._marks[code]


@dataclass(frozen=True, slots=True)
class _Mark:
    """Stands first in a list that was something else."""

    make: Callable[..., Any]


def _decode(parts: list[Any]) -> Any:
    return parts[0].make(*parts[1:]) if parts and type(parts[0]) is _Mark else parts


def _array(dtype: str, shape: list[int], data: bytes) -> np.ndarray:
    return np.frombuffer(data, dtype=dtype).reshape(shape)


_PLAIN = Format()
pack = _PLAIN.pack
unpack = _PLAIN.unpack


def start(module: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start `python -m module arguments` with this interpreter; `options` go to `subprocess.Popen`.

    `-P` keeps the working directory off the module path: a folder there that is called like a module of
    ours must not be imported instead.
    """
    return subprocess.Popen([sys.executable, "-P", "-m", module, *arguments], **options)
