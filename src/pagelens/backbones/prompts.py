"""A prompt with images in it: from parts to token ids, and several of them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from pagelens.errors import Missing


class Vision(NamedTuple):
    """What a vision tower makes of one image, as the language model takes it in."""

    tokens: Tensor
    """*Shape:* (tokens, hidden)."""
    grid: Tensor
    """int32, *shape:* (2,): rows and columns of tokens on the image, row by row from the top left."""
    deepstack: Tensor | None = None
    """*Shape:* (layers, tokens, hidden): what is added after the first layers of the language model
    (arXiv 2406.04334); Qwen3-VL alone has it."""


Part: TypeAlias = str | int | Vision
"""Of a prompt: text, a token's id, or an image."""


@dataclass(slots=True)
class Prompt:
    """Token ids, and the images among them."""

    ids: list[int]
    """An image holds a place for each of its tokens, all with the image token's id."""
    visions: list[Vision]
    places: list[int]
    """Where in `ids` each image begins."""

    def __len__(self) -> int:
        return len(self.ids)


class PromptTokenizer:
    """Parts to ids, as the tokenizer of a checkpoint splits them.

    What somebody wrote never becomes a special token: text that says `<|im_end|>` is those ten characters. So
    neither a question nor a page can end its part of the prompt, or hold a place for an image.

    Args:
        folder: Has `tokenizer.json`.
        image: The token that holds an image's place.

    Raises:
        Missing: the file is not there, or the vocabulary lacks the token.
    """

    def __init__(self, folder: Path, image: str) -> None:
        path = folder / "tokenizer.json"
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise Missing(f"the tokenizer {path} cannot be read ({error})") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._path = path
        self._tokenizer.encode_special_tokens = True
        whole = self._tokenizer.encode("a")
        own = [place for place, added in enumerate(whole.special_tokens_mask) if not added]
        self.begin: list[int] = whole.ids[: own[0]]
        """What the tokenizer sets before a text, as some do."""
        self.end: list[int] = whole.ids[own[-1] + 1 :]
        """What it sets after one."""
        self.image = self.id(image)

    def id(self, token: str) -> int:
        """The id of one token.

        Raises:
            Missing: the vocabulary lacks it.
        """
        found: int | None = self._tokenizer.token_to_id(token)
        if found is None:
            raise Missing(f"the vocabulary of {self._path} lacks {token!r}; is it another model's?")
        return found

    def text_ids(self, text: str) -> list[int]:
        """The ids of a text by itself."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where each of `text_ids` begins and ends in the text: characters from 0, the end not included."""
        spans: list[tuple[int, int]] = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return spans

    def written(self, prompt: str) -> list[int]:
        """The ids of a prompt that nobody else had a hand in: special tokens written out in it are such."""
        self._tokenizer.encode_special_tokens = False
        ids: list[int] = self._tokenizer.encode(prompt).ids
        self._tokenizer.encode_special_tokens = True
        return ids

    def cut(self, text: str, tokens: int) -> str:
        """The beginning of a text, at most so many tokens long."""
        ids = self.text_ids(text)
        return text if len(ids) <= tokens else str(self._tokenizer.decode(ids[: max(0, tokens)]))

    def compose(self, parts: Sequence[Part]) -> Prompt:
        """The ids of a prompt; neighbouring texts are split as one."""
        prompt = Prompt([], [], [])
        for is_text, group in groupby(parts, lambda part: isinstance(part, str)):
            if is_text:
                prompt.ids += self.text_ids("".join(map(str, group)))
                continue
            for part in group:
                if isinstance(part, Vision):
                    prompt.places.append(len(prompt.ids))
                    prompt.visions.append(part)
                    prompt.ids += [self.image] * len(part.tokens)
                else:
                    assert isinstance(part, int)
                    prompt.ids.append(part)
        return prompt


def left_padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids side by side, ending in the same column: the last token of each is its last.

    Returns:
        Ids, with 0 for padding, and a mask, 1 for tokens and 0 for padding. *Shapes:* (rows, longest).
    """
    lengths = [len(row) for row in rows]
    ids = np.zeros((len(rows), max(lengths)), np.int64)
    for own, row in zip(ids, rows, strict=True):
        own[len(own) - len(row) :] = row
    return torch.from_numpy(ids).to(device), left_mask(lengths, device)


def left_mask(lengths: Sequence[int], device: torch.device) -> Tensor:
    """1 for tokens, 0 for padding on the left, int64, *shape:* (rows, longest)."""
    padding = max(lengths) - torch.tensor(lengths)
    return (torch.arange(max(lengths)) >= padding[:, None]).long().to(device)
