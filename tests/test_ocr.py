"""OCR engines, what they are asked and what they may do; how scans are put right."""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import PIL.ImageOps
import pypdfium2
import pytest
from made import write_pdf

from pagelens import DocumentError
from pagelens.errors import Missing
from pagelens.ingest import ocr
from pagelens.ingest.documents import open_document
from pagelens.ingest.reading import ReadSettings, read_page
from pagelens.ingest.repair import find_lines, without_margins
from pagelens.records import Box, PageContent, Word

TESSERACT = pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")
LINES = [
    "The quick brown fox jumps over the lazy dog and goes home",
    "Sphinx of black quartz judge my vow before the evening comes",
    "Pack my box with five dozen jugs of cider from the harbour",
]


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> PIL.Image.Image:
    """A page of nine lines at 150 DPI, L."""
    path = write_pdf(tmp_path_factory.mktemp("page") / "a.pdf", ["\n".join(LINES * 3)])
    picture: PIL.Image.Image = pypdfium2.PdfDocument(path)[0].render(scale=150 / 72).to_pil()
    return picture.convert("L")


def scanned(picture: PIL.Image.Image, path: Path, settings: ReadSettings | None = None) -> PageContent:
    """What is read on the picture as a PNG file of 150 DPI."""
    picture.save(path, dpi=(150, 150))
    document = open_document(path)
    try:
        return read_page(document, 0, settings or ReadSettings())
    finally:
        document.close()


def turned(picture: PIL.Image.Image, degrees: float) -> PIL.Image.Image:
    """Counter-clockwise, on white."""
    return picture.rotate(degrees, PIL.Image.Resampling.BICUBIC, expand=True, fillcolor=255)


def right(content: PageContent) -> float:
    """Share of the page's words that were read."""
    wanted = " ".join(LINES).split()
    read = [word.text for word in content.text.words]
    return sum(min(3, read.count(word)) for word in set(wanted)) / (3 * len(set(wanted)))


# scan repair


@pytest.mark.parametrize("quarter", [0, 90, 180, 270])
@pytest.mark.parametrize("skew", [-8.0, -3.3, 0.0, 0.7, 2.0, 5.0])
def test_how_lines_lie_is_seen_from_the_picture(page: PIL.Image.Image, quarter: int, skew: float) -> None:
    lines = find_lines(turned(page, quarter + skew))
    assert lines.sideways == (quarter in (90, 270))
    assert lines.distinct
    assert lines.skew == pytest.approx(-skew, abs=0.2)


def test_nothing_is_said_of_a_picture_without_lines() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (800, 600), dtype=np.uint8)
    for picture in (
        PIL.Image.fromarray(noise),
        PIL.Image.new("L", (800, 600), 255),
        PIL.Image.new("L", (1, 1)),
    ):
        lines = find_lines(picture)
        assert not lines.distinct
        assert lines.skew == 0


@TESSERACT
@pytest.mark.parametrize("degrees", [0.0, 0.5, 90.0, 180.0, 270.0, 4.0, 176.0, 93.0])
def test_a_scan_is_straightened_and_its_words_stand_in_the_straight_page(
    page: PIL.Image.Image, tmp_path: Path, degrees: float
) -> None:
    content = scanned(turned(page, degrees), tmp_path / "a.png")
    off = (degrees + content.page.turned + 180) % 360 - 180
    assert abs(off) <= (0.2 if abs(degrees) > 1 else 1)
    assert right(content) > 0.95
    # The stored picture is the straight one, and has the page's shape.
    assert content.image.width / content.image.height == pytest.approx(
        content.page.width / content.page.height, rel=0.01
    )
    assert abs(find_lines(content.image).skew) < 1
    assert not find_lines(content.image).sideways
    # Words are where the ink is, and one line is level.
    grey = content.image.convert("L")
    scale = grey.width / content.page.width
    first = [word for word in content.text.words if word.line == content.text.words[0].line]
    for word in content.text.words:
        left, top, right_, bottom = (round(edge * scale) for edge in word.box)
        assert np.asarray(grey)[top:bottom, left:right_].min() < 128
    assert max(w.box.bottom for w in first) - min(w.box.bottom for w in first) < 8


@TESSERACT
def test_a_small_picture_is_enlarged_for_ocr_and_stored_as_it_is(
    page: PIL.Image.Image, tmp_path: Path
) -> None:
    small = page.resize((page.width * 2 // 3, page.height * 2 // 3), PIL.Image.Resampling.LANCZOS)
    small.save(tmp_path / "a.png", dpi=(100, 100))
    document = open_document(tmp_path / "a.png")
    content = read_page(document, 0, ReadSettings())
    document.close()
    assert content.image.size == small.size
    assert right(content) > 0.9
    assert content.text.words[0].box.left == pytest.approx(60, abs=3)  # in points, where write_pdf sets it


# engines


@TESSERACT
def test_writing_in_a_picture_is_found_where_a_page_gives_none(
    page: PIL.Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    words = [Word("harbour", Box(1, 1, 9, 9), 0, 0.9), Word("office", Box(11, 1, 19, 9), 0, 0.9)]

    def tesseract(*arguments: object) -> list[Word]:
        asked.append(arguments[-1])  # type: ignore[arg-type]
        return found if arguments[-1] == ocr.ANYWHERE else []

    monkeypatch.setattr(ocr, "tesseract", tesseract)
    found = words
    assert ocr.read(page, 150, "tesseract", ("eng",), 9).words == words
    assert asked == [ocr.WHOLE_PAGE, ocr.ANYWHERE]
    found = [Word(text, Box(1, 1, 9, 9), 0, 0.9) for text in ("a", "=", "~", "Le")]  # of a photograph
    assert ocr.read(page, 150, "tesseract", ("eng",), 9).words == []


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """A `tesseract` before the real one on the path."""
    folder.mkdir()
    imports = "import os, signal, sys, time\nout = sys.argv[min(2, len(sys.argv) - 1)] + '.tsv'"
    (folder / "tesseract").write_text(f"#!{sys.executable}\n{imports}\n{body}\n")
    (folder / "tesseract").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


HEADER = "level page_num block_num par_num line_num word_num left top width height conf text".replace(
    " ", "\\t"
)
ENGINES = {
    "exits with 3": ("sys.exit(3)", "exit code 3"),
    "hangs": ("time.sleep(60)", "took longer than"),
    "kills itself": ("os.kill(os.getpid(), signal.SIGKILL)", "memory"),
    "crashes": ("os.kill(os.getpid(), signal.SIGSEGV)", "signal 11|-11"),
    "writes no text": ("open(out, 'wb').write(b'\\xff\\xfe\\x00' * 9)", "no table"),
    "writes nothing": ("pass", "could not be run|no table"),
    "writes an empty table": ("open(out, 'w').write('')", "no table"),
    "writes other columns": ("open(out, 'w').write('a\\tb\\n1\\t2\\n')", "no table"),
    "writes words for numbers": (
        f"open(out, 'w').write('{HEADER}\\n5\\t1\\t1\\t1\\t1\\t1\\tx\\ty\\t9\\t9\\t90\\tword\\n')",
        "no table",
    ),
}


@pytest.mark.parametrize("name", ENGINES)
def test_whatever_the_program_does_is_a_failure_of_the_page(
    page: PIL.Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    body, reason = ENGINES[name]
    program(tmp_path / "bin", monkeypatch, body)
    started = time.monotonic()
    with pytest.raises(DocumentError, match=reason) as caught:
        ocr.read(page, 150, "tesseract", ("eng",), 1)
    assert caught.value.stage == "text"
    assert time.monotonic() - started < 5


def test_the_program_is_asked_in_the_languages_and_with_one_thread(
    page: PIL.Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_THREAD_LIMIT", raising=False)
    said = tmp_path / "said"
    row = "5\\t1\\t1\\t1\\t1\\t1\\t10\\t20\\t30\\t40\\t87\\tword"
    body = (
        f"open({str(said)!r}, 'a').write(' '.join(sys.argv[3:]) + os.environ['OMP_THREAD_LIMIT'])\n"
        f"open(out, 'w').write('{HEADER}\\n{row}\\n')"
    )
    program(tmp_path / "bin", monkeypatch, body)
    reading = ocr.read(page, 203.4, "tesseract", ("deu", "eng"), 9)
    assert reading.words == [Word("word", Box(10, 20, 40, 60), 0, 0.87)]
    assert "-l deu+eng" in said.read_text()
    assert "--dpi 203" in said.read_text()
    assert said.read_text().endswith("1")


def test_the_time_of_a_page_is_shared_by_all_its_readings(
    page: PIL.Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each reading takes 1 s and finds a word it is not sure of: the page is turned and read again."""
    row = "5\\t1\\t1\\t1\\t1\\t1\\t10\\t20\\t30\\t40\\t10\\tunsure"
    program(tmp_path / "bin", monkeypatch, f"time.sleep(1)\nopen(out, 'w').write('{HEADER}\\n{row}\\n')")
    started = time.monotonic()
    with pytest.raises(DocumentError, match="took longer than"):
        scanned(page, tmp_path / "a.png", ReadSettings(page_seconds=1.5))
    assert time.monotonic() - started < 4


def test_an_engine_is_chosen_and_its_languages_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "bin", monkeypatch, "print('List of languages (2):\\neng\\nchi_sim')")
    assert ocr.choose(None, ("eng", "chi_sim")) == "tesseract"
    with pytest.raises(Missing, match="lacks deu.fra; .*tesseract-ocr-deu tesseract-ocr-fra"):
        ocr.choose(None, ("eng", "deu", "fra"))
    with pytest.raises(Missing, match="tesseract-ocr-chi-tra"):
        ocr.choose("tesseract", ("chi_tra",))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Missing, match="tesseract is not installed"):
        ocr.choose("tesseract", ("eng",))
    monkeypatch.setattr(ocr, "_rapidocr_is_there", lambda: False)
    with pytest.raises(Missing, match="no OCR engine"):
        ocr.choose(None, ("eng",))
    monkeypatch.setattr(ocr, "_rapidocr_is_there", lambda: True)
    assert ocr.choose(None, ("eng", "deu")) == "rapidocr"
    with pytest.raises(Missing, match="rapidocr cannot read rus"):
        ocr.choose("rapidocr", ("eng", "rus"))


# margins


def framed(picture: PIL.Image.Image, level: int = 12) -> PIL.Image.Image:
    """With 60 dark pixels around it."""
    larger = PIL.Image.new("L", (picture.width + 120, picture.height + 120), level)
    larger.paste(picture, (60, 60))
    return larger


def test_what_lies_beside_the_paper_is_made_white(page: PIL.Image.Image) -> None:
    cleaned = np.asarray(without_margins(framed(page)))
    assert cleaned.min(axis=1)[:60].min() == 255 and cleaned.min(axis=0)[-60:].min() == 255
    assert np.array_equal(cleaned[64:-64, 64:-64], np.asarray(page)[4:-4, 4:-4])


def test_a_page_without_margins_and_a_dark_one_are_left_alone(page: PIL.Image.Image) -> None:
    slide = PIL.ImageOps.invert(page)
    for picture in (page, slide, framed(slide), PIL.Image.new("L", (3, 2), 255)):
        assert without_margins(picture) is picture


@TESSERACT
def test_a_framed_scan_is_read_like_one_without_and_shown_as_it_is(
    page: PIL.Image.Image, tmp_path: Path
) -> None:
    plain, scan = scanned(page, tmp_path / "plain.png"), scanned(framed(page), tmp_path / "framed.png")
    assert scan.text.text == plain.text.text
    assert np.asarray(scan.image.convert("L"))[:50].max() < 60
    first, there = plain.text.words[0].box, scan.text.words[0].box
    assert there.left - first.left == pytest.approx(60 * 72 / 150, abs=1)


# rapidocr


@pytest.fixture(scope="session")
def rapidocr() -> None:
    if not ocr._rapidocr_is_there():
        pytest.skip("rapidocr is not installed (pagelens[offline])")


@pytest.mark.usefixtures("rapidocr")
def test_rapidocr_boxes_words(page: PIL.Image.Image) -> None:
    strip = page.crop((0, 60, page.width, 260))
    reading = ocr.read(strip, 150, "rapidocr", ("eng",), 60)
    lines: dict[int, list[Word]] = {}
    for word in reading.words:
        lines.setdefault(word.line, []).append(word)
    assert [" ".join(word.text for word in line) for line in lines.values()][:3] == LINES
    for line in lines.values():
        for one, other in zip(line, line[1:], strict=False):
            assert one.box.right <= other.box.left + 4
    assert reading.confidence > 0.9


@pytest.mark.usefixtures("rapidocr")
def test_rapidocr_puts_a_page_on_its_head_right(page: PIL.Image.Image, tmp_path: Path) -> None:
    strip = page.crop((0, 60, page.width, 260))
    settings = ReadSettings(ocr="rapidocr", page_seconds=300)
    content = scanned(turned(strip, 180), tmp_path / "head.png", settings)
    assert content.page.turned == 180
    assert content.text.text.splitlines()[0] == LINES[0]


TABLE = ["Item Quantity Price", "Lantern 12 3.50", "Rope 7 18.25", "Sailcloth 31 9.99"]


@pytest.mark.usefixtures("rapidocr")
@pytest.mark.parametrize("lean", [0.0, 0.9, -0.9])
def test_rapidocr_reads_a_table_row_by_row(lean: float) -> None:
    picture = PIL.Image.new("L", (1600, 500), 255)
    draw = PIL.ImageDraw.Draw(picture)
    for row, cells in enumerate(TABLE):
        for column, cell in enumerate(cells.split()):
            place = 150 + 480 * column, 100 + 70 * row + 3 * (column % 2)
            draw.text(place, cell, fill=0, font=PIL.ImageFont.load_default(32))
    words = ocr.read(turned(picture, lean), 250, "rapidocr", ("eng",), 60).words
    assert [word.text for word in words] == " ".join(TABLE).split()
    assert sorted({word.line for word in words}) == list(range(12))  # cells, not rows


@pytest.mark.usefixtures("rapidocr")
def test_rapidocr_has_the_letters_of_its_languages() -> None:
    import rapidocr as package
    from onnxruntime import InferenceSession

    [model] = (Path(package.__file__).parent / "models").glob("*_rec_*.onnx")
    letters = set(InferenceSession(model).get_modelmeta().custom_metadata_map["character"].split("\n"))
    alphabets = {
        "deu": "äöüßÄÖÜ", "fra": "àâæçéèêëîïôœùûüÿ", "pol": "ąćęłńóśźż", "ces": "áčďéěíňóřšťúůýž",
        "hun": "áéíóöőúüű", "ron": "ăâîșț", "tur": "çğıöşüİ", "lit": "ąčęėįšųūž", "lav": "āčēģīķļņšūž",
        "dan": "æøå", "isl": "áðéíóúýþæö", "por": "ãõáâàçéêíóôú", "jpn": "日本あア", "mlt": "ċġħż",
    }  # fmt: skip
    for language, alphabet in alphabets.items():
        assert language in ocr.RAPIDOCR_LANGUAGES.split()
        assert set(alphabet) <= letters, language
    for language, alphabet in {"rus": "жшщ", "kor": "한", "hin": "अ", "vie": "ạả"}.items():
        assert language not in ocr.RAPIDOCR_LANGUAGES.split()
        assert not set(alphabet) <= letters, language
