"""What a PDF says is on its page beside words: images, drawings, notes, signatures.

It knows better than any look at the pixels; of a scan it knows only that the page is one image.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from ctypes import byref
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import pypdfium2
import pypdfium2.raw as pdfium

from pagelens.ingest.ink import pieces
from pagelens.ingest.text import placer
from pagelens.records import Box, Drawn

if TYPE_CHECKING:
    from ctypes import c_void_p

MOST_OBJECTS = 20_000
"""Of a page; a map has more, and is a drawing by the first of them."""
MOST = 100
"""Things kept of a page, the largest."""
LEAST = 18.0
"""Points either way: an image or drawing that is smaller is a mark in the text."""
CELL = 4.0
"""Points: paths this near to each other are one drawing."""
LEAST_PATHS = 4
"""A frame or a line is no drawing."""
BACKGROUND = 0.8
"""Of the page: a path that covers more is its colour."""
NOTES: Mapping[int, str] = {pdfium.FPDF_ANNOT_INK: "handwriting", pdfium.FPDF_ANNOT_STAMP: "stamp"}
"""Annotations that are a thing on the page."""


def drawn_objects(page: pypdfium2.PdfPage) -> list[Drawn]:
    """Images and groups of paths, in points of the page as shown, the largest first."""
    place = placer(page)
    width, height = page.get_width(), page.get_height()
    found, paths = [], []
    kinds = [pdfium.FPDF_PAGEOBJ_IMAGE, pdfium.FPDF_PAGEOBJ_PATH]
    for each in islice(page.get_objects(filter=kinds, max_depth=3), MOST_OBJECTS):
        with contextlib.suppress(pypdfium2.PdfiumError):  # it has no bounds: it is not drawn
            box = cut(place(Box(*each.get_bounds())), width, height)
            if box is None:
                continue
            if each.type == pdfium.FPDF_PAGEOBJ_IMAGE:
                found.append(Drawn("image", box))
            elif box.width * box.height < BACKGROUND * width * height:
                paths.append(box)
    found += [Drawn("drawing", box) for box in _groups(paths, width, height)]
    large = [each for each in found if min(each.box.width, each.box.height) >= LEAST]
    return sorted(large, key=lambda each: -each.box.width * each.box.height)[:MOST]


def notes(page: pypdfium2.PdfPage, form: c_void_p | None) -> list[Drawn]:
    """Signatures that were signed, stamps and strokes of a pen among the annotations, as `drawn_objects`.

    They are gone once the page is flattened.

    Args:
        page: Not flattened yet.
        form: The document's form handle; None where it has no form.
    """
    found = []
    place, width, height = placer(page), page.get_width(), page.get_height()
    for annotation in _annotations(page):
        kind = NOTES.get(pdfium.FPDFAnnot_GetSubtype(annotation), "")
        if form is not None and pdfium.FPDFAnnot_GetFormFieldType(form, annotation) == (
            pdfium.FPDF_FORMFIELD_SIGNATURE
        ):
            kind = "signature" if pdfium.FPDFAnnot_HasKey(annotation, b"V") else ""
        area = pdfium.FS_RECTF()
        if kind and pdfium.FPDFAnnot_GetRect(annotation, byref(area)):
            low, high = sorted((area.bottom, area.top))
            box = cut(place(Box(area.left, low, area.right, high)), width, height)
            if box is not None and min(box.width, box.height) > 1:  # an invisible signature has no size
                found.append(Drawn(kind, box))
    return found[:MOST]


def cut(box: Box, width: float, height: float) -> Box | None:
    """The part of a box on a page of so many points, to a hundredth; None where it has none."""
    left, right = max(0.0, box.left), min(width, box.right)
    top, bottom = max(0.0, box.top), min(height, box.bottom)
    if left >= right or top >= bottom:
        return None
    return Box(round(left, 2), round(top, 2), round(right, 2), round(bottom, 2))


def _annotations(page: pypdfium2.PdfPage) -> Iterator[c_void_p]:
    for i in range(pdfium.FPDFPage_GetAnnotCount(page)):
        annotation = pdfium.FPDFPage_GetAnnot(page, i)
        if annotation:
            try:
                yield annotation
            finally:
                pdfium.FPDFPage_CloseAnnot(annotation)


def _groups(paths: list[Box], width: float, height: float) -> Iterator[Box]:
    """The boxes of paths that lie near each other, where they are several."""
    if len(paths) < LEAST_PATHS:
        return
    mask = np.zeros((int(height / CELL) + 1, int(width / CELL) + 1), bool)
    for left, top, right, bottom in paths:
        mask[int(top / CELL) : int(bottom / CELL) + 1, int(left / CELL) : int(right / CELL) + 1] = True
    found = pieces(mask)
    owner = np.full(mask.shape, -1)
    for row, first, last, piece in found.runs:
        owner[row, first:last] = piece
    members: dict[int, list[Box]] = {}
    for box in paths:
        members.setdefault(int(owner[int(box.top / CELL), int(box.left / CELL)]), []).append(box)
    for boxes in members.values():
        if len(boxes) >= LEAST_PATHS:
            yield Box.around(boxes)
