"""Things that a question names, and where they are on a page."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence

from pagelens.errors import UsageError
from pagelens.records import REGION_KINDS, Evidence, Region

NAMES: Mapping[str, str] = {
    "table": r"tables?|tabellen?",
    "chart": r"charts?|graphs?|plots?|diagramme?s?|histograms?",
    "figure": r"figures?|pictures?|photos?|photographs?|drawings?|abbildung(?:en)?|fotos?|zeichnung(?:en)?",
    "signature": r"sign|signed|signs|signatures?|signatory|signatories|unterschrift(?:en)?|unterschrieben|"
    r"unterzeichnete?n?|unterzeichnet",
    "stamp": r"stamps?|stamped|seals?|stempel|gestempelt",
    "handwriting": r"handwriting|handwritten|handschrift(?:en)?|handschriftlich\w*",
    "equation": r"equations?|formulas?|formulae|gleichung(?:en)?|formeln?",
}
"""Words, English and German, that name a kind of region. "Figures" may also be numbers."""
_NAMED = {kind: re.compile(rf"\b(?:{words})\b", re.IGNORECASE) for kind, words in NAMES.items()}


def named(question: str) -> frozenset[str]:
    """The kinds of regions that a question names.

    >>> sorted(named("Who signed the table of rents?")), sorted(named("rent"))
    (['signature', 'table'], [])
    """
    return frozenset(kind for kind, words in _NAMED.items() if words.search(question))


def known(kinds: Iterable[str]) -> list[str]:
    """The kinds, in the order of `REGION_KINDS`.

    Raises:
        UsageError: there is no such kind.
    """
    wanted = set(kinds)
    if unknown := sorted(wanted - set(REGION_KINDS)):
        raise UsageError(f"no page has a {unknown[0]!r}; choose from {', '.join(REGION_KINDS)}")
    return [kind for kind in REGION_KINDS if kind in wanted]


def shown(regions: Sequence[Region], kinds: Collection[str]) -> tuple[Evidence, ...]:
    """The regions of these kinds as evidence, the surest first: what it is, and its caption."""
    chosen = sorted((each for each in regions if each.kind in kinds), key=lambda each: -each.confidence)
    return tuple(
        Evidence(f"{each.kind}: {each.caption}" if each.caption else each.kind, each.box) for each in chosen
    )
