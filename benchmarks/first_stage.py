"""What the steps of late interaction lose and cost: `python benchmarks/first_stage.py [--pages 5000 20000]`.

Synthetic pages of 8 x 8 patches of 128 numbers, in up to 16 neighbourhoods of any shape, of one concept each
out of 2,000, with noise; questions of 20 tokens about five concepts of a page. Good for costs, and for what
the steps lose of the exact order; quality on real pages is another matter. The same lists are asked of the
bare engine in one process right after, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from collection import OUT

from pagelens.encoders import pooling
from pagelens.evaluation.plots import STYLE, Whisker, sweep
from pagelens.looks import LookSettings, LookVectors
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
PLACES = np.stack(np.divmod(np.arange(SIDE * SIDE), SIDE), axis=1) + 0.5
"""Middles of the patches, row by row."""
NOISE = 0.8
"""Length of the noise on a concept of length 1."""
COUNTS = (
    LooksCounts(300, 300, 100),
    LooksCounts(exact=100),
    LooksCounts(),
    LooksCounts(2000, 2000, 300),
)
GOAL = 20.0
"""Milliseconds of the 95th percentile that were hoped for."""


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
    parser.add_argument("--plot", type=Path, help="draw time against pages into this SVG file")
    parser.add_argument("--out", type=Path, default=OUT / "first_stage.json")
    arguments = parser.parse_args()
    results = []
    for count in arguments.pages:
        with tempfile.TemporaryDirectory() as place:
            results.append(measure(Path(place), count, arguments.pooling))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"schema": 1, "results": results}, indent=1) + "\n")
    if arguments.plot:
        arguments.plot.write_text(plot(results))


def plot(results: Sequence[dict[str, Any]]) -> str:
    """Milliseconds a question with the default counts, their band from the best to the 95th percentile."""
    rows = []
    for each in results:
        row = each["counts"][COUNTS.index(LooksCounts())]
        rows.append(Whisker(f"{each['pages']:,} pages", row["mean_ms"], row["best_ms"], row["p95_ms"]))
    drawn = sweep(rows, [GOAL] * len(rows), "milliseconds a question against pages; dashed: the goal")
    head = '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" '
    return drawn.replace("<svg ", head, 1).replace(">", f"><style>{STYLE}</style>", 1)


def measure(folder: Path, count: int, pooled: Any) -> dict[str, Any]:
    """One collection."""
    rng = np.random.default_rng(0)
    concepts = unit(rng.standard_normal((CONCEPTS, SIZE)))
    settings = LookSettings(pooling=pooled)
    looks = LookVectors(NAME, True, SIZE, settings.storage, settings.pooling)
    store = EdgeStore(folder)
    vectors = (VectorSpec("bm25", "sparse"), *looks.specs)
    store.declare(Schema(vectors, FIELDS))
    started = time.perf_counter()
    pages = np.empty((count, SIDE * SIDE, SIZE), np.float16)  # for the exact order
    held = np.empty((count, 16), np.int32)
    for start in range(0, count, BATCH):
        points = []
        for number in range(start, min(start + BATCH, count)):
            held[number] = rng.choice(CONCEPTS, 16, replace=False)
            centres = rng.uniform(0, SIDE, (16, 2))
            nearest = ((PLACES[:, None] - centres) ** 2).sum(-1).argmin(1)
            shown = held[number][nearest]
            held[number] = rng.choice(np.unique(shown), 16)  # a question is about what can be seen
            patches = noisy(rng, concepts[shown])
            pages[number] = patches
            fewer = (
                pooling.rows_and_columns(patches, GRID) if pooled == "rows" else pooling.hierarchical(patches)
            )
            made = {NAME: patches, f"{NAME}.pooled": fewer, f"{NAME}.blocks": pooling.blocks(patches, GRID)}
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
        about = rng.choice(held[rng.integers(count)], 5)
        questions.append(noisy(rng, concepts[np.repeat(about, TOKENS // 5)]))
    truth = [best(exact(question, pages), 10) for question in questions]
    nominated = nominations(pages, questions, truth)
    tables = [ask(folder, count, questions, truth, counts) for counts in COUNTS]
    return {
        "pages": count,
        "pooling": pooled,
        "bytes_a_page": size / count,
        "seconds": {"fill": filled, "merge": merged},
        "nominations": nominated,
        "counts": tables,
    }


def nominations(
    pages: np.ndarray, questions: Sequence[np.ndarray], truth: Sequence[set[int]]
) -> dict[str, float]:
    """Of the exact best ten, how many are among the best 1,000 by fewer vectors a page; compared exactly."""
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "one mean": lambda page: unit(page.mean(0, keepdims=True)),
        "4 x 2 blocks": lambda page: pooling.blocks(page, GRID),
        "rows and columns": lambda page: pooling.rows_and_columns(page, GRID),
    }
    found = {}
    for name, way in ways.items():
        fewer = np.stack([way(page.astype(np.float32)) for page in pages]).astype(np.float16)
        seen = [best(exact(question, fewer), 1000) for question in questions]
        found[name] = float(np.mean([len(a & b) / 10 for a, b in zip(seen, truth, strict=True)]))
    print("  best ten among the best 1,000 by " + ", ".join(f"{n} {r:.3f}" for n, r in found.items()))
    return found


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
    searcher = Searcher(recorder, lambda _: [], _no_image, NoWords(), {}, (), {NAME: asked}, (), counts)
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
    memory = resident()
    store.close()  # its worker lets go of the folder
    engine = EdgeEngine(folder / "points")
    for _ in range(2):
        started = time.perf_counter()
        for batch in recorder.batches:
            engine.query(batch)
        bare = time.perf_counter() - started
    engine.close()
    row = {
        "nominated": counts.nominated,
        "exact": counts.exact,
        "recall_at_10": float(np.mean([len(a & b) / 10 for a, b in zip(found, truth, strict=True)])),
        "best_ms": min(seconds) * 1000,
        "mean_ms": float(np.mean(seconds) * 1000),
        "p95_ms": float(np.percentile(seconds, 95) * 1000),
        "bare_mean_ms": bare / len(questions) * 1000,
        "resident_mb": memory,
        "ratio": float(np.mean(seconds)) * len(questions) / bare,
    }
    print(
        f"  nominated {counts.nominated:4}, exact {counts.exact:3}: recall@10 {row['recall_at_10']:.3f}, "
        f"mean {row['mean_ms']:.1f} ms, p95 {row['p95_ms']:.1f} ms, {row['ratio']:.2f} of the bare engine's "
        f"{row['bare_mean_ms']:.1f} ms; {memory:.0f} MB resident"
    )
    return row


def resident() -> float:
    """MB of the worker that answers, with what it has mapped of its files; it is this process's child."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    about = [Path(f"/proc/{each}/status").read_text() for each in children]
    return sum(int(re.findall(r"VmRSS:\s*(\d+)", each)[0]) for each in about if "VmRSS" in each) / 1000


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
