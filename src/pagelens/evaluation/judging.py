"""Questions without judgements: what the stages found for each, a page on which a person says what answers.

The page needs no server and no other file: it remembers the verdicts in the browser and hands them back as a
file of TREC judgements, which `collect` adds to those there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pagelens.errors import UsageError
from pagelens.evaluation.asking import DEPTH, Qrels, every_order, known_pages
from pagelens.evaluation.runs import Question, of_copies, read_qrels
from pagelens.gallery import escaped, picture, whole_page
from pagelens.hits import Hit
from pagelens.records import Box
from pagelens.searching import Cascade

if TYPE_CHECKING:
    from pagelens.library import Library

POOL = 10
"""Pages of each stage that are judged."""
UNFIT = "document"
"""No stage of pages: it gives all pages of a document the same score."""
WIDTH = 1000
"""Pixels of a page: it is to be read."""


class Shown(NamedTuple):
    """One page to be judged for one question."""

    question: Question
    page: str
    """As the judgements name it."""
    page_id: str


def pool(
    library: Library,
    questions: Sequence[Question],
    judged: Qrels,
    page_name: str = "{doc_id}#{number}",
    rerank: Cascade = "auto",
    depth: int = POOL,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Shown]:
    """The first pages of every stage that nobody judged yet, question by question.

    Within a question they come in an order that says nothing of their rank: a judge who knows what was found
    first believes it.

    Args:
        library: What is asked.
        questions: In this order.
        judged: What need not be judged again.
        page_name: See `runs.page_names`.
        rerank: As `Library.search`.
        depth: Pages of each stage.
        progress: Told how many questions of how many are answered.
    """
    pages, steps = known_pages(library, page_name), library.steps(rerank)
    judged = of_copies(library, judged, page_name)
    ids = {page.name: page.page_id for page in pages.values()}
    shown = []
    for done, question in enumerate(questions, start=1):
        trace = library.trace(question.query, DEPTH, question.filter, steps)
        found = {
            pages[id].name
            for stage, order in every_order(trace, steps).items()
            if stage != UNFIT
            for id in order[:depth]
        }
        new = found - judged.get(question.id, {}).keys()
        shown += [Shown(question, page, ids[page]) for page in sorted(new, key=_shuffled(question.id))]
        progress(done, len(questions))
    return shown


def collect(answers: Sequence[Path], qrels: Path) -> int:
    """Add judgements to a file of them, made if missing; how many were not there before.

    The file keeps its form, three columns or TREC's four.

    Raises:
        UsageError: a file cannot be read or written, or two judgements disagree; nothing is written then.
    """
    known = _pairs(read_qrels(qrels)) if qrels.exists() else {}
    before = set(known)
    for path in answers:
        for pair, grade in _pairs(read_qrels(path)).items():
            if known.setdefault(pair, grade) != grade:
                id, page = pair
                raise UsageError(
                    f"{path} judges page {page} for {id} as {grade}, it was judged {known[pair]} before; "
                    f"take the line out of {path} or of the file before"
                )
    old = qrels.read_text(encoding="utf-8") if before else ""
    form = "{0}\t{1}\t{2}" if old and len(old.split("\n", 1)[0].split()) == 3 else "{0} 0 {1} {2}"
    new = [form.format(*pair, grade) for pair, grade in known.items() if pair not in before]
    part = qrels.with_name(f"{qrels.name}.part")
    try:
        gap = "" if not old or old.endswith("\n") else "\n"
        part.write_text(old + gap + "".join(f"{line}\n" for line in new), encoding="utf-8")
        part.replace(qrels)
    except OSError as error:
        raise UsageError(f"{qrels} cannot be written: {error.strerror}") from error
    return len(new)


def html(library: Library, shown: Sequence[Shown], name: str) -> str:
    """The page to judge on; `name` is that of the file it hands back, without its suffix."""
    place = {page_id: f"f{n}" for n, page_id in enumerate(dict.fromkeys(each.page_id for each in shown))}
    articles = (_article(each, place[each.page_id], _hit(library, each)) for each in shown)
    figures = (
        f'<figure id="{own}" hidden>{picture(library.image(page_id), WIDTH, page_id)}</figure>\n'
        for page_id, own in place.items()
    )
    pairs = "\n".join(f"{each.question.id} {each.page}" for each in shown)
    digest = hashlib.sha256(pairs.encode()).hexdigest()[:16]
    body = (
        f'<main data-set="{digest}" data-name="{escaped(name)}">\n<div class="side">\n{"".join(articles)}'
        f'{_KEYS}</div>\n<div class="sheets">\n{"".join(figures)}</div>\n</main>\n'
    )
    return whole_page("Judge", body, _STYLE, _SCRIPT)


def _hit(library: Library, shown: Shown) -> Hit | None:
    """The page with the evidence on it; None where no list holds it."""
    doc_id, _, number = shown.page_id.partition("#")
    page = int(number) + 1
    among = {"doc_id": doc_id, "page": [page, page]}
    return next(iter(library.search(shown.question.query, 1, among, rerank=None)), None)


def _article(shown: Shown, figure: str, hit: Hit | None) -> str:
    """One question and page; its boxes are percent of the page: left, top, width, height."""
    passages = hit.evidence if hit else ()
    boxes = _percent(hit, [each.box for each in passages])
    words = _percent(hit, [word.box for each in passages for word in each.words])
    where = f"{escaped(hit.name)}, page {hit.page}" if hit else escaped(shown.page)
    return (
        f'<article hidden data-question="{escaped(shown.question.id)}" data-page="{escaped(shown.page)}" '
        f'data-figure="{figure}" data-boxes="{boxes}" data-words="{words}">\n'
        f'<h1 dir="auto">{escaped(shown.question.query)}</h1>\n<p><bdi>{where}</bdi></p>\n</article>\n'
    )


def _percent(hit: Hit | None, boxes: Sequence[Box]) -> str:
    if hit is None:
        return ""
    across, down = 100 / hit.record.width, 100 / hit.record.height
    return ";".join(
        f"{box.left * across:.2f},{box.top * down:.2f},{box.width * across:.2f},{box.height * down:.2f}"
        for box in boxes
    )


def _shuffled(id: str) -> Callable[[str], str]:
    return lambda page: hashlib.sha256(f"{id} {page}".encode()).hexdigest()


def _pairs(qrels: Qrels) -> dict[tuple[str, str], int]:
    return {(id, page): grade for id, pages in qrels.items() for page, grade in pages.items()}


_KEYS = """<section id="end" hidden><h1>That was all.</h1>
<p>Save the verdicts and hand the file back.</p></section>
<p id="progress"></p>
<div class="keys">
<button data-key="2"><kbd>2</kbd> answers</button>
<button data-key="1"><kbd>1</kbd> answers in part</button>
<button data-key="0"><kbd>0</kbd> does not answer</button>
<button data-key=" "><kbd>space</kbd> later</button>
<button data-key="ArrowLeft"><kbd>&larr;</kbd> back</button>
<button data-key="s"><kbd>s</kbd> save the verdicts</button>
</div>
<p id="note"></p>
"""

_SCRIPT = """
"use strict";
const main = document.querySelector("main"), pairs = [...main.querySelectorAll("article")];
const kept = "pagelens judge " + main.dataset.set;
const byId = (id) => document.getElementById(id);
let verdicts = {}, remembers = true, unsaved = false, at = 0;
try { verdicts = JSON.parse(localStorage.getItem(kept)) || {}; } catch { remembers = false; }

function draw(figure, boxes, kind) {
  for (const box of boxes.split(";").filter(Boolean)) {
    const mark = document.createElement("div"), [left, top, width, height] = box.split(",");
    mark.className = "box " + kind;
    Object.assign(mark.style, { left: left + "%", top: top + "%", width: width + "%", height: height + "%" });
    figure.append(mark);
  }
}

function show(where) {
  at = Math.max(0, Math.min(where, pairs.length));
  document.querySelectorAll(".box").forEach((box) => box.remove());
  document.querySelectorAll("article, figure").forEach((each) => { each.hidden = true; });
  byId("end").hidden = at < pairs.length;
  if (at < pairs.length) {
    const { figure, boxes, words } = pairs[at].dataset, sheet = byId(figure);
    pairs[at].hidden = sheet.hidden = false;
    draw(sheet, boxes, "passage");
    draw(sheet, words, "word");
    const first = sheet.querySelector(".box");
    if (first) first.scrollIntoView({ block: "center" }); else scrollTo(0, 0);
  }
  const given = at < pairs.length ? verdicts[at] : undefined;
  main.querySelectorAll("button").forEach((each) => {
    each.classList.toggle("given", given !== undefined && each.dataset.key === String(given));
  });
  byId("progress").textContent = Object.keys(verdicts).length + " of " + pairs.length + " judged";
  byId("note").textContent = remembers
    ? "This browser remembers the verdicts: close the page and go on later."
    : "This browser cannot remember the verdicts: save them before you close the page.";
}

function next() {
  const open = pairs.map((_, i) => i).filter((i) => verdicts[i] === undefined);
  show(open.find((i) => i > at) ?? open[0] ?? pairs.length);
}

function judge(grade) {
  if (at === pairs.length) return;
  verdicts[at] = grade;
  unsaved = true;
  try { localStorage.setItem(kept, JSON.stringify(verdicts)); } catch { remembers = false; }
  next();
}

function save() {
  const lines = pairs.map((each, i) => [each.dataset, verdicts[i]]).filter(([, grade]) => grade !== undefined)
    .map(([pair, grade]) => pair.question + " 0 " + pair.page + " " + grade + "\\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(lines, { type: "text/plain" }));
  link.download = main.dataset.name + ".qrels";
  link.click();
  unsaved = false;
}

function press(key) {
  if (["0", "1", "2"].includes(key)) judge(Number(key));
  else if (key === " " || key === "ArrowRight") show(at + 1);
  else if (key === "ArrowLeft") show(at - 1);
  else if (key === "s") save();
  else return false;
  return true;
}

addEventListener("keydown", (event) => {
  if (!event.ctrlKey && !event.metaKey && !event.altKey && press(event.key)) event.preventDefault();
});
main.querySelectorAll("button").forEach((each) => {
  each.addEventListener("click", () => { each.blur(); press(each.dataset.key); });
});
addEventListener("beforeunload", (event) => { if (unsaved && !remembers) event.preventDefault(); });
at = -1;
next();
"""

_STYLE = """
body { max-width: 1400px; }
main { display: grid; grid-template-columns: 320px minmax(0, 1fr); gap: 28px; align-items: start; }
.side { position: sticky; top: 20px; overflow-wrap: anywhere; }
.side h1 { margin: 0 0 8px; font-size: 22px; line-height: 1.3; }
.side p { margin: 0 0 16px; font-size: 14px; opacity: .75; }
.keys { display: grid; gap: 8px; margin-bottom: 16px; }
.keys button { padding: 9px 12px; border: 1px solid rgba(128, 128, 128, .45); border-radius: 8px;
  background: none; color: inherit; font: inherit; text-align: start; cursor: pointer; }
.keys button:hover { background: rgba(128, 128, 128, .12); }
.keys .given { border-color: #3b82d0; background: rgba(59, 130, 208, .18); }
kbd { display: inline-block; min-width: 22px; margin-inline-end: 8px; padding: 0 5px; border-radius: 4px;
  background: rgba(128, 128, 128, .2); font: 13px ui-monospace, monospace; text-align: center; }
figure { position: relative; margin: 0; }
figure[hidden] { display: none; }
figure img { display: block; width: 100%; height: auto; }
.box { position: absolute; mix-blend-mode: multiply; }
.passage { background: #deebff; outline: 2px solid #005cbe; outline-offset: 2px; }
.word { background: #ffcd3c; }
@media (max-width: 800px) { main { grid-template-columns: minmax(0, 1fr); } .side { position: static; } }
"""
