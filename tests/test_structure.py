"""Which room may look at which: the table of the rooms, held against every import."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import pagelens

SOURCE = Path(pagelens.__file__).parent
ROOMS = ("ingest", "encoders", "rerankers", "store")
MODULES = sorted({*SOURCE.rglob("*.py"), *(path for room in ROOMS for path in (SOURCE / room).glob("*.py"))})
"""The rooms by name: `rglob` does not follow the links to them."""
BASE = {"records", "errors", "scores", "weights", "words", "wire"}

ALLOWED = {
    **{name: {"errors"} for name in BASE},
    "things": {"errors", "records"},
    "backbones": {"errors", "weights"},
    **{room: BASE | {"things", "backbones", room} for room in ROOMS},
}
"""Module or room -> what of pagelens it may import. Any other may import all that stands below it."""
TOP = {"cli", "demo"}
"""What nobody imports: they stand on everything else."""
MEASURING = "evaluation"
"""What `TOP` alone imports: it stands on `Library`."""


def imports(source: str, for_types: bool = True) -> Iterator[str]:
    """Names right below `pagelens` that a module imports, wherever in it that stands.

    `for_types`: also those that only a type checker imports.
    """
    for node in _nodes(ast.parse(source), for_types):
        match node:
            case ast.Import(names=names):
                dotted = [each.name for each in names]
            case ast.ImportFrom(module="pagelens", names=names, level=0):
                dotted = [f"pagelens.{each.name}" for each in names]
            case ast.ImportFrom(module=str(module), level=0):
                dotted = [module]
            case ast.ImportFrom():
                dotted = ["pagelens.<relative>"]
            case _:
                continue
        yield from (each.split(".")[1] for each in dotted if each.startswith("pagelens."))


def _nodes(tree: ast.AST, for_types: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")) if not for_types:
                continue
        yield node
        yield from _nodes(node, for_types)


def wrong(owner: str, source: str) -> set[str]:
    """What a module of `owner`, a room or a module at the top, must not import and does."""
    found = set(imports(source)) - {owner}
    above = TOP if owner in TOP else TOP | {MEASURING}
    return found - ALLOWED[owner] if owner in ALLOWED else found & above


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(SOURCE).as_posix())
def test_imports_keep_to_the_table(path: Path) -> None:
    owner = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    assert not wrong(owner, path.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("owner", "line"),
    [
        ("ingest", "from pagelens.store.plan import Point"),
        ("encoders", "import pagelens.rerankers.text"),
        ("rerankers", "def score():\n    from pagelens import encoders"),
        ("store", "from ..ingest import pool"),
        ("store", "from pagelens.library import Library"),
        ("records", "from pagelens.ingest.ocr import read"),
        ("searching", "from pagelens.cli import app"),
        ("library", "from pagelens.evaluation.verdict import Verdict"),
        ("evaluation", "from pagelens.cli import app"),
    ],
)
def test_a_wrong_import_is_seen(owner: str, line: str) -> None:
    assert wrong(owner, line)


def test_every_room_was_looked_at() -> None:
    """A checkout whose links were lost would pass for having nothing to look at."""
    assert all(list((SOURCE / room).glob("*.py")) for room in ROOMS)


def test_no_two_of_them_need_each_other() -> None:
    """A room counts as one; what is imported inside a function counts as well."""
    needs: dict[str, set[str]] = {}
    for path in MODULES:
        owner = path.relative_to(SOURCE).parts[0].removesuffix(".py")
        found = set(imports(path.read_text(encoding="utf-8"), for_types=False))
        needs.setdefault(owner, set()).update(found - {owner})
    TopologicalSorter(needs).prepare()  # raises CycleError, which names the circle
