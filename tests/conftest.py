"""What several tests share: an office of made PDF files, and one small library of it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from made import write_pdf

from pagelens import Library
from pagelens.records import Box
from pagelens.sample import Question, make_sample

FOOTER = "Harbour Office"
"""Stands on every page: a question for it alone finds them all."""

OFFICE = {
    "lease.pdf": (
        "2021-05-03",
        [
            "Lease agreement\nThe landlord lets the shop in Quay Street to the tenant.\nThe rent is 1,250.",
            "Duties of the tenant\nThe tenant keeps the heating and the windows in repair.",
            "Signatures\nThis lease was signed by Martha Lindqvist.",
        ],
    ),
    "annual report.pdf": (
        "2023-02-14",
        [
            "Annual report\nRevenue in the northern region rose to 48 million.",
            "Quarterly figures\nFirst quarter 11.2\nSecond quarter 12.9",
        ],
    ),
    "post/minutes.pdf": ("2022-11-30", ["Minutes\nThe board decided to paint the corridor."]),
}
"""File -> the day it was changed, and its pages."""


@pytest.fixture(scope="session")
def small_office(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three PDF files with a text layer, six pages in all. Not to be changed."""
    folder = tmp_path_factory.mktemp("office")
    for name, (day, pages) in OFFICE.items():
        path = write_pdf(folder / name, [f"{page}\n{FOOTER}" for page in pages])
        noon = datetime.fromisoformat(f"{day}T12:00").timestamp()
        os.utime(path, (noon, noon))
    return folder


class Sample(NamedTuple):
    """The sample collection, and where on its pages the answers stand."""

    folder: Path
    answers: dict[Question, Box]


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """Drawn once, which takes seconds. Not to be changed."""
    folder = tmp_path_factory.mktemp("sample") / "scans"
    return Sample(folder, make_sample(folder))


@pytest.fixture(scope="session")
def small_library(tmp_path_factory: pytest.TempPathFactory, small_office: Path) -> Iterator[Library]:
    """The office, ingested with the profile `light`; open for the whole session. Not to be changed."""
    with Library(tmp_path_factory.mktemp("small") / "library.pagelens", profile="light") as library:
        assert not library.ingest(small_office, readers=1).failed
        yield library


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, where one may be made."""
    image, place = tmp_path / "image", tmp_path / "disk"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(220 * 2**20)
    try:
        subprocess.run(
            ["mkfs.ext4", "-q", "-m0", "-O", "^has_journal", str(image)],
            check=True,
            capture_output=True,
            text=True,
        )
        command = ["mount", "-o", "loop", str(image), str(place)]
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no disk can be made here: {getattr(error, 'stderr', error)}")
    yield place
    until = time.monotonic() + 5
    while place.is_mount() and time.monotonic() < until:  # a worker may just be ending
        subprocess.run(["umount", str(place)], capture_output=True)
        time.sleep(0.05)
    assert not place.is_mount()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Several threads that wait for each other take far longer over a tiny model."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
