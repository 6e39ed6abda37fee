"""How well each stage finds the right page: `python benchmarks/retrieval.py --data DIR`.

Every question of `mmdocir-dev` through the command's own path; whole collection for questions that can be
asked of it, filtered to the document for the others.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import ir_measures
from ir_measures import RR, R, nDCG

from pagelens import Library

MEASURES = [nDCG @ 5, nDCG @ 10, R @ 1, R @ 10, R @ 100, RR @ 10]
STAGES = ["bm25", "text", "document", "fused"]


def main() -> None:
    """Ingest if needed, ask, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("PAGELENS_DATA"),
        required=not os.environ.get("PAGELENS_DATA"),
    )
    parser.add_argument("--library", type=Path, default=Path("benchmark-output/mmdocir-dev.pagelens"))
    parser.add_argument("--out", type=Path, default=Path("benchmark-output/retrieval.json"))
    arguments = parser.parse_args()
    folder = Path(arguments.data) / "mmdocir-dev"
    qrels = _qrels(folder / "qrels.tsv")
    lines = (folder / "queries.jsonl").read_text().splitlines()
    queries = [json.loads(line) for line in lines]
    with Library(arguments.library) as library:
        library.ingest(folder / "pdf", say=print)
        names = {p["page_id"]: f"{Path(p['path']).stem}#{p['page'] - 1}" for p in library.pages()}
        sets = {
            "whole collection": [q for q in queries if not q["needs_doc_context"]],
            "within the document": [q for q in queries if q["needs_doc_context"]],
        }
        results: dict[str, Any] = {}
        for title, asked in sets.items():
            results[title] = {"questions": len(asked)}
            for stage in STAGES:
                run = {
                    q["id"]: {
                        names[page]: score
                        for page, score in library.rank(
                            q["query"], 100, {"stem": q["doc"]} if q["needs_doc_context"] else None, stage
                        )
                    }
                    for q in asked
                }
                wanted = {q["id"]: qrels[q["id"]] for q in asked}
                values = ir_measures.calc_aggregate(MEASURES, wanted, run)
                results[title][stage] = {str(measure): round(values[measure], 4) for measure in MEASURES}
    for title, table in results.items():
        print(
            f"\n{title}, {table.pop('questions')} questions\n{'':10}" + "".join(f"{m!s:>9}" for m in MEASURES)
        )
        for stage, row in table.items():
            print(f"{stage:10}" + "".join(f"{row[str(m)]:9.3f}" for m in MEASURES))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"schema": 1, "results": results}, indent=1) + "\n")


def _qrels(path: Path) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    for line in path.read_text().splitlines()[1:]:
        query, page, relevance = line.split("\t")
        qrels.setdefault(query, {})[page] = int(relevance)
    return qrels


if __name__ == "__main__":
    main()
