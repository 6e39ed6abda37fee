"""Whatever happens to a process that reads, its page has an answer and the others are read."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import pytest
from made import write_pdf

from pagelens import DocumentError, wire
from pagelens.ingest import pool as pool_module
from pagelens.ingest.pool import ReaderPool, Task
from pagelens.ingest.reading import ReadSettings
from pagelens.records import Document, PageContent

TEXT = "The quick brown fox jumps over the lazy dog"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Six pages with a text layer."""
    return write_pdf(tmp_path / "a.pdf", [f"{TEXT} {number}" for number in range(6)])


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Iterator[ReaderPool]:
    """One reader, which is given up after two seconds."""
    monkeypatch.setattr(pool_module, "GRACE_SECONDS", 1.0)
    with ReaderPool(ReadSettings(page_seconds=1), 1) as opened:
        yield opened


def stopped(pool: ReaderPool, path: Path) -> int:
    """The process of the one reader, which has started and does nothing any more."""
    pool.submit(Task(path))
    assert isinstance(pool.take().result, Document)
    [reader] = pool._readers
    os.kill(reader.process.pid, signal.SIGSTOP)
    return reader.process.pid


def is_alive(process: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def ends(process: int, seconds: float = 10.0) -> bool:
    until = time.monotonic() + seconds
    while is_alive(process) and time.monotonic() < until:
        time.sleep(0.02)
    return not is_alive(process)


def test_a_killed_reader_fails_its_task_alone(path: Path, pool: ReaderPool) -> None:
    reader = stopped(pool, path)
    pool.submit(Task(path, 0))
    pool.submit(Task(path, 1))
    os.kill(reader, signal.SIGKILL)
    first, second = pool.take(), pool.take()
    assert (first.task, second.task) == (Task(path, 0), Task(path, 1))
    assert isinstance(first.result, DocumentError)
    assert (first.result.stage, first.result.page) == ("text", 0)
    assert "signal 9" in first.result.reason
    assert isinstance(second.result, PageContent)


def test_a_reader_that_hangs_is_given_up_and_ended(path: Path, pool: ReaderPool) -> None:
    reader = stopped(pool, path)
    pool.submit(Task(path, 2))
    pool.submit(Task(path, 3))
    started = time.monotonic()
    hung = pool.take().result
    assert isinstance(hung, DocumentError)
    assert (hung.page, hung.reason[:23]) == (2, "took longer than 1 s an")
    assert 1.5 < time.monotonic() - started < 10
    assert not is_alive(reader)
    assert isinstance(pool.take().result, PageContent)


def test_a_reader_that_dies_while_it_starts_says_what_it_said(
    path: Path, pool: ReaderPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = "import sys; sys.exit('no module named pypdfium2')"

    def start(_: str, *__: str, **options: object) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", broken], **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr(wire, "start", start)
    pool.submit(Task(path))
    result = pool.take().result
    assert isinstance(result, DocumentError)
    assert (result.stage, result.page) == ("open", None)
    assert "exit code 1 (no module named pypdfium2)" in result.reason


def test_one_reader_answers_in_the_order_asked(path: Path, pool: ReaderPool) -> None:
    tasks = [Task(path), *(Task(path, number) for number in (4, 0, 5, 1))]
    for task in tasks:
        pool.submit(task)
    answers = [pool.take() for _ in tasks]
    assert [answer.task for answer in answers] == tasks
    contents = [answer.result for answer in answers[1:]]
    assert [each.text.text[-1] for each in contents if isinstance(each, PageContent)] == list("4051")


def test_every_task_has_one_answer_and_two_a_reader_are_enough(path: Path) -> None:
    with ReaderPool(ReadSettings(), 2) as pool:
        with pytest.raises(RuntimeError, match="no task"):
            pool.take()
        for number in range(4):
            assert pool.room
            pool.submit(Task(path, number))
        assert (pool.busy, pool.room) == (4, False)
        assert {pool.take().task.number for _ in range(4)} == {0, 1, 2, 3}
        assert (pool.busy, pool.room) == (0, True)


def test_closing_ends_what_a_reader_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, note = tmp_path / "tesseract", tmp_path / "process"
    program.write_text(
        f"#!{sys.executable}\nimport os, time\n"
        f"open('{note}.part', 'w').write(str(os.getpid()))\n"
        f"os.rename('{note}.part', '{note}')\ntime.sleep(60)\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    PIL.Image.new("RGB", (800, 800), "white").save(tmp_path / "scan.png")
    with ReaderPool(ReadSettings(), 1) as pool:
        pool.submit(Task(tmp_path / "scan.png", 0))
        until = time.monotonic() + 30
        while not note.exists() and time.monotonic() < until:
            time.sleep(0.05)
        engine = int(note.read_text())
        assert is_alive(engine)
    assert ends(engine)


def test_readers_end_with_their_parent(path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path\n"
        "from pagelens.ingest.pool import ReaderPool, Task\n"
        "from pagelens.ingest.reading import ReadSettings\n"
        "pool = ReaderPool(ReadSettings(), 1); pool.submit(Task(Path(sys.argv[1]))); pool.take()\n"
        "print(pool._readers[0].process.pid, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        reader = int(parent.stdout.readline())
        assert is_alive(reader)
        parent.kill()
    assert ends(reader), "the reader outlived its parent"
