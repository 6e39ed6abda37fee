"""Would a list of character n-grams help where OCR misreads? `python benchmarks/ocr_noise.py --data DIR`.

Known items: label and value of a form field of `funsd-dev`, as its ground truth has them, asked of the forms
as OCR read them, among the 950 pages of `mmdocir-dev`. And its own questions, for what it costs there.
All lists are computed exactly and in memory; the n-gram list is one more summand of the fused score.
"""

from __future__ import annotations

import json
import random
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
from collection import OUT, data_argument, opened
from ir_measures import R, nDCG
from retrieval import weighted_sum

from pagelens import Library
from pagelens.encoders.text import TextEncoder
from pagelens.fitting import interval
from pagelens.weights import MODELS, fetch
from pagelens.words import idf, terms

A_FORM = 4
"""Questions."""
LISTED = 100


def main() -> None:
    """Read, ask, print, write."""
    arguments = data_argument(__doc__).parse_args()
    folder, place = arguments.data / "funsd-dev", OUT / "funsd-dev.pagelens"
    with opened(arguments.data, "mmdocir-dev") as reports, Library(place, "light") as forms:
        forms.ingest(folder / "images", say=print)
        texts = {name: reports.library.words(page).text for page, name in reports.names.items()}
        for page in forms.pages():
            texts[Path(page["path"]).stem] = forms.words(page["page_id"]).text
        asked = {
            "forms, known items": _known_items(folder / "annotations"),
            "reports, whole collection": [
                (each["id"], each["query"], reports.qrels[each["id"]]) for each in reports.whole()
            ],
        }
    weights = fetch("all-minilm-l6-v2")
    encoder = TextEncoder(weights, MODELS["all-minilm-l6-v2"].revision)
    names = sorted(texts)
    rows = [matrix for matrix in encoder.encode_pages([texts[name] for name in names])]
    words = Bm25({name: _words(text) for name, text in texts.items()})
    grams = {n: Bm25({name: _grams(text, n) for name, text in texts.items()}) for n in (3, 4, 5)}
    results: dict[str, Any] = {}
    for title, questions in asked.items():
        print(f"\n{title}: {len(questions)} questions\n{'':24}  nDCG@10     R@1    R@10    gain in nDCG@10")
        qrels = {id: judged for id, _, judged in questions}
        lists = {}
        for id, question, _ in questions:
            vector = encoder.encode_query(question)[0]
            near = {n: float((m @ vector).max()) for n, m in zip(names, rows, strict=True) if m is not None}
            lists[id] = {"words": words.score(_words(question)), "text": near}
            lists[id] |= {f"{n}-grams": grams[n].score(_grams(question, n)) for n in grams}
        base: list[float] = []
        results[title] = {"questions": len(questions)}
        ways: dict[str, Mapping[str, float]] = {"words + text": {"words": 1.0, "text": 1.0}}
        ways["words"], ways["4-grams"] = {"words": 1.0}, {"4-grams": 1.0}
        for n in grams:
            for weight in (0.25, 0.5, 1.0):
                ways[f"+ {n}-grams x {weight}"] = {**ways["words + text"], f"{n}-grams": weight}
        for name, way in ways.items():
            run = {id: _fused(lists[id], way) for id in lists}
            each = {m.query_id: m.value for m in ir_measures.iter_calc([nDCG @ 10], qrels, run)}
            values = [each.get(id, 0.0) for id in qrels]
            base = base or values
            gain = interval(np.subtract(values, base).tolist())
            found = ir_measures.calc_aggregate([nDCG @ 10, R @ 1, R @ 10], qrels, run)
            shown = "".join(f"{found[m]:8.3f}" for m in (nDCG @ 10, R @ 1, R @ 10))
            print(f"{name:24}{shown}" + "   {:+.3f} [{:+.3f}, {:+.3f}]".format(*gain), flush=True)
            results[title][name] = {
                "nDCG@10": round(found[nDCG @ 10], 4),
                "gain": [round(g, 4) for g in gain],
            }
    (OUT / "ocr_noise.json").write_text(json.dumps({"schema": 1, "results": results}, indent=1) + "\n")


def _known_items(folder: Path) -> list[tuple[str, str, dict[str, int]]]:
    """Up to four fields a form, drawn by chance, of at least three words."""
    draw = random.Random(0)
    questions = []
    for path in sorted(folder.glob("*.json")):
        form = {field["id"]: field for field in json.loads(path.read_text(encoding="utf-8"))["form"]}
        fields = []
        for field in form.values():
            values = [
                form[b] for a, b in field["linking"] if a == field["id"] and form[b]["label"] == "answer"
            ]
            if field["label"] == "question" and values:
                text = " ".join([field["text"], *(value["text"] for value in values)])
                if len(text.split()) >= 3 and terms(text, ("eng",)):
                    fields.append(text)
        for number, text in enumerate(draw.sample(sorted(fields), min(A_FORM, len(fields)))):
            questions.append((f"{path.stem}-{number}", text, {path.stem: 1}))
    return questions


def _words(text: str) -> Counter[int]:
    return Counter(term for word in text.split() for term in terms(word, ("eng",)))


def _grams(text: str, n: int) -> Counter[int]:
    """Of every word that is searched for, with its ends marked."""
    return Counter(
        zlib.crc32(marked[i : i + n].encode())
        for word in text.lower().split()
        if terms(word, ("eng",))
        for marked in [f"^{word}$"]
        for i in range(max(1, len(marked) - n + 1))
    )


class Bm25:
    """BM25 over counts, with the collection's own average length."""

    def __init__(self, counts: Mapping[str, Counter[int]]) -> None:
        self._total = len(counts)
        self._postings: dict[int, list[tuple[str, float]]] = defaultdict(list)
        average = sum(sum(each.values()) for each in counts.values()) / len(counts)
        for name, each in counts.items():
            norm = 1.2 * (0.25 + 0.75 * sum(each.values()) / average)
            for term, n in each.items():
                self._postings[term].append((name, n * 2.2 / (n + norm)))

    def score(self, asked: Iterable[int]) -> dict[str, float]:
        """Pages with a term of the question."""
        scores: dict[str, float] = defaultdict(float)
        for term in set(asked):
            weight = idf(len(self._postings[term]), self._total)
            for name, value in self._postings[term]:
                scores[name] += weight * value
        return dict(scores)


def _fused(lists: Mapping[str, Mapping[str, float]], weights: Mapping[str, float]) -> dict[str, float]:
    """The product's fusion: the best 100 of each list, all of them with their exact scores."""
    tops = [sorted(lists[name], key=lambda page: -lists[name][page])[:LISTED] for name in weights]  # noqa: B023
    pool = {page for top in tops for page in top}
    kept = {name: {p: s for p, s in lists[name].items() if p in pool} for name in weights}
    return weighted_sum(kept, weights)


if __name__ == "__main__":
    main()
