"""Page files are whole or not there, wherever they lie."""

from __future__ import annotations

import errno
import gzip
import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import fsspec
import PIL.Image
import pytest

from pagelens.errors import DocumentError, UsageError
from pagelens.records import Box, Page, PageContent, PageText, Word
from pagelens.store.pages import PageFiles

DOC = "0123456789abcdef"
WORDS = (
    Word("Überschrift", Box(10.123, 20, 30, 40.5), 0, None),
    Word("«1.250»", Box(35, 20, 60, 40), 0, 0.93),
    Word("𝔘nten", Box(10, 700, 90, 720), 1, 0.5),
)


def content(number: int = 0, doc_id: str = DOC, size: int = 40) -> PageContent:
    picture = BytesIO()
    PIL.Image.effect_noise((size, size), 90).save(picture, "JPEG")
    return PageContent(Page(doc_id, number, 595, 842), picture.getvalue(), PageText(WORDS, "tesseract"))


@pytest.fixture(params=["folder", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "folder":
        yield str(tmp_path / "scans [2020]" / "pages")
        return
    yield "memory://scans [2020]/pages"
    fsspec.filesystem("memory").store.clear()


def test_what_was_written_is_read(root: str) -> None:
    files, other = PageFiles(root), content(12)
    for each in (content(), other):
        files.write(each)
    assert files.image(f"{DOC}#12") == other.jpeg
    text = files.text(f"{DOC}#12")
    assert text.source == "tesseract"
    assert [word.text for word in text.words] == [word.text for word in WORDS]
    assert [word.confidence for word in text.words] == [None, 0.93, 0.5]
    assert text.words[0].box == Box(10.12, 20, 30, 40.5)  # a hundredth of a point is kept
    assert text.lines == [list(text.words[:2]), list(text.words[2:])]


def test_names_are_as_documented(tmp_path: Path) -> None:
    PageFiles(str(tmp_path)).write(content(3))
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert found == [f"01/{DOC}/3.jpg", f"01/{DOC}/3.words.json.gz"]


def test_the_same_page_gives_the_same_bytes(root: str) -> None:
    """Digests are compared across runs; a time in the gzip header would change them."""
    page = content()
    files = PageFiles(root)
    assert files.write(page) == files.write(page)
    assert files.words_file(f"{DOC}#0")[4:8] == bytes(4)  # MTIME of RFC 1952


def test_a_document_is_deleted_with_all_its_files(root: str) -> None:
    files, other = PageFiles(root), "fedcba9876543210"
    for page in (content(0), content(1), content(0, other)):
        files.write(page)
    assert files.documents() == {DOC, other}
    files.delete(DOC)
    files.delete(DOC)
    assert files.documents() == {other}
    with pytest.raises(DocumentError):
        files.image(f"{DOC}#0")
    assert files.image(f"{other}#0")


def test_sizes_add_up(root: str) -> None:
    files = PageFiles(root)
    assert files.size() == {"images": 0, "words": 0, "features": 0}
    pages = [content(number, size=80) for number in range(3)]
    for page in pages:
        files.write(page)
    images = sum(len(page.jpeg) for page in pages)
    words = sum(len(files.words_file(page.page.page_id)) for page in pages)
    assert files.size() == {"images": images, "words": words, "features": 0}


def test_room_is_known_for_folders_alone(tmp_path: Path) -> None:
    assert (PageFiles(str(tmp_path / "not" / "made")).free() or 0) > 0
    assert PageFiles("memory://pages").free() is None


@pytest.mark.parametrize("page_id", ["", "0123", f"{DOC}#", f"{DOC}#x", f"{DOC}#1/../../x", f"../{DOC}#1"])
def test_what_is_no_page_id_is_refused(root: str, page_id: str) -> None:
    with pytest.raises(UsageError, match="no page id"):
        PageFiles(root).image(page_id)


@pytest.mark.parametrize("suffix", [".jpg", ".words.json.gz"])
def test_what_is_lost_says_page_and_cure(tmp_path: Path, suffix: str) -> None:
    files = PageFiles(str(tmp_path))
    files.write(content(4))
    path = tmp_path / "01" / DOC / f"4{suffix}"
    read = files.image if suffix == ".jpg" else files.text
    whole = path.read_bytes()
    others: list[object] = [[], {"schema": 1}, {"schema": 2, "source": "layer", "words": []}]
    broken = [whole[: len(whole) // 2], b"", b"\0" * len(whole), whole[1:]]
    if suffix != ".jpg":
        broken.append(whole[:40] + bytes(255 - byte for byte in whole[40:60]) + whole[60:])
        broken += [gzip.compress(json.dumps(each).encode()) for each in others]
    for data in broken:
        path.write_bytes(data)
        with pytest.raises(DocumentError, match=f"page {DOC}#4: .*damaged.*`pagelens remove {DOC}`") as told:
            read(f"{DOC}#4")
        assert (told.value.stage, told.value.page) == ("store", 4)
    path.unlink()
    with pytest.raises(DocumentError, match=f"page {DOC}#4: .*gone.*`pagelens remove {DOC}`"):
        read(f"{DOC}#4")


def test_killed_while_writing_leaves_old_or_new_but_no_half(tmp_path: Path) -> None:
    """The same page is written over and over by a process that is killed at random moments."""
    code = """
import sys
from pagelens.records import Page, PageContent, PageText
from pagelens.store.pages import PageFiles
files = PageFiles(sys.argv[1])
images = [b"\\xff\\xd8" + bytes([n]) * 3_000_000 + b"\\xff\\xd9" for n in range(1, 9)]
print("go", flush=True)
while True:
    for jpeg in images:
        files.write(PageContent(Page("0123456789abcdef", 0, 1, 1), jpeg, PageText((), "layer")))
"""
    dice = random.Random(0)
    for _ in range(6):
        writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(dice.uniform(0.03, 0.12))
        writer.kill()
        writer.wait()
        writer.stdout.close()
        path = tmp_path / "01" / DOC / "0.jpg"
        if path.exists():
            data = path.read_bytes()
            assert len(data) == 3_000_004 and len(set(data[2:-2])) == 1


def test_two_writers_of_one_page_never_show_a_half(tmp_path: Path) -> None:
    code = """
import sys
from pagelens.records import Page, PageContent, PageText
from pagelens.store.pages import PageFiles
files = PageFiles(sys.argv[1])
jpeg = b"\\xff\\xd8" + sys.argv[2].encode() * 3_000_000 + b"\\xff\\xd9"
for _ in range(12):
    files.write(PageContent(Page("0123456789abcdef", 0, 1, 1), jpeg, PageText((), "layer")))
"""
    writers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), each]) for each in "ab"]
    path = tmp_path / "01" / DOC / "0.jpg"
    seen = 0
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            data = path.read_bytes()
            assert len(data) == 3_000_004 and len(set(data[2:-2])) == 1
            seen += 1
    assert [writer.wait() for writer in writers] == [0, 0]
    assert seen
    assert sorted(each.name for each in path.parent.iterdir()) == ["0.jpg", "0.words.json.gz"]


def test_a_full_disk_says_so_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, page = PageFiles(str(tmp_path)), content()
    files.write(page)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="free some space") as told:
        files.write(content(0, size=90))
    assert told.value.errno == errno.ENOSPC
    assert files.image(f"{DOC}#0") == page.jpeg
    assert len(list((tmp_path / "01" / DOC).iterdir())) == 2


def test_pages_are_on_the_disk_before_they_have_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut must not leave an empty file under a good name."""
    order: list[str] = []
    replace = Path.replace
    monkeypatch.setattr("os.fsync", lambda _: order.append("sync"))

    def noted(part: Path, path: Path) -> Path:
        order.append("rename")
        return replace(part, path)

    monkeypatch.setattr(Path, "replace", noted)
    PageFiles(str(tmp_path)).write(content())
    assert order == ["sync", "rename"] * 2
