"""Jina Reranker M0: page first, question after, so that what it makes of a page serves every question.

Qwen2-VL-2B with a head of two layers; everything from the model's published code and vLLM's class for it
(`model_executor/models/jina_vl.py`). The licence is CC BY-NC 4.0: not for commercial use.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from torch.nn import functional
from transformers import Qwen2VLForConditionalGeneration

from pagelens.backbones.checkpoints import (
    attention,
    choose_device,
    choose_dtype,
    load_model,
    read_config,
    read_tensors,
)
from pagelens.backbones.prompts import Part, Vision
from pagelens.backbones.qwen_vl import QwenVL
from pagelens.rerankers.vision_language import Read

SCORE_TOKEN = 100
"""Set after the prompt; the score is read from its hidden state. It is the byte `§` of the vocabulary."""
LOGIT_BIAS = 2.65
"""Taken from the head's answer before the sigmoid."""
PIXELS = (56 * 56, 768 * 28 * 28)
"""An image is resized to at least and at most so many; a token is 28 x 28 of them."""
FEWER_PIXELS = (56 * 56, 384 * 28 * 28)
"""For a budget that the full size does not fit. Not a published setting: its effect is not known."""
MAX_TOKENS, MAX_QUERY = 10_240, 512
"""Of question and page together, and of the question."""
HEAD = ("score.0.weight", "score.0.bias", "score.2.weight", "score.2.bias")


class JinaM0:
    """See `vision_language.Model`.

    Args:
        folder: The published files, in the layout of transformers 4 or 5.
        device: As `checkpoints.choose_device`.
        dtype: As `checkpoints.choose_dtype`; the head is float32 always.

    Raises:
        Missing: the folder does not hold exactly this model.
    """

    name = "jina-m0"
    levels = ("vision", "prefix")
    takes_both = False
    takes_image_query = True
    sizes = (PIXELS, FEWER_PIXELS)
    prompt = "document first, v1"
    max_tokens, max_query, keep_last = MAX_TOKENS, MAX_QUERY, 1

    def __init__(self, folder: Path, device: str = "auto", dtype: str = "auto") -> None:
        place = choose_device(device)
        kind = choose_dtype(dtype, place)
        tied = read_config(folder).get("tie_word_embeddings", False)
        whole = load_model(
            Qwen2VLForConditionalGeneration,
            folder,
            place,
            kind,
            left_over=HEAD.__contains__,
            missing=() if tied else ("lm_head.weight",),  # the published class has none
            attn_implementation=attention(place, kind),
        )
        self.body = QwenVL(whole.model, folder)
        self._head = [tensor.to(place) for tensor in read_tensors(folder, HEAD).values()]

    def whole(self, query: Read, page: Read) -> list[Part]:
        r"""`**Document**:\n{page}\n**Query**:\n{query}` and the score's token."""
        text = self.body.tokenizer.cut(page.text, MAX_TOKENS - MAX_QUERY)
        return [*self._side("**Document**:\n", Read(text, page.vision)), *self.ending(query)]

    def beginning(self, page: Vision) -> list[Part]:
        """Up to the end of the page's image.

        That is a token which nothing is ever merged with: page and question have the same ids apart as
        together, whatever the question begins with.
        """
        return self._side("**Document**:\n", Read(vision=page))

    def ending(self, query: Read) -> list[Part]:
        """What comes after the page."""
        return [*self._side("\n**Query**:\n", query), SCORE_TOKEN]

    def logits(self, states: Tensor, mask: Tensor) -> Tensor:
        """The head on the last position, less the bias; float32, *shape:* (prompts,)."""
        first, first_bias, second, second_bias = self._head
        last = states[:, -1].to(first)
        inner = functional.relu(functional.linear(last, first, first_bias))
        return functional.linear(inner, second, second_bias)[:, 0] - LOGIT_BIAS

    def _side(self, opening: str, side: Read) -> list[Part]:
        if side.vision is None:
            return [opening + side.text]
        return [opening, *self.body.shown(side.vision)]
