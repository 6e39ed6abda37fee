"""The gallery as a browser reads it: nothing from a document is markup, nothing is loaded from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Set
from html.parser import HTMLParser
from io import BytesIO

import PIL.Image
import pytest

from pagelens import Box, DocumentError, Evidence, Hit, Hits, Library, Page, Stage, Word
from pagelens.gallery import page_html

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</style><link rel=stylesheet href=//evil.example/x.css>",
    "</title><base href=//evil.example>",
    "javascript:alert(1)",
    "<!--",
    "]]>",
    "&lt;b&gt;",
    "\x1b[2J\u202egnp.exe",
]
TAGS = {
    "html",
    "head",
    "meta",
    "title",
    "style",
    "body",
    "nav",
    "ol",
    "li",
    "a",
    "section",
    "h2",
    "h3",
    "div",
}
TAGS |= {"span", "article", "details", "summary", "img", "b", "bdi", "mark", "small", "code"}
VOID = {"meta", "img"}


class Reader(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(source)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


def read_safely(source: str, more: Set[str] = frozenset()) -> Reader:
    """Read, and hold every tag and attribute against what the gallery, with `more`, may use."""
    reader = Reader(source)
    assert {tag for tag, _ in reader.tags} <= TAGS | more
    for _, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "srcdoc")]
        assert (attributes.get("src") or "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
        assert (attributes.get("href") or "#").startswith("#")
    return reader


def hit(name: str, text: str, broken: bool = False) -> Hit:
    words = [Word(each, Box(50, 50, 90, 62), line=0) for each in text.split()] or [
        Word("x", Box(0, 0, 1, 1), 0)
    ]
    evidence = (Evidence(text, Box(50, 50, 300, 62), (words[0],)),)

    def open_image() -> PIL.Image.Image:
        if broken:
            raise DocumentError("store", f"page {name}: its image is gone")
        return PIL.Image.new("RGB", (595, 842), "white")

    page = Page("0123456789abcdef", 0, 595, 842)
    return Hit(page, f"/scans/{name}", 1.0, {"bm25": Stage(1, 1.0)}, evidence, text, open_image=open_image)


@pytest.mark.parametrize("hostile", HOSTILE)
def test_nothing_from_a_document_is_markup(hostile: str) -> None:
    found = (hit(f"{hostile}.pdf", f"{hostile} word"), hit(f"{hostile}.pdf", hostile, broken=True))
    hits = Hits(f"what is {hostile}?", hostile, found, {hostile: 1.0}, notes=(f"note {hostile}",))
    for source in (hits._repr_html_(), hits.to_html(), page_html([(hostile, hits), ("other", hits)])):
        reader = read_safely(source)
        seen = "".join(reader.text)
        if hostile.isprintable() and "/" not in hostile:
            assert seen.count(hostile) >= 5  # as text it is all there: name, passage, question, note
        assert not re.search("[\x00-\x08\x0e-\x1f\u202a-\u202e]", source)


def test_a_page_needs_no_other_file_and_allows_none(small_library: Library) -> None:
    source = small_library.search("who signed the lease?").to_html()
    reader = read_safely(source)
    assert "://" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", source)
    assert "url(" not in source and "@import" not in source
    [policy] = [
        a["content"] or "" for _, a in reader.tags if a.get("http-equiv") == "Content-Security-Policy"
    ]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert (rules["default-src"], rules["img-src"]) == ("'none'", "data:")
    [style] = re.findall(r"<style>(.*?)</style>", source, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert rules["style-src"] == f"'sha256-{digest}'"
    assert source.startswith("<!DOCTYPE html>") and '<meta charset="utf-8">' in source


def test_a_card_says_where_how_sure_and_why(small_library: Library) -> None:
    hits = small_library.search("who signed the lease?", k=3)
    reader = read_safely(hits._repr_html_())
    text = " ".join("".join(reader.text).split())
    assert "lease.pdf page 3" in text and "signed by Martha Lindqvist" in text
    for name, stage in hits[0].stages.items():
        assert f"{name} #{stage.rank}" in text
    marked = [tag for tag, _ in reader.tags].count("mark")
    assert marked >= len(hits[0].evidence[0].words) > 0
    assert [tag for tag, _ in reader.tags].count("article") == 3


def test_pictures_are_the_page_and_a_closeup_of_the_passage(small_library: Library) -> None:
    best = small_library.search("who signed the lease?", k=1)
    reader = read_safely(best._repr_html_())
    pictures = [a for tag, a in reader.tags if tag == "img"]
    images = [PIL.Image.open(BytesIO(base64.b64decode((a["src"] or "").split(",")[1]))) for a in pictures]
    page, closeup = images
    assert [(a["width"], a["height"]) for a in pictures] == [(str(i.width), str(i.height)) for i in images]
    assert abs(page.width / page.height - best[0].record.width / best[0].record.height) < 0.01
    assert closeup.width / closeup.height > 1.5  # lines, not a page
    assert all(a["alt"] for a in pictures)
    for image in images:  # the amber of matching words is in both
        red, green, blue = image.convert("RGB").split()
        amber = sum(r - b > 60 for r, b in zip(red.tobytes(), blue.tobytes(), strict=True))
        assert amber > 20 and green.size == red.size


def test_a_missing_page_image_is_said_and_the_rest_stands() -> None:
    hits = Hits(
        "rent?", "light", (hit("gone.pdf", "rent is due", broken=True), hit("there.pdf", "rent is due"))
    )
    text = "".join(read_safely(hits._repr_html_()).text)
    assert "page image not available" in text and "its image is gone" in text
    assert "gone.pdf" in text and "there.pdf" in text and text.count("rent is due") == 2


def test_no_hits_say_what_to_do() -> None:
    text = "".join(read_safely(Hits("rent?", "light", ()).to_html()).text)
    assert "No page was found" in text and "pagelens status" in text


def test_a_page_without_text_says_so() -> None:
    blank = hit("blank.pdf", "")
    hits = Hits("rent?", "light", (Hit(blank.record, blank.path, 1.0, open_image=blank.open_image),))
    assert "no text was read on this page" in "".join(read_safely(hits.to_html()).text)


def test_several_questions_are_linked_from_the_top() -> None:
    hits = Hits("rent?", "light", (hit("a.pdf", "rent is due"),))
    reader = read_safely(page_html([("first", hits), ("second", hits)]))
    links = [a["href"] for tag, a in reader.tags if tag == "a"]
    assert links == ["#result-1", "#result-2"]
    assert {a["id"] for tag, a in reader.tags if tag == "section"} == {"result-1", "result-2"}
