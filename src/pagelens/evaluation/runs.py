"""The files of an evaluation: questions, judgements, TREC runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pagelens.errors import UsageError
from pagelens.library import Library
from pagelens.searching import Cascade

TAG = "pagelens"


class Question(NamedTuple):
    """One line of a file of questions."""

    id: str
    query: str
    filter: Mapping[str, Any]
    """Keys as in `records.Query`."""
    line: int
    """Where it stands, from 1."""

    @property
    def digest(self) -> str:
        """See `digest`."""
        return digest(self.query)


def digest(text: str) -> str:
    """What a question is known by, wherever it is asked and whatever its id: 16 hex digits of SHA-256.

    Of its words alone: that a model was fitted to it must not be missed, be it of another document.
    """
    return hashlib.sha256(" ".join(text.casefold().split()).encode()).hexdigest()[:16]


def write_run(
    library: Library,
    queries: Path,
    run: Path,
    k: int,
    page_name: str = "{doc_id}#{number}",
    stage: str | None = None,
    filter: Mapping[str, Any] | None = None,
    rerank: Cascade = "auto",
    progress: Callable[[int, int], None] = lambda done, total: None,
    looks: bool = True,
) -> int:
    """Answer every line of `queries` into a TREC run; how many there were.

    The run appears when it is whole: an interrupted one leaves what was there before.

    Args:
        library: Where to look.
        queries: JSON lines, see `read_questions`; a question's filter adds to `filter` and overrides it.
        run: Written: `query_id Q0 page rank score tag`, rank from 1.
        k: Pages a question.
        page_name: Template of page names; knows doc_id, stem, path, number (from 0), page (from 1).
        stage: As `Library.search`.
        filter: For every question.
        rerank: As `Library.search`.
        progress: Told how many questions of how many are answered.
        looks: As `Library.search`.

    Raises:
        UsageError: a line is no question, its filter is wrong, page names hold white space or are not
            unique, or a file cannot be read or written.
    """
    questions = read_questions(queries)
    names = page_names(library, page_name)
    part = run.with_name(f"{run.name}.part")
    try:
        out = part.open("w", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{run} cannot be written: {error.strerror}") from error
    try:
        with out:
            for done, question in enumerate(questions, start=1):
                wanted = {**(filter or {}), **question.filter}
                try:
                    found = library.rank(question.query, k, wanted, stage, rerank, looks=looks)
                except UsageError as error:
                    raise UsageError(f"{queries}, line {question.line}: {error}") from error
                for page_id, _ in found:
                    if page_id not in names:
                        raise UsageError(f"page {page_id} was ingested while the run was made; make it again")
                out.writelines(_run_lines(question.id, [(names[page_id], score) for page_id, score in found]))
                progress(done, len(questions))
        part.replace(run)
    finally:
        part.unlink(missing_ok=True)
    return len(questions)


def read_questions(path: Path) -> list[Question]:
    """The questions of a file of JSON lines: `id`, `query`, perhaps `filter`; other keys are left alone.

    Raises:
        UsageError: the file cannot be read, holds no question, a line is none, or an id comes twice.
    """
    questions = [_question(text, path, n) for n, text in enumerate(_lines(path), start=1) if text.strip()]
    first: dict[str, int] = {}
    for each in questions:
        if first.setdefault(each.id, each.line) != each.line:
            raise UsageError(f"{path}: lines {first[each.id]} and {each.line} both have the id {each.id!r}")
    if not questions:
        raise UsageError(f"{path} holds no question; a line looks like {_EXAMPLE}")
    return questions


_EXAMPLE = '{"id": "q1", "query": "who signed the lease?", "filter": {"page": [1, 3]}}, where filter may lack'


def _question(text: str, path: Path, line: int) -> Question:
    try:
        record = json.loads(text)
        id, query, filter = record["id"], record["query"], record.get("filter") or {}
    except (ValueError, KeyError, TypeError, AttributeError):
        id, query, filter = None, None, None
    if not (_is_name(id) and isinstance(query, str) and query.strip() and isinstance(filter, dict)):
        raise UsageError(f"{path}, line {line} is no question; one looks like {_EXAMPLE}")
    return Question(str(id), query, filter, line)


def read_qrels(path: Path) -> dict[str, dict[str, int]]:
    """Query id -> page name -> relevance; above 0 is relevant.

    TREC's four columns (`q1 0 report#4 1`) or three: query, page, relevance, as BEIR has them. A first line
    of names is passed over.

    Raises:
        UsageError: the file cannot be read, a line is no judgement, or two of them disagree.
    """
    qrels: dict[str, dict[str, int]] = {}
    for number, line in enumerate(_lines(path), start=1):
        parts = line.split()
        if not parts or (number == 1 and len(parts) in (3, 4) and not any(map(_is_whole, parts))):
            continue
        if len(parts) not in (3, 4) or not _is_whole(parts[-1]):
            raise UsageError(f"{path}, line {number}: a judgement looks like `q1 0 report#4 1`")
        pages, page, relevance = qrels.setdefault(parts[0], {}), parts[-2], int(parts[-1])
        if pages.setdefault(page, relevance) != relevance:
            raise UsageError(
                f"{path}, line {number}: page {page} was judged {pages[page]} for {parts[0]} before, now "
                f"{relevance}; leave one of the lines"
            )
    return qrels


def read_run(path: Path) -> dict[str, list[str]]:
    """Query id -> page names, best first: by rank, the fourth column of a TREC run.

    Raises:
        UsageError: the file cannot be read, a line has no six columns, or a page comes twice for a query.
    """
    ranks: dict[str, dict[str, int]] = {}
    for number, line in enumerate(_lines(path), start=1):
        parts = line.split()
        if not parts:
            continue
        if len(parts) != 6 or not _is_whole(parts[3]):
            raise UsageError(f"{path}, line {number}: a line of a run looks like `q1 Q0 report#4 1 0.7 tag`")
        pages = ranks.setdefault(parts[0], {})
        if parts[2] in pages:
            raise UsageError(f"{path}, line {number}: page {parts[2]} comes twice for {parts[0]}")
        pages[parts[2]] = int(parts[3])
    return {id: sorted(pages, key=pages.__getitem__) for id, pages in ranks.items()}


def write_trec(path: Path, run: Mapping[str, Sequence[str]]) -> None:
    """A run whose scores are 1 / rank, so that every tool keeps its order, ties or not.

    Raises:
        UsageError: the file cannot be written.
    """
    try:
        with path.open("w", encoding="utf-8") as out:
            for id, pages in run.items():
                out.writelines(_run_lines(id, [(page, 1 / n) for n, page in enumerate(pages, start=1)]))
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from error


def _run_lines(id: str, scored: Iterable[tuple[str, float]]) -> Iterator[str]:
    for rank, (name, score) in enumerate(scored, start=1):
        yield f"{id} Q0 {name} {rank} {score:.9g} {TAG}\n"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UsageError(f"{path} cannot be read: {reason}") from error


def _is_whole(text: str) -> bool:
    return text.lstrip("-").isdecimal()


def _is_name(value: object) -> bool:
    """Whether it can stand in a column of a run: white space parts the columns."""
    return isinstance(value, str | int) and len(str(value).split()) == 1


def page_names(library: Library, template: str) -> dict[str, str]:
    """Page id -> name, every name one word and of one page. Of a file stored once for several, the first's.

    Raises:
        UsageError: otherwise; it names the files.
    """
    names: dict[str, str] = {}
    owners: dict[str, str] = {}
    for page in library.pages():
        path = page["path"]
        name = _page_name(template, page, path)
        if not _is_name(name):
            raise UsageError(f"{path} gives a page the name {name!r}, which is not one word; {_CURE}")
        if name in owners:
            raise UsageError(f"{owners[name]} and {path} both give a page the name {name!r}; {_CURE}")
        owners[name] = path
        names[page["page_id"]] = name
    return names


def of_copies(
    library: Library, qrels: Mapping[str, Mapping[str, int]], template: str
) -> dict[str, dict[str, int]]:
    """The judgements with every page by its name in `page_names`.

    A file that is there several times is stored once, and judgements may know it by another of its paths;
    where two of one page differ, the higher counts.

    Raises:
        UsageError: as `page_names`.
    """
    names = page_names(library, template)
    copies = {
        _page_name(template, page, path): names[page["page_id"]]
        for page in library.pages()
        for path in page["paths"][1:]
    }
    copies |= {name: name for name in names.values()}
    told: dict[str, dict[str, int]] = {}
    for id, pages in qrels.items():
        own = told[id] = {}
        for page, grade in pages.items():
            name = copies.get(page, page)
            own[name] = max(grade, own.get(name, grade))
    return told


def _page_name(template: str, page: Mapping[str, Any], path: str) -> str:
    doc_id, _, number = page["page_id"].partition("#")
    known = {"doc_id": doc_id, "stem": Path(path).stem, "path": path, "number": int(number)}
    try:
        return template.format_map({**known, "page": page["page"]})
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        raise UsageError(
            f"--page-name {template!r} cannot be filled in ({type(error).__name__}: {error}); it knows "
            f"{{doc_id}}, {{stem}}, {{path}}, {{number}} and {{page}}"
        ) from error


_CURE = "use --page-name '{doc_id}#{number}'"
