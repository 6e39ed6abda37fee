"""The ingest path, top to bottom: files, documents, pages, vectors, points.

The store is the ledger. A page's files are written before its point, and a document is marked whole after
the last of its pages: whatever is there is whole, and after any crash the next ingest goes on from there.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from pagelens.errors import DocumentError
from pagelens.ingest.pool import Answer, ReaderPool, Task
from pagelens.ingest.sources import Source
from pagelens.records import Document, PageContent, SparseVector
from pagelens.store.pages import PageFiles
from pagelens.store.plan import Point, Store, Vector, Where
from pagelens.store.points import (
    SeenFile,
    document_payload,
    failure_payload,
    files_of,
    page_payload,
    page_point_id,
    point_id,
)
from pagelens.words import language_of

BATCH = 16
"""Pages encoded and written together: flushing costs about 2 ms a page then, 10 ms one by one."""


class SparseEncoder(Protocol):
    """Text to a sparse vector."""

    languages: tuple[str, ...]

    def encode(self, text: str) -> SparseVector | None: ...


class TextEncoder(Protocol):
    """Texts to a matrix each."""

    def encode_pages(self, texts: Sequence[str]) -> list[np.ndarray | None]: ...


@dataclass(frozen=True, slots=True)
class Failure:
    """A file or page that could not be read."""

    path: str
    """Absolute."""
    page: int | None
    """From 1; None: the whole file."""
    stage: str
    reason: str


@dataclass(slots=True)
class Report:
    """What an ingest did; counts are of files."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    failed: list[Failure] = field(default_factory=list)
    pages: int = 0
    """Pages read."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an ingest is."""

    done: int
    """Pages, failed ones too."""
    total: int
    """Pages known of; grows while files are opened."""
    files_left: int
    """Not opened yet."""
    failed: int


@dataclass(slots=True)
class _Job:
    """A document whose pages are being read."""

    document: Document
    file: SeenFile
    left: int
    failed: bool = False


class Ingest:
    """One run.

    Args:
        store: Declared with the vectors that the encoders make.
        files: Where page files go.
        sparse: BM25 of pages and documents.
        text: Windows of pages; None for words alone.
        signatures: What each artefact is made with; a document with others is read again.
        root_of: Folder named by the user -> name of the library's root.
        progress: Called after every page.
    """

    def __init__(
        self,
        store: Store,
        files: PageFiles,
        sparse: SparseEncoder,
        text: TextEncoder | None,
        signatures: Mapping[str, str],
        root_of: Callable[[Path], tuple[str, Path]],
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._store, self._files, self._sparse, self._text = store, files, sparse, text
        self._signatures = dict(signatures)
        self._root_of = root_of
        self._progress = progress or (lambda _: None)
        self._report = Report()
        self._jobs: dict[Path, _Job] = {}
        self._batch: list[tuple[Path, PageContent]] = []
        self._done = self._total = 0
        self._replaced = False

    def run(self, sources: Sequence[Source], pool: ReaderPool) -> Report:
        """Bring the library up to date with `sources`."""
        started = time.monotonic()
        known = self._known()
        seen = {source.path: self._seen(source) for source in sources}
        tasks: deque[Task] = deque()
        for path, file in seen.items():
            if known.get((file.root, file.path), (None, ""))[0] == file:
                self._report.unchanged += 1
            else:
                tasks.append(Task(path))
        while tasks or pool.busy:
            while tasks and pool.room:
                pool.submit(tasks.popleft())
            answer = pool.take()
            path = answer.task.path
            match answer.result:
                case Document() as document:
                    tasks.extendleft(reversed(self._open(path, seen[path], document, known)))
                case PageContent() as content:
                    self._batch.append((path, content))
                    self._done += 1
                case DocumentError() as error:
                    self._fail(path, seen[path], error)
            if len(self._batch) >= BATCH or not (pool.busy or tasks):
                self._write()
            files_left = sum(task.number is None for task in tasks)
            self._progress(Progress(self._done, self._total, files_left, len(self._report.failed)))
        if self._replaced:
            self._store.optimize()  # replaced points skew the document frequencies until then
        self._report.seconds = time.monotonic() - started
        return self._report

    def _known(self) -> dict[tuple[str, str], tuple[SeenFile, str]]:
        """Files of whole documents made with today's signatures, and their doc_id."""
        documents = self._store.scroll(Where({"kind": "document"}))
        return {
            (file.root, file.path): (file, point.payload["doc_id"])
            for point in documents
            if point.payload["whole"] and point.payload["signatures"] == self._signatures
            for file in files_of(point.payload)
        }

    def _seen(self, source: Source) -> SeenFile:
        name, folder = self._root_of(source.root)
        return SeenFile(name, source.path.relative_to(folder).as_posix(), source.size, source.mtime_ns)

    def _open(
        self,
        path: Path,
        file: SeenFile,
        document: Document,
        known: Mapping[tuple[str, str], tuple[SeenFile, str]],
    ) -> list[Task]:
        """Note the file's document; the tasks of its pages that are not stored yet."""
        before = known.get((file.root, file.path))
        if before and before[1] != document.doc_id:
            self._forget(before[1], file)
            self._report.changed += 1
        self._store.delete(Where(ids=frozenset({point_id("failure", file.root, file.path)})))
        stored = self._store.retrieve([point_id("document", document.doc_id)])
        names = files_of(stored[0].payload) if stored else []
        names = [each for each in names if (each.root, each.path) != (file.root, file.path)] + [file]
        current = bool(stored) and stored[0].payload["signatures"] == self._signatures
        if stored and current and stored[0].payload["whole"]:
            self._store.update(
                [Point(stored[0].id, document_payload(document, names, self._signatures, True))]
            )
            self._report.unchanged += not before
            return []
        if not (before and before[1] != document.doc_id):
            self._report.added += 1
        if any(job.document == document for job in self._jobs.values()):
            return self._second_name(document, names)
        self._upsert_document(document, names, None, whole=False)
        present = {point.id: point.payload["signatures"] for point in self._pages(document, ["signatures"])}
        missing = [
            number
            for number in range(document.pages)
            if present.get(page_point_id(f"{document.doc_id}#{number}")) != self._signatures
        ]
        self._replaced |= any(page_point_id(f"{document.doc_id}#{number}") in present for number in missing)
        self._total += len(missing)
        self._jobs[path] = _Job(document, file, len(missing))
        if not missing:
            self._finish(path)
        return [Task(path, number) for number in missing]

    def _second_name(self, document: Document, names: list[SeenFile]) -> list[Task]:
        """The same content under another name while the first is being read: only the name is noted."""
        self._upsert_document(document, names, None, whole=False)
        self._report.added -= 1
        self._report.unchanged += 1
        return []

    def _write(self) -> None:
        """Store a batch: files, then points, then the documents that are whole by it."""
        contents = [content for _, content in self._batch]
        texts = [content.text.text for content in contents]
        matrices = self._text.encode_pages(texts) if self._text else [None] * len(texts)
        points = []
        for (path, content), text, matrix in zip(self._batch, texts, matrices, strict=True):
            self._files.write(content)
            vectors: dict[str, Vector] = {}
            if (bm25 := self._sparse.encode(text)) is not None:
                vectors["bm25"] = bm25
            if matrix is not None:
                vectors["text"] = matrix
            date = self._jobs[path].file.mtime_ns / 1e9
            language = language_of(text, self._sparse.languages)
            payload = page_payload(content.page, content.text, language, date, self._signatures)
            points.append(Point(page_point_id(content.page.page_id), payload, vectors))
        self._store.upsert(points)
        self._report.pages += len(points)
        paths = [path for path, _ in self._batch]
        self._batch = []
        for path in paths:
            self._page_done(path)

    def _page_done(self, path: Path) -> None:
        job = self._jobs[path]
        job.left -= 1
        if job.left == 0:
            self._finish(path)

    def _finish(self, path: Path) -> None:
        """Every page has its point or its failure: give the document its own vector, and mark it whole."""
        job = self._jobs.pop(path)
        pages = sorted(
            self._pages(job.document, ["number", "text"]), key=lambda point: point.payload["number"]
        )
        vector = self._sparse.encode("\n".join(point.payload["text"] for point in pages))
        stored = self._store.retrieve([point_id("document", job.document.doc_id)])
        # A page that failed is tried again by the next ingest.
        self._upsert_document(job.document, files_of(stored[0].payload), vector, whole=not job.failed)

    def _upsert_document(
        self, document: Document, names: list[SeenFile], vector: SparseVector | None, whole: bool
    ) -> None:
        payload = document_payload(document, names, self._signatures, whole)
        vectors: dict[str, Vector] = {} if vector is None else {"document_bm25": vector}
        self._store.upsert([Point(point_id("document", document.doc_id), payload, vectors)])

    def _pages(self, document: Document, keys: list[str]) -> Sequence[Point]:
        return list(self._store.scroll(Where({"kind": "page", "doc_id": document.doc_id}), payload=keys))

    def _fail(self, path: Path, file: SeenFile, error: DocumentError) -> None:
        """Record a failure; the rest goes on."""
        job = self._jobs.get(path)
        doc_id = job.document.doc_id if job else None
        payload = failure_payload(file, doc_id, error.page, error.stage, error.reason)
        parts = [file.root, file.path] + ([] if error.page is None else [error.page])
        self._store.upsert([Point(point_id("failure", *parts), payload)])
        page = None if error.page is None else error.page + 1
        self._report.failed.append(Failure(str(path), page, error.stage, error.reason))
        if job and error.page is not None:
            job.failed = True
            self._done += 1
            self._page_done(path)

    def _forget(self, doc_id: str, file: SeenFile) -> None:
        """Take a name from a document, and remove the document with its last name."""
        stored = self._store.retrieve([point_id("document", doc_id)])
        names = [n for n in files_of(stored[0].payload) if (n.root, n.path) != (file.root, file.path)]
        if names:
            self._store.update([Point(stored[0].id, {"files": document_files(names)})])
        else:
            remove_document(self._store, self._files, doc_id)
            self._replaced = True


def document_files(names: list[SeenFile]) -> list[dict[str, Any]]:
    """Names as a payload holds them."""
    from dataclasses import asdict

    return [asdict(each) for each in names]


def remove_document(store: Store, files: PageFiles, doc_id: str) -> None:
    """Take a document out: points first, so that nothing points to files that are gone."""
    store.delete(Where({"doc_id": doc_id}))
    files.delete(doc_id)


__all__ = ["Answer", "Failure", "Ingest", "Progress", "Report", "remove_document"]
