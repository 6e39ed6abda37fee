"""Image cross-encoders that sentence-transformers loads by itself: question and page image in, one score out.

Loads and untested here: there were no weights to be had. What such a model makes of a page is not kept, and
what a page costs is not measured, so that a budget does not hold it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import PIL.Image

from pagelens.errors import Missing, UsageError
from pagelens.records import Candidate, PageContent, Query


class ImageCrossEncoder:
    """Scores in 0..1, the sigmoid of the model's own.

    Args:
        name: What people call it.
        repository: On the Hugging Face hub, or a folder.
        revision: Commit of the repository.
        device: `auto`, or as torch names it.
        batch: Pages computed together.

    Raises:
        Missing: sentence-transformers is not installed, or the model cannot be loaded.
    """

    needs = frozenset({"image"})

    def __init__(
        self, name: str, repository: str, revision: str | None, device: str = "auto", batch: int = 4
    ) -> None:
        try:
            import torch
            from sentence_transformers import CrossEncoder
        except ImportError as error:
            raise Missing(f"{name} needs sentence-transformers: pip install 'pagelens[rerank]'") from error
        self.name, self._batch, self._sigmoid = name, batch, torch.nn.Sigmoid()
        self.signature = f"{name} {repository} {revision or ''}".rstrip()
        try:
            # Code of a model's repository is never run, and a pickle is never opened.
            self._model = CrossEncoder(
                repository,
                revision=revision,
                device=None if device == "auto" else device,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        except (OSError, ValueError, ImportError) as error:
            raise Missing(f"{name} cannot be loaded ({str(error).splitlines()[0]})") from error

    def score(self, query: Query | str, candidates: Sequence[Any]) -> list[float]:
        """One score a candidate: a page, an image, a text, or a mapping with one of these.

        Raises:
            UsageError: a candidate is none of these.
        """
        question = query.text if isinstance(query, Query) else query
        pairs = [(question, _shown(candidate)) for candidate in candidates]
        if not pairs:
            return []
        scores = self._model.predict(
            pairs, batch_size=self._batch, show_progress_bar=False, activation_fn=self._sigmoid
        )
        return [float(score) for score in scores]


def _shown(candidate: Any) -> PIL.Image.Image | str:
    match candidate:
        case Candidate() | PageContent():
            return candidate.image
        case PIL.Image.Image() | str():
            return candidate
        case {"image": PIL.Image.Image() as image} if "text" not in candidate:
            return image
        case {"text": str(text)} if "image" not in candidate:
            return text
    kind = " and ".join(candidate) if isinstance(candidate, Mapping) else type(candidate).__name__
    raise UsageError(f"it scores a page, an image or a text, not {kind}")
