"""Would a list of character n-grams help where OCR misreads? `python benchmarks/ocr_noise.py --data DIR`.

Known items: label and value of a form field of `funsd-dev`, as its ground truth has them, asked of the forms
as OCR read them, among the 950 pages of `mmdocir-dev`. And its own questions, for what it costs there.
All lists are computed exactly and in memory; the n-gram list is one more summand of the fused score. Its size
and weight were looked up in the first table; the other fields of the forms had no part in that.

What a user sees is the order after the second stage, so the same is asked of it: the evidence reranker over
the best 50 pages of the fused list, with the n-gram list in the fusion, or as a feature too, or without any
list a feature that looks for the n-grams in the pages' text. Its coefficients were fitted to questions about
other documents, with the features that it uses.
"""

from __future__ import annotations

import functools
import json
import random
import tempfile
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ir_measures
import numpy as np
from collection import OUT, data_argument, opened
from ir_measures import R, nDCG
from retrieval import weighted_sum

from pagelens import Library
from pagelens.encoders.text import TextEncoder
from pagelens.evaluation.fitting import DEPTH, Judged, choose_penalty, fit, ndcg, out_of_fold
from pagelens.evaluation.significance import clusters, interval
from pagelens.ranking import FUSION
from pagelens.records import Candidate, Page, SparseVector, Stage
from pagelens.rerankers.evidence import FEATURES, EvidenceReranker
from pagelens.scores import standardised
from pagelens.store.edge import EdgeEngine
from pagelens.store.plan import ListQuery, Point, Schema, VectorSpec
from pagelens.store.points import FIELDS, point_id
from pagelens.weights import MODELS, fetch
from pagelens.words import idf, terms

A_FORM = 4
"""Questions."""
SIZES = (3, 4, 5)
WEIGHT = 0.5
"""Of the n-gram list in the fusion before the second stage: looked up in the table of the first stage."""
LISTED = 100


class Question(NamedTuple):
    """Asked of all pages, or of a document's."""

    id: str
    text: str
    qrels: dict[str, int]
    document: str | None = None
    """The only one that counts."""


class Way(NamedTuple):
    """To use n-grams."""

    fusion: Mapping[str, float]
    feature: str | None = None
    """The list whose score is one more feature of the evidence reranker."""
    in_text: int = 0
    """Size of the n-grams whose share on the page is one more feature."""


class Pages(NamedTuple):
    """What the forms and the reports hold, by page name."""

    texts: dict[str, str]
    paths: dict[str, str]


Lists = dict[str, dict[str, float]]
"""Scores by page name, by list."""


def main() -> None:
    """Read, ask, print, write."""
    arguments = data_argument(__doc__).parse_args()
    folder, place = arguments.data / "funsd-dev", OUT / "funsd-dev.pagelens"
    pages = Pages({}, {})
    with opened(arguments.data, "mmdocir-dev") as reports, Library(place, "light") as forms:
        forms.ingest(folder / "images", regions=False, say=print)
        for library, names in ((reports.library, reports.names), (forms, None)):
            for page in library.pages():
                name = names[page["page_id"]] if names else Path(page["path"]).stem
                pages.texts[name] = library.words(page["page_id"]).text
                pages.paths[name] = page["path"]
        asked = {
            **_known_items(folder / "annotations"),
            "reports": [
                Question(each["id"], each["query"], reports.qrels[each["id"]]) for each in reports.whole()
            ],
            "within a report": [
                Question(each["id"], each["query"], reports.qrels[each["id"]], each["doc"])
                for each in reports.within()
            ],
        }
    words = Bm25({name: _words(text) for name, text in pages.texts.items()})
    lists = _lists(pages, words, asked)
    results: dict[str, Any] = {}
    for title in list(asked)[:-1]:
        results[title] = _first_stage(title, asked[title], lists)
    reranker = EvidenceReranker(("eng",), idf=words.idf)
    results["after the second stage"] = _second_stage(pages, reranker, asked, lists)
    results["costs"] = _costs(pages.texts, [each.text for each in asked["reports"]])
    (OUT / "ocr_noise.json").write_text(json.dumps({"schema": 1, "results": results}, indent=1) + "\n")


def _lists(pages: Pages, words: Bm25, asked: Mapping[str, Sequence[Question]]) -> dict[str, Lists]:
    """Every list of every question."""
    weights = fetch("all-minilm-l6-v2")
    encoder = TextEncoder(weights, MODELS["all-minilm-l6-v2"].revision)
    names = sorted(pages.texts)
    rows = encoder.encode_pages([pages.texts[name] for name in names])
    grams = {n: Bm25({name: _grams(text, n) for name, text in pages.texts.items()}) for n in SIZES}
    whole: dict[str, Counter[int]] = defaultdict(Counter)
    for name, text in pages.texts.items():
        whole[_document(name)] += _words(text)
    documents = Bm25(whole)
    found = {}
    for question in (each for questions in asked.values() for each in questions):
        vector = encoder.encode_query(question.text)[0]
        near = {n: float((m @ vector).max()) for n, m in zip(names, rows, strict=True) if m is not None}
        by_document = documents.score(_words(question.text))
        own = {
            "bm25": words.score(_words(question.text)),
            "text": near,
            "document": {n: by_document[_document(n)] for n in names if _document(n) in by_document},
            **{f"{n}-grams": grams[n].score(_grams(question.text, n)) for n in SIZES},
        }
        if question.document is not None:
            own = {
                title: {page: score for page, score in scores.items() if _document(page) == question.document}
                for title, scores in own.items()
            }
        found[question.id] = own
    return found


def _first_stage(title: str, questions: Sequence[Question], lists: Mapping[str, Lists]) -> dict[str, Any]:
    """A row a way to fuse."""
    print(f"\n{title}: {len(questions)} questions\n{'':24}  nDCG@10     R@1    R@10    gain in nDCG@10")
    qrels = {each.id: each.qrels for each in questions}
    pair = {"bm25": 1.0, "text": 1.0}
    ways: dict[str, Mapping[str, float]] = {"words + text": pair, "words": {"bm25": 1.0}}
    ways["4-grams"] = {"4-grams": 1.0}
    ways |= {f"+ {n}-grams x {w}": {**pair, f"{n}-grams": w} for n in SIZES for w in (0.25, 0.5, 1.0)}
    base: list[float] = []
    rows: dict[str, Any] = {"questions": len(questions)}
    for name, way in ways.items():
        run = {each.id: _fused(lists[each.id], way) for each in questions}
        each = {m.query_id: m.value for m in ir_measures.iter_calc([nDCG @ 10], qrels, run)}
        values = [each.get(id, 0.0) for id in qrels]
        base = base or values
        gain = interval(np.subtract(values, base).tolist())
        found = ir_measures.calc_aggregate([nDCG @ 10, R @ 1, R @ 10], qrels, run)
        shown = "".join(f"{found[m]:8.3f}" for m in (nDCG @ 10, R @ 1, R @ 10))
        print(f"{name:24}{shown}" + "   {:+.3f} [{:+.3f}, {:+.3f}]".format(*gain), flush=True)
        rows[name] = {"nDCG@10": round(found[nDCG @ 10], 4), "gain": [round(g, 4) for g in gain]}
    return rows


def _second_stage(
    pages: Pages,
    reranker: EvidenceReranker,
    asked: Mapping[str, Sequence[Question]],
    lists: Mapping[str, Lists],
) -> dict[str, Any]:
    """A row a way to use the n-gram list; `FUSION` alone is what pagelens does."""
    ways: dict[str, Way] = {"no n-grams": Way(FUSION)}
    for n in SIZES[1:]:
        fusion = {**FUSION, f"{n}-grams": WEIGHT}
        ways[f"{n}-grams in the fusion"] = Way(fusion)
        ways[f"{n}-grams there and as a feature"] = Way(fusion, f"{n}-grams")
        ways[f"{n}-grams in the pages' text"] = Way(FUSION, in_text=n)
    base: dict[str, list[float]] = {}
    rows: dict[str, Any] = {}
    print(f"\n{'after the second stage, nDCG@10':34}" + "".join(f"{title:34}" for title in asked))
    for name, way in ways.items():
        judged = {
            each.id: _judged(pages, reranker, each, lists[each.id], way)
            for questions in asked.values()
            for each in questions
        }
        learnt = [judged[each.id] for title in ("reports", "within a report") for each in asked[title]]
        weights = fit(learnt, choose_penalty(learnt))  # no form had a part in it
        held_out = dict(zip((each.id for each in learnt), out_of_fold(learnt), strict=True))
        print(f"{name:34}", end="")
        rows[name] = {}
        for title, questions in asked.items():
            own = [ndcg(judged[each.id], held_out.get(each.id, weights)) for each in questions]
            homes = [{min(map(_document, each.qrels))} for each in questions]
            gain = interval(np.subtract(own, base.setdefault(title, own)), clusters(homes))
            print(f"{np.mean(own):.3f} {{:+.3f}} [{{:+.3f}}, {{:+.3f}}]".format(*gain).ljust(34), end="")
            rows[name][title] = {
                "nDCG@10": round(float(np.mean(own)), 4),
                "gain": [round(g, 4) for g in gain],
            }
        print(flush=True)
    return rows


def _judged(
    pages: Pages,
    reranker: EvidenceReranker,
    question: Question,
    lists: Lists,
    way: Way,
) -> Judged:
    """The question's candidates as the search would have them, measured by the evidence reranker."""
    fused = _fused(lists, way.fusion)
    best = sorted(fused, key=lambda page: (-fused[page], page))[:DEPTH]
    candidates = [
        Candidate(
            Page(_document(name), 0, 1, 1),
            pages.paths[name],
            pages.texts[name],
            {each: Stage(1, lists[each][name]) for each in FUSION if name in lists[each]},
            _no_image,
        )
        for name in best
    ]
    measured = reranker.measure(question.text, candidates)
    columns = [standardised([values[each] for values in measured]) for each in FEATURES]
    if way.feature:
        columns.append(standardised([lists[way.feature].get(name, 0.0) for name in best]))
    if way.in_text:
        columns.append(
            standardised(_share_of_grams(question.text, [pages.texts[n] for n in best], way.in_text))
        )
    return Judged(
        question.id,
        np.array(columns).T.reshape(len(best), -1),
        np.array([name in question.qrels for name in best], bool),
        np.array([_document(name) for name in best]),
        frozenset(_document(page) for page in question.qrels),
        len(question.qrels),
    )


def _share_of_grams(question: str, texts: Sequence[str], n: int) -> list[float]:
    """Of the idf of the question's n-grams, counted among the texts, the share that stands in each text."""
    asked = {
        f" {word} "[i : i + n]
        for word in question.lower().split()
        if terms(word, ("eng",))
        for i in range(max(1, len(word) + 3 - n))
    }
    plain = [f" {' '.join(text.lower().split())} " for text in texts]
    found = [[gram for gram in asked if gram in text] for text in plain]
    held = Counter(gram for each in found for gram in each)
    total = sum(idf(held[gram], len(texts)) for gram in asked) or 1.0
    return [sum(idf(held[gram], len(texts)) for gram in each) / total for each in found]


def _costs(texts: Mapping[str, str], questions: Sequence[str]) -> dict[str, Any]:
    """Of a list in an engine of its own: numbers and bytes a page, milliseconds a question."""
    kinds: dict[str, Callable[[str], Counter[int]]] = {
        "words": _words,
        **{f"{n}-grams": functools.partial(_grams, n=n) for n in SIZES[1:]},
    }
    print(f"\n{'':24}  numbers a page  KB a page    ms a question")
    rows: dict[str, Any] = {}
    for name, counted in kinds.items():
        counts = {page: counted(text) for page, text in texts.items()}
        with tempfile.TemporaryDirectory() as place:
            engine = EdgeEngine(Path(place))
            engine.declare(Schema((VectorSpec("bm25", "sparse"),), FIELDS))
            points = [
                Point(point_id("page", page, 0), {"kind": "page"}, {"bm25": _sparse(each)} if each else {})
                for page, each in counts.items()
            ]
            for start in range(0, len(points), 100):
                engine.upsert(points[start : start + 100])
            engine.optimize()
            spent = []
            for text in questions:
                query = [ListQuery("bm25", _sparse(Counter(set(counted(text)))), LISTED)]
                laps = []
                for _ in range(3):
                    started = time.perf_counter()
                    engine.query(query)
                    laps.append(1000 * (time.perf_counter() - started))
                spent.append(min(laps))
            engine.close()
        numbers = float(np.mean([len(each) for each in counts.values()]))
        rows[name] = {"numbers": round(numbers, 1), "ms": round(float(np.median(spent)), 3)}
        print(f"{name:24}{numbers:16.0f}{numbers * 8 / 1000:11.1f}{np.median(spent):17.2f}", flush=True)
    return rows


def _sparse(counts: Mapping[int, int]) -> SparseVector:
    indices = np.array(sorted(counts), np.uint32)
    return SparseVector(indices, np.array([counts[int(i)] for i in indices], np.float32))


def _document(page: str) -> str:
    """A form is a page, a report's page is named after it."""
    return page.partition("#")[0]


def _no_image() -> Any:
    raise AssertionError("nobody asked for an image")


def _known_items(folder: Path) -> dict[str, list[Question]]:
    """Fields of at least three words: up to four a form, drawn by chance, and the others."""
    draw = random.Random(0)
    drawn, others = list[Question](), list[Question]()
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
        first = draw.sample(sorted(fields), min(A_FORM, len(fields)))
        for number, text in enumerate([*first, *sorted(set(fields).difference(first))]):
            question = Question(f"{path.stem}-{number}", text, {path.stem: 1})
            (drawn if number < len(first) else others).append(question)
    return {"forms, fields drawn": drawn, "forms, the other fields": others}


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

    def idf(self, asked: Iterable[int]) -> dict[int, float]:
        """Of terms that some page holds."""
        return {term: idf(len(self._postings[term]), self._total) for term in asked if term in self._postings}

    def score(self, asked: Iterable[int]) -> dict[str, float]:
        """Pages with a term of the question."""
        scores: dict[str, float] = defaultdict(float)
        for term, weight in self.idf(set(asked)).items():
            for name, value in self._postings[term]:
                scores[name] += weight * value
        return dict(scores)


def _fused(lists: Mapping[str, Mapping[str, float]], weights: Mapping[str, float]) -> dict[str, float]:
    """The product's fusion: the best 100 of each list, all of them with their exact scores.

    The list of documents brings no page in.
    """
    asked = [lists[name] for name in weights if name != "document"]
    tops = [sorted(scores, key=lambda page: -scores[page])[:LISTED] for scores in asked]  # noqa: B023
    pool = {page for top in tops for page in top}
    kept = {name: {p: s for p, s in lists[name].items() if p in pool} for name in weights}
    return weighted_sum(kept, weights)


if __name__ == "__main__":
    main()
