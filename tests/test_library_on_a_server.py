"""A library on a server is the same library."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from conftest import Sample
from made import write_pdf
from qdrant_server import Server, serving
from test_cli import Here

from pagelens import ExitCode, Library, UsageError
from pagelens.doctor import Finding, examine
from pagelens.errors import LibraryBusy, Missing
from pagelens.migrating import migrate
from pagelens.places import Place
from pagelens.store import rpc
from pagelens.store.cache import Cache
from pagelens.store.pages import PageFiles

COMMAND = str(Path(sys.executable).with_name("pagelens"))
QUESTIONS = ("who signed the lease?", "revenue in the northern region", "Harbour Office", "corridor")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("qdrant")) as server:
        yield server


@pytest.fixture(scope="module")
def library(running: Server, small_office: Path) -> Iterator[Library]:
    """The office, its page files in fsspec's memory."""
    with Library(running.url, "light", pages="memory://office/pages") as opened:
        assert not opened.ingest(small_office, readers=1).failed
        yield opened
    fsspec.filesystem("memory").rm("/office", recursive=True)


def test_the_same_questions_have_the_same_answers(library: Library, small_library: Library) -> None:
    for question in QUESTIONS:
        here, there = (each.search(question, 6, rerank=None) for each in (library, small_library))
        assert [hit.page_id for hit in here] == [hit.page_id for hit in there]
        assert [hit.score for hit in here] == pytest.approx([hit.score for hit in there], abs=1e-5)
        assert [hit.evidence for hit in here] == [hit.evidence for hit in there]
        assert [hit.path for hit in here] == [hit.path for hit in there]
    reranked = library.search(QUESTIONS[0], 3)
    assert [hit.page_id for hit in reranked] == [hit.page_id for hit in small_library.search(QUESTIONS[0], 3)]
    assert library.image(reranked[0].page_id).size == small_library.image(reranked[0].page_id).size


def test_what_is_there_is_told_alike(library: Library, small_library: Library) -> None:
    assert list(library.pages()) == list(small_library.pages())
    here, there = library.status(), small_library.status()
    for each in (here, there):
        del each["bytes"]
    assert here == there
    assert list(library.check()) == list(small_library.check())


def test_a_second_ingest_reads_nothing(library: Library, small_office: Path) -> None:
    report = library.ingest(small_office, readers=1)
    assert (report.unchanged, report.pages) == (3, 0)


def test_its_page_files_are_no_documents(running: Server, small_office: Path, tmp_path: Path) -> None:
    shutil.copytree(small_office, tmp_path / "office")
    kept = tmp_path / "office" / "pages"
    with Library(running.url, "words", pages=kept, collection="beside") as library:
        pages = library.ingest(tmp_path / "office", readers=1).pages
        assert pages and library.ingest(tmp_path / "office", readers=1).pages == 0


def test_it_lies_in_no_folder(library: Library, running: Server) -> None:
    assert str(library.place) == f"{running.url} (collection pagelens)"
    with pytest.raises(UsageError, match="is no folder"):
        _ = library.folder


def test_a_tenant_has_a_library_of_its_own(running: Server, small_office: Path, tmp_path: Path) -> None:
    def of(tenant: str) -> Library:
        place = tmp_path / tenant
        return Library(running.url, "words", pages=place, collection="shared", tenant=tenant)

    with of("archive") as archive:
        archive.ingest(small_office / "lease.pdf", readers=1)
        with of("museum") as museum:
            assert museum.status()["pages"] == 0
            museum.ingest(small_office, readers=1)
            [doc_id] = archive.remove(small_office / "lease.pdf")
            assert archive.status()["pages"] == 0
            assert museum.status()["pages"] == 6
            assert museum.search("who signed the lease?", 1)[0].doc_id == doc_id


@pytest.mark.parametrize("root", ["folder", "memory"])
def test_a_place_of_page_files_is_one_librarys(
    root: str, running: Server, small_office: Path, tmp_path: Path
) -> None:
    """One slip in --pages, and two libraries would read and remove each other's files, or one be parted."""
    places = str(tmp_path) if root == "folder" else "memory://places"

    def of(pages: str, collection: str, tenant: str | None = None) -> Library:
        collection = f"{root} {collection}"
        return Library(running.url, "words", pages=f"{places}/{pages}", collection=collection, tenant=tenant)

    with of("one", "first") as first, of("two", "second") as second:
        first.ingest(small_office, readers=1)
        second.ingest(small_office / "lease.pdf", readers=1)
        with pytest.raises(UsageError, match=r"two has the page files of another library; name the place"):
            of("two", "first")
        with pytest.raises(UsageError, match="eno has no page files; name the place where"):
            of("eno", "first")
        with pytest.raises(UsageError, match=r"one holds other files, and .* has none yet; name an empty"):
            of("one", "third")
        with of("three", "shared", "archive") as archive:
            archive.ingest(small_office / "lease.pdf", readers=1)
        with pytest.raises(UsageError, match="three holds other files"):
            of("three", "shared", "museum")
        assert not [each for library in (first, second) for each in library.check() if each.is_fault]
    with of("one", "first") as first:
        assert first.search("who signed the lease?", 1).hits
    assert not (tmp_path / "eno").exists()


def test_a_folder_with_other_files_is_no_place_for_page_files(running: Server, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("mine")
    with pytest.raises(UsageError, match="home holds other files"):
        Library(running.url, "words", pages=tmp_path / "home", collection="new")
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "library.json").write_text("{")
    with pytest.raises(UsageError, match=r"pages/library.json is damaged"):
        Library(running.url, "words", pages=tmp_path / "pages", collection="new")


def test_page_files_in_s3(running: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As moto answers for S3: written, read back, copied, missed, removed."""
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed: pip install s3fs 'moto[server]'")
    moto = pytest.importorskip("moto.server", reason="moto is not installed: pip install s3fs 'moto[server]'")
    there = moto.ThreadedMotoServer("127.0.0.1", 0)
    there.start()
    try:
        host, port = there.get_host_and_port()
        here = {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "XDG_CACHE_HOME": str(tmp_path),
        }
        for name, value in (here | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"}).items():
            monkeypatch.setenv(name, value)
        bucket = s3fs.S3FileSystem()
        bucket.mkdir("scans")
        path = write_pdf(tmp_path / "in" / "ferry.pdf", ["The ferry leaves at nine.", "It is blue."])
        with Library(running.url, "words", pages="s3://scans/pages", collection="s3") as library:
            assert not library.ingest(path, readers=1, regions=False).failed
            assert len(bucket.find("scans/pages")) == 5  # two a page, and whose they are
            [hit] = library.search("ferry")
            assert hit.open_image().size == (1240, 1755) and library.words(hit.page_id).text.startswith("The")
            assert list(library.check()) == []
            migrate(library.place, Place.of(tmp_path / "copy"))
            bucket.rm(bucket.find("scans/pages")[0])
            assert [each.kind for each in library.check()] == ["damaged"]
            library.remove(path)
            assert bucket.find("scans/pages", refresh=True) == ["scans/pages/library.json"]
        with pytest.raises(UsageError, match="there is no scan; make it first"):
            Library(running.url, "words", pages="s3://scan/pages", collection="slip")
        assert bucket.ls("", refresh=True) == ["scans"]
        found = {root: _page_files(running, f"s3://{root}") for root in ("scans/pages", "scan/pages")}
        assert [each.state for each in found.values()] == ["ok", "missing"]
        with Library(tmp_path / "copy") as copied:
            assert len(copied.search("ferry")) == 1 and list(copied.check()) == []
    finally:
        there.stop()


def test_a_server_that_goes_away_during_ingest(
    small_office: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is waited for; when it stays away the ingest stops, and the next one goes on from there."""
    monkeypatch.setattr(rpc, "PATIENCE", 0.5)
    with serving() as server, Library(server.url, "words", pages=tmp_path) as library:

        def leave(context: object) -> None:
            server.faults.away = True

        calls = server.faults.calls
        server.faults.coming = [lambda context: None] * 40 + [leave]
        with pytest.raises(LibraryBusy, match="run the same command again"):
            for _ in range(20):
                library.ingest(small_office, readers=1, retry=True)
                library.remove(*[page["path"] for page in library.pages()])
        assert calls[-1][0] != "HealthCheck"
        server.faults.away = False
        assert not library.ingest(small_office, readers=1).failed
        assert library.status()["pages"] == 6
        assert not [finding for finding in library.check() if finding.is_fault]


# the command line


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        timeout=120,
        check=False,
    )


def test_on_the_command_line(running: Server, small_office: Path, tmp_path: Path) -> None:
    place = ("--library", running.url, "--pages", tmp_path / "pages", "--collection", "cli")
    done = run("search", "lease", *place)
    assert done.returncode == ExitCode.USAGE
    assert "there is no library at" in done.stderr
    done = run("ingest", small_office, "--profile", "words", *place)
    assert done.returncode == ExitCode.DONE, done.stderr
    hits = json.loads(run("search", "who signed the lease?", "-k", 1, *place, "--json").stdout)["hits"]
    assert Path(hits[0]["path"]).name == "lease.pdf"
    for command in ("status", "pages", "check"):
        done = run(command, *place)
        assert done.returncode == ExitCode.DONE, done.stderr
    done = run("status", PAGELENS_LIBRARY=running.url)
    assert done.returncode == ExitCode.USAGE
    assert "--pages" in done.stderr


def test_tenants_on_the_command_line(
    running: Server,
    sample: Sample,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One has a signed lease with its regions, the other a letter and a copy of the first one's library."""
    (tmp_path / "own").mkdir()
    lease = shutil.copy(sample.folder / "lease-mill-street.pdf", tmp_path / "own" / "lease.pdf")
    letter = write_pdf(tmp_path / "letter.pdf", ["The ferry leaves at nine."])

    def of(tenant: str) -> tuple[object, ...]:
        where = ("--library", running.url, "--collection", "tenants", "--pages", tmp_path / tenant)
        return (*where, "--tenant", tenant)

    here = Here(monkeypatch, capsys)

    def told(*arguments: object) -> list[Any]:
        return [json.loads(line) for line in here(*arguments, "--json").splitlines()]

    for tenant, path in (("archive", lease), ("museum", letter)):
        told("ingest", path, "--profile", "words", *of(tenant))
    [found] = told("search", "lease", "--has", "signature", *of("archive"))
    [hit] = found["hits"]
    assert hit["page"] == 4 and hit["evidence"][0]["text"] == "signature"
    [about] = told("status", *of("archive"))
    assert about["regions"]["signature"] == 1 and about["documents"] == 1
    for query, expected in (("ferry", "letter.pdf"), ("lease landlord rent signature", None)):
        [found] = told("search", query, *of("museum"))
        assert [Path(each["path"]).name for each in found["hits"]] == ([expected] if expected else [])
    assert [Path(page["path"]).name for page in told("pages", *of("museum"))] == ["letter.pdf"]
    assert run("remove", lease, *of("museum")).returncode == ExitCode.USAGE
    copy = ("--from", running.url, "--from-collection", "tenants", "--from-pages", tmp_path / "museum")
    told("migrate", *copy, "--from-tenant", "museum", "--to", tmp_path / "copy")
    [page] = told("pages", "--library", tmp_path / "copy")
    assert Path(page["path"]).name == "letter.pdf"
    told("remove", letter, *of("museum"))
    assert told("pages", *of("museum")) == [] and len(told("pages", *of("archive"))) > 3


def test_a_refused_key_is_a_usage_error_and_stays_secret(running: Server, tmp_path: Path) -> None:
    running.faults.key = "right"
    try:
        done = run("status", "--library", running.url, "--pages", tmp_path, QDRANT_API_KEY="wrong-cheese")
    finally:
        running.faults.key = None
    assert done.returncode == ExitCode.USAGE
    assert "QDRANT_API_KEY is refused" in done.stderr
    assert "wrong-cheese" not in done.stderr + done.stdout


def _page_files(running: Server, root: Path | str) -> Finding:
    [found] = [each for each in examine(Place.of(running.url, root)) if each.name == "page files"]
    return found


def test_the_doctor_looks_at_page_files(
    running: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _page_files(running, tmp_path / "new").state == "ok"
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("not a folder")
    assert "--pages" in str(_page_files(running, tmp_path / "file").cure)
    assert _page_files(running, "memory://office/pages").state == "ok"
    assert "fsspec" in str(_page_files(running, "nothing://office/pages").cure)


def test_the_doctor_asks_the_server(running: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place.of(running.url, tmp_path, "nobody")
    [found] = [each for each in examine(place) if each.name == "library"]
    assert (found.state, found.cure) == ("ok", None)
    assert "not made yet" in found.found
    monkeypatch.setattr("pagelens.store.server.PATIENCE_TO_OPEN", 0.1)
    [found] = [each for each in examine(Place.of("http://127.0.0.1:1", tmp_path)) if each.name == "library"]
    assert found.state == "missing"
    assert "does not answer" in str(found.cure)


# where it lies


def test_a_place_is_named_whole(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--pages"):
        Place.of("http://localhost:6334")
    for more in ({"pages": "p"}, {"collection": "c"}, {"tenant": "t"}):
        with pytest.raises(UsageError, match="is a folder"):
            Place.of(tmp_path, **more)
    assert Place.of("http://h:1", "s3://bucket/pages").pages == "s3://bucket/pages"
    assert Place.of("http://h:1", "pages").pages == str(Path("pages").resolve())


def test_a_library_of_another_format_is_refused(
    running: Server, small_office: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Library(running.url, "words", pages=tmp_path, collection="old") as old:
        old.ingest(small_office / "lease.pdf", readers=1)
    monkeypatch.setattr("pagelens.places.FORMAT", 2)
    with pytest.raises(UsageError, match="has format 1, this version of pagelens reads format 2"):
        Library(running.url, pages=tmp_path, collection="old")


@pytest.mark.parametrize("root", ["s3://bucket/pages", "nothing://bucket/pages"])
def test_page_files_where_fsspec_cannot_go(root: str) -> None:
    if root.startswith("s3") and __import__("importlib.util").util.find_spec("s3fs"):
        pytest.skip("s3fs is installed")
    with pytest.raises((Missing, UsageError), match="page files at"):
        PageFiles(root)


# copies of page files


class Far:
    """fsspec's memory, counting what is read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, limit: int = 10**6) -> None:
        self.reads = 0
        self.files = PageFiles("memory://far", Cache(folder, limit))
        read = self.files._fs.cat_file

        def cat_file(path: str) -> bytes:
            self.reads += 1
            data: bytes = read(path)
            return data

        monkeypatch.setattr(self.files._fs, "cat_file", cat_file)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "cache"
    fsspec.filesystem("memory").store.clear()


def page_id(n: int) -> str:
    return f"0123456789abcdef#{n}"


def test_what_lies_far_away_is_read_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = Far(monkeypatch, folder)
    far.files.put(page_id(0), ".jpg", b"one")
    assert [far.files.get(page_id(0), ".jpg") for _ in range(3)] == [b"one"] * 3
    assert far.reads == 1


@pytest.mark.parametrize(
    ("error", "kind", "about"),
    [
        (PermissionError("Forbidden"), UsageError, "PermissionError: Forbidden; give its keys leave"),
        (RuntimeError("Unable to locate credentials"), LibraryBusy, "credentials; see that"),
        (ConnectionError(), LibraryBusy, "ConnectionError; see"),
    ],
)
def test_what_lies_far_away_and_cannot_be_had(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception], about: str
) -> None:
    files = PageFiles("memory://far", Cache(folder))
    files.put(page_id(0), ".jpg", b"one")

    def fail(*_: object, **__: object) -> None:
        raise error

    for name in ("cat_file", "exists", "find", "pipe_file"):
        monkeypatch.setattr(files._fs._fs, name, fail)
    for ask in (
        lambda: files.get(page_id(0), ".jpg"),
        lambda: files.put(page_id(0), ".jpg", b"two"),
        lambda: files.has(page_id(0), ".jpg"),
        lambda: list(files.names()),
        lambda: files.documents(),
    ):
        with pytest.raises(kind, match=f"memory://far: .*{about}"):
            ask()


def test_a_file_that_changed_is_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = Far(monkeypatch, folder)
    for data in (b"one", b"two", b"ten"):
        PageFiles("memory://far", Cache(folder)).put(page_id(0), ".jpg", data)  # as another process may
        assert [far.files.get(page_id(0), ".jpg") for _ in range(2)] == [data] * 2
    far.files.delete("0123456789abcdef")
    with pytest.raises(Exception, match="is gone"):
        far.files.get(page_id(0), ".jpg")


def test_a_damaged_copy_is_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = Far(monkeypatch, folder)
    far.files.put(page_id(0), ".jpg", b"one")
    far.files.get(page_id(0), ".jpg")
    [copy] = [path for path in folder.rglob("*") if path.is_file()]
    copy.write_bytes(copy.read_bytes()[:-1] + b"?")
    assert far.files.get(page_id(0), ".jpg") == b"one"


def test_copies_keep_to_their_limit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = Far(monkeypatch, folder, limit=10_000)
    for n in range(20):
        far.files.put(page_id(n), ".jpg", bytes([n]) * 1000)
        far.files.get(page_id(n), ".jpg")
        os.utime(max(folder.rglob("*/*"), key=lambda path: path.stat().st_mtime_ns), (n, n))
        far.files.get(page_id(0), ".jpg")  # used all the time
    kept = [path for path in folder.rglob("*/*") if path.is_file()]
    assert 5000 < sum(path.stat().st_size for path in kept) <= 10_000
    before = far.reads
    far.files.get(page_id(0), ".jpg")
    assert far.reads == before


def test_without_room_for_copies_nothing_is_lost(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write_text("not a folder")
    far = Far(monkeypatch, folder)
    far.files.put(page_id(0), ".jpg", b"one")
    assert far.files.get(page_id(0), ".jpg") == b"one"


def test_a_folder_needs_no_copies(tmp_path: Path) -> None:
    assert PageFiles(str(tmp_path))._cache is None
    assert Cache.default()._folder.name == "pages"
