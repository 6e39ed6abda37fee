"""What the library holds, whether it is sound, and where it goes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pagelens.cli.options import SERVER, Folder, Json, Models, app, library_command, open_library, place_of
from pagelens.cli.talk import failed_line, meter, put, put_json, say
from pagelens.errors import ExitCode, UsageError
from pagelens.hits import SCHEMA
from pagelens.wording import counted


@library_command()
def status(library: Folder = None, as_json: Json = False) -> None:
    """What the library holds, what could not be read, what is missing.

    Example: `pagelens status --json | jq .failed`
    """
    with open_library(library, must_exist=True) as opened:
        about = opened.status()
    if as_json:
        put_json(about)
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
    lines += [f"not whole yet: {name}; `pagelens ingest` goes on with it" for name in about["unfinished"]]
    lines += [failed_line(each["path"], each["page"], each["reason"]) for each in about["failed"]]
    lines += [f"missing: {path}" for path in about["missing"]]
    for line in lines:
        put(line)


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
    with open_library(library, must_exist=True) as opened:
        gone = opened.remove(*wanted)
    if as_json:
        put_json({"schema": SCHEMA, "removed": gone})
    else:
        say(f"{counted(len(gone), 'document')} removed")


@library_command()
def weigh(
    weights: Annotated[
        list[str] | None,
        typer.Argument(metavar="LIST=WEIGHT", help="Such as colqwen2=1; none: say what they are."),
    ] = None,
    library: Folder = None,
    as_json: Json = False,
) -> None:
    """How much each list of the first stage counts in the fusion; `pagelens eval` says what pays.

    Example: `pagelens weigh colqwen2=1 text=0.5`
    """
    wanted = {}
    for each in weights or ():
        name, _, value = each.rpartition("=")
        try:
            wanted[name] = float(value)
        except ValueError:
            raise UsageError(f"{each}: write LIST=WEIGHT, such as colqwen2=1") from None
    with open_library(library, must_exist=True) as opened:
        opened.weigh(wanted)
        found = opened.weights
    if as_json:
        put_json({"schema": SCHEMA, "weights": found})
    else:
        for name, weight in found.items():
            put(f"{weight:6g}  {name}")


@library_command()
def pages(library: Folder = None, as_json: Json = False) -> None:
    """Every page of the library, a line each.

    Example: `pagelens pages --json | jq -r 'select(.words == 0) | .path'`
    """
    with open_library(library, must_exist=True) as opened:
        for each in opened.pages():
            if as_json:
                put_json({"schema": SCHEMA, **each})
            else:
                words = counted(each["words"], "word")
                put(f"{each['page_id']}  {each['path']}, page {each['page']}  {words}")


@library_command()
def check(library: Folder = None, as_json: Json = False) -> None:
    """Hold the index and the page files against each other; name pages that are blank or badly read.

    Ends with 3 when something is damaged or incomplete, and says what to do about it.

    Example: `pagelens check`
    """
    with open_library(library, must_exist=True) as opened:
        findings = list(opened.check())
    faults = sum(each.is_fault for each in findings)
    if as_json:
        put_json({"schema": SCHEMA, "faults": faults, "findings": [each._asdict() for each in findings]})
    else:
        for each in findings:
            place = f"{each.place}: " if each.place else ""
            put(f"{each.kind:10}  {each.name}  {place}{each.about}")
        say(f"{counted(faults, 'fault')}, {counted(len(findings) - faults, 'page')} worth a look")
    if faults:
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
    from_tenant: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="--tenant of a source on a server.", rich_help_panel=SERVER),
    ] = None,
    to_pages: Annotated[
        str | None,
        typer.Option(metavar="DIR|URL", help="--pages of a target on a server.", rich_help_panel=SERVER),
    ] = None,
    to_collection: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="--collection of a target on a server.", rich_help_panel=SERVER),
    ] = None,
    to_tenant: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="--tenant of a target on a server.", rich_help_panel=SERVER),
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

    places = (
        Place.of(source, from_pages, from_collection, from_tenant),
        Place.of(target, to_pages, to_collection, to_tenant),
    )
    with meter(as_json) as tell:
        done = copy(*places, lambda now, total, what: tell(now, total, f"{now} of {total} {what}"))
    if as_json:
        put_json({"schema": SCHEMA, **asdict(done)})
    else:
        say(
            f"{counted(done.points, 'point')} and {counted(done.files, 'page file')} at the target and "
            f"compared ({done.points_written} and {done.files_written} written); page files' digest "
            f"{done.digest}"
        )


@library_command()
def doctor(library: Folder = None, models: Models = None, as_json: Json = False) -> None:
    """What is installed, which models are at hand, what a profile would use, and what to do about each lack.

    Nothing is downloaded or changed. Ends with 5 when something needed is missing.

    Example: `pagelens doctor`
    """
    from pagelens.doctor import examine

    findings = examine(place_of(library), models)
    if as_json:
        put_json({"schema": SCHEMA, "findings": [each._asdict() for each in findings]})
    else:
        width = max(len(each.name) for each in findings)
        for each in findings:
            put(f"{each.state:8}  {each.name:{width}}  {each.found}")
            if each.cure:
                put(f"{'':8}  {'':{width}}  cure: {each.cure}")
    if any(each.state == "missing" for each in findings):
        raise typer.Exit(ExitCode.MISSING)
