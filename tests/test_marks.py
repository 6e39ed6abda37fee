"""Evidence on a page image, checked pixel by pixel."""

from __future__ import annotations

import pytest
from PIL import Image, ImageChops

from pagelens import Box, Evidence, Page, Word
from pagelens.marks import CLOSEUP_WIDTH, FRAME, HALO, PEN, closeup, mark, pixels

PAGE = Page("0123456789abcdef", 0, width=200, height=300)
WORD = Word("rent", Box(60, 100, 90, 112), line=0)
PASSAGE = Evidence("the rent is due", Box(40, 98, 140, 114), (WORD,))


def center(box: Box, size: tuple[int, int]) -> tuple[int, int]:
    across, down = size[0] / PAGE.width, size[1] / PAGE.height
    return int((box.left + box.right) / 2 * across), int((box.top + box.bottom) / 2 * down)


@pytest.mark.parametrize("size", [(200, 300), (400, 600), (1240, 1860), (100, 150)])
def test_marks_scale_with_the_image(size: tuple[int, int]) -> None:
    paper = Image.new("RGB", size, "white")
    marked = mark(paper, PAGE, [PASSAGE])
    assert (marked.size, marked.mode) == (size, "RGB")
    changed = ImageChops.difference(paper, marked).getbbox()
    assert changed is not None
    # Nothing but the passage, its margin of 2 points and the frame's two lines is touched.
    frame = 2 * max(1, round(size[0] / 500)) + 1
    across, down = size[0] / PAGE.width, size[1] / PAGE.height
    outer = (38 * across - frame, 96 * down - frame, 142 * across + frame, 116 * down + frame)
    assert outer[0] <= changed[0] and outer[1] <= changed[1]
    assert changed[2] <= outer[2] + 1 and changed[3] <= outer[3] + 1
    assert marked.getpixel(center(WORD.box, size)) != marked.getpixel(center(Box(120, 98, 138, 114), size))


def test_ink_stays_ink_and_paper_takes_the_colour() -> None:
    page = Image.new("L", (200, 300), 255)
    page.paste(0, (70, 104, 73, 110))  # a letter's stroke inside the word
    marked = mark(page, PAGE, [PASSAGE])
    assert marked.getpixel((71, 107)) == (0, 0, 0)
    red, green, blue = marked.getpixel((85, 107))  # type: ignore[misc]
    assert red > green > blue  # amber
    red, green, blue = marked.getpixel((110, 107))  # type: ignore[misc]
    assert blue > green > red  # the passage's pale blue
    assert page.getpixel((85, 107)) == 255  # the page given is left as it was


def test_a_dark_photo_is_lit_up() -> None:
    marked = mark(Image.new("RGB", (200, 300), (20, 20, 20)), PAGE, [PASSAGE])
    red, green, blue = marked.getpixel((75, 107))  # type: ignore[misc]
    assert red > blue and red - 20 > PEN.dark[0] // 2


def test_the_frame_stands_out_on_both() -> None:
    for ground in ("white", "black"):
        marked = mark(Image.new("RGB", (200, 300), ground), PAGE, [PASSAGE])
        colours = {colour for _, colour in marked.getcolors(10_000) or []}
        assert {FRAME, HALO}.issubset(colours)


@pytest.mark.parametrize(
    "box", [Box(-50, -50, -10, -10), Box(250, 350, 300, 400), Box(50, 50, 50, 50), Box(-20, -20, 500, 500)]
)
def test_boxes_off_the_page_do_no_harm(box: Box) -> None:
    paper = Image.new("RGB", (200, 300), "white")
    assert mark(paper, PAGE, [Evidence("x", box, (Word("x", box, line=0),))]).size == paper.size
    left, top, right, bottom = pixels(box, PAGE, paper.size)
    assert min(left, top) >= 0 and right <= 200 and bottom <= 300


def test_no_evidence_no_mark() -> None:
    paper = Image.new("RGB", (200, 300), "white")
    assert ImageChops.difference(paper, mark(paper, PAGE, [])).getbbox() is None


@pytest.mark.parametrize(
    "box",
    [
        Box(40, 98, 140, 114),  # a line
        Box(0, 0, 30, 12),  # in a corner
        Box(560, 820, 595, 842),  # in the other
        Box(30, 30, 560, 820),  # the whole page
    ],
)
def test_closeup_is_on_the_page_and_holds_where_the_passage_begins(box: Box) -> None:
    page = Page("0123456789abcdef", 0, width=595, height=842)
    shown = closeup(page, Evidence("", box))
    assert 0 <= shown.left < shown.right <= page.width and 0 <= shown.top < shown.bottom <= page.height
    assert shown.width >= min(CLOSEUP_WIDTH, page.width) - 1e-9
    assert shown.left <= box.left and shown.top <= box.top
    assert shown.right >= box.right  # lines are seen whole


def test_closeup_of_a_tall_passage_starts_at_its_first_match() -> None:
    page = Page("0123456789abcdef", 0, width=595, height=842)
    word = Word("late", Box(100, 700, 130, 712), line=40)
    shown = closeup(page, Evidence("", Box(50, 50, 545, 800), (word,)))
    assert shown.top <= word.box.top and word.box.bottom <= shown.bottom
