"""Text as people read it: excerpts, and what a terminal must not be told."""

from __future__ import annotations

import pytest

from pagelens import Box, Evidence, Word
from pagelens.wording import excerpt, printable, quoted


@pytest.mark.parametrize("limit", [10, 24, 60, 240])
def test_excerpt_is_short_and_holds_the_first_match(limit: int) -> None:
    text = "word " * 50 + "the lease was signed " + "word " * 50
    cut = excerpt(text, [Word("signed", Box(0, 0, 1, 1), line=0)], limit)
    assert len(cut.replace("… ", "").replace(" …", "")) <= limit
    assert "signed" in cut and not cut.startswith(" ") and not cut.endswith(" ")
    if limit > 10:
        assert cut.startswith("… ") and cut.endswith(" …")


def test_excerpt_cuts_a_word_without_spaces() -> None:
    assert excerpt("永" * 300, limit=10) == "永" * 10 + " …"


def test_quoted_marks_whole_words_only() -> None:
    art = Word("art", Box(0, 0, 1, 1), line=0)
    words = quoted(Evidence("charts of art", Box(0, 0, 9, 9), (art,)))
    assert words == [("charts", False), ("of", False), ("art", True)]


@pytest.mark.parametrize("bad", ["\x00", "\x1b", "\n", "\x7f", "\x9b", "\ud800", "\u202e", "\u2066"])
def test_printable_takes_out_what_steers(bad: str) -> None:
    assert printable(f"a{bad}b") == "a\ufffdb"


@pytest.mark.parametrize("good", ["é", "永", "\u0645", "\u200d", "…", "👩\u200d🔬"])
def test_printable_leaves_writing_alone(good: str) -> None:
    assert printable(good) == good
