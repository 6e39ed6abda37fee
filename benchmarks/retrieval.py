"""How well each stage finds the right page: `python benchmarks/retrieval.py --data DIR`.

Every question of `mmdocir-dev` through the command's own path; the whole collection for questions that can be
asked of it, filtered to the document for the others. `rerank` is out of fold: each document is asked with
coefficients fitted without its questions and its pages. With `--fusion`, other ways to fuse the same lists.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from collection import OUT, Collection, data_argument, opened

from pagelens.evaluation.asking import Run
from pagelens.evaluation.fitting import DEPTH, Judged, judge, out_of_fold
from pagelens.evaluation.measures import measured
from pagelens.evaluation.significance import interval
from pagelens.rerankers.evidence import FEATURES, Coefficients, EvidenceReranker
from pagelens.rules import pages_named
from pagelens.scores import standardised
from pagelens.searching import Step

MEASURES = ["nDCG@5", "nDCG@10", "R@1", "R@10", "R@100", "RR@10"]
STAGES = ["bm25", "text", "document", "fused"]
NAMES = list(FEATURES)
PAGES = 100
Lists = Mapping[str, Mapping[str, float]]
"""Scores by page name, by list."""


def main() -> None:
    """Read the collections if needed, ask, print tables, write JSON."""
    parser = data_argument(__doc__)
    parser.add_argument("--fusion", action="store_true", help="compare ways to fuse instead")
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    with (
        opened(arguments.data, "mmdocir-dev", True) as reports,
        opened(arguments.data, "opencqa-dev", True) as charts,
    ):
        sets = {
            "whole collection": (reports, reports.whole()),
            "within the document": (reports, reports.within()),
            "charts": (charts, charts.whole()),
        }
        named = [query for query in reports.queries if pages_named(query["query"])]
        if arguments.fusion:
            results = {title: _fusions(*asked) for title, asked in sets.items()}
        else:
            rerankers = _out_of_fold(reports, charts)
            sets["naming a page"] = (reports, named)
            results = {title: _stages(*asked, rerankers) for title, asked in sets.items()}
    out = arguments.out or OUT / ("fusion.json" if arguments.fusion else "retrieval.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"schema": 1, "results": results}, indent=1) + "\n")


def _stages(
    collection: Collection, queries: list[dict[str, Any]], rerankers: Mapping[str, EvidenceReranker]
) -> dict[str, Any]:
    """A row a stage."""
    runs = {stage: _run(collection, queries, stage=stage) for stage in STAGES}
    runs |= {"rerank": {}, "rules": {}}
    for query in queries:
        step = Step(rerankers[query["id"]], DEPTH)
        runs["rerank"] |= _run(collection, [query], rerank=step, named_pages=False)
        runs["rules"] |= _run(collection, [query], rerank=step)
    return _table(collection, queries, runs, "fused")


def _run(collection: Collection, queries: list[dict[str, Any]], **how: Any) -> dict[str, list[str]]:
    """A run through `Library.rank`."""
    run = {}
    for query in queries:
        found = collection.library.rank(query["query"], PAGES, query.get("filter"), **how)
        run[query["id"]] = [collection.names[page] for page, _ in found]
    return run


def _out_of_fold(reports: Collection, charts: Collection) -> dict[str, EvidenceReranker]:
    """For each question a reranker that has not seen its document."""
    found: dict[str, EvidenceReranker] = {}
    judged: list[Judged] = []
    owners: dict[str, EvidenceReranker] = {}
    for collection in (reports, charts):
        reranker = collection.library.reranker("evidence")
        assert isinstance(reranker, EvidenceReranker)
        measured = judge(
            collection.library,
            reranker,
            collection.queries,
            collection.qrels,
            collection.names,
            list(FEATURES),
        )
        judged += measured
        owners |= {query["id"]: reranker for query in collection.queries}
    for each, weights in zip(judged, out_of_fold(judged), strict=True):
        coefficients = Coefficients(dict(zip(NAMES, map(float, weights), strict=True)), {})
        found[each.id] = owners[each.id].with_coefficients(coefficients)
    # A question without a judged page in the library weighs nothing: any coefficients will do.
    return owners | found


def _table(
    collection: Collection,
    queries: list[dict[str, Any]],
    runs: Mapping[str, Run],
    against: str,
) -> dict[str, Any]:
    """Print and return every measure of every run, and the gain in nDCG@10 over the run `against`."""
    wanted = {query["id"]: collection.qrels[query["id"]] for query in queries}
    print(f"\n{len(queries)} questions{'':9}" + "".join(f"{m:>9}" for m in MEASURES) + "   gain in nDCG@10")
    rows: dict[str, Any] = {"questions": len(queries)}
    base = measured(wanted, runs[against], MEASURES)["nDCG@10"]
    for name, run in runs.items():
        values = measured(wanted, run, MEASURES)
        means = {measure: float(each.mean()) for measure, each in values.items()}
        gain = interval(values["nDCG@10"] - base)
        rows[name] = {measure: round(mean, 4) for measure, mean in means.items()}
        rows[name][f"gain over {against}"] = [round(value, 4) for value in gain]
        shown = "" if name == against else "{:+9.3f} [{:+.3f}, {:+.3f}]".format(*gain)
        print(f"{name:21}" + "".join(f"{mean:9.3f}" for mean in means.values()) + shown, flush=True)
    return rows


# Ways to fuse the same lists


def _fusions(collection: Collection, queries: list[dict[str, Any]]) -> dict[str, Any]:
    """A row a way; `raw`: lists as they came, without exact scores of pages that another list returned."""
    asked: list[tuple[str, Lists, Lists]] = []
    for query in queries:
        raw = {
            stage: {
                collection.names[page]: score
                for page, score in collection.library.rank(query["query"], PAGES, query.get("filter"), stage)
            }
            for stage in ("bm25", "text")
        }
        union = raw["bm25"].keys() | raw["text"].keys()
        whole: dict[str, dict[str, float]] = {"bm25": {}, "text": {}, "document": {}}
        for candidate in collection.library.candidates(query["query"], 20 * PAGES, query.get("filter")):
            page = collection.names[candidate.page.page_id]
            for stage in whole.keys() & candidate.stages.keys() if page in union else ():
                whole[stage][page] = candidate.stages[stage].score
        asked.append((query["id"], raw, whole))
    pair, triple = {"bm25": 1.0, "text": 1.0}, {"bm25": 1.0, "text": 1.0, "document": 0.5}
    ways: dict[str, Callable[[Lists, Lists], Mapping[str, float]]] = {
        "bm25": lambda raw, whole: raw["bm25"],
        "text": lambda raw, whole: raw["text"],
        "rrf, k=60": lambda raw, whole: rrf(raw, pair),
        "rrf + document .5": lambda raw, whole: rrf({**raw, "document": whole["document"]}, triple),
        "dbsf": lambda raw, whole: dbsf(raw, pair),
        "dbsf + document .5": lambda raw, whole: dbsf({**raw, "document": whole["document"]}, triple),
        "sum, raw": lambda raw, whole: weighted_sum(raw, pair),
        "sum": lambda raw, whole: weighted_sum(whole, pair),
        "sum + document .25": lambda raw, whole: weighted_sum(whole, {**triple, "document": 0.25}),
        "sum + document .5": lambda raw, whole: weighted_sum(whole, triple),
        "sum + document 1": lambda raw, whole: weighted_sum(whole, {**triple, "document": 1.0}),
    }
    runs = {}
    for name, way in ways.items():
        fused = {id: way(raw, whole) for id, raw, whole in asked}
        runs[name] = {
            id: sorted(pages, key=lambda page: (-pages[page], page))[:PAGES] for id, pages in fused.items()
        }
    return _table(collection, queries, runs, "sum")


def _falling(item: tuple[str, float]) -> tuple[float, str]:
    return -item[1], item[0]


def rrf(lists: Lists, weights: Mapping[str, float], k: int = 60) -> dict[str, float]:
    """Reciprocal rank fusion (Cormack et al., SIGIR 2009): the sum of 1 / (k + rank)."""
    fused: dict[str, float] = {}
    for name, weight in weights.items():
        for rank, (page, _) in enumerate(sorted(lists[name].items(), key=_falling), start=1):
            fused[page] = fused.get(page, 0.0) + weight / (k + rank)
    return fused


def dbsf(lists: Lists, weights: Mapping[str, float]) -> dict[str, float]:
    """Distribution-based score fusion, as Qdrant has it: 0..1 between mean -3 and +3 standard deviations."""
    fused: dict[str, float] = {}
    for name, weight in weights.items():
        values = np.array(list(lists[name].values()))
        spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        for page, score in lists[name].items():
            place = (score - values.mean()) / (6 * spread) + 0.5 if spread else 0.5
            fused[page] = fused.get(page, 0.0) + weight * float(place)
    return fused


def weighted_sum(lists: Lists, weights: Mapping[str, float]) -> dict[str, float]:
    """The weighted sum of standardised scores; a page a list does not hold counts as its lowest."""
    pages = sorted({page for name in weights for page in lists[name]})
    total = np.zeros(len(pages))
    for name, weight in weights.items():
        lowest = min(lists[name].values(), default=0.0)
        scores: Sequence[float] = standardised([lists[name].get(page, lowest) for page in pages])
        total += weight * np.array(scores)
    return dict(zip(pages, total.tolist(), strict=True))


if __name__ == "__main__":
    main()
