"""Documents made on the spot, for tests that need no OCR."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import PIL.Image
import pypdfium2
import pypdfium2.raw as pdfium

from pagelens.records import Box


def write_pdf(path: Path, pages: Sequence[str]) -> Path:
    """A PDF with a text layer: a page a text, a line a line, Helvetica 12 on A4."""
    document = pypdfium2.PdfDocument.new()
    font = pdfium.FPDFText_LoadStandardFont(document, b"Helvetica")
    for text in pages:
        page = document.new_page(595, 842)
        for number, line in enumerate(text.splitlines()):
            glyphs = pdfium.FPDFPageObj_CreateTextObj(document, font, 12)
            encoded = (line + "\0").encode("utf-16-le")
            pdfium.FPDFText_SetText(
                glyphs, (pdfium.FPDF_WCHAR * (len(encoded) // 2)).from_buffer_copy(encoded)
            )
            pdfium.FPDFPageObj_Transform(glyphs, 1, 0, 0, 1, 60, 780 - 18 * number)
            pdfium.FPDFPage_InsertObject(page, glyphs)
        pdfium.FPDFPage_GenerateContent(page)
        page.close()
    path.parent.mkdir(parents=True, exist_ok=True)
    document.save(path)
    document.close()
    return path


def add_picture(path: Path, picture: PIL.Image.Image, box: Box) -> Path:
    """Paste a picture into the first page of a PDF; the box in points, origin at the top left."""
    document = pypdfium2.PdfDocument(path)
    page = document[0]
    image = pypdfium2.PdfImage.new(document)
    image.set_bitmap(pypdfium2.PdfBitmap.from_pil(picture))
    place = pypdfium2.PdfMatrix().scale(box.width, box.height)
    image.set_matrix(place.translate(box.left, page.get_height() - box.bottom))
    page.insert_obj(image)
    page.gen_content()
    document.save(path.with_suffix(".new"))
    document.close()
    return path.with_suffix(".new").replace(path)


def fill(disk: Path, left: int) -> Path:
    """Somebody else's file takes all but `left` bytes."""
    path = disk / "somebody else's"
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - left)
    return path
