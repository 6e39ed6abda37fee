"""What an ingest costs beyond reading its pages: `python benchmarks/ingest.py --data DIR`.

Three measurements over `mmdocir-dev`. All pages: memory (sum of PSS of all processes) around page 100 and
page 900, bytes a page, a second ingest. Scanned pages: the whole ingest against the reading function alone,
in as many processes, without the time that drawing takes it; half of the pages are read before the ingest and
half after, so that a machine with other work to do is as busy with both. Text-layer pages: pages a second and
core without dense text. Beside the clock's seconds stand those of the processor, which other work hardly
changes; the steps are in these.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import pypdfium2
from collection import OUT, data_argument
from processes import MemoryWatch

from pagelens import Library, Progress
from pagelens.encoders.sparse import Bm25Encoder
from pagelens.encoders.text import TextEncoder
from pagelens.ingest import reading
from pagelens.ingest.documents import open_document
from pagelens.ingest.pdf import PdfFile
from pagelens.ingest.reading import ReadSettings, read_page
from pagelens.store.client import EdgeStore
from pagelens.store.pages import PageFiles

BESIDE: dict[str, tuple[object, str]] = {
    "text vectors": (TextEncoder, "encode_pages"),
    "bm25": (Bm25Encoder, "encode_pages"),
    "page files": (PageFiles, "write"),
    "points": (EdgeStore, "upsert"),
}
"""What the ingest does itself while its readers read."""
INSIDE: dict[str, tuple[object, str]] = {
    "drawing": (PdfFile, "render"),
    "layer": (PdfFile, "words"),
    "orientation, skew, OCR": (reading, "_read_scan"),
    "JPEG": (reading, "_jpeg"),
}
"""What the reading function does."""
AROUND = 50
"""Pages before and after the one at which memory is looked at; the median of these is told."""


def main() -> None:
    """Print the tables, write JSON."""
    parser = data_argument(__doc__)
    parser.add_argument("--scanned", type=int, default=292, help="scanned pages at most")
    arguments = parser.parse_args()
    cores = os.cpu_count() or 1
    files = arguments.data / "mmdocir-dev" / "pdf"
    work = OUT / "ingest"
    shutil.rmtree(work, ignore_errors=True)

    run = _ingest(work / "all.pagelens", [files], "light")
    early, late, peak = (each / 2**30 for each in (run.memory_at(100), run.memory_at(900), run.peak))
    print(
        f"{run.pages} pages: {run.wall:.0f} s; memory {early:.2f} GiB around page 100, {late:.2f} around "
        f"page 900, at most {peak:.2f} (goal 1.5, flat)",
        flush=True,
    )
    with Library(work / "all.pagelens") as library:
        again = library.ingest(files, regions=False)
        assert not again.pages, "a second ingest read pages"
        sizes = {name: size / run.pages / 1000 for name, size in library.status()["bytes"].items()}
        scanned, layered = _parts(library, work, arguments.scanned)
    print(f"a second ingest: {again.seconds:.2f} s for {again.unchanged} files")
    for name, size in sizes.items():
        print(f"  {name:24}{size:8.1f} KB a page")
    print(f"  {'all':24}{sum(sizes.values()):8.1f} KB a page (goal 400)", flush=True)

    pages = [(path, number) for path in scanned for number in range(len(pypdfium2.PdfDocument(path)))]
    first = _reading(pages[::2], cores)
    run = _ingest(work / "scanned.pagelens", scanned, "light")
    second = _reading(pages[1::2], cores)
    alone = Costs(first.wall + second.wall, first.cpu + second.cpu)
    wall, cpu = run.wall / alone.wall, run.cpu / alone.cpu
    print(
        f"{run.pages} scanned pages: {run.wall:.0f} s, reading alone {alone.wall:.0f} s, ratio {wall:.2f} "
        f"(goal 1.10); of processor time {run.cpu:.0f} s, {alone.cpu:.0f} s, ratio {cpu:.2f}"
    )
    inside = {name: first.spent[name] + second.spent[name] for name in INSIDE}
    for name, seconds in [*inside.items(), *((f"{name}, beside", s) for name, s in run.spent.items())]:
        print(f"  {name:24}{seconds / run.pages * 1000:8.1f} ms a page")
    ratios = {"wall": wall, "processor": cpu}

    run = _ingest(work / "layered.pagelens", layered, "words")
    rates = {"wall": run.pages / run.wall / cores, "processor": run.pages / run.cpu}
    print(
        f"{run.pages} pages with a text layer, without dense text: {rates['wall']:.1f} pages/s and core "
        f"(goal 20), {rates['processor']:.1f} a second of processor"
    )
    for name, seconds in run.spent.items():
        print(f"  {name + ', beside':24}{seconds / run.pages * 1000:8.1f} ms a page")
    report = {
        "schema": 2,
        "scanned_over_reading": ratios,
        "layered_pages_per_second_and_core": rates,
        "memory_gib": {"page 100": early, "page 900": late, "peak": peak},
        "kilobytes_per_page": sizes,
        "second_ingest_seconds": again.seconds,
    }
    (OUT / "ingest.json").write_text(json.dumps(report, indent=1) + "\n")


def _parts(library: Library, work: Path, limit: int) -> tuple[list[Path], list[Path]]:
    """PDFs of the pages that were read by OCR, and of the others; a file a file they come from."""
    chosen: dict[bool, dict[str, list[int]]] = {True: {}, False: {}}
    taken = 0
    for record in library.pages():
        is_scan = not record["text_source"].startswith("layer")
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


@dataclass
class Costs:
    """Seconds."""

    wall: float
    cpu: float
    """Of every process."""
    spent: dict[str, float] = field(default_factory=dict)
    """By step."""


def _reading(pages: list[tuple[Path, int]], processes: int) -> Costs:
    """The reading function alone, on these pages, without drawing them."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        each = list(pool.imap_unordered(_read, pages))
    spent = {name: sum(costs.spent[name] for costs in each) for name in INSIDE}
    return Costs(sum(costs.wall for costs in each) / processes, sum(costs.cpu for costs in each), spent)


def _read(page: tuple[Path, int]) -> Costs:
    path, number = page
    document = open_document(path)
    with _timed({**INSIDE}) as spent:
        started, used = time.perf_counter(), _cpu()
        read_page(document, number, ReadSettings(regions=False))
        seconds, used = time.perf_counter() - started, _cpu() - used
    document.close()
    busy = seconds / used  # on a machine with other work a second of processor takes longer
    return Costs(seconds - spent["drawing"] * busy, used - spent["drawing"], spent)


class Run(NamedTuple):
    """What an ingest cost."""

    pages: int
    wall: float
    cpu: float
    spent: dict[str, float]
    memory: list[tuple[int, int]]
    """Pages done and bytes, page by page."""
    peak: int

    def memory_at(self, page: int) -> float:
        """Bytes around that page."""
        return median([size for done, size in self.memory if abs(done - page) <= AROUND] or [0])


def _ingest(folder: Path, paths: list[Path], profile: str) -> Run:
    watch = MemoryWatch()
    watch.start()
    memory: list[tuple[int, int]] = []

    def look(now: Progress) -> None:
        memory.append((now.done, watch.now))

    used = _cpu()
    try:
        with _timed(BESIDE) as spent, Library(folder, profile) as library:
            report = library.ingest(*paths, regions=False, progress=look)
    finally:
        watch.stop()
    return Run(report.pages, report.seconds, _cpu() - used, spent, memory, watch.peak)


def _cpu() -> float:
    """Seconds of processor that this process and its ended children have had."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@contextmanager
def _timed(steps: dict[str, tuple[Any, str]]) -> Iterator[dict[str, float]]:
    """Seconds of processor spent in each step meanwhile, in this process and its ended children."""
    spent = dict.fromkeys(steps, 0.0)
    before = {name: getattr(owner, function) for name, (owner, function) in steps.items()}
    for name, (owner, function) in steps.items():
        setattr(owner, function, _clocked(before[name], spent, name))
    try:
        yield spent
    finally:
        for name, (owner, function) in steps.items():
            setattr(owner, function, before[name])


def _clocked(function: Callable[..., Any], spent: dict[str, float], name: str) -> Callable[..., Any]:
    def clocked(*arguments: Any, **options: Any) -> Any:
        started = _cpu()
        try:
            return function(*arguments, **options)
        finally:
            spent[name] += _cpu() - started

    return clocked


if __name__ == "__main__":
    main()
