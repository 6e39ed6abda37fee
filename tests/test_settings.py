"""What a library remembers comes back as it was."""

from __future__ import annotations

from dataclasses import fields

from exact_store import ExactStore

from pagelens.looks import LookVectors
from pagelens.settings import Settings, TextVectors
from pagelens.store.plan import Point, Schema
from pagelens.store.points import SETTINGS

FULL = Settings(
    home="/scans.pagelens",
    page_files="0123456789abcdef",
    roots={"scans": "/scans"},
    profile="light",
    languages=("deu", "eng"),
    ocr="tesseract",
    metadata=("box", "folder"),
    signatures={"bm25": "bm25 3", "colqwen2": "colqwen2@1"},
    texts={"org--splade": TextVectors("org/splade", "sparse", 0)},
    looks={"colqwen2": LookVectors("colqwen2", True, 128, "turbo8", "rows")},
    own={"mine": "dense"},
    weights={"text": 2.0},
    calibrations={"evidence 1": {"kind": "platt", "values": [1.0, 2.0]}},
)


def store() -> ExactStore:
    made = ExactStore()
    made.declare(Schema((), {"kind": "keyword"}))
    return made


def test_all_of_it_comes_back() -> None:
    assert all(getattr(FULL, each.name) != getattr(Settings(), each.name) for each in fields(Settings))
    kept = store()
    FULL.write(kept)
    assert Settings.read(kept) == FULL
    payload = kept.retrieve([SETTINGS])[0].payload
    assert (payload["kind"], payload["format"]) == ("library", 1)


def test_of_an_empty_library_they_are_as_by_default() -> None:
    assert Settings.read(store()) == Settings()


def test_what_older_and_newer_versions_kept_does_no_harm() -> None:
    """One that lacks what came later, and has what is no longer known."""
    kept = store()
    kept.upsert([Point(SETTINGS, {"kind": "library", "format": 1, "profile": "words", "thumbnails": 3})])
    assert Settings.read(kept) == Settings(profile="words")


def test_vectors_have_the_names_that_the_store_gives_them() -> None:
    [text], [look] = FULL.texts.items(), FULL.looks.items()
    assert text[1].spec.name == text[0]
    assert [spec.name for spec in look[1].specs] == [look[0], f"{look[0]}.pooled", f"{look[0]}.blocks"]
