"""A page of a PDF as pixels, by one of two engines; docs/decisions/raster.md says which and why."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import PIL.Image
    import pypdfium2

Engine = Literal["pdfium", "poppler"]

MAX_PIXELS = 40_000_000
"""Of any raster: an A4 page at 600 DPI has 35 million. A larger page is rendered at less."""
MAX_SIDE = 30_000
"""Pixels: tesseract counts to 32,767, JPEG to 65,535."""


def fitting_dpi(width: float, height: float, dpi: float) -> float:
    """`dpi`, or as much of it as keeps a page of so many points under `MAX_PIXELS` and `MAX_SIDE`.

    >>> fitting_dpi(595, 842, 300), round(fitting_dpi(14400, 14400, 300), 1), fitting_dpi(100, 14400, 300)
    (300, 31.6, 150.0)
    """
    pixels = width * height * (dpi / 72) ** 2
    return min(dpi, dpi * math.sqrt(MAX_PIXELS / pixels), MAX_SIDE * 72 / max(width, height))


def render(
    page: pypdfium2.PdfPage, place: tuple[Path, int] | None, dpi: float, engine: Engine = "pdfium"
) -> PIL.Image.Image:
    """A page as shown, RGB.

    pdfium draws in this process; poppler (through pdf2image) is another program. When `engine` cannot draw
    the page, or leaves it blank, the other one tries: a font or an image that one of them does not
    understand is simply not drawn, without any error.

    Args:
        page: For pdfium.
        place: File and number of the page (from 0) for poppler; None when it must not be asked.
        dpi: See `fitting_dpi`.
        engine: Tries first.

    Raises:
        RuntimeError: no engine can draw the page.
    """
    order: list[Engine] = ["pdfium", "poppler"] if engine == "pdfium" else ["poppler", "pdfium"]
    blank, errors = None, []
    for each in order:
        try:
            if each == "pdfium":
                image = _pdfium(page, dpi)
            elif place is not None:
                image = _poppler(*place, dpi)
            else:
                continue
        except RuntimeError as error:
            errors.append(f"{each}: {error}")
            continue
        if not _is_blank(image):
            return image
        blank = blank or image
    if blank is None:
        raise RuntimeError("; ".join(errors))
    return blank


def _pdfium(page: pypdfium2.PdfPage, dpi: float) -> PIL.Image.Image:
    import pypdfium2

    try:
        image: PIL.Image.Image = page.render(scale=dpi / 72, rev_byteorder=True).to_pil()
        return image.convert("RGB")
    except (pypdfium2.PdfiumError, MemoryError) as error:
        raise RuntimeError(str(error) or type(error).__name__) from error


def _poppler(path: Path, number: int, dpi: float) -> PIL.Image.Image:
    import pdf2image
    from pdf2image import exceptions

    try:
        images = pdf2image.convert_from_path(
            path,
            dpi=dpi,  # type: ignore[arg-type]  # it goes to `pdftoppm -r`, which takes fractions
            first_page=number + 1,
            last_page=number + 1,
            use_cropbox=True,
            timeout=60,
        )
    except exceptions.PDFInfoNotInstalledError as error:
        raise RuntimeError("not installed (package poppler-utils)") from error
    except (exceptions.PDFPageCountError, exceptions.PDFSyntaxError) as error:
        raise RuntimeError("cannot read it") from error
    except exceptions.PDFPopplerTimeoutError as error:
        raise RuntimeError("takes too long") from error
    if not images:
        raise RuntimeError("draws nothing")
    return images[0].convert("RGB")


def _is_blank(image: PIL.Image.Image) -> bool:
    return all(low == high for low, high in image.getextrema())  # type: ignore[misc]
