"""Other visual encoders, through sentence-transformers.

Loads and untested here: there were no weights to be had. What a model makes of its special tokens is kept as
that library keeps it, and where its patches lie is not known: no heat map, and no pooling by rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from pagelens.encoders.sentence_transformer import SentenceTransformerModel
from pagelens.encoders.visual import Grid, Question
from pagelens.errors import UsageError


class SentenceVisual:
    """See `visual.Model`; late interaction unless the model's own files say that it makes one vector.

    Args:
        loaded: The model.

    Raises:
        UsageError: it takes no images.
    """

    settings = "through sentence-transformers"

    def __init__(self, loaded: SentenceTransformerModel) -> None:
        if not loaded.model.supports("image"):
            raise UsageError(
                f"{loaded.name} takes no images: `ingest --text {loaded.name}` encodes words by it"
            )
        self._model, self.device, self.size = loaded.model, loaded.device, loaded.size
        self.late = loaded.kind != "SentenceTransformer"

    def grid(self, width: int, height: int) -> Grid:
        """Not known."""
        return ()

    def tokens(self, width: int, height: int) -> int:
        """As many as most models have at most."""
        return 1024

    def prepare(self, image: PIL.Image.Image) -> PIL.Image.Image:
        """The library prepares it."""
        return image

    def look(self, prepared: Sequence[PIL.Image.Image]) -> list[Tensor]:
        """The library's `encode_document`."""
        options = {"batch_size": len(prepared), "convert_to_numpy": True, "show_progress_bar": False}
        return [_rows(each) for each in self._model.encode_document(list(prepared), **options)]

    def question(self, text: str) -> Question:
        """The library splits it."""
        return Question(text, [], [])

    def ask(self, question: Question) -> Tensor:
        """The library's `encode_query`."""
        options = {"convert_to_numpy": True, "show_progress_bar": False}
        return _rows(self._model.encode_query([question.text], **options)[0])


def _rows(made: np.ndarray) -> Tensor:
    """One vector or several, as rows."""
    return torch.from_numpy(np.atleast_2d(made))
