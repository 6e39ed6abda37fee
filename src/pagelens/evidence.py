"""Where on a page the answer stands: the lines that hold most of the question's rare words."""

from __future__ import annotations

from collections.abc import Mapping

from pagelens.records import Box, Evidence, PageText, Word
from pagelens.words import terms

SPAN = 3
"""Lines in a passage at most: a label and its value often stand in neighbouring lines."""
PASSAGES = 3
PER_LINE = 0.05
"""A longer passage must gain this share of the question's weight for each line more."""


def passages(
    text: PageText, weights: Mapping[int, float], languages: tuple[str, ...]
) -> tuple[Evidence, ...]:
    """Up to three passages of the page, best first; none when no word of the question is on it.

    Args:
        text: The page's words.
        weights: The question's terms and what each is worth (idf).
        languages: As the index was made with.

    A passage is worth the sum of its distinct terms' weights, less a little for each line, and of passages
    worth the same the one whose terms stand more often; the next is looked for in the lines left over.
    """
    lines = text.lines
    matched = [[(word, terms(word.text, languages) & weights.keys()) for word in line] for line in lines]
    total = sum(weights.values()) or 1.0
    found: list[Evidence] = []
    used: set[int] = set()
    while len(found) < PASSAGES:
        best, span = 0.0, range(0)
        for start in range(len(lines)):
            for end in range(start + 1, min(start + SPAN, len(lines)) + 1):
                if used & set(range(start, end)) or not _together(lines[start:end]):
                    break
                hits = [each for line in matched[start:end] for _, each in line]
                distinct = frozenset[int]().union(*hits)
                value = sum(weights[term] for term in distinct) / total - PER_LINE * (end - start - 1)
                if value > best + 1e-9:
                    best, span = value, range(start, end)
        if not span or (found and best < 0.25):
            break
        used |= set(span)
        found.append(_evidence([lines[i] for i in span], [w for i in span for w, hit in matched[i] if hit]))
    return tuple(found)


def _together(lines: list[list[Word]]) -> bool:
    """Whether lines follow each other down the page, not from one column's end to the next one's top."""
    boxes = [Box.around(word.box for word in line) for line in lines]
    return all(
        abs(below.top - above.top) < 4 * max(above.height, below.height)
        for above, below in zip(boxes, boxes[1:], strict=False)
    )


def _evidence(lines: list[list[Word]], words: list[Word]) -> Evidence:
    box = Box.around(word.box for line in lines for word in line)
    return Evidence(" ".join(word.text for line in lines for word in line), box, tuple(words))
