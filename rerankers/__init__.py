"""A question and candidates in, one score each out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from pagelens.errors import UsageError

if TYPE_CHECKING:
    from pagelens.rerankers.cross_encoder import ImageCrossEncoder
    from pagelens.rerankers.features import Files
    from pagelens.rerankers.vision_language import VisionLanguageReranker

Level: TypeAlias = Literal["auto", "none", "vision", "prefix"]


@dataclass(frozen=True, slots=True)
class Looking:
    """How rerankers look at pages; see `load_reranker`."""

    device: str = "auto"
    dtype: str = "auto"
    features: Level = "auto"
    with_text: bool = False
    int8: bool = False
    commercial: bool = False


def _jina_m0(folder: Path, device: str, dtype: str, name: str) -> Any:
    from pagelens.rerankers.jina_m0 import JinaM0

    return JinaM0(folder, device, dtype)


def _nemotron_vl(folder: Path, device: str, dtype: str, name: str) -> Any:
    from pagelens.rerankers.nemotron_vl import NemotronRerank

    return NemotronRerank(folder, device, dtype)


def _qwen3_vl(folder: Path, device: str, dtype: str, name: str) -> Any:
    from pagelens.rerankers.qwen3_vl import Qwen3VL

    return Qwen3VL(folder, device, dtype, name)


IMAGE_CROSS_ENCODERS: Mapping[str, tuple[str, str]] = {
    "lighton-rerank-pw-0.8b": (
        "lightonai/LightOn-rerank-PW-0.8B",
        "e2459c2554b95969a68cba3aa6f0bd696723934f",
    )
}
"""Through sentence-transformers, by name: repository and revision. Apache-2.0."""

FAMILIES: Mapping[str, Callable[[Path, str, str, str], Any]] = {
    "jina-m0": _jina_m0,
    "nemotron-vl": _nemotron_vl,
    "qwen3-vl-2b": _qwen3_vl,
    "qwen3-vl-8b": _qwen3_vl,
}
"""Vision-language rerankers by name; the names are those of `weights.MODELS` too."""


VISION_LANGUAGE = frozenset({*FAMILIES, *IMAGE_CROSS_ENCODERS})
"""What `load_reranker` knows."""


def load_reranker(
    name: str,
    weights: str | Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    features: Level = "auto",
    *,
    with_text: bool = False,
    files: Files | None = None,
    int8: bool = False,
    cap: int | None = None,
    models: Path | None = None,
    commercial: bool = False,
) -> VisionLanguageReranker | ImageCrossEncoder:
    """A vision-language reranker, ready to score: `reranker.score(question, pages)`, one score 0..1 a page.

    Args:
        name: One of `VISION_LANGUAGE`.
        weights: A folder in the published layout, of any size; default: the published weights, from where
            `weights.fetch` finds them.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        dtype: `auto` (bfloat16 where the device computes in it), `float32`, `float16`, `bfloat16`.
        features: What of a page is computed once and kept: `none`, `vision` (the vision tower's answer),
            `prefix` (all that the language model makes of the page; `jina-m0` alone), `auto` (the most the
            model has). Scores do not depend on it.
        with_text: Give a page's words beside its image, where the model takes both.
        files: Where features are kept for good, such as `store.pages.PageFiles`; default: in memory alone.
        int8: Keep features in a quarter to half of the bytes; scores then differ a little.
        cap: Bytes of these files at most.
        models: Folder with a folder a model, looked into for `weights`; default `$PAGELENS_MODELS`.
        commercial: Refuse a model whose licence forbids commercial use.

    Raises:
        UsageError: there is no such model, device, dtype or level, or its licence forbids what is meant.
        Missing: the weights are nowhere to be had, or are not exactly those of the model.
    """
    if name in IMAGE_CROSS_ENCODERS:
        from pagelens.rerankers.cross_encoder import ImageCrossEncoder

        repository, revision = IMAGE_CROSS_ENCODERS[name]
        if weights is not None:
            repository, revision = str(weights), ""
        return ImageCrossEncoder(name, repository, revision or None, device)
    from pagelens.backbones.checkpoints import fingerprint
    from pagelens.backbones.prompts import Vision
    from pagelens.backbones.qwen_vl import Prefix
    from pagelens.rerankers.features import PageFeatures
    from pagelens.rerankers.vision_language import VisionLanguageReranker
    from pagelens.weights import allowed, fetch

    if name not in FAMILIES:
        raise UsageError(f"there is no reranker {name!r}; choose one of {', '.join(sorted(VISION_LANGUAGE))}")
    if features not in ("auto", "none", "vision", "prefix"):
        raise UsageError(f"there is no level of features {features!r}; choose auto, none, vision or prefix")
    allowed(name, commercial)
    folder = Path(weights) if weights is not None else fetch(name, models)
    model = FAMILIES[name](folder, device, dtype, name)
    signature = f"{name} {fingerprint(folder)} {model.body.dtype} {model.prompt} {model.sizes[0]}"
    level = model.levels[-1] if features == "auto" else features
    shown = f"{signature} with text" if with_text else signature
    if level == "none":
        return VisionLanguageReranker(model, shown, with_text=with_text)
    if level not in model.levels:
        raise UsageError(f"{name} has no features at level {level!r}; it has {', '.join(model.levels)}")
    kind = Prefix if level == "prefix" else Vision
    kept = PageFeatures(kind, f"{signature} {level}", model.body.device, files, int8, cap)
    return VisionLanguageReranker(model, f"{shown} int8" if int8 else shown, kept, level, with_text)
