"""The models of a library: each is loaded when it is first asked for, and once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagelens.errors import Missing
from pagelens.profiles import PROFILES, Profile
from pagelens.rerankers import VISION_LANGUAGE, Looking, load_reranker
from pagelens.store.pages import PageFiles

if TYPE_CHECKING:
    from pagelens.encoders.sentence_text import SentenceText
    from pagelens.encoders.text import TextEncoder
    from pagelens.encoders.visual import VisualEncoder
    from pagelens.searching import Reranker


class Models:
    """Encoders and rerankers, by the names that people call them.

    Args:
        folder: With a folder a model, looked into first; default `$PAGELENS_MODELS`.
        looking: How models look at pages; text encoders use its device and dtype.
        files: Where rerankers keep features of pages.
    """

    def __init__(self, folder: Path | None, looking: Looking, files: PageFiles) -> None:
        self._folder, self._looking, self._files = folder, looking, files
        self._loaded: dict[tuple[str, str], Any] = {}

    def text(self, profile: Profile = PROFILES["light"]) -> TextEncoder:
        """The encoder of a profile that has one.

        Raises:
            Missing: its weights are nowhere to be had.
        """

        def load() -> TextEncoder:
            from pagelens.encoders.text import TextEncoder
            from pagelens.weights import MODELS, fetch

            assert profile.text_model is not None
            try:
                folder = fetch(profile.text_model, self._folder)
            except Missing as error:
                raise Missing(
                    f"{error}; or go without: `--profile words` to ingest, `--stage bm25` to search"
                ) from error
            return TextEncoder(folder, MODELS[profile.text_model].revision)

        encoder: TextEncoder = self._once("text", profile.text_model or "", load)
        return encoder

    def further_text(self, name: str) -> SentenceText:
        """As `encoders.load_text_encoder`."""

        def load() -> SentenceText:
            from pagelens.encoders import load_text_encoder

            looking = self._looking
            return load_text_encoder(name, looking.device, looking.dtype, models=self._folder)

        encoder: SentenceText = self._once("further text", name, load)
        return encoder

    def visual(self, name: str) -> VisualEncoder:
        """As `encoders.load_encoder`."""

        def load() -> VisualEncoder:
            from pagelens.encoders import load_encoder

            looking = self._looking
            return load_encoder(
                name,
                device=looking.device,
                dtype=looking.dtype,
                models=self._folder,
                commercial=looking.commercial,
            )

        encoder: VisualEncoder = self._once("visual", name, load)
        return encoder

    def reranker(self, name: str) -> Reranker:
        """One that looks at pages, or a text cross-encoder.

        Raises:
            Missing: its weights or its package are not there.
        """

        def load() -> Reranker:
            if name in VISION_LANGUAGE:
                return load_reranker(name, files=self._files, models=self._folder, **asdict(self._looking))
            from pagelens.rerankers.text import TextReranker

            return TextReranker.load(name, self._folder)

        reranker: Reranker = self._once("reranker", name, load)
        return reranker

    def _once(self, kind: str, name: str, load: Callable[[], Any]) -> Any:
        if (kind, name) not in self._loaded:
            self._loaded[kind, name] = load()
        return self._loaded[kind, name]
