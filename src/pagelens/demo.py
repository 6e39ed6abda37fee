"""The demo: draw an office's scans, read them by OCR, ask six questions, check and show the answers.

`python -m pagelens.demo` ends with 1 when a question's page is not found first. What is found rests on OCR
alone; what the sample knows of its pages serves to check it.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from pagelens.errors import ExitCode, Missing, PagelensError
from pagelens.gallery import page_html
from pagelens.hits import Hits
from pagelens.ingest import ocr
from pagelens.library import Library
from pagelens.records import Box, Evidence
from pagelens.sample import LANGUAGES, QUESTIONS, Question, make_sample

SHOWN = 3
"""Pages a question in the gallery."""
COVERED = 0.6
"""Share of the drawn answer's box: it has room for ascenders and descenders, OCR's box hugs the ink."""


class Verdict(NamedTuple):
    """What became of a question that has an answer."""

    rank: int | None
    """Of the answer's page, from 1; None: not among the hits."""
    covered: bool
    """Whether a passage of that page's evidence has the answer's words, and its box their place."""


def judge(question: Question, answer: Box, hits: Hits) -> Verdict:
    """Hold the hits for a question against the page that answers it, and where on it."""
    for rank, hit in enumerate(hits, start=1):
        if (hit.name, hit.page) == (question.file, question.page):
            return Verdict(rank, any(_covers(each, question.answer, answer) for each in hit.evidence))
    return Verdict(None, False)


def _covers(evidence: Evidence, words: str, place: Box) -> bool:
    box = evidence.box
    wide = min(box.right, place.right) - max(box.left, place.left)
    high = min(box.bottom, place.bottom) - max(box.top, place.top)
    share = max(0.0, wide) * max(0.0, high) / (place.width * place.height)
    return words in evidence.text and share >= COVERED


def run(out: Path, console: Console) -> dict[Question, Verdict]:
    """Make everything in the folder `out`; what became of each question that has an answer.

    Raises:
        PagelensError: something that it needs is missing, or the scans were not ingested.
    """
    scans, folder = out / "sample-office", out / "sample-office.pagelens"
    for old in (scans, folder):
        shutil.rmtree(old, ignore_errors=True)
    console.print(f"Drawing and scanning an office: {scans}", markup=False, soft_wrap=True)
    answers = make_sample(scans)
    command = ["ingest", str(scans), "--library", str(folder), "--lang", "+".join(LANGUAGES)]
    _pagelens(command + _engine(console), console)
    console.print()
    with Library(folder) as library:
        results = {question: library.search(question.query) for question in QUESTIONS}
        verdicts = {question: judge(question, answers[question], results[question]) for question in answers}
        console.print(_table(results, verdicts))
        for question in QUESTIONS:
            if question.file is None:
                console.print("A question that no page answers gets the nearest pages, and a note:")
                _pagelens(["search", question.query, "-k", str(SHOWN), "--library", str(folder)], console)
        gallery = out / "gallery.html"
        pages = [(question.query, hits[:SHOWN]) for question, hits in results.items()]
        gallery.write_text(page_html(pages), encoding="utf-8")
    said = f"\nThe pages with their evidence marked, for a browser: {gallery}"
    console.print(said, markup=False, soft_wrap=True)
    return verdicts


def _engine(console: Console) -> list[str]:
    """Options of `ingest`: rapidocr, and a word on why, where tesseract or a language of it lacks."""
    try:
        ocr.choose(None, LANGUAGES)
        return []
    except Missing as lack:
        engine = ocr.choose("rapidocr", LANGUAGES)
        console.print(f"{lack}. Reading with {engine} for now.", markup=False, soft_wrap=True)
        return ["--ocr", engine]


def _pagelens(arguments: list[str], console: Console) -> None:
    """Run the command line as a user would; two files of the sample are meant to fail."""
    console.print(f"$ pagelens {shlex.join(arguments)}", markup=False, soft_wrap=True)
    sys.stdout.flush()
    ended = subprocess.run([sys.executable, "-m", "pagelens.cli", *arguments], check=False).returncode
    if ended not in (ExitCode.DONE, ExitCode.FAILURES):
        raise PagelensError(f"pagelens {arguments[0]} ended with {ended}")


def _table(results: Mapping[Question, Hits], verdicts: Mapping[Question, Verdict]) -> Table:
    table = Table(box=SIMPLE_HEAD, leading=1, caption="Scores compare the pages of one question only.")
    table.add_column("question, and the words that answer")
    for name in ("page of the answer", "rank", "evidence", "score"):
        table.add_column(name, no_wrap=True)
    for question, hits in results.items():
        asked, row = escape(question.query), ["not in the collection", "", ""]
        if question in verdicts:
            rank, covered = verdicts[question]
            asked += f"\n[bold]{escape(question.answer)}[/]"
            row = [
                f"{question.file}, page {question.page}",
                str(rank or "none"),
                "covers it" if covered else "misses it",
            ]
        table.add_row(asked, *row, f"{hits[0].score:.2f}" if hits else "no hit")
    return table


def _own_folder() -> Iterable[str]:
    """What to do next."""
    program = Path(sys.executable).with_name("pagelens")
    here = Path.cwd()
    shown = program.relative_to(here) if program.is_relative_to(here) else program
    yield "Your own folder:"
    yield f"  {shown} ingest FOLDER --lang {'+'.join(LANGUAGES)}"
    yield f'  {shown} search "who signed the lease?" --html hits.html'


def main() -> None:
    """Run the demo, and turn what went wrong into an exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("demo-output"), help="folder for what it makes")
    console = Console(highlight=False)
    try:
        verdicts = run(parser.parse_args().out, console)
    except PagelensError as error:
        console.print(str(error), markup=False, style="red")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    for line in _own_folder():
        console.print(line, markup=False, soft_wrap=True)
    first = all(verdict.rank == 1 for verdict in verdicts.values())
    sys.exit(ExitCode.DONE if first else ExitCode.BUG)


if __name__ == "__main__":
    main()
