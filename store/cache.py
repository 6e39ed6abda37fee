"""Copies of files that lie far away."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

LIMIT = 10_000_000_000
"""Bytes that all copies may take."""
_DIGEST = hashlib.sha256().digest_size


class Cache:
    """Copies by name and version, those used least recently gone first.

    A copy is never out of date: of a file that changed, another version is asked for. What cannot be kept,
    because a disk is full or damaged, is fetched again.

    Args:
        folder: Made when missing; may be shared by several roots and processes.
        limit: Bytes.
    """

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self._folder, self._limit = folder, limit
        self._size: int | None = None

    @staticmethod
    def default() -> Cache:
        """In the user's own place for such things (XDG Base Directory Specification)."""
        home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
        return Cache(Path(home).expanduser() / "pagelens" / "pages")

    def get(self, name: str, version: str) -> bytes | None:
        """The copy; None when there is none, or a damaged one."""
        path = self._path(name, version)
        with contextlib.suppress(OSError):
            stored = path.read_bytes()
            data = stored[_DIGEST:]
            if hashlib.sha256(data).digest() == stored[:_DIGEST]:
                os.utime(path)
                return data
        return None

    def put(self, name: str, version: str, data: bytes) -> None:
        """Keep a copy, if there is room for it."""
        path = self._path(name, version)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            part.write_bytes(hashlib.sha256(data).digest() + data)
            part.replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()
            return
        if self._size is not None:
            self._size += len(data) + _DIGEST
        if self._size is None or self._size > self._limit:
            self._size = self._make_room()

    def _make_room(self) -> int:
        """Bytes that are left; a tenth more than needed goes, so that this is done seldom."""
        files = []
        for path in self._folder.glob("*/*"):
            with contextlib.suppress(FileNotFoundError):  # another process makes room too
                files.append((path.stat().st_mtime, path.stat().st_size, path))
        size = sum(each for _, each, _ in files)
        if size > self._limit:
            for _, each, path in sorted(files):
                path.unlink(missing_ok=True)
                size -= each
                if size <= 0.9 * self._limit:
                    break
        return size

    def _path(self, name: str, version: str) -> Path:
        key = hashlib.sha256(f"{name}\n{version}".encode()).hexdigest()
        return self._folder / key[:2] / key
