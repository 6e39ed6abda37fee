"""A page or a query in, vectors out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pagelens.errors import UsageError

if TYPE_CHECKING:
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


def load_encoder(
    name: str,
    weights: str | Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    *,
    models: Path | None = None,
) -> VisualEncoder:
    """A visual encoder, ready: `encode_images(images)`, `encode_query(question)`.

    Args:
        name: One of `FAMILIES`.
        weights: A folder in the published layout, of any size; default: the published weights, from where
            `weights.fetch` finds them.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        dtype: `auto` (bfloat16 where the device computes in it), `float32`, `float16`, `bfloat16`.
        models: Folder with a folder a model, looked into for `weights`; default `$PAGELENS_MODELS`.

    Raises:
        UsageError: there is no such encoder, device or dtype.
        Missing: the weights are nowhere to be had, or are not exactly those of the model.
    """
    from pagelens.backbones.checkpoints import fingerprint
    from pagelens.encoders.visual import VisualEncoder
    from pagelens.weights import allowed, fetch

    if name not in FAMILIES:
        raise UsageError(f"there is no visual encoder {name!r}; choose one of {', '.join(FAMILIES)}")
    allowed(name)
    folder = Path(weights) if weights is not None else fetch(name, models)
    return VisualEncoder(name, FAMILIES[name](folder, device, dtype), fingerprint(folder))
