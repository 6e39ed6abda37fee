"""What tells a chart from other figures: `python benchmarks/chart_weights.py --data DIR`.

Fits the weights of `ingest/figures.py` to evidence boxes of `mmdocir-dev` (of questions of one type) and to
every third page of `opencqa-dev`, each of which is a chart. What they are worth is measured on documents
that had no part in the fit; what the shipped ones do stands beside it, on what these were fitted to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from collection import OUT, data_argument, opened
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_predict

from pagelens import Library
from pagelens.ingest.figures import FEATURES, THRESHOLD, WEIGHTS, measure
from pagelens.ingest.regions import BESIDE
from pagelens.records import Box

THIRD = 3
"""Every so many pages of `opencqa-dev`: as many as make the kinds about even."""
FOLDS = 10


def main() -> None:
    """Print the table, write JSON."""
    data = data_argument(__doc__).parse_args().data
    examples: list[tuple[str, bool, dict[str, float]]] = []
    with opened(data, "mmdocir-dev") as collection:
        examples += _boxes(collection.library, data / "mmdocir-dev" / "queries.jsonl")
    with opened(data, "opencqa-dev") as collection:
        for page in list(collection.library.pages())[::THIRD]:
            whole = Box(0, 0, page["width"], page["height"])
            examples.append((page["path"], True, _measured(collection.library, page, whole)))
    groups = np.unique([group for group, _, _ in examples], return_inverse=True)[1]
    is_chart = np.array([chart for _, chart, _ in examples])
    rows = np.array([[values[name] for name in FEATURES] for _, _, values in examples])
    model = LogisticRegression(class_weight="balanced", max_iter=10_000)
    held_out = cross_val_predict(model, rows, is_chart, groups=groups, cv=GroupKFold(FOLDS))
    model.fit(rows, is_chart)
    shipped = rows @ [WEIGHTS[name] for name in FEATURES] > THRESHOLD
    print(f"{is_chart.sum()} charts, {(~is_chart).sum()} other figures")
    print(f"{'':10}{'fitted':>8}{'shipped':>9}  what it is")
    for (name, about), weight in zip(FEATURES.items(), model.coef_[0], strict=True):
        print(f"{name:10}{weight:8.2f}{WEIGHTS[name]:9.2f}  {about}")
    print(f"{'threshold':10}{-model.intercept_[0]:8.2f}{THRESHOLD:9.2f}")
    results: dict[str, Any] = {}
    for name, said in {"fitted, out of fold": held_out, "shipped": shipped}.items():
        known, mistaken = float(said[is_chart].mean()), float(said[~is_chart].mean())
        results[name] = {"charts known": known, "others taken for charts": mistaken}
        print(f"{name}: {known:.0%} of the charts known, {mistaken:.0%} of the others taken for one")
    OUT.mkdir(exist_ok=True)
    (OUT / "chart_weights.json").write_text(json.dumps({"schema": 1, "results": results}, indent=1) + "\n")


def _boxes(library: Library, questions: Path) -> Iterator[tuple[str, bool, dict[str, float]]]:
    """Document, whether it is a chart, and the features of each evidence box."""
    pages = {(Path(page["path"]).stem, page["page"] - 1): page for page in library.pages()}
    seen = set()
    for query in map(json.loads, questions.read_text(encoding="utf-8").splitlines()):
        if query["type"] not in (["Chart"], ["Figure"]):
            continue
        for each in query["layout"]:
            page = pages[query["doc"], each["page"]]
            box = Box(*(edge * page["width"] / each["page_size"][0] for edge in each["bbox"]))
            if (page["page_id"], box) not in seen:
                seen.add((page["page_id"], box))
                yield query["doc"], query["type"] == ["Chart"], _measured(library, page, box)


def _measured(library: Library, page: dict[str, Any], box: Box) -> dict[str, float]:
    picture = library.image(page["page_id"])
    scale = picture.width / page["width"]
    left, top, right, bottom = (round(edge * scale) for edge in box)
    near = Box(box.left - BESIDE, box.top - BESIDE, box.right + BESIDE, box.bottom + BESIDE)
    return measure(picture.crop((left, top, right, bottom)), library.words(page["page_id"]).within(near), box)


if __name__ == "__main__":
    main()
