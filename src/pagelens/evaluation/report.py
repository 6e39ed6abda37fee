"""An evaluation for people: lines for a terminal, and a page with plots that needs no other file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pagelens.evaluation.asking import LEADING
from pagelens.evaluation.evaluate import Evaluation, StageReport
from pagelens.evaluation.measures import MEASURES
from pagelens.evaluation.plots import STYLE, Whisker, differences, reliability, sweep, whiskers
from pagelens.evaluation.splitting import Pages, Split
from pagelens.evaluation.sweeping import Depth
from pagelens.gallery import escaped, section, whole_page
from pagelens.hits import Hits
from pagelens.store.points import page_point_id
from pagelens.wording import counted

if TYPE_CHECKING:
    from pagelens.library import Library

WORST = 10
JUDGED = 2
"""Pages shown that should have been found."""
NAMES = {"add": "add the reranker", "skip": "skip the reranker", "first stage": "mend the first stage"}


def lines(evaluation: Evaluation) -> list[str]:
    """The report for a terminal."""
    stages = evaluation.stages
    width = max(map(len, stages)) + 2
    found = [_asked(evaluation), "", " " * width + "".join(f"{name:>11}" for name in MEASURES)]
    for name, stage in stages.items():
        found.append(
            f"{name:{width}}" + "".join(f"{_number(stage.measures[each].mean):>11}" for each in MEASURES)
        )
        spans = (stage.measures[each] for each in MEASURES)
        found.append(
            " " * width + "".join(f"{f'{_number(e.low, 2)}-{_number(e.high, 2)}':>11}" for e in spans)
        )
    found += ["", f"difference in {evaluation.measure}"]
    found += [f"  {name:{width}}{_compared(stage)}" for name, stage in stages.items() if stage.difference]
    found.append("")
    found += [f"  {name:{width}}{_spent(stage)}" for name, stage in stages.items() if stage.latency]
    found += [
        f"  {name:{width}}{_trained(evaluation, stage)}" for name, stage in stages.items() if stage.trained_on
    ]
    found += ["", *_second_stage(evaluation), "", *_verdict(evaluation), ""]
    return found + [f"note: {note}" for note in evaluation.asked.task.notes]


def html(evaluation: Evaluation, library: Library) -> str:
    """The report as a page: verdict, tables, plots, and the ten worst questions with their pages."""
    answer, *reasons = _verdict(evaluation)
    task = evaluation.asked.task
    body = [
        '<main class="report">\n<h1>Does the reranker pay?</h1>\n',
        f'<p class="answer">{escaped(answer)}</p>\n<ul>{_items(reasons)}</ul>\n',
        f"<p>{escaped(_asked(evaluation))}.</p>\n<ul>{_items(task.notes)}</ul>\n",
        "<h2>Every stage</h2>\n",
        _table(evaluation),
        whiskers(
            [Whisker(name, *stage.measures["nDCG@10"]) for name, stage in evaluation.stages.items()],
            "nDCG@10 of each stage with its 95% interval",
        ),
    ]
    if evaluation.top and evaluation.last.difference:
        gains = (
            evaluation.last.values[evaluation.measure]
            - evaluation.stages[evaluation.before].values[evaluation.measure]
        )
        title = f"{evaluation.measure}, question by question: {evaluation.top} less {evaluation.before}"
        body += [f"<h2>{escaped(title)}</h2>\n", differences(gains.tolist(), title)]
        body.append(f"<ul>{_items(_second_stage(evaluation))}</ul>\n")
    for title, rows in (
        ("Fewer pages for the reranker", evaluation.advice.sweep),
        ("One stage alone: every page reranked, and what stopping early costs", evaluation.advice.exhaustive),
    ):
        if rows:
            body += [f"<h2>{title}</h2>\n", _sweep(evaluation, rows)]
    if evaluation.advice.splits:
        body += ["<h2>Two rerankers within a budget</h2>\n", _split_table(evaluation)]
    body += ["<h2>How likely, and how often</h2>\n", _reliability(evaluation)]
    body.append(f"</main>\n<main>\n<h2>The {counted(WORST, 'question')} answered worst</h2>\n")
    body += [_case(evaluation, library, number) for number in evaluation.worst(WORST)]
    return whole_page("Evaluation", "".join([*body, "</main>\n"]), STYLE + _STYLE)


def _asked(evaluation: Evaluation) -> str:
    task = evaluation.asked.task
    documents = counted(task.documents, "independent document")
    return (
        f"{counted(len(task.questions), 'question')} about {documents}; 95% intervals over these; "
        f"{evaluation.measure} decides"
    )


def _verdict(evaluation: Evaluation) -> list[str]:
    verdict = evaluation.verdict
    answer = NAMES[verdict.decision] if verdict.decision else "no verdict"
    about = f" ({evaluation.top})" if evaluation.signals.others else ""
    return [f"verdict: {answer}{about}", *(f"- {reason}" for reason in verdict.reasons)]


def _compared(stage: StageReport) -> str:
    d = stage.difference
    assert d is not None
    return (
        f"{d.mean:+.3f} {_span(d.low, d.high)} to {stage.against}, p = {stage.p:.2g}; won {d.wins}, "
        f"tied {d.ties}, lost {d.losses}; {_number(d.detectable)} could be shown"
    )


def _spent(stage: StageReport) -> str:
    assert stage.latency is not None
    cost = "" if stage.cost is None else f"; {stage.cost:.4f} for 1,000 questions"
    return f"{stage.latency[0]:.0f} ms, 95% within {stage.latency[1]:.0f} ms{cost}"


def _trained(evaluation: Evaluation, stage: StageReport) -> str:
    return f"trained on {stage.trained_on} of these {len(evaluation.asked.task.questions)} questions"


def _second_stage(evaluation: Evaluation) -> list[str]:
    """The ceiling and the sweeps, a sentence each."""
    advice, found = evaluation.advice, []
    share = "" if evaluation.realised is None else f"; {evaluation.realised:.0%} of that room was taken"
    found.append(
        f"ceiling: with the first {evaluation.depth} pages of {evaluation.before} any order reaches at most "
        f"{evaluation.ceiling:.3f} {evaluation.measure}{share}"
    )
    if advice.sweep:
        found.append(
            "depth: " + ", ".join(f"{each.depth} pages {each.quality.mean:.3f}" for each in advice.sweep)
        )
    if advice.enough:
        found.append(f"{advice.enough.depth} pages are enough: {_loss(advice.enough)}")
    elif advice.sweep:
        found.append("no depth fits the budget")
    if advice.exhaustive:
        shown = (
            f"{each.depth} pages {each.quality.mean:.3f} ({each.loss.mean:+.3f})"
            for each in advice.exhaustive
        )
        found.append("every page reranked, stopping at: " + ", ".join(shown))
    if advice.margin:
        found.append(
            f"skip margin {advice.margin.margin:.2f} leaves the reranker out for "
            f"{advice.margin.skipped:.0%} of the questions and keeps {advice.margin.kept:.0%} of the lift "
            "(chosen on these questions)"
        )
    if advice.blend:
        gain = advice.blend.gain
        found.append(
            f"blend weight {advice.blend.weight:g} is best here, {advice.blend.used:g} was used: "
            f"{gain.mean:+.3f} {_span(gain.low, gain.high)} out of fold"
        )
    found += _splits(evaluation)
    if advice.sweep:
        found.append(f"next: {advice.next}")
    found += _weights(evaluation)
    if evaluation.noise is not None:
        found.append(f"scored again in another order, {evaluation.measure} moves by {evaluation.noise:.4f}")
    if evaluation.top:
        found.append(_likely(evaluation))
    return found


def _weights(evaluation: Evaluation) -> list[str]:
    """The lists that should count more, or less, in the fusion."""
    paying = [each for each in evaluation.weights if each.pays]
    found = [
        f"the list {each.name} counts {each.used:g} in the fusion, {each.best:g} is best here: "
        f"{each.gain.mean:+.3f} {_span(each.gain.low, each.gain.high)}, p = {each.p:.2g}, out of fold; "
        f"`pagelens weigh {each.name}={each.best:g}` sets it"
        for each in paying
    ]
    if evaluation.weights and not paying:
        found.append("weights of the lists: none is worth changing by itself, as far as these questions tell")
    return found


def _splits(evaluation: Evaluation) -> list[str]:
    """What more time for two rerankers buys, as far as that is more than luck."""
    found, rows, before = [], evaluation.advice.splits, (0, 0)
    for row in rows:
        if row.recommended != before:
            found.append(
                f"within {row.budget:g} ms for both rerankers: {_shares(evaluation, row.best)}, "
                f"{row.quality.mean:.3f} {evaluation.measure}; {_gain(row)} to what less time gives"
            )
        before = row.recommended
    if rows and rows[-1].best != before:
        found.append(
            f"within {rows[-1].budget:g} ms {_shares(evaluation, rows[-1].best)} are best here; that is not "
            f"recommended, for {_gain(rows[-1])} may be luck"
        )
    return found


def _shares(evaluation: Evaluation, pages: Pages) -> str:
    names = [step.reranker.name for step in evaluation.asked.steps[-2:]]
    shares = [f"{name} on {number}" for name, number in zip(names, pages, strict=True) if number]
    return ", then ".join(shares) or "no reranker"


def _gain(row: Split) -> str:
    return f"{row.gain.mean:+.3f} {_span(row.gain.low, row.gain.high)}, p = {row.p:.2g}"


def _likely(evaluation: Evaluation) -> str:
    found = evaluation.reliability
    if not found.bins:
        return found.about
    return f"probabilities: expected error {found.ece:.3f}, Brier score {found.brier:.3f}; {found.about}"


def _reliability(evaluation: Evaluation) -> str:
    found = evaluation.reliability
    if not found.bins:
        return f"<p>{escaped(found.about)}</p>\n"
    title = "How many pages answer, by how likely they are said to"
    legend = (
        f"{title}: across the probability, up the share that answers; dashed: as it should be. A larger dot "
        "is of more pages."
    )
    rows = [
        f"{counted(each.pages, 'page')} said to be {each.probability:.0%} likely: {each.relevant:.0%} answer"
        for each in found.bins
    ]
    return (
        f"<p>{escaped(_likely(evaluation))}.</p>\n<p>{legend}</p>\n{reliability(found.bins, title)}"
        f"<ul>{_items(rows)}</ul>\n"
    )


def _split_table(evaluation: Evaluation) -> str:
    heads = ("ms", "best here", "takes", evaluation.measure, "over what less time gives", "recommended")
    rows = []
    for row in evaluation.advice.splits:
        low, high = _number(row.quality.low), _number(row.quality.high)
        cells = (
            f"{row.budget:g}",
            _shares(evaluation, row.best),
            f"{row.milliseconds:.1f}",
            f"{_number(row.quality.mean)} [{low}, {high}]",
            _gain(row),
            _shares(evaluation, row.recommended),
        )
        rows.append("<tr>" + "".join(f"<td>{escaped(cell)}</td>" for cell in cells) + "</tr>")
    head = "".join(f"<th>{escaped(each)}</th>" for each in heads)
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(rows)}</table></div>\n'


def _loss(depth: Depth) -> str:
    if not depth.loss.mean:
        return "the best of these depths"
    return f"{depth.loss.mean:+.3f} {_span(depth.loss.low, depth.loss.high)} to the best depth"


def _table(evaluation: Evaluation) -> str:
    heads = "".join(f"<th>{each}</th>" for each in ("", *MEASURES, "difference", "milliseconds"))
    rows = []
    for name, stage in evaluation.stages.items():
        cells = "".join(
            f"<td>{_number(each.mean)}<small>{_number(each.low)}-{_number(each.high)}</small></td>"
            for each in (stage.measures[measure] for measure in MEASURES)
        )
        compared = escaped(_compared(stage)) if stage.difference else ""
        spent = escaped(_spent(stage)) if stage.latency else ""
        trained = f"<small>{_trained(evaluation, stage)}</small>" if stage.trained_on else ""
        rows.append(
            f"<tr><th>{escaped(name)}{trained}</th>{cells}<td><small>{compared}</small></td>"
            f"<td><small>{spent}</small></td></tr>"
        )
    return f'<div class="wide"><table><tr>{heads}</tr>{"".join(rows)}</table></div>\n'


def _sweep(evaluation: Evaluation, rows: Sequence[Depth]) -> str:
    plot = sweep(
        [Whisker(str(each.depth), *each.quality) for each in rows],
        [each.ceiling for each in rows],
        f"{evaluation.measure} by pages reranked",
    )
    spent = [
        f"{each.depth} pages: {each.quality.mean:.3f}, {_loss(each)}, ceiling {each.ceiling:.3f}"
        + ("" if each.milliseconds is None else f", {each.milliseconds:.1f} ms")
        for each in rows
    ]
    legend = f"<p>{evaluation.measure} by pages reranked, with its 95% interval; dashed: the ceiling.</p>\n"
    return f"{legend}{plot}<ul>{_items(spent)}</ul>\n"


def _case(evaluation: Evaluation, library: Library, number: int) -> str:
    """One question: what was found, and what should have been."""
    task = evaluation.asked.task
    question, pages = task.questions[number], task.qrels[task.questions[number].id]
    wanted = sorted(
        (page for page, grade in pages.items() if grade > 0), key=lambda page: (-pages[page], page)
    )
    ids = {page.name: page.page_id for page in evaluation.asked.pages.values()}
    where = (
        f"{page}: "
        + ", ".join(f"{name} {_rank(stage, question.id, page)}" for name, stage in evaluation.stages.items())
        for page in wanted
    )
    run = evaluation.last.run.get(question.id, ())
    found = _pages(evaluation, library, number, [ids[page] for page in run[:LEADING] if page in ids])
    judged = _pages(evaluation, library, number, [ids[page] for page in wanted[:JUDGED] if page in ids])
    value = evaluation.last.values["nDCG@10"][number]
    head = (
        f'<section class="case">\n<h2 dir="auto">{escaped(question.query)}</h2>\n'
        f"<p>{escaped(question.id)}, nDCG@10 {value:.3f}</p>\n<ul>{_items(where)}</ul>\n"
    )
    # The question stands above both: each title takes its place.
    both = (
        section(title, replace(hits, query=title))
        for title, hits in (("Found first", found), ("Judged relevant", judged))
    )
    return f"{head}{''.join(both)}</section>\n"


def _pages(evaluation: Evaluation, library: Library, number: int, page_ids: Iterable[str]) -> Hits:
    """Pages as hits for a question: the evidence on them, and what the stages thought of them."""
    query, profile, hits = evaluation.asked.task.questions[number].query, "", []
    answers = evaluation.asked.answers
    kept = {**answers[number].leading, **answers[number].relevant} if answers else {}
    for page_id in page_ids:
        doc_id, _, place = page_id.partition("#")
        alone = library.search(query, 1, {"doc_id": doc_id, "page": [int(place) + 1] * 2}, rerank=None)
        profile = alone.profile
        seen = kept.get(page_point_id(page_id))
        stages, score = (seen.stages, seen.score) if seen else ({}, 0.0)
        hits += [replace(hit, stages=stages, score=score, probability=None) for hit in alone]
    return Hits(query, profile, tuple(hits))


def _rank(stage: StageReport, id: str, page: str) -> str:
    pages = stage.run.get(id, ())
    return f"#{pages.index(page) + 1}" if page in pages else "not found"


def _items(texts: Iterable[str]) -> str:
    return "".join(f"<li>{escaped(text.removeprefix('- '))}</li>" for text in texts)


def _span(low: float, high: float) -> str:
    return "[no interval]" if math.isnan(low) else f"[{low:+.3f}, {high:+.3f}]"


def _number(value: float, digits: int = 3) -> str:
    """`.886`, as tables of measures have it."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}".replace("0.", ".", 1)


_STYLE = """
.report h1 { font-size: 26px; margin: 0 0 8px; }
.report h2 { font-size: 19px; margin: 28px 0 6px; }
.report .answer { font-size: 20px; font-weight: 650; margin: 0 0 6px; }
.report .wide { overflow-x: auto; }
.report table { border-collapse: collapse; font-size: 14px; margin-bottom: 16px; }
.report td, .report th { padding: 5px 10px 5px 0; text-align: left; vertical-align: top; }
.report td small, .report th small { display: block; white-space: nowrap; font-size: 11px;
  font-weight: 400; opacity: .72; }
.report td:nth-last-child(-n+2) small { white-space: normal; min-width: 130px; }
.report tr + tr { border-top: 1px solid rgba(128, 128, 128, .35); }
.case { margin: 24px 0; padding-top: 12px; border-top: 3px solid rgba(128, 128, 128, .35); }
.case ul { font-size: 14px; }
"""
