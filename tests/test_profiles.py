"""What a profile chooses, and that it says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from made import write_pdf

from pagelens import Library, UsageError, profiles, weights
from pagelens.profiles import PROFILES, choose


def test_auto_is_light_and_says_why() -> None:
    profile, why = choose("auto")
    assert profile.name == "light"
    assert "light" in why and "for this machine" in why and "all-MiniLM-L6-v2" in why and "\n" not in why


@pytest.mark.parametrize("name", [each.name for each in PROFILES.values() if not each.needs_gpu])
def test_a_profile_is_never_another(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where its weights are nowhere: what cannot be had is an error, later, not another profile."""
    monkeypatch.setattr(weights, "_places", lambda *_: iter(()))
    profile, why = choose(name)
    assert (profile.name, "as asked" in why) == (name, True)
    assert ("to be downloaded" in why) == (profile.text_model is not None)


def test_the_gpu_profile_wants_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "has_gpu", lambda: False)
    with pytest.raises(UsageError, match="CUDA device.*take light"):
        choose("gpu")
    monkeypatch.setattr(profiles, "has_gpu", lambda: True)
    assert choose("gpu")[0].rerank[-1].startswith("qwen3-vl-2b")


def test_every_model_of_a_profile_is_known() -> None:
    assert {name for each in PROFILES.values() for name in each.models} <= set(weights.MODELS)


def test_unknown_profile_and_folder_are_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'best'.*auto, light, cpu, gpu, words"):
        choose("best")
    with pytest.raises(UsageError, match="no-folder"):
        choose("auto", tmp_path / "no-folder")


def test_a_library_is_not_asked_with_another_profile(tmp_path: Path) -> None:
    note = write_pdf(tmp_path / "note.pdf", ["The key hangs behind the door."])
    with Library(tmp_path / "new", profile="words") as library:
        library.ingest(note, readers=1)
    with (
        Library(tmp_path / "new", profile="light") as library,
        pytest.raises(UsageError, match="words, not light"),
    ):
        library.search("key")
    with Library(tmp_path / "new") as library:
        assert library.search("key").profile == "words"
