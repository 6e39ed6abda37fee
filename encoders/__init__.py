"""A page or a query in, vectors out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pagelens.errors import UsageError

if TYPE_CHECKING:
    from pagelens.encoders.sentence_text import SentenceText
    from pagelens.encoders.visual import Model, VisualEncoder


def _colmodernvbert(folder: Path, device: str, dtype: str) -> Model:
    from pagelens.encoders.colmodernvbert import ColModernVBert

    return ColModernVBert(folder, device, dtype)


def _colqwen2(folder: Path, device: str, dtype: str) -> Model:
    from pagelens.encoders.colqwen2 import ColQwen2

    return ColQwen2(folder, device, dtype)


def _colpali(folder: Path, device: str, dtype: str) -> Model:
    from pagelens.encoders.colpali import ColPali

    return ColPali(folder, device, dtype)


def _qwen3_vl_embedding(folder: Path, device: str, dtype: str) -> Model:
    from pagelens.encoders.qwen3_vl_embedding import Qwen3VLEmbedding

    return Qwen3VLEmbedding(folder, device, dtype)


def _nemotron_embed(folder: Path, device: str, dtype: str) -> Model:
    from pagelens.encoders.nemotron_embed import NemotronEmbed

    return NemotronEmbed(folder, device, dtype)


FAMILIES: Mapping[str, Callable[[Path, str, str], Model]] = {
    "colmodernvbert": _colmodernvbert,
    "colqwen2": _colqwen2,
    "colpali-1.3": _colpali,
    "qwen3-vl-embedding-2b": _qwen3_vl_embedding,
    "nemotron-embed-vl": _nemotron_embed,
}
"""Visual encoders by name, each held against a second implementation; the names are those of
`weights.MODELS` too."""

THROUGH_SENTENCE_TRANSFORMERS: Mapping[str, tuple[str, str]] = {
    "colqwen2.5": ("vidore/colqwen2.5-v0.2", "6f6fcdfd1a114dfe365f529701b33d66b9349014"),
    "colsmol-256m": ("vidore/colSmol-256M", "a59110fdf114638b8018e6c9a018907e12f14855"),
    "colsmol-500m": ("vidore/colSmol-500M", "1aa9325cba7ed2b3b9b97ede4d55026322504902"),
}
"""Loads and untested here, by name: repository and revision. Apache-2.0. Other repositories of that library
go by their own name, `owner/name`."""


def load_encoder(
    name: str,
    weights: str | Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    *,
    models: Path | None = None,
    commercial: bool = False,
) -> VisualEncoder:
    """A visual encoder, ready: `encode_images(images)`, `encode_query(question)`.

    Args:
        name: One of `FAMILIES`, or its repository; or, untested here, one of `THROUGH_SENTENCE_TRANSFORMERS`,
            or a repository of that library as `owner/name`.
        weights: A folder in the published layout, of any size; default: the published weights, from where
            `weights.fetch` finds them.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        dtype: `auto` (bfloat16 where the device computes in it), `float32`, `float16`, `bfloat16`.
        models: Folder with a folder a model, looked into for `weights`; default `$PAGELENS_MODELS`.
        commercial: Refuse a model whose licence forbids commercial use.

    Raises:
        UsageError: there is no such encoder, device or dtype, or the model needs code from its repository.
        Missing: the weights are nowhere to be had, or are not exactly those of the model.
    """
    from pagelens.backbones.checkpoints import fingerprint
    from pagelens.encoders.visual import VisualEncoder
    from pagelens.weights import MODELS, allowed, fetch

    name = {MODELS[own].repository: own for own in FAMILIES}.get(name, name)
    if name in THROUGH_SENTENCE_TRANSFORMERS or "/" in name:
        from pagelens.encoders.sentence_transformer import SentenceTransformerModel
        from pagelens.encoders.sentence_visual import SentenceVisual

        repository, revision = THROUGH_SENTENCE_TRANSFORMERS.get(name, (name, None))
        place = repository if weights is None else str(weights)
        loaded = SentenceTransformerModel(name, place, revision, device, dtype, models, "MultiVectorEncoder")
        return VisualEncoder(name, SentenceVisual(loaded), loaded.weights)
    if name not in FAMILIES:
        known = ", ".join([*FAMILIES, *THROUGH_SENTENCE_TRANSFORMERS])
        raise UsageError(f"there is no visual encoder {name!r}; choose one of {known}, or owner/name")
    allowed(name, commercial)
    folder = Path(weights) if weights is not None else fetch(name, models)
    return VisualEncoder(name, FAMILIES[name](folder, device, dtype), fingerprint(folder))


def load_text_encoder(
    name: str, device: str = "auto", dtype: str = "auto", *, models: Path | None = None
) -> SentenceText:
    """A text encoder of sentence-transformers, ready: `encode_pages(texts)`, `encode_query(question)`.

    Args:
        name: A repository, as `owner/name`, or a folder below `models`.
        device: As `load_encoder`.
        dtype: As `load_encoder`.
        models: As `load_encoder`.

    Raises:
        UsageError: the model needs code from its repository, or makes a vector a token.
        Missing: sentence-transformers is not installed, or the model cannot be loaded.
    """
    from pagelens.encoders.sentence_text import SentenceText
    from pagelens.encoders.sentence_transformer import SentenceTransformerModel

    return SentenceText(SentenceTransformerModel(name, name, None, device, dtype, models))
