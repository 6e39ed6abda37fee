"""What Edge does by itself, and what the engine does about it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import qdrant_edge as qe

from pagelens.errors import LibraryBusy, UsageError
from pagelens.records import SparseVector
from pagelens.store import edge
from pagelens.store.edge import EdgeEngine
from pagelens.store.plan import ListQuery, Point, Schema, Scored, Storage, VectorSpec, Where

WORDS = Schema((VectorSpec("bm25", "sparse"),), {"kind": "keyword"})
IMAGE = Schema((VectorSpec("image", "multi", 4096),), {})


def word_page(n: int) -> Point:
    """Term 0 is everywhere, term n on this page alone."""
    return Point(
        str(uuid.UUID(int=n)),
        {"kind": "page"},
        {"bm25": SparseVector(np.array([0, n], np.uint32), np.ones(2, np.float32))},
    )


def score(engine: EdgeEngine, n: int) -> float:
    """Of page n for its own term."""
    asked = SparseVector(np.array([n], np.uint32), np.ones(1, np.float32))
    [[hit]] = engine.query([ListQuery("bm25", asked, 10)])
    assert isinstance(hit, Scored)
    return hit.score


def stored_m(folder: Path, name: str) -> int | None:
    """The `m` of a vector's graph as it is on disk; None: Qdrant's default, 16."""
    config = json.loads((folder / "edge_config.json").read_text())
    m: int | None = config["vectors"][name].get("hnsw_config", {}).get("m")
    return m


def test_replaced_points_skew_the_idf_until_optimize(tmp_path: Path) -> None:
    """If the first assertion ever fails, Edge has mended it and ingest need not optimize.

    Seen only in segments that have been merged, which takes 10 MB of vectors.
    """
    engine = EdgeEngine(tmp_path)
    engine.declare(Schema((*WORDS.vectors, *IMAGE.vectors), {}))
    image = np.ones((16, 4096), np.float32)
    pages = [word_page(n) for n in range(1, 81)]
    engine.upsert([Point(page.id, {}, {**page.vectors, "image": image}) for page in pages])
    engine.optimize()
    before = score(engine, 7)
    for _ in range(3):
        engine.upsert([word_page(7)])
    assert score(engine, 7) != pytest.approx(before, abs=0.1)
    engine.optimize()
    assert score(engine, 7) == pytest.approx(before, abs=1e-5)


def test_one_deleted_page_of_many_counts_no_more_after_optimize(tmp_path: Path) -> None:
    """Edge's own thresholds (1000 vectors, a fifth of them) would leave it counted for ever."""
    engine, fresh = EdgeEngine(tmp_path / "a"), EdgeEngine(tmp_path / "b")
    pages = [word_page(n) for n in range(1, 101)]
    pages[0] = Point(pages[0].id, {}, word_page(7).vectors)
    for each, points in ((engine, pages), (fresh, pages[1:])):
        each.declare(WORDS)
        each.upsert(points)
    engine.close()
    engine = EdgeEngine(tmp_path / "a")  # the setting must hold for a library that is opened, too
    engine.delete(Where(ids=frozenset([pages[0].id])))
    assert score(engine, 7) != pytest.approx(score(fresh, 7), abs=0.1)
    engine.optimize()
    assert score(engine, 7) == pytest.approx(score(fresh, 7), abs=1e-5)


def test_a_multivector_added_later_gets_no_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph over full page images would take hours; here it takes several times as long as none."""
    rng = np.random.default_rng(0)
    images = [
        Point(str(uuid.UUID(int=n)), {}, {"image": rng.standard_normal((16, 4096)).astype(np.float32)})
        for n in range(120)
    ]

    def seconds(folder: Path) -> float:
        engine = EdgeEngine(folder)
        engine.declare(WORDS)
        engine.declare(IMAGE)
        engine.upsert(images)
        started = time.perf_counter()
        engine.optimize()
        taken = time.perf_counter() - started
        engine.close()
        return taken

    without = seconds(tmp_path / "without")
    assert stored_m(tmp_path / "without", "image") == 0
    monkeypatch.setattr(EdgeEngine, "close", lambda self: None)  # and so it is not loaded again
    withs = seconds(tmp_path / "with")
    assert stored_m(tmp_path / "with", "image") is None
    assert withs > 2 * without


@pytest.mark.parametrize(("storage", "error", "most"), [("float32", 1e-4, 520), ("float16", 5e-3, 264)])
def test_storage_of_patches(tmp_path: Path, storage: Storage, error: float, most: float) -> None:
    """MaxSim against two nested loops, and what a vector of 128 numbers takes on disk."""
    measured, size = stored(tmp_path, storage)
    assert measured < error and 0.9 * most < size <= most


def test_turbo8_takes_145_bytes_a_vector(tmp_path: Path) -> None:
    """The default for patches; the error is of scores around 4, by 20 tokens."""
    measured, size = stored(tmp_path, "turbo8")
    assert 0 < measured < 0.03
    assert 128 < size <= 145


def stored(folder: Path, storage: Storage) -> tuple[float, float]:
    """The largest error of MaxSim's scores, and bytes a vector, of 300 pages of 64 vectors."""
    rng = np.random.default_rng(0)
    engine = EdgeEngine(folder)
    engine.declare(WORDS)
    engine.declare(Schema((VectorSpec("image", "multi", 128, storage),), {}))
    pages = rng.standard_normal((300, 64, 128)).astype(np.float32)
    pages /= np.linalg.norm(pages, axis=-1, keepdims=True)
    for start in range(0, 300, 50):
        engine.upsert(
            [Point(str(uuid.UUID(int=n)), {}, {"image": pages[n]}) for n in range(start, start + 50)]
        )
    engine.optimize()
    engine.close()
    engine = EdgeEngine(folder)  # the type is kept
    engine.declare(Schema((VectorSpec("image", "multi", 128, storage),), {}))
    question = rng.standard_normal((20, 128)).astype(np.float32)
    question /= np.linalg.norm(question, axis=-1, keepdims=True)
    [found] = engine.query([ListQuery("image", question, 300)])
    errors = []
    for hit in found:
        total = 0.0
        for token in question:
            total += max(float(token @ patch) for patch in pages[uuid.UUID(hit.id).int])
        errors.append(abs(hit.score - total))
    assert len(errors) == 300
    return max(errors), engine.size()["image vectors"] / (300 * 64)


def test_a_worker_killed_while_adding_a_multivector_leaves_no_graph_either(tmp_path: Path) -> None:
    engine = EdgeEngine(tmp_path)
    engine.declare(WORDS)
    engine.close()
    shard = qe.EdgeShard.load(str(tmp_path), None)
    max_sim = qe.MultiVectorConfig(qe.MultiVectorComparator.MaxSim)
    shard.update(qe.UpdateOperation.create_dense_vector("image", 4096, qe.Distance.Cosine, max_sim))
    shard.flush()
    shard.close()
    assert stored_m(tmp_path, "image") is None
    EdgeEngine(tmp_path)
    assert stored_m(tmp_path, "image") == 0


def test_a_field_of_another_kind_is_refused(tmp_path: Path) -> None:
    engine = EdgeEngine(tmp_path)
    engine.declare(WORDS)
    with pytest.raises(UsageError, match="kind"):
        engine.declare(Schema((), {"kind": "integer"}))


def test_a_library_without_collection_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pagelens ingest"):
        EdgeEngine(tmp_path).count(Where())


def test_a_second_process_is_told_that_the_library_is_open(tmp_path: Path) -> None:
    engine = EdgeEngine(tmp_path)
    engine.declare(WORDS)
    code = f"""
from pathlib import Path
from types import SimpleNamespace
from pagelens.errors import LibraryBusy
from pagelens.store.edge import EdgeEngine
try:
    EdgeEngine(Path({str(tmp_path)!r}))
except LibraryBusy as error:
    print("busy:", error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("busy:") and str(tmp_path) in said
    engine.close()
    assert EdgeEngine(tmp_path).count(Where()) == 0


def test_two_engines_in_one_process_are_told_too(tmp_path: Path) -> None:
    engine = EdgeEngine(tmp_path)
    engine.declare(WORDS)
    with pytest.raises(LibraryBusy, match="open in a process"):
        EdgeEngine(tmp_path)


def test_every_write_is_flushed_before_it_is_acknowledged(tmp_path: Path) -> None:
    """An update alone survives a killed process but no power cut, which cannot be had here."""
    engine = EdgeEngine(tmp_path)
    engine.declare(WORDS)
    shard, calls = engine._shard, []

    class Watched:
        def __getattr__(self, name: str) -> object:
            calls.append(name)
            return getattr(shard, name)

    engine._shard = Watched()  # type: ignore[assignment]
    writes: list[Callable[[], None]] = [
        lambda: engine.upsert([word_page(1), word_page(2)]),
        lambda: engine.update([Point(word_page(1).id, {"kind": "page", "a": 1}, word_page(1).vectors)]),
        lambda: engine.delete(Where({"kind": "page"})),
    ]
    for write in writes:
        calls.clear()
        write()
        assert "update" in calls and calls[-1] == "flush"


def test_a_disk_without_room_is_asked_before_edge_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arithmetic; `test_full_disk.py` has the real thing."""
    engine = EdgeEngine(tmp_path)
    engine.declare(WORDS)
    engine.upsert([word_page(1)])
    free = 0
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    page = word_page(2)
    weight = Point(page.id, {"text": "x" * 10 * edge.MB}, page.vectors)
    writes: dict[int, Callable[[], object]] = {
        edge.TO_WRITE + 30 * edge.MB: lambda: engine.upsert([weight]),
        edge.TO_WRITE + 29 * edge.MB: lambda: engine.update([weight]),
        edge.TO_WRITE: lambda: engine.delete(Where({"kind": "page"})),
        edge.TO_WRITE + 1: engine.optimize,
        edge.TO_WRITE + 2: lambda: engine.declare(IMAGE),
        edge.TO_OPEN: lambda: EdgeEngine(tmp_path / "other"),
    }
    for needed, write in writes.items():
        free = needed - edge.MB
        with pytest.raises(OSError, match="free some space") as told:
            write()
        assert told.value.errno == 28
    assert engine.count(Where()) == 1


def test_bytes_are_told_by_what_they_are_for(tmp_path: Path) -> None:
    engine = EdgeEngine(tmp_path / "points")
    engine.declare(Schema((*WORDS.vectors, VectorSpec("text", "multi", 64)), WORDS.fields))
    text = np.random.default_rng(0).standard_normal((2000, 64)).astype(np.float32)
    engine.upsert([Point(str(uuid.UUID(int=1)), {"kind": "page"}, {"text": text})])
    engine.optimize()
    sizes = engine.size()
    engine.close()
    assert set(sizes) == {"points", "wal", "payload", "bm25 vectors", "text vectors"}
    assert sizes["text vectors"] >= text.nbytes
    blocks = [path.stat().st_blocks for path in (tmp_path / "points").rglob("*") if path.is_file()]
    assert sum(sizes.values()) == 512 * sum(blocks)
