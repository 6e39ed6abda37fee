"""The demo: `python -m pagelens.demo` draws an office, reads it by OCR, asks it six questions, shows the answers."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pagelens.gallery import page_html
from pagelens.hits import Hit, Hits
from pagelens.library import Library
from pagelens.sample import LANGUAGES, Question, make_sample


def main() -> None:
    """Run it; exit with 1 when an answerable question's page is not first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, default=Path("demo-output"), help="folder for everything it makes"
    )
    out: Path = parser.parse_args().out
    console = Console(width=118)
    shutil.rmtree(out, ignore_errors=True)
    console.print(f"drawing the sample collection into {out / 'scans'}")
    questions = make_sample(out / "scans")
    with Library(out / "demo.pagelens") as library:
        report = library.ingest(out / "scans", languages=LANGUAGES, say=console.print)
        console.print(f"{report.pages} pages read in {report.seconds:.1f} s")
        for failure in report.failed:
            console.print(f"could not read {Path(failure.path).name}: {failure.reason}")
        answers = [(question, library.search(question.query, k=10)) for question in questions]
        table = Table("question", "answer's page", "rank", "evidence covers", "top score")
        good = True
        for question, hits in answers:
            place, covered = _check(library, question, hits)
            good &= question.file is None or place == 1
            table.add_row(
                question.query,
                f"{question.file}, page {question.page}" if question.file else "not in the collection",
                "-" if question.file is None else str(place or "not found"),
                "-" if question.file is None else ("yes" if covered else "no"),
                f"{hits[0].score:.2f}" if hits else "no hit",
            )
        console.print(table)
        for question, hits in answers:
            if question.file is None:
                console.print("A question without an answer in the collection looks like this:")
                console.print(repr(hits[:3]), markup=False, highlight=False)
        gallery = out / "gallery.html"
        gallery.write_text(
            page_html([(question.query, hits[:3]) for question, hits in answers]), encoding="utf-8"
        )
        console.print(f"the pages with their evidence marked: {gallery}")
    sys.exit(0 if good else 1)


def _check(library: Library, question: Question, hits: Hits) -> tuple[int, bool]:
    """Rank of the answer's page (0: not found), and whether a box of evidence covers the answer."""
    for rank, hit in enumerate(hits, start=1):
        if hit.name == question.file and hit.page == question.page:
            return rank, _covers(library, question.answer, hit)
    return 0, False


def _covers(library: Library, answer: str, hit: Hit) -> bool:
    """Whether the word is, as OCR read it, inside a box of evidence; half a point of rounding is forgiven."""
    for word in library.words(hit.page_id).words:
        if answer not in word.text:
            continue
        for evidence in hit.evidence:
            box, near = evidence.box, 0.5
            if (
                box.left - near <= word.box.left
                and box.top - near <= word.box.top
                and word.box.right <= box.right + near
                and word.box.bottom <= box.bottom + near
            ):
                return True
    return False


if __name__ == "__main__":
    main()
