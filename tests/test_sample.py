"""The sample collection: the same bytes each time, and each answer where it is said to be."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import PIL.Image
import pypdfium2
import pytest
from conftest import Sample

from pagelens.ingest import ocr
from pagelens.ingest.documents import open_document
from pagelens.records import Box
from pagelens.sample import LANGUAGES, QUESTIONS, Question, make_sample
from pagelens.sample.invoices import bill
from pagelens.sample.scanner import Scanner
from pagelens.sample.sheet import BOLD, ITALIC, MONO, SANS, SERIF, Sheet, Style

PAGES = {
    "annual-report-2023.pdf": 7,
    "briefe-2023.pdf": 3,
    "invoices-spring-2023.pdf": 4,
    "laboratory-forms.pdf": 3,
    "lease-mill-street.pdf": 4,
    "shift-plan-june.pdf": 1,
}
SPOILT = {"inventory-cut-short.pdf", "payroll-sealed.pdf"}
ANSWERED = [question for question in QUESTIONS if question.file]


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_same_seed_same_bytes(sample: Sample, tmp_path: Path) -> None:
    assert make_sample(tmp_path) == sample.answers
    assert hashes(tmp_path) == hashes(sample.folder)


def test_another_seed_scans_otherwise(sample: Sample, tmp_path: Path) -> None:
    answers = make_sample(tmp_path, seed=8)
    assert answers.keys() == sample.answers.keys()
    assert not set(answers.values()) & set(sample.answers.values())
    before, after = hashes(sample.folder), hashes(tmp_path)
    assert before.keys() == after.keys()
    assert not set(before.values()) & set(after.values())


def test_files_and_pages(sample: Sample) -> None:
    assert {path.name for path in sample.folder.iterdir()} == PAGES.keys() | SPOILT
    for name, count in PAGES.items():
        assert len(pypdfium2.PdfDocument(sample.folder / name)) == count


@pytest.mark.parametrize("name", sorted(SPOILT))
def test_spoilt_files_do_not_open(sample: Sample, name: str) -> None:
    with pytest.raises(pypdfium2.PdfiumError):
        pypdfium2.PdfDocument(sample.folder / name)


def test_sealed_file_opens_with_its_password(sample: Sample) -> None:
    document = pypdfium2.PdfDocument(sample.folder / "payroll-sealed.pdf", password="not told")
    assert len(document) == 1


def test_pages_are_images_alone(sample: Sample) -> None:
    for name, count in PAGES.items():
        document = open_document(sample.folder / name)
        for number in range(count):
            assert not document.words(number)
            share, dpi = document.scan(number)
            assert share > 0.99
            assert dpi == pytest.approx(200, rel=0.01)
        document.close()
        assert (sample.folder / name).read_bytes().count(b"/DCTDecode") == count


def test_one_page_is_landscape(sample: Sample) -> None:
    document = open_document(sample.folder / "shift-plan-june.pdf")
    width, height = document.size(0)
    document.close()
    assert width > height


def test_questions_are_answered_but_one(sample: Sample) -> None:
    assert set(sample.answers) == set(ANSWERED)
    assert len(QUESTIONS) == 6 and len(ANSWERED) == 5


@pytest.mark.parametrize("question", ANSWERED, ids=lambda question: question.answer)
def test_answers_lie_on_their_page(sample: Sample, question: Question) -> None:
    assert question.file is not None
    document = open_document(sample.folder / question.file)
    width, height = document.size(question.page - 1)
    document.close()
    left, top, right, bottom = sample.answers[question]
    assert 0 < left < right < width
    assert 0 < top < bottom < height
    assert bottom - top < 20  # one line


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")
@pytest.mark.parametrize(("answer", "turn"), [("1,506", 0), ("KX-2290", 180)])
def test_ocr_reads_the_answer_in_its_box(sample: Sample, answer: str, turn: int) -> None:
    """Of the page in the file alone; the form was scanned upside down."""
    question = next(each for each in ANSWERED if each.answer == answer)
    assert question.file is not None
    document = open_document(sample.folder / question.file)
    image = document.render(question.page - 1, 200).rotate(turn, expand=True)
    scale = document.size(question.page - 1)[0] / image.width
    document.close()
    box = sample.answers[question]
    found = []
    for word in ocr.read(image, 200, "tesseract", LANGUAGES, seconds=60).words:
        x, y = (word.box.left + word.box.right) / 2 * scale, (word.box.top + word.box.bottom) / 2 * scale
        if box.left < x < box.right and box.top < y < box.bottom:
            found.append(word.text)
    assert found == [answer]


def ink(image: PIL.Image.Image, scale: float) -> Box:
    """Around all that is dark, in points."""
    down, across = np.nonzero(np.asarray(image.convert("L")) < 100)
    return Box(across.min() / scale, down.min() / scale, across.max() / scale, down.max() / scale)


@pytest.mark.parametrize("font", [SANS, BOLD, SERIF, ITALIC, MONO])
@pytest.mark.parametrize("align", ["left", "right", "center"])
def test_words_are_drawn_in_their_boxes(font: str, align: str) -> None:
    """The boxes come from the font's widths; here they are held against pixels."""
    sheet = Sheet()
    sheet.text(300, 400, "Übung 1,506 gßjy", Style(20, font), align)  # type: ignore[arg-type]
    box = sheet.find(["Übung", "1,506", "gßjy"])
    seen = ink(sheet.render(288), 4)
    ends = {"left": box.left, "right": box.right, "center": (box.left + box.right) / 2}
    assert ends[align] == pytest.approx(300)
    bearing = 0.15 * 20  # what a glyph keeps free, or reaches over, at its sides
    assert seen.left == pytest.approx(box.left, abs=bearing)
    assert seen.right == pytest.approx(box.right, abs=bearing)
    assert box.top - 4 <= seen.top and seen.bottom <= box.bottom + 1  # Ü stands above a capital's height


def test_find_wants_words_drawn_once() -> None:
    sheet = Sheet()
    sheet.text(50, 50, "one two one")
    assert sheet.find(["one", "two"]).left == pytest.approx(50)
    for words in (["one"], ["three"], ["two", "two"]):
        with pytest.raises(ValueError, match="reword the page"):
            sheet.find(words)


def test_prose_keeps_to_its_width() -> None:
    sheet = Sheet()
    text = "A paragraph of many words, some of them longer than others. " * 4 + "\n\nAnother."
    bottom = sheet.prose(100, 100, 200, text, Style(10, justify=True))
    assert " ".join(word for word, _ in sheet.drawn) == " ".join(text.split())
    assert all(box.left >= 99.99 and box.right <= 300.01 for _, box in sheet.drawn)
    lines = sorted({box.bottom for _, box in sheet.drawn})
    full = [max(box.right for _, box in sheet.drawn if box.bottom == line) for line in lines[:-2]]
    assert full == pytest.approx([300] * len(full))
    assert bottom > lines[-1]


def skewed(upside_down: bool) -> Iterator[tuple[Box, Box]]:
    """Where a blot is said to lie on a scan, and where it is seen."""
    for seed in range(4):
        blot, sheet = Box(80, 700, 110, 720), Sheet()
        sheet.box(blot, fill=(0, 0, 0))
        numbers = (0,) if upside_down else ()
        (scan,) = Scanner(grain=0).scan([sheet], np.random.default_rng(seed), numbers)
        image = scan.image.rotate(180) if upside_down else scan.image
        middle = image.crop((100, 100, image.width - 100, image.height - 100))  # without lid and shadow
        seen = ink(middle.filter(PIL.ImageFilter.MedianFilter(5)), 200 / 72)  # without specks
        yield scan.place(blot), Box(*(edge + 100 * 72 / 200 for edge in seen))


@pytest.mark.parametrize("upside_down", [False, True])
def test_scan_places_boxes_where_the_ink_is(upside_down: bool) -> None:
    moved = 0.0
    for said, seen in skewed(upside_down):
        assert tuple(seen) == pytest.approx(tuple(said), abs=1)
        moved = max(moved, abs(said.left - 80), abs(said.top - 700))
    assert moved > 2  # the skew did something


def test_bill_adds_up() -> None:
    """By hand: 3 x 1.50 + 10 x 0.10 = 5.50, a fifth of it is 1.10."""
    rows = bill("Cord | 3 | 1.50\nTag | 10 | 0.10")
    assert [row[-1] for row in rows] == ["Amount", "4.50", "1.00", "5.50", "1.10", "6.60"]
