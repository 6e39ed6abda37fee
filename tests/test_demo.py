"""The demo, run as a user runs it; and that it can fail."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

import PIL.Image
import pytest
from rich.console import Console

from pagelens import Library, demo
from pagelens.demo import Verdict, judge
from pagelens.hits import Hit, Hits
from pagelens.records import Box, Evidence, Page
from pagelens.sample import QUESTIONS, Question

ANSWERED = [question for question in QUESTIONS if question.file]


class Ended(NamedTuple):
    code: int
    said: str
    out: Path


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    if shutil.which("tesseract") is None:
        pytest.skip("tesseract is not installed; by rapidocr the demo takes minutes")
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, "-m", "pagelens.demo"],
        cwd=folder,
        env={**os.environ, "COLUMNS": "160"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return Ended(done.returncode, done.stdout, folder / "demo-output")


@pytest.fixture(scope="module")
def library(ended: Ended) -> Iterator[Library]:
    with Library(ended.out / "sample-office.pagelens") as library:
        yield library


def test_ends_well(ended: Ended) -> None:
    assert ended.code == 0, ended.said
    assert "Traceback" not in ended.said


@pytest.mark.parametrize("question", ANSWERED, ids=lambda question: question.answer)
def test_page_is_first_and_the_answer_covered(ended: Ended, question: Question) -> None:
    row = rf"{re.escape(str(question.file))}, page {question.page} +1 +covers it"
    assert re.search(row, ended.said), ended.said


def test_unreadable_files_are_told_with_reason_and_cure(ended: Ended) -> None:
    assert re.search(r"payroll-sealed\.pdf: .*encrypted; .*decrypt", ended.said)
    assert re.search(r"inventory-cut-short\.pdf: .*cut short; .*again", ended.said)


def test_the_question_without_answer_shows_as_such(ended: Ended) -> None:
    assert "not in the collection" in ended.said
    assert "no page found holds a word of the question" in ended.said


def test_tells_what_to_do_next(ended: Ended) -> None:
    assert "ingest FOLDER" in ended.said
    assert str(ended.out.name + "/gallery.html") in ended.said


def test_all_words_were_read_by_ocr(library: Library) -> None:
    pages = list(library.pages())
    assert len(pages) == 22
    assert {page["text_source"] for page in pages} == {"tesseract"}


class Links(HTMLParser):
    """What a page loads and links to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.targets += [str(value) for name, value in attrs if name in ("src", "href", "srcset")]


def test_gallery_needs_no_other_file(ended: Ended) -> None:
    links = Links()
    links.feed((ended.out / "gallery.html").read_text(encoding="utf-8"))
    assert links.tags.count("section") == len(QUESTIONS)
    assert links.tags.count("img") > 2 * len(QUESTIONS)
    assert not {"script", "link", "iframe", "object"} & set(links.tags)
    assert all(target.startswith(("data:image/", "#")) for target in links.targets)


def test_another_page_is_not_taken_for_the_answer(library: Library) -> None:
    """The demo's own hits, with a sample that says that the page after has the answer."""
    question = ANSWERED[0]
    hits = library.search(question.query)
    place = Box(370, 187, 391, 195)
    assert judge(question, place, hits) == Verdict(1, True)
    assert judge(replace(question, page=question.page + 1), place, hits).rank != 1
    assert judge(replace(question, file="another.pdf"), place, hits) == Verdict(None, False)
    assert judge(question, Box(370, 287, 391, 295), hits) == Verdict(1, False)
    assert judge(replace(question, answer="1,507"), place, hits) == Verdict(1, False)


LINE = Box(100, 100, 200, 112)


def made_hits(*pages: int, box: Box = LINE, text: str = "Total 42") -> Hits:
    hits = tuple(
        Hit(
            Page("d" * 16, page - 1, 595, 842),
            "/scans/report.pdf",
            1.0,
            evidence=(Evidence(text, box),),
            open_image=lambda: PIL.Image.new("RGB", (1, 1)),
        )
        for page in pages
    )
    return Hits("how many?", "words", hits)


@pytest.mark.parametrize(
    ("hits", "verdict"),
    [
        (made_hits(5, 4), Verdict(1, True)),
        (made_hits(4, 5), Verdict(2, True)),
        (made_hits(4, 6), Verdict(None, False)),
        (made_hits(), Verdict(None, False)),
        (made_hits(5, text="Total 43"), Verdict(1, False)),
        (made_hits(5, box=Box(100, 300, 200, 312)), Verdict(1, False)),
        (made_hits(5, box=Box(100, 100, 165, 112)), Verdict(1, False)),  # half of the answer
    ],
)
def test_judge(hits: Hits, verdict: Verdict) -> None:
    question = Question("how many?", "report.pdf", 5, "42")
    assert judge(question, Box(150, 101, 180, 112), hits) == verdict


@pytest.mark.parametrize(("rank", "code"), [(1, 0), (2, 1), (None, 1)])
def test_exit_code(rank: int | None, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of a demo that found one of two pages first, and the other at `rank`."""
    verdicts = {ANSWERED[0]: Verdict(1, True), ANSWERED[1]: Verdict(rank, rank is not None)}
    monkeypatch.setattr(demo, "run", lambda out, console: verdicts)
    monkeypatch.setattr(sys, "argv", ["demo", "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        demo.main()
    assert stop.value.code == code


def test_goes_on_where_tesseract_lacks_a_language(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rapidocr", reason="rapidocr is not installed")
    program = tmp_path / "tesseract"
    program.write_text("#!/bin/sh\necho 'List of available languages (1):'\necho eng\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert demo._engine(Console(width=160)) == ["--ocr", "rapidocr"]
    assert "tesseract-ocr-deu" in capsys.readouterr().out
