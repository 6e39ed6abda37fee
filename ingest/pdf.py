"""A PDF, through pypdfium2."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import pypdfium2
import pypdfium2.raw as pdfium

from pagelens.errors import DocumentError
from pagelens.ingest.documents import digest
from pagelens.ingest.drawn import drawn_objects, notes
from pagelens.ingest.raster import Engine, fitting_dpi, render
from pagelens.ingest.text import layer_words
from pagelens.records import Document, Drawn, Word

if TYPE_CHECKING:
    import PIL.Image

LEAST_BYTES = 4
"""Of a page, its entry packed as tightly as can be; a PDF of fewer lies about how many it has."""
UNPRINTED = {pdfium.FPDF_ANNOT_LINK, pdfium.FPDF_ANNOT_POPUP}
"""Annotations that put nothing on the page."""


class PdfFile:
    """See `OpenDocument`.

    Raises:
        DocumentError: it is encrypted, damaged, or has no page.
    """

    def __init__(self, path: Path, password: str | None = None) -> None:
        self._path = path
        self._page: tuple[int, pypdfium2.PdfPage] | None = None
        self._notes: list[Drawn] = []  # of that page
        try:
            self._pdf = pypdfium2.PdfDocument(path, password)
        except pypdfium2.PdfiumError as error:
            raise DocumentError("open", _unopened(error.err_code, password)) from error
        self._encrypted = pdfium.FPDF_GetSecurityHandlerRevision(self._pdf) >= 0
        try:
            pages = len(self._pdf)
            if not pages:
                raise DocumentError("open", "the PDF has no page; save it again where it came from")
            if pages > path.stat().st_size / LEAST_BYTES:
                raise DocumentError("open", f"the PDF says it has {pages} pages and is too small for them")
            self._pdf.init_forms()  # without it filled fields are not drawn
            self.document = Document(digest([path]), pages)
        except BaseException:
            self._pdf.close()
            raise

    def size(self, number: int) -> tuple[float, float]:
        """See `OpenDocument`."""
        page = self._load(number)
        return page.get_width(), page.get_height()

    def words(self, number: int) -> list[Word]:
        """See `OpenDocument`; what stands in form fields and notes is part of the page."""
        try:
            return layer_words(self._load(number))
        except pypdfium2.PdfiumError as error:
            raise DocumentError("text", f"the page's text cannot be read ({error})", number) from error

    def scan(self, number: int) -> tuple[float, float]:
        """See `OpenDocument`."""
        return _largest_image(self._load(number))

    def drawn(self, number: int) -> list[Drawn]:
        """See `OpenDocument`; notes before images, as they were before they became part of the page."""
        page = self._load(number)
        return [*self._notes, *drawn_objects(page)]

    def render(self, number: int, dpi: float, engine: Engine = "pdfium") -> PIL.Image.Image:
        """See `OpenDocument`."""
        width, height = self.size(number)
        # poppler would want the password on its command line, where every user of the machine can read it
        place = None if self._encrypted else (self._path, number)
        try:
            return render(self._load(number), place, fitting_dpi(width, height, dpi), engine)
        except RuntimeError as error:
            reason = f"the page cannot be drawn ({error}); repair the PDF with `qpdf`, or scan it again"
            raise DocumentError("raster", reason, number) from error

    def close(self) -> None:
        """See `OpenDocument`."""
        if self._page is not None:
            self._page[1].close()
        self._pdf.close()

    def _load(self, number: int) -> pypdfium2.PdfPage:
        """The page with its form fields and notes drawn in; kept, because loading it is parsing it."""
        if self._page is not None and self._page[0] == number:
            return self._page[1]
        if self._page is not None:
            self._page[1].close()
            self._page = None
        try:
            page = self._pdf[number]
            form = self._pdf.formenv
            self._notes = notes(page, form.raw if form else None)
            if _has_notes(page) and pdfium.FPDFPage_Flatten(page, pdfium.FLAT_NORMALDISPLAY) != (
                pdfium.FLATTEN_FAIL
            ):
                page.close()
                page = self._pdf[number]
        except pypdfium2.PdfiumError as error:
            reason = f"the page cannot be loaded ({error}); repair the PDF with `qpdf`, or scan it again"
            raise DocumentError("open", reason, number) from error
        self._page = number, page
        return page


def _unopened(code: int | None, password: str | None) -> str:
    if code == pdfium.FPDF_ERR_PASSWORD and password is None:
        return "the PDF is encrypted; give its password (--password), or decrypt it with `qpdf --decrypt`"
    if code == pdfium.FPDF_ERR_PASSWORD:
        return "the PDF is encrypted, and the password given does not open it; give another (--password)"
    if code == pdfium.FPDF_ERR_SECURITY:
        return "the PDF is encrypted in a way that cannot be read; decrypt it with the program it came from"
    return "the PDF is damaged or cut short; copy or scan it again, or repair it with `qpdf`"


def _has_notes(page: pypdfium2.PdfPage) -> bool:
    for i in range(pdfium.FPDFPage_GetAnnotCount(page)):
        annotation = pdfium.FPDFPage_GetAnnot(page, i)
        if not annotation:
            continue
        subtype = pdfium.FPDFAnnot_GetSubtype(annotation)
        pdfium.FPDFPage_CloseAnnot(annotation)
        if subtype not in UNPRINTED:
            return True
    return False


def _largest_image(page: pypdfium2.PdfPage) -> tuple[float, float]:
    best, dpi = 0.0, 0.0
    area = page.get_width() * page.get_height()
    for image in page.get_objects(filter=[pdfium.FPDF_PAGEOBJ_IMAGE], max_depth=3):
        try:
            left, bottom, right, top = image.get_bounds()
            width, height = image.get_px_size()
        except pypdfium2.PdfiumError:
            continue  # not an image that is drawn
        covered = (right - left) * (top - bottom)
        if covered > 0 and min(1.0, covered / area) > best:
            # Sizes are compared by area: the image may be turned a quarter against the page.
            best, dpi = min(1.0, covered / area), 72 * math.sqrt(width * height / covered)
    return best, dpi
