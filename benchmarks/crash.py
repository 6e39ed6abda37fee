"""Kill an ingest at random moments, go on, and compare: `python benchmarks/crash.py`.

Every process of it is ended by SIGKILL at once, somewhere between its first page and its last, in a fresh
library of image-only pages each time; then it is run again. The library must come out as that of a run that
nobody disturbed: the same pages, words and vectors, none missing, none twice.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
from processes import kill

from pagelens import Library
from pagelens.records import SparseVector
from pagelens.sample.sheet import Sheet
from pagelens.store.plan import Where

OUT = Path("benchmark-output/crash")
FILES, PAGES = 6, 10
"""Slips of three lines, so that thirty runs take minutes; images alone, so that OCR reads them."""
INGEST = """
import sys
from pagelens import Library
with Library(sys.argv[1], profile="light") as library:
    library.ingest(sys.argv[2], readers=2, regions=False)
"""


class Contents(NamedTuple):
    """What one library holds."""

    exact: str
    """Digest of payloads and sparse vectors."""
    dense: dict[str, np.ndarray]
    pages: int
    faults: int

    def is_like(self, other: Contents) -> bool:
        """The same, but for the last bits of text vectors: other batches, other sums of floats."""
        return (
            (self.exact, self.faults) == (other.exact, other.faults)
            and self.dense.keys() == other.dense.keys()
            and all(np.abs(self.dense[id] - other.dense[id]).max() < 1e-6 for id in self.dense)
        )


def main() -> None:
    """Print a line a kill, write JSON, end with 1 when any library differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    shutil.rmtree(OUT, ignore_errors=True)
    scans = OUT / "scans"
    write_slips(scans, random.Random(arguments.seed))
    started = time.monotonic()
    _ingest(OUT / "undisturbed", scans)
    seconds = time.monotonic() - started
    wanted = contents(OUT / "undisturbed")
    print(f"undisturbed: {wanted.pages} pages in {seconds:.1f} s, digest {wanted.exact[:12]}", flush=True)
    rng = random.Random(arguments.seed)
    kills: list[dict[str, object]] = []
    missed = 0
    while len(kills) < arguments.kills:
        library = OUT / f"killed-{len(kills) + missed}"
        process = subprocess.Popen([sys.executable, "-c", INGEST, str(library), str(scans)])
        while not list((library / "pages").rglob("*.jpg")) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.7 * seconds))  # the start of Python is behind it
        if process.poll() is not None:
            missed += 1  # it was done before the blow
            continue
        kill(process.pid)
        process.wait()
        with Library(library) as opened:
            left = opened.status()["pages"]
            whole = sum(point.payload["whole"] for point in opened._documents())
        _ingest(library, scans)
        after = contents(library)
        same = after.is_like(wanted)
        kills.append({"pages": left, "documents": whole, "after": after.pages, "same": same})
        print(
            f"kill {len(kills):2}: {left} pages and {whole} whole documents were there, then {after.pages}: "
            f"{'the same' if same else 'DIFFERENT'}",
            flush=True,
        )
    alike = sum(bool(each["same"]) for each in kills)
    print(
        f"{alike} of {len(kills)} libraries are the same as the undisturbed one "
        f"({missed} blows came too late)"
    )
    report = {"schema": 1, "pages": wanted.pages, "same": alike, "late": missed, "kills": kills}
    (OUT.parent / "crash.json").write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(alike != len(kills))


def write_slips(folder: Path, rng: random.Random) -> None:
    """`FILES` PDF files of `PAGES` scanned slips each."""
    folder.mkdir(parents=True)
    nouns = [
        "barge",
        "cutter",
        "ferry",
        "harbour",
        "lantern",
        "mooring",
        "pilot",
        "schooner",
        "timber",
        "wharf",
    ]
    for file in range(FILES):
        images = []
        for page in range(PAGES):
            sheet = Sheet(300, 110)
            sheet.text(20, 30, f"Slip {page + 1} of book {file + 1}")
            for line in (55, 80):
                sheet.text(20, line, f"{rng.randint(10, 999)} {' and '.join(rng.sample(nouns, 3))}")
            images.append(sheet.render(200))
        images[0].save(
            folder / f"book-{file + 1}.pdf", save_all=True, append_images=images[1:], resolution=200
        )


def _ingest(library: Path, scans: Path) -> None:
    subprocess.run([sys.executable, "-c", INGEST, str(library), str(scans)], check=True)


def contents(folder: Path) -> Contents:
    """Everything the library holds but places and times, after its own check."""
    exact = hashlib.sha256()
    dense: dict[str, np.ndarray] = {}
    with Library(folder) as library:
        faults = [finding for finding in library.check() if finding.is_fault]
        names = ["bm25", "text", "document_bm25"]
        for point in library._store.scroll(Where(), vectors=names):
            kept = {k: v for k, v in point.payload.items() if k not in ("home", "roots", "date", "files")}
            exact.update(json.dumps([point.id, kept, sorted(point.vectors)], sort_keys=True).encode())
            for name in names:
                vector = point.vectors.get(name)
                if isinstance(vector, SparseVector):
                    order = np.argsort(vector.indices)
                    exact.update(vector.indices[order].tobytes() + vector.values[order].tobytes())
                elif vector is not None:
                    dense[point.id] = vector
        return Contents(exact.hexdigest(), dense, library.status()["pages"], len(faults))


if __name__ == "__main__":
    main()
