"""What a question is encoded with: the library's encoders, each held to what made the stored vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import TYPE_CHECKING

from pagelens.errors import Missing, UsageError
from pagelens.looks import LookVectors, QueryLooks, look_signature
from pagelens.models import Models
from pagelens.settings import Settings, TextVectors

if TYPE_CHECKING:
    from pagelens.encoders.sentence_text import SentenceText
    from pagelens.encoders.sparse import Bm25Encoder
    from pagelens.encoders.text import TextEncoder
    from pagelens.encoders.visual import VisualEncoder
    from pagelens.searching import TextQueryEncoder


class QueryEncoders:
    """Loaded when they are first asked; vectors that are being made anew have none.

    Args:
        settings: Of the library.
        models: Loads them.

    Raises:
        UsageError: by every encoder, when it is asked: the stored vectors were made otherwise.
        Missing: by every encoder, when it is asked: its model is not there.
    """

    def __init__(self, settings: Settings, models: Models) -> None:
        self._settings, self._models = settings, models

    @cached_property
    def sparse(self) -> Bm25Encoder:
        """Of words."""
        from pagelens.encoders.sparse import Bm25Encoder

        encoder = Bm25Encoder(self._settings.languages)
        self._agree("bm25", encoder.signature)
        return encoder

    @property
    def texts(self) -> Mapping[str, Callable[[], TextQueryEncoder]]:
        """What loads text encoders, by the names of their vectors."""
        made = self._settings.signatures
        further = {
            name: partial(self._further, name, kept)
            for name, kept in self._settings.texts.items()
            if name in made
        }
        return ({"text": lambda: self._text} if "text" in made else {}) | further

    @cached_property
    def looks(self) -> Mapping[str, QueryLooks]:
        """Visual encoders, by the names of their vectors."""
        return {
            name: QueryLooks(kept.late, partial(self._visual, name, kept))
            for name, kept in self._settings.ready_looks.items()
        }

    @cached_property
    def _text(self) -> TextEncoder:
        encoder = self._models.text()
        self._agree("text", encoder.signature)
        return encoder

    def _further(self, name: str, kept: TextVectors) -> SentenceText:
        encoder = self._models.further_text(kept.encoder)
        self._agree(name, encoder.signature, f"with --text {kept.encoder}")
        return encoder

    def _visual(self, name: str, kept: LookVectors) -> VisualEncoder:
        try:
            encoder = self._models.visual(kept.encoder)
        except Missing as error:
            raise Missing(f"{error}; or go without: `--no-looks`, looks=False") from error
        cure = f"with --image {kept.encoder}, or go without: `--no-looks`, looks=False"
        self._agree(name, look_signature(encoder, kept.settings), cure)
        return encoder

    def _agree(self, name: str, made: str, cure: str = "") -> None:
        """Refuse to compare vectors of a question with those that something else made.

        Args:
            name: Of the stored vectors.
            made: What a question would be encoded with.
            cure: How the files are ingested again, and else.
        """
        stored = self._settings.signatures.get(name)
        if made != stored:
            raise UsageError(
                f"this library's vectors {name} were made with {stored!r}, this question's would be with "
                f"{made!r}; {f'`pagelens ingest` its files again {cure}'.strip()}"
            )
