"""Processes that read pages, one page at a time each; whatever happens to one, the page has an answer.

Readers are fresh interpreters without any model. Each has a process group of its own, so that what it
started (tesseract, poppler) ends with it. They end when their parent does, however it does: their standard
input closes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

from pagelens import wire
from pagelens.errors import DocumentError
from pagelens.ingest.documents import OpenDocument, open_document
from pagelens.ingest.reading import ReadSettings, read_page
from pagelens.ingest.regions import find_regions
from pagelens.records import Box, Document, Drawn, Page, PageContent, PageText, Region, Regions, Word

START_SECONDS = 30.0
"""Added to the first task of a reader: it has to start."""
GRACE_SECONDS = 5.0
"""Added to every task: a reader that keeps its own time gives a better reason than one that is killed."""


@dataclass(frozen=True, slots=True)
class Task:
    """Open a file (`number` None), or read one page of it."""

    path: Path
    number: int | None = None
    """Page, from 0."""
    content: PageContent | None = None
    """Of a page that was read before: only its regions are asked for, and its file is not opened."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a task."""

    task: Task
    result: Document | PageContent | DocumentError
    """A document for an opened file, a content for a page."""


class ReaderPool:
    """A fixed number of readers. Use as a context manager.

    Args:
        settings: How pages are read.
        readers: How many processes.
    """

    def __init__(self, settings: ReadSettings, readers: int) -> None:
        self._settings = settings
        self._size = readers
        self._readers: list[_Reader] = []
        self._waiting: deque[Task] = deque()
        # What a killed tesseract leaves lying about goes with the pool.
        self._temporary = tempfile.TemporaryDirectory(prefix="pagelens-", ignore_cleanup_errors=True)

    def __enter__(self) -> ReaderPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def busy(self) -> int:
        """Tasks without an answer."""
        return len(self._waiting) + sum(reader.task is not None for reader in self._readers)

    @property
    def room(self) -> bool:
        """Whether another task would not just lie about: two a reader keep all of them at work."""
        return self.busy < 2 * self._size

    def submit(self, task: Task) -> None:
        """Queue a task."""
        self._waiting.append(task)
        self._hand_out()

    def take(self) -> Answer:
        """Wait for the next answer."""
        if not self.busy:
            raise RuntimeError("no task was submitted")
        while True:
            working = {reader.connection: reader for reader in self._readers if reader.task}
            next_deadline = min(reader.deadline for reader in working.values())
            ready = wait(list(working), max(0.0, next_deadline - time.monotonic()))
            for connection in ready:
                return self._answer(working[connection])  # type: ignore[index]
            for reader in working.values():
                if reader.deadline <= time.monotonic():
                    reason = f"took longer than {self._settings.page_seconds:g} s and was given up"
                    return self._replace(reader, f"{reason}; save or scan it again")

    def close(self) -> None:
        """End every reader, at once."""
        for reader in self._readers:
            reader.kill()
        self._readers.clear()
        self._waiting.clear()
        self._temporary.cleanup()

    def _hand_out(self) -> None:
        while self._waiting:
            free = next((reader for reader in self._readers if reader.task is None), None)
            if free is None:
                if len(self._readers) == self._size:
                    return
                free = _Reader(self._settings, Path(self._temporary.name))
                self._readers.append(free)
            free.start(self._waiting.popleft())

    def _answer(self, reader: _Reader) -> Answer:
        task = reader.task
        assert task is not None
        try:
            result = _result(wire.unpack(reader.connection.recv_bytes()))
        except (EOFError, ConnectionError):
            return self._replace(reader, reader.last_words())
        reader.task = None
        self._hand_out()
        return Answer(task, result)

    def _replace(self, reader: _Reader, reason: str) -> Answer:
        task = reader.task
        assert task is not None
        reader.kill()
        self._readers.remove(reader)
        self._hand_out()
        return Answer(task, DocumentError("open" if task.number is None else "text", reason, task.number))


class _Reader:
    """One process, from the parent's side."""

    def __init__(self, settings: ReadSettings, temporary: Path) -> None:
        ours, theirs = socket.socketpair()
        self._stderr = tempfile.TemporaryFile(dir=temporary)  # noqa: SIM115  # as long as the process
        self.process: Popen[bytes] = wire.start(
            "pagelens.ingest.pool",
            str(theirs.fileno()),
            pass_fds=(theirs.fileno(),),
            stdin=PIPE,  # never written to: it closes when this process ends, even by kill -9
            stderr=self._stderr,
            start_new_session=True,  # Ctrl-C is for the parent; and tesseract can be ended with its reader
            env=os.environ | {"TMPDIR": str(temporary)},
        )
        theirs.close()
        self.connection = Connection(ours.detach())
        self.connection.send_bytes(wire.pack(asdict(settings)))
        self.task: Task | None = None
        self.deadline = 0.0
        self._seconds = settings.page_seconds + GRACE_SECONDS
        self._grace = START_SECONDS

    def start(self, task: Task) -> None:
        self.task = task
        self.deadline = time.monotonic() + self._seconds + self._grace
        self._grace = 0.0
        with contextlib.suppress(ConnectionError):  # it has died; `take` will see that
            content = None if task.content is None else _message(task.content)
            self.connection.send_bytes(wire.pack([os.fsencode(task.path), task.number, content]))

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.connection.close()
        self._stderr.close()
        if self.process.stdin is not None:
            self.process.stdin.close()

    def last_words(self) -> str:
        """Why the process is no more."""
        code = self.process.wait()
        if code < 0:
            return f"the reader process was ended by signal {-code}; is there enough memory?"
        self._stderr.seek(0)
        said = self._stderr.read().decode(errors="replace").strip().split("\n")[-1]
        return f"the reader process ended with exit code {code} ({said}); `pagelens doctor` may know more"


def _message(result: Document | PageContent | DocumentError) -> dict[str, Any]:
    match result:
        case Document():
            return {"document": [result.sha256, result.pages]}
        case PageContent(page, jpeg, text, drawn, found):
            words = [[w.text, *w.box, w.line, w.confidence] for w in text.words]
            geometry = [page.doc_id, page.number, page.width, page.height, page.turned]
            regions = (
                None if found is None else [[[r.kind, *r.box, *r[2:]] for r in found.regions], found.cut]
            )
            return {
                "page": geometry,
                "jpeg": jpeg,
                "source": text.source,
                "words": words,
                "drawn": [[each.kind, *each.box] for each in drawn],
                "found": regions,
            }
        case DocumentError():
            return {"error": [result.stage, result.reason, result.page]}


def _result(message: dict[str, Any]) -> Document | PageContent | DocumentError:
    if "error" in message:
        return DocumentError(*message["error"])
    if "document" in message:
        return Document(*message["document"])
    words = tuple(Word(w[0], Box(*w[1:5]), w[5], w[6]) for w in message["words"])
    drawn = tuple(Drawn(d[0], Box(*d[1:])) for d in message["drawn"])
    found = None
    if message["found"] is not None:
        regions, cut = message["found"]
        found = Regions(tuple(Region(r[0], Box(*r[1:5]), *r[5:]) for r in regions), cut)
    text = PageText(words, message["source"])
    return PageContent(Page(*message["page"]), message["jpeg"], text, drawn, found)


def _serve(connection: Connection) -> None:
    """A reader's life: tasks in, answers out; the last document stays open between its pages."""
    fields: dict[str, Any] = wire.unpack(connection.recv_bytes())
    settings = ReadSettings(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})  # type: ignore[arg-type]
    path, document = None, None
    while True:
        try:
            wanted, number, stored = wire.unpack(connection.recv_bytes())
        except (EOFError, ConnectionError):
            return
        try:
            if stored is not None:
                content = _result(stored)
                assert isinstance(content, PageContent)
                connection.send_bytes(wire.pack(_message(replace(content, found=find_regions(content)))))
                continue
            if wanted != path or document is None:
                if document is not None:
                    document.close()
                path, document = wanted, None
                document = open_document(Path(os.fsdecode(wanted)), settings.password)
            answer = _message(_do(document, number, settings))
        except DocumentError as error:
            answer = _message(
                error if error.page is not None else DocumentError(error.stage, error.reason, number)
            )
        except Exception as error:  # whatever a library throws at a page: it is recorded, the rest goes on
            stage = "open" if number is None else "text"
            reason = f"{type(error).__name__} while reading; please report this file"
            answer = _message(DocumentError(stage, reason, number))
        try:
            connection.send_bytes(wire.pack(answer))
        except ConnectionError:
            return


def _do(document: OpenDocument, number: int | None, settings: ReadSettings) -> Document | PageContent:
    return document.document if number is None else read_page(document, number, settings)


def _end_with_parent() -> None:
    """End this process and what it started when its standard input closes."""
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _serve(Connection(int(sys.argv[1])))
