"""NVIDIA llama-nemotron-embed-vl-1b-v2: one vector a page or question, the mean of all tokens.

Prompts, tiles and pooling follow the published processor as nemo_automodel 0.7 has it
(`components/models/llama_nemotron_vl`) and mteb 2.26.24. NVIDIA Open Model License and Llama 3.2 Community
License; commercial use is allowed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import PIL.Image
import torch
from torch import Tensor

from pagelens.backbones.checkpoints import choose_device, choose_dtype, read_config
from pagelens.backbones.nemotron_vl import BEGIN_IMAGE, END_IMAGE, NemotronVL, Tiles, mean_state
from pagelens.backbones.prompts import Prompt
from pagelens.encoders.visual import Grid, Question
from pagelens.errors import Missing

TILES = 4
"""That an image is cut into at most, beside one of the whole: as mteb evaluates it."""


class NemotronEmbed:
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
        self.device = choose_device(device)
        config = read_config(folder)
        if config.get("pooling", "avg") != "avg":
            raise Missing(f"{folder}: pooling is {config['pooling']}, this version of pagelens knows avg")
        self._body = NemotronVL(folder, self.device, choose_dtype(dtype, self.device))
        self.size = config["llm_config"]["hidden_size"]
        self._query, self._page = (
            f"{config.get(key) or default} "
            for key, default in (("query_prefix", "query:"), ("passage_prefix", "passage:"))
        )
        self.settings = f"v1 up to {TILES} tiles"
        self._image = self._body.tokenizer.id(BEGIN_IMAGE), self._body.tokenizer.id(END_IMAGE)

    def grid(self, width: int, height: int) -> Grid:
        """None: the vector is of the page as a whole."""
        return ()

    def tokens(self, width: int, height: int) -> int:
        """Of the image; the prompt around it has half a dozen."""
        return self._body.tokens(width, height, TILES)

    def prepare(self, image: PIL.Image.Image) -> Tiles:
        """Cut into tiles."""
        return self._body.prepare(image, TILES)

    def look(self, prepared: Sequence[Tiles]) -> list[Tensor]:
        """`passage: `, the image, a space."""
        tokenizer = self._body.tokenizer
        return self._means(
            [
                tokenizer.compose([*tokenizer.begin, self._page, self._image[0], vision, self._image[1], " "])
                for vision in self._body.look(prepared)
            ]
        )

    def question(self, text: str) -> Question:
        """`query: ` and the question."""
        ids = [*self._body.tokenizer.begin, *self._body.tokenizer.text_ids(self._query + text)]
        return Question(text, ids, [None] * len(ids))

    def ask(self, question: Question) -> Tensor:
        """The mean of all tokens."""
        return self._means([Prompt(question.ids, [], [])])[0]

    @torch.inference_mode()
    def _means(self, prompts: Sequence[Prompt]) -> list[Tensor]:
        states, mask = self._body.read(prompts)
        return list(mean_state(states, mask)[:, None])
