"""From a path to page contents: formats, geometry, trust in text layers, engines that misbehave."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pypdfium2
import pytest
from made import add_picture, write_pdf

from pagelens import DocumentError, UsageError
from pagelens.ingest import ocr
from pagelens.ingest.documents import open_document
from pagelens.ingest.pictures import alone
from pagelens.ingest.pool import ReaderPool, Task
from pagelens.ingest.reading import ReadSettings, read_page
from pagelens.ingest.sources import find, kind
from pagelens.ingest.text import distrust
from pagelens.records import Box, PageContent, PageText, Word

TESSERACT = pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")
TEXT = (
    "The quick brown fox jumps over the lazy dog\nSphinx of black quartz judge my vow\nTotal due 4310 euros"
)
DATA = os.environ.get("PAGELENS_DATA")
REAL = pytest.mark.skipif(DATA is None, reason="PAGELENS_DATA names no folder of real documents")


def read(path: Path, number: int = 0, settings: ReadSettings | None = None) -> PageContent:
    document = open_document(path)
    try:
        return read_page(document, number, settings or ReadSettings())
    finally:
        document.close()


def picture(path: Path, dpi: int = 200) -> PIL.Image.Image:
    """The first page of a PDF, drawn."""
    image: PIL.Image.Image = pypdfium2.PdfDocument(path)[0].render(scale=dpi / 72).to_pil()
    return image


# geometry of the text layer


def poppler_words(path: Path) -> list[tuple[str, Box]]:
    """What poppler reads on page 1: boxes in points, top-left origin, of the page as shown."""
    out = subprocess.run(
        ["pdftotext", "-bbox", "-cropbox", "-f", "1", "-l", "1", path, "-"], capture_output=True, check=True
    )
    words = ET.fromstring(out.stdout).iter("{http://www.w3.org/1999/xhtml}word")
    return [
        (word.text or "", Box(*(float(word.attrib[key]) for key in ("xMin", "yMin", "xMax", "yMax"))))
        for word in words
    ]


@pytest.mark.skipif(
    shutil.which("pdftotext") is None, reason="poppler's pdftotext is the oracle and not installed"
)
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("cropped", [False, True])
def test_words_stand_where_poppler_sees_them(tmp_path: Path, rotation: int, cropped: bool) -> None:
    pdf = pypdfium2.PdfDocument(write_pdf(tmp_path / "plain.pdf", [TEXT]))
    pdf[0].set_rotation(rotation)
    if cropped:
        pdf[0].set_cropbox(30, 400, 560, 820)
    pdf.save(tmp_path / "turned.pdf")
    content = read(tmp_path / "turned.pdf")
    expected = poppler_words(tmp_path / "turned.pdf")
    assert sorted(word.text for word in content.text.words) == sorted(text for text, _ in expected)
    shown = (420, 530) if cropped else (842, 595)
    wanted = shown if rotation in (90, 270) else shown[::-1]
    assert (content.page.width, content.page.height) == pytest.approx(wanted)
    places = dict(expected)
    for word in content.text.words:  # pdfium boxes the ink, poppler the line
        theirs = places[word.text]
        assert (word.box.left + word.box.right) / 2 == pytest.approx((theirs.left + theirs.right) / 2, abs=4)
        assert (word.box.top + word.box.bottom) / 2 == pytest.approx((theirs.top + theirs.bottom) / 2, abs=4)


def test_the_page_image_shows_the_words_in_their_boxes(tmp_path: Path) -> None:
    content = read(write_pdf(tmp_path / "a.pdf", [TEXT]))
    grey = np.asarray(content.image.convert("L"))
    scale = grey.shape[1] / content.page.width
    for word in content.text.words:
        left, top, right, bottom = (round(edge * scale) for edge in word.box)
        assert grey[top:bottom, left:right].min() < 100, word.text
    ink = grey < 128
    for word in content.text.words:
        left, top, right, bottom = (round(edge * scale) for edge in word.box)
        ink[top - 2 : bottom + 3, left - 2 : right + 3] = False
    assert not ink.any()  # and nowhere else


# trust


@pytest.mark.parametrize(
    ("text", "share", "reason"),
    [
        ("The tenant keeps the heating and the windows in good repair " * 3, 0.0, None),
        ("The tenant keeps the heating and the windows in good repair " * 3, 1.0, None),
        ("\ue001\ue002\ue003 " * 30, 0.0, "without meaning"),
        ("\x01\x02\x03\x04 " * 30, 0.0, "without meaning"),
        ("xkqz wrtp bcdf ghjkl mnpqrs " * 9, 0.0, "plausible"),
        ("Scanned by Acme", 0.95, "almost no text"),
        ("Figure 3", 0.2, None),
        ("", 0.0, "no text"),
    ],
)
def test_which_layers_are_trusted(text: str, share: float, reason: str | None) -> None:
    words = [
        Word(each, Box(10, 24 * i, 50, 24 * i + 10), i) for i, each in enumerate(text.split(" ")) if each
    ]
    found = distrust(words, 595, 842, share)
    assert found is None if reason is None else found is not None and reason in found


@TESSERACT
def test_a_scan_is_read_by_ocr_and_a_layer_is_not(tmp_path: Path) -> None:
    image = picture(write_pdf(tmp_path / "clean.pdf", [TEXT]))
    image.convert("RGB").save(tmp_path / "scan.pdf", resolution=200)
    clean, scan = read(tmp_path / "clean.pdf"), read(tmp_path / "scan.pdf")
    assert (clean.text.source, scan.text.source) == ("layer", "tesseract")
    assert scan.text.text.split() == clean.text.text.split()


# pictures on a page that has its own text

CHART = "Harvest of barley\nNorthern district 412\nSouthern district 98"
AT = Box(60, 400, 460, 520)
"""Where it is pasted, in points."""


def chart(lines: str = CHART) -> PIL.Image.Image:
    """Words as a picture, at 200 DPI."""
    image = PIL.Image.new("RGB", (1111, 333), "#fff7e0")
    PIL.ImageDraw.Draw(image).multiline_text((60, 40), lines, "navy", font_size=64)
    return image


@TESSERACT
def test_words_in_a_picture_are_read_and_stand_in_it(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "report.pdf", [TEXT])
    before = read(path).text
    text = read(add_picture(path, chart(), AT)).text
    assert (before.source, text.source, text.scanned) == ("layer", "layer+tesseract", False)
    assert text.words[: len(before.words)] == before.words
    added = PageText(text.words[len(before.words) :], text.source)
    assert added.text == CHART
    assert min(word.line for word in added.words) > max(word.line for word in before.words)
    assert text.within(AT) == added.words
    [barley] = [word for word in added.words if word.text == "barley"]
    drawn = PIL.ImageDraw.Draw(chart()).textbbox((60, 40), "Harvest of ", font_size=64)[2]
    assert barley.box.left == pytest.approx(AT.left + drawn * 0.36, abs=3)


@TESSERACT
@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_words_in_a_picture_of_a_page_that_is_shown_turned(tmp_path: Path, rotation: int) -> None:
    path = write_pdf(tmp_path / "report.pdf", [TEXT])
    upright = chart().rotate(rotation, expand=True)  # so that it is upright as the page is shown
    box = Box(60, 400, 60 + upright.width * 0.36, 400 + upright.height * 0.36)
    pdf = pypdfium2.PdfDocument(add_picture(path, upright, box))
    pdf[0].set_rotation(rotation)
    pdf.save(tmp_path / "turned.pdf")
    content = read(tmp_path / "turned.pdf")
    [picture] = [each.box for each in content.drawn if each.kind == "image"]
    assert {"barley", "Northern", "412"} <= {word.text for word in content.text.within(picture)}


@TESSERACT
def test_pictures_of_which_the_layer_speaks_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor small ones; and two words over a picture are not read again."""
    asked = []
    real = ocr.read

    def counted(*arguments: Any) -> ocr.Reading:
        asked.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(ocr, "read", counted)
    for box in (Box(50, 50, 400, 140), Box(60, 400, 140, 420)):
        path = add_picture(write_pdf(tmp_path / "report.pdf", [TEXT]), chart(), box)
        assert read(path).text.source == "layer"
    assert not asked
    path = write_pdf(tmp_path / "two.pdf", ["Harvest 1890"])
    words = read(add_picture(path, chart("Barley"), Box(50, 40, 450, 160))).text.words
    assert [word.text for word in words] == ["Harvest", "1890", "Barley"]
    assert len(asked) == 1


def test_ocr_sees_pictures_alone() -> None:
    page = PIL.Image.new("L", (400, 200), "black")
    word = Word("said", Box(20, 20, 40, 30), 0)
    left = np.asarray(alone(page, [Box(10, 10, 100, 90)], [word], 144)) == 0
    expected = np.zeros((200, 400), bool)
    expected[20:180, 20:200] = True
    expected[40:61, 40:81] = False  # the layer's own word
    assert (left == expected).all()


def test_what_was_not_read_surely_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words seen in a photograph come with little confidence, or are marks."""
    seen = [("Barley", 0.9), ("ii", 0.5), ("—", 0.95), ("412", 0.6)]
    words = [Word(text, Box(9 * n, 9, 9 * n + 8, 20), n, sure) for n, (text, sure) in enumerate(seen)]
    monkeypatch.setattr(ocr, "read", lambda *_: ocr.Reading(words))
    path = add_picture(write_pdf(tmp_path / "report.pdf", ["A page"]), chart(), AT)
    found = [(word.text, word.line) for word in read(path).text.words]
    assert found == [
        ("A", 0),
        ("page", 0),
        ("Barley", 1),
        ("412", 4),
    ]


@TESSERACT
def test_a_photograph_has_no_words(tmp_path: Path) -> None:
    dice = np.random.default_rng(3).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    photograph = PIL.Image.fromarray(dice).resize((1200, 900), PIL.Image.Resampling.BICUBIC)
    path = add_picture(write_pdf(tmp_path / "photo.pdf", [TEXT]), photograph, Box(60, 400, 460, 700))
    assert [word.text for word in read(path).text.words] == TEXT.split()


def test_what_pictures_are_read_with_is_in_their_signature() -> None:
    """Another engine reads pictures again, and leaves pages alone that have none."""
    one, other = ReadSettings(), ReadSettings(languages=("deu",))
    assert one.words_signature("layer") == other.words_signature("layer")
    assert one.words_signature("layer+tesseract").startswith(one.words_signature("layer"))
    assert one.words_signature("layer+tesseract") != other.words_signature("layer+tesseract")


@REAL
@TESSERACT
def test_the_report_of_control_characters_is_read_by_ocr() -> None:
    [path] = Path(str(DATA)).glob("mmdocir-dev/pdf/afe620b9*.pdf")
    content = read(path, 4)
    assert content.text.source == "tesseract"
    assert len(content.text.words) > 50


# OCR


@TESSERACT
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_scan_is_read_the_right_way_up(tmp_path: Path, turn: int) -> None:
    image = picture(write_pdf(tmp_path / "clean.pdf", [TEXT * 3])).rotate(turn, expand=True)
    image.convert("RGB").save(tmp_path / "scan.pdf", resolution=200)
    content = read(tmp_path / "scan.pdf")
    assert "quartz" in content.text.text
    assert content.page.width < content.page.height
    assert content.image.width < content.image.height
    [first, *_] = [word for word in content.text.words if word.text == "quick"]
    truth = next(w for w in read(tmp_path / "clean.pdf").text.words if w.text == "quick")
    assert first.box.left == pytest.approx(truth.box.left, abs=3)
    assert first.box.top == pytest.approx(truth.box.top, abs=3)


def fake_tesseract(folder: Path, body: str) -> None:
    program = folder / "tesseract"
    program.write_text(f"#!{sys.executable}\nimport os, signal, sys, time\n{body}\n", encoding="utf-8")
    program.chmod(0o755)


HEADER = "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext"
ENGINES = {
    "fails": ("sys.exit(1)", "exit code 1"),
    "hangs": ("time.sleep(60)", "longer than"),
    "is killed": ("os.kill(os.getpid(), signal.SIGKILL)", "signal 9"),
    "writes bytes that are no text": (
        "open(sys.argv[2] + '.tsv', 'wb').write(b'\\xff\\xfe\\x00' * 9)",
        "",
    ),
}


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return lambda body: fake_tesseract(folder, body)


@pytest.mark.parametrize("kind_of_engine", ENGINES)
def test_an_engine_that_misbehaves_fails_its_page_alone(
    tmp_path: Path, fake: Callable[[str], None], kind_of_engine: str
) -> None:
    body, reason = ENGINES[kind_of_engine]
    fake(f"if '--version' in sys.argv: print('tesseract 5.0'); sys.exit(0)\n{body}")
    blank = PIL.Image.new("RGB", (800, 800), "white")
    blank.save(tmp_path / "scan.pdf", save_all=True, append_images=[blank])
    write_pdf(tmp_path / "text.pdf", [TEXT])
    with ReaderPool(ReadSettings(page_seconds=3), 2) as pool:
        for task in (
            Task(tmp_path / "scan.pdf", 0),
            Task(tmp_path / "text.pdf", 0),
            Task(tmp_path / "scan.pdf", 1),
        ):
            pool.submit(task)
        answers = {
            (a.task.path.name, a.task.number): a.result for a in (pool.take(), pool.take(), pool.take())
        }
    assert isinstance(answers["text.pdf", 0], PageContent)
    for number in (0, 1):
        error = answers["scan.pdf", number]
        assert isinstance(error, DocumentError)
        assert (error.page, error.stage) == (number, "text")
        assert reason in error.reason


def test_boxes_off_the_page_are_cut_and_empty_ones_left_out(
    tmp_path: Path, fake: Callable[[str], None]
) -> None:
    rows = [
        "5\t1\t1\t1\t1\t1\t10\t10\t100\t20\t90\tsound",
        "5\t1\t1\t1\t1\t2\t-50\t-50\t5000\t5000\t90\thuge",
        "5\t1\t1\t1\t1\t3\t300\t10\t-40\t-9\t90\tinverted",
        "5\t1\t1\t1\t1\t4\t9000\t9000\t10\t10\t90\toff",
    ]
    table = "\\n".join([HEADER, *rows]).replace("\t", "\\t")
    fake(f"open(sys.argv[2] + '.tsv', 'w').write('{table}\\n')")
    PIL.Image.new("RGB", (800, 800), "white").save(tmp_path / "scan.png")
    content = read(tmp_path / "scan.png")
    assert [word.text for word in content.text.words] == ["sound", "huge"]
    for word in content.text.words:
        assert 0 <= word.box.left < word.box.right <= content.page.width
        assert 0 <= word.box.top < word.box.bottom <= content.page.height


# formats


def drawing(mode: str = "RGB") -> PIL.Image.Image:
    """Left half black, right half white; 300 x 200."""
    image = PIL.Image.new("L", (300, 200), 255)
    PIL.ImageDraw.Draw(image).rectangle((0, 0, 149, 199), fill=0)
    if mode == "I;16":
        return PIL.Image.fromarray((np.asarray(image).astype(np.uint16)) * 257)
    return image.convert(mode)


FORMATS = {
    "png": ("RGB", "PNG", {}),
    "grey16.png": ("I;16", "PNG", {}),
    "palette.png": ("P", "PNG", {}),
    "jpeg": ("RGB", "JPEG", {}),
    "cmyk.jpg": ("CMYK", "JPEG", {}),
    "jp2": ("RGB", "JPEG2000", {}),
    "webp": ("RGB", "WEBP", {}),
    "g4.tif": ("1", "TIFF", {"compression": "group4"}),
    "deep.tif": ("I;16", "TIFF", {}),
}


@pytest.fixture
def nothing_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """No OCR: pictures alone are looked at."""
    from pagelens.ingest import ocr

    monkeypatch.setattr(ocr, "read", lambda *_: ocr.Reading([]))


@pytest.mark.usefixtures("nothing_read")
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_shows_what_was_drawn(tmp_path: Path, name: str) -> None:
    mode, format, options = FORMATS[name]
    path = tmp_path / "without a suffix"
    drawing(mode).save(path, format, **options)
    assert kind(path) == "image"
    grey = np.asarray(read(path).image.convert("L"))
    half = grey.shape[1] // 2
    assert grey[:, : half - 5].max() < 40
    assert grey[:, half + 5 :].min() > 215


@pytest.mark.usefixtures("nothing_read")
def test_many_pages_orientation_and_transparency(tmp_path: Path) -> None:
    drawing().save(tmp_path / "many.tif", save_all=True, append_images=[drawing(), drawing()], dpi=(300, 300))
    document = open_document(tmp_path / "many.tif")
    assert document.document.pages == 3
    assert document.size(2) == pytest.approx((72, 48))
    document.close()
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    drawing().save(tmp_path / "phone.jpg", exif=exif)
    turned = read(tmp_path / "phone.jpg").image
    assert turned.width < turned.height
    assert np.asarray(turned.convert("L"))[:90].max() < 60
    clear = PIL.Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert np.asarray(read(tmp_path / "clear.png").image.convert("L")).min() > 240


# what cannot be read


def encrypted(path: Path) -> None:
    from pypdf import PdfReader, PdfWriter

    plain = path.with_name("plain")
    write_pdf(plain, [TEXT])
    writer = PdfWriter(PdfReader(plain))
    writer.encrypt("secret", algorithm="RC4-128")
    writer.write(path)


def bomb(path: Path) -> None:
    """A PNG that says it has 10^10 pixels."""
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def half(path: Path) -> None:
    data = io.BytesIO()
    drawing().resize((3000, 2000)).save(data, "PNG")
    path.write_bytes(data.getvalue()[: len(data.getvalue()) // 2])


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "encrypted.pdf": (encrypted, "encrypted"),
    "empty.pdf": (lambda path: path.write_bytes(b""), "empty"),
    "letter.pdf": (lambda path: path.write_text("Dear Sir,"), "neither a PDF nor an image"),
    "cut.pdf": (lambda path: path.write_bytes(b"%PDF-1.7\n1 0 obj\n<< /Type /Cata"), "damaged"),
    "bomb.png": (bomb, "decompression bomb"),
    "half.png": (half, "damaged"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_read_says_why(tmp_path: Path, name: str) -> None:
    make, reason = BROKEN[name]
    make(tmp_path / name)
    with pytest.raises(DocumentError, match=reason) as caught:
        read(tmp_path / name)
    assert str(tmp_path) not in caught.value.reason


# sources


def test_which_files_are_found(tmp_path: Path) -> None:
    write_pdf(tmp_path / "a.pdf", [TEXT])
    write_pdf(tmp_path / "no-suffix", [TEXT])
    (tmp_path / "notes.txt").write_text("not a document")
    (tmp_path / "pretends.pdf").write_text("not one either, but its name says so")
    write_pdf(tmp_path / ".hidden.pdf", [TEXT])
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "again.pdf").symlink_to(tmp_path / "a.pdf")
    names = [source.path.name for source in find([tmp_path, tmp_path / "a.pdf", tmp_path / "notes.txt"])]
    assert names == ["a.pdf", "no-suffix", "pretends.pdf", "notes.txt"]
    with pytest.raises(UsageError, match="nowhere"):
        list(find([tmp_path / "nowhere"]))
