"""Whether the evidence shows the answer: `python benchmarks/passages.py --data DIR`.

Forms: the label of a field of `funsd-dev` is asked of its form; its value, as the ground truth has it, should
stand in the evidence. Reports: questions of `mmdocir-dev` are asked of a page that answers; the boxes of its
experts say where. `shown`: the share of the answer's boxes that all passages show, `first` by the best one
alone; `placed`: the share of the passages' words that stand in the answer, or on a form in the label.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
from collection import OUT, data_argument, opened

from pagelens import Box, Evidence, Library, Word
from pagelens.evaluation.significance import interval
from pagelens.words import terms


class Asked(NamedTuple):
    """One question, asked of the page that answers it."""

    evidence: tuple[Evidence, ...]
    words: tuple[Word, ...]
    """Of the page, as read."""
    answer: Sequence[Box]
    """Where the answer stands; on a form a box a word of the value, in a report an expert's boxes."""
    right: Sequence[Box]
    """Where evidence is in its right place: the answer, on a form also the label."""


def main() -> None:
    """Read, ask, print, write."""
    arguments = data_argument(__doc__).parse_args()
    folder, place = arguments.data / "funsd-dev", OUT / "funsd-dev.pagelens"
    with Library(place, "light") as forms:
        forms.ingest(folder / "images", regions=False, say=print)
        sets = {"forms": list(_forms(forms, folder / "annotations"))}
    with opened(arguments.data, "mmdocir-dev") as reports:
        sets["reports"] = list(_reports(reports.library, arguments.data / "mmdocir-dev" / "queries.jsonl"))
    for title in list(sets):
        sets[f"{title}, without what a label brings"] = [_without_labels(each) for each in sets[title]]
    results: dict[str, Any] = {}
    print(f"\n{'':42}{'questions':>10}{'passages':>10}{'words':>8}{'shown':>8}{'first':>8}{'placed':>8}")
    for title, asked in sets.items():
        first = [each._replace(evidence=each.evidence[:1]) for each in asked]
        row = results[title] = {
            "questions": len(asked),
            "passages": _mean([len(each.evidence) for each in asked]),
            "words": _mean([len(_within(each)) for each in asked]),
            "shown": _mean(map(_shown, asked)),
            "shown by the first": _mean(map(_shown, first)),
            "placed": _mean([value for each in asked if (value := _placed(each)) is not None]),
        }
        print(f"{title:42}{len(asked):10}{row['passages']:10.2f}{row['words']:8.1f}", end="")
        print("".join(f"{row[name]:8.3f}" for name in ("shown", "shown by the first", "placed")))
    for title in ("forms", "reports"):
        less = sets[f"{title}, without what a label brings"]
        gain = interval([_shown(a) - _shown(b) for a, b in zip(sets[title], less, strict=True)])
        print(f"{title}: a label brings " + "{:+.3f} [{:+.3f}, {:+.3f}] of the answer".format(*gain))
        results[title]["gain"] = [round(value, 4) for value in gain]
    (OUT / "passages.json").write_text(json.dumps({"schema": 1, "results": results}, indent=1) + "\n")


def _mean(values: Iterable[float]) -> float:
    return round(float(np.mean(list(values))), 4)


def _without_labels(asked: Asked) -> Asked:
    """The passages as far as their last line with a word of the question."""
    cut = []
    for each in asked.evidence:
        last = max(word.line for word in each.words)
        words = [word for word in asked.words if _holds(each.box, word.box) and word.line <= last]
        cut.append(each._replace(box=Box.around(word.box for word in words)))
    return asked._replace(evidence=tuple(cut))


def _forms(library: Library, annotations: Path) -> Iterator[Asked]:
    """Labels with a value; boxes of the ground truth are in pixels."""
    for page in library.pages():
        stem = Path(page["path"]).stem
        form = {
            f["id"]: f for f in json.loads((annotations / f"{stem}.json").read_text(encoding="utf-8"))["form"]
        }
        with PIL.Image.open(page["path"]) as image:
            scale = page["width"] / image.width
        for field in form.values():
            values = [
                form[b] for a, b in field["linking"] if a == field["id"] and form[b]["label"] == "answer"
            ]
            label, value = _boxes([field], scale), _boxes(values, scale)
            if field["label"] == "question" and value and terms(field["text"], ("eng",)):
                yield _asked(library, page["page_id"], field["text"], {"stem": stem}, value, label + value)


def _boxes(fields: Sequence[dict[str, Any]], scale: float) -> list[Box]:
    return [
        Box(*(edge * scale for edge in word["box"]))
        for field in fields
        for word in field["words"]
        if word["text"].strip()
    ]


def _reports(library: Library, queries: Path) -> Iterator[Asked]:
    """Questions with experts' boxes, each asked of the first page that has some."""
    ids = {(Path(page["path"]).stem, page["page"]): page["page_id"] for page in library.pages()}
    for line in queries.read_text(encoding="utf-8").splitlines():
        query = json.loads(line)
        if not query["layout"]:
            continue
        number = query["layout"][0]["page"] + 1
        boxes = [Box(*each["bbox"]) for each in query["layout"] if each["page"] + 1 == number]
        only = {"stem": query["doc"], "page": [number, number]}
        yield _asked(library, ids[query["doc"], number], query["query"], only, boxes, boxes)


def _asked(
    library: Library, page_id: str, question: str, only: dict[str, Any], answer: list[Box], right: list[Box]
) -> Asked:
    (hit,) = library.search(question, 1, only)
    assert hit.page_id == page_id
    return Asked(hit.evidence, library.words(page_id).words, answer, right)


def _shown(asked: Asked) -> float:
    """The share of the answer's boxes that the passages show: the middle of it, or a word in it."""
    within = _within(asked)
    held = [
        any(_holds(each.box, box) for each in asked.evidence) or any(_holds(box, word.box) for word in within)
        for box in asked.answer
    ]
    return sum(held) / len(held)


def _placed(asked: Asked) -> float | None:
    """The share of the passages' words that stand in the right place; None where there is no passage."""
    within = _within(asked)
    if not within:
        return None
    return sum(any(_holds(box, word.box) for box in asked.right) for word in within) / len(within)


def _within(asked: Asked) -> list[Word]:
    return [word for word in asked.words if any(_holds(each.box, word.box) for each in asked.evidence)]


def _holds(outer: Box, inner: Box) -> bool:
    x, y = (inner.left + inner.right) / 2, (inner.top + inner.bottom) / 2
    return outer.left <= x <= outer.right and outer.top <= y <= outer.bottom


if __name__ == "__main__":
    main()
