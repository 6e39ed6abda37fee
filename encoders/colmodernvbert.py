"""ColModernVBERT (arXiv 2510.01149): 250M parameters, for machines without a GPU; MIT.

The page is cut into tiles and then looked at once more as a whole, 64 vectors each time. Prompts are those of
transformers' `ColModernVBertProcessor`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from transformers import ColModernVBertConfig, ColModernVBertForRetrieval
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from pagelens.backbones.checkpoints import (
    choose_device,
    choose_dtype,
    has_tensor,
    load_model,
    read_config,
    read_whole,
)
from pagelens.backbones.prompts import PromptTokenizer
from pagelens.encoders.visual import Grid, Question
from pagelens.errors import Missing

IMAGE, AROUND, WHOLE, END = "<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"
PROMPT = "<|begin_of_text|>User:{image}Describe the image." + END + "\nAssistant:"
AUGMENTATION = 10
"""Tokens after a question in which the model can think of what else it means (ColBERT, arXiv 2004.12832)."""


PUBLISHED_HEAD = "custom_text_proj"
"""Of the checkpoint as it was published, by the names of the authors' own code."""
ADDED = ".additional_embedding.weight"
"""Rows of the embedding that the authors' code keeps apart: of tiles and their places."""
PUBLISHED_NAMES = {
    r"^model\.": "vlm.",
    rf"^{PUBLISHED_HEAD}\.": "embedding_proj_layer.",
    r"vision_model\.vision_model\.": "vision_model.",
    r"modality_projection\.proj\.": "modality_projection.",
}


class Tiles(NamedTuple):
    """A page as the vision tower takes it in."""

    pixels: np.ndarray
    """float32, *shape:* (tiles, 3, side, side): row by row, then the whole."""
    rows: int
    columns: int
    """Of tiles; 0 and 0 for an image that is not cut."""


class ColModernVBert:
    """See `visual.Model`.

    Args:
        folder: The published files, or some in the layout of transformers' own class.
        device: As `checkpoints.choose_device`.
        dtype: As `checkpoints.choose_dtype`.

    Raises:
        Missing: the folder does not hold exactly this model.
    """

    late = True

    def __init__(self, folder: Path, device: str = "auto", dtype: str = "auto") -> None:
        self.device = choose_device(device)
        load = _load_published if has_tensor(folder, f"{PUBLISHED_HEAD}.weight") else _load_native
        self._model: Any = load(folder, self.device, choose_dtype(dtype, self.device))
        try:
            self._images: Any = Idefics3ImageProcessorPil.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise Missing(f"{folder} lacks a preprocessor_config.json that can be read ({error})") from error
        self._tokenizer = PromptTokenizer(folder, IMAGE)
        config: Any = self._model.config.vlm_config
        vision = config.vision_config
        self._side = int(vision.image_size // vision.patch_size // config.pixel_shuffle_factor)
        self.size = self._model.config.embedding_dim
        self._longest = int(self._images.size["longest_edge"])
        self._tile = int(self._images.max_image_size["longest_edge"])
        self.settings = f"v1 tiles of {self._tile} px up to {self._longest}"
        self._end = self._tokenizer.id(END)

    def grid(self, width: int, height: int) -> Grid:
        """Of the tiles put together, and of the whole page."""
        rows, columns = self._tiling(width, height)
        whole = (self._side, self._side)
        return ((rows * self._side, columns * self._side), whole) if rows else (whole,)

    def tokens(self, width: int, height: int) -> int:
        """Of the image; the prompt has a dozen, and each tile two or three."""
        rows, columns = self._tiling(width, height)
        return (rows * columns + 1) * self._side**2

    def prepare(self, image: PIL.Image.Image) -> Tiles:
        """Stretched to whole tiles and cut."""
        made = self._images(images=[[image]], return_row_col_info=True, return_tensors="np")
        return Tiles(made["pixel_values"][0], made["rows"][0][0], made["cols"][0][0])

    def look(self, prepared: Sequence[Tiles]) -> list[Tensor]:
        """The image tokens alone of each page's prompt; only pages of one shape together, so unpadded."""
        found: list[Tensor | None] = [None] * len(prepared)

        def shape(place: int) -> tuple[int, int]:
            return prepared[place].rows, prepared[place].columns

        for (rows, columns), group in groupby(sorted(range(len(prepared)), key=shape), shape):
            places = list(group)
            own = torch.tensor([self._tokenizer.written(self._prompt(rows, columns))], device=self.device)
            pixels = torch.from_numpy(np.stack([prepared[place].pixels for place in places]))
            states = self._read(own.expand(len(places), -1), pixels.to(self.device))
            for place, vectors in zip(places, states[:, own[0] == self._tokenizer.image], strict=True):
                found[place] = self._put_together(vectors, rows, columns)
        return [each for each in found if each is not None]

    def question(self, text: str) -> Question:
        """The question and ten `<end_of_utterance>`, within what the tokenizer sets around a text."""
        before, after = self._tokenizer.begin, [self._end] * AUGMENTATION + self._tokenizer.end
        return Question(
            text,
            [*before, *self._tokenizer.text_ids(text), *after],
            [*[None] * len(before), *self._tokenizer.spans(text), *[None] * len(after)],
        )

    def ask(self, question: Question) -> Tensor:
        """Every token, those of the prompt too: they were trained so."""
        return self._read(torch.tensor([question.ids], device=self.device))[0]

    def _tiling(self, width: int, height: int) -> tuple[int, int]:
        """Rows and columns of tiles: the longer side made `longest`, both sides then rounded up to tiles."""
        upright = height > width
        short = _shorter(self._longest, width / height, upright)
        short = max(short + short % 2, 1)
        ratio = short / self._longest if upright else self._longest / short
        many = math.ceil(self._longest / self._tile)
        few = math.ceil(_shorter(many * self._tile, ratio, upright) / self._tile)
        if many == few == 1:
            return 0, 0
        return (many, few) if upright else (few, many)

    def _prompt(self, rows: int, columns: int) -> str:
        places = IMAGE * self._side**2
        tiles = "".join(
            "".join(f"{AROUND}<row_{row + 1}_col_{column + 1}>{places}" for column in range(columns)) + "\n"
            for row in range(rows)
        )
        whole = f"{AROUND}{WHOLE}{places}{AROUND}"
        return PROMPT.format(image=f"{tiles}\n{whole}" if rows else whole)

    def _put_together(self, vectors: Tensor, rows: int, columns: int) -> Tensor:
        """Patches of the tiles in the order of the page, then those of the whole."""
        side, size = self._side, vectors.shape[-1]
        cut = rows * columns * side**2
        tiles = vectors[:cut].view(rows, columns, side, side, size).transpose(1, 2).reshape(cut, size)
        return torch.cat([tiles, vectors[cut:]])

    @torch.inference_mode()
    def _read(self, ids: Tensor, pixels: Tensor | None = None) -> Tensor:
        vectors: Tensor = self._model(
            input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids)
        ).embeddings
        return vectors


def _shorter(long: int, ratio: float, upright: bool) -> int:
    """The shorter side from the longer one and width by height, rounded as the published code does."""
    return int(long * ratio if upright else long / ratio)


def _load_native(folder: Path, device: torch.device, dtype: torch.dtype) -> ColModernVBertForRetrieval:
    return load_model(ColModernVBertForRetrieval, folder, device, dtype)


def _load_published(folder: Path, device: torch.device, dtype: torch.dtype) -> ColModernVBertForRetrieval:
    """Names, configuration and the embedding's two parts as vLLM's class for it reads them.

    Raises:
        Missing: a weight is missing, unexpected, or of another shape.
    """
    weights = {}
    for name, tensor in read_whole(folder).items():
        for pattern, new in PUBLISHED_NAMES.items():
            name = re.sub(pattern, new, name)
        weights[name] = tensor
    embedding = "vlm.text_model.embeddings.tok_embeddings"
    added = weights.pop(embedding + ADDED, None)
    if added is not None:
        weights[f"{embedding}.weight"] = torch.cat([weights[f"{embedding}.weight"], added])
    try:
        model: Any = ColModernVBertForRetrieval(_native_config(read_config(folder), weights))
        model.load_state_dict(weights)
    except (KeyError, RuntimeError) as error:
        raise Missing(f"the weights in {folder} are not those of ColModernVBERT ({error})") from error
    ready: ColModernVBertForRetrieval = model.to(device, dtype).eval().requires_grad_(False)
    return ready


def _native_config(published: dict[str, Any], weights: dict[str, Tensor]) -> ColModernVBertConfig:
    """Of transformers' class; what the authors' configuration leaves out is what its class has by default."""
    vlm = published.get("vlm_config", published)
    vision = {
        "hidden_size" if key == "embed_dim" else key: value for key, value in vlm["vision_config"].items()
    }
    vision |= {
        "model_type": "siglip_vision_model",
        "vision_use_head": "vlm.vision_model.head.probe" in weights,
    }
    embedding = weights["vlm.text_model.embeddings.tok_embeddings.weight"]
    return ColModernVBertConfig(
        embedding_dim=len(weights["embedding_proj_layer.bias"]),
        vlm_config={
            "model_type": "modernvbert",
            "image_token_id": vlm["image_token_id"],
            "pixel_shuffle_factor": vlm["pixel_shuffle_factor"],
            "text_config": {**vlm["text_config"], "model_type": "modernbert", "vocab_size": len(embedding)},
            "vision_config": vision,
        },
    )
