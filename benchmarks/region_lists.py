"""Whether regions help retrieval: `python benchmarks/region_lists.py --data DIR`.

`mmdocir-dev`, read with regions. One list more in the fusion: of each page the text vector of every region
(its kind, its caption, the words inside), as near as the nearest. And two features of the evidence reranker:
whether a page has a region that the question names, which it has, and the largest share of the question's
words that one region holds, which it has not. Weights and coefficients are always those of other documents.
nDCG@10 by the type of the question, and of those that name a kind of region; differences with 95% intervals
over documents.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from collection import OUT, Collection, data_argument, opened

from pagelens.encoders.text import TextEncoder
from pagelens.evaluation.fitting import Judged, judge, ndcg, out_of_fold
from pagelens.evaluation.measures import measured
from pagelens.evaluation.significance import clusters, interval
from pagelens.evaluation.sweeping import chosen_elsewhere
from pagelens.ranking import FUSION, fuse
from pagelens.records import Box, Candidate, PageText, Query
from pagelens.rerankers.evidence import FEATURES, EvidenceReranker
from pagelens.store.points import page_point_id
from pagelens.things import named
from pagelens.weights import MODELS, fetch
from pagelens.words import terms

MODEL = "all-minilm-l6-v2"
WEIGHTS = (0.0, 0.25, 0.5, 1.0)
MEASURE = "nDCG@10"
BEST = 100
"""Pages of a list."""
TYPES = ("Table", "Chart", "Figure")


class WithRegions(EvidenceReranker):
    """The evidence reranker with a feature of regions more."""

    def measure(self, query: Query | str, candidates: Sequence[Candidate]) -> list[dict[str, float]]:
        """Those of the reranker, and `inside`."""
        asked = terms(query if isinstance(query, str) else query.text, self._languages)
        idf = (self._idf or (lambda _: {}))(asked)
        whole = sum(idf.get(term, 0.0) for term in asked) or 1.0
        found = super().measure(query, candidates)
        for values, candidate in zip(found, candidates, strict=True):
            inside = [
                sum(idf.get(term, 0.0) for term in terms(each, self._languages) & asked) / whole
                for each in _told(self.texts[candidate.page.page_id])
            ]
            values["inside"] = max(inside, default=0.0)
        return found

    texts: Mapping[str, Sequence[tuple[str, str]]] = {}
    """Kind and words of each page's regions."""


def main() -> None:
    """Print the tables, write JSON."""
    data = data_argument(__doc__).parse_args().data
    folder = data / "mmdocir-dev"
    types = _types(folder / "queries.jsonl")
    with opened(data, "mmdocir-dev", regions=True) as collection:
        texts = _regions(collection)
        rows = [_fused(collection, texts, types), *_reranked(collection, texts, types)]
    OUT.mkdir(exist_ok=True)
    (OUT / "region_lists.json").write_text(json.dumps({"schema": 1, "results": rows}, indent=1) + "\n")


def _types(path: Path) -> dict[str, str]:
    """The type of each question; `text` where it is of several or of none that is a region."""
    read = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {each["id"]: _type(each["type"]) for each in read}


def _naming(collection: Collection) -> frozenset[str]:
    """The questions that name a kind of region."""
    return frozenset(each["id"] for each in collection.queries if named(each["query"]))


def _type(types: Sequence[str] | None) -> str:
    kinds = [each for each in types or () if each in TYPES]
    return kinds[0].lower() if len(kinds) == 1 == len(types or ()) else "other"


def _regions(collection: Collection) -> dict[str, list[tuple[str, str]]]:
    """By page id, of each region its kind and what it says: caption, then the words inside."""
    found = {}
    for page in collection.library.pages():
        words = collection.library.words(page["page_id"])
        found[page["page_id"]] = [
            (each["kind"], " ".join([each.get("caption", ""), *_inside(words, each["box"])]).strip())
            for each in page["regions"]
        ]
    return found


def _inside(words: PageText, box: Sequence[float]) -> list[str]:
    return [word.text for word in words.within(Box(*box))]


def _told(regions: Sequence[tuple[str, str]]) -> list[str]:
    return [said for kind, said in regions if kind not in ("text", "title")]


def _fused(
    collection: Collection, texts: Mapping[str, list[tuple[str, str]]], types: Mapping[str, str]
) -> dict[str, Any]:
    """The fusion with and without the list of regions."""
    encoder = TextEncoder(fetch(MODEL), MODELS[MODEL].revision)
    owners, said = [], []
    for page_id, regions in texts.items():
        for kind, words in regions:
            owners.append(page_id)
            said.append(f"{kind} {words}"[:2000])
    vectors = np.stack(encoder._encode(said))
    values: list[list[float]] = [[] for _ in WEIGHTS]
    homes, asked = [], []
    inner = {page_point_id(page_id): name for page_id, name in collection.names.items()}
    for query in collection.queries:
        relevant = collection.qrels.get(query["id"], {})
        if not any(relevant.values()):
            continue
        trace = collection.library.trace(query["query"], BEST, query.get("filter"), rerank=None)
        lists: dict[str, dict[str, float]] = {}
        for page in [*trace.order, *trace.beyond]:
            for name, stage in page.stages.items():
                lists.setdefault(name, {})[page.id] = stage.score
        lists.pop("fused")
        lists.pop("rules", None)
        scores: dict[str, float] = {}
        wanted = query.get("filter", {}).get("stem")
        for page_id, score in zip(owners, vectors @ encoder.encode_query(query["query"])[0], strict=True):
            if wanted is None or collection.names[page_id].startswith(f"{wanted}#"):
                id = page_point_id(page_id)
                scores[id] = max(scores.get(id, -1.0), float(score))
        best = sorted(scores, key=lambda id: (-scores[id], id))[:BEST]
        union = set(best).union(*lists.values())
        lists["regions"] = {id: scores[id] for id in union & scores.keys()}
        for place, weight in enumerate(WEIGHTS):
            order = fuse(lists, {**FUSION, "regions": weight})
            ranked = sorted(order, key=lambda id: (-order[id].score, id))
            run = {query["id"]: [inner[id] for id in ranked]}
            values[place].append(float(measured({query["id"]: relevant}, run, [MEASURE])[MEASURE][0]))
        homes.append({name.partition("#")[0] for name, grade in relevant.items() if grade > 0})
        asked.append(query["id"])
    groups, table = clusters(homes), np.array(values)
    for weight, row in zip(WEIGHTS, table, strict=True):
        print(f"regions at weight {weight:4}: {row.mean():.3f}")
    chosen = chosen_elsewhere(table, table[0], groups)
    naming = _naming(collection)
    return _by_type("fused, with the list of regions", asked, table[0], chosen, groups, types, naming)


def _reranked(
    collection: Collection, texts: Mapping[str, list[tuple[str, str]]], types: Mapping[str, str]
) -> list[dict[str, Any]]:
    """The evidence reranker fitted with and without features of regions, each out of fold."""
    own = collection.library.reranker("evidence")
    assert isinstance(own, EvidenceReranker)
    member = WithRegions(own._languages, own.coefficients, own._idf)
    member.texts = texts
    names = [*FEATURES, "inside"]
    judged = judge(collection.library, member, collection.queries, collection.qrels, collection.names, names)
    groups = clusters([each.home for each in judged])
    asked = [each.id for each in judged]
    plain = [place for place, name in enumerate(names) if name not in ("named", "inside")]
    columns = {"inside": ["inside"], "named": ["named"], "both": ["named", "inside"]}
    without, naming = _held_out(judged, plain), _naming(collection)
    return [
        _by_type(
            f"reranked, with {label}",
            asked,
            without,
            _held_out(judged, [*plain, *map(names.index, more)]),
            groups,
            types,
            naming,
        )
        for label, more in columns.items()
    ]


def _held_out(judged: Sequence[Judged], columns: Sequence[int]) -> np.ndarray:
    """nDCG@10 of each question by coefficients of these features, fitted to other documents."""
    cut = [replace(each, features=each.features[:, list(columns)]) for each in judged]
    return np.array([ndcg(each, weights) for each, weights in zip(cut, out_of_fold(cut), strict=True)])


def _by_type(
    name: str,
    asked: Sequence[str],
    before: np.ndarray,
    after: np.ndarray,
    groups: np.ndarray,
    types: Mapping[str, str],
    naming: frozenset[str],
) -> dict[str, Any]:
    """Print and return nDCG@10 before and after: of all questions, by type, of those that name a region."""
    print(name)
    rows = []
    kinds = np.array([types[id] for id in asked])
    chosen = {"all": np.ones(len(kinds), bool)}
    chosen |= {kind: kinds == kind for kind in (*map(str.lower, TYPES), "other")}
    chosen["naming"] = np.array([id in naming for id in asked])
    for kind, here in chosen.items():
        gain = interval((after - before)[here], groups[here])
        rows.append({"type": kind, "questions": int(here.sum()), "without": float(before[here].mean()),
                     "with": float(after[here].mean()), "gain": gain._asdict()})  # fmt: skip
        print(
            f"  {kind:7}{here.sum():5} questions  {before[here].mean():.3f} -> {after[here].mean():.3f}  "
            f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
        )
    return {"name": name, "rows": rows}


if __name__ == "__main__":
    main()
