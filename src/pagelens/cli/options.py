"""The application, the options that commands share, and the library they open."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from pagelens.errors import UsageError

if TYPE_CHECKING:
    from pagelens.library import Library
    from pagelens.places import Place
    from pagelens.rerankers import Looking
    from pagelens.searching import Cascade

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    help="Search over scanned pages. First `pagelens ingest FOLDER`, then `pagelens search 'a question'`.",
    epilog="Exit codes: 0 done, 1 bug, 2 usage, 3 done with failures, 4 library busy, "
    "5 model or tool missing, 130 interrupted.",
)

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
Tenant = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Whose library it is, where several share a collection; each with its own --pages.",
        rich_help_panel=SERVER,
    ),
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


class _Elsewhere(NamedTuple):
    """What `--library` leaves open of a library on a server."""

    pages: str | None = None
    collection: str | None = None
    tenant: str | None = None


_OPTIONS = {"pages": PagesRoot, "collection": Collection, "tenant": Tenant}
_HERE = _Elsewhere()
_elsewhere: ContextVar[_Elsewhere] = ContextVar("_elsewhere", default=_HERE)
"""Of the command that runs."""


def library_command(name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command on a library: it also takes what `--library` leaves open of one on a server."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**given: Any) -> None:
            _elsewhere.set(_Elsewhere(*(given.pop(name) for name in _OPTIONS)))
            command(**given)

        kind = inspect.Parameter.KEYWORD_ONLY
        signature = inspect.signature(command, eval_str=True)
        parameters = [each.replace(kind=kind) for each in signature.parameters.values()]
        parameters += [
            inspect.Parameter(name, kind, default=None, annotation=annotation)
            for name, annotation in _OPTIONS.items()
        ]
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {**command.__annotations__, **_OPTIONS}
        app.command(name)(run)
        return command

    return decorate


def cascade_of(rerank: list[str] | None) -> Cascade:
    """What `--rerank` asks for: `none`, or names, or what the profile has."""
    return None if rerank == ["none"] else rerank or "auto"


def place_of(library: str | None) -> Place:
    """Where `--library` and the options of a server say that it lies."""
    from pagelens.places import Place

    return Place.of(library, *_elsewhere.get())


def open_library(
    library: str | None,
    models: Path | None = None,
    *,
    profile: str = "auto",
    must_exist: bool = False,
    looking: Looking | None = None,
) -> Library:
    """The library that a command is about.

    Raises:
        UsageError: there is none where there must be, or its folder cannot be opened.
    """
    from pagelens.library import Library

    place = place_of(library)
    if must_exist and not place.exists():
        raise UsageError(
            f"there is no library at {place}; name another with --library, or make it by `pagelens ingest "
            "PATH` and the same options"
        )
    pages, collection, tenant = _elsewhere.get()
    try:
        return Library(library, profile, models, looking, pages=pages, collection=collection, tenant=tenant)
    except PermissionError as error:
        raise UsageError(
            f"{place} cannot be opened ({error.strerror}); choose another with --library"
        ) from error
