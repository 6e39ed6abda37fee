"""Qwen3-VL-Embedding, 2B: one vector a page, and one for a question in words, an image, or both kinds.

Prompt, pixel budget and pooling are those of the published script and of mteb 2.26.24
(`models/model_implementations/qwen3_vl_embedding_models.py`). Apache-2.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import torch
from torch import Tensor
from transformers import Qwen3VLForConditionalGeneration

from pagelens.backbones.checkpoints import choose_device, choose_dtype, load_model
from pagelens.backbones.prompts import Part, Prompt
from pagelens.backbones.qwen_vl import Pixels, QwenVL
from pagelens.encoders.visual import Grid, Question

PIXELS = (4 * 32 * 32, 1800 * 32 * 32)
"""An image is resized to at least and at most so many; a token is 32 x 32 of them."""
PAGE = "Represent the user's input."
"""The instruction for a page: the published default."""
QUERY = "Retrieve images or text relevant to the user's query."
"""The instruction for a question: that of the model's README."""


class Qwen3VLEmbedding:
    """See `visual.Model`.

    Args:
        folder: The published files.
        device: As `checkpoints.choose_device`.
        dtype: As `checkpoints.choose_dtype`.

    Raises:
        Missing: the folder does not hold exactly this model.
    """

    late = False

    def __init__(self, folder: Path, device: str = "auto", dtype: str = "auto") -> None:
        place = choose_device(device)
        whole = load_model(Qwen3VLForConditionalGeneration, folder, place, choose_dtype(dtype, place))
        self._body = QwenVL(whole.model, folder)
        text: Any = whole.config.text_config
        self.size, self.device = text.hidden_size, place
        self.settings = f"v1 up to {PIXELS[1]} px"

    def grid(self, width: int, height: int) -> Grid:
        """None: the vector is of the page as a whole."""
        return ()

    def tokens(self, width: int, height: int) -> int:
        """Of the image; the prompt around it has two dozen."""
        return self._body.tokens(width, height, PIXELS)

    def prepare(self, image: PIL.Image.Image) -> Pixels:
        """Resized and cut into patches."""
        return self._body.prepare(image, PIXELS)

    @torch.inference_mode()
    def look(self, prepared: Sequence[Pixels]) -> list[Tensor]:
        """The last state of each page's prompt."""
        prompts = [self._compose(PAGE, self._body.shown(vision)) for vision in self._body.look(prepared)]
        states, _ = self._body.read(prompts)
        return list(states[:, -1:])

    def question(self, text: str) -> Question:
        """The question as the user's turn."""
        ids = self._compose(QUERY, [text]).ids
        return Question(text, ids, [None] * len(ids))

    @torch.inference_mode()
    def ask(self, question: Question) -> Tensor:
        """The last state."""
        states, _ = self._body.read([Prompt(question.ids, [], [])])
        return states[0, -1:]

    def _compose(self, instruction: str, content: Sequence[Part]) -> Prompt:
        """A system message, the user's turn, the assistant's, and what the tokenizer sets at the end."""
        tokenizer = self._body.tokenizer
        return tokenizer.compose([*self._body.chat(instruction, content), *tokenizer.end])
