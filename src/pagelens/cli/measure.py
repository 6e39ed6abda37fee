"""How good it is: judgements, measures, and what is fitted to them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from pagelens.cli.options import (
    BY_ID,
    Commercial,
    Device,
    Folder,
    Int8,
    Json,
    Judgements,
    Level,
    Models,
    PageName,
    Questions,
    WithText,
    app,
    cascade_of,
    library_command,
    open_library,
)
from pagelens.cli.talk import put, put_json, question_progress, say, write_file
from pagelens.errors import ExitCode, UsageError
from pagelens.hits import SCHEMA
from pagelens.rerankers import Looking
from pagelens.wording import counted


@library_command()
def fit(
    queries: Questions,
    qrels: Judgements,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The coefficients to write; ends in .json.")],
    library: Folder = None,
    page_name: PageName = BY_ID,
    after: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="A reranker that comes after; the weight of its score is fitted too."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fit the evidence reranker to your own judgements, and say whether that beats the shipped one.

    What it is worth is measured on documents that had no part in the fit.

    Example: `pagelens fit --queries q.jsonl --qrels qrels.tsv --page-name '{stem}#{number}' --out mine.json`
    """
    from pagelens.evaluation.fitting import fit_library
    from pagelens.evaluation.runs import of_copies, page_names, read_qrels, read_questions

    if out.suffix != ".json":
        raise UsageError(f"--out {out}: its name must end in .json, so that --rerank {out}@50 finds a file")
    with open_library(library, must_exist=True) as opened:
        questions = [each._asdict() for each in read_questions(queries)]
        names = page_names(opened, page_name)
        member = opened.reranker(after) if after else None
        judged = of_copies(opened, read_qrels(qrels), page_name)
        fitted = fit_library(opened, questions, judged, names, member)
    fitted.coefficients.save(out)
    if as_json:
        put_json(
            {
                "schema": SCHEMA,
                "questions": fitted.questions,
                "rows": [asdict(r) for r in fitted.rows],
                "verdict": fitted.verdict,
                "out": str(out.resolve()),
            }
        )
        return
    for row in fitted.rows:
        mean, low, high = row.gain
        put(f"{row.name:40} nDCG@10 {row.ndcg:.3f}  gain {mean:+.3f} [{low:+.3f}, {high:+.3f}]")
    put(fitted.verdict)
    say(f"written to {out}; use it with --rerank {out}@50")


@library_command("eval")
def evaluate(
    queries: Questions,
    qrels: Judgements,
    library: Folder = None,
    page_name: PageName = BY_ID,
    rerank: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME@PAGES", help="As for search; the verdict is about the last one."),
    ] = None,
    prefer: Annotated[
        Literal["precision", "recall"] | None,
        typer.Option(help="What matters more: nDCG@5 decides, or R@10. Default: nDCG@10."),
    ] = None,
    budget_ms: Annotated[
        float | None, typer.Option(min=0, metavar="MS", help="That a search may take.")
    ] = None,
    gpu_hour: Annotated[
        float | None, typer.Option(min=0, metavar="PRICE", help="Of an hour of the machine.")
    ] = None,
    queries_per_second: Annotated[
        float | None, typer.Option(min=0, metavar="N", help="How many questions are asked.")
    ] = None,
    exhaustive: Annotated[
        bool,
        typer.Option("--exhaustive", help="Let the reranker score every page too; up to 1,000 pages."),
    ] = False,
    runs: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Evaluate these TREC runs instead of searching: bm25.trec, ..."),
    ] = None,
    run_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write every stage's TREC run there.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the report with plots and the ten worst questions."),
    ] = None,
    models: Models = None,
    device: Device = "auto",
    features: Level = "auto",
    int8: Int8 = False,
    with_text: WithText = False,
    commercial: Commercial = False,
    as_json: Json = False,
) -> None:
    """How good each stage is on questions with known answers, and whether the reranker pays.

    Three answers: add the reranker, skip it, or mend the first stage. docs/verdict.md has the rules.

    Example: `pagelens eval --queries q.jsonl --qrels qrels.tsv --page-name '{stem}#{number}' --html out.html`

    Example: `pagelens eval --queries q.jsonl --qrels qrels.tsv --rerank qwen3-vl-2b@20 --gpu-hour 2.50`
    """
    from pagelens.evaluation import report
    from pagelens.evaluation.asking import store
    from pagelens.evaluation.evaluate import evaluate as measure
    from pagelens.evaluation.runs import read_qrels, read_questions

    if runs and (rerank or exhaustive):
        raise UsageError("--runs evaluates what was found before: leave out --rerank and --exhaustive")
    looking = Looking(device, "auto", features, with_text, int8, commercial)
    asked, judged = read_questions(queries), read_qrels(qrels)
    with open_library(library, models, must_exist=True, looking=looking) as opened:
        with question_progress(as_json) as advance:
            found = measure(
                opened,
                asked,
                judged,
                page_name,
                cascade_of(rerank),
                prefer=prefer,
                budget_ms=budget_ms,
                gpu_hour=gpu_hour,
                queries_per_second=queries_per_second,
                exhaustive=exhaustive,
                runs=runs,
                progress=advance,
            )
        if as_json:
            put_json(found.as_dict())
        else:
            for line in report.lines(found):
                put(line)
        if run_dir is not None:
            store(found.asked, run_dir)
            say(f"{counted(len(found.asked.runs), 'run')} written to {run_dir}")
        if html is not None:
            write_file(html, report.html(found, opened))
            say(f"report written to {html}")


@library_command()
def judge(
    qrels: Annotated[
        Path,
        typer.Option(metavar="FILE", help="The judgements there are; a missing file is an empty one."),
    ],
    queries: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Questions, as `search --queries` has them.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the page on which a person judges.")
    ] = None,
    collect: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Add what such a page saved to the qrels; may be repeated."),
    ] = None,
    depth: Annotated[
        int, typer.Option(min=1, metavar="N", help="So many pages of each stage are judged.")
    ] = 10,
    library: Folder = None,
    page_name: PageName = BY_ID,
    rerank: Annotated[
        list[str] | None, typer.Option(metavar="NAME@PAGES", help="As for search: its pages are judged too.")
    ] = None,
    models: Models = None,
    device: Device = "auto",
    features: Level = "auto",
    int8: Int8 = False,
    with_text: WithText = False,
    commercial: Commercial = False,
    as_json: Json = False,
) -> None:
    """Make judgements where there are none: a page to judge on with one key a verdict.

    Open the page in a browser, here or elsewhere; it needs no other file and no network. What it saves goes
    into the qrels with --collect. Made again, the page leaves out what is judged.

    Example: `pagelens judge --queries q.jsonl --qrels qrels.txt --html judge.html`

    Example: `pagelens judge --qrels qrels.txt --collect ~/Downloads/judge.qrels`
    """
    from pagelens.evaluation import judging
    from pagelens.evaluation.runs import read_qrels, read_questions

    if collect:
        if queries or html:
            raise UsageError("--collect stands by itself: leave out --queries and --html")
        new = judging.collect(collect, qrels)
        if as_json:
            put_json({"schema": SCHEMA, "added": new, "qrels": str(qrels.resolve())})
        else:
            say(f"{counted(new, 'judgement')} added to {qrels}")
        return
    if queries is None or html is None:
        raise UsageError("give --queries together with --html, or --collect")
    asked, known = read_questions(queries), read_qrels(qrels) if qrels.exists() else {}
    looking = Looking(device, "auto", features, with_text, int8, commercial)
    with open_library(library, models, must_exist=True, looking=looking) as opened:
        with question_progress(as_json) as advance:
            shown = judging.pool(opened, asked, known, page_name, cascade_of(rerank), depth, advance)
        if shown:
            write_file(html, judging.html(opened, shown, html.stem))
    if as_json:
        put_json({"schema": SCHEMA, "pages": len(shown), "html": str(html.resolve()) if shown else None})
    elif shown:
        size = html.stat().st_size / 1e6
        say(f"{counted(len(shown), 'page')} to judge in {html}, {size:.1f} MB; open it in a browser")
    else:
        say("nothing is left to judge")


@library_command()
def calibrate(
    queries: Questions,
    qrels: Judgements,
    library: Folder = None,
    page_name: PageName = BY_ID,
    rerank: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME@PAGES", help="As for search; the last one is calibrated."),
    ] = None,
    models: Models = None,
    device: Device = "auto",
    features: Level = "auto",
    int8: Int8 = False,
    with_text: WithText = False,
    commercial: Commercial = False,
    as_json: Json = False,
) -> None:
    """Learn from judgements how likely a page answers, by its score; search then says it of every hit.

    The library keeps it, for exactly this reranker. What it is worth is measured on questions that had no
    part in the fit. docs/calibration.md explains the figures.

    Example: `pagelens calibrate --queries q.jsonl --qrels qrels.tsv --page-name '{stem}#{number}'`
    """
    from pagelens.evaluation.calibrating import calibrate as fit_to
    from pagelens.evaluation.runs import read_qrels, read_questions

    looking = Looking(device, "auto", features, with_text, int8, commercial)
    asked, judged = read_questions(queries), read_qrels(qrels)
    with (
        open_library(library, models, must_exist=True, looking=looking) as opened,
        question_progress(as_json) as advance,
    ):
        found = fit_to(opened, asked, judged, page_name, cascade_of(rerank), advance)
        opened.keep(found.calibration)
    if as_json:
        put_json(found.as_dict())
        return
    for line in found.lines():
        put(line)
    say("kept in the library; search with --min-probability .5")


@app.command()
def vidore(
    tasks: Annotated[
        list[str],
        typer.Option(
            metavar="NAME",
            help="A benchmark or task of mteb, such as 'ViDoRe(v3)', or a folder in its format; repeatable.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Libraries, predictions and results.")] = Path(
        "vidore-output"
    ),
    profile: Annotated[
        str, typer.Option(metavar="NAME", help="What pages are indexed by, as for ingest.")
    ] = "auto",
    lang: Annotated[
        str, typer.Option(metavar="CODES", help="Languages of the pages as tesseract names them: eng+fra.")
    ] = "eng",
    rerank: Annotated[
        list[str] | None, typer.Option(metavar="NAME@PAGES", help="As for search; every stage is reported.")
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Encode pages as images too, as for ingest; a stage of its own."),
    ] = None,
    models: Models = None,
    device: Device = "auto",
    with_text: WithText = False,
    commercial: Commercial = False,
    as_json: Json = False,
) -> None:
    """Measure every stage on ViDoRe and its like, through mteb; needs pip install 'pagelens[vidore]'.

    Interrupt it whenever you like: pages that were read and tasks that are done are not done again, unless
    the code or a model changed.

    Example: `pagelens vidore --tasks "ViDoRe(v2)" --rerank evidence@50`

    Example: `pagelens vidore --tasks my-pages/`
    """
    from pagelens.evaluation.pipeline import Pipeline
    from pagelens.evaluation.vidore import run as measure

    cascade = [] if rerank == ["none"] else rerank
    looking = Looking(device, with_text=with_text, commercial=commercial)
    languages = tuple(lang.split("+"))
    where = out / "libraries"
    pipeline = Pipeline(where, profile, cascade, languages, image or (), models, looking, say)
    try:
        found = measure(tasks, out, pipeline, say)
    finally:
        pipeline.close()
    if as_json:
        put_json(found.as_dict())
    else:
        for line in found.lines():
            put(line)
    if found.failed:
        raise typer.Exit(ExitCode.FAILURES)
