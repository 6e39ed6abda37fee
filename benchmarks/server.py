"""What a server between a library and its engine costs: the same pages through Edge and over gRPC to Edge.

    PYTHONPATH=tests python benchmarks/server.py --pages 20000

No Qdrant server is at hand: over gRPC answers `tests/qdrant_server.py`, qdrant-client's servicers in Python
over the same engine, in a process of its own on this machine's loopback, flushed as Edge is. So the ratio is
what pagelens and its messages cost, with a server slower at reading them than Qdrant's own. Bytes and message
sizes are as they will be.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pagelens.records import SparseVector
from pagelens.store.client import EdgeStore
from pagelens.store.plan import ListQuery, Point, Schema, Store, VectorSpec, Where
from pagelens.store.server import BATCH, ServerStore

SCHEMA = Schema(
    (VectorSpec("bm25", "sparse"), VectorSpec("text", "multi", 384)),
    {"kind": "keyword", "doc_id": "keyword", "number": "integer"},
)
TOGETHER = 16
"""Pages an upsert, as an ingest has them."""
TERMS, VOCABULARY, WINDOWS = 90, 30_000, 3
LOOKED, PATCHES = 64, 768
"""Pages with a row a patch of a visual encoder, as many as the largest of them makes, and rows of each."""
OUT = Path("benchmark-output") / "server.json"


def batches(count: int) -> Iterator[list[Point]]:
    """Pages of 90 terms, three windows of text and 1,800 characters, by the profile `light`."""
    for start in range(0, count, TOGETHER):
        yield [page(n) for n in range(start, min(count, start + TOGETHER))]


def page(n: int) -> Point:
    """One of them; the same for the same number."""
    rng = np.random.default_rng(n)
    payload = {"kind": "page", "doc_id": f"{n // 20:016x}", "number": n % 20, "text": "scanned words " * 128}
    rows = rng.standard_normal((WINDOWS, 384), np.float32)
    return Point(str(uuid.UUID(int=n)), payload, {"bm25": terms(rng, TERMS), "text": rows})


def terms(rng: np.random.Generator, count: int) -> SparseVector:
    """Terms by Zipf's law."""
    drawn = np.unique(np.minimum(rng.zipf(1.3, 3 * count), VOCABULARY))[:count]
    return SparseVector(drawn.astype(np.uint32), rng.uniform(0.5, 2, len(drawn)).astype(np.float32))


def questions(count: int) -> Iterator[list[ListQuery]]:
    """Two lists each, of 100."""
    for n in range(count):
        rng = np.random.default_rng(10**6 + n)
        row = rng.standard_normal((1, 384), np.float32)
        pages = Where({"kind": "page"})
        yield [ListQuery("bm25", terms(rng, 5), 100, pages), ListQuery("text", row, 100, pages)]


def looked(store: ServerStore) -> None:
    """Pages with as much as a page can have, 393 kB."""
    store.declare(Schema((VectorSpec("patches", "multi", 128, "turbo8"),), {}))
    rng = np.random.default_rng(5)
    rows = rng.standard_normal((LOOKED, PATCHES, 128), np.float32)
    store.upsert([Point(page(n).id, page(n).payload, {"patches": rows[n]}) for n in range(LOOKED)])


class Wire:
    """Counts what a server store sends, in bytes of messages."""

    def __init__(self, store: ServerStore) -> None:
        self.sent = self.largest = 0
        self._call = store._server.call
        store._server.call = self.call  # type: ignore[method-assign]

    def call(self, method: Any, request: Any, patience: float | None = None) -> Any:
        """Of `rpc.Server`."""
        size = request.ByteSize()
        self.sent += size
        self.largest = max(self.largest, size)
        return self._call(method, request, patience)


def measure(stores: dict[str, Store], pages: int, asked: int) -> dict[str, dict[str, float]]:
    """Seconds to write all pages, and of a question; in turns, so that a busy machine slows both."""
    written = dict.fromkeys(stores, 0.0)
    answered: dict[str, list[float]] = {name: [] for name in stores}
    for store in stores.values():
        store.declare(SCHEMA)
    for batch in batches(pages):
        for name, store in stores.items():
            before = time.perf_counter()
            store.upsert(batch)
            written[name] += time.perf_counter() - before
    for question in questions(asked):
        for name, store in stores.items():
            before = time.perf_counter()
            store.query(question)
            answered[name].append(1e3 * (time.perf_counter() - before))
    return {
        name: {
            "ingest_s": written[name],
            "query_p50_ms": float(np.quantile(answered[name], 0.5)),
            "query_p95_ms": float(np.quantile(answered[name], 0.95)),
        }
        for name in stores
    }


def main() -> None:
    """Measure both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pages", type=int, default=4000)
    parser.add_argument("--questions", type=int, default=200)
    given = parser.parse_args()
    script = Path(__file__).parent.parent / "tests" / "qdrant_server.py"
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        assert process.stdout is not None and process.stdin is not None
        edge, server = EdgeStore(Path(folder)), ServerStore(process.stdout.readline().strip())
        wire = Wire(server)
        found = measure({"edge": edge, "server": server}, given.pages, given.questions)
        assert edge.count(Where()) == server.count(Where()) == given.pages
        found["server"]["bytes_a_page"] = wire.sent / given.pages
        found["server"]["largest_message"] = wire.largest
        looked(server)
        found["server"]["largest_with_patches"] = wire.largest
        server.close()
        edge.close()
        process.stdin.close()  # it ends
    assert wire.largest < BATCH + 10_000
    for name, figures in found.items():
        print(f"{name:8}" + "".join(f"  {key} {value:,.1f}" for key, value in figures.items()))
    for key in ("ingest_s", "query_p50_ms", "query_p95_ms"):
        print(f"{key}: server / edge = {found['server'][key] / found['edge'][key]:.2f}")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps({"pages": given.pages, **found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
