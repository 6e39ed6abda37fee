"""ColQwen2 (arXiv 2407.01449 on Qwen2-VL-2B): a vector for each square of 28 x 28 pixels, at most 768 a page.

Prompts and augmentation are those of transformers' `ColQwen2Processor`. Its class loses the places of image
tokens (rows and columns, M-RoPE) in transformers 5; here the body places them itself. Apache-2.0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import PIL.Image
import torch
from torch import Tensor
from transformers import ColQwen2ForRetrieval

from pagelens.backbones.checkpoints import choose_device, choose_dtype, load_model
from pagelens.backbones.prompts import Part, Prompt, Vision
from pagelens.backbones.qwen_vl import Pixels, QwenVL
from pagelens.encoders.visual import Grid, Question

PIXELS = (4 * 28 * 28, 768 * 28 * 28)
"""An image is resized to at least and at most so many; a token is 28 x 28 of them."""
INSTRUCTION, PREFIX = "Describe the image.", "Query: "
AUGMENTATION = 10
"""Tokens after a question in which the model can think of what else it means (ColBERT, arXiv 2004.12832)."""


class ColQwen2:
    """See `visual.Model`.

    Args:
        folder: The published `-hf` files, in the layout of transformers 4.52 or later.
        device: As `checkpoints.choose_device`.
        dtype: As `checkpoints.choose_dtype`.

    Raises:
        Missing: the folder does not hold exactly this model.
    """

    late = True

    def __init__(self, folder: Path, device: str = "auto", dtype: str = "auto") -> None:
        place = choose_device(device)
        whole = load_model(
            ColQwen2ForRetrieval,
            folder,
            place,
            choose_dtype(dtype, place),
            left_over="vlm.lm_head.weight".__eq__,  # published with it, and of no use here
        )
        self._body, self._project = QwenVL(whole.vlm, folder), whole.embedding_proj_layer
        self.size, self.device = whole.config.embedding_dim, place
        self.settings = f"v1 up to {PIXELS[1]} px"
        token = self._body.tokenizer.id
        self._pad = token("<|endoftext|>")

    def grid(self, width: int, height: int) -> Grid:
        """One, of as many rows and columns as keep the proportions."""
        return (self._body.grid(width, height, PIXELS),)

    def tokens(self, width: int, height: int) -> int:
        """Of the image; the prompt around it has a dozen."""
        return self._body.tokens(width, height, PIXELS)

    def prepare(self, image: PIL.Image.Image) -> Pixels:
        """Resized and cut into patches."""
        return self._body.prepare(image, PIXELS)

    @torch.inference_mode()
    def look(self, prepared: Sequence[Pixels]) -> list[Tensor]:
        """The image tokens alone of each page's prompt."""
        prompts = [self._compose(vision) for vision in self._body.look(prepared)]
        states, _ = self._body.read(prompts)
        return [
            self._project(own[len(own) - len(prompt) + begin :][: len(vision.tokens)])
            for own, prompt in zip(states, prompts, strict=True)
            for begin, vision in zip(prompt.places, prompt.visions, strict=True)
        ]

    def question(self, text: str) -> Question:
        r"""`Query: `, the question, ten `<|endoftext|>`, a line break."""
        tokenizer = self._body.tokenizer
        after = [self._pad] * AUGMENTATION + tokenizer.text_ids("\n")
        spans = [(start - len(PREFIX), end - len(PREFIX)) for start, end in tokenizer.spans(PREFIX + text)]
        return Question(
            text,
            tokenizer.text_ids(PREFIX + text) + after,
            [*((max(0, start), end) if end > 0 else None for start, end in spans), *[None] * len(after)],
        )

    @torch.inference_mode()
    def ask(self, question: Question) -> Tensor:
        """Every token, those of the prompt too: they were trained so."""
        states, _ = self._body.read([Prompt(question.ids, [], [])])
        projected: Tensor = self._project(states[0])
        return projected

    def _compose(self, page: Vision) -> Prompt:
        start, end = self._body.turn
        parts: list[Part] = [start, "user\n", *self._body.shown(page), INSTRUCTION, end, self._pad]
        return self._body.tokenizer.compose(parts)
