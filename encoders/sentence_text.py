"""Other text encoders, through sentence-transformers: dense ones, and SPLADE and its like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from torch import Tensor

from pagelens.encoders.sentence_transformer import SentenceTransformerModel
from pagelens.encoders.text import WindowSettings, windows
from pagelens.errors import UsageError
from pagelens.records import SparseVector

BATCH = 32
"""Windows computed together."""


class SentenceText:
    """A text encoder of that library, over the same windows of a page as the built-in one.

    A dense model makes a vector a window. A sparse one makes a weight a term, of which a page keeps the
    highest of its windows: within a text it takes the highest over the tokens too (Formal et al., SPLADE v2,
    arXiv 2109.10086, eq. 6).

    Args:
        loaded: The model.
        cut: How pages are cut into windows.

    Raises:
        UsageError: the model makes a vector a token.
    """

    def __init__(self, loaded: SentenceTransformerModel, cut: WindowSettings | None = None) -> None:
        if loaded.kind == "MultiVectorEncoder":
            raise UsageError(
                f"{loaded.name} makes a vector a token; a text encoder makes one a text, or terms"
            )
        self.name, self._model, self._cut = loaded.name, loaded.model, cut or WindowSettings()
        self.kind: Literal["multi", "sparse"] = "sparse" if loaded.kind == "SparseEncoder" else "multi"
        """Of the vectors, as the store calls them."""
        self.size = 0 if self.kind == "sparse" else loaded.size
        """Numbers a row; 0 of a sparse one."""
        self.signature = f"{self.name}@{loaded.weights} {self._cut.signature}"

    def encode_pages(self, texts: Sequence[str]) -> list[np.ndarray | SparseVector | None]:
        """A float32 matrix a page, *shape:* (windows, size), or its terms; None for a page without words.

        Raises:
            UsageError: the model makes what is not a number.
        """
        cuts = [windows(text, self._cut) for text in texts]
        together = [window for cut in cuts for window in cut]
        if not together:
            return [None] * len(texts)
        rows = self._finite(self._model.encode_document(together, **self._options()))
        made: list[np.ndarray | SparseVector | None] = []
        start = 0
        for cut in cuts:
            own = rows[start : start + len(cut)]
            start += len(cut)
            made.append(self._page(own) if cut else None)
        return made

    def encode_query(self, text: str) -> np.ndarray | SparseVector | None:
        """*Shape:* (1, size), or the terms of the question; None where it has none."""
        return self._page(self._finite(self._model.encode_query([text], **self._options())))

    def _options(self) -> dict[str, object]:
        common: dict[str, object] = {
            "batch_size": BATCH,
            "show_progress_bar": False,
            "convert_to_tensor": True,
        }
        return common | ({"convert_to_sparse_tensor": False} if self.kind == "sparse" else {})

    def _page(self, rows: np.ndarray) -> np.ndarray | SparseVector | None:
        if self.kind == "multi":
            return rows
        weights = rows.max(axis=0)
        terms = np.flatnonzero(weights > 0)
        return SparseVector(terms.astype(np.uint32), weights[terms]) if len(terms) else None

    def _finite(self, made: Tensor) -> np.ndarray:
        rows: np.ndarray = made.float().cpu().numpy()
        if not np.isfinite(rows).all():
            raise UsageError(f"{self.name} made vectors that are not numbers; its weights are not sound")
        return rows
