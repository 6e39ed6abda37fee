"""Text as people read it: cut to an excerpt, safe to print, counted."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from pagelens.records import Evidence, Word

_DIRECTION = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Embeddings, overrides and isolates, and what ends them (Unicode Standard Annex 9)."""


def excerpt(text: str, words: Iterable[Word] = (), limit: int = 240) -> str:
    """At most `limit` characters of `text` around the first of `words`, cut between words.

    White space becomes single spaces; `…` stands for what was cut off and does not count. A word longer than
    the limit, as in scripts without spaces, is cut inside.

    >>> excerpt("The lease was signed by the tenant on the first of May", limit=24)
    'The lease was signed by …'
    """
    text = " ".join(text.split())
    if len(text) <= limit:
        return text
    wanted = {word.text for word in words}
    first = next((found.start() for found in re.finditer(r"\S+", text) if found[0] in wanted), 0)
    start = max(0, min(first - limit // 3, len(text) - limit))  # a third before the match, the rest after
    end = start + limit
    if start:
        start = text.find(" ", start - 1, first) + 1 or start
    if end < len(text):
        border = text.rfind(" ", first, end + 1)
        end = border if border > start else end
    return f"{'… ' if start else ''}{text[start:end]}{' …' if end < len(text) else ''}"


def quoted(passage: Evidence) -> list[tuple[str, bool]]:
    """The words of a passage's excerpt, and whether each matches the question.

    >>> from pagelens.records import Box
    >>> quoted(Evidence("the lease", Box(0, 0, 9, 2), (Word("lease", Box(5, 0, 9, 2), line=0),)))
    [('the', False), ('lease', True)]
    """
    matching = {word.text for word in passage.words}
    return [(each, each in matching) for each in excerpt(passage.text, passage.words).split()]


def printable(text: str) -> str:
    r"""`text` with U+FFFD for control characters, lone surrogates and what changes the direction of writing.

    What a document says must not steer the terminal it is printed on, nor reorder what stands beside it.

    >>> printable("a\x1b[2Jb"), printable("invoice\u202efdp.exe")
    ('a�[2Jb', 'invoice�fdp.exe')
    """
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cs") or c in _DIRECTION else c
        for c in text
    )


def counted(number: int, noun: str) -> str:
    """`1 page`, `2 pages`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
