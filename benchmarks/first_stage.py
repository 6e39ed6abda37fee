"""What the steps of late interaction lose and cost: `python benchmarks/first_stage.py [--pages 5000 20000]`.

Synthetic pages of 8 x 8 patches of 128 numbers, in 16 neighbourhoods of one concept each out of 2,000, with
noise; questions of 20 tokens about five concepts of a page. Good for costs, and for what the steps lose
of the exact order; quality on real pages is another matter. The same lists are asked of the bare engine in
one process right after, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from collection import OUT

from pagelens.encoders import pooling
from pagelens.looks import LookSettings, look_vectors
from pagelens.records import Query, SparseVector
from pagelens.searching import LooksCounts, Searcher
from pagelens.store.client import EdgeStore
from pagelens.store.edge import EdgeEngine
from pagelens.store.plan import ListQuery, Point, Schema, Scored, Store, VectorSpec
from pagelens.store.points import FIELDS, page_point_id

SIDE, SIZE, CONCEPTS = 8, 128, 2000
TOKENS, QUESTIONS = 20, 40
GRID = ((SIDE, SIDE),)
NAME = "look"
DOC = "0123456789abcdef"
BATCH = 100
NOISE = 0.8
"""Length of the noise on a concept of length 1."""
COUNTS = (
    LooksCounts(all_pooled=10**9),
    LooksCounts(all_pooled=10**9, exact=300),
    *(LooksCounts(0, nominated) for nominated in (100, 200, 500, 1000)),
    LooksCounts(0, 1000, 1000, 300),
)


class Asked:
    """Late interaction without a model: vectors are set from outside."""

    late = True

    def __init__(self) -> None:
        self.rows = np.zeros((1, SIZE), np.float32)

    def encode_query(self, query: object) -> np.ndarray:
        """Those."""
        return self.rows


class NoWords:
    """A question without terms: looks alone are measured."""

    def encode_query(self, text: str) -> SparseVector | None:
        """None."""
        return None


class Recorder:
    """A store that notes which lists it is asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.batches: list[Sequence[ListQuery]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def query(self, queries: Sequence[ListQuery]) -> list[list[Scored]]:
        """Asked on."""
        self.batches.append(queries)
        return self._store.query(queries)


def main() -> None:
    """Make the pages, ask, print tables, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pages", type=int, nargs="+", default=[5000, 20_000])
    parser.add_argument("--pooling", choices=["rows", "hierarchical"], default="rows")
    parser.add_argument("--out", type=Path, default=OUT / "first_stage.json")
    arguments = parser.parse_args()
    results = []
    for count in arguments.pages:
        with tempfile.TemporaryDirectory() as place:
            results.append(measure(Path(place), count, arguments.pooling))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"schema": 1, "results": results}, indent=1) + "\n")


def measure(folder: Path, count: int, pooled: Any) -> dict[str, Any]:
    """One collection."""
    rng = np.random.default_rng(0)
    concepts = unit(rng.standard_normal((CONCEPTS, SIZE)))
    settings = LookSettings(pooling=pooled)
    store = EdgeStore(folder)
    vectors = (VectorSpec("bm25", "sparse"), *look_vectors(NAME, True, SIZE, settings))
    store.declare(Schema(vectors, FIELDS))
    started = time.perf_counter()
    pages = np.empty((count, SIDE * SIDE, SIZE), np.float16)  # for the exact order
    held = np.empty((count, 16), np.int32)
    for start in range(0, count, BATCH):
        points = []
        for number in range(start, min(start + BATCH, count)):
            held[number] = rng.choice(CONCEPTS, 16, replace=False)
            blocks = np.repeat(np.repeat(held[number].reshape(4, 4), 2, 0), 2, 1).ravel()
            patches = noisy(rng, concepts[blocks])
            pages[number] = patches
            fewer = (
                pooling.rows_and_columns(patches, GRID) if pooled == "rows" else pooling.hierarchical(patches)
            )
            made = {NAME: patches, f"{NAME}.pooled": fewer, f"{NAME}.mean": pooling.mean(patches)}
            payload = {"kind": "page", "doc_id": DOC, "number": number}
            points.append(Point(page_point_id(f"{DOC}#{number}"), payload, made))
        store.upsert(points)
    filled = time.perf_counter() - started
    started = time.perf_counter()
    store.optimize()
    merged = time.perf_counter() - started
    size = sum(kept for name, kept in store.size().items() if name != "wal")
    store.close()
    print(
        f"{count} pages, pooled by {pooled}: filled in {filled:.0f} s, merged in {merged:.0f} s, "
        f"{size / count / 1000:.1f} KB a page"
    )
    questions = []
    for _ in range(QUESTIONS):
        about = rng.choice(held[rng.integers(count)], 5, replace=False)
        questions.append(noisy(rng, concepts[np.repeat(about, TOKENS // 5)]))
    truth = [best(exact(question, pages), 10) for question in questions]
    tables = [ask(folder, count, questions, truth, counts) for counts in COUNTS]
    return {
        "pages": count,
        "pooling": pooled,
        "bytes_a_page": size / count,
        "seconds": {"fill": filled, "merge": merged},
        "counts": tables,
    }


def ask(
    folder: Path,
    pages: int,
    questions: Sequence[np.ndarray],
    truth: Sequence[set[int]],
    counts: LooksCounts,
) -> dict[str, Any]:
    """What is found of the exact best ten, and what it takes; the bare engine's time for the same lists."""
    store, asked = EdgeStore(folder), Asked()
    recorder = Recorder(store)
    searcher = Searcher(recorder, lambda _: [], _no_image, NoWords(), None, (), {NAME: asked}, (), counts)
    ids = {page_point_id(f"{DOC}#{number}"): number for number in range(pages)}
    found: list[set[int]] = []
    seconds: list[float] = []
    for turn in range(2):  # the first reads what the second finds in memory
        recorder.batches.clear()
        for question in questions:
            asked.rows = question
            started = time.perf_counter()
            order = searcher.search(Query("looks"), 10, NAME).order
            if turn:
                seconds.append(time.perf_counter() - started)
                found.append({ids[each.id] for each in order})
    store.close()  # its worker lets go of the folder
    engine = EdgeEngine(folder / "points")
    for _ in range(2):
        started = time.perf_counter()
        for batch in recorder.batches:
            engine.query(batch)
        bare = time.perf_counter() - started
    engine.close()
    row = {
        "all_pooled": counts.all_pooled >= pages,
        "nominated": counts.nominated,
        "exact": counts.exact,
        "recall_at_10": float(np.mean([len(a & b) / 10 for a, b in zip(found, truth, strict=True)])),
        "mean_ms": float(np.mean(seconds) * 1000),
        "p95_ms": float(np.percentile(seconds, 95) * 1000),
        "bare_mean_ms": bare / len(questions) * 1000,
    }
    first = "all pooled    " if row["all_pooled"] else f"nominated {counts.nominated:4}"
    print(
        f"  {first}, exact {counts.exact:3}: recall@10 {row['recall_at_10']:.3f}, mean "
        f"{row['mean_ms']:.1f} ms, p95 {row['p95_ms']:.1f} ms, bare engine {row['bare_mean_ms']:.1f} ms"
    )
    return row


def _no_image(page_id: str) -> Any:
    raise AssertionError(f"nobody asked for the image of {page_id}")


def exact(question: np.ndarray, pages: np.ndarray) -> np.ndarray:
    """MaxSim of all pages."""
    scores = np.empty(len(pages), np.float32)
    for start in range(0, len(pages), 1000):
        part = pages[start : start + 1000].astype(np.float32)
        scores[start : start + 1000] = (part @ question.T).max(axis=1).sum(axis=1)
    return scores


def best(scores: np.ndarray, count: int) -> set[int]:
    """The places of the highest."""
    return {int(place) for place in np.argsort(-scores, kind="stable")[:count]}


def noisy(rng: np.random.Generator, concepts: np.ndarray) -> np.ndarray:
    """Each with noise of its own, of length 1 again."""
    noise = rng.standard_normal(concepts.shape) * (NOISE / SIZE**0.5)
    return unit(concepts + noise)


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1."""
    scaled: np.ndarray = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return scaled


if __name__ == "__main__":
    main()
