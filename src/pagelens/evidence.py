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
WORTH_SHOWING = 0.25
"""Of the question's weight; a second passage with less is a chance match."""


def evidence(
    text: PageText, weights: Mapping[int, float], languages: tuple[str, ...], read: range | None = None
) -> tuple[Evidence, ...]:
    """The passages that answer, best first; none when no word of the question is on the page.

    Args:
        text: The page's words.
        weights: The question's terms and what each is worth (idf).
        languages: As the index was made with.
        read: Positions of the words that a reranker read as the answer; their lines come first, whole.
    """
    found = passages(text, weights, languages)
    chosen = [text.words[i] for i in read if i < len(text.words)] if read else []
    if not chosen:
        return found
    matched = [word for word in chosen if terms(word.text, languages) & weights.keys()]
    first = _evidence([chosen], matched)
    return (first, *(each for each in found if not set(each.words) <= set(matched)))


def passages(
    text: PageText, weights: Mapping[int, float], languages: tuple[str, ...]
) -> tuple[Evidence, ...]:
    """Up to three passages, none longer than three lines.

    A passage is worth the sum of its distinct terms' weights, less a little for each line more than one; the
    next is looked for in the lines left over.
    """
    lines = text.lines
    matched = [[(word, terms(word.text, languages) & weights.keys()) for word in line] for line in lines]
    held = [frozenset[int]().union(*(found for _, found in line)) for line in matched]
    total = sum(weights.values()) or 1.0
    spans = [
        range(start, end)
        for start in range(len(lines))
        if held[start]
        for end in range(start + 1, min(start + SPAN, len(lines)) + 1)
        if held[end - 1] and _together(lines[start:end])
    ]

    def worth(span: range) -> float:
        distinct = frozenset[int]().union(*(held[i] for i in span))
        return sum(weights[term] for term in distinct) / total - PER_LINE * (len(span) - 1)

    values = {span: worth(span) for span in spans}
    chosen: list[Evidence] = []
    while values and len(chosen) < PASSAGES:
        span = min(values, key=lambda span: (-round(values[span], 9), span.start, span.stop))
        if chosen and values[span] < WORTH_SHOWING:
            break
        words = [word for i in span for word, found in matched[i] if found]
        chosen.append(_evidence([lines[i] for i in span], words))
        values = {other: value for other, value in values.items() if not set(other) & set(span)}
    return tuple(chosen)


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
