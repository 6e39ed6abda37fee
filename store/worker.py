"""The process that owns an embedded library: `python -m pagelens.store.worker FOLDER`.

It serves every other process of this user over a local socket and ends with its last user, however that
one ended: the kernel closes the socket of a killed process too.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import signal
import stat
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Connection, Listener
from pathlib import Path

from pagelens import errors
from pagelens.errors import LibraryBusy
from pagelens.store.messages import decode, encode

FIRST_USER = 15.0
"""Seconds a worker waits for its first user: a client that started it and died must not leave it behind."""
HANDOVER = 20.0
"""Seconds to wait for an engine whose last owner is still closing."""
READY = b"ready\n"


def socket_path(folder: Path) -> Path:
    """Where the worker of a library listens.

    Not in the library: a socket's path is limited to about 107 bytes, and libraries sit deep.

    Raises:
        LibraryBusy: the directory for sockets belongs to somebody else.
    """
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    private = base / f"pagelens-{os.getuid()}"
    private.mkdir(mode=0o700, exist_ok=True)
    status = private.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise LibraryBusy(f"{private} is not a directory of yours alone; remove it, or set XDG_RUNTIME_DIR")
    return private / f"{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:24]}.sock"


def key(folder: Path) -> bytes:
    """The secret that users of a library share, made when missing, readable by its owner only."""
    path = folder / "worker.key"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_bytes()
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_bytes(32))
    return path.read_bytes()


class Worker:
    """Answers calls to one engine, a thread a user, one call at a time."""

    def __init__(self, folder: Path) -> None:
        self._engine = _own(folder / "points")
        self._lock = threading.Lock()
        self._users = 0
        self._done = threading.Event()
        address = socket_path(folder)
        address.unlink(missing_ok=True)  # of a worker that was killed
        self._listener = Listener(str(address), "AF_UNIX", backlog=64, authkey=key(folder))
        address.chmod(0o600)

    def run(self) -> None:
        """Serve until the last user has gone."""
        threading.Thread(target=self._accept, daemon=True).start()
        if not self._done.wait(FIRST_USER) and self._users == 0:
            self._done.set()
        self._done.wait()
        self._listener.close()  # from here on users start a new worker, which waits for the engine
        with self._lock:
            self._engine.close()

    def _accept(self) -> None:
        from multiprocessing import AuthenticationError

        while not self._done.is_set():
            try:
                connection = self._listener.accept()
            except (AuthenticationError, EOFError, ConnectionError):
                continue
            except OSError:
                return  # the listener was closed
            with self._lock:
                self._users += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        try:
            while True:
                name, arguments = decode(connection.recv_bytes())
                connection.send_bytes(encode(self._answer(name, arguments)))
        except (EOFError, ConnectionError):
            pass  # the user has gone
        finally:
            connection.close()
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._done.set()

    def _answer(self, name: str, arguments: list[object]) -> list[object]:
        try:
            with self._lock:
                return ["ok", getattr(self._engine, name)(*arguments)]
        except errors.PagelensError as error:
            return [type(error).__name__, str(error)]
        except OSError as error:
            return ["OSError", [error.errno, error.strerror]]
        except Exception as error:  # Edge's are bare; the user of the call decides
            return ["RuntimeError", f"{name}: {error}"]


def _own(folder: Path) -> object:
    """The engine, as soon as a worker that is just ending lets go of it."""
    from pagelens.store.edge import EdgeEngine

    until = time.monotonic() + HANDOVER
    while True:
        try:
            return EdgeEngine(folder)
        except LibraryBusy:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def main() -> None:
    """Own the library named on the command line; say `ready` or what is wrong on standard output."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = sys.stdout.buffer
    try:
        worker = Worker(Path(sys.argv[1]))
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else 0
        out.write(f"{type(error).__name__} {code or 0} {error}\n".encode())
        out.flush()
        sys.exit(1)
    out.write(READY)
    out.flush()
    os.close(1)
    worker.run()


if __name__ == "__main__":
    main()
