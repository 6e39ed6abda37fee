"""The process that owns an embedded library: `python -m pagelens.store.worker FOLDER DESCRIPTOR`.

Edge keeps the interpreter lock during its calls, lets one process open a folder, and dies when the disk is
full; so it lives here, and whoever uses the library talks to it. The client that starts a worker is its
first user, over a socket it inherits; others join through the socket that `worker/address.json` names.
The worker ends with its last user, however that one ended: the kernel closes a killed process's sockets too.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator
from multiprocessing import AuthenticationError
from multiprocessing.connection import Connection, Listener, answer_challenge, deliver_challenge
from pathlib import Path
from typing import IO

from pagelens.errors import LibraryBusy, PagelensError, UsageError
from pagelens.store.edge import EdgeEngine, open_elsewhere
from pagelens.store.meeting import MESSAGES, Address, meeting_place

CALLS = frozenset(
    {
        *("declare", "drop", "schema", "upsert", "update", "strip", "delete"),
        *("query", "retrieve", "scroll_page", "count", "optimize", "size"),
    }
)
"""Methods of the engine that a user may call."""
HANDOVER = 20.0
"""Seconds to wait for an engine whose last owner is still closing."""
SOCKET_PATH = 100
"""Bytes a socket's path may have: 104 on macOS, 108 on Linux."""


class Worker:
    """Answers calls to one engine, a thread a user, one call at a time.

    Args:
        folder: The library's, absolute.

    Raises:
        LibraryBusy: a process that cannot be joined has the library open.
        OSError: the disk is too full to open it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock, self._engine = _own(folder)
        self._key = secrets.token_bytes(32)
        self._turn = threading.Lock()
        self._users = 0
        self._ended = False
        self._left = threading.Condition()

    def run(self, first: Connection) -> None:
        """Serve until the last user has gone."""
        with self._listen() as listener:
            threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
            with self._user():
                with contextlib.suppress(OSError):  # it was killed; others may be in by now
                    first.send_bytes(MESSAGES.pack(["ok", None]))
                self._serve(first)
            with self._left:
                if self._users:
                    first.close()
                self._left.wait_for(lambda: self._users == 0)
                self._ended = True
        self._engine.close()  # last: the next worker waits for it
        self._lock.close()

    @contextlib.contextmanager
    def _listen(self) -> Iterator[Listener]:
        """A socket for the owner alone, and the file that says where it is.

        The socket is not in the library: its path must be short, and libraries sit deep, or on file systems
        that have no sockets.
        """
        _sweep(self._folder)
        base = tempfile.gettempdir()
        if len(os.fsencode(f"{base}/pagelens-12345678/socket")) > SOCKET_PATH:
            base = "/tmp"
        with (
            tempfile.TemporaryDirectory(prefix="pagelens-", dir=base) as private,  # mode 700
            Listener(f"{private}/socket", "AF_UNIX", backlog=64) as listener,
        ):
            address = Address(str(self._folder), f"{private}/socket", self._key.hex(), os.getpid())
            address.write()
            try:
                yield listener
            finally:
                address.remove()

    def _accept(self, listener: Listener) -> None:
        while True:
            try:
                connection = listener.accept()
            except OSError:  # too many open files; or it was closed, and the process is about to end
                time.sleep(0.1)
            else:
                threading.Thread(target=self._admit, args=(connection,), daemon=True).start()

    def _admit(self, connection: Connection) -> None:
        """Let in who has the key. Counted before it is answered: who is in finds the worker alive."""
        with connection, contextlib.suppress(AuthenticationError, EOFError, OSError):
            deliver_challenge(connection, self._key)
            with self._user():
                answer_challenge(connection, self._key)
                self._serve(connection)
            # A closed connection tells a user that all is done: the last one's closes with the process.
            with self._left:
                self._left.wait_for(lambda: self._users > 0)

    @contextlib.contextmanager
    def _user(self) -> Iterator[None]:
        with self._left:
            if self._ended:
                raise EOFError
            self._users += 1
            self._left.notify_all()
        try:
            yield
        finally:
            with self._left:
                self._users -= 1
                self._left.notify_all()

    def _serve(self, connection: Connection) -> None:
        with contextlib.suppress(EOFError, OSError):  # the user has gone
            while True:
                connection.send_bytes(self._answer(connection.recv_bytes()))

    def _answer(self, message: bytes) -> bytes:
        """What the engine says, or the error that the client raises."""
        try:
            name, arguments = MESSAGES.unpack(message)
            if name not in CALLS:
                raise UsageError(f"a store has no call {name!r}")
            with self._turn:
                return MESSAGES.pack(["ok", getattr(self._engine, name)(*arguments)])
        except Exception as error:
            return MESSAGES.pack(_told(error))


def _told(error: Exception) -> list[object]:
    """An error as the client can raise it again; what nobody expected goes to the log in full."""
    match error:
        case PagelensError():
            return [type(error).__name__, str(error)]
        case OSError(errno=int() as code, filename=None):
            return ["OSError", [code, error.strerror]]
        case OSError(errno=int() as code):
            return ["OSError", [code, f"{error.filename}: {error.strerror}"]]
        case _:
            traceback.print_exception(error)
            sys.stderr.flush()
            return ["RuntimeError", f"{type(error).__name__}: {error}"]


def _own(folder: Path) -> tuple[IO[str], EdgeEngine]:
    """The engine, as soon as a worker that is just ending lets go of it, and the lock that makes it ours.

    Edge's own lock is not enough: it comes after a new shard's first files, and who loads the shard meanwhile
    takes what is half made for refuse and removes it.
    """
    lock = (meeting_place(folder) / "owner").open("w")
    until = time.monotonic() + HANDOVER
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return lock, EdgeEngine(folder / "points")
        except (BlockingIOError, LibraryBusy) as error:
            if time.monotonic() > until:
                lock.close()
                raise open_elsewhere(folder) from error
            time.sleep(0.05)


def _sweep(folder: Path) -> None:
    """Remove the socket that a killed worker of this library left, and the folder made for it."""
    if left := Address.of(folder):
        socket = Path(left.socket)
        with contextlib.suppress(OSError):
            socket.unlink()
            socket.parent.rmdir()


def main() -> None:
    """Own the library, or tell the first user what is in the way."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder, first = Path(sys.argv[1]), Connection(int(sys.argv[2]))
    if first.poll():  # who started it has said nothing yet, so it was killed
        return
    try:
        Worker(folder).run(first)
    except Exception as error:
        with contextlib.suppress(OSError):
            first.send_bytes(MESSAGES.pack(_told(error)))


if __name__ == "__main__":
    main()
