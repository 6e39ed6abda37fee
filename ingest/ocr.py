"""Words read from a picture, by tesseract or, where that program is not, by rapidocr."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pagelens.errors import DocumentError, Missing
from pagelens.records import Box, Word

if TYPE_CHECKING:
    import PIL.Image

OcrEngine = Literal["tesseract", "rapidocr"]

LOW_CONFIDENCE = 0.6
"""Mean over the words. Upright pages of the noisy forms in `funsd-dev` stay above, turned pages below."""
BETTER = 1.5
"""How many times more letters must be read surely before a page is taken to be turned."""


class Reading(NamedTuple):
    """What one engine read on one picture."""

    words: list[Word]
    """Boxes in pixels of the picture."""

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
        lacking = [each for each in languages if each not in listed.stdout.split()]
        if not lacking:
            return "tesseract"
        packages = " ".join(f"tesseract-ocr-{each.replace('_', '-')}" for each in lacking)
        raise Missing(f"tesseract lacks {'+'.join(lacking)}; on Debian: apt-get install {packages}")
    if wanted == "tesseract":
        raise Missing("tesseract is not installed; on Debian: apt-get install tesseract-ocr")
    if _rapidocr_is_there():
        return "rapidocr"
    raise Missing(
        "no OCR engine is installed; on Debian: apt-get install tesseract-ocr, or anywhere: "
        "pip install 'pagelens[offline]' (rapidocr)"
    )


def _rapidocr_is_there() -> bool:
    from importlib.util import find_spec

    return find_spec("rapidocr") is not None


@cache
def version(engine: OcrEngine) -> str:
    """`"tesseract 5.3.0"`, for the signature of what it read."""
    if engine == "tesseract":
        line = subprocess.run(["tesseract", "--version"], capture_output=True, text=True, check=True).stdout
        return line.split("\n")[0]
    from importlib.metadata import version as installed

    return f"rapidocr {installed('rapidocr')}"


def read(
    image: PIL.Image.Image, dpi: float, engine: OcrEngine, languages: tuple[str, ...], seconds: float
) -> Reading:
    """Words with boxes in pixels, lines numbered in reading order.

    Raises:
        DocumentError: the engine fails or takes longer than `seconds`.
    """
    if engine == "rapidocr":
        return _rapidocr(image)
    import pytesseract

    os.environ["OMP_THREAD_LIMIT"] = "1"  # one thread a process: more only wait for each other
    try:
        table = pytesseract.image_to_data(
            image.convert("L"),
            lang="+".join(languages),
            config=f"--psm 3 --dpi {round(dpi)}",
            timeout=seconds,
            output_type=pytesseract.Output.DICT,
        )
    except pytesseract.TesseractError as error:
        raise DocumentError("text", f"tesseract failed with exit code {error.status}") from error
    except RuntimeError as error:  # pytesseract's way to say that the time is over
        raise DocumentError("text", f"tesseract took longer than {seconds:.0f} s") from error
    return Reading(_from_table(table))


def _from_table(table: dict[str, list[Any]]) -> list[Word]:
    words: list[Word] = []
    lines: dict[tuple[int, int, int], int] = {}
    for i, text in enumerate(table["text"]):
        confidence = float(table["conf"][i])
        if not text.strip() or confidence < 0:
            continue
        line = lines.setdefault(
            (table["block_num"][i], table["par_num"][i], table["line_num"][i]), len(lines)
        )
        left, top = table["left"][i], table["top"][i]
        box = Box(left, top, left + table["width"][i], top + table["height"][i])
        words.append(Word("".join(text.split()), box, line, min(1.0, confidence / 100)))
    return words


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
            "Global.log_level": "error",
        }
    )


def _rapidocr(image: PIL.Image.Image) -> Reading:
    import numpy as np

    result = _rapidocr_engine()(np.asarray(image)[:, :, ::-1])  # it expects BGR
    if result.boxes is None:
        return Reading([])
    words: list[Word] = []
    order = sorted(
        range(len(result.txts)),
        key=lambda i: (result.boxes[i][:, 1].min() // 10, result.boxes[i][:, 0].min()),
    )
    for line, i in enumerate(order):
        (left, top), (right, bottom) = result.boxes[i].min(0), result.boxes[i].max(0)
        text = result.txts[i]
        each = (right - left) / max(1, len(text))  # its lines are boxed, not its words: shared out by letters
        start = 0
        for part in text.split():
            start = text.index(part, start)
            box = Box(
                float(left + start * each),
                float(top),
                float(left + (start + len(part)) * each),
                float(bottom),
            )
            words.append(Word(part, box, line, float(result.scores[i])))
            start += len(part)
    return Reading(words)
