"""Page images and words, as files beside the points, on any fsspec root."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import fsspec.core

from pagelens.errors import DocumentError, UsageError
from pagelens.records import Box, PageContent, PageText, Word

SCHEMA = 1


class PageFiles:
    """`<root>/<2 hex>/<doc_id>/<number>.jpg` and `<number>.words.json.gz`.

    A file is there whole or not at all: it is written under another name, then renamed.

    Args:
        root: A folder, or any URL that fsspec knows.
    """

    def __init__(self, root: str) -> None:
        self._fs, self._root = fsspec.core.url_to_fs(root)

    def write(self, content: PageContent) -> dict[str, str]:
        """Store the image and the words of a page; the SHA-256 of each, by the names `check` uses."""
        base = self._base(content.page.page_id)
        self._fs.makedirs(base.rpartition("/")[0], exist_ok=True)
        return {
            "image": self._put(f"{base}.jpg", content.jpeg),
            "words": self._put(f"{base}.words.json.gz", packed(content.text)),
        }

    def image(self, page_id: str) -> bytes:
        """The page image, JPEG.

        Raises:
            DocumentError: it is not there.
        """
        return self._get(page_id, ".jpg")

    def text(self, page_id: str) -> PageText:
        """The words of a page.

        Raises:
            DocumentError: they are not there, or damaged.
        """
        data = self._get(page_id, ".words.json.gz")
        try:
            record = json.loads(gzip.decompress(data))
            words = tuple(Word(w[0], Box(*w[1:5]), w[5], w[6]) for w in record["words"])
            return PageText(words, record["source"])
        except (OSError, EOFError, ValueError, KeyError, IndexError, TypeError) as error:
            raise _lost(page_id, f"its words are damaged ({type(error).__name__})") from error

    def words_file(self, page_id: str) -> bytes:
        """The bytes that `text` reads.

        Raises:
            DocumentError: they are not there.
        """
        return self._get(page_id, ".words.json.gz")

    def documents(self) -> set[str]:
        """doc_ids that have a folder."""
        return {path.rpartition("/")[2] for path in self._fs.glob(f"{self._root}/??/*")}

    def exists(self, page_id: str) -> bool:
        """Whether image and words are both there."""
        base = self._base(page_id)
        return all(self._fs.exists(base + suffix) for suffix in (".jpg", ".words.json.gz"))

    def delete(self, doc_id: str) -> None:
        """Remove the files of a document."""
        folder = self._base(f"{doc_id}#0").rpartition("/")[0]
        if self._fs.exists(folder):
            self._fs.rm(folder, recursive=True)

    def size(self) -> Mapping[str, int]:
        """Bytes by what they are."""
        sizes = {"images": 0, "words": 0}
        if self._fs.exists(self._root):
            for path, info in self._fs.find(self._root, detail=True).items():
                sizes["images" if path.endswith(".jpg") else "words"] += info["size"]
        return sizes

    def free(self) -> int | None:
        """Bytes left where the files go; None where that cannot be asked, as in object storage."""
        if "file" not in self._fs.protocol:
            return None
        folder = Path(self._root)
        return shutil.disk_usage(next(each for each in [folder, *folder.parents] if each.exists())).free

    def _base(self, page_id: str) -> str:
        match = re.fullmatch(r"([0-9a-f]{16})#(\d+)", page_id)
        if not match:
            raise UsageError(f"{page_id!r} is no page id; one looks like 0123456789abcdef#0")
        doc_id, number = match.groups()
        return f"{self._root}/{doc_id[:2]}/{doc_id}/{number}"

    def _put(self, path: str, data: bytes) -> str:
        self._fs.pipe_file(f"{path}.part", data)
        self._fs.mv(f"{path}.part", path)
        return hashlib.sha256(data).hexdigest()

    def _get(self, page_id: str, suffix: str) -> bytes:
        try:
            data: bytes = self._fs.cat_file(self._base(page_id) + suffix)
        except FileNotFoundError as error:
            raise _lost(page_id, f"its {'image' if suffix == '.jpg' else 'words'} are gone") from error
        return data


def packed(text: PageText) -> bytes:
    """The words of a page as their file holds them; the same words give the same bytes."""
    words = [[w.text, *(round(edge, 2) for edge in w.box), w.line, w.confidence] for w in text.words]
    record = {"schema": SCHEMA, "source": text.source, "words": words}
    return gzip.compress(json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode(), mtime=0)


def _lost(page_id: str, what: str) -> DocumentError:
    return DocumentError("store", f"page {page_id}: {what}; remove its document and ingest it again")
