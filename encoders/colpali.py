"""ColPali 1.3 (arXiv 2407.01449 on PaliGemma 3B): 1024 vectors a page, whatever its size.

Prompts are those of transformers' `ColPaliProcessor`. PaliGemma was trained to let every token see every
other; transformers 5 does that only where it is told which tokens are the prompt's, so here it always is.
Gemma licence.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from transformers import ColPaliForRetrieval
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from pagelens.backbones.checkpoints import choose_device, choose_dtype, load_model
from pagelens.backbones.prompts import PromptTokenizer
from pagelens.encoders.visual import Grid, Question
from pagelens.errors import Missing

IMAGE = "<image>"
INSTRUCTION, PREFIX = "Describe the image.\n", "Question: "
AUGMENTATION = 10
"""Tokens after a question in which the model can think of what else it means (ColBERT, arXiv 2004.12832)."""


class ColPali:
    """See `visual.Model`.

    Args:
        folder: The published `-hf` files, in the layout of transformers 4 or 5.
        device: As `checkpoints.choose_device`.
        dtype: As `checkpoints.choose_dtype`.

    Raises:
        Missing: the folder does not hold exactly this model.
    """

    late = True

    def __init__(self, folder: Path, device: str = "auto", dtype: str = "auto") -> None:
        self.device = choose_device(device)
        self._model: Any = load_model(
            ColPaliForRetrieval,
            folder,
            self.device,
            choose_dtype(dtype, self.device),
            left_over="vlm.language_model.lm_head.weight".__eq__,
        )
        try:
            self._images = SiglipImageProcessorPil.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise Missing(f"{folder} lacks a preprocessor_config.json that can be read ({error})") from error
        self._tokenizer = PromptTokenizer(folder, IMAGE)
        config: Any = self._model.config
        vision = config.vlm_config.vision_config
        self._side = vision.image_size // vision.patch_size
        self.size = config.embedding_dim
        self.settings = f"v1 {vision.image_size} px square"
        self._begin, self._pad = self._tokenizer.id("<bos>"), self._tokenizer.id("<pad>")
        self._page = [self._tokenizer.image] * self._side**2
        self._page += [self._begin, *self._tokenizer.text_ids(INSTRUCTION)]

    def grid(self, width: int, height: int) -> Grid:
        """A square one: the page is stretched to it."""
        return ((self._side, self._side),)

    def tokens(self, width: int, height: int) -> int:
        """The same for every page."""
        return len(self._page)

    def prepare(self, image: PIL.Image.Image) -> np.ndarray:
        """Stretched to a square; float32, *shape:* (3, side, side)."""
        pixels: np.ndarray = self._images(images=[image], return_tensors="np")["pixel_values"][0]
        return pixels

    def look(self, prepared: Sequence[np.ndarray]) -> list[Tensor]:
        """The image tokens alone of each page's prompt."""
        pixels = torch.from_numpy(np.stack(prepared)).to(self.device)
        ids = torch.tensor([self._page] * len(prepared), device=self.device)
        return [own[: self._side**2] for own in self._read(ids, pixels)]

    def question(self, text: str) -> Question:
        r"""`<bos>Question: `, the question, ten `<pad>`, a line break."""
        after = [self._pad] * AUGMENTATION + self._tokenizer.text_ids("\n")
        spans = [
            (start - len(PREFIX), end - len(PREFIX)) for start, end in self._tokenizer.spans(PREFIX + text)
        ]
        own = [(max(0, start), end) if end > 0 else None for start, end in spans]
        return Question(
            text,
            [self._begin, *self._tokenizer.text_ids(PREFIX + text), *after],
            [None, *own, *[None] * len(after)],
        )

    def ask(self, question: Question) -> Tensor:
        """Every token, those of the prompt too: they were trained so."""
        return self._read(torch.tensor([question.ids], device=self.device))[0]

    @torch.inference_mode()
    def _read(self, ids: Tensor, pixels: Tensor | None = None) -> Tensor:
        vectors: Tensor = self._model(
            input_ids=ids,
            pixel_values=pixels,
            attention_mask=torch.ones_like(ids),
            token_type_ids=torch.zeros_like(ids),  # all of it is prompt: every token sees every other
        ).embeddings
        return vectors
