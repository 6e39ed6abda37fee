"""`search`: a question, or a file of them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text

from pagelens.cli.options import (
    BY_ID,
    LOOK,
    PICTURES,
    Commercial,
    Device,
    Folder,
    Int8,
    Json,
    Level,
    Models,
    WithText,
    cascade_of,
    library_command,
    open_library,
)
from pagelens.cli.talk import put_json, question_progress, say, write_file
from pagelens.errors import UsageError
from pagelens.hits import SCHEMA
from pagelens.rerankers import Looking
from pagelens.wording import counted, printable, quoted

if TYPE_CHECKING:
    from pagelens.hits import Hit, Hits
    from pagelens.rules import Rule

LEGIBLE = 100
"""Columns of text at most, however wide the terminal is."""
WHICH = "Which pages count"
MANY = "Many questions"


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
    for field, value in _field_values("--where", fields):
        wanted.setdefault(field, []).append(value)
    cascade = cascade_of(rerank)
    rules: list[Rule] = [rule_boost(field, value) for field, value in _field_values("--boost", boost)]
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
    with open_library(library, models, must_exist=True, looking=looking) as opened:
        if queries is not None and run is not None:
            from pagelens.evaluation.runs import write_run

            with question_progress(as_json) as advance:
                count = write_run(
                    opened, queries, run, k, page_name, stage, wanted, cascade, advance, not no_looks
                )
            if as_json:
                put_json({"schema": SCHEMA, "queries": count, "run": str(run.resolve())})
            else:
                say(f"{counted(count, 'question')} answered into {run}")
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
            write_file(html, hits.to_html())
            say(f"gallery written to {html}")
    if as_json:
        put_json(hits.as_dict())
    else:
        _show(hits)


def _field_values(option: str, given: list[str] | None) -> list[tuple[str, str]]:
    pairs = []
    for each in given or ():
        field, equals, value = each.partition("=")
        if not (field and equals and value):
            raise UsageError(f"{option} {each}: write FIELD=VALUE, such as box=12")
        pairs.append((field, value))
    return pairs


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
    from pagelens.calibration import NOTHING

    if not hits and not any(note.startswith(NOTHING) for note in hits.notes):
        say("no page was found; try fewer or other words, or take away a filter")


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
