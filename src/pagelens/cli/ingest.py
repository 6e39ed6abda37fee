"""`ingest` and `warm`: what is done to pages before anybody asks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pagelens.cli.options import (
    LOOK,
    PICTURES,
    Commercial,
    Device,
    Folder,
    Int8,
    Json,
    Level,
    Models,
    library_command,
    open_library,
)
from pagelens.cli.talk import duration, failed_line, ingest_progress, meter, put, put_json, say
from pagelens.errors import ExitCode, UsageError
from pagelens.hits import SCHEMA
from pagelens.rerankers import Looking
from pagelens.wording import counted

if TYPE_CHECKING:
    from pagelens.estimating import Estimate
    from pagelens.warming import Warmed


@library_command()
def ingest(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Files and folders: PDF and images.")],
    library: Folder = None,
    profile: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What pages are indexed by: light (BM25 and all-MiniLM-L6-v2), cpu (and colmodernvbert), "
            "gpu (and qwen3-vl-2b reranks), words (BM25 alone), or auto, which is light.",
        ),
    ] = "auto",
    models: Models = None,
    lang: Annotated[
        str | None,
        typer.Option(
            metavar="CODES",
            help="Languages of the pages as tesseract names them: eng+deu. Default: the library's, else eng.",
        ),
    ] = None,
    ocr: Annotated[
        Literal["tesseract", "rapidocr"] | None,
        typer.Option(help="What reads pages without text. Default: tesseract if it is installed."),
    ] = None,
    password: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", envvar="PAGELENS_PASSWORD", help="Of encrypted PDF files; kept nowhere."
        ),
    ] = None,
    item_per_folder: Annotated[
        bool,
        typer.Option("--item-per-folder", help="A folder of images is one document, its images the pages."),
    ] = False,
    metadata: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="CSV with a column path and any others (box, folder, date), to filter by with --where.",
        ),
    ] = None,
    regions: Annotated[
        bool,
        typer.Option(
            "--regions/--no-regions", help="Whether to look for tables, charts, signatures and the like."
        ),
    ] = True,
    retry: Annotated[bool, typer.Option("--retry", help="Try again what could not be read before.")] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Take out the files below PATH that are gone.")
    ] = False,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Read 20 pages and say how long all would take; store nothing.")
    ] = False,
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A text encoder more, for the pages that are there and those to come: a dense one or SPLADE "
            "of sentence-transformers, as owner/name, or a folder below --models. Repeatable.",
        ),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Encode pages as images too, those that are there and those to come: colmodernvbert (for a "
            "CPU), colqwen2, colpali-1.3, qwen3-vl-embedding-2b, nemotron-embed-vl; untested here: "
            "colqwen2.5, colsmol-256m, colsmol-500m, or owner/name of sentence-transformers. Repeatable.",
            rich_help_panel=PICTURES,
        ),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Take the vectors of --text or --image NAME out again, and free their space."
        ),
    ] = None,
    storage: Annotated[
        Literal["turbo8", "float16", "float32"],
        typer.Option(help="Of a new encoder's patches: 1, 2 or 4 bytes a number.", rich_help_panel=PICTURES),
    ] = "turbo8",
    pooling: Annotated[
        Literal["rows", "hierarchical"],
        typer.Option(
            help="Of a new encoder's patches for the first look: means of rows and columns, or of patches "
            "that are alike.",
            rich_help_panel=PICTURES,
        ),
    ] = "rows",
    prepare_rerank: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Then compute and keep what this reranker makes of each page, as `pagelens warm` does.",
            rich_help_panel=LOOK,
        ),
    ] = None,
    device: Device = "auto",
    commercial: Commercial = False,
    as_json: Json = False,
) -> None:
    """Read files and folders into the library; what is there already is not read again.

    Interrupt it whenever you like: the next run goes on where it stopped.

    Example: `pagelens ingest scans/ letter.pdf --lang eng+deu`

    Example: `pagelens ingest scans/ --estimate`

    Example: `pagelens ingest scans/ --image colqwen2`

    Example: `pagelens ingest scans/ --text BAAI/bge-small-en-v1.5 --drop colqwen2`
    """
    from pagelens.looks import LookSettings

    languages = tuple(lang.split("+")) if lang else None
    looking = Looking(device, commercial=commercial)
    kept_as = LookSettings(storage, pooling)
    if estimate:
        if drop:
            raise UsageError("--estimate changes nothing: leave out --drop")
        with open_library(library, models, profile=profile, looking=looking) as opened:
            found = opened.estimate(
                *paths,
                languages=languages,
                ocr_engine=ocr,
                password=password,
                item_per_folder=item_per_folder,
                text=text or (),
                image=image or (),
                look_settings=kept_as,
                say=say,
            )
        _estimated(found, as_json)
        return
    with (
        open_library(library, models, profile=profile, looking=looking) as opened,
        ingest_progress(as_json) as advance,
    ):
        for name in drop or ():
            opened.drop_encoder(name)
        report = opened.ingest(
            *paths,
            languages=languages,
            ocr_engine=ocr,
            password=password,
            item_per_folder=item_per_folder,
            retry=retry,
            prune=prune,
            metadata=metadata,
            regions=regions,
            text=text or (),
            image=image or (),
            look_settings=kept_as,
            progress=advance,
            say=say,
        )
    prepared = None
    if prepare_rerank:
        with (
            open_library(library, models, looking=looking) as opened,
            _warm_progress(as_json, opened.status()["pages"]) as advance_warm,
        ):
            prepared = opened.warm(prepare_rerank, progress=advance_warm)
    if as_json:
        more = {"prepared": _warmed_as_dict(prepared)} if prepared else {}
        keys = ("added", "changed", "unchanged", "removed", "encoded")
        counts = {key: getattr(report, key) for key in keys}
        failed = [asdict(each) for each in report.failed]
        put_json({"schema": SCHEMA, **counts, "failed": failed, "seconds": round(report.seconds, 3), **more})
    else:
        anew = f", {counted(report.encoded, 'stored page')} encoded" if report.encoded else ""
        for failure in report.failed:
            say(failed_line(failure.path, failure.page, failure.reason), style="yellow")
        say(
            f"{report.added} added, {report.changed} changed, {report.unchanged} unchanged, "
            f"{report.removed} removed, {len(report.failed)} failed; "
            f"{counted(report.pages, 'page')} read{anew} in {report.seconds:.1f} s"
        )
    if prepared and not as_json:
        _tell_warmed(prepared)
    if report.failed or (prepared and prepared.failed):
        raise typer.Exit(ExitCode.FAILURES)


@library_command()
def warm(
    rerank: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="For this reranker: jina-m0, nemotron-vl, qwen3-vl-2b, qwen3-vl-8b."
        ),
    ],
    library: Folder = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Only pages that these questions bring up; JSON lines as for search."
        ),
    ] = None,
    top: Annotated[
        int,
        typer.Option(
            "--pages-seen-in-top", min=1, metavar="N", help="With --queries: among so many of each question."
        ),
    ] = 20,
    cap: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="GB",
            help="May take so much; what was unused for longest makes room. Default: all.",
        ),
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Compute 4 pages and say what all would take; keep nothing.")
    ] = False,
    models: Models = None,
    device: Device = "auto",
    features: Level = "auto",
    int8: Int8 = False,
    commercial: Commercial = False,
    as_json: Json = False,
) -> None:
    """Compute and keep what a reranker makes of pages alone, so that questions need not wait for it.

    Interrupt it whenever you like: the next run goes on where it stopped. Search with the same --features and
    --int8 finds what is kept.

    Example: `pagelens warm --rerank qwen3-vl-2b --estimate`

    Example: `pagelens warm --rerank jina-m0 --queries last-month.jsonl --pages-seen-in-top 20 --cap 50`
    """
    looking = Looking(device, "auto", features, False, int8, commercial)
    with open_library(library, models, must_exist=True, looking=looking) as opened:
        pages = None
        if queries is not None:
            from pagelens.evaluation.runs import read_questions

            asked = read_questions(queries)
            pages = {id for each in asked for id, _ in opened.rank(each.query, top, each.filter)}
        if estimate:
            cost = opened.estimate_warm(rerank, pages)
            if as_json:
                put_json({"schema": SCHEMA, **cost._asdict()})
            else:
                say(
                    f"{counted(cost.pages, 'page')}: {duration(cost.seconds)}, {cost.bytes / 1e9:.2f} GB on "
                    "the disk, were nothing kept yet"
                )
            return
        total = len(pages) if pages is not None else opened.status()["pages"]
        with _warm_progress(as_json, total) as advance:
            done = opened.warm(rerank, pages, None if cap is None else int(cap * 1e9), advance)
    if as_json:
        put_json({"schema": SCHEMA, **_warmed_as_dict(done)})
    else:
        _tell_warmed(done)
    if done.failed:
        raise typer.Exit(ExitCode.FAILURES)


def _estimated(found: Estimate, as_json: bool) -> None:
    if as_json:
        put_json({"schema": SCHEMA, **asdict(found)})
        return
    hours, rest = divmod(round(found.seconds / 60), 60)
    parts = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in found.bytes.items())
    unreadable = f", {counted(found.unreadable, 'file')} of them unreadable" if found.unreadable else ""
    put(
        f"{counted(found.pages, 'page')} in {counted(found.files, 'file')}{unreadable}: about {hours} h "
        f"{rest:02} min and {sum(found.bytes.values()) / 1e6:.1f} MB ({parts}), judged by "
        f"{counted(found.sampled, 'page')}"
    )


@contextlib.contextmanager
def _warm_progress(quiet: bool, total: int) -> Iterator[Callable[[Warmed], None]]:
    """Pages that have features, and the time left, on standard error."""
    with meter(quiet) as tell:

        def advance(now: Warmed) -> None:
            done = now.pages + len(now.failed)
            left = f", {duration(now.seconds / now.made * (total - done))} left" if now.made else ""
            tell(done, total, f"{done} of {counted(total, 'page')}{left}")

        yield advance


def _tell_warmed(done: Warmed) -> None:
    """What was kept, and which pages could not be looked at."""
    for each in done.failed:
        say(each.problem, style="yellow")
    say(f"{counted(done.pages, 'page')} ready, {done.made} made ready in {duration(done.seconds)}")


def _warmed_as_dict(done: Warmed) -> dict[str, Any]:
    failed = [{"page_id": each.page_id, "reason": each.problem} for each in done.failed]
    return {"pages": done.pages, "made": done.made, "failed": failed, "seconds": round(done.seconds, 3)}
