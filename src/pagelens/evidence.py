"""Where on a page the answer stands: the lines that hold most of the question's rare words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from pagelens.records import Box, Evidence, PageText, Word
from pagelens.words import terms

if TYPE_CHECKING:
    from pagelens.encoders.heatmap import Heatmap

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
    """Up to three passages of up to three lines; those that follow each other on the page are one.

    A passage is worth the sum of its distinct terms' weights, less a little for each line more than one; the
    next is looked for in the lines left over. One that says nothing but the question is a label or a heading:
    it takes in the lines after it, because what is asked for stands there.
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

    def is_label(span: range) -> bool:
        return all(found or not terms(word.text, languages) for i in span for word, found in matched[i])

    def follows(line: int) -> bool:
        return line < len(lines) and _together(lines[line - 1 : line + 1])

    values = {span: worth(span) for span in spans}
    chosen: list[range] = []
    for _ in range(PASSAGES):
        if not values:
            break
        span = min(values, key=lambda span: (-round(values[span], 9), span.start, span.stop))
        if chosen and values[span] < WORTH_SHOWING:
            break
        if is_label(span):
            while len(span) < SPAN and follows(span.stop):
                span = range(span.start, span.stop + 1)
        chosen.append(span)
        values = {other: value for other, value in values.items() if not set(other) & set(span)}
    return tuple(
        _evidence([lines[i] for i in span], [word for i in span for word, found in matched[i] if found])
        for span in _joined(chosen, follows)
    )


def seen(heatmap: Heatmap, text: PageText) -> tuple[Evidence, ...]:
    """Up to three parts of a page that look like the question, with the words that stand in them."""
    parts = []
    for box, _ in heatmap.regions()[:PASSAGES]:
        inside = [
            word.text
            for word in text.words
            if box.left <= (word.box.left + word.box.right) / 2 < box.right
            and box.top <= (word.box.top + word.box.bottom) / 2 < box.bottom
        ]
        parts.append(Evidence(" ".join(inside), box))
    return tuple(parts)


def _joined(spans: Sequence[range], follows: Callable[[int], bool]) -> list[range]:
    """Spans that overlap or follow each other as one, where the first of them stood."""
    joined: list[range] = []
    for span in spans:
        place = len(joined)
        for i, other in reversed(list(enumerate(joined))):
            border = max(span.start, other.start)
            between = border - min(span.stop, other.stop)
            if between < 0 or (between == 0 and follows(border)):
                span = range(min(span.start, other.start), max(span.stop, other.stop))
                place = i
                del joined[i]
        joined.insert(place, span)
    return joined


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
