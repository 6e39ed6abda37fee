"""Plain messages between our own processes: MessagePack, never pickle.

A helper process (the store's worker, the pool's readers) is a fresh interpreter started by module name,
not a fork: it inherits no model, no lock and no need for `if __name__ == "__main__"` in the user's script.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import msgpack
import numpy as np

_ARRAY = 1  # MessagePack extension code: a numpy array as (dtype, shape, bytes); records follow


class Format:
    """Messages of None, bool, numbers, str, bytes, lists, dicts, tuples, frozen sets, arrays and records.

    Nothing else is ever made of a message: no name in it is looked up or called.

    Args:
        records: Dataclasses and named tuples that may travel; both ends name the same in the same order.

    >>> wire = Format()
    >>> wire.unpack(wire.pack({"a": [1, (None, "ä")], 2: frozenset({3})}))
    {'a': [1, (None, 'ä')], 2: frozenset({3})}
    """

    def __init__(self, *records: type) -> None:
        self._types = dict(enumerate((tuple, frozenset, *records), start=_ARRAY + 1))
        self._codes = {each: code for code, each in self._types.items()}
        self._fields = {
            each: [field.name for field in fields(each)] for each in records if is_dataclass(each)
        }

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
            ValueError: it is no such message.
        """
        return msgpack.unpackb(data, ext_hook=self._decode, strict_map_key=False)

    def _encode(self, value: Any) -> Any:
        kind = type(value)
        if kind in self._codes:
            names = self._fields.get(kind)
            parts = list(value) if names is None else [getattr(value, name) for name in names]
            return msgpack.ExtType(self._codes[kind], self.pack(parts))
        if isinstance(value, np.ndarray):
            return msgpack.ExtType(_ARRAY, msgpack.packb((value.dtype.str, value.shape, value.tobytes())))
        if isinstance(value, np.generic):
            return value.item()
        if isinstance(value, Mapping):
            return dict(value)
        raise TypeError(f"cannot send a {kind.__name__} to another process")

    def _decode(self, code: int, data: bytes) -> Any:
        if code == _ARRAY:
            dtype, shape, buffer = msgpack.unpackb(data)
            return np.frombuffer(buffer, dtype=dtype).reshape(shape)
        if code not in self._types:
            raise ValueError(f"unknown MessagePack extension {code}")
        kind, parts = self._types[code], self.unpack(data)
        return kind(parts) if kind in (tuple, frozenset) else kind(*parts)


_PLAIN = Format()
pack = _PLAIN.pack
unpack = _PLAIN.unpack


def start(module: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start `python -m module arguments` with this interpreter; `options` go to `subprocess.Popen`.

    `-P` keeps the working directory off the module path: a folder there that is called like a module of
    ours must not be imported instead.
    """
    return subprocess.Popen([sys.executable, "-P", "-m", module, *arguments], **options)
