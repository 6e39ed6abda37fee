"""Qwen3-VL-Reranker, 2B and 8B: question first, then the page; does the answer begin with yes or with no?

Prompt, ids and limits are those of the published script (`scripts/qwen3_vl_reranker.py` of the model's
repository); the pixel budget is the smaller of two that were published, 1280 tokens; the other is 1800.
Apache-2.0.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor
from transformers import Qwen3VLForConditionalGeneration

from pagelens.backbones.checkpoints import (
    attention,
    choose_device,
    choose_dtype,
    has_tensor,
    load_model,
    read_tensors,
)
from pagelens.backbones.prompts import Part
from pagelens.backbones.qwen_vl import QwenVL
from pagelens.rerankers.vision_language import Read

SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)
INSTRUCTION = "Retrieve images or text relevant to the user's query."
"""Of the model's README, and of mteb's wrapper."""
EMPTY = "NULL"
"""What stands for a side without anything."""
PIXELS = (4 * 32 * 32, 1280 * 32 * 32)
"""An image is resized to at least and at most so many; a token is 32 x 32 of them."""
FEWER_PIXELS = (4 * 32 * 32, 640 * 32 * 32)
"""For a budget that the full size does not fit. Not a published setting: its effect is not known."""
MAX_TOKENS, KEEP_LAST = 8192, 5
"""Of a prompt, and of its end (`<|im_end|>`, a line, `<|im_start|>assistant`, a line), which is never cut."""
MAX_QUERY = 4096
"""Ours: the published script would cut the question itself."""


class Qwen3VL:
    """See `vision_language.Model`.

    Args:
        folder: The published files.
        device: As `checkpoints.choose_device`.
        dtype: As `checkpoints.choose_dtype`; the head is float32 always.
        name: `qwen3-vl-2b` or `qwen3-vl-8b`; sizes come from the folder.
        instruction: What a good page is, in words; a sentence.

    Raises:
        Missing: the folder does not hold exactly such a model.
    """

    levels = ("vision",)
    takes_both = True
    takes_image_query = True
    sizes = (PIXELS, FEWER_PIXELS)
    max_tokens, max_query, keep_last = MAX_TOKENS, MAX_QUERY, KEEP_LAST

    def __init__(
        self,
        folder: Path,
        device: str = "auto",
        dtype: str = "auto",
        name: str = "qwen3-vl-2b",
        instruction: str = INSTRUCTION,
    ) -> None:
        self.name = name
        self.prompt = f"yes or no, {instruction!r}"
        self._instruction = instruction
        place = choose_device(device)
        kind = choose_dtype(dtype, place)
        whole = load_model(
            Qwen3VLForConditionalGeneration, folder, place, kind, attn_implementation=attention(place, kind)
        )
        self.body = QwenVL(whole.model, folder)
        token = self.body.tokenizer.id
        # Where embedding and head are tied, the file has the embedding alone.
        head = "lm_head.weight" if has_tensor(folder, "lm_head.weight") else _EMBEDDING
        yes, no = read_tensors(folder, [head], rows=(token("yes"), token("no")))[head]
        self._direction = (yes - no).to(place)

    def whole(self, query: Read, page: Read) -> list[Part]:
        """A system message, then instruction, question and page as the user's, then the assistant's turn."""
        user = [
            f"<Instruct>: {self._instruction}<Query>:",
            *self._side(query),
            "\n<Document>:",
            *self._side(page),
        ]
        return self.body.chat(SYSTEM, user)

    def logits(self, states: Tensor, mask: Tensor) -> Tensor:
        """Logit of yes less logit of no at the last position; float32, *shape:* (prompts,)."""
        logits: Tensor = states[:, -1].to(self._direction) @ self._direction
        return logits

    def _side(self, side: Read) -> list[Part]:
        """The image before the text: the other way round the score is another."""
        image = [] if side.vision is None else self.body.shown(side.vision)
        return [*image, side.text] if side.text else image or [EMPTY]


_EMBEDDING = "model.language_model.embed_tokens.weight"
