"""Page images and words, as files beside the points, on any fsspec root."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Mapping

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

    def write(self, content: PageContent) -> None:
        """Store the image and the words of a page."""
        base = self._base(content.page.page_id)
        self._fs.makedirs(base.rpartition("/")[0], exist_ok=True)
        words = [
            [word.text, *(round(edge, 2) for edge in word.box), word.line, word.confidence]
            for word in content.text.words
        ]
        record = {"schema": SCHEMA, "source": content.text.source, "words": words}
        data = json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()
        self._put(f"{base}.jpg", content.jpeg)
        self._put(f"{base}.words.json.gz", gzip.compress(data, mtime=0))

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

    def _base(self, page_id: str) -> str:
        match = re.fullmatch(r"([0-9a-f]{16})#(\d+)", page_id)
        if not match:
            raise UsageError(f"{page_id!r} is no page id; one looks like 0123456789abcdef#0")
        doc_id, number = match.groups()
        return f"{self._root}/{doc_id[:2]}/{doc_id}/{number}"

    def _put(self, path: str, data: bytes) -> None:
        self._fs.pipe_file(f"{path}.part", data)
        self._fs.mv(f"{path}.part", path)

    def _get(self, page_id: str, suffix: str) -> bytes:
        try:
            data: bytes = self._fs.cat_file(self._base(page_id) + suffix)
        except FileNotFoundError as error:
            raise _lost(page_id, f"its {'image' if suffix == '.jpg' else 'words'} are gone") from error
        return data


def _lost(page_id: str, what: str) -> DocumentError:
    return DocumentError("store", f"page {page_id}: {what}; remove its document and ingest it again")
