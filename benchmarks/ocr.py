"""How well pages are read, and what it costs: `python benchmarks/ocr.py --data DIR`.

Three tables. Noisy forms (`funsd-dev`, 100 DPI) against their annotation, by engine, resolution and page
segmentation. Clean pages of `mmdocir-dev`, drawn at several resolutions, against their own text layer.
Pages turned and leaning, through the whole reading function: how many are put right, and what is read then.

Word recall: annotated words found, as often as they occur; white space and the punctuation around a word
and the kind of dash and quote do not count. Numbers: the same for words with digits and without letters.
Character error: edits between the text of an annotated form field and what was read inside its box, over
the field's length, at most 1 a field; reading order plays no part.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image
import pypdfium2
from collection import OUT, data_argument
from PIL.Image import Resampling

from pagelens.ingest import ocr
from pagelens.ingest.documents import open_document
from pagelens.ingest.reading import ReadSettings, read_page
from pagelens.ingest.text import distrust
from pagelens.records import Box, Word

FORM_DPI = 100
"""Of `funsd-dev`: its pages are 1000 pixels high."""
OFF = 2.5
"""Degrees: some of the forms lean by 2 themselves, and less than 1 is left as it is."""
DASHES = str.maketrans("–—−‐‑’‘“”", "-----''\"\"")
Reader = Callable[[PIL.Image.Image, float], list[Word]]


@dataclass(frozen=True)
class Truth:
    """A picture and what stands on it."""

    picture: PIL.Image.Image
    dpi: float
    words: list[str]
    fields: list[tuple[str, Box]]
    """Text and box, in pixels of the picture; none where only words are known."""


def main() -> None:
    """Print the tables, write JSON."""
    parser = data_argument(__doc__)
    parser.add_argument("--pages", type=int, default=20, help="clean pages")
    parser.add_argument("--only", choices=["forms", "clean", "turned"], help="one of the tables")
    arguments = parser.parse_args()
    forms = list(_forms(arguments.data / "funsd-dev"))
    clean = _clean_pages(arguments.data / "mmdocir-dev" / "pdf", arguments.pages)
    tables = {
        "forms": lambda: _noisy_forms(forms),
        "clean": lambda: _resolutions(clean),
        "turned": lambda: _turned(forms[::2], clean[::2]),
    }
    wanted = [arguments.only] if arguments.only else list(tables)
    report = {name: tables[name]() for name in wanted}
    OUT.mkdir(exist_ok=True)
    (OUT / "ocr.json").write_text(json.dumps({"schema": 1, **report}, indent=1) + "\n")


def _noisy_forms(forms: list[Truth]) -> dict[str, Any]:
    print(f"\n{len(forms)} noisy forms   word recall  numbers  character error  s/page", flush=True)
    rows = {}
    for name, scale, reader in _readers():
        rows[name] = measure(reader, [_scaled(form, scale) for form in forms])
        _print(name, rows[name])
    return rows


def _resolutions(clean: list[tuple[Path, int]]) -> dict[str, Any]:
    print(f"\n{len(clean)} clean pages   word recall  numbers  s/page", flush=True)
    rows = {}
    for dpi in (150, 200, 250, 300, 400):
        pages = [_drawn(path, number, dpi) for path, number in clean]
        rows[str(dpi)] = measure(_tesseract(ocr.WHOLE_PAGE), pages)
        _print(f"tesseract, {dpi} DPI", rows[str(dpi)])
    return rows


def _turned(forms: list[Truth], clean: list[tuple[Path, int]]) -> dict[str, Any]:
    print("\nturned by, then read   put right  word recall  s/page", flush=True)
    rows = {}
    sets = {
        "clean": [_drawn(path, number, 200) for path, number in clean],
        "forms": [_scaled(form, 2.0) for form in forms],
    }
    for name, pages in sets.items():
        for degrees in (0.0, 90.0, 180.0, 270.0, 2.0, -3.3, 5.0, 184.0):
            right, row = _put_right(pages, degrees)
            rows[f"{name} {degrees:g}"] = {"right": right, "pages": len(pages), **row}
            print(
                f"{name:8}{degrees:8g}{right:10} of {len(pages)}{row['words']:9.3f}{row['seconds']:8.2f}",
                flush=True,
            )
    return rows


def _readers() -> Iterable[tuple[str, float, Reader]]:
    for dpi in (100, 150, 200, 300):
        yield f"tesseract, page, {dpi} DPI", dpi / FORM_DPI, _tesseract(ocr.WHOLE_PAGE)
    for dpi in (100, 200):
        yield f"tesseract, anywhere, {dpi} DPI", dpi / FORM_DPI, _tesseract(ocr.ANYWHERE)
    for dpi in (100, 200):
        yield f"rapidocr, {dpi} DPI", dpi / FORM_DPI, _rapidocr


def _tesseract(segmentation: int) -> Reader:
    return lambda picture, dpi: ocr.tesseract(picture, dpi, ("eng",), 60, segmentation)


def _rapidocr(picture: PIL.Image.Image, dpi: float) -> list[Word]:
    return ocr.read(picture, dpi, "rapidocr", ("eng",), 60).words


def measure(read: Reader, pages: Sequence[Truth]) -> dict[str, float]:
    """Shares over all pages, seconds a page."""
    found = wanted = found_numbers = wanted_numbers = edits = letters = 0
    seconds = 0.0
    for page in pages:
        started = time.perf_counter()
        words = read(page.picture, page.dpi)
        seconds += time.perf_counter() - started
        have, want = _counted(word.text for word in words), _counted(page.words)
        found += (have & want).total()
        wanted += want.total()
        numbers = Counter({word: count for word, count in want.items() if _is_number(word)})
        found_numbers += (have & numbers).total()
        wanted_numbers += numbers.total()
        for text, box in page.fields:
            inside = "".join(word.text for word in words if _is_inside(word.box, box))
            edits += min(len(text), edit_distance(text, inside))
            letters += len(text)
    return {
        "words": found / max(1, wanted),
        "numbers": found_numbers / max(1, wanted_numbers),
        **({"character error": edits / letters} if letters else {}),
        "seconds": seconds / max(1, len(pages)),
    }


def edit_distance(a: str, b: str) -> int:
    """Insertions, deletions and substitutions between two texts (Levenshtein).

    >>> edit_distance("invoice", "1nvoce")
    2
    """
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


def _put_right(pages: Sequence[Truth], degrees: float) -> tuple[int, dict[str, float]]:
    """How many of the pages, turned, come back upright; and what is read then."""
    settings, right = ReadSettings(), 0

    def read(picture: PIL.Image.Image, dpi: float) -> list[Word]:
        nonlocal right
        path = OUT / "turned.png"
        quarter = round(degrees / 90) * 90
        picture = picture.rotate(quarter, expand=True)
        lean = degrees - quarter
        picture = picture.rotate(lean, Resampling.BICUBIC, expand=True, fillcolor=255)
        picture.save(path, dpi=(dpi, dpi))
        document = open_document(path)
        content = read_page(document, 0, settings)
        document.close()
        off = (degrees + content.page.turned + 180) % 360 - 180
        right += abs(off) <= OFF
        return list(content.text.words)

    OUT.mkdir(exist_ok=True)
    row = measure(read, [Truth(page.picture, page.dpi, page.words, []) for page in pages])
    return right, row


def _forms(folder: Path) -> Iterable[Truth]:
    for path in sorted((folder / "annotations").glob("*.json")):
        form = json.loads(path.read_text(encoding="utf-8"))["form"]
        picture = PIL.Image.open(folder / "images" / f"{path.stem}.png").convert("L")
        words = [word["text"] for field in form for word in field["words"]]
        fields = [("".join(field["text"].split()), Box(*field["box"])) for field in form]
        yield Truth(picture, FORM_DPI, words, [each for each in fields if each[0]])


def _scaled(page: Truth, scale: float) -> Truth:
    size = round(page.picture.width * scale), round(page.picture.height * scale)
    fields = [(text, Box(*(edge * scale for edge in box))) for text, box in page.fields]
    return Truth(page.picture.resize(size, Resampling.LANCZOS), page.dpi * scale, page.words, fields)


def _clean_pages(folder: Path, wanted: int) -> list[tuple[Path, int]]:
    """Pages with a trusted layer that no OCR made, as many of each file, drawn by a fixed seed."""
    rng, found = random.Random(0), []
    for path in sorted(folder.glob("*.pdf")):
        document = open_document(path)
        for number in rng.sample(range(document.document.pages), min(8, document.document.pages)):
            words, size, share = document.words(number), document.size(number), document.scan(number)[0]
            if len(words) > 100 and share < 0.5 and distrust(words, *size, share) is None:
                found.append((path, number))
        document.close()
    rng.shuffle(found)
    return sorted(found[:wanted])


def _drawn(path: Path, number: int, dpi: float) -> Truth:
    document = open_document(path)
    words = [word.text for word in document.words(number)]
    document.close()
    picture = pypdfium2.PdfDocument(path)[number].render(scale=dpi / 72).to_pil().convert("L")
    return Truth(picture, dpi, words, [])


def _counted(words: Iterable[str]) -> Counter[str]:
    plain = (word.translate(DASHES).strip(".,;:!?()[]{}'\"*•") for word in words)
    return Counter(word for word in plain if word)


def _is_number(word: str) -> bool:
    return any(c.isdigit() for c in word) and not any(c.isalpha() for c in word)


def _is_inside(box: Box, field: Box) -> bool:
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    return field.left - 2 <= x <= field.right + 2 and field.top - 2 <= y <= field.bottom + 2


def _print(name: str, row: dict[str, float]) -> None:
    cells = "".join(f"{value:10.3f}" for key, value in row.items() if key != "seconds")
    print(f"{name:28}{cells}{row['seconds']:10.2f}", flush=True)


if __name__ == "__main__":
    main()
