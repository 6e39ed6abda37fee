"""Pages by their looks: what ingest writes of a visual encoder, and how it is asked for.

Of late interaction three multivectors a page: all patches, compared last and exactly; fewer, pooled, compared
on the candidates of every list; a handful of blocks, compared on every page, which nominate.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from pagelens.errors import DocumentError
from pagelens.store.plan import Storage, Vector, VectorSpec

if TYPE_CHECKING:
    import numpy as np
    import PIL.Image

    from pagelens.encoders.visual import Patches, VisualEncoder

BLOCKS, POOLED = ".blocks", ".pooled"
"""Added to an encoder's name: the names of its other two vectors."""
A4 = (1240, 1754)
"""Pixels of an A4 page at 150 DPI."""
BYTES: Mapping[Storage, float] = {"float32": 4.0, "float16": 2.0, "turbo8": 1.1}
"""A number of a vector takes; `tests/test_store_edge.py` measures it."""


@dataclass(frozen=True, slots=True)
class LookSettings:
    """How a visual encoder's vectors are kept."""

    storage: Storage = "turbo8"
    """Of all patches. Pooled vectors and blocks are kept in float16."""
    pooling: Literal["rows", "hierarchical"] = "rows"
    """`rows`: means of rows and columns; of a model that does not say where its patches lie, as
    `hierarchical`: means of patches that are alike, a third as many."""

    @property
    def signature(self) -> str:
        """What changes when the stored vectors would."""
        return f"{self.pooling} {self.storage} blocks"


@dataclass(frozen=True, slots=True)
class LookVectors:
    """A visual encoder's vectors as a library has them: what is needed to ask them, without the encoder."""

    encoder: str
    """As `encoders.load_encoder` calls it."""
    late: bool
    """Whether it is late interaction; see `encoders.visual.Model`."""
    size: int
    """Numbers a row."""
    storage: Storage
    pooling: Literal["rows", "hierarchical"]

    @property
    def settings(self) -> LookSettings:
        """How they are kept."""
        return LookSettings(self.storage, self.pooling)

    @property
    def specs(self) -> tuple[VectorSpec, ...]:
        """What the collection must hold."""
        name = vector_name(self.encoder)
        if not self.late:
            return (VectorSpec(name, "dense", self.size),)
        return (
            VectorSpec(name, "multi", self.size, self.storage),
            VectorSpec(name + POOLED, "multi", self.size, "float16"),
            VectorSpec(name + BLOCKS, "multi", self.size, "float16"),
        )


class PageLooks:
    """A visual encoder as ingest uses it: page images in, vectors by their names in the store out.

    Args:
        encoder: Loaded.
        settings: How its vectors are kept.
    """

    def __init__(self, encoder: VisualEncoder, settings: LookSettings | None = None) -> None:
        self.encoder, self.settings = encoder, settings or LookSettings()
        self.name = vector_name(encoder.name)
        self.signature = look_signature(encoder, self.settings)

    @property
    def vectors(self) -> LookVectors:
        """For the library's settings."""
        encoder, kept = self.encoder, self.settings
        return LookVectors(encoder.name, encoder.late, encoder.size, kept.storage, kept.pooling)

    def encode(self, images: Sequence[PIL.Image.Image]) -> list[dict[str, Vector] | DocumentError]:
        """The vectors of each page, or why it has none."""
        try:
            return [self._made(each) for each in self.encoder.encode_images(images)]
        except DocumentError as error:
            if len(images) == 1:
                return [error]
        return [each for image in images for each in self.encode([image])]  # which one was it?

    def cost(self) -> tuple[int, float, float]:
        """Of an A4 page: how many vectors, bytes of them in the store, and seconds on this machine.

        Raises:
            DocumentError: the device's memory does not hold one.
        """
        import PIL.Image

        started = time.perf_counter()
        [made] = self.encode([PIL.Image.new("RGB", A4, "white")])
        seconds = time.perf_counter() - started
        if isinstance(made, DocumentError):
            raise made
        return sum(map(_numbers, made.values())) // self.encoder.size, self.size(made), seconds

    def size(self, made: Mapping[str, Vector] | DocumentError) -> float:
        """Bytes that the vectors of a page take in the store."""
        if isinstance(made, DocumentError):
            return 0.0
        storage = {spec.name: spec.storage for spec in self.vectors.specs}
        return sum(_numbers(vector) * BYTES[storage[name]] for name, vector in made.items())

    def _made(self, page: Patches) -> dict[str, Vector]:
        from pagelens.encoders.pooling import blocks, hierarchical, rows_and_columns

        if not self.encoder.late:
            return {self.name: page.vectors[0]}
        by_rows = self.settings.pooling == "rows" and page.grid
        pooled = rows_and_columns(page.vectors, page.grid) if by_rows else hierarchical(page.vectors)
        return {
            self.name: page.vectors,
            self.name + POOLED: pooled,
            self.name + BLOCKS: blocks(page.vectors, page.grid),
        }


class QueryLooks:
    """A visual encoder as search uses it: loaded when a question first needs it.

    Args:
        late: Whether it is late interaction; see `encoders.visual.Model`.
        load: Gives the encoder.
    """

    def __init__(self, late: bool, load: Callable[[], VisualEncoder]) -> None:
        self.late, self._load = late, load

    @cached_property
    def encoder(self) -> VisualEncoder:
        """Loaded."""
        return self._load()

    def encode_query(self, query: str | PIL.Image.Image) -> np.ndarray:
        """As `VisualEncoder.encode_query`."""
        return self.encoder.encode_query(query)


def vector_name(encoder: str) -> str:
    """What an encoder's vectors are called in the store; a repository's name has a slash, a file's none."""
    return encoder.replace("/", "--")


def encoder_of(vector: str) -> str:
    """The name of the vectors of an encoder that has this one; of late interaction there are three."""
    return vector.removesuffix(POOLED).removesuffix(BLOCKS)


def look_signature(encoder: VisualEncoder, settings: LookSettings) -> str:
    """Of the vectors that an encoder makes with these settings; of one vector a page only the encoder's."""
    return f"{encoder.signature} {settings.signature}" if encoder.late else encoder.signature


def _numbers(vector: Vector) -> int:
    assert not isinstance(vector, tuple)  # none of these is sparse
    return vector.size
