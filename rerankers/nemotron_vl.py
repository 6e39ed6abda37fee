"""NVIDIA llama-nemotron-rerank-vl-1b-v2: every token sees every other, and the mean of all is scored.

Prompt, tiles and head follow the model card and its published code. NVIDIA Open Model License and Llama 3.2
Community License; commercial use is allowed.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from pagelens.backbones.checkpoints import choose_device, choose_dtype, read_config, read_tensors
from pagelens.backbones.nemotron_vl import BEGIN_IMAGE, END_IMAGE, NemotronVL, mean_state
from pagelens.backbones.prompts import Part
from pagelens.rerankers.vision_language import Read

TILES = 6
"""Of 512 x 512 pixels that an image is cut into at most, beside one of the whole: as it was evaluated."""
FEWER_TILES = (4, 2)
"""For a budget that six do not fit; four it was trained with, two is its configuration's default."""
MAX_TOKENS, MAX_QUERY = 10_240, 512


class NemotronRerank:
    """See `vision_language.Model`.

    Args:
        folder: The published files.
        device: As `checkpoints.choose_device`.
        dtype: As `checkpoints.choose_dtype`; the head is float32 always.

    Raises:
        Missing: the folder does not hold exactly this model.
    """

    name = "nemotron-vl"
    levels = ("vision",)
    takes_both = True
    takes_image_query = False
    sizes = (TILES, *FEWER_TILES)
    max_tokens, max_query, keep_last = MAX_TOKENS, MAX_QUERY, 0

    def __init__(self, folder: Path, device: str = "auto", dtype: str = "auto") -> None:
        place = choose_device(device)
        config = read_config(folder)
        self.prompt = str(config.get("prompt_template", "v1"))
        self._temperature = float(config.get("temperature", 1.0))
        self.body = NemotronVL(folder, place, choose_dtype(dtype, place))
        self._direction = read_tensors(folder, ["score.weight"])["score.weight"][0].to(place)
        self._image = self.body.tokenizer.id(BEGIN_IMAGE), self.body.tokenizer.id(END_IMAGE)

    def whole(self, query: Read, page: Read) -> list[Part]:
        r"""What the tokenizer begins with, the image, a space, `question:{query} \n \n passage:{text}`."""
        text = f"question:{query.text} \n \n passage:{page.text}"
        if self.prompt != "v1":
            text = f"{query.text} \n {page.text}"
        begin = self.body.tokenizer.begin
        if page.vision is None:
            return [*begin, text]
        return [*begin, self._image[0], page.vision, self._image[1], f" {text}"]

    def logits(self, states: Tensor, mask: Tensor) -> Tensor:
        """The head on the mean of all tokens, by temperature; float32, *shape:* (prompts,)."""
        return mean_state(states, mask) @ self._direction / self._temperature
