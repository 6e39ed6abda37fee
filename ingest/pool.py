"""Processes that read pages, one page at a time each; whatever happens to one, the page has an answer.

Readers are fresh interpreters without any model. They end when their parent does, however it does: their
end of the socket closes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections import deque
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from subprocess import Popen
from typing import Any

from pagelens import wire
from pagelens.errors import DocumentError
from pagelens.ingest.documents import OpenDocument, open_document
from pagelens.ingest.reading import ReadSettings, read_page
from pagelens.records import Box, Document, Page, PageContent, PageText, Word

START_SECONDS = 30.0
"""Added to the first task of a reader: it has to start."""


@dataclass(frozen=True, slots=True)
class Task:
    """Open a file (`number` None), or read one page of it."""

    path: Path
    number: int | None = None
    """Page, from 0."""


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
                    reason = f"took longer than {self._settings.page_seconds:.0f} s and was given up"
                    return self._replace(reader, reason)

    def close(self) -> None:
        """End every reader, at once."""
        for reader in self._readers:
            reader.kill()
        self._readers.clear()
        self._waiting.clear()

    def _hand_out(self) -> None:
        while self._waiting:
            free = next((reader for reader in self._readers if reader.task is None), None)
            if free is None:
                if len(self._readers) == self._size:
                    return
                free = _Reader(self._settings)
                self._readers.append(free)
            free.start(self._waiting.popleft())

    def _answer(self, reader: _Reader) -> Answer:
        task = reader.task
        assert task is not None
        try:
            result = _result(wire.unpack(reader.connection.recv_bytes()))
        except (EOFError, ConnectionError):
            code = reader.process.wait()
            ended = f"signal {-code}" if code < 0 else f"exit code {code}"
            return self._replace(reader, f"the reader process ended with {ended}; is there enough memory?")
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

    def __init__(self, settings: ReadSettings) -> None:
        ours, theirs = socket.socketpair()
        self.process: Popen[bytes] = wire.start(
            "pagelens.ingest.pool",
            str(theirs.fileno()),
            pass_fds=(theirs.fileno(),),
            start_new_session=True,  # Ctrl-C is for the parent; and tesseract can be ended with its reader
        )
        theirs.close()
        self.connection = Connection(ours.detach())
        self.connection.send_bytes(wire.pack(asdict(settings)))
        self.task: Task | None = None
        self.deadline = 0.0
        self._seconds = settings.page_seconds
        self._grace = START_SECONDS

    def start(self, task: Task) -> None:
        self.task = task
        self.deadline = time.monotonic() + self._seconds + self._grace
        self._grace = 0.0
        with contextlib.suppress(ConnectionError):  # it has died; `take` will see that
            self.connection.send_bytes(wire.pack([str(task.path), task.number]))

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.connection.close()


def _message(result: Document | PageContent | DocumentError) -> dict[str, Any]:
    match result:
        case Document():
            return {"document": [result.sha256, result.pages]}
        case PageContent(page, jpeg, text):
            words = [[w.text, *w.box, w.line, w.confidence] for w in text.words]
            geometry = [page.doc_id, page.number, page.width, page.height]
            return {"page": geometry, "jpeg": jpeg, "source": text.source, "words": words}
        case DocumentError():
            return {"error": [result.stage, result.reason, result.page]}


def _result(message: dict[str, Any]) -> Document | PageContent | DocumentError:
    if "error" in message:
        return DocumentError(*message["error"])
    if "document" in message:
        return Document(*message["document"])
    words = tuple(Word(w[0], Box(*w[1:5]), w[5], w[6]) for w in message["words"])
    return PageContent(Page(*message["page"]), message["jpeg"], PageText(words, message["source"]))


def _serve(connection: Connection) -> None:
    """A reader's life: tasks in, answers out; the last document stays open between its pages."""
    fields = wire.unpack(connection.recv_bytes())
    settings = ReadSettings(**{k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()})
    path, document = None, None
    while True:
        try:
            wanted, number = wire.unpack(connection.recv_bytes())
        except (EOFError, ConnectionError):
            return
        try:
            if wanted != path or document is None:
                if document is not None:
                    document.close()
                path, document = wanted, None
                document = open_document(Path(wanted))
            answer = _message(_do(document, number, settings))
        except DocumentError as error:
            answer = _message(
                error if error.page is not None else DocumentError(error.stage, error.reason, number)
            )
        except Exception as error:  # whatever a library throws at a page: it is recorded, the rest goes on
            stage = "open" if number is None else "text"
            answer = _message(DocumentError(stage, f"{type(error).__name__} while reading", number))
        connection.send_bytes(wire.pack(answer))


def _do(document: OpenDocument, number: int | None, settings: ReadSettings) -> Document | PageContent:
    return document.document if number is None else read_page(document, number, settings)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _serve(Connection(int(sys.argv[1])))
