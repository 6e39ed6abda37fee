"""The collections that the benchmarks ask: read once into `benchmark-output/`; questions, judgements."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pagelens import Library
from pagelens.evaluation.runs import of_copies, page_names, read_qrels


@dataclass(frozen=True)
class Collection:
    """A library and what is known about it."""

    library: Library
    queries: list[dict[str, Any]]
    """Each with `id`, `query`, `doc` (of the question, for folds) and, within a document, `filter`."""
    qrels: dict[str, dict[str, int]]
    names: dict[str, str]
    """Page id -> name, as the qrels have it."""

    def whole(self) -> list[dict[str, Any]]:
        """Questions that can be asked of the whole collection."""
        return [query for query in self.queries if "filter" not in query]

    def within(self) -> list[dict[str, Any]]:
        """Questions about one document, which their filter names."""
        return [query for query in self.queries if "filter" in query]


FOLDERS = {"mmdocir-dev": "pdf", "opencqa-dev": "images"}
NAMES = {"mmdocir-dev": "{stem}#{number}", "opencqa-dev": "{stem}"}
OUT = Path("benchmark-output")


@contextlib.contextmanager
def opened(data: Path, name: str, regions: bool = False) -> Iterator[Collection]:
    """One of `FOLDERS`, read if it is not yet, with or without regions."""
    folder = data / name
    with Library(OUT / f"{name}.pagelens", "light") as library:
        report = library.ingest(folder / FOLDERS[name], retry=True, regions=regions, say=print)
        for failure in report.failed:
            print(f"not read: {failure.path}: {failure.reason}")
        names = page_names(library, NAMES[name])
        qrels = of_copies(library, read_qrels(folder / "qrels.tsv"), NAMES[name])
        yield Collection(library, _queries(folder / "queries.jsonl"), qrels, names)


def data_argument(about: str | None) -> argparse.ArgumentParser:
    """A parser that knows `--data`, by default `$PAGELENS_DATA`."""
    parser = argparse.ArgumentParser(description=about)
    given = os.environ.get("PAGELENS_DATA")
    parser.add_argument("--data", type=Path, default=given and Path(given), required=not given)
    return parser


def _queries(path: Path) -> list[dict[str, Any]]:
    queries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        read = json.loads(line)
        query = {"id": read["id"], "query": read["query"], "doc": read.get("doc", read["id"])}
        if read.get("needs_doc_context"):
            query["filter"] = {"stem": read["doc"]}
        queries.append(query)
    return queries
