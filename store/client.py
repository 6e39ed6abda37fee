"""An embedded library as its users see it: the store's calls, answered by the library's worker."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge
from pathlib import Path
from typing import IO, Any

from pagelens import errors, wire
from pagelens.errors import LibraryBusy, PagelensError, UsageError
from pagelens.store.meeting import MESSAGES, Address, meeting_place
from pagelens.store.plan import ListQuery, Point, Schema, Scored, Where

PATIENCE = 120.0
"""Seconds a worker may be silent: while Edge works it answers nobody, and merging 20,000 pages took 49."""
PATIENCE_TO_LEAVE = 20.0
"""Seconds for the worker to see a user off, the last one after it has let go of the folder."""
PATIENCE_TO_OPTIMIZE = 3600.0
"""Seconds for the one call that grows with the library."""
SCROLL = {False: 1000, True: 32}
"""Points in one message of a scroll, without and with vectors: a page's image vectors take 400 KB."""


class EdgeStore:
    """The `Store` of an embedded library.

    Every call can be repeated, because ids are derived from content: when the worker was killed, a new one
    is started and the call made again. Safe to use from several threads, and in a forked process.

    Args:
        folder: The library's; made when missing.

    Raises:
        LibraryBusy: a process that does not answer, or cannot be joined, has the library open.
        UsageError: the library cannot be written.
        OSError: the disk is too full to open it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._turn = threading.Lock()
        self._process = os.getpid()
        self._closed = False
        self._connection: Connection | None = _join(self._folder)

    def declare(self, schema: Schema) -> None:
        """See `Store`."""
        self._call("declare", schema)

    def drop(self, vectors: Sequence[str]) -> None:
        """See `Store`."""
        self._call("drop", list(vectors))

    def schema(self) -> Schema:
        """See `Store`."""
        declared: Schema = self._call("schema")
        return declared

    def upsert(self, points: Sequence[Point]) -> None:
        """See `Store`."""
        if points:
            self._call("upsert", list(points))

    def update(self, points: Sequence[Point]) -> None:
        """See `Store`."""
        if points:
            self._call("update", list(points))

    def strip(self, ids: Sequence[str], vectors: Sequence[str]) -> None:
        """See `Store`."""
        if ids and vectors:
            self._call("strip", list(ids), list(vectors))

    def delete(self, where: Where) -> None:
        """See `Store`."""
        self._call("delete", where)

    def query(self, queries: Sequence[ListQuery]) -> list[list[Scored]]:
        """See `Store`."""
        lists: list[list[Scored]] = self._call("query", list(queries)) if queries else []
        return lists

    def retrieve(
        self, ids: Sequence[str], vectors: Sequence[str] = (), payload: bool | Sequence[str] = True
    ) -> list[Point]:
        """See `Store`."""
        points: list[Point] = self._call("retrieve", list(ids), list(vectors), payload) if ids else []
        return points

    def scroll(
        self, where: Where, vectors: Sequence[str] = (), payload: bool | Sequence[str] = True
    ) -> Iterator[Point]:
        """See `Store`."""
        offset = None
        while True:
            points, offset = self._call(
                "scroll_page", where, list(vectors), payload, offset, SCROLL[bool(vectors)]
            )
            yield from points
            if offset is None:
                return

    def count(self, where: Where) -> int:
        """See `Store`."""
        return int(self._call("count", where))

    def optimize(self) -> None:
        """See `Store`."""
        self._call("optimize", patience=PATIENCE_TO_OPTIMIZE)

    def size(self) -> Mapping[str, int]:
        """See `Store`."""
        sizes: Mapping[str, int] = self._call("size")
        return sizes

    def close(self) -> None:
        """See `Store`."""
        with self._turn:
            self._closed = True
            connection, self._connection = self._connection, None
            if connection is not None:
                if self._process == os.getpid():  # else it is the parent's to say goodbye
                    _leave(connection)
                connection.close()

    def _call(self, name: str, *arguments: object, patience: float = PATIENCE) -> Any:
        message = MESSAGES.pack([name, list(arguments)])
        if self._process != os.getpid():  # forked: the connection is the parent's, and the lock may be held
            self._turn, self._connection, self._process = threading.Lock(), None, os.getpid()
        with self._turn:
            answer = self._ask(message, patience) or self._ask(message, patience)
        if answer is None:
            raise PagelensError(
                f"the worker of {self._folder} died twice of {name!r}: killed for memory, or a disk quota? "
                f"{meeting_place(self._folder) / 'log'} may say more"
            )
        return _value(answer)

    def _ask(self, message: bytes, patience: float) -> bytes | None:
        """The worker's answer; None when it died instead."""
        if self._closed:
            raise UsageError(f"the library {self._folder} was closed; open it again")
        connection, self._connection = self._connection or _join(self._folder), None
        try:
            with _talk(connection, self._folder, patience):
                connection.send_bytes(message)
                answer = connection.recv_bytes()
        except (EOFError, OSError):
            return None
        self._connection = connection
        return answer


def _join(folder: Path) -> Connection:
    """Join the library's worker, or start it. One process at a time decides, so that one is started."""
    try:
        lock = (meeting_place(folder) / "lock").open("w")
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise UsageError(
            f"{folder} cannot be written ({error.strerror}), as a library must; copy it to a place of yours"
        ) from error
    with lock:
        _take(lock, folder)
        # Where a worker dies of a disk that was too full to open the library, the next one can say so.
        connection = _connect(folder) or _start(folder) or _start(folder)
    if connection is None:
        log = meeting_place(folder) / "log"
        raise PagelensError(f"the worker of {folder} died while it started; {log} may say why")
    return connection


def _take(lock: IO[str], folder: Path) -> None:
    """Wait for whoever is joining just now."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > until:
                raise _silent(folder, PATIENCE) from error
            time.sleep(0.01)


def _connect(folder: Path) -> Connection | None:
    """None where no worker is that lets us in."""
    address = Address.of(folder)
    if address is None:
        return None
    with socket.socket(socket.AF_UNIX) as joining:
        joining.settimeout(PATIENCE)
        try:
            joining.connect(address.socket)
        except (FileNotFoundError, ConnectionError):  # it was killed
            return None
        connection = Connection(joining.detach())
    secret = bytes.fromhex(address.key)
    try:
        with _talk(connection, folder, PATIENCE):
            answer_challenge(connection, secret)
            deliver_challenge(connection, secret)
    except (EOFError, ConnectionError):  # its last user has just left
        return None
    except AuthenticationError as error:
        raise LibraryBusy(f"process {address.process} refuses the key of {folder}; end it") from error
    return connection


def _start(folder: Path) -> Connection | None:
    """None where the worker died of it."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(True)  # whatever `socket.setdefaulttimeout` was told
    connection, log = Connection(ours.detach()), meeting_place(folder) / "log"
    with theirs, log.open("wb") as output:
        worker = wire.start(
            "pagelens.store.worker",
            str(folder),
            str(theirs.fileno()),
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=output,  # never a user's: the worker may outlive whoever reads that
            stderr=output,
            start_new_session=True,  # Ctrl-C in a terminal is for the users
        )
    threading.Thread(target=worker.wait, daemon=True).start()  # no zombie when it ends before us
    try:
        with _talk(connection, folder, PATIENCE):
            _value(connection.recv_bytes())
    except (EOFError, ConnectionError):
        return None
    return connection


def _leave(connection: Connection) -> None:
    """Say goodbye, and wait for its answer: the last to leave may delete the folder."""
    with contextlib.suppress(OSError):
        with socket.socket(fileno=os.dup(connection.fileno())) as handle:
            handle.shutdown(socket.SHUT_WR)
        connection.poll(PATIENCE_TO_LEAVE)  # until it is closed at the other end


def _value(answer: bytes) -> Any:
    """What was answered, or the error that the engine raised."""
    kind, value = MESSAGES.unpack(answer)
    if kind == "ok":
        return value
    if kind == "OSError":
        raise OSError(*value)
    raise getattr(errors, kind, RuntimeError)(value)


@contextlib.contextmanager
def _talk(connection: Connection, folder: Path, patience: float) -> Iterator[None]:
    """Ask and be answered in time, or close: what was interrupted would leave its answer to the next call.

    The kernel keeps the time (`SO_RCVTIMEO` of socket(7)), so that a worker that stops inside a message is
    noticed too.
    """
    try:
        with socket.socket(fileno=os.dup(connection.fileno())) as handle:
            handle.setblocking(True)
            limit = struct.pack("ll", int(patience), int(patience % 1 * 1e6))
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        yield
    except BaseException as error:
        connection.close()
        if isinstance(error, BlockingIOError):
            raise _silent(folder, patience) from error
        raise


def _silent(folder: Path, patience: float) -> LibraryBusy:
    address = Address.of(folder)
    who = f"the worker of {folder}" + (f" (process {address.process})" if address else "")
    return LibraryBusy(
        f"{who} has been silent for {patience:.0f} s; it may be merging after an ingest: try later, or end it"
    )
