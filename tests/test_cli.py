"""The command line as other programs and people meet it: the real command, in a process of its own."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import FOOTER
from made import write_pdf
from PIL import Image, ImageDraw

from pagelens import ExitCode, Library, Progress, UsageError, cli
from pagelens.cli import talk
from pagelens.records import REGION_KINDS

COMMAND = str(Path(sys.executable).with_name("pagelens"))
README = Path(__file__).parent.parent / "README.md"


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """`pagelens ARGUMENTS`."""
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "80", **environment},
        timeout=60,
        check=False,
    )


def run_json(*arguments: object) -> Any:
    """What it prints, after it ended well."""
    done = run(*arguments, "--json")
    assert done.returncode == ExitCode.DONE, done.stderr
    return json.loads(done.stdout)


class Here:
    """`pagelens ARGUMENTS` in this process, where starting one is not the point."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *arguments: object) -> str:
        """What it prints, after it ended well."""
        self._monkeypatch.setattr(sys, "argv", ["pagelens", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed, talk = self._capsys.readouterr()
        assert end.value.code == ExitCode.DONE, talk
        return printed


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    return Here(monkeypatch, capsys)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where a library of one readable file and one broken one is made, of words alone."""
    write_pdf(tmp_path / "in" / "note.pdf", ["The key hangs behind the door."])
    (tmp_path / "in" / "broken.pdf").write_bytes(b"%PDF-1.7\ncut short")
    return tmp_path / "new.pagelens"


# contracts that other tools rely on


def test_search_json(small_library: Library, small_office: Path) -> None:
    answer = run_json("search", "who signed the lease?", "-k", 3, "--library", small_library.folder)
    assert list(answer) == ["schema", "query", "profile", "timings_ms", "hits"]
    assert (answer["schema"], answer["query"], answer["profile"]) == (1, "who signed the lease?", "light")
    assert all(isinstance(each, float) for each in answer["timings_ms"].values())
    assert len(answer["hits"]) == 3
    best = answer["hits"][0]
    assert list(best) == ["page_id", "path", "page", "score", "stages", "evidence"]
    assert best["path"] == str(small_office / "lease.pdf")
    assert best["page"] == 3  # from 1
    assert re.fullmatch(r"[0-9a-f]{16}#2", best["page_id"])  # from 0
    assert best["score"] == list(best["stages"].values())[-1]["score"]
    assert {"bm25", "text", "document", "fused"} <= set(best["stages"])
    assert best["stages"]["fused"]["rank"] == 1  # from 1
    # "signed" stands in the page's second line, written 18 points a line from (60, 62) on, in 12 points
    signed = next(each for each in best["evidence"] if "signed" in each["text"])
    left, top, right, bottom = signed["box"]
    assert 58 <= left <= 62 and right > 200
    assert top <= 62 + 18 - 6 and 62 + 18 <= bottom <= 62 + 2 * 18 + 4


def test_a_stage_that_did_not_see_a_page_is_absent(small_library: Library, here: Here) -> None:
    hits = json.loads(here("search", "corridor", "-k", 6, "--library", small_library.folder, "--json"))[
        "hits"
    ]
    saw = ["bm25" in hit["stages"] for hit in hits]
    assert saw[0] and not all(saw)  # one page alone has the word
    assert None not in [stage for hit in hits for stage in hit["stages"].values()]


def test_search_by_one_stage_loads_no_model(small_library: Library, tmp_path: Path) -> None:
    """With no model to be found anywhere, words are searched all the same."""
    torch = tmp_path / "torch.py"
    torch.write_text("raise RuntimeError('torch was imported')")
    place = ("--library", small_library.folder)
    done = run("search", "corridor", *place, "--stage", "bm25", "--json", PYTHONPATH=str(tmp_path))
    assert done.returncode == ExitCode.DONE, done.stderr
    assert set(json.loads(done.stdout)["hits"][0]["stages"]) == {"bm25"}
    assert "torch was imported" in run("search", "corridor", *place, PYTHONPATH=str(tmp_path)).stderr


def test_status_json(small_library: Library) -> None:
    answer = run_json("status", "--library", small_library.folder)
    assert {"schema", "documents", "pages", "failed", "missing", "signatures", "bytes"} <= set(answer)
    assert (answer["schema"], answer["documents"], answer["pages"]) == (1, 3, 6)
    assert answer["failed"] == answer["missing"] == []
    assert {"image", "words", "bm25", "text"} <= set(answer["signatures"])
    sizes = answer["bytes"]
    assert sizes["features"] == 0  # nothing was warmed
    assert {"images", "words", "points", "wal", "payload", "bm25 vectors", "text vectors"} <= set(sizes)
    assert all(isinstance(size, int) for size in sizes.values())
    assert min(sizes["images"], sizes["words"], sum(sizes.values())) > 0  # others may not be on the disk yet


def test_pages_json(small_library: Library, small_office: Path) -> None:
    done = run("pages", "--json", "--library", small_library.folder)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == 6
    size = ["width", "height"]
    keys = ["schema", "page_id", "path", "paths", "page", *size, "text_source", "words", "regions"]
    assert [list(line) for line in lines] == [keys] * 6
    [minutes] = [line for line in lines if line["path"] == str(small_office / "post" / "minutes.pdf")]
    assert minutes["page_id"].endswith("#0")
    for region in minutes["regions"]:
        assert region["kind"] in REGION_KINDS and len(region["box"]) == 4 and 0 < region["confidence"] <= 1
    assert minutes["paths"] == [minutes["path"]]
    del (
        minutes["page_id"],
        minutes["path"],
        minutes["paths"],
        minutes["regions"],
    )  # by the layout model, where it is
    assert minutes == {
        "schema": 1,
        "page": 1,
        "width": 595,
        "height": 842,
        "text_source": "layer",
        "words": 10,
    }


def test_ingest_json_and_exit_codes(place: Path) -> None:
    def ingest() -> tuple[int, Any, str]:
        done = run(
            "ingest", place.parent / "in", "--library", place, "--profile", "words", "--no-regions", "--json"
        )
        return done.returncode, json.loads(done.stdout), done.stderr

    code, report, talk = ingest()
    assert code == ExitCode.FAILURES
    assert list(report) == [
        "schema",
        "added",
        "changed",
        "unchanged",
        "removed",
        "encoded",
        "failed",
        "seconds",
    ]
    assert (report["schema"], report["added"], report["seconds"] > 0) == (1, 1, True)
    [failure] = report["failed"]
    assert list(failure) == ["path", "page", "stage", "reason"]
    assert (failure["path"], failure["page"]) == (str(place.parent / "in" / "broken.pdf"), None)
    assert len(talk.splitlines()) == 1  # what was chosen and why; the rest is in the JSON
    (place.parent / "in" / "broken.pdf").unlink()
    assert ingest()[0] == ExitCode.DONE
    assert run_json("status", "--library", place)["documents"] == 1


def test_remove(place: Path) -> None:
    note = place.parent / "in" / "note.pdf"
    with Library(place, profile="words") as library:
        library.ingest(note, readers=1)
        nothing = run("remove", note, "nonsense", "--library", place)
        assert (nothing.returncode, "nonsense" in nothing.stderr) == (ExitCode.USAGE, True)
        assert library.status()["documents"] == 1  # all or nothing
        answer = run_json("remove", note, "--library", place)
        assert (answer["schema"], len(answer["removed"])) == (1, 1)
        assert library.status()["documents"] == 0
    assert note.exists()


def test_where_the_library_is(small_library: Library, tmp_path: Path) -> None:
    by_variable = run("status", "--json", PAGELENS_LIBRARY=str(small_library.folder))
    assert json.loads(by_variable.stdout)["pages"] == 6
    elsewhere = subprocess.run([COMMAND, "status"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert elsewhere.returncode == ExitCode.USAGE
    assert "library.pagelens" in elsewhere.stderr and "ingest" in elsewhere.stderr


# exit codes: 0 and 3 above


def test_exit_1_is_a_bug_with_its_trace(small_library: Library) -> None:
    code = "from pagelens import cli, library; library.Library.status = lambda self: 1 / 0; cli.main()"
    command = [sys.executable, "-c", code, "status", "--library", str(small_library.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "ZeroDivisionError" in done.stderr) == (ExitCode.BUG, True)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("find", "find"),
        ("search", "give a question"),
        ("search where --queries q.jsonl", "give a question"),
        ("search --queries q.jsonl", "--run"),
        ("search where -k 0", "-k"),
        ("search where --stage colour", "colour"),
        ("search ' '", "empty"),
        ("search where --page 5 2", "5, 2"),
        ("search where --page 0 2", "page"),
        ("search where --page one two", "--page"),
        ("search where --date yesterday today", "2024-03-31"),
        ("search where --html no/such/folder/hits.html --stage bm25", "no/such/folder"),
        ("search where --library no-library", "no-library"),
        ("search where --models no-models", "no-models"),
        ("search --queries missing.jsonl --run out.trec", "missing.jsonl"),
        ("ingest no-such-file.pdf", "no-such-file.pdf"),
        ("ingest . --ocr eyes", "tesseract"),
        ("ingest . --profile best", "light"),
        ("remove nothing-like-this", "nothing-like-this"),
    ],
)
def test_exit_2_is_a_request_that_cannot_be_met(
    line: str, says: str, small_library: Library, tmp_path: Path
) -> None:
    environment = {**os.environ, "PAGELENS_LIBRARY": str(small_library.folder)}
    if line.startswith("ingest"):
        environment["PAGELENS_LIBRARY"] = str(tmp_path / "new.pagelens")
    done = subprocess.run(
        [COMMAND, *shlex.split(line)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr and not done.stdout


def test_exit_4_when_the_library_answers_to_another_key(place: Path) -> None:
    with Library(place, profile="words"):
        address = place / "worker" / "address.json"
        address.write_text(json.dumps(json.loads(address.read_text()) | {"key": "00" * 32}))
        done = run("status", "--library", place)
    assert done.returncode == ExitCode.BUSY, done.stderr


@pytest.mark.parametrize("wish", [("--ocr", "tesseract"), ("--lang", "eng+xyz")])
def test_exit_5_when_a_tool_is_missing(wish: tuple[str, str], place: Path, tmp_path: Path) -> None:
    path = str(tmp_path) if wish[0] == "--ocr" else os.environ["PATH"]
    done = run("ingest", place.parent / "in", "--library", place, "--profile", "words", *wish, PATH=path)
    assert done.returncode == ExitCode.MISSING, done.stderr
    assert "apt-get install tesseract-ocr" in done.stderr


def test_exit_130_when_interrupted(tmp_path: Path) -> None:
    """Pages that are pictures, so that reading them takes its time."""
    picture = Image.new("L", (1200, 1700), 255)
    draw = ImageDraw.Draw(picture)
    for n in range(60):
        draw.text((100, 60 + 26 * n), f"line {n} of a page that takes a while to read " * 2, 0, font_size=20)
    (tmp_path / "in").mkdir()
    pages = [picture] * 30
    picture.save(tmp_path / "in" / "long.pdf", save_all=True, append_images=pages)
    paths = [str(tmp_path / "in"), "--library", str(tmp_path / "new")]
    command = [COMMAND, "ingest", *paths, "--profile", "words"]
    with interruptible(), subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "OCR by" in process.stderr.readline()  # from here on it reads
        time.sleep(0.5)
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == ExitCode.INTERRUPTED
        assert time.monotonic() - sent < 5
        assert "interrupted; the library is sound" in process.stderr.read()
    assert run("status", "--library", tmp_path / "new").returncode == ExitCode.DONE


@contextmanager
def interruptible() -> Iterator[None]:
    """A shell that runs tests in the background lets their children ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_reader_that_has_seen_enough_is_no_failure(small_library: Library) -> None:
    """As `| head` is, when it has closed its end."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [COMMAND, "pages", "--library", str(small_library.folder)]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (ExitCode.DONE, "")


# which pages count: the same words on the command line, in Python and in files

FILTERS: list[tuple[dict[str, Any], list[str]]] = [
    ({"stem": "lease"}, ["lease.pdf 1", "lease.pdf 2", "lease.pdf 3"]),
    ({"stem": ["minutes", "annual report"]}, ["annual report.pdf 1", "annual report.pdf 2", "minutes.pdf 1"]),
    ({"path": "post/*"}, ["minutes.pdf 1"]),
    ({"page": [2, 3]}, ["annual report.pdf 2", "lease.pdf 2", "lease.pdf 3"]),
    ({"date": ["2022-11-30", "2023-02-14"]}, ["annual report.pdf 1", "annual report.pdf 2", "minutes.pdf 1"]),
    ({"language": "deu"}, []),
    ({"stem": "lease", "page": [1, 1]}, ["lease.pdf 1"]),
]


def test_filters_mean_the_same_everywhere(small_library: Library, tmp_path: Path, here: Here) -> None:
    def named(path: str, page: int) -> str:
        return f"{Path(path).name} {page}"

    pages = {each["page_id"]: named(each["path"], each["page"]) for each in small_library.pages()}
    doc_id = next(id.split("#")[0] for id, name in pages.items() if name.startswith("lease"))
    cases = [*FILTERS, ({"doc_id": doc_id}, ["lease.pdf 1", "lease.pdf 2", "lease.pdf 3"])]
    questions = tmp_path / "questions.jsonl"
    lines = [{"id": f"q{n}", "query": FOOTER, "filter": filter} for n, (filter, _) in enumerate(cases)]
    questions.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    place = ("--library", small_library.folder, "--stage", "bm25")
    here("search", "--queries", questions, "--run", tmp_path / "out.trec", *place)
    columns = [line.split() for line in (tmp_path / "out.trec").read_text().splitlines()]
    for n, (filter, expected) in enumerate(cases):
        in_python = small_library.search(FOOTER, filter=filter, stage="bm25")
        assert sorted(named(hit.path, hit.page) for hit in in_python) == expected
        assert sorted(pages[each[2]] for each in columns if each[0] == f"q{n}") == expected
        on_the_line = json.loads(here("search", FOOTER, *place, *options(filter), "--json"))["hits"]
        assert sorted(named(hit["path"], hit["page"]) for hit in on_the_line) == expected


def options(filter: Mapping[str, Any]) -> Iterator[str]:
    """A filter as the command line has it."""
    for key, value in filter.items():
        option = f"--{key.replace('_', '-')}"
        if key in ("page", "date"):
            yield from (option, *map(str, value))
        else:
            for each in value if isinstance(value, list) else [value]:
                yield from (option, each)


@pytest.mark.parametrize(
    "filter", [{"colour": "red"}, {"page": "one"}, {"page": [1, 2, 3]}, {"page": [3, 1]}, {"date": "May"}]
)
def test_a_wrong_filter_is_said(filter: dict[str, Any], small_library: Library) -> None:
    with pytest.raises(UsageError, match=next(iter(filter))):
        small_library.search(FOOTER, filter=filter, stage="bm25")


# what people see


def test_every_command_and_option_explains_itself(here: Here) -> None:
    group = typer.main.get_command(cli.app)
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        assert "Example" in command.help, name
        for parameter in command.params:
            assert parameter.help, f"{name} {parameter.name}"
        assert f"Usage: pagelens {name}" in here(name, "--help")


def test_readme_mentions_every_command() -> None:
    if not README.exists():
        pytest.skip("there is no README.md yet")
    text = README.read_text(encoding="utf-8")
    for name in typer.main.get_command(cli.app).commands:  # type: ignore[attr-defined]
        assert f"pagelens {name}" in text, name


def test_hits_fit_80_columns(small_library: Library) -> None:
    shown = run(
        "search", "who signed the lease?", "--stage", "bm25", "--library", small_library.folder
    ).stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert "/lease.pdf, page 3" in shown and "signed by Martha Lindqvist" in shown
    assert "\x1b" not in shown  # colours are for terminals


def test_no_command_teaches() -> None:
    done = run()
    assert (done.returncode, "ingest" in done.stdout + done.stderr) == (ExitCode.USAGE, True)


def test_text_cannot_steer_the_terminal(tmp_path: Path) -> None:
    """File names and page texts with escape sequences, markup and marks that turn the writing around."""
    hostile = "a\x1b[2J[red]b\u202ec.pdf"
    write_pdf(tmp_path / "in" / hostile, ["the beacon [/red] shone \x1b[31m"])
    place = ("--library", tmp_path / "new")
    answers = [
        run("ingest", tmp_path / "in", *place, "--profile", "words"),
        run("search", "beacon", "--html", tmp_path / f"{hostile}.html", *place),
        run("pages", *place),
        run("remove", "--", f"no {hostile}", *place),
    ]
    assert [each.returncode for each in answers] == [0, 0, 0, ExitCode.USAGE]
    for each in answers:
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f\x80-\x9f\u202a-\u202e]", each.stdout + each.stderr)
    assert "[red]b" in answers[1].stdout and "[/red]" in answers[1].stdout
    assert json.loads(run("pages", "--json", *place).stdout)["path"] == str(tmp_path / "in" / hostile)


def test_progress_in_words() -> None:
    pace = talk.pace
    assert pace(Progress(done=0, total=12, files_left=3, failed=0), 1.0) == "0 of 12 pages, 3 files to open"
    half = pace(Progress(done=500, total=1000, files_left=0, failed=2), 5000.0)
    assert half == "500 of 1000 pages, 0.1/s, 1:23:20 left, 2 failed"
    assert pace(Progress(done=1, total=1, files_left=0, failed=0), 2.0) == "1 of 1 page"


def test_each_part_of_an_ingest_has_a_rate_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages looked at anew in an hour say nothing of how long the new ones will take to read."""
    now = [0.0]
    monkeypatch.setattr("pagelens.cli.talk.time.monotonic", lambda: now[0])
    monkeypatch.setattr(talk, "TELL", 0.0)
    with talk.ingest_progress(quiet=False) as advance:
        for now[0], done in ((3600.0, 10), (3601.0, 0), (3611.0, 10)):
            advance(Progress(done, 20, 0, 0))
    assert capsys.readouterr().err.splitlines()[-1] == "10 of 20 pages, 1.0/s, 10.0 s left"


def test_progress_outside_a_terminal_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with talk.meter(quiet=False) as tell:
        for n in range(100):
            tell(n, 100, f"{n} of 100")
    assert capsys.readouterr().err == ""  # it took no time
    monkeypatch.setattr(talk, "TELL", 0.0)
    for quiet, expected in ((False, "1 of 2\n2 of 2\n"), (True, "")):
        with talk.meter(quiet) as tell:
            tell(1, 2, "1 of 2")
            tell(2, 2, "2 of 2")
        assert capsys.readouterr() == ("", expected)


def test_progress_in_a_terminal_is_a_bar(place: Path) -> None:
    ours, theirs = pty.openpty()
    paths = [str(place.parent / "in" / "note.pdf"), "--library", str(place)]
    command = [COMMAND, "ingest", *paths, "--profile", "words"]
    done = subprocess.run(command, stderr=theirs, env={**os.environ, "TERM": "xterm"}, check=False)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 65536)
        except OSError:  # the other end is closed: EIPIO on Linux
            break
    os.close(ours)
    assert done.returncode == ExitCode.DONE
    assert "\N{BOX DRAWINGS HEAVY HORIZONTAL}" in shown.decode() and "1 of 1 page" in shown.decode()
