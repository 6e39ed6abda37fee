"""Pages as images: a page image to vectors of its patches, a question to vectors of its tokens.

What all families share: batches by tokens, halving when memory runs out, lengths of 1, refusal of what is not
a number. The families are a file each: a prompt, a body, and published constants.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
import PIL.Image
import torch
from torch import Tensor

from pagelens.backbones.batches import THREADS, Batches
from pagelens.backbones.images import rgb
from pagelens.errors import DocumentError, UsageError

Grid: TypeAlias = tuple[tuple[int, int], ...]
"""Rows and columns of patches, for each time that the model looks at the page. Each grid covers the whole
page: a model that cuts it into tiles and then looks at all of it once more has two."""

MAX_QUERY = 512
"""Tokens of a question: every one of them is compared with every patch."""


class Patches(NamedTuple):
    """What a model makes of one page."""

    vectors: np.ndarray
    """float32, *shape:* (patches, size), each of length 1; row by row from the top left of each of `grid`."""
    grid: Grid
    """Empty for a vector of the page as a whole, and where nobody knows it."""


class Question(NamedTuple):
    """A question as a model reads it."""

    text: str
    ids: list[int]
    """Empty where the model's library splits the text itself."""
    spans: list[tuple[int, int] | None]
    """What each token is of the text: characters from 0, the end not included; None for the prompt's own."""


class Model(Protocol):
    """A family of encoders."""

    late: bool
    """Late interaction: a vector a patch and a token, compared by MaxSim. Else one a page and a question."""
    size: int
    """Numbers in a vector."""
    settings: str
    """A version of its prompts, and the pixel budget: for the signature."""
    device: torch.device

    def grid(self, width: int, height: int) -> Grid:
        """Of an image of so many pixels; empty where the model gives one vector, or does not say."""

    def tokens(self, width: int, height: int) -> int:
        """How many tokens such an image is, about."""

    def prepare(self, image: PIL.Image.Image) -> Any:
        """An RGB image as `look` takes it; on the CPU.

        Raises:
            ValueError, DocumentError: the model takes no such image.
        """

    def look(self, prepared: Sequence[Any]) -> list[Tensor]:
        """Images together: of each its patches in the order of the grid, *shape:* (patches, size)."""

    def question(self, text: str) -> Question:
        """A question's tokens."""

    def ask(self, question: Question) -> Tensor:
        """*Shape:* (tokens, size); of a model that is not `late`, (1, size)."""


class VisualEncoder:
    """Page images and questions to vectors that can be compared.

    Args:
        name: What people call it.
        model: Loaded.
        weights: Which weights these are, for the signature.
    """

    def __init__(self, name: str, model: Model, weights: str) -> None:
        self.name, self._model = name, model
        self.late, self.size = model.late, model.size
        self.signature = f"{name}@{weights} {model.settings}"
        """What changes when vectors would. Not the type computed in: that rounds them, and an index made on
        a GPU can be searched from a machine without one."""
        self.batches = Batches(name, model.device)

    def grid(self, width: int, height: int) -> Grid:
        """Of a page image of so many pixels: that of `encode_images`, without encoding it."""
        return self._model.grid(width, height)

    def encode_images(self, images: Sequence[PIL.Image.Image]) -> list[Patches]:
        """The vectors of page images, in their order.

        Raises:
            DocumentError: the model takes no such image, it does not fit into memory by itself, or its
                vectors are not numbers; `page` is the image's place in `images`.
        """
        found: list[Tensor | None] = [None] * len(images)

        def work(batch: Sequence[tuple[int, Future[Any]]]) -> None:
            seen = self._model.look([coming.result() for _, coming in batch])
            for (place, _), rows in zip(batch, seen, strict=True):
                found[place] = rows.float().cpu()

        with ThreadPoolExecutor(THREADS) as threads:
            for batch in self.batches.ahead(
                range(len(images)),
                lambda place: self._model.tokens(*images[place].size),
                lambda place: self._prepare(place, images[place]),
                threads,
            ):
                for lost, _ in self.batches.halving(work, batch):
                    raise DocumentError("encode", f"memory does not hold it beside {self.name}", lost)
        return [self._patches(place, *image.size, found[place]) for place, image in enumerate(images)]

    def encode_query(self, query: str | PIL.Image.Image) -> np.ndarray:
        """The vectors of a question, in words or as an image that pages should look like.

        Returns:
            float32, *shape:* (tokens, size), each of length 1; (1, size) of a model that is not `late`.

        Raises:
            UsageError: the question is empty or too long.
            DocumentError: the model takes no such image.
        """
        if isinstance(query, PIL.Image.Image):
            return self.encode_images([query])[0].vectors
        return _lengths_of_1(self._model.ask(self._question(query)).float().cpu()).numpy()

    def words(self, query: str) -> list[tuple[str, list[int]]]:
        """The words of a question, and which rows of `encode_query` are theirs.

        Raises:
            UsageError: the question is empty or too long, or the model has no vector a word.
        """
        if not self.late:
            raise UsageError(f"{self.name} makes one vector of a question, not one a word")
        spans = self._question(query).spans
        return [
            (
                word.group(),
                [
                    row
                    for row, span in enumerate(spans)
                    if span is not None and span[0] < word.end() and word.start() < span[1]
                ],
            )
            for word in re.finditer(r"\S+", query)
        ]

    def _question(self, query: str) -> Question:
        if not query.strip():
            raise UsageError("the question is empty; say what the page should be about")
        question = self._model.question(query)
        if len(question.ids) > MAX_QUERY:
            raise UsageError(
                f"the question is {len(question.ids)} tokens long, {self.name} takes {MAX_QUERY}; "
                "ask a shorter one"
            )
        return question

    def _prepare(self, place: int, image: PIL.Image.Image) -> Any:
        try:
            return self._model.prepare(rgb(image))
        except (DocumentError, OSError, ValueError) as error:
            raise DocumentError("encode", f"{self.name} takes no such image: {error}", place) from error

    def _patches(self, place: int, width: int, height: int, rows: Tensor | None) -> Patches:
        assert rows is not None  # none was lost to memory
        grid = self._model.grid(width, height)
        count = sum(r * c for r, c in grid) or (len(rows) if self.late else 1)
        expected = (count, self.size)
        if tuple(rows.shape) != expected:
            raise DocumentError(
                "encode", f"{self.name} made vectors of shape {tuple(rows.shape)}, not {expected}", place
            )
        if not torch.isfinite(rows).all():
            raise DocumentError("encode", f"{self.name} made vectors that are not numbers", place)
        return Patches(_lengths_of_1(rows).numpy(), grid)


def _lengths_of_1(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows, dim=-1)
