"""A page of a PDF as pixels, by one of two engines."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import PIL.Image
    import pypdfium2

Engine = Literal["pdfium", "poppler"]

MAX_PIXELS = 40_000_000
"""Of any raster: an A4 page at 600 DPI has 35 million. A larger page is rendered at less."""


def fitting_dpi(width: float, height: float, dpi: float) -> float:
    """`dpi`, or as much of it as keeps a page of so many points under `MAX_PIXELS`."""
    pixels = width * height * (dpi / 72) ** 2
    return dpi if pixels <= MAX_PIXELS else dpi * (MAX_PIXELS / pixels) ** 0.5


def render(
    pdf: pypdfium2.PdfDocument, path: Path, number: int, dpi: float, engine: Engine = "pdfium"
) -> PIL.Image.Image:
    """Page `number` (from 0) as shown, RGB.

    pdfium draws in this process. poppler (through pdf2image) is another program: slower, but it reads some
    pages that pdfium cannot, and is tried when pdfium fails.

    Raises:
        RuntimeError: no engine can draw the page.
    """
    import pypdfium2

    if engine == "poppler":
        return _poppler(path, number, dpi)
    try:
        page = pdf[number]
        try:
            return page.render(scale=dpi / 72, rev_byteorder=True).to_pil().convert("RGB")
        finally:
            page.close()
    except (pypdfium2.PdfiumError, MemoryError) as error:
        try:
            return _poppler(path, number, dpi)
        except RuntimeError as other:
            raise RuntimeError(f"pdfium: {error}; poppler: {other}") from error


def _poppler(path: Path, number: int, dpi: float) -> PIL.Image.Image:
    import pdf2image
    from pdf2image import exceptions

    try:
        images = pdf2image.convert_from_path(
            path, dpi=int(dpi), first_page=number + 1, last_page=number + 1, use_cropbox=True, timeout=60
        )
    except exceptions.PDFInfoNotInstalledError as error:
        raise RuntimeError("not installed (package poppler-utils)") from error
    except (
        exceptions.PDFPageCountError,
        exceptions.PDFSyntaxError,
        exceptions.PDFPopplerTimeoutError,
    ) as error:
        raise RuntimeError(type(error).__name__) from error
    if not images:
        raise RuntimeError("gave no image")
    return images[0].convert("RGB")
