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
    image: tuple[str, ...] = ()
    """Visual encoders that a library has from the start, by the names of `encoders.load_encoder`."""
    rerank: tuple[str, ...] = ("evidence@50",)
    """The second stage: rerankers, and how many pages each sees."""
    needs_gpu: bool = False

    @property
    def models(self) -> tuple[str, ...]:
        """What ingest loads, by names in `weights.MODELS`."""
        return (*([self.text_model] if self.text_model else ()), *self.image)


PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in [
        Profile("light", "BM25 and all-MiniLM-L6-v2, on any CPU", "all-minilm-l6-v2"),
        Profile(
            "cpu",
            "as light, and colmodernvbert sees pages as images; on any CPU, in seconds or minutes a page",
            "all-minilm-l6-v2",
            ("colmodernvbert",),
        ),
        Profile(
            "gpu",
            "as light, and qwen3-vl-2b looks at the best 20 pages; for a CUDA device",
            "all-minilm-l6-v2",
            rerank=("evidence@100", "qwen3-vl-2b@20"),
            needs_gpu=True,
        ),
        Profile("words", "BM25 alone, no model; what is meant but not written is not found", None),
    ]
}


def choose(wanted: str, models: Path | None = None) -> tuple[Profile, str]:
    """The profile to use, and one line on what it is and why.

    Args:
        wanted: A profile's name, or `"auto"`: the best that this machine can run, which is `light`. Where its
            weights are not at hand they are downloaded; where they cannot be, that is an error that names
            `words`. An index without meaning is never made unasked.
        models: Folder with a folder a model.

    Raises:
        UsageError: there is no such profile, or no folder `models`.
    """
    if wanted != "auto" and wanted not in PROFILES:
        raise UsageError(f"there is no profile {wanted!r}; choose one of auto, {', '.join(PROFILES)}")
    profile = PROFILES["light" if wanted == "auto" else wanted]
    if profile.needs_gpu and not has_gpu():
        raise UsageError(f"profile {profile.name} wants a CUDA device and there is none here; take light")
    reason = "the best for this machine" if wanted == "auto" else "as asked"
    return profile, f"profile {profile.name}, {reason}: {describe(profile, models)}"


def has_gpu() -> bool:
    """Whether torch can compute on a CUDA device."""
    import torch

    return torch.cuda.is_available()


def describe(profile: Profile, models: Path | None = None) -> str:
    """What it is, and where its weights come from."""
    found = [find(name, models) for name in profile.models]
    sources = [each.origin if each.folder else f"{each.weights.terms}, to be downloaded" for each in found]
    return f"{profile.about} ({'; '.join(sources)})" if sources else profile.about
