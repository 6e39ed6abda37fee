"""The ingest path, top to bottom: files, documents, pages, vectors, points.

The store is the ledger. A page's files are written before its point, and a document is marked whole after
the last of its pages: whatever is there is whole, and after any crash the next ingest goes on from there.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import PIL.Image

from pagelens.errors import DocumentError
from pagelens.ingest.pool import ReaderPool, Task
from pagelens.ingest.reading import ReadSettings
from pagelens.ingest.regions import signature as regions_signature
from pagelens.looks import encoder_of
from pagelens.metadata import Fields, timestamp
from pagelens.records import Document, PageContent
from pagelens.store.pages import PageFiles
from pagelens.store.plan import Point, Store, Vector, Where
from pagelens.store.points import (
    SeenFile,
    document_of,
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
PAGE_BYTES = 400_000
"""What a page takes until the library's own pages say better; the goal of the profile `light`."""


class LooksEncoder(Protocol):
    """Page images to vectors."""

    @property
    def signature(self) -> str:
        """What its vectors are made with."""

    def encode(self, images: Sequence[PIL.Image.Image]) -> Sequence[Mapping[str, Vector] | DocumentError]:
        """Of each page the vectors by their names in the store, or why it has none."""


class PageEncoder(Protocol):
    """Texts of pages to a vector each."""

    @property
    def signature(self) -> str:
        """What its vectors are made with."""

    def encode_pages(self, texts: Sequence[str]) -> Sequence[Vector | None]:
        """None for a page without words."""


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
    """Of this run, and of earlier ones where the file has not changed and was not tried again."""
    pages: int = 0
    """Pages read."""
    encoded: int = 0
    """Pages whose vectors were made anew from their stored words."""
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
    files: list[SeenFile]
    metadata: Fields
    left: set[int]
    """Numbers of the pages without an answer."""


class Ingest:
    """One run.

    Args:
        store: Declared with the encoders' vectors.
        pages: Where page files go.
        reading: How the pool reads.
        encoders: By the name of the vector they make; `bm25` also makes a document's `document_bm25`.
        progress: Called after every answer of a reader, and after every batch of stored pages.
        looks: Visual encoders, by their name among the signatures.
        own: Names of vectors that others added; a page that is read anew keeps them.
    """

    def __init__(
        self,
        store: Store,
        pages: PageFiles,
        reading: ReadSettings,
        encoders: Mapping[str, PageEncoder],
        progress: Callable[[Progress], None] = lambda _: None,
        looks: Mapping[str, LooksEncoder] | None = None,
        own: Sequence[str] = (),
    ) -> None:
        self._store, self._pages, self._reading, self._encoders = store, pages, reading, encoders
        self._progress, self._looks, self._own = progress, looks or {}, own
        self._allowed = {
            "image": {reading.image_signature},
            "words": set(map(reading.words_signature, reading.sources)),
            **{name: {signature} for name, signature in self._signatures.items()},
        }
        self._report = Report()
        self._started = time.monotonic()
        self._metadata: Mapping[Path, Fields] | None = None
        self._retry = False
        self._known: dict[tuple[str, str], tuple[SeenFile, str]] = {}  # (root, path) -> file, doc_id
        self._failures: dict[tuple[str, str], list[Point]] = {}
        self._jobs: dict[str, _Job] = {}  # by doc_id
        self._opened: dict[Path, str] = {}  # path -> doc_id
        self._contents: list[PageContent] = []
        self._points: list[Point] = []
        self._whole: list[_Job] = []
        self._done = self._total = 0
        self._replaced = False

    @property
    def _signatures(self) -> dict[str, str]:
        """Of everything that is made of a page once it is read."""
        return {
            **{name: encoder.signature for name, encoder in self._encoders.items()},
            **{name: looks.signature for name, looks in self._looks.items()},
        }

    def run(
        self,
        files: Mapping[Path, SeenFile],
        pool: ReaderPool,
        *,
        metadata: Mapping[Path, Fields] | None = None,
        gone: Iterable[SeenFile] = (),
        retry: bool = False,
    ) -> Report:
        """Bring the library up to date.

        Args:
            files: What is to be in it, by absolute path.
            pool: Reads with the same settings.
            metadata: Fields to join; None leaves what is there.
            gone: Names to take out.
            retry: Try again what failed before and has not changed.

        Raises:
            OSError: the disk cannot hold it (`errno.ENOSPC`); the index is sound.
        """
        self._metadata, self._retry = metadata, retry
        documents = {p.payload["doc_id"]: p for p in self._store.scroll(Where({"kind": "document"}))}
        for doc_id, point in documents.items():
            for file in files_of(point.payload):
                self._known[file.root, file.path] = file, doc_id
        for point in self._store.scroll(Where({"kind": "failure"})):
            [file] = files_of(point.payload)
            self._failures.setdefault((file.root, file.path), []).append(point)
        for file in gone:
            self._forget_name(file)
            self._report.removed += 1
        tasks: deque[Task] = deque()
        for path, file in files.items():
            if not self._is_current(path, file, documents):
                tasks.append(Task(path))
        opening = len(tasks)
        while tasks or pool.busy:
            while tasks and pool.room:
                pool.submit(tasks.popleft())
            answer = pool.take()
            path, number = answer.task.path, answer.task.number
            opening -= number is None
            match answer.result:
                case Document() as document:
                    tasks.extend(self._open(path, files[path], document))
                case PageContent() as content if content.page.doc_id == self._opened[path]:
                    self._contents.append(content)
                    self._answered(path, content.page.number)
                case PageContent() as content:
                    reason = "the file changed while it was read; ingest it again"
                    self._fail(path, files[path], DocumentError("open", reason, number))
                case DocumentError() as error:
                    self._fail(path, files[path], error)
            if not opening and number is None:
                self._check_room()
            if len(self._contents) + len(self._points) >= BATCH or not (pool.busy or tasks):
                self._write()
            self._progress(Progress(self._done, self._total, opening, len(self._report.failed)))
        self._write()
        if self._replaced:
            self._store.optimize()  # replaced points skew the document frequencies until then
        self._report.seconds = time.monotonic() - self._started
        return self._report

    # what need not be read

    def _is_current(self, path: Path, file: SeenFile, documents: Mapping[str, Point]) -> bool:
        """Whether a file needs no reader; its standing failures are reported again, its metadata joined."""
        standing = self._failures.get((file.root, file.path), [])
        unread = [failure for failure in standing if not _refused(failure)]
        if unread and (self._retry or self._reading.password is not None):
            return False
        whole_file = [failure for failure in standing if failure.payload["page"] is None]
        if whole_file and files_of(whole_file[0].payload) == [file]:
            self._report.failed.append(_failure(path, whole_file[0].payload))
            return True
        known, doc_id = self._known.get((file.root, file.path), (None, ""))
        if known != file:
            return False
        payload = documents[doc_id].payload
        if not payload["whole"] or self._stale(payload["signatures"]):
            return False
        self._report.failed += [_failure(path, failure.payload) for failure in standing]
        wanted = self._fields(path, payload["metadata"])
        if wanted != payload["metadata"]:
            self._store.update([Point(documents[doc_id].id, {"metadata": wanted})])
            self._join(doc_id, wanted)
        self._report.unchanged += 1
        return True

    def _stale(self, made: Mapping[str, Iterable[str]]) -> bool:
        """Whether any artefact was made otherwise than today."""
        return any(
            not made.get(name) or not set(made[name]) <= allowed for name, allowed in self._allowed.items()
        )

    def _fields(self, path: Path, before: Mapping[str, str]) -> Fields:
        return dict(before) if self._metadata is None else self._metadata.get(path, {})

    def _join(self, doc_id: str, metadata: Fields) -> None:
        pages = self._store.scroll(Where({"kind": "page", "doc_id": doc_id}), payload=[])
        dated = {"date": timestamp(metadata["date"])} if "date" in metadata else {}
        self._store.update([Point(page.id, {"metadata": metadata, **dated}) for page in pages])

    # vectors from stored words

    def encode_stale(self, retry: bool = False) -> None:
        """Make anew the vectors, of the whole library, that another encoder made; nothing is read for it.

        Vectors of two models in one list would be compared with each other, so this is not left to what a run
        happens to name.

        Args:
            retry: Try again pages that a visual encoder did not take.
        """
        refused = {p.id: p.payload for p in self._store.scroll(Where({"kind": "failure"})) if _refused(p)}
        again = {payload["doc_id"] for payload in refused.values()} if retry else set()
        stale = [
            document
            for document in list(self._store.scroll(Where({"kind": "document"})))
            if not document.payload["whole"]
            or document.payload["doc_id"] in again
            or any(document.payload["signatures"].get(n) != [s] for n, s in self._signatures.items())
        ]
        done, total = 0, sum(document.payload["pages"] for document in stale)
        for document in stale:
            payload = document.payload
            pages = self._pages_of(payload["doc_id"])
            for start in range(0, len(pages), BATCH):
                batch = pages[start : start + BATCH]
                signatures = {page.id: dict(page.payload["signatures"]) for page in batch}
                self._encode(batch, signatures)
                self._look(batch, signatures, files_of(payload)[-1], refused if retry else (), refused)
                done += len(batch)
                self._progress(Progress(done, total, 0, len(self._report.failed)))
            if payload["whole"]:
                job = _Job(document_of(payload), files_of(payload), payload["metadata"], set())
                self._store.upsert([self._document_point(job)])

    def _look(
        self,
        pages: Sequence[Point],
        signatures: Mapping[str, dict[str, str]],
        file: SeenFile,
        again: Collection[str],
        refused: Collection[str],
    ) -> None:
        """Stored page images to vectors, where those are missing or stale.

        Args:
            pages: Of one document.
            signatures: What each is made with, by point id; what is made here is noted in it.
            file: The document's.
            again: Points of failures whose page is tried again.
            refused: Points of all failures of this kind; of pages that are taken now they are removed.
        """
        images: dict[str, PIL.Image.Image | DocumentError] = {}
        for name, looks in self._looks.items():
            failure = {p.id: _refusal_id(p.payload["doc_id"], p.payload["number"], name) for p in pages}
            stale = [
                page
                for page in pages
                if signatures[page.id].get(name) != looks.signature or failure[page.id] in again
            ]
            for page in stale:
                if page.id not in images:
                    images[page.id] = self._image(f"{page.payload['doc_id']}#{page.payload['number']}")
            seen = [images[page.id] for page in stale]
            made = iter(looks.encode([each for each in seen if not isinstance(each, DocumentError)]))
            points, failures, mended, bare = [], [], [], []
            for page, image in zip(stale, seen, strict=True):
                found = image if isinstance(image, DocumentError) else next(made)
                signatures[page.id][name] = looks.signature
                payload = {"signatures": signatures[page.id]}
                if isinstance(found, DocumentError):
                    failures.append(self._refusal(page.payload, file, name, found))
                    points.append(Point(page.id, payload))
                    bare.append(page.id)
                else:
                    mended.append(failure[page.id])
                    points.append(Point(page.id, payload, found))
            if bare:  # first, or the signature would vouch for what another model made
                own = [spec.name for spec in self._store.schema().vectors if encoder_of(spec.name) == name]
                self._store.strip(bare, own)
            self._store.update(points)
            self._store.upsert(failures)
            if gone := frozenset(mended).intersection(refused):
                self._store.delete(Where(ids=gone))
            self._report.encoded += len(points)
            self._replaced |= bool(points)

    def _image(self, page_id: str) -> PIL.Image.Image | DocumentError:
        try:
            return PIL.Image.open(BytesIO(self._pages.image(page_id))).convert("RGB")
        except DocumentError as error:
            return error
        except OSError as error:
            return DocumentError(
                "encode", f"its stored image cannot be read ({error}); ingest its file again"
            )

    def _refusal(self, page: Mapping[str, Any], file: SeenFile, encoder: str, error: DocumentError) -> Point:
        """The record of a page that is there, without the vectors of a visual encoder."""
        payload = failure_payload(file, page["doc_id"], page["number"], "encode", error.reason)
        return Point(_refusal_id(page["doc_id"], page["number"], encoder), payload)

    def _encode(self, pages: Sequence[Point], signatures: Mapping[str, dict[str, str]]) -> None:
        """Stored words to vectors, where those are stale; `signatures` as `_look`."""
        updates: dict[str, dict[str, Vector]] = {}
        bare: dict[str, list[str]] = {}
        for name, encoder in self._encoders.items():
            stale = [p for p in pages if signatures[p.id].get(name) != encoder.signature]
            vectors = encoder.encode_pages([p.payload["text"] for p in stale])
            for page, vector in zip(stale, vectors, strict=True):
                made = updates.setdefault(page.id, {})
                signatures[page.id][name] = encoder.signature
                if vector is None:
                    bare.setdefault(name, []).append(page.id)
                else:
                    made[name] = vector
        for name, ids in bare.items():
            self._store.strip(ids, [name])
        self._store.update([Point(id, {"signatures": signatures[id]}, made) for id, made in updates.items()])
        self._report.encoded += len(updates)
        self._replaced |= bool(updates)

    # reading

    def _open(self, path: Path, file: SeenFile, document: Document) -> list[Task]:
        """Note the file's document; the tasks of its pages that are not stored yet."""
        doc_id = document.doc_id
        self._forget_failures(file)
        before = self._known.get((file.root, file.path))
        if before and before[1] != doc_id:
            self._forget_name(before[0])
        self._opened[path] = doc_id
        if job := self._jobs.get(doc_id):  # the same content under another name, while it is being read
            job.files.append(file)
            self._report.unchanged += 1
            return []
        stored = self._store.retrieve([point_id("document", doc_id)])
        payload = stored[0].payload if stored else None
        names = (
            [n for n in files_of(payload) if (n.root, n.path) != (file.root, file.path)] if payload else []
        )
        metadata = self._fields(path, payload["metadata"] if payload else {})
        missing = set(range(document.pages)) - self._present(document)
        if before and (before[1] != doc_id or missing):
            self._report.changed += 1
        elif payload is None or not payload["whole"]:
            self._report.added += 1
        else:
            self._report.unchanged += 1
        job = _Job(document, [*names, file], metadata, missing)
        if not missing:
            self._whole.append(job)
            return []
        self._points.append(
            Point(point_id("document", doc_id), document_payload(document, job.files, metadata, None))
        )
        self._jobs[doc_id] = job
        self._total += len(missing)
        return [Task(path, number) for number in sorted(missing)]

    def _present(self, document: Document) -> set[int]:
        """Pages that need no reading: stored with today's settings, or failed and not to be tried again."""
        pages = self._pages_of(document.doc_id)
        current = {p.payload["number"] for p in pages if not self._reading_stale(p.payload["signatures"])}
        self._replaced |= len(current) < len(pages)
        failed = self._store.scroll(Where({"kind": "failure", "doc_id": document.doc_id}))
        unread = {p.payload["page"] for p in failed if not _refused(p)}
        return current if self._retry else current | unread

    def _reading_stale(self, made: Mapping[str, str]) -> bool:
        return any(made.get(name) not in self._allowed[name] for name in ("image", "words"))

    def _write(self) -> None:
        """Store a batch: page files, then points, then the documents that are whole by it."""
        contents, self._contents = self._contents, []
        texts = [content.text.text for content in contents]
        vectors = {name: encoder.encode_pages(texts) for name, encoder in self._encoders.items()}
        looks = {name: each.encode([c.image for c in contents]) for name, each in self._looks.items()}
        kept = self._added([page_point_id(content.page.page_id) for content in contents])
        for i, content in enumerate(contents):
            digests = self._pages.write(content)
            job = self._job_of(content.page.doc_id)
            page = content.page
            date = job.metadata.get("date")
            payload = page_payload(
                page,
                content.text,
                language_of(texts[i], self._reading.languages),
                timestamp(date) if date else job.files[-1].mtime_ns / 1e9,
                {
                    "image": self._reading.image_signature,
                    "words": self._reading.words_signature(content.text.source),
                    **({"regions": regions_signature()} if content.found is not None else {}),
                    **self._signatures,
                },
                digests,
                job.metadata,
                content.drawn,
                content.found,
            )
            made: dict[str, Vector | None] = {name: each[i] for name, each in vectors.items()}
            made |= kept.get(page_point_id(page.page_id), {})
            for name, each in looks.items():
                found = each[i]
                if isinstance(found, DocumentError):
                    failure = self._refusal(payload, job.files[-1], name, found)
                    path = next(path for path, doc_id in self._opened.items() if doc_id == page.doc_id)
                    self._report.failed.append(_failure(path, failure.payload))
                    self._points.append(failure)
                else:
                    made |= found
            self._points.append(
                Point(page_point_id(page.page_id), payload, {k: v for k, v in made.items() if v is not None})
            )
        self._store.upsert(self._points)
        self._points = []
        self._report.pages += len(contents)
        whole, self._whole = self._whole, []
        self._store.upsert([self._document_point(job) for job in whole])

    def _added(self, ids: Sequence[str]) -> dict[str, Mapping[str, Vector]]:
        """The vectors that others added to pages which are there, by point id."""
        if not self._own:
            return {}
        return {point.id: point.vectors for point in self._store.retrieve(ids, self._own, payload=False)}

    def _job_of(self, doc_id: str) -> _Job:
        return self._jobs.get(doc_id) or next(job for job in self._whole if job.document.doc_id == doc_id)

    def _answered(self, path: Path, number: int) -> None:
        self._done += 1
        job = self._jobs[self._opened[path]]
        job.left.discard(number)
        if not job.left:
            self._whole.append(self._jobs.pop(job.document.doc_id))

    def _document_point(self, job: _Job) -> Point:
        """A whole document: its own vector, and what its pages are made with."""
        pages = self._pages_of(job.document.doc_id)
        [vector] = self._encoders["bm25"].encode_pages(["\n".join(page.payload["text"] for page in pages)])
        made = {
            name: sorted({page.payload["signatures"].get(name, "") for page in pages} or allowed)
            for name, allowed in self._allowed.items()
        }
        payload = document_payload(job.document, job.files, job.metadata, made)
        return Point(
            point_id("document", job.document.doc_id),
            payload,
            {} if vector is None else {"document_bm25": vector},
        )

    def _pages_of(self, doc_id: str) -> list[Point]:
        """The document's pages by number, with their words and signatures."""
        pages = self._store.scroll(
            Where({"kind": "page", "doc_id": doc_id}), payload=["doc_id", "number", "text", "signatures"]
        )
        return sorted(pages, key=lambda page: int(page.payload["number"]))

    # what goes wrong

    def _fail(self, path: Path, file: SeenFile, error: DocumentError) -> None:
        """Record a failure; the rest goes on."""
        doc_id = self._opened.get(path)
        payload = failure_payload(file, doc_id, error.page, error.stage, error.reason)
        parts = [file.root, file.path] + ([] if error.page is None else [error.page])
        self._store.upsert([Point(point_id("failure", *parts), payload)])
        self._report.failed.append(_failure(path, payload))
        if doc_id is not None and error.page is not None:
            self._answered(path, error.page)

    def _check_room(self) -> None:
        """Every file is open: refuse now what the disk cannot hold, not after hours of reading."""
        if not self._total:
            return
        stored = self._store.count(Where({"kind": "page"}))
        index = sum(self._store.size().values())
        used = sum(self._pages.size().values()) + index
        a_page = used / stored if stored >= 100 else PAGE_BYTES
        needed = self._total * a_page + index  # old and new segments coexist while optimizing
        free = self._pages.free()
        if free is not None and free < needed:
            raise OSError(
                errno.ENOSPC,
                f"{self._total} pages need about {needed / 2**30:.1f} GB, and "
                f"{free / 2**30:.1f} GB are free; free some space or use a library on another disk "
                "(--library), then run it again",
            )

    def _forget_failures(self, file: SeenFile) -> None:
        """A file that could be opened has not failed; its failed pages stay recorded unless tried again."""
        standing = self._failures.get((file.root, file.path), [])
        ids = {
            point.id
            for point in standing
            if point.payload["page"] is None or (self._retry and not _refused(point))
        }
        if ids:
            self._store.delete(Where(ids=frozenset(ids)))

    def _forget_name(self, file: SeenFile) -> None:
        """Take a name from a document, and remove the document with its last name."""
        known = self._failures.pop((file.root, file.path), [])
        if ids := {point.id for point in known if not _refused(point)}:  # those go with the document
            self._store.delete(Where(ids=frozenset(ids)))
        _, doc_id = self._known.pop((file.root, file.path), (file, None))
        if doc_id is None:
            return  # it had only failed
        [document] = self._store.retrieve([point_id("document", doc_id)])
        names = [
            each
            for each in document.payload["files"]
            if (each["root"], each["path"]) != (file.root, file.path)
        ]
        if names:
            self._store.update([Point(document.id, {"files": names})])
        else:
            remove_document(self._store, self._pages, doc_id)
            self._replaced = True


def remove_document(store: Store, pages: PageFiles, doc_id: str) -> None:
    """Take a document out: points first, so that nothing points to files that are gone."""
    store.delete(Where({"doc_id": doc_id}))
    pages.delete(doc_id)


def _failure(path: Path, payload: Mapping[str, object]) -> Failure:
    page = payload["page"]
    return Failure(
        str(path), page + 1 if isinstance(page, int) else None, str(payload["stage"]), str(payload["reason"])
    )


def forget_encoder(store: Store, encoder: str) -> None:
    """Note that no page has an encoder's vectors any more, and forget which ones it did not take."""
    points, gone = [], set()
    for point in store.scroll(Where({"kind": ("page", "document", "failure")})):
        payload = point.payload
        if encoder in payload.get("signatures", {}):
            left = {name: made for name, made in payload["signatures"].items() if name != encoder}
            points.append(Point(point.id, {"signatures": left}))
        elif payload["kind"] == "failure" and _refused(point):
            gone |= {_refusal_id(payload["doc_id"], payload["page"], encoder)} & {point.id}
    for start in range(0, len(points), BATCH):
        store.update(points[start : start + BATCH])
    if gone:
        store.delete(Where(ids=frozenset(gone)))


def _refused(failure: Point) -> bool:
    """Whether the page of a failure was read, and it was a visual encoder that did not take it."""
    return bool(failure.payload["stage"] == "encode")


def _refusal_id(doc_id: str, number: int, encoder: str) -> str:
    """Of a page, by whatever names its file goes."""
    return point_id("failure", doc_id, number, encoder)
