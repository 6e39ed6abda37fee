"""What an ingest costs beyond reading its pages: `python benchmarks/ingest.py --data DIR`.

Three measurements over `mmdocir-dev`. Scanned pages: the whole ingest against the reading function alone, run
on the same rasters in memory by as many processes. Text-layer pages: pages a second and core without dense
text. All pages: memory (sum of PSS of all processes) at page 100 and page 900, bytes a page, a second ingest.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import PIL.Image
import pypdfium2
from collection import OUT, data_argument, opened
from processes import MemoryWatch

from pagelens import Library, Progress
from pagelens.encoders.sparse import Bm25Encoder
from pagelens.encoders.text import TextEncoder
from pagelens.ingest.documents import OpenDocument, open_document
from pagelens.ingest.reading import ReadSettings, read_page
from pagelens.store.client import EdgeStore
from pagelens.store.pages import PageFiles

STEPS: dict[str, tuple[type, str]] = {
    "text vectors": (TextEncoder, "encode_pages"),
    "bm25": (Bm25Encoder, "encode_pages"),
    "page files": (PageFiles, "write"),
    "points": (EdgeStore, "upsert"),
}


def main() -> None:
    """Print the tables, write JSON."""
    parser = data_argument(__doc__)
    parser.add_argument("--scanned", type=int, default=292, help="scanned pages at most")
    arguments = parser.parse_args()
    readers = os.cpu_count() or 1
    work = OUT / "ingest"
    shutil.rmtree(work, ignore_errors=True)
    scanned, layered = _parts(arguments.data, work, arguments.scanned)

    with multiprocessing.get_context("spawn").Pool(readers) as pool:
        reading = sum(pool.imap_unordered(_read, _pages(scanned))) / readers
    spent, seconds, pages, _ = _ingest(work / "scanned.pagelens", scanned, "light")
    ratio = seconds / reading
    print(
        f"{pages} scanned pages: {seconds:.1f} s, reading alone {reading:.1f} s, "
        f"ratio {ratio:.2f} (goal 1.10)"
    )
    for name, each in spent.items():
        print(f"  {name:14}{each / seconds:6.1%} of the time, beside the readers")

    _, seconds, pages, _ = _ingest(work / "layered.pagelens", layered, "words")
    rate = pages / seconds / readers
    print(f"{pages} pages with a text layer, without dense text: {rate:.1f} pages/s and core (goal 20)")

    library = work / "all.pagelens"
    _, _, pages, marks = _ingest(library, [arguments.data / "mmdocir-dev" / "pdf"], "light")
    early, late, peak = (marks[key] / 2**30 for key in ("100", "900", "peak"))
    print(f"memory: {early:.2f} GiB at page 100, {late:.2f} at page 900, peak {peak:.2f} (goal 1.5, flat)")
    with Library(library) as again:
        repeat = again.ingest(arguments.data / "mmdocir-dev" / "pdf").seconds
        sizes = again.status()["bytes"]
    print(f"a second ingest: {repeat:.2f} s")
    for name, size in sizes.items():
        print(f"  {name:8}{size / pages / 1000:8.1f} KB a page")
    whole = sum(sizes.values()) / pages / 1000
    print(f"  {'all':8}{whole:8.1f} KB a page (goal 400)")
    report = {
        "schema": 1,
        "scanned_over_reading": ratio,
        "layered_pages_per_second_and_core": rate,
        "memory_gib": {"page 100": early, "page 900": late, "peak": peak},
        "kilobytes_per_page": {name: size / pages / 1000 for name, size in sizes.items()},
        "second_ingest_seconds": repeat,
    }
    (OUT / "ingest.json").write_text(json.dumps(report, indent=1) + "\n")


def _parts(data: Path, work: Path, limit: int) -> tuple[list[Path], list[Path]]:
    """PDFs of the pages that were read by OCR, and of the others; a file a file they come from."""
    with opened(data, "mmdocir-dev") as collection:
        records = list(collection.library.pages())
    chosen: dict[bool, dict[str, list[int]]] = {True: {}, False: {}}
    taken = 0
    for record in records:
        is_scan = record["text_source"] != "layer"
        if is_scan and taken == limit:
            continue
        taken += is_scan
        chosen[is_scan].setdefault(record["path"], []).append(record["page"] - 1)
    parts = {}
    for is_scan, files in chosen.items():
        folder = work / ("scanned" if is_scan else "layered")
        folder.mkdir(parents=True)
        for path, numbers in files.items():
            source, part = pypdfium2.PdfDocument(path), pypdfium2.PdfDocument.new()
            part.import_pages(source, numbers)
            part.save(folder / Path(path).name)
        parts[is_scan] = sorted(folder.iterdir())
    return parts[True], parts[False]


def _pages(files: list[Path]) -> list[tuple[Path, int]]:
    return [(path, number) for path in files for number in range(len(pypdfium2.PdfDocument(path)))]


class _InMemory:
    """A page's rasters, drawn before the clock starts."""

    def __init__(self, source: OpenDocument, number: int, settings: ReadSettings) -> None:
        self._source, self._rasters = source, {}
        self.document = source.document
        read_page_draws: Callable[..., PIL.Image.Image] = source.render
        share, own = source.scan(number)
        low, high = settings.ocr_dpi
        for dpi in (settings.dpi, min(max(own, low), high) if share > 0 else high):
            self._rasters[dpi] = read_page_draws(number, dpi, settings.raster)

    def render(self, number: int, dpi: float, *_: Any) -> PIL.Image.Image:
        return self._rasters[dpi]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)


def _read(page: tuple[Path, int]) -> float:
    """Seconds of the reading function on one page."""
    path, number = page
    settings = ReadSettings()
    document = open_document(path)
    held = _InMemory(document, number, settings)
    started = time.perf_counter()
    read_page(held, number, settings)
    return time.perf_counter() - started


def _ingest(
    folder: Path, paths: list[Path], profile: str
) -> tuple[dict[str, float], float, int, dict[str, int]]:
    """Seconds of each step, seconds in all, pages, memory by page."""
    spent = dict.fromkeys(STEPS, 0.0)
    before = {name: getattr(owner, method) for name, (owner, method) in STEPS.items()}
    for name, (owner, method) in STEPS.items():
        setattr(owner, method, _timed(before[name], spent, name))
    watch = MemoryWatch()
    watch.start()
    marks: dict[str, int] = {}

    def look(now: Progress) -> None:
        if now.done in (100, 900):
            marks[str(now.done)] = watch.now

    try:
        with Library(folder, profile) as library:
            report = library.ingest(*paths, progress=look)
    finally:
        watch.stop()
        for name, (owner, method) in STEPS.items():
            setattr(owner, method, before[name])
    return spent, report.seconds, report.pages, {"100": 0, "900": 0, **marks, "peak": watch.peak}


def _timed(function: Callable[..., Any], spent: dict[str, float], name: str) -> Callable[..., Any]:
    def measured(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        try:
            return function(*arguments, **options)
        finally:
            spent[name] += time.perf_counter() - started

    return measured


if __name__ == "__main__":
    main()
