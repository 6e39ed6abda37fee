"""A copy of a library is the same library, however often it was killed while it was made."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from qdrant_server import Server, serving

from pagelens import ExitCode, Library, migrating
from pagelens.errors import PagelensError, UsageError
from pagelens.migrating import Migrated, migrate
from pagelens.places import Place
from pagelens.records import SparseVector
from pagelens.settings import is_whole
from pagelens.store.plan import Point, Schema, VectorSpec, Where
from pagelens.store.points import SETTINGS

COMMAND = str(Path(sys.executable).with_name("pagelens"))


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path / "qdrant") as server:
        yield server


def points_of(place: Place) -> dict[str, Point]:
    """But for what is the place's own: how its page files are known."""
    store, _ = place.open()
    names = [spec.name for spec in store.schema().vectors]
    points = {point.id: point for point in store.scroll(Where(), names)}
    store.close()
    points[SETTINGS] = Point(SETTINGS, {**points[SETTINGS].payload, "page_files": None})
    return points


def files_of(place: Place) -> dict[str, bytes]:
    store, files = place.open()
    store.close()
    return {name: files.read(name) for name in files.names()}


def same(place: Place, other: Place) -> None:
    """All points with all vectors, and all page files."""
    assert files_of(place) == files_of(other)
    ours, theirs = points_of(place), points_of(other)
    assert ours.keys() == theirs.keys()
    for id, point in theirs.items():
        assert ours[id].payload == point.payload
        assert ours[id].vectors.keys() == point.vectors.keys()
        for name, vector in point.vectors.items():
            mine = ours[id].vectors[name]
            if isinstance(vector, SparseVector):
                assert isinstance(mine, SparseVector)
                assert dict(zip(mine.indices, mine.values, strict=True)) == dict(
                    zip(vector.indices, vector.values, strict=True)
                )
            else:
                np.testing.assert_allclose(np.asarray(mine), vector, rtol=0, atol=1e-6)


def test_to_a_server_and_back(small_library: Library, running: Server, tmp_path: Path) -> None:
    home = small_library.place
    server = Place.of(running.url, tmp_path / "pages")
    back = Place.of(tmp_path / "back.pagelens")
    for source, target in ((home, server), (server, back)):
        done = migrate(source, target)
        assert (done.points, done.points_written) == (10, 9)  # 6 pages, 3 documents, the settings
        assert (done.files, done.files_written) == (12, 12)
        same(target, home)
        again = migrate(source, target)
        assert (again.points_written, again.files_written, again.digest) == (0, 0, done.digest)
    with Library(back.folder) as library:
        for question in ("who signed the lease?", "Harbour Office"):
            ours, theirs = library.search(question, 6), small_library.search(question, 6)
            assert [hit.page_id for hit in ours] == [hit.page_id for hit in theirs]
            assert [hit.score for hit in ours] == pytest.approx([hit.score for hit in theirs], abs=1e-5)
            assert [hit.path for hit in ours] == [hit.path for hit in theirs]


def many(folder: Path, points: int = 3000, files: int = 300, profile: str = "light") -> Place:
    """A library of made pages, large enough to be killed over."""
    place = Place.of(folder)
    store, pages = place.open()
    vectors = (
        VectorSpec("bm25", "sparse"),
        VectorSpec("text", "multi", 64),
        VectorSpec("half", "multi", 64, "float16"),
        VectorSpec("byte", "multi", 64, "turbo8"),
    )
    store.declare(Schema(vectors, {"kind": "keyword"}))
    rng = np.random.default_rng(1)

    def made(n: int) -> Point:
        terms = SparseVector(np.array([3, n + 10], np.uint32), rng.random(2, np.float32))
        rows = {name: rng.standard_normal((4, 64), np.float32) for name in ("text", "half", "byte")}
        payload = {"kind": "page", "number": n, "text": "ä" * 100}
        return Point(f"{n:032x}", payload, {"bm25": terms, **rows})

    store.upsert([made(n) for n in range(points)])
    store.upsert([Point(SETTINGS, {"kind": "library", "format": 1, "profile": profile, "signatures": {}})])
    store.close()
    for n in range(files):
        pages.put(f"0123456789abcdef#{n}", ".jpg", rng.bytes(5000))
    return place


def test_killed_and_run_again(running: Server, tmp_path: Path) -> None:
    """kill -9 among the files, then several times among the points."""
    home = many(tmp_path / "home.pagelens")
    target = Place.of(running.url, tmp_path / "pages")
    command = [
        COMMAND,
        "migrate",
        "--from",
        str(home),
        "--to",
        running.url,
        "--to-pages",
        target.pages,
        "--json",
    ]
    calls = running.faults.calls

    def writes() -> int:
        return sum(name == "Upsert" for name, _ in calls)

    def half_of_the_files() -> bool:
        return len(list(Path(target.pages).rglob("*.jpg"))) > 100

    kills = 0
    for done_so_far in (half_of_the_files, *(lambda n=n: writes() >= n for n in (3, 12, 25))):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            until = time.monotonic() + 60
            while not done_so_far() and process.poll() is None:
                assert time.monotonic() < until
                time.sleep(0.005)
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
    assert kills == 4
    unfinished = points_of(target)
    assert 0 < len(unfinished) < 3000  # killed in the middle
    assert not is_whole(unfinished[SETTINGS])
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == ExitCode.DONE, done.stderr
    report = Migrated(**{k: v for k, v in json.loads(done.stdout).items() if k != "schema"})
    assert (report.points, report.files) == (3001, 300)
    assert 0 < report.points_written < 3000
    assert report.files_written == 0
    same_but_for_rounding(target, home)


def test_an_unfinished_copy_is_opened_by_nobody(
    small_library: Library,
    running: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    home = small_library.place
    server, folder = Place.of(running.url, tmp_path / "pages"), Place.of(tmp_path / "back.pagelens")
    for copy in (server, folder):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(migrating, "_copy_points", interrupted)
            migrate(home, copy)
        with pytest.raises(UsageError, match="is an unfinished copy; run the same `pagelens migrate` again"):
            Library(copy.folder or copy.url, pages=copy.pages or None)
        with pytest.raises(UsageError, match="is itself an unfinished copy"):
            migrate(copy, Place.of(tmp_path / "third.pagelens"))
        assert migrate(home, copy).files_written == 0
        same(copy, home)


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def same_but_for_rounding(place: Place, other: Place) -> None:
    assert files_of(place) == files_of(other)
    ours, theirs = points_of(place), points_of(other)
    assert ours.keys() == theirs.keys()
    for id, point in theirs.items():
        assert ours[id].payload == point.payload
        for name, tolerance in (("text", 1e-6), ("half", 2e-3), ("byte", 5e-2)):
            if name in point.vectors:
                mine, vector = ours[id].vectors[name], point.vectors[name]
                np.testing.assert_allclose(np.asarray(mine), np.asarray(vector), rtol=0, atol=tolerance)


def test_what_differs_is_written_anew(running: Server, tmp_path: Path) -> None:
    home = many(tmp_path / "home.pagelens", points=100, files=3)
    target = Place.of(running.url, tmp_path / "pages")
    migrate(home, target)
    store, files = target.open()
    [point] = store.retrieve([f"00000000-0000-0000-0000-{5:012x}"], ["text"])
    store.update([dataclasses.replace(point, payload={"number": 77}, vectors={})])
    [point] = store.retrieve([f"00000000-0000-0000-0000-{6:012x}"], ["text"])
    store.update(
        [dataclasses.replace(point, payload={}, vectors={"text": -np.asarray(point.vectors["text"])})]
    )
    store.delete(Where({"number": 8}))
    store.close()
    files.put("0123456789abcdef#1", ".jpg", b"torn")
    done = migrate(home, target)
    assert (done.points_written, done.files_written) == (3, 1)
    same_but_for_rounding(target, home)


def test_what_the_target_alone_has_is_no_copy(running: Server, tmp_path: Path) -> None:
    home = many(tmp_path / "home.pagelens", points=10, files=1)
    target = Place.of(running.url, tmp_path / "pages")
    migrate(home, target)
    store, files = target.open()
    store.upsert([Point(f"{999:032x}", {"kind": "page"})])
    with pytest.raises(UsageError, match="holds 1 point of another library"):
        migrate(home, target)
    store.delete(Where(ids=frozenset({f"{999:032x}"})))
    files.put("fedcba9876543210#1", ".jpg", b"another")
    with pytest.raises(UsageError, match="1 page files are at the target alone"):
        migrate(home, target)
    store.close()
    assert is_whole(points_of(target)[SETTINGS])  # it is still the library it was


def test_what_is_no_copy_gets_no_settings(running: Server, tmp_path: Path) -> None:
    """Or it would be taken for a library."""
    home = many(tmp_path / "home.pagelens", points=10, files=0)
    target = Place.of(running.url, tmp_path / "pages")
    store, _ = target.open()
    store.declare(Schema((VectorSpec("text", "multi", 64),), {}))
    store.upsert([Point(f"{999:032x}", {"kind": "page"})])
    with pytest.raises(UsageError, match="holds 1 point of another library"):
        migrate(home, target)
    assert not store.retrieve([SETTINGS])
    store.close()


def test_another_library_is_not_written_over(small_library: Library, running: Server, tmp_path: Path) -> None:
    target = Place.of(running.url, tmp_path / "pages")
    migrate(many(tmp_path / "home.pagelens", points=10, files=0), target)
    before = points_of(target)
    with pytest.raises(UsageError, match="made otherwise"):
        migrate(many(tmp_path / "other.pagelens", points=20, files=0, profile="words"), target)
    with pytest.raises(UsageError, match="of size 64"):
        migrate(small_library.place, target)
    assert points_of(target).keys() == before.keys()


def test_no_source_no_copy(tmp_path: Path) -> None:
    nowhere, there = Place.of(tmp_path / "nowhere"), Place.of(tmp_path / "there")
    with pytest.raises(UsageError, match="there is no library"):
        migrate(nowhere, there)
    with pytest.raises(UsageError, match="both"):
        migrate(there, there)
    with Library(nowhere.folder, "words"), pytest.raises(UsageError, match="nothing to copy"):
        migrate(nowhere, there)
    assert not there.exists()


def test_a_server_that_forgets_is_noticed(
    running: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = many(tmp_path / "home.pagelens", points=10, files=0)
    monkeypatch.setattr("qdrant_server.OnEdge.upsert", lambda *_: None)
    with pytest.raises(PagelensError, match="read back otherwise than written"):
        migrate(home, Place.of(running.url, os.fspath(tmp_path / "pages")))
