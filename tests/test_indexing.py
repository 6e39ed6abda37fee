"""Ingest never loses a page, never repeats work, and says what it could not do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import PIL.Image
import PIL.ImageDraw
import pytest
from made import write_pdf

from pagelens import Library, Report, UsageError
from pagelens.ingest import pool, reading
from pagelens.records import SparseVector
from pagelens.store.plan import Where

TESSERACT = pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")
PAGES = [
    f"Page {n} of the harbour book\nThe {word} came in at dawn and left\nwith {n * 17} crates of salted fish"
    for n, word in enumerate(["schooner", "barge", "ferry", "tug", "cutter", "trawler"], start=1)
]


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two sound files and a broken one."""
    folder = tmp_path / "scans"
    write_pdf(folder / "boats.pdf", PAGES[:3])
    write_pdf(folder / "deep" / "more.pdf", PAGES[3:5])
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 and nothing more")
    return folder


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    """Words alone: no model is loaded."""
    with Library(tmp_path / "lib.pagelens", profile="words") as opened:
        yield opened


def counts(report: Report) -> tuple[int, int, int, int, int]:
    return report.added, report.changed, report.unchanged, report.removed, report.pages


def best(library: Library, question: str) -> str:
    hit = library.search(question, k=1)[0]
    return f"{hit.name}#{hit.page}"


def digest(library: Library) -> list[tuple[str, object, object]]:
    """Everything the index holds but times: what two equal libraries have in common."""
    kept: list[tuple[str, object, object]] = []
    for point in library._store.scroll(Where(), vectors=["bm25", "document_bm25"]):
        payload = {k: v for k, v in point.payload.items() if k not in ("home", "roots", "date", "files")}
        weights = {}
        for name, vector in point.vectors.items():
            assert isinstance(vector, SparseVector)
            weights[name] = sorted(zip(vector.indices.tolist(), vector.values.tolist(), strict=True))
        kept.append((point.id, payload, weights))
    return sorted(kept, key=lambda each: each[0])


def test_everything_is_found_and_the_broken_file_is_a_record(library: Library, scans: Path) -> None:
    report = library.ingest(scans)
    assert counts(report) == (2, 0, 0, 0, 5)
    assert [(Path(f.path).name, f.page, f.stage) for f in report.failed] == [("broken.pdf", None, "open")]
    assert best(library, "which day did the tug come") == "more.pdf#1"
    assert library.status()["failed"][0]["path"] == str(scans / "broken.pdf")
    assert list(library.check()) == []


def test_a_second_ingest_reads_nothing_and_still_names_the_failure(
    library: Library, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.ingest(scans)

    def never(*_: object) -> None:
        raise AssertionError("a page was read again")

    monkeypatch.setattr(pool.ReaderPool, "submit", never)
    report = library.ingest(scans)
    assert counts(report) == (0, 0, 2, 0, 0)
    assert [Path(f.path).name for f in report.failed] == ["broken.pdf"]


def test_a_failure_is_tried_again_when_asked_or_when_the_file_changed(library: Library, scans: Path) -> None:
    library.ingest(scans)
    assert len(library.ingest(scans, retry=True).failed) == 1
    write_pdf(scans / "broken.pdf", PAGES[5:])
    report = library.ingest(scans)
    assert counts(report)[0] == 1
    assert report.failed == []
    assert library.failures() == []
    assert best(library, "trawler") == "broken.pdf#1"


def test_one_content_under_two_names_is_stored_once(library: Library, scans: Path) -> None:
    shutil.copy(scans / "boats.pdf", scans / "copy.pdf")
    report = library.ingest(scans)
    assert report.pages == 5
    assert library.status()["documents"] == 2
    shutil.copy(scans / "boats.pdf", scans / "third.pdf")
    assert library.ingest(scans).pages == 0
    [document] = [p for p in library._documents() if len(p.payload["files"]) > 1]
    assert {Path(path).name for path in library._paths(document)} == {"boats.pdf", "copy.pdf", "third.pdf"}


def test_a_touched_file_is_hashed_not_read(library: Library, scans: Path) -> None:
    library.ingest(scans)
    os.utime(scans / "boats.pdf", (1, 1))
    report = library.ingest(scans)
    assert counts(report) == (0, 0, 2, 0, 0)


def test_a_changed_file_replaces_its_pages(library: Library, scans: Path) -> None:
    library.ingest(scans)
    write_pdf(scans / "boats.pdf", ["A cargo of oranges arrived"])
    report = library.ingest(scans)
    assert counts(report) == (0, 1, 1, 0, 1)
    assert best(library, "oranges") == "boats.pdf#1"
    assert library.status()["pages"] == 3
    assert len(library.search("schooner", k=9, stage="bm25")) == 0
    assert list(library.check()) == []


def test_a_file_overwritten_with_another_known_file(library: Library, scans: Path) -> None:
    library.ingest(scans)
    shutil.copy(scans / "deep" / "more.pdf", scans / "boats.pdf")
    report = library.ingest(scans)
    assert counts(report) == (0, 1, 1, 0, 0)
    assert library.status()["documents"] == 1


def test_missing_files_are_reported_and_pruned_only_when_asked(library: Library, scans: Path) -> None:
    library.ingest(scans)
    (scans / "boats.pdf").unlink()
    (scans / "broken.pdf").unlink()
    assert library.ingest(scans).removed == 0
    assert library.status()["missing"] == [str(scans / "boats.pdf")]
    report = library.ingest(scans, prune=True)
    assert report.removed == 2
    status = library.status()
    assert (status["documents"], status["pages"], status["failed"], status["missing"]) == (1, 2, [], [])
    assert list(library.check()) == []


def test_an_unmounted_disk_is_not_pruned(library: Library, scans: Path) -> None:
    library.ingest(scans)
    shutil.move(scans, scans.with_name("elsewhere"))
    scans.mkdir()
    with pytest.raises(UsageError, match="mounted"):
        library.ingest(scans, prune=True)
    assert library.status()["pages"] == 5


def test_a_file_goes_by_one_name_however_it_is_reached(library: Library, scans: Path) -> None:
    library.ingest(scans / "deep")
    library.ingest(scans)
    library.ingest(scans / "deep" / "more.pdf")
    paths = [path for point in library._documents() for path in library._paths(point)]
    assert sorted(paths) == [str(scans / "boats.pdf"), str(scans / "deep" / "more.pdf")]


def test_library_and_files_can_be_moved_together(tmp_path: Path) -> None:
    write_pdf(tmp_path / "old" / "scans" / "boats.pdf", PAGES[:2])
    with Library(tmp_path / "old" / "lib.pagelens", profile="words") as library:
        library.ingest(tmp_path / "old" / "scans")
    shutil.move(tmp_path / "old", tmp_path / "new")
    with Library(tmp_path / "new" / "lib.pagelens") as library:
        assert library.search("schooner")[0].path == str(tmp_path / "new" / "scans" / "boats.pdf")
        assert library.status()["missing"] == []
        assert counts(library.ingest(tmp_path / "new" / "scans")) == (0, 0, 1, 0, 0)


def test_a_library_among_its_files_does_not_read_itself(tmp_path: Path) -> None:
    write_pdf(tmp_path / "boats.pdf", PAGES[:2])
    (tmp_path / "up").symlink_to(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "library.json").write_text("[]")  # somebody else's
    write_pdf(tmp_path / "other" / "more.pdf", PAGES[2:3])
    for counted in ((2, 0, 0, 0, 3), (0, 0, 2, 0, 0)):
        with Library(tmp_path / "lib.pagelens", profile="words") as library:
            assert counts(library.ingest(tmp_path)) == counted
            with pytest.raises(UsageError, match="is a library; name the files"):
                library.ingest(tmp_path / "lib.pagelens")


def test_a_changed_encoder_makes_its_vectors_anew_and_reads_nothing(
    library: Library, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.ingest(scans)
    before = digest(library)
    report = library.ingest(
        scans, languages=["deu"]
    )  # other stop words and stems; a text layer has no language
    assert (report.pages, report.encoded) == (0, 5)
    assert digest(library) != before
    assert library.search("schooner")[0].name == "boats.pdf"
    report = library.ingest(scans, languages=["eng"])
    assert (report.pages, report.encoded) == (0, 5)
    assert digest(library) == before


def test_metadata_are_joined_filtered_by_and_changed_without_reading(library: Library, scans: Path) -> None:
    table = scans.parent / "boxes.csv"
    table.write_text(
        "path,box,date\nscans/boats.pdf,12,1987-03-31\nmore.pdf,13,\nlost.pdf,14,\n", encoding="utf-8"
    )
    said: list[str] = []
    library.ingest(scans, metadata=table, say=said.append)
    assert any("1 rows" in line and "lost.pdf" in line for line in said)
    [boats] = library.search(
        "came in at dawn", k=9, filter={"box": "12", "date": ["1987-01-01", "1987-12-31"], "page": 2}
    )
    assert (boats.name, boats.page) == ("boats.pdf", 2)
    table.write_text("path,box\nscans/boats.pdf,99\n", encoding="utf-8")
    report = library.ingest(scans, metadata=table)
    assert report.pages == 0
    assert {h.name for h in library.search("came in at dawn", k=9, filter={"box": "99"})} == {"boats.pdf"}
    assert len(library.search("came in at dawn", k=9, filter={"box": "12"})) == 0
    with pytest.raises(UsageError, match="shelf"):
        library.search("dawn", filter={"shelf": "1"})


@pytest.mark.parametrize(
    ("table", "complaint"),
    [("file,box\na.pdf,1\n", "column 'path'"), ("path,date\nboats.pdf,31.3.1987\n", "line 2")],
)
def test_metadata_that_cannot_be_joined(library: Library, scans: Path, table: str, complaint: str) -> None:
    path = scans.parent / "bad.csv"
    path.write_text(table, encoding="utf-8")
    with pytest.raises(UsageError, match=complaint):
        library.ingest(scans, metadata=path)


def test_damage_is_found(library: Library, scans: Path) -> None:
    library.ingest(scans)
    images = sorted((library.folder / "pages").rglob("*.jpg"))
    images[0].write_bytes(b"not a picture")
    images[1].unlink()
    faults = [finding for finding in library.check() if finding.is_fault]
    assert len(faults) == 2
    assert {finding.kind for finding in faults} == {"damaged"}
    [damaged] = [finding for finding in faults if "image is damaged" in finding.about]
    doc_id, number = images[0].parent.name, int(images[0].stem)
    assert damaged.name == f"{doc_id}#{number}"
    name = "boats.pdf" if len(list(images[0].parent.glob("*.words.*"))) == 3 else "deep/more.pdf"
    assert damaged.place == f"{name}, page {number + 1}"


def test_a_full_disk_is_refused_before_pages_are_read(
    library: Library, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(library._files), "free", lambda _: 1_000_000)
    with pytest.raises(OSError, match=r"5 pages need about .* GB"):
        library.ingest(scans)
    assert library.status()["pages"] == 0
    monkeypatch.undo()
    assert library.ingest(scans).pages == 5


def test_an_estimate_counts_and_stores_nothing(library: Library, scans: Path) -> None:
    estimate = library.estimate(scans)
    assert (estimate.files, estimate.unreadable, estimate.pages, estimate.sampled) == (3, 1, 5, 5)
    library.ingest(scans)
    stored = library.status()["bytes"]
    assert estimate.bytes["images"] == stored["images"]
    assert estimate.bytes["words"] == pytest.approx(stored["words"], rel=0.5)


INGEST = """
import sys
from pagelens import Library
with Library(sys.argv[1], profile="words") as library:
    library.ingest(sys.argv[2], readers=2, regions=False)
"""


@pytest.mark.parametrize("seconds", [0.3, 0.6, 0.9])
def test_killed_in_the_middle_and_resumed(tmp_path: Path, seconds: float) -> None:
    """kill -9 of the whole process group; the same index as an undisturbed run, none missing, none twice."""
    scans = tmp_path / "scans"
    for n in range(6):
        write_pdf(
            scans / f"{n}.pdf", [f"{page}\nbook {n}, leaf {leaf}" for leaf, page in enumerate(PAGES * 2)]
        )
    process = subprocess.Popen(
        [sys.executable, "-c", INGEST, str(tmp_path / "killed"), str(scans)], start_new_session=True
    )
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for name in ("killed", "whole"):
        with Library(tmp_path / name, profile="words") as library:
            library.ingest(scans, regions=False)
            assert list(library.check()) == []
            made = digest(library)
        if name == "killed":
            resumed = made
    assert resumed == made


def test_ctrl_c_leaves_a_sound_index(tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    write_pdf(scans / "long.pdf", PAGES * 60)  # long enough not to be over before the signal comes
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "pagelens.cli",
            "ingest",
            str(scans),
            "--library",
            str(tmp_path / "lib"),
            "--profile",
            "words",
            "--no-regions",
        ],
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 30
    while len(list((tmp_path / "lib" / "pages").rglob("*.jpg"))) < 40:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    _, said = process.communicate(timeout=30)
    assert time.monotonic() - started < 5
    assert process.returncode == 130, said.decode()
    with Library(tmp_path / "lib") as library:
        assert 0 < library.status()["pages"] < 360
        library.ingest(scans, regions=False)
        assert library.status()["pages"] == 360
        assert list(library.check()) == []


def test_a_file_whose_name_is_not_text_is_named_and_the_rest_goes_on(library: Library, scans: Path) -> None:
    (scans / "boats.pdf").rename(os.fsdecode(os.fsencode(scans) + b"/b\xf6te.pdf"))
    report = library.ingest(scans)
    assert report.added == 1
    assert {Path(f.path).name for f in report.failed} == {"broken.pdf", "b\\udcf6te.pdf"}


def test_what_was_made_otherwise_is_stale(
    library: Library, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.ingest(scans)
    assert library.status()["stale"] == {}
    from pagelens.ingest.reading import ReadSettings

    monkeypatch.setattr(ReadSettings, "image_signature", "another engine 300 DPI")
    assert library.status()["stale"] == {"image": 5}
    report = library.ingest(scans)
    assert counts(report) == (0, 2, 0, 0, 5)
    assert library.status()["stale"] == {}


@TESSERACT
def test_a_layer_read_under_other_rules_is_judged_again(
    library: Library, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = PIL.Image.new("RGB", (800, 400), "white")
    PIL.ImageDraw.Draw(scan).text((60, 60), "Harbour dues", fill="black", font_size=60)
    scan.save(scans / "scan.png", dpi=(200, 200))
    with monkeypatch.context() as earlier:
        earlier.setattr(reading, "RULES", 1)
        library.ingest(scans)
    assert library.status()["stale"] == {"words": 5}
    report = library.ingest(scans)
    assert counts(report) == (0, 2, 1, 0, 5)  # what OCR read is left as it is
    assert library.status()["stale"] == {}


def test_an_encrypted_file_is_read_once_its_password_is_given(library: Library, scans: Path) -> None:
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(
        PdfReader(write_pdf(scans.parent / "plain.pdf", ["The cellar key hangs in the pantry"]))
    )
    writer.encrypt("sesame", algorithm="RC4-128")
    writer.write(scans / "locked.pdf")
    for password in (None, "mustard"):
        failed = {Path(f.path).name: f.reason for f in library.ingest(scans, password=password).failed}
        assert "--password" in failed["locked.pdf"]
        assert "mustard" not in failed["locked.pdf"]
    assert library.ingest(scans, password="sesame").added == 1
    assert best(library, "cellar key") == "locked.pdf#1"
    assert "sesame" not in "".join(
        path.read_bytes().decode("latin-1") for path in library.folder.rglob("*.*") if path.is_file()
    )


def test_a_folder_of_images_is_one_document(library: Library, tmp_path: Path) -> None:
    import pypdfium2

    pages = pypdfium2.PdfDocument(write_pdf(tmp_path / "book.pdf", PAGES[:3]))
    for number in range(3):
        name = tmp_path / "shots" / "diary" / f"{number + 9}.png"  # 9, 10, 11: in the order people count
        name.parent.mkdir(parents=True, exist_ok=True)
        pages[number].render(scale=3).to_pil().save(name, dpi=(216, 216))
    report = library.ingest(tmp_path / "shots", item_per_folder=True)
    assert (report.added, report.pages, report.failed) == (1, 3, [])
    hit = library.search("the barge came in", k=1)[0]
    assert (Path(hit.path).name, hit.page) == ("diary", 2)
    assert counts(library.ingest(tmp_path / "shots", item_per_folder=True)) == (0, 0, 1, 0, 0)
