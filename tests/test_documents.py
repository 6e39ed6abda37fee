"""Sources and documents: what is found, what is opened, what a page measures and shows."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pypdfium2
import pytest
from made import write_pdf
from PIL.TiffImagePlugin import AppendingTiffWriter

from pagelens import DocumentError, UsageError
from pagelens.ingest.documents import OpenDocument, open_document
from pagelens.ingest.images import MOST_PIXELS
from pagelens.ingest.raster import MAX_PIXELS, MAX_SIDE, fitting_dpi
from pagelens.ingest.sources import Source, find
from pagelens.records import Document


def names(sources: Iterator[Source]) -> list[str]:
    return [source.path.name for source in sources]


def picture(width: int = 300, height: int = 200, mode: str = "L") -> PIL.Image.Image:
    """Its top left quarter is black."""
    image = PIL.Image.new("L", (width, height), 255)
    image.paste(0, (0, 0, width // 2, height // 2))
    return image.convert(mode)


def darkest_quarter(image: PIL.Image.Image) -> str:
    grey = np.asarray(image.convert("L"), dtype=float)
    y, x = grey.shape[0] // 2, grey.shape[1] // 2
    quarters = {
        "top left": grey[:y, :x],
        "top right": grey[:y, x:],
        "bottom left": grey[y:, :x],
        "bottom right": grey[y:, x:],
    }
    return min(quarters, key=lambda name: float(quarters[name].mean()))


@contextlib.contextmanager
def opened(path: Path, password: str | None = None) -> Iterator[OpenDocument]:
    document = open_document(path, password)
    try:
        yield document
    finally:
        document.close()


# sources


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may enter; pytest's own only its owner may."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of root, to whom no file is closed."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_may_not_be_read_is_reported(open_folder: Path) -> None:
    write_pdf(open_folder / "open.pdf", ["Text"])
    (open_folder / "closed.pdf").write_bytes(b"%PDF-1.7")
    (open_folder / "closed, no suffix").write_bytes(b"%PDF-1.7")
    (open_folder / "closed folder").mkdir()
    for name in ("closed.pdf", "closed, no suffix", "closed folder"):
        (open_folder / name).chmod(0)
    with as_nobody():
        sources = {source.path.name: source for source in find([open_folder])}
        assert set(sources) == {"open.pdf", "closed.pdf", "closed, no suffix", "closed folder"}
        for name, source in sources.items():
            if name != "open.pdf":
                with pytest.raises(DocumentError, match="you may not read this.*chmod"):
                    open_document(source.path)


def test_links_lead_to_each_file_once_and_loops_end(tmp_path: Path) -> None:
    scans, elsewhere = tmp_path / "scans", tmp_path / "elsewhere"
    write_pdf(scans / "a.pdf", ["A"])
    write_pdf(elsewhere / "b.pdf", ["B"])
    (scans / "b").symlink_to(elsewhere)
    (scans / "b again").symlink_to(elsewhere)
    (scans / "up").symlink_to(scans)
    (scans / "itself.pdf").symlink_to(scans / "itself.pdf")
    (scans / "itself").symlink_to(scans / "itself")
    (scans / "nowhere.pdf").symlink_to(tmp_path / "gone.pdf")
    found = list(find([scans]))
    assert names(iter(found)) == ["a.pdf", "b.pdf", "itself.pdf", "nowhere.pdf"]
    for source in found:
        assert source.path.is_relative_to(source.root)
    for broken in found[2:]:
        with pytest.raises(DocumentError, match="link leads nowhere|reading it failed"):
            open_document(broken.path)


def test_what_is_no_file_is_said_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pdf")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        assert names(find([tmp_path])) == ["pipe.pdf"]
    with pytest.raises(DocumentError, match="not a file but"):
        open_document(tmp_path / "pipe.pdf")


def test_odd_names_empty_folders_and_files_that_go(tmp_path: Path) -> None:
    assert list(find([tmp_path])) == []
    odd = tmp_path / "two\nlines.pdf"
    write_pdf(odd, ["A"])
    latin = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.pdf"))
    shutil.copy(odd, latin)
    found = list(find([tmp_path]))
    assert {source.path for source in found} == {odd, latin}
    for source in found:
        with opened(source.path) as document:
            assert document.document.pages == 1
    odd.unlink()
    with pytest.raises(DocumentError, match="gone"):
        open_document(odd)
    with pytest.raises(UsageError, match="does not exist"):
        list(find([odd]))


# folders of images


@pytest.fixture
def folder_of_images(tmp_path: Path) -> Path:
    """page1.png, page2.tif with two frames, page10.jpg; beside them a PDF and something hidden."""
    folder = tmp_path / "box 7"
    folder.mkdir()
    picture(100, 300).save(folder / "page10.jpg", dpi=(150, 150))
    picture(100, 100).save(folder / "page1.png", dpi=(150, 150))
    frames = [picture(100, 200), picture(100, 250)]
    frames[0].save(folder / "page2.tif", save_all=True, append_images=frames[1:], dpi=(150, 150))
    write_pdf(folder / "letter.pdf", ["Letter"])
    (folder / ".hidden.png").write_bytes((folder / "page1.png").read_bytes())
    return folder


def test_a_folder_of_images_is_one_document_in_natural_order(folder_of_images: Path, tmp_path: Path) -> None:
    found = list(find([tmp_path], item_per_folder=True))
    assert names(iter(found)) == ["box 7", "letter.pdf"]
    assert names(find([tmp_path])) == ["letter.pdf", "page1.png", "page10.jpg", "page2.tif"]
    with opened(found[0].path) as document:
        heights = [round(document.size(number)[1] * 150 / 72) for number in range(document.document.pages)]
        assert heights == [100, 200, 250, 300]
        files = [folder_of_images / name for name in ("page1.png", "page2.tif", "page10.jpg")]
        assert document.document.sha256 == Document.digest(b"".join(file.read_bytes() for file in files))
        assert found[0].size == sum(file.stat().st_size for file in files)
        assert darkest_quarter(document.render(2, 150)) == "top left"


def test_a_damaged_image_in_a_folder_is_a_page_that_fails(folder_of_images: Path) -> None:
    (folder_of_images / "page3.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    with opened(folder_of_images) as document:
        assert document.document.pages == 5
        with pytest.raises(DocumentError, match="page3.png: the image is damaged") as caught:
            document.size(3)
        assert caught.value.page == 3
        assert document.size(4)[1] * 150 / 72 == pytest.approx(300)


def test_a_folder_without_images_is_no_document(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="no image in this folder"):
        open_document(tmp_path)


# image files


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_shown_as_its_exif_orientation_says(tmp_path: Path, orientation: int) -> None:
    undo = {
        2: PIL.Image.Transpose.FLIP_LEFT_RIGHT,
        3: PIL.Image.Transpose.ROTATE_180,
        4: PIL.Image.Transpose.FLIP_TOP_BOTTOM,
        5: PIL.Image.Transpose.TRANSPOSE,
        6: PIL.Image.Transpose.ROTATE_90,
        7: PIL.Image.Transpose.TRANSVERSE,
        8: PIL.Image.Transpose.ROTATE_270,
    }
    stored = picture().transpose(undo[orientation]) if orientation in undo else picture()
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    for name in ("a.jpg", "a.tif", "a.png", "a.webp"):
        stored.convert("RGB").save(tmp_path / name, exif=exif, dpi=(150, 150))
        with opened(tmp_path / name) as document:
            width, height = document.size(0)
            assert width == pytest.approx(1.5 * height), name
            shown = document.render(0, 150)
            assert darkest_quarter(shown) == "top left", name
            assert shown.width / shown.height == pytest.approx(1.5), name


def test_a_fax_has_square_pixels_again(tmp_path: Path) -> None:
    picture(1728, 1100, "1").save(tmp_path / "fax.tif", compression="group4", dpi=(204, 98))
    with opened(tmp_path / "fax.tif") as document:
        assert document.size(0) == pytest.approx((1728 * 72 / 204, 1100 * 72 / 98))
        assert document.scan(0)[1] == 204
        shown = document.render(0, 204)
        assert shown.size == pytest.approx((1728, 1100 * 204 / 98), abs=1)
        assert darkest_quarter(shown) == "top left"


@pytest.mark.parametrize("stated", [None, (72, 72), (96, 96), (1, 1), (30_000, 30_000)])
def test_a_resolution_that_nobody_measured_is_not_believed(tmp_path: Path, stated: Any) -> None:
    picture(827, 1170).save(tmp_path / "a.png", **({"dpi": stated} if stated else {}))
    with opened(tmp_path / "a.png") as document:
        assert document.size(0) == pytest.approx((595, 842), abs=1)  # a sheet of A4


def test_small_copies_in_a_tiff_and_moving_pictures_are_no_pages(tmp_path: Path) -> None:
    page, copy = picture(300, 200), picture(30, 20)
    with AppendingTiffWriter(str(tmp_path / "a.tif"), new=True) as file:
        for image, subfile in ((page, 0), (copy, 1), (page, 0)):
            image.save(file, "TIFF", tiffinfo={254: subfile})
            file.newFrame()
    page.save(tmp_path / "a.gif", save_all=True, append_images=[page.rotate(90)])
    with opened(tmp_path / "a.tif") as tiff:
        assert tiff.document.pages == 2
        assert tiff.size(1) == tiff.size(0)
    with opened(tmp_path / "a.gif") as gif:
        assert gif.document.pages == 1
        assert darkest_quarter(gif.render(0, 72)) == "top left"


def test_deep_greys_keep_their_order(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).repeat(16).reshape(64, 64).T
    for name in ("a.png", "a.tif"):
        PIL.Image.fromarray(ramp).save(tmp_path / name)
        with opened(tmp_path / name) as document:
            grey = np.asarray(document.render(0, 72), dtype=int)
        assert (grey[0, 0], grey[-1, -1]) == pytest.approx((0, 255), abs=2)
        assert (np.diff(grey[0]) >= 0).all()


def test_an_image_over_the_cap_says_so(tmp_path: Path) -> None:
    side = int(MOST_PIXELS**0.5) + 1
    PIL.Image.new("1", (side, side)).save(tmp_path / "a.tif", compression="group4")
    message = f"{MOST_PIXELS // 1_000_000} million.*split it"
    with pytest.raises(DocumentError, match=message), opened(tmp_path / "a.tif") as document:
        document.size(0)


def test_a_large_image_is_held_small(tmp_path: Path) -> None:
    PIL.Image.new("1", (9000, 9000), 1).save(tmp_path / "a.tif", compression="group4", dpi=(300, 300))
    with opened(tmp_path / "a.tif") as document:
        assert document.size(0) == (2160, 2160)
        shown = document.render(0, 300)
        assert shown.width * shown.height <= MAX_PIXELS


@pytest.mark.parametrize("width", [1e-3, 1, 72, 595, 14400, 1e6])
@pytest.mark.parametrize("height", [1, 842, 14400, 1e6])
def test_a_raster_never_passes_a_limit(width: float, height: float) -> None:
    dpi = fitting_dpi(width, height, 300)
    assert 0 < dpi <= 300
    across, down = width * dpi / 72, height * dpi / 72
    assert across * down <= MAX_PIXELS * 1.0001
    assert max(across, down) <= MAX_SIDE * 1.0001


# PDF files


def encrypted(folder: Path, **options: Any) -> Path:
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(PdfReader(write_pdf(folder / "plain.pdf", ["Secret text"])))
    writer.encrypt(algorithm="RC4-128", **options)
    writer.write(folder / "encrypted.pdf")
    return folder / "encrypted.pdf"


def test_passwords(tmp_path: Path) -> None:
    path = encrypted(tmp_path, user_password="öffne")
    with pytest.raises(DocumentError, match="encrypted; give its password"):
        open_document(path)
    with pytest.raises(DocumentError, match="does not open it") as caught:
        open_document(path, "wr0ng-one")
    assert "wr0ng-one" not in str(caught.value)
    with opened(path, "öffne") as document:
        assert [word.text for word in document.words(0)] == ["Secret", "text"]


def test_a_pdf_that_anyone_may_open_needs_no_password(tmp_path: Path) -> None:
    path = encrypted(tmp_path, user_password="", owner_password="only for changing it")
    for place, password in ((path, None), (tmp_path / "plain.pdf", "not needed")):
        with opened(place, password) as document:
            assert len(document.words(0)) == 2


def test_poppler_is_never_told_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pdf2image

    path = encrypted(tmp_path, user_password="öffne")
    asked: list[Any] = []
    monkeypatch.setattr(pdf2image, "convert_from_path", lambda *all, **named: asked.append((all, named)))
    with opened(path, "öffne") as document:
        image = document.render(0, 72, "poppler")
    assert not asked
    assert image.size == (595, 842)


def filled_form(path: Path) -> Path:
    """A form whose one field says `Lindqvist`, with a note and a link beside it."""
    from pypdf import PdfReader, PdfWriter
    from pypdf.annotations import FreeText, Link
    from pypdf.generic import (
        ArrayObject,
        DecodedStreamObject,
        DictionaryObject,
        FloatObject,
        NameObject,
        TextStringObject,
    )

    writer = PdfWriter(PdfReader(write_pdf(path, ["Name:"])))
    appearance = DecodedStreamObject()
    appearance.set_data(b"/Tx BMC q BT /Helv 12 Tf 2 5 Td (Lindqvist) Tj ET Q EMC")
    font = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Font"),
            NameObject("/Subtype"): NameObject("/Type1"),
            NameObject("/BaseFont"): NameObject("/Helvetica"),
        }
    )
    fonts = DictionaryObject({NameObject("/Font"): DictionaryObject({NameObject("/Helv"): font})})
    box = ArrayObject(map(FloatObject, (0, 0, 200, 20)))
    appearance.update(
        {
            NameObject("/Type"): NameObject("/XObject"),
            NameObject("/Subtype"): NameObject("/Form"),
            NameObject("/BBox"): box,
            NameObject("/Resources"): fonts,
        }
    )
    field = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/Annot"),
            NameObject("/Subtype"): NameObject("/Widget"),
            NameObject("/FT"): NameObject("/Tx"),
            NameObject("/F"): FloatObject(4),
            NameObject("/T"): TextStringObject("name"),
            NameObject("/V"): TextStringObject("Lindqvist"),
            NameObject("/Rect"): ArrayObject(map(FloatObject, (120, 600, 320, 620))),
            NameObject("/AP"): DictionaryObject({NameObject("/N"): writer._add_object(appearance)}),
        }
    )
    reference = writer._add_object(field)
    writer.pages[0][NameObject("/Annots")] = ArrayObject([reference])
    writer._root_object[NameObject("/AcroForm")] = DictionaryObject(
        {NameObject("/Fields"): ArrayObject([reference]), NameObject("/DR"): fonts}
    )
    writer.add_annotation(0, FreeText(text="Seen", rect=(60, 300, 200, 330)))
    writer.add_annotation(0, Link(rect=(60, 200, 200, 230), url="https://example.org"))
    writer.write(path)
    return path


def test_what_was_filled_into_a_form_is_read_and_shown(tmp_path: Path) -> None:
    with opened(filled_form(tmp_path / "form.pdf")) as document:
        words = {word.text: word.box for word in document.words(0)}
        assert {"Name:", "Lindqvist"} <= set(words)
        left, top, right, bottom = words["Lindqvist"]
        assert (120 <= left <= 125, 842 - 620 <= top <= bottom <= 842 - 600) == (True, True)
        ink = np.asarray(document.render(0, 72).convert("L"))[
            int(top) : int(bottom) + 1, int(left) : int(right)
        ]
        assert ink.min() < 128


def test_a_page_that_one_engine_leaves_blank_is_drawn_by_the_other(tmp_path: Path) -> None:
    if shutil.which("pdftoppm") is None:
        pytest.skip("poppler is not installed")
    # A font that is not there: pdfium draws nothing and says nothing.
    path = tmp_path / "a.pdf"
    stream = b"BT /F1 40 Tf 20 100 Td (Hello) Tj ET"
    path.write_bytes(
        b"%%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R"
        b"/Resources<</Font<</F1<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>>>>>>>endobj\n"
        b"4 0 obj<</Length %d>>stream\n%s\nendstream endobj\ntrailer<</Root 1 0 R>>\n" % (len(stream), stream)
    )
    from pagelens.ingest import raster

    page = pypdfium2.PdfDocument(path)[0]
    drawn = raster.render(page, (path, 0), 72)
    white = PIL.Image.new("RGB", drawn.size, "white")
    assert drawn.getextrema() != white.getextrema()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raster, "_pdfium", lambda *_: white)
        assert raster.render(page, (path, 0), 72).getextrema() != white.getextrema()
        assert raster.render(page, None, 72).getextrema() == white.getextrema()

        def fails(*_: Any) -> PIL.Image.Image:
            raise RuntimeError("cannot")

        patch.setattr(raster, "_pdfium", fails)
        assert raster.render(page, (path, 0), 72).size == (200, 200)
        with pytest.raises(RuntimeError, match="pdfium: cannot"):
            raster.render(page, None, 72)


def test_both_engines_draw_the_same_page(tmp_path: Path) -> None:
    if shutil.which("pdftoppm") is None:
        pytest.skip("poppler is not installed")
    pdf = pypdfium2.PdfDocument(write_pdf(tmp_path / "a.pdf", ["The same\npage twice"]))
    pdf[0].set_rotation(90)
    pdf[0].set_cropbox(30, 400, 560, 820)
    pdf.save(tmp_path / "b.pdf")
    with opened(tmp_path / "b.pdf") as document:
        one, other = (
            np.asarray(document.render(0, 100, e).convert("L"), float) for e in ("pdfium", "poppler")
        )
        assert one.shape == pytest.approx(other.shape, abs=1)
        height, width = min(one.shape[0], other.shape[0]), min(one.shape[1], other.shape[1])
        assert np.abs(one[:height, :width] - other[:height, :width]).mean() < 2


def test_a_pdf_that_claims_a_million_pages(tmp_path: Path) -> None:
    path = write_pdf(tmp_path / "a.pdf", ["one"])
    data = path.read_bytes()
    assert b"/Count 1" in data
    path.write_bytes(data.replace(b"/Count 1", b"/Count 1000000"))
    with pytest.raises(DocumentError, match="says it has 1000000 pages"):
        open_document(path)
