"""How well regions are found: `python benchmarks/regions.py --data DIR`.

Recall of tables, figures and charts by the evidence boxes of `mmdocir-dev`, of questions with exactly one
type; a box is found at an IoU over .5. Boxes of tables and charts were looked at: those that hold none are
left out of a second figure. The boxes are not all that a page has, so precision is that of pages
labelled by eye (`tests/region_labels.json`), by whether a page has such a thing. Signatures by the same
labels, of `fara-dev` and `mmdocir-dev`: every page that is not listed there as signed counts as unsigned.
Intervals are Wilson's, 95%.

`--time` measures nothing of that, but what regions cost: files of `mmdocir-dev` are read by one reader with
them, without them, and the layout model alone looks at the same pages; the ratio is of the first to the sum
of the others.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from collection import OUT, data_argument

from pagelens import Library
from pagelens.ingest.layout import find_layout, iou

LABELS = Path(__file__).parent.parent / "tests" / "region_labels.json"
TIMED = 4
"""Every so many files are timed."""
Page = tuple[str, int]
"""SHA-256 of its file, and its number from 0."""
Found = Mapping[Page, dict[str, Any]]


def main() -> None:
    """Read what is not read yet, print, write JSON."""
    parser = data_argument(__doc__)
    parser.add_argument("--time", action="store_true", help="measure what regions cost")
    arguments = parser.parse_args()
    if arguments.time:
        rows = _time(sorted((arguments.data / "mmdocir-dev" / "pdf").glob("*.pdf"))[::TIMED])
        OUT.mkdir(exist_ok=True)
        (OUT / "regions_time.json").write_text(json.dumps({"schema": 1, "results": rows}, indent=1) + "\n")
        return
    reports = _found(arguments.data / "mmdocir-dev" / "pdf", "mmdocir-dev", "light")
    forms = _found(arguments.data / "fara-dev", "fara-dev", "words")
    labels = json.loads(LABELS.read_text(encoding="utf-8"))
    results = {
        "recall of boxes": _recall(arguments.data / "mmdocir-dev", reports, labels["no_such_thing"]),
        "pages": _pages(labels["pages"], reports),
        "signatures": _signatures(labels["signed"], {**reports, **forms}),
    }
    OUT.mkdir(exist_ok=True)
    (OUT / "regions.json").write_text(json.dumps({"schema": 1, "results": results}, indent=1) + "\n")


def _time(files: list[Path]) -> dict[str, Any]:
    """Seconds of an ingest with regions, one without, and the layout model alone over its pages."""
    seconds = {}
    with tempfile.TemporaryDirectory() as place:
        for name in ("without", "with", "with again", "without again"):
            with Library(Path(place) / name, "words") as library:
                started = time.perf_counter()
                pages = library.ingest(*files, readers=1, regions=not name.startswith("without")).pages
                seconds[name] = time.perf_counter() - started
                ids = [page["page_id"] for page in library.pages()]
                if name == "without":
                    started = time.perf_counter()
                    for page_id in ids:
                        find_layout(library.image(page_id))
                    seconds["layout"] = time.perf_counter() - started
    reading, whole = (seconds[name] + seconds[f"{name} again"] for name in ("without", "with"))
    ratio = whole / (reading + 2 * seconds["layout"])
    print(
        f"{pages} pages, one reader: {whole / 2:.1f} s with regions, {reading / 2:.1f} s "
        f"without, {seconds['layout']:.1f} s the layout model alone; ratio {ratio:.2f}"
    )
    return {"pages": pages, "seconds": seconds, "ratio": ratio}


def _found(folder: Path, name: str, profile: str) -> Found:
    """Every page of a collection as `Library.pages` has it."""
    digests = {
        str(path.resolve()): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.pdf")
    }
    with Library(OUT / f"{name}.pagelens", profile) as library:
        library.ingest(folder, say=print)
        return {(digests[page["path"]], page["page"] - 1): page for page in library.pages()}


def _recall(folder: Path, found: Found, wrong: list[dict[str, Any]]) -> dict[str, Any]:
    """By the boxes as they come, and by those of them that hold what they should."""
    nothing = {(each["sha256"], each["page"], each["kind"], *each["box"]) for each in wrong}
    lines = (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()
    rows = {}
    for kind in ("Table", "Figure", "Chart"):
        boxes = {
            (query["doc"], each["page"], *each["bbox"]): each["page_size"][0]
            for query in map(json.loads, lines)
            if query["type"] == [kind]
            for each in query["layout"]
        }
        hits, boxes_right = {"as such": 0, "as any": 0, "right": 0}, 0
        for (doc, number, *edges), width in boxes.items():
            digest = hashlib.sha256((folder / "pdf" / f"{doc}.pdf").read_bytes()).hexdigest()
            page = found[digest, number]
            box = [edge * page["width"] / width for edge in edges]
            seen = {each["kind"] for each in page["regions"] if iou(each["box"], box) > 0.5}
            right = (digest, number, kind.lower(), *map(round, edges)) not in nothing
            boxes_right += right
            hits["as such"] += kind.lower() in seen
            hits["as any"] += bool(seen)
            hits["right"] += right and kind.lower() in seen
        rows[kind.lower()] = {
            how: _share(count, boxes_right if how == "right" else len(boxes)) for how, count in hits.items()
        }
        print(f"{kind.lower():10} boxes found as such {rows[kind.lower()]['as such']['text']}", end=", ")
        print(f"as anything {rows[kind.lower()]['as any']['text']}")
        print(f"{'':10} that hold one by eye, found as such {rows[kind.lower()]['right']['text']}")
    return rows


def _pages(labels: list[dict[str, Any]], found: Found) -> dict[str, Any]:
    rows = {}
    for kind in ("table", "chart"):
        has = {(each["sha256"], each["page"]): kind in each["has"] for each in labels}
        says = {
            page: kind in {each["kind"] for each in found[page]["regions"]} for page in has if page in found
        }
        both = sum(has[page] and says[page] for page in says)
        rows[kind] = {
            "precision": _share(both, sum(says.values())),
            "recall": _share(both, sum(has[page] for page in says)),
        }
        print(f"{kind:10} {len(says)} pages: precision {rows[kind]['precision']['text']}", end=", ")
        print(f"recall {rows[kind]['recall']['text']}")
    return rows


def _signatures(labels: list[dict[str, Any]], found: Found) -> dict[str, Any]:
    signed = {(each["sha256"], each["page"]) for each in labels}
    says = {page for page, about in found.items() if "signature" in {r["kind"] for r in about["regions"]}}
    rows = {
        "recall": _share(len(signed & says), len(signed)),
        "false alarms": _share(len(says - signed), len(found) - len(signed)),
    }
    print(f"signatures recall {rows['recall']['text']}, false alarms {rows['false alarms']['text']}")
    return rows


def _share(count: int, of: int) -> dict[str, Any]:
    """Wilson (1927), 95%."""
    z, share = 1.96, count / of if of else 0.0
    low = high = 0.0
    if of:
        middle = share + z * z / 2 / of
        spread = z * math.sqrt(share * (1 - share) / of + z * z / 4 / of**2)
        low, high = ((middle + sign * spread) / (1 + z * z / of) for sign in (-1, 1))
    text = f"{count} of {of} = {share:.2f} [{max(0.0, low):.2f}, {min(1.0, high):.2f}]"
    return {"count": count, "of": of, "share": round(share, 4), "text": text}


if __name__ == "__main__":
    main()
