"""Qwen2-VL and Qwen3-VL bodies: an image to vision features, a prompt to hidden states.

Both read images of any size, a token for each square of 2 x 2 patches, and place tokens by three numbers:
time, row and column (M-RoPE, arXiv 2409.12191 section 2.1). The classes are transformers' own; what is done
here is what their callers would do, so that features of a page can be computed once and kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from pagelens.backbones.images import rgb
from pagelens.backbones.prompts import Part, Prompt, PromptTokenizer, Vision, left_mask, left_padded
from pagelens.errors import DocumentError, Missing

IMAGE = "<|image_pad|>"


class Pixels(NamedTuple):
    """An image as the vision tower takes it in."""

    patches: Tensor
    """In the type that the model computes in, *shape:* (patches, 3 x 2 x patch x patch), in the order of the
    2 x 2 squares."""
    grid: Tensor
    """int64, *shape:* (3,): 1, rows and columns of patches."""


class Prefix(NamedTuple):
    """What the language model keeps of the beginning of a prompt, so that it need not read that again."""

    keys: Tensor
    """*Shape:* (layers, key heads, tokens, head size), turned by their places."""
    values: Tensor
    """The same shape."""
    next: Tensor
    """int32, *shape:* (): the place of the token that comes after."""


class QwenVL:
    """A body with its tokenizer and its preparation of images.

    Args:
        model: `Qwen2VLModel` or `Qwen3VLModel`.
        folder: Of its tokenizer and `preprocessor_config.json`.
    """

    def __init__(self, model: PreTrainedModel, folder: Path) -> None:
        self._model: Any = model  # two classes without a common base that says more than torch's Module
        self.tokenizer = PromptTokenizer(folder, IMAGE)
        token = self.tokenizer.id
        self.turn = token("<|im_start|>"), token("<|im_end|>")
        """What begins and ends a turn of a chat."""
        self._around = token("<|vision_start|>"), token("<|vision_end|>")
        try:
            self._images = Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise Missing(f"{folder} lacks a preprocessor_config.json that can be read ({error})") from error
        self.device, self.dtype = model.device, model.dtype
        self._deepstack = hasattr(model.config.vision_config, "deepstack_visual_indexes")
        self.side = self._images.patch_size * self._images.merge_size
        """Pixels of an image along one side of a token."""

    def grid(self, width: float, height: float, pixels: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of tokens on an image of that size, resized to `pixels` at least and at most.

        Raises:
            ValueError: it is more than 200 times as long as wide.
        """
        high, wide = smart_resize(round(height), round(width), self.side, *pixels)
        return high // self.side, wide // self.side

    def chat(self, system: str, user: Sequence[Part]) -> list[Part]:
        """A system message, the user's turn, and the beginning of the assistant's, as Qwen writes them."""
        start, end = self.turn
        said = [start, f"system\n{system}", end, "\n", start, "user\n", *user, end, "\n"]
        return [*said, start, "assistant\n"]

    def shown(self, vision: Vision) -> list[Part]:
        """An image between the tokens that Qwen sets around it."""
        return [self._around[0], vision, self._around[1]]

    def tokens(self, width: float, height: float, pixels: tuple[int, int]) -> int:
        """How many tokens an image of that size in pixels is, at least and at most `pixels` of them."""
        try:
            rows, columns = self.grid(width, height, pixels)
        except ValueError:  # longer than 200 times its width: it will be refused when it comes to that
            return pixels[1] // self.side**2
        return rows * columns

    def prepare(self, image: PIL.Image.Image, pixels: tuple[int, int]) -> Pixels:
        """An image resized to at least and at most `pixels`, normalised and cut into patches; on the CPU.

        Raises:
            DocumentError: it is more than 200 times as long as wide.
        """
        low, high = pixels
        try:
            made = self._images(
                images=[rgb(image)],
                size={"shortest_edge": low, "longest_edge": high},
                return_tensors="np",
            )
        except ValueError as error:
            raise DocumentError("rerank", f"the model takes no such image: {error}") from error
        patches = torch.from_numpy(made["pixel_values"]).to(self.dtype)
        return Pixels(patches, torch.from_numpy(made["image_grid_thw"][0]))

    @torch.inference_mode()
    def look(self, images: Sequence[Pixels]) -> list[Vision]:
        """The vision features of images, computed together."""
        patches = torch.cat([each.patches.to(self.device) for each in images])
        grids = torch.stack([each.grid for each in images])
        seen = self._model.visual(patches, grid_thw=grids.to(self.device))
        merge = self._images.merge_size
        sizes = [int(rows * columns) // merge**2 for _, rows, columns in grids]
        each = seen.pooler_output.split(sizes)
        deep: list[Tensor | None] = [None] * len(images)
        if self._deepstack:
            deep = list(torch.stack(seen.deepstack_features).split(sizes, dim=1))
        return [
            Vision(tokens, (grid[1:] // merge).to(torch.int32), layers)
            for tokens, grid, layers in zip(each, grids, deep, strict=True)
        ]

    @torch.inference_mode()
    def read(self, prompts: Sequence[Prompt], after: Sequence[Prefix] | None = None) -> tuple[Tensor, Tensor]:
        """Hidden states after the last norm, and the mask: 1 for tokens, 0 for padding on the left.

        Args:
            prompts: Read together.
            after: What was kept of the beginning of each.

        Returns:
            *Shapes:* (prompts, tokens, hidden), (prompts, tokens).
        """
        room = max(map(len, prompts))
        states, mask, _ = self._run(prompts, after, _stacked(after, room, self.device) if after else None)
        return states, mask

    @torch.inference_mode()
    def keep(self, prompts: Sequence[Prompt]) -> list[Prefix]:
        """What need not be read again of prompts that others will begin with."""
        cache = DynamicCache()
        _, mask, nexts = self._run(prompts, None, cache)
        layers: list[Any] = list(cache.layers)
        keys, values = (torch.stack([getattr(each, name) for each in layers]) for name in ("keys", "values"))
        longest = mask.shape[1]
        return [
            Prefix(
                keys[:, row, :, longest - len(prompt) :].contiguous(),
                values[:, row, :, longest - len(prompt) :].contiguous(),
                torch.tensor(nexts[row], dtype=torch.int32),
            )
            for row, prompt in enumerate(prompts)
        ]

    def _run(
        self, prompts: Sequence[Prompt], after: Sequence[Prefix] | None, cache: DynamicCache | None
    ) -> tuple[Tensor, Tensor, list[int]]:
        ids, mask = left_padded([prompt.ids for prompt in prompts], self.device)
        places = torch.zeros(3, *ids.shape, dtype=torch.long)
        nexts = []
        for row, prompt in enumerate(prompts):
            own, following = positions(prompt, int(after[row].next) if after else 0)
            places[:, row, ids.shape[1] - len(prompt) :] = own
            nexts.append(following)
        embedded = self._model.get_input_embeddings()(ids)
        visions = [vision for prompt in prompts for vision in prompt.visions]
        options: dict[str, Any] = {}
        if visions:
            at = ids == self.tokenizer.image
            embedded[at] = torch.cat([vision.tokens for vision in visions]).to(embedded)
            if self._deepstack:
                layers = torch.cat([v.deepstack for v in visions if v.deepstack is not None], dim=1)
                options = {"visual_pos_masks": at, "deepstack_visual_embeds": list(layers.to(embedded))}
        seen = mask
        if after:
            seen = torch.cat([left_mask([p.keys.shape[2] for p in after], self.device), mask], dim=1)
        # by position: the fourth argument was renamed from `past_key_values` to `cache`
        out = self._model.language_model(
            None, seen, places.to(self.device), cache, embedded, use_cache=cache is not None, **options
        )
        return out.last_hidden_state, mask, nexts


def positions(prompt: Prompt, start: int = 0) -> tuple[Tensor, int]:
    """Places of a prompt's tokens by time, row and column, and the place that comes after.

    Text counts up in all three; an image's tokens share one time, and rows and columns count from there; what
    follows goes on after the larger of the two.

    Returns:
        int64, *shape:* (3, tokens).
    """
    pieces: list[Tensor] = []
    done = 0
    for begin, vision in zip([*prompt.places, len(prompt)], [*prompt.visions, None], strict=True):
        pieces.append(torch.arange(start, start + begin - done).expand(3, -1))
        start += begin - done
        if vision is not None:
            rows, columns = vision.grid.tolist()
            grid = np.indices((1, rows, columns)).reshape(3, -1)
            pieces.append(start + torch.from_numpy(grid))
            start += max(rows, columns)
            done = begin + rows * columns
    return torch.cat(pieces, dim=1), start


class _Kept(DynamicLayer):
    """Keys and values of a beginning, with room behind them for those of the rest: none is copied again."""

    room: int

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Fill the room."""
        assert self.keys is not None and self.values is not None
        self.keys[:, :, -self.room :], self.values[:, :, -self.room :] = key_states, value_states
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Of the beginning."""
        assert self.keys is not None
        return self.keys.shape[2] - self.room


def _stacked(prefixes: Sequence[Prefix], room: int, device: torch.device) -> DynamicCache:
    """Prefixes of unequal length side by side, ending in the same column, with so much room after it."""
    layers, heads, _, size = prefixes[0].keys.shape
    longest = max(prefix.keys.shape[2] for prefix in prefixes)
    shape = (layers, len(prefixes), heads, longest + room, size)
    both = []
    for name in ("keys", "values"):
        each: list[Tensor] = [getattr(prefix, name) for prefix in prefixes]
        whole = torch.zeros(shape, dtype=each[0].dtype, device=device)
        for row, own in enumerate(each):
            whole[:, row, :, longest - own.shape[2] : longest] = own.to(device, non_blocking=True)
        both.append(whole)
    cache = DynamicCache()
    for keys, values in zip(*both, strict=True):
        layer = _Kept()
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values, layer.room = keys, values, room
        cache.layers.append(layer)
    return cache
