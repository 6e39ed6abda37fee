"""The command line: data on standard output, talk on standard error, one exit code a reason."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from pagelens.errors import DocumentError, ExitCode, PagelensError, UsageError

if TYPE_CHECKING:
    from pagelens.indexing import Progress
    from pagelens.library import Library

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Search over scanned pages. Start with `pagelens ingest FOLDER`, then `pagelens search 'a question'`.",
    epilog="Exit codes: 0 done, 1 bug, 2 usage, 3 done with failures, 4 library busy, 5 model or tool missing, "
    "130 interrupted.",
)
talk = Console(stderr=True, highlight=False)

Folder = Annotated[
    Path | None,
    typer.Option(
        "--library", help="The library's folder. Default: $PAGELENS_LIBRARY, else ./library.pagelens."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
ProfileName = Annotated[
    str, typer.Option("--profile", help="auto, light (BM25 and all-MiniLM-L6-v2) or words (BM25 alone).")
]
Models = Annotated[
    Path | None, typer.Option("--models", help="Folder with a folder a model. Default: $PAGELENS_MODELS.")
]


@app.command()
def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Files and folders: PDF and images.")],
    library: Folder = None,
    profile: ProfileName = "auto",
    models: Models = None,
    lang: Annotated[
        str | None,
        typer.Option(help="Languages of the pages as tesseract names them: eng+deu. Default: eng."),
    ] = None,
    ocr: Annotated[
        str | None, typer.Option(help="tesseract or rapidocr. Default: tesseract if it is there.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read files and folders into the library; what is there already is not read again.

    Interrupt it whenever you like: the next run goes on where it stopped.

    Example: `pagelens ingest scans/ --lang eng+deu`
    """
    if ocr not in (None, "tesseract", "rapidocr"):
        raise UsageError(f"--ocr {ocr}: choose tesseract or rapidocr")
    with _open(library, profile, models) as opened, _progress() as advance:
        report = opened.ingest(
            *paths,
            languages=tuple(lang.split("+")) if lang else None,
            ocr_engine=ocr,  # type: ignore[arg-type]
            progress=advance,
            say=lambda line: talk.print(line),
        )
    failed = [{"path": f.path, "page": f.page, "stage": f.stage, "reason": f.reason} for f in report.failed]
    if as_json:
        _out(
            {
                "added": report.added,
                "changed": report.changed,
                "unchanged": report.unchanged,
                "removed": report.removed,
                "failed": failed,
                "seconds": round(report.seconds, 3),
            }
        )
    talk.print(
        f"{report.added} added, {report.changed} changed, {report.unchanged} unchanged: {report.pages} pages read in "
        f"{report.seconds:.1f} s"
    )
    for each in report.failed:
        where = f"{each.path}, page {each.page}" if each.page else each.path
        talk.print(f"could not read {where}: {each.reason}", markup=False, style="yellow")
    if failed:
        raise typer.Exit(ExitCode.FAILURES)


@app.command()
def search(
    query: Annotated[str | None, typer.Argument(help="The question.")] = None,
    library: Folder = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many pages.")] = 10,
    stage: Annotated[
        str, typer.Option(help="fused, or one list alone: bm25 (loads no model), text, document.")
    ] = "fused",
    doc_id: Annotated[list[str] | None, typer.Option(help="Only this document; may be repeated.")] = None,
    stem: Annotated[list[str] | None, typer.Option(help="Only files of this name without suffix.")] = None,
    path: Annotated[list[str] | None, typer.Option(help="Only files whose path matches this glob.")] = None,
    page: Annotated[tuple[int, int] | None, typer.Option(help="Only pages FROM TO, from 1.")] = None,
    date: Annotated[
        tuple[str, str] | None, typer.Option(help="Only files dated FROM TO, as 2024-03-31.")
    ] = None,
    language: Annotated[list[str] | None, typer.Option(help="Only pages in this language, as eng.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write the gallery, one self-contained page, to this file.")
    ] = None,
    queries: Annotated[
        Path | None, typer.Option(help="A JSONL file of questions (id, query, optional filter).")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="With --queries: the TREC run to write.")] = None,
    page_name: Annotated[
        str, typer.Option(help="With --run: how pages are called; knows doc_id, stem, path, number, page.")
    ] = "{doc_id}#{number}",
    profile: ProfileName = "auto",
    models: Models = None,
    as_json: Json = False,
) -> None:
    """Find the pages that answer a question, with the evidence on them.

    Examples: `pagelens search "who signed the lease?" -k 5 --html hits.html`,
    `pagelens search --queries q.jsonl --run out.trec -k 100 --page-name '{stem}#{number}'`
    """
    given = {"doc_id": doc_id, "stem": stem, "path": path, "page": page, "date": date, "language": language}
    wanted = {key: value for key, value in given.items() if value}
    if (query is None) == (queries is None) or (queries is None) != (run is None):
        raise UsageError("give a question, or --queries FILE together with --run FILE")
    with _open(library, profile, models, must_exist=True) as opened:
        if queries is not None and run is not None:
            from pagelens.runs import write_run

            count = write_run(opened, queries, run, k, page_name, stage, wanted)
            talk.print(f"{count} questions answered into {run}")
            return
        assert query is not None
        hits = opened.search(query, k, wanted, stage)
        if html is not None:
            html.write_text(hits.to_html(), encoding="utf-8")
            talk.print(f"gallery written to {html}")
    if as_json:
        _out(hits.as_dict())
    else:
        sys.stdout.write(f"{hits!r}\n")


@app.command()
def status(library: Folder = None, as_json: Json = False) -> None:
    """What the library holds, what could not be read, what is missing."""
    with _open(library, "auto", None, must_exist=True) as opened:
        about = opened.status()
    if as_json:
        _out(about)
        return
    lines = [f"{about['documents']} documents, {about['pages']} pages"]
    lines += [f"{name}: {size / 2**20:.1f} MB" for name, size in about["bytes"].items()]
    lines += [f"{artefact} made with {signature}" for artefact, signature in about["signatures"].items()]
    for each in about["failed"]:
        where = f"{each['path']}, page {each['page']}" if each["page"] else each["path"]
        lines.append(f"could not read {where}: {each['reason']}")
    lines += [f"missing: {path}" for path in about["missing"]]
    sys.stdout.write("\n".join(lines) + "\n")


@app.command()
def remove(
    wanted: Annotated[list[str], typer.Argument(help="doc_ids, or paths the documents were read from.")],
    library: Folder = None,
    as_json: Json = False,
) -> None:
    """Take documents out of the library; the files they came from are left alone."""
    with _open(library, "auto", None, must_exist=True) as opened:
        gone = opened.remove(*wanted)
    if as_json:
        _out({"schema": 1, "removed": gone})
    talk.print(f"{len(gone)} documents removed")
    if not gone:
        raise UsageError("no document has such a doc_id or path; `pagelens pages --json` lists them")


@app.command()
def pages(library: Folder = None, as_json: Json = False) -> None:
    """Every page, a line each."""
    with _open(library, "auto", None, must_exist=True) as opened:
        for each in opened.pages():
            if as_json:
                _out(each)
            else:
                sys.stdout.write(
                    f"{each['page_id']}  {each['path']}, page {each['page']}  {each['words']} words\n"
                )


@app.command()
def doctor(models: Models = None, as_json: Json = False) -> None:
    """What is installed, which models are at hand, what a profile would use, what to do about what is missing."""
    from pagelens.doctor import examine

    findings = examine(models)
    if as_json:
        _out({"schema": 1, "findings": [each.as_dict() for each in findings]})
        return
    for each in findings:
        cure = f"  -> {each.cure}" if each.cure else ""
        sys.stdout.write(f"{'ok ' if each.good else '-- '} {each.name}: {each.found}{cure}\n")


def main() -> None:
    """Run, and turn what went wrong into an exit code."""
    try:
        app(standalone_mode=False)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        talk.print("interrupted; the library is sound, the same command goes on from here")
        sys.exit(ExitCode.INTERRUPTED)
    except DocumentError as error:
        talk.print(str(error), markup=False, style="red")
        sys.exit(ExitCode.FAILURES)
    except PagelensError as error:
        talk.print(str(error), markup=False, style="red")
        sys.exit(error.exit_code)
    except OSError as error:
        talk.print(error.strerror or str(error), markup=False, style="red")
        sys.exit(ExitCode.BUG)
    except Exception as error:
        # click's own errors, of whichever copy of click typer carries, know how to show themselves
        if not hasattr(error, "format_message"):
            raise
        error.show()  # type: ignore[attr-defined]
        sys.exit(ExitCode.USAGE)


def _open(folder: Path | None, profile: str, models: Path | None, must_exist: bool = False) -> Library:
    import os

    from pagelens.library import DEFAULT, Library

    place = Path(folder or os.environ.get("PAGELENS_LIBRARY") or DEFAULT)
    if must_exist and not (place / "library.json").exists():
        raise UsageError(f"there is no library at {place}; `pagelens ingest PATH --library {place}` makes it")
    return Library(place, profile, models)


@contextlib.contextmanager
def _progress() -> Iterator[Any]:
    """Pages, rate, time left and failures on standard error."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress as Bar, TextColumn, TimeRemainingColumn

    columns = [
        TextColumn("pages"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[rest]}"),
    ]
    with Bar(*columns, console=talk, transient=False) as bar:
        task = bar.add_task("", total=None, rate="", rest="")

        def advance(now: Progress) -> None:
            speed = bar.tasks[0].speed or 0.0
            left = f"{now.files_left} files to open" if now.files_left else ""
            failed = f"{now.failed} failed" if now.failed else ""
            rest = ", ".join(each for each in (left, failed) if each)
            bar.update(task, completed=now.done, total=now.total, rate=f"{speed:.1f}/s", rest=rest)

        yield advance


def _out(value: object) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
