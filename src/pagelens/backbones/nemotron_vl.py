"""NVIDIA's llama-nemotron-vl body: SigLIP 2 on square tiles, a projection, and a Llama that reads both ways.

transformers has no class for it and the published one is remote code, which is never run here. The two towers
are transformers' own; tiling, pixel shuffle and projection follow Eagle 2 (arXiv 2501.14818).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel, PretrainedConfig, PreTrainedModel, SiglipVisionConfig
from transformers.models.siglip.modeling_siglip import SiglipVisionModel

from pagelens.backbones.checkpoints import load_model, read_config
from pagelens.backbones.images import rgb
from pagelens.backbones.prompts import Prompt, PromptTokenizer, Vision, left_padded
from pagelens.errors import Missing

IMAGE, BEGIN_IMAGE, END_IMAGE = "<IMG_CONTEXT>", "<img>", "</img>"
ENOUGH = 0.6
"""Share of an image's pixels that its tiles must have together; more is no better (Eagle 2)."""


class NemotronVLConfig(PretrainedConfig):
    """Sizes of both towers, from the folder's `config.json`."""

    model_type = "pagelens_nemotron_vl"


class NemotronVLModel(PreTrainedModel):
    """The towers and the projection between them."""

    config_class = NemotronVLConfig
    _supports_sdpa = True
    _no_split_modules = ["LlamaDecoderLayer", "SiglipEncoderLayer"]

    def __init__(self, config: NemotronVLConfig) -> None:
        super().__init__(config)
        vision = SiglipVisionConfig(**{**config.vision_config, "vision_use_head": False})
        text = LlamaConfig(**{key: value for key, value in config.llm_config.items() if key != "model_type"})
        self.vision_model = SiglipVisionModel._from_config(vision, attn_implementation="sdpa")
        self.language_model = LlamaModel._from_config(text, attn_implementation="sdpa")
        wide = vision.hidden_size * 4  # of 2 x 2 patches that become one token
        self.mlp1 = nn.Sequential(
            nn.LayerNorm(wide),
            nn.Linear(wide, text.hidden_size),
            nn.GELU(),
            nn.Linear(text.hidden_size, text.hidden_size),
        )
        self.post_init()


class Tiles(NamedTuple):
    """An image as the vision tower takes it in."""

    pixels: Tensor
    """In the type that the model computes in, *shape:* (tiles, 3, side, side), -1..1, rounded to what
    bfloat16 can tell apart."""


class NemotronVL:
    """The body with its tokenizer and its preparation of images.

    Args:
        folder: Of the weights and the tokenizer.
        device: Where it computes.
        dtype: In what.

    Raises:
        Missing: the folder does not hold such a model.
    """

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
        config = read_config(folder)
        if not {"vision_config", "llm_config"} <= config.keys():
            raise Missing(
                f"{folder} holds another model: its config.json has no vision_config and llm_config"
            )
        for key, expected in {"downsample_ratio": 0.5, "select_layer": -1}.items():
            if config.get(key, expected) != expected:
                raise Missing(f"{folder}: {key} is {config[key]}, this version of pagelens knows {expected}")
        self._model: Any = load_model(
            NemotronVLModel,
            folder,
            device,
            dtype,
            left_over=lambda key: key == "score.weight" or "vision_model.head." in key,
            renamed={r"^(?:model\.)?vision_model\.vision_model\.": "vision_model.", r"^model\.": ""},
            config=NemotronVLConfig.from_dict({key: config[key] for key in ("vision_config", "llm_config")}),
        )
        self.tokenizer = PromptTokenizer(folder, IMAGE)
        self.device, self.dtype = device, dtype
        self.side: int = config.get("force_image_size") or config["vision_config"]["image_size"]
        """Of a tile, in pixels."""
        self._rows = self.side // config["vision_config"]["patch_size"] // 2

    def tokens(self, width: float, height: float, tiles: int) -> int:
        """How many tokens an image of that size is, cut into `tiles` at most and one of the whole."""
        columns, rows = tiling(width, height, tiles, self.side)
        return int((columns * rows + (columns * rows > 1)) * self._rows**2)

    def prepare(self, image: PIL.Image.Image, tiles: int) -> Tiles:
        """An image resized to whole tiles and cut up, row by row; of several the last is the whole image."""
        image = rgb(image)
        columns, rows = tiling(image.width, image.height, tiles, self.side)
        large = image.resize((columns * self.side, rows * self.side))  # bicubic, Pillow's default and theirs
        boxes = [
            (x * self.side, y * self.side, (x + 1) * self.side, (y + 1) * self.side)
            for y in range(rows)
            for x in range(columns)
        ]
        cut = [large.crop(box) for box in boxes]
        if len(cut) > 1:
            cut.append(image.resize((self.side, self.side)))
        pixels = np.stack([np.asarray(each, np.float32) for each in cut]).transpose(0, 3, 1, 2)
        # bfloat16 whatever the model computes in: so the published processor does, and so it was trained
        return Tiles(torch.from_numpy((pixels / 255 - 0.5) / 0.5).to(torch.bfloat16).to(self.dtype))

    @torch.inference_mode()
    def look(self, images: Sequence[Tiles]) -> list[Vision]:
        """The vision features of images, computed together."""
        pixels = torch.cat([each.pixels.to(self.device) for each in images])
        patches = self._model.vision_model(pixels).last_hidden_state
        tokens = self._model.mlp1(_shuffled(patches))
        counts = [len(each.pixels) for each in images]
        return [
            Vision(own.flatten(0, 1), torch.tensor([len(own) * self._rows, self._rows], dtype=torch.int32))
            for own in tokens.split(counts)
        ]

    @torch.inference_mode()
    def read(self, prompts: Sequence[Prompt], after: None = None) -> tuple[Tensor, Tensor]:
        """Hidden states after the last norm, every token seeing every other, and the mask.

        Returns:
            *Shapes:* (prompts, tokens, hidden), (prompts, tokens); 0 in the mask is padding, on the left.
        """
        ids, mask = left_padded([prompt.ids for prompt in prompts], self.device)
        embedded = self._model.language_model.get_input_embeddings()(ids)
        visions = [vision for prompt in prompts for vision in prompt.visions]
        if visions:
            tokens = torch.cat([vision.tokens for vision in visions])
            embedded[ids == self.tokenizer.image] = tokens.to(embedded)
        # One mask for all rows, so that padding sees something too: softmax over nothing is not a number.
        everything = mask[:, None, None, :].bool().expand(-1, 1, ids.shape[1], -1)
        out = self._model.language_model(None, everything, None, None, embedded, use_cache=False)
        return out.last_hidden_state, mask


def mean_state(states: Tensor, mask: Tensor) -> Tensor:
    """The mean of a prompt's tokens, padding left out; float32, *shape:* (prompts, hidden).

    Args:
        states: *Shape:* (prompts, tokens, hidden).
        mask: 0 for padding, *shape:* (prompts, tokens).
    """
    weights = mask[..., None].float()
    return (states.float() * weights).sum(1) / weights.sum(1)


def tiling(width: float, height: float, most: int, side: int) -> tuple[int, int]:
    """Columns and rows of tiles for an image: the shape nearest its own, with enough pixels."""
    area, ratio = width * height, width / height
    shapes = {
        (i, j) for n in range(1, most + 1) for i in range(1, n + 1) for j in range(1, n + 1) if i * j <= most
    }
    # The order of equals is theirs: by number of tiles alone, else as a Python set gives them.
    ordered = sorted(shapes, key=lambda shape: shape[0] * shape[1])

    def fitness(shape: tuple[int, int]) -> float:
        own = shape[0] / shape[1]
        return min(shape[0] * shape[1] * side * side / area, ENOUGH) * min(own / ratio, ratio / own)

    return max(ordered, key=fitness)


def _shuffled(patches: Tensor) -> Tensor:
    """Each 2 x 2 patches side by side in one, as Eagle 2 orders them.

    Args:
        patches: *Shape:* (tiles, rows x rows, size).

    Returns:
        *Shape:* (tiles, rows x rows / 4, size x 4).
    """
    tiles, count, size = patches.shape
    rows = int(count**0.5)
    paired = patches.view(tiles, rows, rows // 2, size * 2).transpose(1, 2)
    return paired.reshape(tiles, rows // 2, rows // 2, size * 4).transpose(1, 2).flatten(1, 2)
