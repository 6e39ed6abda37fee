"""Plain messages between our own processes: MessagePack, never pickle.

A helper process (the store's worker, the pool's readers) is a fresh interpreter started by module name,
not a fork: it inherits no model, no lock and no need for `if __name__ == "__main__"` in the user's script.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgpack
import numpy as np

_ARRAY = 1  # MessagePack extension code: a numpy array as (dtype, shape, bytes)


def pack(message: object) -> bytes:
    """Encode None, bool, numbers, str, bytes, lists, dicts and numpy arrays; tuples arrive as lists.

    >>> unpack(pack({"a": (1, None, "ä")}))
    {'a': [1, None, 'ä']}
    """
    packed: bytes = msgpack.packb(message, default=_encode)
    return packed


def unpack(data: bytes) -> Any:
    """Decode what `pack` made. Arrays are read-only views of the message."""
    return msgpack.unpackb(data, ext_hook=_decode, strict_map_key=False)


def _encode(value: object) -> Any:
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value)
        return msgpack.ExtType(_ARRAY, msgpack.packb((array.dtype.str, array.shape, array.tobytes())))
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"cannot send a {type(value).__name__} to another process")


def _decode(code: int, data: bytes) -> Any:
    if code != _ARRAY:
        raise ValueError(f"unknown MessagePack extension {code}")
    dtype, shape, buffer = msgpack.unpackb(data)
    return np.frombuffer(buffer, dtype=dtype).reshape(shape)


def start(module: str, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start `python -m module arguments` with this interpreter; `options` go to `subprocess.Popen`.

    `-P` keeps the working directory off the module path: a folder there that is called like a module of
    ours must not be imported instead.
    """
    return subprocess.Popen([sys.executable, "-P", "-m", module, *arguments], **options)
