"""A file of questions into a TREC run, read back by ir_measures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ir_measures
import pytest
from conftest import FOOTER
from ir_measures import RR, R

from pagelens import Library, UsageError
from pagelens.evaluation.evaluate import evaluate
from pagelens.evaluation.runs import (
    Question,
    of_copies,
    page_names,
    read_qrels,
    read_questions,
    read_run,
    write_run,
    write_trec,
)

QUESTIONS: list[Mapping[str, Any]] = [
    {"id": "q1", "query": "who signed the lease?"},
    {"id": "q2", "query": "What is painted?", "filter": {"stem": "minutes"}},
    {"id": 3, "query": "revenue in the north", "type": ["Chart"]},
]
ANSWERS = {"q1": "lease.pdf 3", "q2": "minutes.pdf 1", "3": "annual report.pdf 1"}


def write(path: Path, questions: list[Mapping[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(each)}\n" for each in questions), encoding="utf-8")
    return path


def trec(path: Path) -> list[ir_measures.ScoredDoc]:
    return list(ir_measures.read_trec_run(str(path)))  # type: ignore[no-untyped-call]


def named(library: Library) -> dict[str, str]:
    """Page id by file and page."""
    return {f"{Path(p['path']).name} {p['page']}": p["page_id"] for p in library.pages()}


def test_ir_measures_reads_the_run_in_the_order_of_the_search(small_library: Library, tmp_path: Path) -> None:
    questions, out = write(tmp_path / "my questions.jsonl", QUESTIONS), tmp_path / "my run.trec"
    told: list[tuple[int, int]] = []
    assert write_run(small_library, questions, out, 100, progress=lambda *at: told.append(at)) == 3
    assert told == [(1, 3), (2, 3), (3, 3)]
    run = trec(out)
    ids = named(small_library)
    qrels = [ir_measures.Qrel(id, ids[answer], 1) for id, answer in ANSWERS.items()]
    assert ir_measures.calc_aggregate([RR @ 10, R @ 100], qrels, run) == {RR @ 10: 1.0, R @ 100: 1.0}
    for question in QUESTIONS:
        found = small_library.search(question["query"], 100, question.get("filter"))
        scored = [each for each in run if each.query_id == str(question["id"])]
        by_score = sorted(scored, key=lambda each: -each.score)  # stable: what readers of runs do
        assert [each.doc_id for each in by_score] == [hit.page_id for hit in found]
    columns = [line.split(" ") for line in out.read_text().splitlines()]
    assert {len(each) for each in columns} == {6}
    assert [each[3] for each in columns if each[0] == "q1"] == ["1", "2", "3", "4", "5", "6"]
    assert {(each[1], each[5]) for each in columns} == {("Q0", "pagelens")}


def test_one_stage_alone(small_library: Library, tmp_path: Path) -> None:
    questions, out = write(tmp_path / "q.jsonl", QUESTIONS[:1]), tmp_path / "out.trec"
    write_run(small_library, questions, out, 2, stage="bm25")
    scores = [each.score for each in trec(out)]
    found = small_library.search("who signed the lease?", 2, stage="bm25")
    assert scores == pytest.approx([hit.stages["bm25"].score for hit in found], rel=1e-6)


def test_a_filter_of_all_questions_gives_way_to_one_of_their_own(
    small_library: Library, tmp_path: Path
) -> None:
    own = {"id": "own", "query": FOOTER, "filter": {"stem": "minutes"}}
    questions = write(tmp_path / "q.jsonl", [{"id": "all", "query": FOOTER}, own])
    write_run(small_library, questions, tmp_path / "o.trec", 9, stage="bm25", filter={"stem": "lease"})
    found = [line.split()[0] for line in (tmp_path / "o.trec").read_text().splitlines()]
    assert (found.count("all"), found.count("own")) == (3, 1)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{doc_id}#{number}", "{id}"),
        ("{stem}#{number}", "lease#2"),
        ("{stem}-p{page:03}", "lease-p003"),
        ("{path}:{page}", "{office}/lease.pdf:3"),
    ],
)
def test_page_names(template: str, expected: str, small_office: Path, tmp_path: Path) -> None:
    with Library(tmp_path / "lease", profile="words") as library:
        library.ingest(small_office / "lease.pdf", readers=1)
        page_id = named(library)["lease.pdf 3"]
        names = page_names(library, template)
        assert names[page_id] == expected.format(id=page_id, office=small_office)
        assert len(set(names.values())) == 3


def test_judgements_may_know_a_page_by_a_copy(small_office: Path, tmp_path: Path) -> None:
    """A file that is there twice is stored once: what names the other path is no stranger."""
    for name in ("lease.pdf", "signed lease.pdf", "z.pdf"):
        shutil.copy(small_office / "lease.pdf", tmp_path / name)
    with Library(tmp_path / "library", profile="words") as library:
        library.ingest(tmp_path, readers=1)
        assert [page["path"] for page in library.pages()] == 3 * [str(tmp_path / "lease.pdf")]
        given = {"q1": {"z#2": 2, "lease#2": 0, "gone#1": 1}, "q2": {"z#0": 1}}
        told = of_copies(library, given, "{stem}#{number}")
        assert told == {"q1": {"lease#2": 2, "gone#1": 1}, "q2": {"lease#0": 1}}
        asked = [Question("q2", "lease", {}, 1)]
        assert evaluate(library, asked, given, "{stem}#{number}", []).asked.task.qrels == {
            "q2": {"lease#0": 1}
        }


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{stem}#{number}", r"annual report\.pdf.*'annual report#0'.*\{doc_id\}#\{number\}"),
        ("{number}", r"\.pdf.* and .*\.pdf both .*'0'.*\{doc_id\}#\{number\}"),
        ("", "not one word"),
        ("{title}", r"title.*\{stem\}"),
        ("{}", r"\{stem\}"),
        ("{stem", r"\{stem\}"),
        ("{number.real.no}", r"\{stem\}"),
    ],
)
def test_names_that_cannot_be_used(template: str, says: str, small_library: Library) -> None:
    with pytest.raises(UsageError, match=says):
        page_names(small_library, template)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["not json"], "line 1"),
        (['{"id": "q1", "query": "x"}', "", '{"id": "q2"}'], "line 3"),
        (['{"id": "q 1", "query": "x"}'], "line 1"),
        (['{"id": "", "query": "x"}'], "line 1"),
        (['{"id": "q1", "query": " "}'], "line 1"),
        (['{"id": "q1", "query": ["x"]}'], "line 1"),
        (['{"id": "q1", "query": "x", "filter": ["lease"]}'], "line 1"),
        (["[]"], "line 1"),
        (["7"], "line 1"),
        (['{"id": "q1", "query": "x"}', '{"id": "q1", "query": "y"}'], "lines 1 and 2.*'q1'"),
        ([""], "no question"),
    ],
)
def test_lines_that_are_no_question(lines: list[str], says: str, tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(UsageError, match=says):
        read_questions(path)


def test_files_from_other_systems(tmp_path: Path) -> None:
    """A byte order mark, line ends of Windows, and a line separator inside a question."""
    path = tmp_path / "q.jsonl"
    path.write_bytes(
        '\ufeff{"id": "a", "query": "one\u2028two"}\r\n{"id": "b", "query": "three"}\r\n'.encode()
    )
    assert [(each.id, each.query) for each in read_questions(path)] == [("a", "one\u2028two"), ("b", "three")]
    path.write_bytes('{"id": "a", "query": "grün"}'.encode("latin-1"))
    with pytest.raises(UsageError, match="UTF-8"):
        read_questions(path)


def test_a_wrong_filter_names_its_line_and_leaves_the_last_run(
    small_library: Library, tmp_path: Path
) -> None:
    wrong = {"id": "b", "query": FOOTER, "filter": {"colour": "red"}}
    questions = write(tmp_path / "q.jsonl", [{"id": "a", "query": FOOTER}, wrong])
    out = tmp_path / "out.trec"
    out.write_text("as it was\n")
    with pytest.raises(UsageError, match=r"q\.jsonl, line 2: .*colour"):
        write_run(small_library, questions, out, 10, stage="bm25")
    assert out.read_text() == "as it was\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.trec", "q.jsonl"]


def test_a_run_that_cannot_be_written(small_library: Library, tmp_path: Path) -> None:
    questions = write(tmp_path / "q.jsonl", QUESTIONS)
    with pytest.raises(UsageError, match="no-folder"):
        write_run(small_library, questions, tmp_path / "no-folder" / "out.trec", 10)


@pytest.mark.parametrize(
    "content",
    [
        "q1 0 a#1 1\nq1 0 b#2 0\n\nq2 Q0 c 2\n",
        "query_id\tpage_id\trelevance\nq1\ta#1\t1\nq1\tb#2\t0\nq2\tc\t2",
    ],
)
def test_qrels_come_in_four_columns_or_three(tmp_path: Path, content: str) -> None:
    (tmp_path / "qrels").write_text(content)
    assert read_qrels(tmp_path / "qrels") == {"q1": {"a#1": 1, "b#2": 0}, "q2": {"c": 2}}


@pytest.mark.parametrize("line", ["q1 a", "q1 0 a yes", "q1 0 a b 1"])
def test_a_line_that_is_no_judgement_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "qrels").write_text(f"q1 0 a 1\n{line}\n")
    with pytest.raises(UsageError, match="line 2"):
        read_qrels(tmp_path / "qrels")


def test_qrels_that_disagree_with_themselves_are_refused_and_repetition_is_not(tmp_path: Path) -> None:
    (tmp_path / "qrels").write_text("q1 0 a 1\nq1 0 a 1\n")
    assert read_qrels(tmp_path / "qrels") == {"q1": {"a": 1}}
    (tmp_path / "qrels").write_text("q1 0 a 1\nq1 0 a 2\n")
    with pytest.raises(UsageError, match="line 2: page a was judged 1 for q1 before, now 2"):
        read_qrels(tmp_path / "qrels")
    with pytest.raises(UsageError, match="No such file"):
        read_qrels(tmp_path / "none")


def test_a_run_comes_back_in_its_order(tmp_path: Path) -> None:
    run = {"q1": ["b", "a", "c"], "q2": []}
    write_trec(tmp_path / "run", run)
    assert read_run(tmp_path / "run") == {"q1": ["b", "a", "c"]}
    assert [each.doc_id for each in sorted(trec(tmp_path / "run"), key=lambda e: -e.score)] == ["b", "a", "c"]
    (tmp_path / "run").write_text("q1 Q0 a 1 0.5 tag\nq1 Q0 a 2 0.4 tag\n")
    with pytest.raises(UsageError, match="line 2: page a comes twice"):
        read_run(tmp_path / "run")
    (tmp_path / "run").write_text("q1 a 0.5\n")
    with pytest.raises(UsageError, match="line 1"):
        read_run(tmp_path / "run")
