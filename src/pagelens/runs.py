"""A file of questions in, a TREC run out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pagelens.errors import UsageError
from pagelens.library import Library

TAG = "pagelens"


def write_run(
    library: Library, queries: Path, run: Path, k: int, page_name: str, stage: str, filter: Mapping[str, Any]
) -> int:
    """Answer every line of `queries` into a TREC run; how many there were.

    Args:
        library: Where to look.
        queries: JSON lines with `id`, `query` and optionally `filter`, which adds to `filter`.
        run: Written: `query_id Q0 page rank score tag`.
        k: Pages a question.
        page_name: Template of page names; knows doc_id, stem, path, number (from 0), page (from 1).
        stage: `"fused"` or one list alone.
        filter: For every question.

    Raises:
        UsageError: a line is no question, or page names hold white space or are not unique.
    """
    names = _names(library, page_name)
    lines = queries.read_text(encoding="utf-8").splitlines()
    asked = [_question(line, number, queries) for number, line in enumerate(lines, start=1) if line.strip()]
    with run.open("w", encoding="utf-8") as out:
        for question in asked:
            wanted = {**filter, **question.get("filter", {})}
            found = library.rank(question["query"], k, wanted, stage)
            for rank, (page_id, score) in enumerate(found, start=1):
                out.write(f"{question['id']} Q0 {names[page_id]} {rank} {score:.9g} {TAG}-{stage}\n")
    return len(asked)


def _question(line: str, number: int, path: Path) -> dict[str, Any]:
    try:
        question = json.loads(line)
        if (
            isinstance(question["id"], str)
            and not set(question["id"]) & set(" \t")
            and question["query"].strip()
        ):
            return dict(question)
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    raise UsageError(f'{path}, line {number}: a question looks like {{"id": "q1", "query": "who signed?"}}')


def _names(library: Library, template: str) -> dict[str, str]:
    """Page id -> rendered name, checked."""
    names: dict[str, str] = {}
    owners: dict[str, str] = {}
    for page in library.pages():
        doc_id, _, number = page["page_id"].partition("#")
        path = Path(page["path"])
        try:
            name = template.format(doc_id=doc_id, stem=path.stem, path=path, number=number, page=page["page"])
        except (KeyError, IndexError, ValueError) as error:
            raise UsageError(
                f"--page-name {template!r}: {error}; it knows doc_id, stem, path, number, page"
            ) from error
        if not name or name.split() != [name]:
            raise UsageError(
                f"{path} gives the page name {name!r}, with white space; use '{{doc_id}}#{{number}}'"
            )
        if name in owners:
            raise UsageError(
                f"{owners[name]} and {path} both give the page name {name!r}; use '{{doc_id}}#{{number}}'"
            )
        owners[name] = str(path)
        names[page["page_id"]] = name
    return names
