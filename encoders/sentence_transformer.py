"""Other visual encoders, as sentence-transformers loads them by itself.

Loads and untested here: there were no weights to be had. What a model makes of its special tokens is kept as
that library keeps it, and where its patches lie is not known: no heat map, and no pooling by rows.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from pagelens.backbones.checkpoints import choose_device, choose_dtype
from pagelens.encoders.visual import Grid, Question
from pagelens.errors import Missing, UsageError

ABOUT = "config_sentence_transformers.json"


class SentenceTransformerModel:
    """See `visual.Model`; late interaction unless the model's own files say that it makes one vector.

    Args:
        name: What people call it.
        repository: On the Hugging Face hub, or a folder.
        revision: Commit of the repository.
        device: As `checkpoints.choose_device`.
        dtype: As `checkpoints.choose_dtype`.

    Raises:
        UsageError: the model needs code from its repository.
        Missing: sentence-transformers is not installed, or the model cannot be loaded.
    """

    def __init__(
        self,
        name: str,
        repository: str,
        revision: str | None,
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        try:
            from sentence_transformers import MultiVectorEncoder, SentenceTransformer
            from sentence_transformers.util import load_file_path
        except ImportError as error:
            raise Missing(f"{name} needs sentence-transformers: pip install 'pagelens[rerank]'") from error
        self.device = choose_device(device)
        try:
            about = load_file_path(repository, ABOUT, revision=revision)
            said = json.loads(Path(about).read_text()).get("model_type") if about else None
            self.late = said != "SentenceTransformer"
            kind: Any = MultiVectorEncoder if self.late else SentenceTransformer
            # Code of a model's repository is never run, and a pickle is never opened.
            self._model = kind(
                repository,
                revision=revision,
                device=str(self.device),
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True, "dtype": choose_dtype(dtype, self.device)},
            )
        except (OSError, ValueError, ImportError, KeyError, AttributeError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            if "trust_remote_code" in str(error):
                raise UsageError(
                    f"{name} needs code from its repository, and none is ever run here"
                ) from error
            raise Missing(f"{name} cannot be loaded ({reason})") from error
        self.size = int(self._model.get_embedding_dimension())
        self.settings = "through sentence-transformers"

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


def commit(repository: str) -> str | None:
    """The commit of a repository in the cache that its main branch was at last; None for a folder."""
    from huggingface_hub.constants import HF_HUB_CACHE

    main = Path(HF_HUB_CACHE, f"models--{repository.replace('/', '--')}", "refs", "main")
    return main.read_text().strip() if main.is_file() else None


def _rows(made: np.ndarray) -> Tensor:
    """One vector or several, as rows."""
    return torch.from_numpy(np.atleast_2d(made))
