"""Text layers: words where they stand, and which layers are believed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageDraw
import pypdfium2
import pypdfium2.raw as pdfium
import pytest
from made import write_pdf

from pagelens.ingest.documents import open_document
from pagelens.ingest.reading import ReadSettings, read_page
from pagelens.ingest.text import distrust, layer_words, on_page, plausible, share_on_ink
from pagelens.records import Box, PageContent, Word

DATA = Path(os.environ.get("PAGELENS_DATA", ""))
REAL = pytest.mark.skipif("PAGELENS_DATA" not in os.environ, reason="PAGELENS_DATA names no real documents")
TESSERACT = pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")
SENTENCE = "The tenant keeps the heating and the windows in good repair"


def word_at(text: str, left: float, top: float, line: int = 0) -> Word:
    return Word(text, Box(left, top, left + 6 * len(text), top + 10), line)


def lines_of(text: str, tops: Sequence[float]) -> list[Word]:
    """The words of a text, over again on each line."""
    return [
        word_at(word, 40 + 45 * i, top, line)
        for line, top in enumerate(tops)
        for i, word in enumerate(text.split())
    ]


# words and boxes


def test_a_word_split_at_the_end_of_a_line_stands_where_it_begins(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf", ["The house has win-\ndows to the north\nand a door."])
    words = layer_words(pypdfium2.PdfDocument(path)[0])
    lines: dict[int, list[str]] = defaultdict(list)
    for word in words:
        lines[word.line].append(word.text)
    assert list(lines.values()) == [
        ["The", "house", "has", "windows"],
        ["to", "the", "north"],
        ["and", "a", "door."],
    ]
    split = next(word for word in words if word.text == "windows")
    has = next(word for word in words if word.text == "has")
    assert split.box.height < 15
    assert split.box.left > has.box.right
    assert split.box.top == pytest.approx(has.box.top, abs=4)


def test_words_off_the_page_are_left_out_and_those_on_its_edge_cut() -> None:
    words = [
        Word("on", Box(10, 10, 30, 20), 0),
        Word("edge", Box(-5, 10, 20, 20), 0),
        Word("left", Box(-40, 10, -10, 20), 0),
        Word("below", Box(10, 210, 30, 230), 0),
    ]
    seen = on_page(words, 100, 200)
    assert [(word.text, word.box) for word in seen] == [
        ("on", Box(10, 10, 30, 20)),
        ("edge", Box(0, 10, 20, 20)),
    ]


def test_text_outside_the_crop_box_is_not_part_of_the_page(tmp_path: Path) -> None:
    pdf = pypdfium2.PdfDocument(write_pdf(tmp_path / "a.pdf", ["Cut off\n\n\n\n" + SENTENCE]))
    pdf[0].set_cropbox(0, 0, 595, 740)  # the first line stands at 780
    pdf.save(tmp_path / "b.pdf")
    document = open_document(tmp_path / "b.pdf")
    content = read_page(document, 0, ReadSettings())
    document.close()
    assert content.text.text == SENTENCE


def poppler_words(path: Path, page: int) -> dict[str, list[tuple[float, float]]]:
    """Centres of the words that poppler reads, in points from the top left of the page as shown."""
    number = str(page + 1)
    out = subprocess.run(
        ["pdftotext", "-bbox", "-cropbox", "-f", number, "-l", number, path, "-"],
        capture_output=True,
        check=True,
    )
    words = defaultdict(list)
    for word in ET.fromstring(re.sub(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]", b"", out.stdout)).iter():
        if word.tag.endswith("word"):
            left, top, right, bottom = (float(word.attrib[key]) for key in ("xMin", "yMin", "xMax", "yMax"))
            words[word.text or ""].append(((left + right) / 2, (top + bottom) / 2))
    return words


@REAL
@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="poppler's pdftotext is the oracle")
def test_words_of_real_pages_stand_where_poppler_sees_them() -> None:
    checked = near = 0
    for path in sorted((DATA / "mmdocir-dev" / "pdf").glob("*.pdf")):
        document = open_document(path)
        number = document.document.pages // 2
        words = on_page(document.words(number), *document.size(number))
        trusted = words and distrust(words, *document.size(number), 0.0) is None
        document.close()
        if not trusted:
            continue
        theirs = poppler_words(path, number)
        for word in words:
            x, y = (word.box.left + word.box.right) / 2, (word.box.top + word.box.bottom) / 2
            checked += 1
            near += any(abs(x - u) < 5 and abs(y - v) < 5 for u, v in theirs.get(word.text, []))
    assert checked > 4000
    assert near > 0.97 * checked  # poppler joins no hyphens, and parts formulas and dot leaders otherwise


# trust


@pytest.mark.parametrize(
    ("words", "share", "reason"),
    [
        (lines_of(SENTENCE, (100, 300, 500, 700)), 1.0, None),
        (lines_of(SENTENCE, (12, 24)), 1.0, "almost no text"),  # a notice at the edge of a scan
        (lines_of(SENTENCE, (12, 24)), 0.2, None),
        (lines_of("one two three", (100, 300, 500, 700)), 1.0, "almost no text"),
        (lines_of("\ufffd\x03 \ue000\x01", range(50, 800, 50)), 0.0, "without meaning"),
        (lines_of(f"{SENTENCE} \ue000", range(50, 800, 50)), 0.0, None),  # one bullet a line
        (lines_of("qsdf wrtp xcvb hjkl mnbv", range(50, 800, 50)), 0.0, "plausible"),
        (lines_of("12.5 13.75 1,204 88% 7/9", range(50, 800, 50)), 0.0, None),  # figures are no words
        (lines_of("договор аренды подписан здесь", range(50, 800, 50)), 0.0, None),
        (lines_of("これは 日本語 です", range(50, 800, 50)), 0.0, None),
        (lines_of(SENTENCE, range(900, 1300, 50)) + lines_of("on", (100,)), 0.0, "outside the page"),
        (lines_of(SENTENCE, range(900, 1300, 50)), 0.0, "no text"),
    ],
)
def test_which_layers_are_trusted(words: list[Word], share: float, reason: str | None) -> None:
    found = distrust(words, 595, 842, share)
    assert found is None if reason is None else found is not None and reason in found


def test_plausible_words() -> None:
    real = ["invoice", "Straße", "naïve", "psychology", "rhythm", "NATO", "Mr", "BGB", "Øst", "œuvre", "łódź"]
    assert [word for word in real if not plausible(word)] == []
    assert not any(map(plausible, ["xkqzt", "bcdfgh", "a" * 40]))


def over_a_scan(path: Path, printed: str, layer: Sequence[str], tops: Sequence[float]) -> Path:
    """A scan that shows `printed`, and over it invisible `layer` lines at `tops` (points from the top)."""
    clean = write_pdf(path.with_name("clean.pdf"), [printed])
    image = pypdfium2.PdfDocument(clean)[0].render(scale=200 / 72).to_pil().convert("RGB")
    image.save(path, resolution=200)
    pdf = pypdfium2.PdfDocument(path)
    page = pdf[0]
    height = page.get_height()
    font = pdfium.FPDFText_LoadStandardFont(pdf, b"Helvetica")
    for line, top in zip(layer, tops, strict=True):
        glyphs = pdfium.FPDFPageObj_CreateTextObj(pdf, font, 12)
        encoded = (line + "\0").encode("utf-16-le")
        text = (pdfium.FPDF_WCHAR * (len(encoded) // 2)).from_buffer_copy(encoded)
        pdfium.FPDFText_SetText(glyphs, text)
        pdfium.FPDFTextObj_SetTextRenderMode(glyphs, pdfium.FPDF_TEXTRENDERMODE_INVISIBLE)
        pdfium.FPDFPageObj_Transform(glyphs, 1, 0, 0, 1, 60, height - top)
        pdfium.FPDFPage_InsertObject(page, glyphs)
    pdfium.FPDFPage_GenerateContent(page)
    pdf.save(path.with_name("layered.pdf"))
    return path.with_name("layered.pdf")


def read(path: Path) -> PageContent:
    document = open_document(path)
    try:
        return read_page(document, 0, ReadSettings())
    finally:
        document.close()


PRINTED = [
    SENTENCE,
    "The rent is due on the first of the month",
    "Signed by both parties at the harbour office",
]


@TESSERACT
def test_an_ocr_layer_is_believed_and_a_sheet_of_metadata_is_not(tmp_path: Path) -> None:
    printed = ("\n" * 12).join(PRINTED)
    # write_pdf sets the first line at 780 from the bottom of 842 points, the others 18 lower each
    true = over_a_scan(tmp_path / "a.pdf", printed, PRINTED, [62, 62 + 12 * 18, 62 + 24 * 18])
    content = read(true)
    assert content.text.source == "layer"
    assert content.text.text.split() == printed.split()
    metadata = [
        "Document metadata",
        "Registration number none",
        "Status of registrant active and current",
    ] * 6
    false = over_a_scan(tmp_path / "b.pdf", printed, metadata, range(200, 740, 30))
    content = read(false)
    assert content.text.source == "tesseract"
    assert content.text.text.split() == printed.split()


def test_the_share_on_ink_counts_words(tmp_path: Path) -> None:
    picture = PIL.Image.new("L", (595, 842), 255)
    draw = PIL.ImageDraw.Draw(picture)
    words = lines_of("one two three four", (100, 300))
    for word in words[:6]:
        for x in range(int(word.box.left), int(word.box.right), 3):
            draw.line((x, word.box.top + 1, x, word.box.bottom - 1), fill=0)
    assert share_on_ink(words, picture, 595) == 6 / 8
    assert share_on_ink(words, picture.resize((1190, 1684)), 595) == 6 / 8
    inverted = PIL.Image.fromarray(255 - np.asarray(picture))
    assert share_on_ink(words, inverted, 595) == 6 / 8


@REAL
@TESSERACT
def test_a_real_scan_under_a_sheet_of_metadata_is_read() -> None:
    [path] = (DATA / "fara-dev").glob("19670901*.pdf")
    content = read(path)
    assert content.text.source == "tesseract"
    assert "Remittances" in content.text.text
    [path] = (DATA / "fara-dev").glob("20150331*.pdf")
    assert read(path).text.source == "layer"


def test_rules_have_the_number_they_are_known_by() -> None:
    """Red after a change: raise `RULES`, else libraries keep layers that are not believed any more."""
    from pagelens.ingest import pictures, text

    assert (text.RULES, pictures.LEAST, pictures.FEW) == (3, (60.0, 24.0), 3)
    limits = ("BAD_SHARE", "PLAUSIBLE_SHARE", "SCAN_SHARE", "FEW_WORDS", "ON_INK", "FEW_BANDS")
    assert [getattr(text, name) for name in limits] == [0.05, 0.5, 0.5, 15, 0.85, 2]
