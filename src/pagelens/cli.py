"""The command line: data on standard output, talk on standard error, one exit code a reason."""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text

from pagelens.errors import ExitCode, PagelensError, UsageError
from pagelens.hits import SCHEMA
from pagelens.rerankers import Looking
from pagelens.wording import counted, printable, quoted

if TYPE_CHECKING:
    from pagelens.estimating import Estimate
    from pagelens.hits import Hit, Hits
    from pagelens.indexing import Progress
    from pagelens.library import Library
    from pagelens.places import Place
    from pagelens.rules import Rule
    from pagelens.searching import Cascade
    from pagelens.warming import Warmed

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Search over scanned pages. First `pagelens ingest FOLDER`, then `pagelens search 'a question'`.",
    epilog="Exit codes: 0 done, 1 bug, 2 usage, 3 done with failures, 4 library busy, "
    "5 model or tool missing, 130 interrupted.",
)
talk = Console(stderr=True, highlight=False)

TELL = 10.0
"""Seconds between two lines of progress where standard error is no terminal."""
LEGIBLE = 100
"""Columns of text at most, however wide the terminal is."""

SERVER = "A library on a Qdrant server"
Folder = Annotated[
    str | None,
    typer.Option(
        "--library",
        metavar="DIR|URL",
        help="The library's folder, or a Qdrant server as http://localhost:6334. "
        "Default: $PAGELENS_LIBRARY, else ./library.pagelens.",
    ),
]
PagesRoot = Annotated[
    str | None,
    typer.Option(
        "--pages",
        metavar="DIR|URL",
        help="Where its page files lie: a folder or a URL fsspec knows, as s3://bucket/pages.",
        rich_help_panel=SERVER,
    ),
]
Collection = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Its collection. Default: pagelens.", rich_help_panel=SERVER),
]
Json = Annotated[bool, typer.Option("--json", help="JSON on standard output.")]
Models = Annotated[
    Path | None,
    typer.Option(
        "--models",
        metavar="DIR",
        help="Where models are looked for first, a folder each. Default: $PAGELENS_MODELS.",
    ),
]
LOOK = "Rerankers that look at pages"
Device = Annotated[
    str, typer.Option(metavar="NAME", help="auto, cpu, cuda, cuda:1, mps.", rich_help_panel=LOOK)
]
Level = Annotated[
    Literal["auto", "none", "vision", "prefix"],
    typer.Option(
        help="What of a page is computed once and kept: none, the vision tower's answer, all that a model "
        "made of it (jina-m0), or the most the model has. Scores do not depend on it.",
        rich_help_panel=LOOK,
    ),
]
Int8 = Annotated[
    bool,
    typer.Option("--int8", help="Keep it in fewer bytes; scores then differ a little.", rich_help_panel=LOOK),
]
WithText = Annotated[
    bool,
    typer.Option(
        "--with-text", help="Give the words of a page beside its image; not jina-m0.", rich_help_panel=LOOK
    ),
]
Commercial = Annotated[
    bool,
    typer.Option(
        "--commercial", help="Refuse models whose licence forbids commercial use.", rich_help_panel=LOOK
    ),
]
PICTURES = "Pages as images"
Questions = Annotated[
    Path, typer.Option("--queries", metavar="FILE", help="Questions, as `search --queries` has them.")
]
Judgements = Annotated[
    Path,
    typer.Option(
        "--qrels",
        metavar="FILE",
        help="Which pages answer: TREC's four columns, or query page relevance, as BEIR.",
    ),
]
PageName = Annotated[
    str,
    typer.Option(
        "--page-name", metavar="TEMPLATE", help="How the qrels name pages, as in `search --queries`."
    ),
]
BY_ID = "{doc_id}#{number}"
"""How pages are named where nothing else is said."""
WHICH = "Which pages count"
MANY = "Many questions"
_elsewhere: ContextVar[tuple[str | None, str | None]] = ContextVar("_elsewhere", default=(None, None))
"""`--pages` and `--collection` of the command that runs."""


def library_command(name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command on a library: it also takes what `--library` leaves open of one on a server."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(*, pages: str | None = None, collection: str | None = None, **given: Any) -> None:
            _elsewhere.set((pages, collection))
            command(**given)

        more = {"pages": PagesRoot, "collection": Collection}
        kind = inspect.Parameter.KEYWORD_ONLY
        signature = inspect.signature(command, eval_str=True)
        parameters = [each.replace(kind=kind) for each in signature.parameters.values()]
        parameters += [
            inspect.Parameter(name, kind, default=None, annotation=annotation)
            for name, annotation in more.items()
        ]
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {**command.__annotations__, **more}
        app.command(name)(run)
        return command

    return decorate


@library_command()
def ingest(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Files and folders: PDF and images.")],
    library: Folder = None,
    profile: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What pages are indexed by: light (BM25 and all-MiniLM-L6-v2), words (BM25 alone) or auto.",
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
    no_image: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Take a visual encoder's vectors out again.", rich_help_panel=PICTURES
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
    """
    from pagelens.looks import LookSettings

    languages = tuple(lang.split("+")) if lang else None
    looking = Looking(device, commercial=commercial)
    kept_as = LookSettings(storage, pooling)
    if estimate:
        with _open(library, models, profile=profile, looking=looking) as opened:
            found = opened.estimate(
                *paths,
                languages=languages,
                ocr_engine=ocr,
                password=password,
                item_per_folder=item_per_folder,
                image=image or (),
                look_settings=kept_as,
                say=_say,
            )
        _estimated(found, as_json)
        return
    with _open(library, models, profile=profile, looking=looking) as opened, _progress(as_json) as advance:
        for name in no_image or ():
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
            image=image or (),
            look_settings=kept_as,
            progress=advance,
            say=_say,
        )
    prepared = None
    if prepare_rerank:
        with (
            _open(library, models, looking=looking) as opened,
            _warming(as_json, opened.status()["pages"]) as advance_warm,
        ):
            prepared = opened.warm(prepare_rerank, progress=advance_warm)
    if as_json:
        more = {"prepared": _as_dict(prepared)} if prepared else {}
        counts = {key: getattr(report, key) for key in ("added", "changed", "unchanged", "removed")}
        failed = [asdict(each) for each in report.failed]
        _out({"schema": SCHEMA, **counts, "failed": failed, "seconds": round(report.seconds, 3), **more})
    else:
        for failure in report.failed:
            _say(_failed(failure.path, failure.page, failure.reason), style="yellow")
        _say(
            f"{report.added} added, {report.changed} changed, {report.unchanged} unchanged, "
            f"{report.removed} removed, {len(report.failed)} failed; "
            f"{counted(report.pages, 'page')} read in {report.seconds:.1f} s"
        )
    if prepared and not as_json:
        _warmed(prepared)
    if report.failed or (prepared and prepared.failed):
        raise typer.Exit(ExitCode.FAILURES)


@library_command()
def search(
    query: Annotated[str | None, typer.Argument(metavar="QUESTION", help="What is asked, in words.")] = None,
    library: Folder = None,
    k: Annotated[int, typer.Option("-k", min=1, metavar="N", help="How many pages.")] = 10,
    stage: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Stop at this stage: bm25 (loads no model), text, document, fused. Default: the last.",
        ),
    ] = None,
    rerank: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME@PAGES",
            help="What orders the best pages anew: evidence@50 (the default), text@20, a file that "
            "`pagelens fit` wrote, one that looks at the page (jina-m0, nemotron-vl, qwen3-vl-2b, "
            "qwen3-vl-8b, lighton-rerank-pw-0.8b), or none. Repeated: one after the other.",
        ),
    ] = None,
    budget_ms: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="MS",
            help="For the whole search: no page is looked at that does not fit.",
            rich_help_panel=LOOK,
        ),
    ] = None,
    skip_margin: Annotated[
        float | None,
        typer.Option(
            metavar="SD",
            help="Leave a reranker out when the best page leads by so many standard deviations.",
            rich_help_panel=LOOK,
        ),
    ] = None,
    min_probability: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="0..1",
            help="Only pages at least so likely to answer, perhaps none; after `pagelens calibrate`.",
        ),
    ] = None,
    device: Device = "auto",
    features: Level = "auto",
    int8: Int8 = False,
    with_text: WithText = False,
    commercial: Commercial = False,
    image: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="An image that pages should look like, with a question or without.",
            rich_help_panel=PICTURES,
        ),
    ] = None,
    no_looks: Annotated[
        bool,
        typer.Option(
            "--no-looks", help="Words alone: no visual encoder is loaded.", rich_help_panel=PICTURES
        ),
    ] = False,
    group: Annotated[
        Literal["document"] | None, typer.Option(help="The best page of each document only.")
    ] = None,
    diverse: Annotated[
        float | None,
        typer.Option(metavar="0..1", help="Unlike pages first; 1 looks at relevance alone, 0.7 is usual."),
    ] = None,
    boost: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUE", help="Pages of that kind come up, none is left out."),
    ] = None,
    any_page: Annotated[
        bool, typer.Option("--any-page", help="A page number in the question is a word like others.")
    ] = False,
    models: Models = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the gallery, one page that needs no other file."),
    ] = None,
    as_json: Json = False,
    doc_id: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Of this document.", rich_help_panel=WHICH)
    ] = None,
    stem: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Of files of this name, without its suffix.", rich_help_panel=WHICH
        ),
    ] = None,
    path: Annotated[
        list[str] | None,
        typer.Option(metavar="GLOB", help="Of files whose path matches.", rich_help_panel=WHICH),
    ] = None,
    page: Annotated[
        tuple[int, int] | None,
        typer.Option(metavar="FROM TO", help="By number, from 1, both included.", rich_help_panel=WHICH),
    ] = None,
    date: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="FROM TO", help="By the file's date, as 2024-03-31.", rich_help_panel=WHICH),
    ] = None,
    language: Annotated[
        list[str] | None, typer.Option(metavar="CODE", help="Written in it, as eng.", rich_help_panel=WHICH)
    ] = None,
    has: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="With such a region on it: table, chart, figure, signature, stamp, handwriting, title, "
            "text, equation. It is shown.",
            rich_help_panel=WHICH,
        ),
    ] = None,
    fields: Annotated[
        list[str] | None,
        typer.Option(
            "--where", metavar="FIELD=VALUE", help="By a field of ingest --metadata.", rich_help_panel=WHICH
        ),
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='JSON lines such as {"id": "q1", "query": "who signed?", "filter": {"stem": "lease"}}.',
            rich_help_panel=MANY,
        ),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The TREC run to write.", rich_help_panel=MANY)
    ] = None,
    page_name: Annotated[
        str,
        typer.Option(
            metavar="TEMPLATE",
            help="How the run names pages: of doc_id, stem, path, number (from 0) and page (from 1).",
            rich_help_panel=MANY,
        ),
    ] = BY_ID,
) -> None:
    """Find the pages that answer a question, with the evidence on them.

    What says which pages count must all hold; doc-id, stem, path and language may be repeated: any of them.

    Example: `pagelens search "who signed the lease?" -k 5 --html hits.html`

    Example: `pagelens search "who signed the lease?" --rerank evidence@50 --rerank text@20 --group document`

    Example: `pagelens search "sales by region" --rerank qwen3-vl-2b@20 --budget-ms 500`

    Example: `pagelens search --image stamp.png`

    Example: `pagelens search "who owns the boat?" --min-probability .5`

    Example: `pagelens search --queries q.jsonl --run out.trec -k 100 --page-name '{stem}#{number}'`
    """
    from pagelens.rules import boost as rule_boost
    from pagelens.rules import diverse as spread
    from pagelens.rules import one_per_document

    given = {"doc_id": doc_id, "stem": stem, "path": path, "page": page, "date": date, "language": language}
    given["has"] = has
    wanted: dict[str, Any] = {key: value for key, value in given.items() if value}
    for field, value in _pairs("--where", fields):
        wanted.setdefault(field, []).append(value)
    cascade = _cascade(rerank)
    rules: list[Rule] = [rule_boost(field, value) for field, value in _pairs("--boost", boost)]
    rules += [spread(diverse)] if diverse is not None else []
    rules += [one_per_document] if group else []
    if run and (rules or any_page or min_probability is not None):
        raise UsageError(
            "a run has every page: leave out --group, --diverse, --boost, --any-page and --min-probability"
        )
    if run and (budget_ms is not None or skip_margin is not None):
        raise UsageError("a run takes the time it takes: leave out --budget-ms and --skip-margin")
    alone = query is not None or image is not None
    if alone == (queries is not None) or (queries is None) != (run is None) or (html and run):
        raise UsageError("give a question, or --queries FILE together with --run FILE and without --html")
    looking = Looking(device, "auto", features, with_text, int8, commercial)
    with _open(library, models, must_exist=True, looking=looking) as opened:
        if queries is not None and run is not None:
            from pagelens.runs import write_run

            with _counting(as_json) as advance:
                count = write_run(opened, queries, run, k, page_name, stage, wanted, cascade, advance)
            if as_json:
                _out({"schema": SCHEMA, "queries": count, "run": str(run.resolve())})
            else:
                _say(f"{counted(count, 'question')} answered into {run}")
            return
        hits = opened.search(
            query or "",
            k,
            wanted,
            stage,
            cascade,
            rules,
            not any_page,
            budget_ms,
            skip_margin,
            image,
            looks=not no_looks,
            min_probability=min_probability,
        )
        if html is not None:
            _write(html, hits.to_html())
            _say(f"gallery written to {html}")
    if as_json:
        _out(hits.as_dict())
    else:
        _show(hits)


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
    with _open(library, models, must_exist=True, looking=looking) as opened:
        pages = None
        if queries is not None:
            from pagelens.runs import read_questions

            asked = read_questions(queries)
            pages = {id for each in asked for id, _ in opened.rank(each.query, top, each.filter)}
        if estimate:
            cost = opened.estimate_warm(rerank, pages)
            if as_json:
                _out({"schema": SCHEMA, **cost._asdict()})
            else:
                _say(
                    f"{counted(cost.pages, 'page')}: {_duration(cost.seconds)}, {cost.bytes / 1e9:.2f} GB on "
                    "the disk, were nothing kept yet"
                )
            return
        total = len(pages) if pages is not None else opened.status()["pages"]
        with _warming(as_json, total) as advance:
            done = opened.warm(rerank, pages, None if cap is None else int(cap * 1e9), advance)
    if as_json:
        _out({"schema": SCHEMA, **_as_dict(done)})
    else:
        _warmed(done)
    if done.failed:
        raise typer.Exit(ExitCode.FAILURES)


@library_command()
def status(library: Folder = None, as_json: Json = False) -> None:
    """What the library holds, what could not be read, what is missing.

    Example: `pagelens status --json | jq .failed`
    """
    with _open(library, must_exist=True) as opened:
        about = opened.status()
    if as_json:
        _out(about)
        return
    sizes = about["bytes"]
    lines = [f"{counted(about['documents'], 'document')}, {counted(about['pages'], 'page')}"]
    lines += [
        f"{sum(sizes.values()) / 1e6:.1f} MB: " + ", ".join(f"{k} {v / 1e6:.1f}" for k, v in sizes.items())
    ]
    if about["regions"]:
        lines += ["pages with " + ", ".join(f"{kind} {count}" for kind, count in about["regions"].items())]
    lines += [f"{artefact}: {signature}" for artefact, signature in about["signatures"].items()]
    lines += [
        f"stale: {artefact} of {counted(count, 'page')} made otherwise; ingest their files to make it anew"
        for artefact, count in about["stale"].items()
    ]
    lines += [_failed(each["path"], each["page"], each["reason"]) for each in about["failed"]]
    lines += [f"missing: {path}" for path in about["missing"]]
    for line in lines:
        _print(line)


@library_command()
def remove(
    wanted: Annotated[
        list[str], typer.Argument(metavar="NAME", help="doc_ids, or paths the documents were read from.")
    ],
    library: Folder = None,
    as_json: Json = False,
) -> None:
    """Take documents out of the library; the files they came from are left alone.

    Example: `pagelens remove scans/draft.pdf`
    """
    with _open(library, must_exist=True) as opened:
        gone = opened.remove(*wanted)
    if as_json:
        _out({"schema": SCHEMA, "removed": gone})
    else:
        _say(f"{counted(len(gone), 'document')} removed")


@library_command()
def pages(library: Folder = None, as_json: Json = False) -> None:
    """Every page of the library, a line each.

    Example: `pagelens pages --json | jq -r 'select(.words == 0) | .path'`
    """
    with _open(library, must_exist=True) as opened:
        for each in opened.pages():
            if as_json:
                _out({"schema": SCHEMA, **each})
            else:
                words = counted(each["words"], "word")
                _print(f"{each['page_id']}  {each['path']}, page {each['page']}  {words}")


@library_command()
def fit(
    queries: Questions,
    qrels: Judgements,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The coefficients to write; ends in .json.")],
    library: Folder = None,
    page_name: PageName = BY_ID,
    after: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="A reranker that comes after; the weight of its score is fitted too."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fit the evidence reranker to your own judgements, and say whether that beats the shipped one.

    What it is worth is measured on documents that had no part in the fit.

    Example: `pagelens fit --queries q.jsonl --qrels qrels.tsv --page-name '{stem}#{number}' --out mine.json`
    """
    from pagelens.fitting import fit_library
    from pagelens.runs import page_names, read_qrels, read_questions

    if out.suffix != ".json":
        raise UsageError(f"--out {out}: its name must end in .json, so that --rerank {out}@50 finds a file")
    with _open(library, must_exist=True) as opened:
        questions = [each._asdict() for each in read_questions(queries)]
        names = page_names(opened, page_name)
        member = opened.reranker(after) if after else None
        fitted = fit_library(opened, questions, read_qrels(qrels), names, member)
    fitted.coefficients.save(out)
    if as_json:
        _out(
            {
                "schema": SCHEMA,
                "questions": fitted.questions,
                "rows": [asdict(r) for r in fitted.rows],
                "verdict": fitted.verdict,
                "out": str(out.resolve()),
            }
        )
        return
    for row in fitted.rows:
        mean, low, high = row.gain
        _print(f"{row.name:40} nDCG@10 {row.ndcg:.3f}  gain {mean:+.3f} [{low:+.3f}, {high:+.3f}]")
    _print(fitted.verdict)
    _say(f"written to {out}; use it with --rerank {out}@50")


@library_command("eval")
def evaluate(
    queries: Questions,
    qrels: Judgements,
    library: Folder = None,
    page_name: PageName = BY_ID,
    rerank: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME@PAGES", help="As for search; the verdict is about the last one."),
    ] = None,
    prefer: Annotated[
        Literal["precision", "recall"] | None,
        typer.Option(help="What matters more: nDCG@5 decides, or R@10. Default: nDCG@10."),
    ] = None,
    budget_ms: Annotated[
        float | None, typer.Option(min=0, metavar="MS", help="That a search may take.")
    ] = None,
    gpu_hour: Annotated[
        float | None, typer.Option(min=0, metavar="PRICE", help="Of an hour of the machine.")
    ] = None,
    queries_per_second: Annotated[
        float | None, typer.Option(min=0, metavar="N", help="How many questions are asked.")
    ] = None,
    exhaustive: Annotated[
        bool,
        typer.Option("--exhaustive", help="Let the reranker score every page too; up to 1,000 pages."),
    ] = False,
    runs: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Evaluate these TREC runs instead of searching: bm25.trec, ..."),
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write every stage's TREC run there.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the report with plots and the ten worst questions."),
    ] = None,
    models: Models = None,
    device: Device = "auto",
    features: Level = "auto",
    int8: Int8 = False,
    with_text: WithText = False,
    commercial: Commercial = False,
    as_json: Json = False,
) -> None:
    """How good each stage is on questions with known answers, and whether the reranker pays.

    Three answers: add the reranker, skip it, or mend the first stage. docs/verdict.md has the rules.

    Example: `pagelens eval --queries q.jsonl --qrels qrels.tsv --page-name '{stem}#{number}' --html out.html`

    Example: `pagelens eval --queries q.jsonl --qrels qrels.tsv --rerank qwen3-vl-2b@20 --gpu-hour 2.50`
    """
    from pagelens import report
    from pagelens.asking import store
    from pagelens.evaluation import evaluate as measure
    from pagelens.runs import read_qrels, read_questions

    if runs and (rerank or exhaustive):
        raise UsageError("--runs evaluates what was found before: leave out --rerank and --exhaustive")
    looking = Looking(device, "auto", features, with_text, int8, commercial)
    asked, judged = read_questions(queries), read_qrels(qrels)
    with _open(library, models, must_exist=True, looking=looking) as opened:
        with _counting(as_json) as advance:
            found = measure(
                opened,
                asked,
                judged,
                page_name,
                _cascade(rerank),
                prefer=prefer,
                budget_ms=budget_ms,
                gpu_hour=gpu_hour,
                queries_per_second=queries_per_second,
                exhaustive=exhaustive,
                runs=runs,
                progress=advance,
            )
        if run_dir is not None:
            store(found.asked, run_dir)
            _say(f"{counted(len(found.asked.runs), 'run')} written to {run_dir}")
        if html is not None:
            _write(html, report.html(found, opened))
            _say(f"report written to {html}")
    if as_json:
        _out(found.as_dict())
    else:
        for line in report.lines(found):
            _print(line)


@library_command()
def judge(
    qrels: Annotated[
        Path,
        typer.Option(metavar="FILE", help="The judgements there are; a missing file is an empty one."),
    ],
    queries: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Questions, as `search --queries` has them.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the page on which a person judges.")
    ] = None,
    collect: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Add what such a page saved to the qrels; may be repeated."),
    ] = None,
    depth: Annotated[
        int, typer.Option(min=1, metavar="N", help="So many pages of each stage are judged.")
    ] = 10,
    library: Folder = None,
    page_name: PageName = BY_ID,
    rerank: Annotated[
        list[str] | None, typer.Option(metavar="NAME@PAGES", help="As for search: its pages are judged too.")
    ] = None,
    models: Models = None,
    device: Device = "auto",
    features: Level = "auto",
    int8: Int8 = False,
    with_text: WithText = False,
    commercial: Commercial = False,
    as_json: Json = False,
) -> None:
    """Make judgements where there are none: a page to judge on with one key a verdict.

    Open the page in a browser, here or elsewhere; it needs no other file and no network. What it saves goes
    into the qrels with --collect. Made again, the page leaves out what is judged.

    Example: `pagelens judge --queries q.jsonl --qrels qrels.txt --html judge.html`

    Example: `pagelens judge --qrels qrels.txt --collect ~/Downloads/judge.qrels`
    """
    from pagelens import judging
    from pagelens.runs import read_qrels, read_questions

    if collect:
        if queries or html:
            raise UsageError("--collect stands by itself: leave out --queries and --html")
        new = judging.collect(collect, qrels)
        if as_json:
            _out({"schema": SCHEMA, "added": new, "qrels": str(qrels.resolve())})
        else:
            _say(f"{counted(new, 'judgement')} added to {qrels}")
        return
    if queries is None or html is None:
        raise UsageError("give --queries together with --html, or --collect")
    asked, known = read_questions(queries), read_qrels(qrels) if qrels.exists() else {}
    looking = Looking(device, "auto", features, with_text, int8, commercial)
    with _open(library, models, must_exist=True, looking=looking) as opened:
        with _counting(as_json) as advance:
            shown = judging.pool(opened, asked, known, page_name, _cascade(rerank), depth, advance)
        if shown:
            _write(html, judging.html(opened, shown, html.stem))
    if as_json:
        _out({"schema": SCHEMA, "pages": len(shown), "html": str(html.resolve()) if shown else None})
    elif shown:
        size = html.stat().st_size / 1e6
        _say(f"{counted(len(shown), 'page')} to judge in {html}, {size:.1f} MB; open it in a browser")
    else:
        _say("nothing is left to judge")


@library_command()
def calibrate(
    queries: Questions,
    qrels: Judgements,
    library: Folder = None,
    page_name: PageName = BY_ID,
    rerank: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME@PAGES", help="As for search; the last one is calibrated."),
    ] = None,
    models: Models = None,
    device: Device = "auto",
    features: Level = "auto",
    int8: Int8 = False,
    with_text: WithText = False,
    commercial: Commercial = False,
    as_json: Json = False,
) -> None:
    """Learn from judgements how likely a page answers, by its score; search then says it of every hit.

    The library keeps it, for exactly this reranker. What it is worth is measured on questions that had no
    part in the fit. docs/calibration.md explains the figures.

    Example: `pagelens calibrate --queries q.jsonl --qrels qrels.tsv --page-name '{stem}#{number}'`
    """
    from pagelens.calibrating import calibrate as fit_to
    from pagelens.runs import read_qrels, read_questions

    looking = Looking(device, "auto", features, with_text, int8, commercial)
    asked, judged = read_questions(queries), read_qrels(qrels)
    with _open(library, models, must_exist=True, looking=looking) as opened, _counting(as_json) as advance:
        found = fit_to(opened, asked, judged, page_name, _cascade(rerank), advance)
        opened.keep(found.calibration)
    if as_json:
        _out(found.as_dict())
        return
    for line in found.lines():
        _print(line)
    _say("kept in the library; search with --min-probability .5")


@app.command()
def vidore(
    tasks: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="A benchmark or task of mteb, such as 'ViDoRe(v3)', or a folder in its format; repeatable.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Libraries, predictions and results.")] = Path(
        "vidore-output"
    ),
    profile: Annotated[
        str, typer.Option(metavar="NAME", help="What pages are indexed by, as for ingest.")
    ] = "auto",
    lang: Annotated[
        str, typer.Option(metavar="CODES", help="Languages of the pages as tesseract names them: eng+fra.")
    ] = "eng",
    rerank: Annotated[
        list[str] | None, typer.Option(metavar="NAME@PAGES", help="As for search; every stage is reported.")
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Encode pages as images too, as for ingest; a stage of its own."),
    ] = None,
    models: Models = None,
    device: Device = "auto",
    with_text: WithText = False,
    commercial: Commercial = False,
    as_json: Json = False,
) -> None:
    """Measure every stage on ViDoRe and its like, through mteb; needs pip install 'pagelens[vidore]'.

    Interrupt it whenever you like: pages that were read and tasks that are done are not done again, unless
    the code or a model changed.

    Example: `pagelens vidore --tasks "ViDoRe(v2)" --rerank evidence@50`

    Example: `pagelens vidore --tasks my-pages/`
    """
    from pagelens.pipeline import Pipeline
    from pagelens.vidore import run as measure

    cascade = [] if rerank == ["none"] else rerank
    looking = Looking(device, with_text=with_text, commercial=commercial)
    languages = tuple(lang.split("+"))
    where = out / "libraries"
    pipeline = Pipeline(where, profile, cascade, languages, image or (), models, looking, _say)
    try:
        found = measure(tasks, out, pipeline, _say)
    finally:
        pipeline.close()
    if as_json:
        _out(found.as_dict())
    else:
        for line in found.lines():
            _print(line)
    if found.failed:
        raise typer.Exit(ExitCode.FAILURES)


@app.command()
def migrate(
    source: Annotated[
        str, typer.Option("--from", metavar="DIR|URL", help="The library to copy; it is left as it is.")
    ],
    target: Annotated[
        str, typer.Option("--to", metavar="DIR|URL", help="Where to; made when missing, or gone on with.")
    ],
    from_pages: Annotated[
        str | None,
        typer.Option(metavar="DIR|URL", help="--pages of a source on a server.", rich_help_panel=SERVER),
    ] = None,
    from_collection: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="--collection of a source on a server.", rich_help_panel=SERVER),
    ] = None,
    to_pages: Annotated[
        str | None,
        typer.Option(metavar="DIR|URL", help="--pages of a target on a server.", rich_help_panel=SERVER),
    ] = None,
    to_collection: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="--collection of a target on a server.", rich_help_panel=SERVER),
    ] = None,
    as_json: Json = False,
) -> None:
    """Copy a library from a folder to a server, or back; nothing is read or encoded again.

    All that is written is read back and compared. Interrupt it whenever you like: the same command goes on
    from there.

    Example: `pagelens migrate --from library.pagelens --to http://localhost:6334 --to-pages s3://scans/pages`
    """
    from pagelens.migrating import migrate as copy
    from pagelens.places import Place

    places = Place.of(source, from_pages, from_collection), Place.of(target, to_pages, to_collection)
    with _meter(as_json) as tell:
        done = copy(*places, lambda now, total, what: tell(now, total, f"{now} of {total} {what}"))
    if as_json:
        _out({"schema": SCHEMA, **asdict(done)})
    else:
        _say(
            f"{counted(done.points, 'point')} and {counted(done.files, 'page file')} at the target and "
            f"compared ({done.points_written} and {done.files_written} written); page files' digest "
            f"{done.digest}"
        )


@library_command()
def check(library: Folder = None, as_json: Json = False) -> None:
    """Hold the index and the page files against each other; name pages that are blank or badly read.

    Ends with 3 when something is damaged or incomplete, and says what to do about it.

    Example: `pagelens check`
    """
    with _open(library, must_exist=True) as opened:
        findings = list(opened.check())
    faults = sum(each.is_fault for each in findings)
    if as_json:
        _out({"schema": SCHEMA, "faults": faults, "findings": [each._asdict() for each in findings]})
    else:
        for each in findings:
            place = f"{each.place}: " if each.place else ""
            _print(f"{each.kind:10}  {each.name}  {place}{each.about}")
        _say(f"{counted(faults, 'fault')}, {counted(len(findings) - faults, 'page')} worth a look")
    if faults:
        raise typer.Exit(ExitCode.FAILURES)


@library_command()
def doctor(library: Folder = None, models: Models = None, as_json: Json = False) -> None:
    """What is installed, which models are at hand, what a profile would use, and what to do about each lack.

    Nothing is downloaded or changed. Ends with 5 when something needed is missing.

    Example: `pagelens doctor`
    """
    from pagelens.doctor import examine

    findings = examine(_place(library), models)
    if as_json:
        _out({"schema": SCHEMA, "findings": [each._asdict() for each in findings]})
    else:
        width = max(len(each.name) for each in findings)
        for each in findings:
            _print(f"{each.state:8}  {each.name:{width}}  {each.found}")
            if each.cure:
                _print(f"{'':8}  {'':{width}}  cure: {each.cure}")
    if any(each.state == "missing" for each in findings):
        raise typer.Exit(ExitCode.MISSING)


def _pairs(option: str, given: list[str] | None) -> list[tuple[str, str]]:
    pairs = []
    for each in given or ():
        field, equals, value = each.partition("=")
        if not (field and equals and value):
            raise UsageError(f"{option} {each}: write FIELD=VALUE, such as box=12")
        pairs.append((field, value))
    return pairs


def _estimated(found: Estimate, as_json: bool) -> None:
    if as_json:
        _out({"schema": SCHEMA, **asdict(found)})
        return
    hours, rest = divmod(round(found.seconds / 60), 60)
    parts = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in found.bytes.items())
    unreadable = f", {counted(found.unreadable, 'file')} of them unreadable" if found.unreadable else ""
    _print(
        f"{counted(found.pages, 'page')} in {counted(found.files, 'file')}{unreadable}: about {hours} h "
        f"{rest:02} min and {sum(found.bytes.values()) / 1e6:.1f} MB ({parts}), judged by "
        f"{counted(found.sampled, 'page')}"
    )


def main() -> None:
    """Run, and turn what went wrong into an exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file name need not be text: its stray bytes, in Python lone surrogates, are written as in JSON.
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    sys.exit(_run())


def _run() -> int:
    command = typer.main.get_command(app)
    try:
        # Not `app()`: it turns an interruption and a closed pipe into exit codes of its own.
        with command.make_context("pagelens", sys.argv[1:]) as context:
            command.invoke(context)
        sys.stdout.flush()
        return ExitCode.DONE
    except typer.Exit as stop:
        return stop.exit_code
    except KeyboardInterrupt:
        _say("interrupted; the library is sound, and the same command goes on from here")
        return ExitCode.INTERRUPTED
    except PagelensError as error:
        _say(str(error), style="red")
        return error.exit_code
    except BrokenPipeError:  # whoever reads our output has seen enough, as `| head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE
    except OSError as error:
        cure = "; free some space and run it again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        _say(f"{error}{cure}", style="red")
        return ExitCode.BUG
    except Exception as error:
        # click's usage errors know how to show themselves, whichever copy of click typer carries
        if not hasattr(error, "show"):
            raise
        error.show()
        return ExitCode.USAGE


def _cascade(rerank: list[str] | None) -> Cascade:
    """What `--rerank` asks for: `none`, or names, or what the profile has."""
    return None if rerank == ["none"] else rerank or "auto"


def _place(library: str | None) -> Place:
    from pagelens.places import Place

    return Place.of(library, *_elsewhere.get())


def _open(
    library: str | None,
    models: Path | None = None,
    *,
    profile: str = "auto",
    must_exist: bool = False,
    looking: Looking | None = None,
) -> Library:
    from pagelens.library import Library

    place = _place(library)
    if must_exist and not place.exists():
        raise UsageError(f"there is no library at {place}; `pagelens ingest PATH --library {place}` makes it")
    pages, collection = _elsewhere.get()
    try:
        return Library(library, profile, models, looking, pages=pages, collection=collection)
    except PermissionError as error:
        raise UsageError(
            f"{place} cannot be opened ({error.strerror}); choose another with --library"
        ) from error


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Pages, rate, time left and failures of an ingest on standard error."""
    started = time.monotonic()
    with _meter(quiet) as tell:
        yield lambda now: tell(now.done, now.total, _pace(now, time.monotonic() - started))


def _pace(now: Progress, seconds: float) -> str:
    """Progress in words; the time left is known once every file has been opened."""
    parts = [f"{now.done} of {counted(now.total, 'page')}"]
    if now.files_left:
        parts.append(f"{counted(now.files_left, 'file')} to open")
    elif now.done and now.done < now.total:
        left = (now.total - now.done) * seconds / now.done
        parts.append(f"{now.done / seconds:.1f}/s, {_duration(left)} left")
    if now.failed:
        parts.append(f"{now.failed} failed")
    return ", ".join(parts)


@contextlib.contextmanager
def _warming(quiet: bool, total: int) -> Iterator[Callable[[Warmed], None]]:
    """Pages that have features, and the time left, on standard error."""
    with _meter(quiet) as tell:

        def advance(now: Warmed) -> None:
            done = now.pages + len(now.failed)
            left = f", {_duration(now.seconds / now.made * (total - done))} left" if now.made else ""
            tell(done, total, f"{done} of {counted(total, 'page')}{left}")

        yield advance


def _warmed(done: Warmed) -> None:
    """What was kept, and which pages could not be looked at."""
    for each in done.failed:
        _say(each.problem, style="yellow")
    _say(f"{counted(done.pages, 'page')} ready, {done.made} made ready in {_duration(done.seconds)}")


def _as_dict(done: Warmed) -> dict[str, Any]:
    failed = [{"page_id": each.page_id, "reason": each.problem} for each in done.failed]
    return {"pages": done.pages, "made": done.made, "failed": failed, "seconds": round(done.seconds, 3)}


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds, as `1:02:03`; below a minute in seconds."""
    whole = round(seconds)
    return f"{seconds:.1f} s" if seconds < 60 else f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


@contextlib.contextmanager
def _counting(quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Questions answered and the time left, on standard error."""
    started = time.monotonic()
    with _meter(quiet) as tell:

        def advance(done: int, total: int) -> None:
            left = (time.monotonic() - started) / done * (total - done) if done else 0.0
            rest = f", {_duration(left)} left" if 0 < done < total else ""
            tell(done, total, f"{done} of {counted(total, 'question')}{rest}")

        yield advance


@contextlib.contextmanager
def _meter(quiet: bool) -> Iterator[Callable[[int, int, str], None]]:
    """A bar in a terminal; elsewhere a line now and then, or nothing when `quiet`."""
    if talk.is_terminal:
        from rich import progress

        columns = progress.BarColumn(), progress.TextColumn("{task.description}")
        with progress.Progress(*columns, console=talk) as bars:
            bar = bars.add_task("", total=None)
            yield lambda done, total, text: bars.update(bar, completed=done, total=total, description=text)
        return
    told = time.monotonic()

    def tell(done: int, total: int, text: str) -> None:
        nonlocal told
        if not quiet and time.monotonic() - told >= TELL:
            told = time.monotonic()
            _say(text)

    yield tell


def _show(hits: Hits) -> None:
    """Hits on a terminal: where, how sure, and the passage with its matching words."""
    out = Console(highlight=False)
    out.width = min(out.width, LEGIBLE)
    out.print(Text(f"{counted(len(hits), 'page')} for {hits.query!r}, profile {hits.profile}"))
    for number, hit in enumerate(hits, start=1):
        score = f"{hit.last_stage} {hit.score:.4g}" if hit.last_stage else ""
        score += "" if hit.probability is None else f", {hit.probability:.0%} likely"
        head = f"{number:3}. {_where(hit, out.width - 8 - len(score))}"
        out.print(Text(head, "bold"), score, sep="  ", soft_wrap=True)
        for line in _quote(hit).wrap(out, out.width - 5):
            line.rstrip()
            out.print(Text("     ").append_text(line), soft_wrap=True)
    for note in hits.notes:
        out.print(Text(f"note: {printable(note)}", "yellow"))
    if not hits:
        _say("no page was found; try fewer or other words, or take away a filter")


def _where(hit: Hit, width: int) -> str:
    """File and page, with as many of the file's folders as fit."""
    path = Path(hit.path)
    with contextlib.suppress(ValueError):
        path = path.relative_to(Path.cwd())
    page = f", page {hit.page}"
    shown = str(path)
    parts = path.parts[1:]
    while parts and len(shown) + len(page) > width:
        shown, parts = f"\N{HORIZONTAL ELLIPSIS}/{'/'.join(parts)}", parts[1:]
    return printable(shown + page)


def _quote(hit: Hit) -> Text:
    if not hit.evidence:
        return Text(printable(hit.snippet) or "no text was read on this page")
    words = (
        Text(printable(word), "bold yellow" if matches else "") for word, matches in quoted(hit.evidence[0])
    )
    return Text(" ").join(words)


def _failed(path: str, page: int | None, reason: str) -> str:
    return f"could not read {path}{f', page {page}' if page else ''}: {reason}"


def _say(text: str, style: str = "") -> None:
    """A line on standard error."""
    talk.print(Text(printable(text), style), soft_wrap=True)


def _print(text: str) -> None:
    """A line of data for people on standard output."""
    sys.stdout.write(f"{printable(text)}\n")


def _out(value: object) -> None:
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


if __name__ == "__main__":
    main()
