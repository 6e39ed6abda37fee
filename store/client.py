"""An embedded library as its users see it: the store's calls, answered by the library's worker."""

from __future__ import annotations

import fcntl
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

from pagelens import errors, wire
from pagelens.errors import LibraryBusy, UsageError
from pagelens.store.messages import decode, encode
from pagelens.store.plan import ListQuery, Point, Schema, Scored, Where, check_points
from pagelens.store.worker import READY, key, socket_path

SCROLL = 1000
"""Points in one message of a scroll."""


class EdgeStore:
    """The `Store` of an embedded library.

    Every call can be repeated, because ids are derived from content: when the worker was killed, a new one
    is started and the call made again. Safe to use from several threads.

    Args:
        folder: The library's.

    Raises:
        LibraryBusy: a process that does not answer holds the library.
        OSError: the disk is too full to open it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._schema = Schema((), {})
        self._lock = threading.Lock()
        self._connection: Connection | None = _connect(folder)

    def declare(self, schema: Schema) -> None:
        """See `Store`."""
        self._call("declare", schema)
        self._schema = schema

    def upsert(self, points: Sequence[Point]) -> None:
        """See `Store`."""
        check_points(points, self._schema)
        if points:
            self._call("upsert", list(points))

    def update(self, points: Sequence[Point]) -> None:
        """See `Store`."""
        check_points(points, self._schema)
        if points:
            self._call("update", list(points))

    def delete(self, where: Where) -> None:
        """See `Store`."""
        if not where.match and where.ids is None:
            raise UsageError("delete needs a condition; to delete everything remove the library's folder")
        self._call("delete", where)

    def query(self, queries: Sequence[ListQuery]) -> list[list[Scored]]:
        """See `Store`."""
        return self._call("query", list(queries)) if queries else []  # type: ignore[no-any-return]

    def retrieve(
        self, ids: Sequence[str], vectors: Sequence[str] = (), payload: bool | Sequence[str] = True
    ) -> list[Point]:
        """See `Store`."""
        return (
            self._call(
                "retrieve", list(ids), list(vectors), payload if isinstance(payload, bool) else list(payload)
            )
            if ids
            else []
        )  # type: ignore[no-any-return]

    def scroll(
        self, where: Where, vectors: Sequence[str] = (), payload: bool | Sequence[str] = True
    ) -> Iterator[Point]:
        """See `Store`."""
        keys = payload if isinstance(payload, bool) else list(payload)
        offset = None
        while True:
            points, offset = self._call("scroll_page", where, list(vectors), keys, offset, SCROLL)
            yield from points
            if offset is None:
                return

    def count(self, where: Where) -> int:
        """See `Store`."""
        return int(self._call("count", where))

    def optimize(self) -> None:
        """See `Store`."""
        self._call("optimize")

    def size(self) -> Mapping[str, int]:
        """See `Store`."""
        return self._call("size")  # type: ignore[no-any-return]

    def close(self) -> None:
        """See `Store`."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _call(self, name: str, *arguments: object) -> Any:
        message = encode([name, list(arguments)])
        with self._lock:
            if self._connection is None:
                raise UsageError(f"the library {self._folder} was closed; open it again")
            try:
                kind, value = self._exchange(message)
            except (EOFError, ConnectionError):  # the worker was killed
                self._connection.close()
                self._connection = _connect(self._folder)
                kind, value = self._exchange(message)
        if kind == "ok":
            return value
        if kind == "OSError":
            raise OSError(*value)
        raise getattr(errors, kind, RuntimeError)(value)

    def _exchange(self, message: bytes) -> Any:
        assert self._connection is not None
        self._connection.send_bytes(message)
        return decode(self._connection.recv_bytes())


def _connect(folder: Path) -> Connection:
    """Join the library's worker, or start it. One process at a time decides, so that one is started."""
    folder.mkdir(parents=True, exist_ok=True)
    address, secret = str(socket_path(folder)), key(folder)
    with (folder / "worker.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for _ in range(3):  # a worker may end between answering and being asked
            try:
                return Client(address, "AF_UNIX", authkey=secret)
            except (FileNotFoundError, ConnectionError, EOFError):
                _start(folder)
            except AuthenticationError as error:
                raise LibraryBusy(
                    f"the worker of {folder} refuses this library's key; end it and try again"
                ) from error
    raise LibraryBusy(f"the worker of {folder} ends as soon as it is started; try again")


def _start(folder: Path) -> None:
    worker = wire.start(
        "pagelens.store.worker",
        str(folder.resolve()),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C in the terminal is for its users
    )
    assert worker.stdout is not None
    with worker.stdout as out:
        line = out.readline()
    if line == READY:
        threading.Thread(target=worker.wait, daemon=True).start()  # no zombie when it ends before us
        return
    worker.wait()
    kind, _, rest = line.decode().strip().partition(" ")
    code, _, reason = rest.partition(" ")
    if kind == "OSError":
        raise OSError(int(code), reason)
    raise getattr(errors, kind, LibraryBusy)(
        reason or f"the worker of {folder} died with exit code {worker.returncode}"
    )
