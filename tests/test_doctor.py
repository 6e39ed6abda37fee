"""The doctor, on machines that lack things."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pagelens import ExitCode
from pagelens.doctor import OPENCV, examine
from pagelens.places import Place

COMMAND = str(Path(sys.executable).with_name("pagelens"))


def ask(*arguments: str, **environment: str) -> tuple[int, dict[str, Any]]:
    """Exit code and findings by name, of the real command."""
    done = subprocess.run(
        [COMMAND, "doctor", "--json", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    answer = json.loads(done.stdout)
    assert answer["schema"] == 1
    return done.returncode, {each["name"]: each for each in answer["findings"]}


def test_every_lack_has_a_cure(tmp_path: Path) -> None:
    """Whatever this machine has."""
    for each in examine(Place.of(tmp_path / "new")):
        assert each.found
        assert each.state == "ok" or each.cure, each
    assert not list(tmp_path.iterdir())  # looking makes nothing


def test_a_machine_without_programs(tmp_path: Path) -> None:
    _, found = ask("--library", str(tmp_path / "new"), PATH=str(tmp_path))
    assert (found["tesseract"]["state"], found["pdftoppm"]["state"]) == ("optional", "optional")
    assert "apt-get install tesseract-ocr" in found["tesseract"]["cure"]
    assert "poppler-utils" in found["pdftoppm"]["cure"]


@pytest.mark.skipif(shutil.which("tesseract") is None, reason="tesseract is not installed")
def test_tesseract_and_its_languages(tmp_path: Path) -> None:
    found = {each.name: each for each in examine(Place.of(tmp_path))}
    assert found["tesseract"].state == "ok" and "eng" in found["tesseract"].found
    assert "tesseract" in found["OCR"].found


def test_a_model_that_is_nowhere_and_one_that_is_damaged(tmp_path: Path) -> None:
    damaged = tmp_path / "all-minilm-l6-v2"
    damaged.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (damaged / name).write_text("{}")
    _, found = ask("--models", str(tmp_path), HF_HOME=str(tmp_path))
    assert "not used" in found["model all-minilm-l6-v2"]["found"]
    assert "SHA-256" in found["model all-minilm-l6-v2"]["found"]
    assert {"profile auto", "profile light", "profile words"} <= set(found)


def test_two_copies_of_opencv(tmp_path: Path) -> None:
    """Known by what pip wrote down of them, as after `pip install` of packages that want one each."""
    for name in ("opencv-python", "opencv-python-headless"):
        info = tmp_path / f"{name.replace('-', '_')}-9.9.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n")
    code, found = ask(PYTHONPATH=str(tmp_path))
    assert code == ExitCode.MISSING
    assert "opencv-python" in found["opencv"]["found"] and "pip uninstall" in found["opencv"]["cure"]
    assert set(OPENCV) >= {"opencv-python", "opencv-python-headless", "opencv-contrib-python"}


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    code, found = ask("--library", str(tmp_path / "file" / "new"))
    assert (code, found["library"]["state"]) == (ExitCode.MISSING, "missing")
    assert "--library" in found["library"]["cure"]
