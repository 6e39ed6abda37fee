"""Two engines that draw pages: `python benchmarks/raster.py --data DIR`.

Speed, pages that cannot be drawn, pages left blank that the other one fills, and how much the pictures differ
(mean of grey, 0..1, at 200 x 200), on pages of `mmdocir-dev` drawn by a seed and all of the odd PDFs,
at the resolution pages are stored with.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pypdfium2
from collection import OUT, data_argument

from pagelens.ingest.raster import _pdfium, _poppler, fitting_dpi
from pagelens.ingest.reading import ReadSettings

PAGES = 60


def main() -> None:
    """Print a table, write JSON."""
    arguments = data_argument(__doc__).parse_args()
    sets = {
        "mmdocir-dev": _pages(arguments.data / "mmdocir-dev" / "pdf", PAGES),
        "odd PDFs": _pages(arguments.data / "odd-pdfs", None),
    }
    results = {}
    heads = ["pages", "pdfium ms", "poppler ms", "ratio", "fail", "blank", "differ"]
    print(f"{'':14}" + "".join(f"{head:>12}" for head in heads))
    for name, pages in sets.items():
        row = results[name] = _compare(pages)
        cells = [
            f"{len(pages)}",
            f"{row['pdfium ms']:.1f}",
            f"{row['poppler ms']:.1f}",
            f"{row['ratio']:.1f}",
            f"{row['pdfium fails']}/{row['poppler fails']}",
            f"{row['pdfium alone blank']}/{row['poppler alone blank']}",
            f"{row['difference']:.3f}",
        ]
        print(f"{name:14}" + "".join(f"{cell:>12}" for cell in cells), flush=True)
    OUT.mkdir(exist_ok=True)
    (OUT / "raster.json").write_text(json.dumps({"schema": 1, "results": results}, indent=1) + "\n")


def _pages(folder: Path, limit: int | None) -> list[tuple[Path, int]]:
    pages = []
    for path in sorted(folder.glob("*.pdf")):
        try:
            pages += [(path, number) for number in range(len(pypdfium2.PdfDocument(path)))]
        except pypdfium2.PdfiumError:
            continue  # encrypted or broken: opening is not drawing
    return pages if limit is None else random.Random(0).sample(pages, limit)


def _compare(pages: list[tuple[Path, int]]) -> dict[str, Any]:
    times: dict[str, list[float]] = {"pdfium": [], "poppler": []}
    fails, blank, differences = dict.fromkeys(times, 0), dict.fromkeys(times, 0), []
    for path, number in pages:
        try:
            page = pypdfium2.PdfDocument(path)[number]
        except pypdfium2.PdfiumError:
            fails["pdfium"] += 1
            continue
        width, height = page.get_size()
        dpi = fitting_dpi(width, height, ReadSettings().dpi)
        drawn = {
            "pdfium": _timed(lambda page=page, dpi=dpi: _pdfium(page, dpi), times["pdfium"]),  # type: ignore[misc]
            "poppler": _timed(lambda p=path, n=number, dpi=dpi: _poppler(p, n, dpi), times["poppler"]),  # type: ignore[misc]
        }
        small = {}
        for name, image in drawn.items():
            fails[name] += image is None
            if image is not None:
                small[name] = np.asarray(image.convert("L").resize((200, 200)), float) / 255
        if len(small) == 2:
            flat = {name: float(np.ptp(pixels)) == 0 for name, pixels in small.items()}
            blank["pdfium"] += flat["pdfium"] and not flat["poppler"]
            blank["poppler"] += flat["poppler"] and not flat["pdfium"]
            differences.append(float(np.abs(small["pdfium"] - small["poppler"]).mean()))
    middle = {name: statistics.median(each) * 1000 for name, each in times.items()}
    return {
        "pages": len(pages),
        **{f"{name} ms": each for name, each in middle.items()},
        "ratio": middle["poppler"] / middle["pdfium"],
        **{f"{name} fails": count for name, count in fails.items()},
        **{f"{name} alone blank": count for name, count in blank.items()},
        "difference": statistics.mean(differences),
    }


def _timed(draw: Callable[[], PIL.Image.Image], times: list[float]) -> PIL.Image.Image | None:
    started = time.perf_counter()
    try:
        image = draw()
    except RuntimeError:
        return None
    times.append(time.perf_counter() - started)
    return image


if __name__ == "__main__":
    main()
