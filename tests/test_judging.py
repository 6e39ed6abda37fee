"""Judging: what is pooled, what the page holds, and the page itself in a browser where one is installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from test_cli import run, run_json
from test_gallery import Reader

from pagelens import Library, UsageError
from pagelens.evaluation.judging import Shown, collect, html, pool
from pagelens.evaluation.runs import Question, read_qrels

QUESTIONS = [
    Question("q1", "who signed the lease?", {}, 1),
    Question("q2", "revenue <script>alert(1)</script>", {"stem": "annual report"}, 2),
]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


# what is pooled


def test_the_first_pages_of_every_stage_are_pooled_once(small_library: Library) -> None:
    shown = pool(small_library, QUESTIONS, {}, depth=2)
    for question in QUESTIONS:
        expected = {
            page
            for stage in ("bm25", "text", "fused", "rerank")
            for page, _ in small_library.rank(question.query, 2, question.filter, stage)
        }
        expected |= {page for page, _ in small_library.rank(question.query, 2, question.filter)}
        own = [each.page for each in shown if each.question == question]
        assert set(own) == expected and len(own) == len(expected)
        assert 2 <= len(own) < 6
    assert [each.question.id for each in shown] == sorted(each.question.id for each in shown)


def test_the_order_says_nothing_of_the_rank(small_library: Library) -> None:
    """Over many questions the page found first does not come first more often than by chance."""
    asked = [Question(f"q{n}", "who signed the lease?", {}, n) for n in range(40)]
    shown = pool(small_library, asked, {}, rerank=None, depth=4)
    (best, _), *_ = small_library.rank(asked[0].query, 1, rerank=None)
    firsts = [next(each.page for each in shown if each.question == question) for question in asked]
    assert 0 < firsts.count(best) < 25
    assert shown == pool(small_library, asked, {}, rerank=None, depth=4)


def test_what_is_judged_is_not_shown_again(small_library: Library) -> None:
    shown = pool(small_library, QUESTIONS, {}, depth=2)
    judged = {"q1": {each.page: 0 for each in shown if each.question.id == "q1"}}
    assert pool(small_library, QUESTIONS, judged, depth=2) == [e for e in shown if e.question.id == "q2"]


# what is collected


def test_judgements_are_added_once_and_in_the_form_there_is(tmp_path: Path) -> None:
    answers = tmp_path / "a.qrels"
    answers.write_text("q1 0 p1 2\nq1 0 p2 0\n")
    trec, beir, none = (tmp_path / name for name in ("trec", "beir", "none"))
    trec.write_text("q0 0 p9 1")  # the last line is not ended
    beir.write_text("query-id\tcorpus-id\tscore\nq1\tp1\t2\n")
    assert [collect([answers], path) for path in (trec, beir, none)] == [2, 1, 2]
    assert trec.read_text() == "q0 0 p9 1\nq1 0 p1 2\nq1 0 p2 0\n"
    assert beir.read_text() == "query-id\tcorpus-id\tscore\nq1\tp1\t2\nq1\tp2\t0\n"
    assert read_qrels(none) == {"q1": {"p1": 2, "p2": 0}}
    assert [collect([answers, answers], path) for path in (trec, beir, none)] == [0, 0, 0]


def test_judges_who_disagree_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("q1 0 p1 2\n")
    (tmp_path / "b").write_text("q2 0 p1 1\nq1 0 p1 0\n")
    with pytest.raises(UsageError, match="b judges page p1 for q1 as 0, it was judged 2"):
        collect([tmp_path / "a", tmp_path / "b"], tmp_path / "qrels")
    assert not (tmp_path / "qrels").exists()


def test_the_command_stops_and_goes_on(small_library: Library, tmp_path: Path) -> None:
    queries, qrels, page = (tmp_path / name for name in ("q.jsonl", "qrels", "judge.html"))
    queries.write_text('{"id": "q1", "query": "who signed the lease?"}\n')
    command = ("judge", "--qrels", qrels)
    ask = (*command, "--queries", queries, "--html", page, "--library", small_library.folder, "--depth", 3)
    first = run_json(*ask)
    pairs = re.findall(r'data-question="(.*?)" data-page="(.*?)"', page.read_text())
    assert first["pages"] == len(pairs) > 2
    some, rest = tmp_path / "some.qrels", tmp_path / "rest.qrels"
    some.write_text("".join(f"{id} 0 {name} 1\n" for id, name in pairs[:2]))
    assert run_json(*command, "--collect", some)["added"] == 2
    assert run_json(*ask)["pages"] == len(pairs) - 2
    rest.write_text("".join(f"{id} 0 {name} 0\n" for id, name in pairs[2:]))
    assert run_json(*command, "--collect", rest)["added"] == len(pairs) - 2
    assert run_json(*ask) == {"schema": 1, "pages": 0, "html": None}
    assert run(*command).returncode == 2


# the page


@pytest.fixture(scope="module")
def shown(small_library: Library) -> list[Shown]:
    return pool(small_library, QUESTIONS, {}, depth=2)


@pytest.fixture(scope="module")
def page(small_library: Library, shown: list[Shown], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("judge") / "judge.html"
    path.write_text(html(small_library, shown, "judge"), encoding="utf-8")
    return path


def test_the_page_needs_nothing_else_and_runs_nothing_of_a_document(page: Path, shown: list[Shown]) -> None:
    text = page.read_text(encoding="utf-8")
    script = re.search(r"<script>(.*?)</script>", text, re.S)
    assert script is not None and text.count("<script>") == 1
    reader = Reader(text.replace(script[0], ""))
    sources = [dict(attributes).get("src") for tag, attributes in reader.tags if tag == "img"]
    assert sources and all(source is not None and source.startswith("data:image/jpeg") for source in sources)
    assert len(sources) == len({each.page_id for each in shown})  # a page once, for however many questions
    assert "revenue <script>alert(1)</script>" in " ".join(reader.text)


@contextmanager
def browser(page: Path, profile: Path) -> Iterator[Any]:
    """Chromium with the page open; gives a function that runs a script in it. Spoken to over two pipes."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed: apt install chromium")
    to, ours = os.pipe()
    theirs, back = os.pipe()
    # It reads from pipe 3 and writes to pipe 4; bash puts them there (dash knows none above 9).
    command = [
        CHROMIUM,
        "--headless=new",
        "--no-sandbox",
        "--remote-debugging-pipe",
        f"--user-data-dir={profile}",
    ]
    command += ["--window-size=1400,900", "--disable-gpu", page.as_uri()]
    shell = ["bash", "-c", f'exec "$@" 3<&{to} 4>&{back}', "bash", *command]
    process = subprocess.Popen(
        shell, pass_fds=(to, back), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(to)
    os.close(back)
    number, read = 0, b""

    def say(method: str, session: str | None = None, **params: Any) -> Any:
        nonlocal number, read
        number += 1
        message = {"id": number, "method": method, "params": params}
        message |= {"sessionId": session} if session else {}
        os.write(ours, json.dumps(message).encode() + b"\0")
        while True:
            while b"\0" not in read:
                more = os.read(theirs, 1 << 16)
                assert more, "the browser ended"
                read += more
            answer, _, read = read.partition(b"\0")
            found = json.loads(answer)
            if found.get("id") == number:
                return found.get("result", found)

    try:
        until = time.monotonic() + 30
        while not (
            open_ := [t for t in say("Target.getTargets")["targetInfos"] if t["url"] == page.as_uri()]
        ):
            assert time.monotonic() < until, "the page did not open"
            time.sleep(0.1)
        session = say("Target.attachToTarget", targetId=open_[0]["targetId"], flatten=True)["sessionId"]

        def run_script(script: str) -> Any:
            answer = say(
                "Runtime.evaluate", session, expression=script, returnByValue=True, awaitPromise=True
            )
            assert "exceptionDetails" not in answer, answer
            return answer["result"].get("value")

        while not run_script("!!document.getElementById('progress')?.textContent"):
            assert time.monotonic() < until, "the page did not load"
            time.sleep(0.1)
        yield run_script
        say("Browser.close")
    finally:
        for pipe in (ours, theirs):
            os.close(pipe)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


KEY = "document.dispatchEvent(new KeyboardEvent('keydown', {{key: '{}', bubbles: true}}))"
NOW = "document.querySelector('article:not([hidden]) h1')?.textContent"
DONE = "document.getElementById('progress').textContent"
SAVED = """new Promise((done) => {
  const make = URL.createObjectURL;
  URL.createObjectURL = (blob) => { blob.text().then(done); URL.createObjectURL = make; return make(blob); };
  document.dispatchEvent(new KeyboardEvent('keydown', {key: 's', bubbles: true}));
})"""


def test_one_key_a_verdict_back_later_and_after_a_break(
    page: Path, shown: list[Shown], tmp_path: Path
) -> None:
    total = len(shown)
    with browser(page, tmp_path / "profile") as script:
        assert script(NOW) == shown[0].question.query
        assert script("document.querySelectorAll('.box.word').length") > 0
        script(KEY.format("2"))
        script(KEY.format(" "))  # the second is left for later
        script(KEY.format("0"))
        script(KEY.format("ArrowLeft"))
        script(KEY.format("1"))  # the third was wrong: in part
        assert script(DONE) == f"2 of {total} judged"
    with browser(page, tmp_path / "profile") as script:
        assert script(DONE) == f"2 of {total} judged"
        assert script("document.querySelector('article:not([hidden])').dataset.page") == shown[1].page
        for _ in range(total - 2):
            script(KEY.format("0"))
        assert script(DONE) == f"{total} of {total} judged"
        assert script("document.getElementById('end').hidden") is False
        saved = script(SAVED)
    grades = [2, 0, 1] + [0] * (total - 3)
    assert saved.splitlines() == [
        f"{each.question.id} 0 {each.page} {grade}" for each, grade in zip(shown, grades, strict=True)
    ]
    (tmp_path / "judge.qrels").write_text(saved)
    assert collect([tmp_path / "judge.qrels"], tmp_path / "qrels") == total
