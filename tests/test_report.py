"""The report of an evaluation: what it says, and that its page is one that a browser shows as meant."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from test_cli import run, run_json
from test_gallery import HOSTILE, read_safely
from test_verdict import asked_with

from pagelens import ExitCode, Library
from pagelens.evaluation import report
from pagelens.evaluation.evaluate import evaluate
from pagelens.evaluation.evaluate import report as reported
from pagelens.evaluation.plots import HEIGHT, Whisker, differences, sweep, whiskers
from pagelens.evaluation.runs import Question, write_trec

TAGS_MORE = {"main", "h1", "p", "ul", "table", "tr", "th", "td"}
TAGS_MORE |= {"svg", "rect", "line", "text", "circle", "polyline", "polygon", "path"}
ASKED = [
    Question("q1", "who signed the lease?", {}, 1),
    Question("q2", "revenue of the northern region", {}, 2),
    Question("q3", "is the corridor painted?", {}, 3),
]


def judged(library: Library) -> dict[str, dict[str, int]]:
    ids = {(Path(page["path"]).stem, page["page"]): page["page_id"] for page in library.pages()}
    return {
        "q1": {ids["lease", 3]: 1},
        "q2": {ids["annual report", 1]: 1, ids["annual report", 2]: 1},
        "q3": {ids["lease", 2]: 1},  # a wrong judgement: the worst question
    }


def shapes(svg: str, tag: str) -> list[dict[str, str]]:
    tree = ElementTree.fromstring(svg)
    return [each.attrib for each in tree.iter() if each.tag == tag]


def test_a_bar_has_the_height_of_its_difference() -> None:
    values = [0.5, -0.25, 0.0, 1.0]
    bars = shapes(differences(values, "what"), "rect")
    heights = [float(bar["height"]) for bar in bars]
    assert heights == pytest.approx([2 * heights[1], heights[1], heights[1] / 2], abs=0.2)  # 1, .5, -.25
    assert [bar["class"] for bar in bars] == ["up", "up", "down"]
    zero = float(bars[2]["y"])
    assert float(bars[0]["y"]) + heights[0] == pytest.approx(zero, abs=0.2)


def test_a_sweep_rises_with_its_values() -> None:
    rows = [Whisker("5", 0.5, 0.4, 0.6), Whisker("10", 0.6, 0.5, 0.7), Whisker("50", 0.6, 0.5, 0.7)]
    plot = sweep(rows, [0.7, 0.8, 0.9], "what")
    places = [float(each["cy"]) for each in shapes(plot, "circle")]
    assert places[0] > places[1] == places[2]
    assert all(0 < place < HEIGHT for place in places)


def test_plots_of_what_is_all_the_same() -> None:
    flat = [Whisker("a", 0.5, 0.5, 0.5)]
    for plot in (differences([0.0], "a"), sweep(flat, [0.5], "a"), whiskers(flat, "a"), differences([], "a")):
        assert "nan" not in plot and ElementTree.fromstring(plot) is not None


def test_the_page_shows_the_worst_question_with_both_pages(small_library: Library) -> None:
    found = evaluate(small_library, ASKED, judged(small_library))
    page = report.html(found, small_library)
    assert found.worst(1) == [2]
    case = page[page.index("is the corridor painted?") :]
    case = case[: case.index("</article>\n</section>\n</section>")]
    first, right = case.split("Judged relevant")
    assert "minutes.pdf" in first and "lease.pdf" in right and "minutes.pdf" not in right
    number = found.asked.task.qrels["q3"]
    rank = 1 + found.stages["fused"].run["q3"].index(next(iter(number)))
    assert f"fused #{rank} \N{MIDDLE DOT}" in right  # as it was searched, not as it was fetched
    alone = report.html(evaluate(small_library, ASKED, judged(small_library), rerank=None), small_library)
    assert "fused #" in alone and "rerank #" not in alone  # as it was asked
    assert page.count("<svg") == 3 and 'src="http' not in page
    assert "data:image/jpeg" in right


def test_the_page_shows_what_a_stored_run_found(small_library: Library, tmp_path: Path) -> None:
    """Not what the library would find today."""
    pages = {page["path"].rpartition("/")[2]: page["page_id"] for page in small_library.pages()}
    qrels = {"q3": {pages["minutes.pdf"]: 1}}
    write_trec(tmp_path / "rerank.trec", {"q3": [pages["annual report.pdf"], pages["minutes.pdf"]]})
    found = evaluate(small_library, ASKED, qrels, runs=tmp_path)
    first, right = report.html(found, small_library).split("Found first")[1].split("Judged relevant")
    assert first.index("annual report.pdf") < first.index("minutes.pdf") < len(first)
    assert "minutes.pdf" in right and "likely" not in first + right


def test_nothing_from_a_question_is_markup(small_library: Library) -> None:
    asked = [Question(f"q{n}", f"lease {text}", {}, n) for n, text in enumerate(HOSTILE)]
    ids = [page["page_id"] for page in small_library.pages()]
    found = evaluate(small_library, asked, {each.id: {ids[-1]: 1} for each in asked})
    page = report.html(found, small_library)
    seen = "".join(read_safely(page, TAGS_MORE).text)
    for text in HOSTILE:
        if text.isprintable():
            assert f"lease {text}" in seen
    assert not re.search("[\x00-\x08\x0e-\x1f\u202a-\u202e]", page)
    assert "://" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", page).replace(HOSTILE[3], "")


def test_the_terminal_says_it_in_100_columns() -> None:
    text = report.lines(reported(asked_with("helps")))
    table = text[2:7]
    assert max(map(len, table)) <= 100
    assert table[0].split() == ["nDCG@5", "nDCG@10", "RR@10", "R@1", "R@10", "R@50", "R@100"]
    assert table[1].split()[0] == "fused" and re.fullmatch(r"\.\d{3}", table[1].split()[1])
    whole = "\n".join(text)
    assert "verdict: add the reranker" in whole and "ceiling: with the first 100 pages of fused" in whole


def write(tmp_path: Path, library: Library) -> list[object]:
    questions, qrels = tmp_path / "q.jsonl", tmp_path / "qrels.tsv"
    questions.write_text("".join(f"{json.dumps({'id': q.id, 'query': q.query})}\n" for q in ASKED))
    rows = [
        f"{id}\t{page}\t{grade}" for id, pages in judged(library).items() for page, grade in pages.items()
    ]
    qrels.write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]))
    return ["eval", "--queries", questions, "--qrels", qrels, "--library", library.folder]


def test_the_command(small_library: Library, tmp_path: Path) -> None:
    """Searched, written as runs, evaluated again from these: the same; for people and for programs."""
    command = write(tmp_path, small_library)
    page, runs = tmp_path / "report.html", tmp_path / "runs"
    printed = run_json(*command, "--html", page, "--run-dir", runs)
    again = run_json(*command, "--runs", runs)
    for name, stage in printed["stages"].items():
        kept: dict[str, Any] = again["stages"][name]
        assert kept["nDCG@10"] == stage["nDCG@10"] and "latency_ms" not in kept
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    first = run(*command, "--rerank", "none", "--prefer", "recall")
    assert first.returncode == ExitCode.DONE and "rerank" not in first.stdout.split("verdict")[0]
    assert "no verdict: no reranker was asked" in first.stdout
    wrong = run(*command, "--page-name", "{stem}-{number}")
    assert wrong.returncode == ExitCode.USAGE and "not one word" in wrong.stderr
    both = run(*command, "--runs", runs, "--exhaustive")
    assert both.returncode == ExitCode.USAGE and "leave out" in both.stderr


def test_numbers_as_tables_have_them() -> None:
    assert [report._number(each) for each in (0.8861, 1.0, 0.0, float("nan"), -0.05)] == [
        ".886",
        "1.000",
        ".000",
        "-",
        "-.050",
    ]
