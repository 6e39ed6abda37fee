"""Other windows for `text`, other parameters for `bm25`: `python benchmarks/index_choices.py --data DIR`.

Every list is computed exactly and in memory from the words that the libraries hold, and fused as the product
does, but without the document's list. About ten minutes on two cores, most of it encoding.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import ir_measures
import numpy as np
from collection import OUT, Collection, data_argument, opened
from ir_measures import nDCG
from retrieval import PAGES, weighted_sum

from pagelens.encoders.sparse import Bm25Encoder
from pagelens.encoders.text import TextEncoder, WindowSettings
from pagelens.evaluation.significance import interval
from pagelens.weights import MODELS, fetch
from pagelens.words import idf

WINDOWS = [(100, 100), (100, 50), (60, 60), (60, 30), (150, 150), (150, 75), (190, 190)]
BM25 = [(1.2, 0.75, 256), (0.8, 0.75, 256), (2.0, 0.75, 256), (1.2, 0.9, 256), (1.2, 0.5, 256)]
BM25 += [(1.2, 0.0, 256), (1.2, 0.75, 100), (1.2, 0.75, 400)]
"""k, b, average length."""
Scores = dict[str, dict[str, float]]
"""By query id and page name."""


def main() -> None:
    """Encode, ask, print, write."""
    arguments = data_argument(__doc__).parse_args()
    results: dict[str, Any] = {}
    with opened(arguments.data, "mmdocir-dev") as reports, opened(arguments.data, "opencqa-dev") as charts:
        for collection in (reports, charts):
            results |= _compare(collection)
    (OUT / "index_choices.json").write_text(json.dumps({"schema": 1, "results": results}, indent=1) + "\n")


def _compare(collection: Collection) -> dict[str, Any]:
    texts = {name: collection.library.words(page).text for page, name in collection.names.items()}
    folder, revision = fetch("all-minilm-l6-v2"), MODELS["all-minilm-l6-v2"].revision
    first_text = _text(collection, texts, TextEncoder(folder, revision, WindowSettings(*WINDOWS[0])))
    first_bm25 = _bm25(collection, texts, Bm25Encoder(("eng",), *BM25[0]))
    results: dict[str, Any] = {}
    ways: dict[str, Callable[[], tuple[Scores, Scores]]] = {}
    for words, stride in WINDOWS:
        ways[f"windows {words}/{stride}"] = lambda words=words, stride=stride: (  # type: ignore[misc]
            first_bm25,
            _text(collection, texts, TextEncoder(folder, revision, WindowSettings(words, stride))),
        )
    for choice in BM25:
        ways["bm25 k {} b {} length {}".format(*choice)] = lambda choice=choice: (  # type: ignore[misc]
            _bm25(collection, texts, Bm25Encoder(("eng",), *choice)),
            first_text,
        )
    base: dict[str, list[float]] = {}
    for name, way in ways.items():
        bm25, text = way()
        for title, asked in (("whole", collection.whole()), ("within", collection.within())):
            if not asked:
                continue
            qrels = {query["id"]: collection.qrels[query["id"]] for query in asked}
            run = {id: _fused(bm25[id], text[id]) for id in qrels}
            found = {m.query_id: m.value for m in ir_measures.iter_calc([nDCG @ 10], qrels, run)}
            values = [found.get(id, 0.0) for id in qrels]
            gain = interval(np.subtract(values, base.setdefault(title, values)).tolist())
            mean, of = float(np.mean(values)), f"{len(asked)} questions, {title}"
            print(f"{of:24}{name:28}{mean:6.3f}" + "{:+9.3f} [{:+.3f}, {:+.3f}]".format(*gain), flush=True)
            results.setdefault(of, {})[name] = [round(each, 4) for each in (mean, *gain)]
    return results


def _text(collection: Collection, texts: Mapping[str, str], encoder: TextEncoder) -> Scores:
    rows = dict(zip(texts, encoder.encode_pages(list(texts.values())), strict=True))
    scores = {}
    for query in collection.queries:
        vector = encoder.encode_query(query["query"])[0]
        near = {name: rows[name] for name in _among(query, rows)}
        scores[query["id"]] = {n: float((m @ vector).max()) for n, m in near.items() if m is not None}
    return scores


def _bm25(collection: Collection, texts: Mapping[str, str], encoder: Bm25Encoder) -> Scores:
    stored = {}
    for name, text in texts.items():
        if (vector := encoder.encode(text)) is not None:
            stored[name] = dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True))
    scores = {}
    for query in collection.queries:
        asked = encoder.encode_query(query["query"])
        terms = asked.indices.tolist() if asked else []
        weights = {term: idf(sum(term in each for each in stored.values()), len(stored)) for term in terms}
        among = {name: stored[name] for name in _among(query, stored)}
        found = {n: sum(weights[t] * each[t] for t in terms if t in each) for n, each in among.items()}
        scores[query["id"]] = {name: score for name, score in found.items() if score}
    return scores


def _among(query: Mapping[str, Any], pages: Mapping[str, Any]) -> list[str]:
    """The pages that the question's filter lets through."""
    stem = query.get("filter", {}).get("stem")
    return [name for name in pages if stem is None or name.rpartition("#")[0] == stem]


def _fused(bm25: Mapping[str, float], text: Mapping[str, float]) -> dict[str, float]:
    lists = {"bm25": bm25, "text": text}
    tops = [sorted(scores, key=lambda page: -scores[page])[:PAGES] for scores in lists.values()]  # noqa: B023
    pool = {page for top in tops for page in top}
    kept = {name: {p: s for p, s in scores.items() if p in pool} for name, scores in lists.items()}
    return weighted_sum(kept, dict.fromkeys(kept, 1.0))


if __name__ == "__main__":
    main()
