"""The sample collection: the scans of an office that never was, drawn and scanned by code.

Eight files, 24 pages: an annual report with charts and tables, a signed lease, invoices, laboratory forms
with one page fed upside down, letters in German, a landscape shift plan, a file that is encrypted and one
that is cut short. Every page is an image; the same seed gives the same bytes.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pagelens.errors import Missing
from pagelens.records import Box
from pagelens.sample.invoices import invoices
from pagelens.sample.laboratory import laboratory_forms
from pagelens.sample.lease import lease
from pagelens.sample.letters import letters
from pagelens.sample.lists import inventory, payroll, shift_plan
from pagelens.sample.report import annual_report
from pagelens.sample.scanner import Scan, Scanner
from pagelens.sample.sheet import Sheet

__all__ = ["LANGUAGES", "QUESTIONS", "Question", "make_sample"]

LANGUAGES = ("eng", "deu")
"""What the sample is written in."""
QUALITY = 60
"""Of the JPEG inside the PDF, as scanners are set to keep their files small."""


@dataclass(frozen=True, slots=True)
class Question:
    """What can be asked of the sample, and what answers it."""

    query: str
    file: str | None = None
    """Name of the file with the answer; None: no page has it."""
    page: int = 0
    """From 1."""
    answer: str = ""
    """The words that answer, as they are drawn."""


QUESTIONS = (
    Question("What were net sales in the third quarter of 2023?", "annual-report-2023.pdf", 5, "1,506"),
    Question("How much did the North Coast region sell?", "annual-report-2023.pdf", 4, "1,870"),
    Question("Who signed the lease for the tenant?", "lease-mill-street.pdf", 4, "Marta Quillon"),
    Question("Wie hoch ist der monatliche Abschlag für Strom?", "briefe-2023.pdf", 1, "87,50"),
    Question("Which new gas cylinder was fitted at the calibration?", "laboratory-forms.pdf", 3, "KX-2290"),
    Question("Which hotel in Lisbon hosted the delegates?"),
)


class _File(NamedTuple):
    name: str
    draw: Callable[[], list[Sheet]]
    scanner: Scanner
    upside_down: tuple[int, ...] = ()
    spoil: Callable[[bytes], bytes] = bytes


def make_sample(folder: Path, seed: int = 7) -> dict[Question, Box]:
    """Write the collection into `folder`, which is made when missing.

    Args:
        folder: Where the files go.
        seed: Decides what the scanner does to each page; what is written on them stays the same.

    Returns:
        Where the answer of each of `QUESTIONS` that has one stands on its scanned page: points, origin at the
        top left of the page turned upright.

    Raises:
        Missing: pypdf, which encrypts one of the files, is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    boxes: dict[Question, Box] = {}
    for number, file in enumerate(_office()):
        sheets = file.draw()
        scans = file.scanner.scan(sheets, np.random.default_rng([seed, number]), file.upside_down)
        (folder / file.name).write_bytes(file.spoil(_pdf(scans, file.scanner.dpi)))
        for question in QUESTIONS:
            if question.file == file.name:
                at = question.page - 1
                boxes[question] = scans[at].place(sheets[at].find(question.answer.split()))
    return boxes


def _office() -> tuple[_File, ...]:
    grey = Scanner(dust=True, paper=(243, 243, 243))
    return (
        _File(
            "annual-report-2023.pdf", annual_report, Scanner(colour=True, paper=(250, 249, 247), grain=3.5)
        ),
        _File("lease-mill-street.pdf", lease, Scanner(colour=True, paper=(247, 243, 232))),
        _File("invoices-spring-2023.pdf", invoices, Scanner(colour=True, paper=(248, 248, 246), dust=True)),
        _File(
            "laboratory-forms.pdf",
            laboratory_forms,
            Scanner(paper=(236, 236, 236), grain=5.5),
            (2,),
        ),
        _File("briefe-2023.pdf", letters, Scanner(colour=True, paper=(249, 247, 242), holes=True)),
        _File("shift-plan-june.pdf", shift_plan, Scanner(colour=True, paper=(250, 249, 247), grain=3.5)),
        _File("payroll-sealed.pdf", payroll, grey, spoil=_encrypted),
        _File("inventory-cut-short.pdf", inventory, grey, spoil=lambda data: data[: len(data) * 3 // 5]),
    )


def _pdf(scans: Sequence[Scan], dpi: int) -> bytes:
    buffer, day = io.BytesIO(), time.gmtime(1_700_000_000)  # not today: the bytes must not change
    first, *others = [scan.image for scan in scans]
    first.save(
        buffer,
        "PDF",
        save_all=True,
        append_images=others,
        resolution=dpi,
        quality=QUALITY,
        creationDate=day,
        modDate=day,
    )
    return buffer.getvalue()


def _encrypted(data: bytes) -> bytes:
    try:
        from pypdf import PdfReader, PdfWriter
        from pypdf.generic import ArrayObject, ByteStringObject
    except ImportError as error:
        raise Missing(
            "pypdf, which encrypts one file of the sample, is not installed; pip install 'pagelens[dev]'"
        ) from error

    class SameWriter(PdfWriter):
        """Identifies a file by its content; pypdf's own random identifier is a part of what is encrypted."""

        def generate_file_identifiers(self) -> None:
            identifier = ByteStringObject(hashlib.md5(data, usedforsecurity=False).digest())
            self._ID = ArrayObject((identifier, identifier))

    writer, buffer = SameWriter(PdfReader(io.BytesIO(data))), io.BytesIO()
    writer.encrypt("not told", algorithm="RC4-128")
    writer.write(buffer)
    return buffer.getvalue()
