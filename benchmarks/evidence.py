"""Fit the evidence reranker and say what it is worth: `python benchmarks/evidence.py --data DIR`.

Every figure is of questions whose documents had no part in the fit. `--ship rerankers/evidence.json`
writes the coefficients that come with pagelens, and their card; fit them with the layout model
(`make regions`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from collection import OUT, Collection, data_argument, opened

from pagelens.evaluation.fitting import Judged, choose_penalty, digests, fit, judge, ndcg, out_of_fold
from pagelens.evaluation.significance import interval
from pagelens.rerankers.evidence import FEATURES, Coefficients, EvidenceReranker

NAMES = list(FEATURES)
DATA = [
    {"name": "MMDocIR, 206 questions about 29 reports, papers, decks and manuals", "terms": "CC BY-NC 4.0"},
    {
        "name": "OpenCQA, 220 questions about 220 chart images read by OCR",
        "terms": "not stated with the copy used here",
    },
]
LIMITS = [
    "fitted on English; other languages were not measured",
    "a question about what is drawn, not written, is ranked by the words around the drawing",
    "on collections of one-page documents it changes next to nothing",
    "MMDocIR's questions are for research use; fit your own with `pagelens fit` where that matters",
]


def main() -> None:
    """Measure, print, write."""
    parser = data_argument(__doc__)
    parser.add_argument("--out", type=Path, default=OUT / "evidence.json")
    parser.add_argument("--ship", type=Path, help="write the coefficients there")
    arguments = parser.parse_args()
    with (
        opened(arguments.data, "mmdocir-dev", True) as reports,
        opened(arguments.data, "opencqa-dev", True) as charts,
    ):
        sets = {
            "reports": _judged(reports, within=False),
            "within": _judged(reports, within=True),
            "charts": _judged(charts, within=False),
        }
    everything = [each for judged in sets.values() for each in judged]
    penalty = choose_penalty(everything)
    table = Table()
    table.add_sets("all three", sets, out_of_fold(everything))
    table.add("charts alone", "reports", sets["reports"], _alone(sets["charts"], sets["reports"]))
    table.add("charts alone", "within", sets["within"], _alone(sets["charts"], sets["within"]))
    table.add("reports alone", "charts", sets["charts"], _alone(sets["reports"], sets["charts"]))
    here, there = _halves(sets["reports"])
    table.add("half of the reports", "the other half", there, _alone(here, there))
    table.add("the other half", "half of the reports", here, _alone(there, here))
    for name in NAMES:
        fewer = {of: [_less(each, name) for each in judged] for of, judged in sets.items()}
        questions = [each for judged in fewer.values() for each in judged]
        table.add_sets(f"all three, without {name}", fewer, out_of_fold(questions, penalty=penalty))
    weights = fit(everything, penalty)
    coefficients = {name: round(float(weight), 4) for name, weight in zip(NAMES, weights, strict=True)}
    print("\ncoefficients, fitted on all three:")
    for name, weight in coefficients.items():
        print(f"  {name:12}{weight:+7.3f}  {FEATURES[name]}")
    if arguments.ship:
        known = digests([*reports.queries, *charts.queries], everything)
        Coefficients(coefficients, _card(table, known, penalty)).save(arguments.ship)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(
        json.dumps({"schema": 1, "penalty": penalty, "rows": table.rows}, indent=1) + "\n"
    )


def _card(table: Table, questions: Sequence[str], penalty: float) -> dict[str, object]:
    """What coefficients were fitted to, and what that is worth."""
    return {
        "data": DATA,
        "fitted": f"logistic regression on differences, C={penalty}, 50 candidates of the first stage",
        "document frequencies": "of the collection, as the store has them; without a store of the candidates",
        "figures": [row for row in table.rows if row["fitted on"] == "all three"],
        "limits": LIMITS,
        "questions": questions,
    }


class Table:
    """Rows of what a fit gives on questions that had no part in it."""

    def __init__(self) -> None:
        self.rows: list[dict[str, object]] = []
        print(f"\n{'nDCG@10; fitted on':32}{'asked of':22}{'n':>4}{'fused':>7}{'rerank':>8}{'gain':>8}")

    def add_sets(self, title: str, sets: dict[str, list[Judged]], weights: Sequence[np.ndarray]) -> None:
        """A row a set; `weights` in the order of all their questions."""
        rest = iter(weights)
        for of, judged in sets.items():
            self.add(title, of, judged, [next(rest) for _ in judged])

    def add(self, title: str, of: str, judged: Sequence[Judged], weights: Sequence[np.ndarray]) -> None:
        """One row; `weights` for each question."""
        before = np.array([ndcg(each, None) for each in judged])
        after = np.array([ndcg(each, own) for each, own in zip(judged, weights, strict=True)])
        gain, low, high = interval((after - before).tolist())
        self.rows.append(
            {
                "fitted on": title,
                "asked of": of,
                "questions": len(judged),
                "fused": round(float(before.mean()), 4),
                "rerank": round(float(after.mean()), 4),
                "gain": [round(value, 4) for value in (gain, low, high)],
            }
        )
        print(
            f"{title:32}{of:22}{len(judged):4}{before.mean():7.3f}{after.mean():8.3f}"
            f"{gain:+8.3f} [{low:+.3f}, {high:+.3f}]",
            flush=True,
        )


def _judged(collection: Collection, within: bool) -> list[Judged]:
    reranker = collection.library.reranker("evidence")
    assert isinstance(reranker, EvidenceReranker)
    queries = collection.within() if within else collection.whole()
    return judge(collection.library, reranker, queries, collection.qrels, collection.names, NAMES)


def _alone(fitted: Sequence[Judged], asked: Sequence[Judged]) -> list[np.ndarray]:
    """Fitted on one set, without the documents that the other asks about."""
    homes = frozenset[str]().union(*(each.home for each in asked))
    weights = fit(fitted, choose_penalty(fitted), homes)
    return [weights for _ in asked]


def _halves(judged: Sequence[Judged]) -> tuple[list[Judged], list[Judged]]:
    """Every second document, by doc_id, and the others."""
    documents = sorted({doc_id for each in judged for doc_id in each.home})
    first = set(documents[::2])
    return [e for e in judged if e.home <= first], [e for e in judged if not e.home & first]


def _less(judged: Judged, name: str) -> Judged:
    return replace(judged, features=np.delete(judged.features, NAMES.index(name), axis=1))


if __name__ == "__main__":
    main()
