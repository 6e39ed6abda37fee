"""Page images and words, as files beside the points, on any fsspec root."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import json
import os
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec.core

from pagelens.errors import DocumentError, Missing, UsageError
from pagelens.records import Box, PageContent, PageText, StoredFile, Word
from pagelens.store.cache import Cache
from pagelens.store.far import Far

SCHEMA = 1
OWNER = "library.json"
"""At the root, where it lies apart from the points: whose page files these are."""
_KINDS = {".jpg": "image", ".words.json.gz": "words"}


class PageFiles:
    """`<root>/<2 hex>/<doc_id>/<number>.jpg`, `<number>.words.json.gz`, and what others keep of a page.

    A file is there whole or not at all. With its document all files of a page go.

    Args:
        root: A folder, or any URL that fsspec knows.
        cache: Where copies are kept of what lies in no folder; default: `Cache.default()`.

    Raises:
        UsageError: fsspec knows no such URL; or, by every call, its keys may not do that.
        Missing: it knows, and wants a package for it.
        LibraryBusy: by every call, it does not answer.
    """

    def __init__(self, root: str, cache: Cache | None = None) -> None:
        try:
            # Listings kept in memory would hide what another process wrote.
            self._fs, self._root = fsspec.core.url_to_fs(root, use_listings_cache=False)
        except ImportError as error:
            raise Missing(f"page files at {root}: {error}") from error
        except ValueError as error:
            raise UsageError(
                f"page files at {root}: {error}; name a folder, or a URL fsspec knows"
            ) from error
        self._local = "file" in self._fs.protocol
        self._cache = None
        if not self._local:
            self._fs, self._cache = Far(self._fs, root), cache or Cache.default()

    def write(self, content: PageContent) -> dict[str, str]:
        """Store the image and the words of a page; the SHA-256 of each, by the names `check` uses.

        Raises:
            OSError: the disk is full (`errno.ENOSPC`); what was there before still is.
        """
        page_id = content.page.page_id
        return {
            "image": self.put(page_id, ".jpg", content.jpeg),
            "words": self.put(page_id, ".words.json.gz", packed(content.text)),
        }

    def image(self, page_id: str) -> bytes:
        """The page image, JPEG.

        Raises:
            DocumentError: it is not there, or cut short.
        """
        data = self.get(page_id, ".jpg")
        if not (data.startswith(b"\xff\xd8") and data.endswith(b"\xff\xd9")):  # start and end of a JPEG
            raise _lost(page_id, "its image is damaged")
        return data

    def text(self, page_id: str) -> PageText:
        """The words of a page.

        Raises:
            DocumentError: they are not there, or damaged.
        """
        data = self.get(page_id, ".words.json.gz")
        try:
            record = json.loads(gzip.decompress(data))
            if record["schema"] != SCHEMA:
                raise ValueError(f"schema {record['schema']}, expected {SCHEMA}")
            words = tuple(Word(w[0], Box(*w[1:5]), w[5], w[6]) for w in record["words"])
            return PageText(words, record["source"])
        except (OSError, EOFError, zlib.error, ValueError, KeyError, IndexError, TypeError) as error:
            raise _lost(page_id, f"its words are damaged ({type(error).__name__}: {error})") from error

    def put(self, page_id: str, suffix: str, data: bytes) -> str:
        """Store a file of a page; its SHA-256.

        Raises:
            OSError: the disk is full (`errno.ENOSPC`); what was there before still is.
        """
        self._write(self._base(page_id) + suffix, data)
        return hashlib.sha256(data).hexdigest()

    def get(self, page_id: str, suffix: str) -> bytes:
        """The bytes of a file of a page.

        Raises:
            DocumentError: it is not there.
        """
        path = self._base(page_id) + suffix
        try:
            return self._read(path) if self._cache is None else self._copy(path, self._cache)
        except FileNotFoundError as error:
            raise _lost(page_id, f"its {_KINDS.get(suffix, suffix)} file is gone") from error

    def _read(self, path: str) -> bytes:
        data: bytes = self._fs.cat_file(path)
        return data

    def _copy(self, path: str, cache: Cache) -> bytes:
        """From the cache; one small question tells which version of the file is the one of now."""
        name, version = self._fs.unstrip_protocol(path), self._fs.ukey(path)
        data = cache.get(name, version)
        if data is None:
            data = self._read(path)
            if self._fs.ukey(path) == version:  # else it was replaced just now
                cache.put(name, version, data)
        return data

    def has(self, page_id: str, suffix: str) -> bool:
        """Whether a file of a page is there."""
        return bool(self._fs.exists(self._base(page_id) + suffix))

    def touch(self, page_id: str, suffix: str) -> None:
        """Say that a file was used now; object storage knows only when it was written."""
        if self._local:
            with contextlib.suppress(FileNotFoundError):
                os.utime(self._base(page_id) + suffix)

    def stored(self, suffix: str) -> Iterator[StoredFile]:
        """All files of pages that end so."""
        for path, info in self._find().items():
            if path.endswith(suffix):
                used = info.get("mtime", info.get("LastModified", 0.0))
                yield StoredFile(path, info["size"], used if isinstance(used, float) else used.timestamp())

    def unlink(self, path: str) -> None:
        """Remove one of `stored`."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(path)

    def words_file(self, page_id: str) -> bytes:
        """The bytes that `text` reads.

        Raises:
            DocumentError: they are not there.
        """
        return self.get(page_id, ".words.json.gz")

    def names(self) -> list[str]:
        """All files, below the root, as `01/0123456789abcdef/0.jpg`."""
        start = len(self._root) + 1
        return [path[start:] for path in self._find() if not path.endswith(".part")]

    def read(self, name: str) -> bytes:
        """The bytes of one of `names`, from where they lie and not from a copy."""
        return self._read(f"{self._root}/{name}")

    def write_file(self, name: str, data: bytes) -> None:
        """Store a file under one of another root's `names`.

        Raises:
            OSError: the disk is full (`errno.ENOSPC`); what was there before still is.
        """
        self._write(f"{self._root}/{name}", data)

    def documents(self) -> set[str]:
        """doc_ids that have files."""
        return {path.split("/")[-2] for path in self._find()}

    def delete(self, doc_id: str) -> None:
        """Remove the files of a document."""
        folder = self._base(f"{doc_id}#0").rpartition("/")[0]
        for path in self._fs.find(folder):  # not `rm`: to it a folder called `scans [2020]` is a pattern
            self._fs.rm_file(path)
        if self._local:
            with contextlib.suppress(FileNotFoundError):
                Path(folder).rmdir()

    def size(self) -> Mapping[str, int]:
        """Bytes by what they are."""
        sizes = {"images": 0, "words": 0, "features": 0}
        for file in self.stored(""):
            name = file.path.rpartition("/")[2]
            kind = "images" if ".jpg" in name else "words" if ".words" in name else "features"
            sizes[kind] += file.size
        return sizes

    def free(self) -> int | None:
        """Bytes left where the files go; None where that cannot be asked, as in object storage."""
        if not self._local:
            return None
        folder = Path(self._root)
        return shutil.disk_usage(next(each for each in [folder, *folder.parents] if each.exists())).free

    def check(self) -> None:
        """Ask whether files can be kept here.

        Raises:
            UsageError: there is no such bucket. None is made: it may be a slip, and has rules to be chosen.
            LibraryBusy: nobody answers.
        """
        bucket = self._root.partition("/")[0]  # nothing where paths begin with a slash
        if self._local or not bucket:
            return
        try:
            self._fs.info(bucket)  # `exists` would say no where nobody answers
        except FileNotFoundError as error:
            about = f"page files at {self._fs.unstrip_protocol(self._root)}: there is no {bucket}"
            raise UsageError(f"{about}; make it first, or correct its name") from error

    def owner(self) -> str | None:
        """The id of the library whose page files these are; None: of none yet.

        Raises:
            UsageError: what says so is damaged.
        """
        path = f"{self._root}/{OWNER}"
        try:
            return str(json.loads(self._read(path))["page_files"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{path} is damaged, which says whose page files these are; restore it from a backup"
            ) from error

    def claim(self) -> str:
        """Make these the page files of one library; the id that it keeps among its settings."""
        if (owner := self.owner()) is None:
            record = json.dumps({"page_files": uuid4().hex}) + "\n"
            self._write(f"{self._root}/{OWNER}", record.encode())
        return owner or self.claim()  # of two that claim at once the later is right for both

    def is_empty(self) -> bool:
        """Whether nothing lies here but what says whose page files these are."""
        start = self._root.rstrip("/")
        return all(
            f"{folder.rstrip('/')}/{name}" == f"{start}/{OWNER}"
            for folder, _, names in self._fs.walk(self._root)
            for name in names
        )

    def _find(self) -> dict[str, Any]:
        """All files of pages, by their paths."""
        found: dict[str, Any] = self._fs.find(self._root, detail=True)
        found.pop(f"{self._root}/{OWNER}", None)
        return found

    def _write(self, path: str, data: bytes) -> None:
        self._fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        if self._local:
            _write(Path(path), data)
        else:
            self._fs.pipe_file(path, data)  # object storage shows an object when it is whole

    def _base(self, page_id: str) -> str:
        match = re.fullmatch(r"([0-9a-f]{16})#(\d+)", page_id)
        if not match:
            raise UsageError(f"{page_id!r} is no page id; one looks like 0123456789abcdef#0")
        doc_id, number = match.groups()
        return f"{self._root}/{doc_id[:2]}/{doc_id}/{number}"


def packed(text: PageText) -> bytes:
    """The words of a page as their file holds them; the same words give the same bytes."""
    words = [[w.text, *(round(edge, 2) for edge in w.box), w.line, w.confidence] for w in text.words]
    record = {"schema": SCHEMA, "source": text.source, "words": words}
    return gzip.compress(json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode(), mtime=0)


def _write(path: Path, data: bytes) -> None:
    """On the disk before it has its name, and so before the point that tells of it: 1.2 ms were measured."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")  # two ingests may come upon the same page
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        if error.errno != errno.ENOSPC:
            raise
        cure = "free some space and run the same command again, it goes on where it stopped"
        raise OSError(errno.ENOSPC, f"{path}: no room for it; {cure}") from error


def _lost(page_id: str, what: str) -> DocumentError:
    doc_id, _, number = page_id.partition("#")
    cure = f"`pagelens remove {doc_id}`, then ingest its file again"
    return DocumentError("store", f"page {page_id}: {what}; {cure}", int(number))
