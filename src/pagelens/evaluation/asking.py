"""Questions whose answers are known, each searched once.

The pages remember what each stage thought of them, so one search gives the run of every stage.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias
from urllib.parse import quote, unquote

import numpy as np

from pagelens import rules
from pagelens.errors import UsageError
from pagelens.evaluation.runs import Question, digest, page_names, read_run, write_trec
from pagelens.evaluation.significance import clusters
from pagelens.evaluation.sweeping import Seen, read_seen
from pagelens.ranking import Ranked, orders
from pagelens.rerankers.evidence import EvidenceReranker
from pagelens.searching import FUSED, Found, Step, is_list, stage_names
from pagelens.store.points import page_point_id
from pagelens.wording import counted

if TYPE_CHECKING:
    from pagelens.library import Library

Qrels: TypeAlias = Mapping[str, Mapping[str, int]]
"""Query id -> page name -> relevance; above 0 is relevant."""
Run: TypeAlias = Mapping[str, Sequence[str]]
"""Query id -> page names, best first."""

DEPTH = 100
"""Pages of a run."""
FEW = 10
"""Independent documents: with fewer, intervals are rough."""
LEADING = 2
"""Pages of each order whose stages are kept, to be shown."""
_SHOWN = 3
"""Names in a message."""


class Known(NamedTuple):
    """A page of the library, as the judgements see it."""

    name: str
    page_id: str
    words: int

    @property
    def doc_id(self) -> str:
        """The document it is of."""
        return self.page_id.partition("#")[0]


@dataclass(frozen=True)
class Task:
    """The questions that count: those with a relevant page."""

    questions: list[Question]
    qrels: dict[str, Mapping[str, int]]
    """Of these questions, in their order."""
    homes: list[frozenset[str]]
    """The doc_ids of each question's relevant pages, as far as the library has them."""
    groups: np.ndarray
    """Questions that share a document have the same number (`clusters`). *Shape:* (questions,)."""
    notes: list[str]
    """What was left out and what is counted how, with numbers."""

    @property
    def texts(self) -> list[str]:
        """The questions in words."""
        return [each.query for each in self.questions]

    @property
    def documents(self) -> int:
        """How many groups of questions are independent."""
        return int(self.groups.max()) + 1


@dataclass(frozen=True, slots=True)
class Answer:
    """One question, searched."""

    orders: Mapping[str, Sequence[str]]
    """Stage -> all candidates by the ids of their points, best first."""
    laps: Mapping[str, float]
    """Milliseconds by step."""
    relevant: Mapping[str, Ranked]
    """The candidates that are relevant, by id."""
    leading: Mapping[str, Ranked] = field(default_factory=dict)
    """The first `LEADING` of each order, by id."""
    seen: Mapping[str, Seen] = field(default_factory=dict)
    """What each reranker saw, by stage; without those whose scores cannot be read back."""
    lists: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """List of the first stage -> scores of its candidates by id."""


@dataclass(frozen=True)
class Asked:
    """A task and every stage's run of it."""

    task: Task
    pages: Mapping[str, Known]
    """Of the library, by the ids of their points."""
    runs: Mapping[str, Run]
    """By stage, in the order of the search."""
    answers: Sequence[Answer] = ()
    """One a question; none where the runs were read from files."""
    steps: Sequence[Step] = ()
    """The rerankers."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Of the lists in the fusion; none where the runs were read from files."""

    def run(self, orders: Sequence[Sequence[str]], whole: bool = False) -> Run:
        """Orders by point ids, one a question, as a run; `whole`: of all pages."""
        return {
            question.id: [self.pages[id].name for id in order[: None if whole else DEPTH]]
            for question, order in zip(self.task.questions, orders, strict=True)
        }


def fitted_to(steps: Iterable[Step], questions: Iterable[str]) -> int:
    """How many of these questions, in words, some of the rerankers were fitted to."""
    evidence = [each.reranker for each in steps if isinstance(each.reranker, EvidenceReranker)]
    known = frozenset[str]().union(*(each.coefficients.fitted_to for each in evidence))
    return sum(digest(each) in known for each in questions)


def known_pages(library: Library, template: str) -> dict[str, Known]:
    """The library's pages by the ids of their points; `template` as `runs.page_names`."""
    names = page_names(library, template)
    return {
        page_point_id(page["page_id"]): Known(names[page["page_id"]], page["page_id"], page["words"])
        for page in library.pages()
        if page["page_id"] in names
    }


def judged_task(questions: Sequence[Question], qrels: Qrels, pages: Iterable[Known]) -> Task:
    """The questions with a relevant page; what is odd about the others, in notes.

    A relevant page that the library does not have counts as not found: that is what a user would see.

    Raises:
        UsageError: no question is left, or no relevant page is in the library.
    """
    documents = {page.name: page.doc_id for page in pages}
    judged = [each for each in questions if each.id in qrels]
    answers = {each.id: {page for page, grade in qrels[each.id].items() if grade > 0} for each in judged}
    kept = [each for each in judged if answers[each.id]]
    if not qrels:
        raise UsageError("there are no judgements in that file; one looks like `q1 0 report#4 1`")
    if not judged:
        raise UsageError(
            f"no question is judged: the questions have ids such as {_some(each.id for each in questions)}, "
            f"the judgements such as {_some(qrels)}"
        )
    if not kept:
        raise UsageError(
            f"no page is judged relevant: all judgements of {counted(len(judged), 'question')} are 0 or less"
        )
    missing = {page for pages_ in answers.values() for page in pages_ if page not in documents}
    if all(answers[each.id] <= missing for each in kept):
        raise UsageError(
            f"no relevant page is in this library: the judgements name pages such as {_some(missing)}, the "
            f"library such as {_some(documents)}; --page-name says how the judgements name them"
        )
    notes = []
    if left := len(questions) - len(judged):
        notes.append(f"{counted(left, 'question')} left out: not judged")
    if left := len(judged) - len(kept):
        notes.append(f"{counted(left, 'question')} left out: no page is judged relevant")
    if strangers := len(qrels.keys() - {each.id for each in questions}):
        notes.append(f"{counted(strangers, 'judged question')} not asked: the file of questions lacks them")
    if missing:
        lost = sum(answers[each.id] <= missing for each in kept)
        notes.append(
            f"{counted(len(missing), 'relevant page')} not in the library, such as {_some(missing)}: counted "
            f"as not found; {counted(lost, 'question')} with no other: 0"
        )
    if all(grade > 0 for each in kept for grade in qrels[each.id].values()):
        notes.append("only relevant pages are judged: any other page counts as not relevant")
    homes = [frozenset(documents[page] for page in answers[each.id] - missing) for each in kept]
    task = Task(kept, {each.id: qrels[each.id] for each in kept}, homes, clusters(homes), notes)
    if 1 < task.documents < FEW:
        notes.append(f"the questions are about {task.documents} independent documents: intervals are rough")
    return task


def ask(
    library: Library,
    task: Task,
    pages: Mapping[str, Known],
    steps: Sequence[Step],
    k: int = DEPTH,
    progress: Callable[[int], None] = lambda done: None,
) -> Asked:
    """Search every question once; the first one twice, so that no model is loaded while the clock runs.

    Raises:
        UsageError: a question's filter is wrong, no question finds a page, or pages were ingested meanwhile.
    """
    answers: list[Answer] = []
    held = set[str]()
    for done, each in enumerate([task.questions[0], *task.questions]):
        try:
            trace = library.trace(each.query, k, each.filter, steps)
        except UsageError as error:
            raise UsageError(f"question {each.id}: {error}") from error
        found = {page.id: page for page in [*trace.order, *trace.beyond]}
        if strange := found.keys() - pages.keys():
            raise UsageError(f"{counted(len(strange), 'page')} were ingested meanwhile; evaluate again")
        progress(done)
        if done == 0:
            continue
        held.update(name for page in found.values() for name in page.stages)
        read = every_order(trace, steps)
        grades = task.qrels[each.id]
        relevant = {id: page for id, page in found.items() if grades.get(pages[id].name, 0) > 0}
        lists = {
            name: {id: page.stages[name].score for id, page in found.items() if name in page.stages}
            for name in trace.stages[:-1]
        }
        leading = {id: found[id] for order in read.values() for id in order[:LEADING]}
        answers.append(Answer(read, trace.timings, relevant, leading, _seen(read, steps, found), lists))
    if not held:
        raise UsageError("no question finds any page: do the filters leave any?")
    bare = sum(not any(each.orders.values()) for each in answers)
    notes = [f"{counted(bare, 'question')} found no page, for the filter leaves none: 0"] if bare else []
    task = replace(task, notes=[*task.notes, *notes])
    empty = Asked(task, pages, {}, answers, steps, library.weights)
    names = [name for name in answers[0].orders if name in held]
    return replace(empty, runs={name: empty.run([each.orders[name] for each in answers]) for name in names})


def every_order(trace: Found, steps: Sequence[Step]) -> dict[str, list[str]]:
    """The stages of one search, each with the ids of all candidates in its order.

    First the lists, those of further encoders too, then their fusion, the rerankers, the rules. A list that
    saw no page is empty; a later stage that saw none has the order before it.
    """
    later = [*stage_names(steps), rules.STAGE]
    return orders([*trace.order, *trace.beyond], trace.stages, later)


def _seen(
    read: Mapping[str, list[str]], steps: Sequence[Step], pages: Mapping[str, Ranked]
) -> dict[str, Seen]:
    """What each reranker saw of one question."""
    later = stage_names(steps)
    found = {
        stage: read_seen(stage, before, read[before], pages)
        for before, stage in zip([FUSED, *later], later, strict=False)
    }
    return {stage: seen for stage, seen in found.items() if seen is not None}


def stored(task: Task, pages: Mapping[str, Known], folder: Path) -> Asked:
    """The TREC runs of a folder in place of searches: lists first, else in the order of their file names.

    Raises:
        UsageError: there is none, one cannot be read, or one is of other questions or pages.
    """
    files = {unquote(re.sub(r"^\d+-", "", file.stem)): file for file in sorted(folder.glob("*.trec"))}
    if not files:
        raise UsageError(f"{folder} holds no run; `pagelens eval --run-dir {folder}` writes some")
    names, notes = sorted(files, key=lambda name: not is_list(name)), [*task.notes]
    known, asked = {page.name for page in pages.values()}, {each.id for each in task.questions}
    runs = {name: read_run(files[name]) for name in names}
    for name, run in runs.items():
        found = {page for id in asked & run.keys() for page in run[id]}
        if not asked & run.keys():
            raise UsageError(
                f"{files[name]} answers none of the questions: it has ids such as {_some(run)}, they have "
                f"ids such as {_some(asked)}"
            )
        if not found & known:
            raise UsageError(
                f"no page of {files[name]} is in this library: it names pages such as {_some(found)}, the "
                f"library such as {_some(known)}; --page-name says how"
            )
        if lost := len(asked - run.keys()):
            notes.append(f"{counted(lost, 'question')} without an answer in {files[name].name}: counted as 0")
        if strangers := found - known:
            notes.append(
                f"{counted(len(strangers), 'page')} of {files[name].name} not in the library, such as "
                f"{_some(strangers)}"
            )
    if any(name.partition(":")[0] == "rerank" for name in names):
        notes.append(
            "stored runs do not say what their rerankers were fitted to; a lift on that proves nothing"
        )
    return Asked(replace(task, notes=notes), pages, runs)


def store(asked: Asked, folder: Path) -> None:
    """Every stage's run as TREC has it, for `stored` and other tools: `<number>-<stage>.trec`.

    Signs that no file's name may hold stand there as in an address: a slash as %2F.

    Raises:
        UsageError: the folder cannot be made, or a file not be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, (name, run) in enumerate(asked.runs.items()):
            write_trec(folder / f"{number:02}-{quote(name, safe=':, ')}.trec", run)
    except OSError as error:
        raise UsageError(f"{folder} cannot hold the runs: {error.strerror}") from error


def _some(names: Iterable[str]) -> str:
    found = sorted(names)
    return ", ".join(found[:_SHOWN]) + (", ..." if len(found) > _SHOWN else "")
