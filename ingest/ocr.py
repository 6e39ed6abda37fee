"""Words read from a picture, by tesseract or, where that program is not, by rapidocr."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pagelens.errors import DocumentError, Missing
from pagelens.records import Box, Word

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image

OcrEngine = Literal["tesseract", "rapidocr"]

LOW_CONFIDENCE = 0.6
"""Of a word; below it nobody should rely on it."""
UPRIGHT: Mapping[OcrEngine, float] = {"tesseract": 0.6, "rapidocr": 0.85}
"""Mean over the words. Upright pages of the noisy forms in `funsd-dev` stay above (rapidocr: .96 and more),
pages on their head below (rapidocr: .72 and less)."""
FEW_LETTERS = 10
"""Read surely: fewer are what tesseract sees in a photograph when it is told to look for words anywhere."""
WHOLE_PAGE, ANYWHERE = 3, 11
"""tesseract's page segmentation modes: a page with columns and pictures, or words without any order."""
# rapidocr's one model (PP-OCRv6) has the letters of these languages; Cyrillic, Greek, Arabic, Korean and
# the scripts of India are not in it, and it would read them as something else.
RAPIDOCR_LANGUAGES = (
    "afr aze cat ces chi_sim chi_tra cym dan deu eng epo est eus fin fra gle glg hrv hun ind isl ita jpn lat "
    "lav lit mlt msa nld nor pol por ron slk slv spa sqi swa swe tur"
)


class Reading(NamedTuple):
    """What one engine read on one picture."""

    words: list[Word]
    """Boxes in pixels of the picture, lines numbered in reading order."""

    @property
    def confidence(self) -> float:
        """Mean over the words, 0..1; 0 without any."""
        return sum(word.confidence or 0.0 for word in self.words) / max(1, len(self.words))

    @property
    def sure_letters(self) -> int:
        """Letters and digits in words of three or more that were read surely."""
        return sum(
            len(word.text)
            for word in self.words
            if len(word.text) > 2 and word.text.isalnum() and (word.confidence or 0.0) > LOW_CONFIDENCE
        )


def choose(wanted: OcrEngine | None, languages: tuple[str, ...]) -> OcrEngine:
    """The engine to read with: the one wanted, or tesseract, or else rapidocr.

    Raises:
        Missing: it is not installed, or lacks a language; with the cure.
    """
    if wanted != "rapidocr" and shutil.which("tesseract"):
        listed = subprocess.run(["tesseract", "--list-langs"], capture_output=True, text=True, check=False)
        if lacking := [each for each in languages if each not in listed.stdout.split()]:
            packages = " ".join(f"tesseract-ocr-{each.replace('_', '-').lower()}" for each in lacking)
            raise Missing(f"tesseract lacks {'+'.join(lacking)}; on Debian: apt-get install {packages}")
        return "tesseract"
    if wanted == "tesseract":
        raise Missing("tesseract is not installed; on Debian: apt-get install tesseract-ocr")
    if not _rapidocr_is_there():
        raise Missing(
            "no OCR engine is installed; on Debian: apt-get install tesseract-ocr, or anywhere: "
            "pip install 'pagelens[offline]' (rapidocr)"
        )
    if lacking := [each for each in languages if each not in RAPIDOCR_LANGUAGES.split()]:
        raise Missing(f"rapidocr cannot read {'+'.join(lacking)}; on Debian: apt-get install tesseract-ocr")
    return "rapidocr"


def _rapidocr_is_there() -> bool:
    from importlib.util import find_spec

    return find_spec("rapidocr") is not None and find_spec("onnxruntime") is not None


@cache
def version(engine: OcrEngine) -> str:
    """`"tesseract 5.3.0"`, for the signature of what it read."""
    if engine == "tesseract":
        line = subprocess.run(["tesseract", "--version"], capture_output=True, text=True, check=True).stdout
        return line.split("\n")[0]
    from importlib.metadata import version as installed

    return f"rapidocr {installed('rapidocr')}"


def read(
    picture: PIL.Image.Image, dpi: float, engine: OcrEngine, languages: tuple[str, ...], seconds: float
) -> Reading:
    """The words of a picture.

    Args:
        picture: RGB or L.
        dpi: Its resolution.
        engine: Who reads.
        languages: As tesseract has them.
        seconds: Time that tesseract may take; rapidocr cannot be stopped from here.

    Raises:
        DocumentError: the engine fails, takes too long, or answers no table of words.
    """
    words = _by_rapidocr(picture) if engine == "rapidocr" else _by_tesseract(picture, dpi, languages, seconds)
    return Reading(list(_on_picture(words, *picture.size)))


def _on_picture(words: Iterable[Word], width: int, height: int) -> Iterable[Word]:
    """The words with their boxes cut to the picture; those of which nothing is left are not on it."""
    for word in words:
        left, top, right, bottom = word.box
        box = Box(max(0.0, left), max(0.0, top), min(width, right), min(height, bottom))
        if box.left < box.right and box.top < box.bottom:
            yield word._replace(box=box)


# tesseract


def _by_tesseract(
    picture: PIL.Image.Image, dpi: float, languages: tuple[str, ...], seconds: float
) -> Iterable[Word]:
    """As a page, or, where that gives not a word, wherever words may be.

    tesseract takes a framed page, or writing over a photograph, for a picture: 3 of the 9 pages with ink in
    `mmdocir-dev` on which it finds nothing have a line of text.
    """
    deadline = time.monotonic() + seconds
    words = tesseract(picture, dpi, languages, seconds, WHOLE_PAGE)
    if words:
        return words
    sparse = tesseract(picture, dpi, languages, deadline - time.monotonic(), ANYWHERE)
    return sparse if Reading(sparse).sure_letters >= FEW_LETTERS else []


def tesseract(
    picture: PIL.Image.Image, dpi: float, languages: tuple[str, ...], seconds: float, segmentation: int
) -> list[Word]:
    """What the program prints for one page segmentation mode."""
    import pytesseract

    os.environ["OMP_THREAD_LIMIT"] = "1"  # one thread a process: more only wait for each other
    grey = picture.convert("L")
    grey.format = "PPM"  # how pytesseract hands it over; PNG would cost it 50 ms to compress
    try:
        table = pytesseract.image_to_data(
            grey,
            lang="+".join(languages),
            config=f"--psm {segmentation} --dpi {round(dpi)}",
            timeout=max(seconds, 1.0),  # 0 would be for ever
            output_type=pytesseract.Output.DICT,
        )
        return list(_from_table(table))
    except pytesseract.TesseractError as error:
        raise DocumentError("text", _ended(error.status)) from error
    except RuntimeError as error:  # pytesseract's way to say that the time is over
        reason = f"tesseract took longer than {seconds:.0f} s; is this a page of text?"
        raise DocumentError("text", reason) from error
    except OSError as error:
        reason = f"tesseract could not be run ({error.strerror or error}); is the temporary disk full?"
        raise DocumentError("text", reason) from error
    except (LookupError, TypeError, ValueError) as error:  # UnicodeDecodeError is a ValueError
        reason = f"tesseract's answer is no table of words ({type(error).__name__}); install it again"
        raise DocumentError("text", reason) from error


def _ended(status: int) -> str:
    if status < 0:
        return f"tesseract was ended by signal {-status}; is there enough memory?"
    return f"tesseract failed with exit code {status}; try another OCR engine (--ocr)"


def _from_table(table: dict[str, list[Any]]) -> Iterable[Word]:
    lines: dict[tuple[int, int, int], int] = {}
    for i, text in enumerate(table["text"]):
        confidence = float(table["conf"][i])
        text = "".join(str(text).split())
        if not text or confidence < 0:
            continue
        where = (table["block_num"][i], table["par_num"][i], table["line_num"][i])
        line = lines.setdefault(where, len(lines))
        left, top = float(table["left"][i]), float(table["top"][i])
        box = Box(left, top, left + float(table["width"][i]), top + float(table["height"][i]))
        yield Word(text, box, line, min(1.0, confidence / 100))


# rapidocr


@cache
def _rapidocr_engine() -> Any:
    import logging

    from rapidocr import RapidOCR

    logging.getLogger("RapidOCR").setLevel(logging.ERROR)
    threads = "EngineConfig.onnxruntime."
    return RapidOCR(
        params={
            threads + "intra_op_num_threads": 1,
            threads + "inter_op_num_threads": 1,
            # It would turn every line that stands on its head, and so read a page on its head as it is.
            "Global.use_cls": False,
            "Global.log_level": "error",
        }
    )


def _by_rapidocr(picture: PIL.Image.Image) -> Iterable[Word]:
    import numpy as np

    result = _rapidocr_engine()(np.asarray(picture.convert("RGB"))[:, :, ::-1], return_word_box=True)
    runs = [run for run in result.word_results or () if run]
    boxes = [np.concatenate([corners for _, _, corners in run]) for run in runs]
    for line, i in enumerate(_by_rows(np.array([[*each.min(0), *each.max(0)] for each in boxes]))):
        for text, confidence, corners in runs[i]:
            if text := "".join(text.split()):
                (left, top), (right, bottom) = np.min(corners, axis=0), np.max(corners, axis=0)
                box = Box(float(left), float(top), float(right), float(bottom))
                yield Word(text, box, line, float(confidence))


def _by_rows(runs: np.ndarray) -> list[int]:
    """Text runs (a table's cell, a column's line) row by row from the top, each row from left to right.

    Heights are compared along the lean of the page, which neighbours tell. The engine's own order takes tops
    for one row that follow each other by less than 10 pixels, and mixes the rows of a page that leans.

    Args:
        runs: Left, top, right and bottom of each, *Shape:* (n, 4), pixels.
    """
    import numpy as np

    if not len(runs):
        return []
    left, top, right, bottom = runs.T
    x, y, near = (left + right) / 2, (top + bottom) / 2, np.median(bottom - top) / 2
    slopes = []
    for i in range(len(runs)):
        beside = np.flatnonzero((left > right[i]) & (abs(y - y[i]) < near))
        if len(beside):
            j = beside[left[beside].argmin()]
            slopes.append((y[j] - y[i]) / (x[j] - x[i]))
    y = y - x * (np.median(slopes) if slopes else 0.0)
    rows: list[list[int]] = []
    for i in np.argsort(y, kind="stable"):
        if not rows or y[i] - y[rows[-1][0]] > near:
            rows.append([])
        rows[-1].append(int(i))
    return [i for row in rows for i in sorted(row, key=lambda each: float(x[each]))]
