"""Hits of what was found: what is shown of each page, and where it looks like the question."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from io import BytesIO
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from pagelens.errors import Missing, UsageError
from pagelens.evidence import evidence, seen
from pagelens.hits import Hit
from pagelens.looks import QueryLooks
from pagelens.records import Page
from pagelens.searching import Found, Searcher
from pagelens.store.pages import PageFiles
from pagelens.store.plan import Store
from pagelens.store.points import page_point_id
from pagelens.things import shown

if TYPE_CHECKING:
    from pagelens.encoders.heatmap import Heatmap


class Showing:
    """Of one library.

    Args:
        searcher: What was found came from it.
        looks: Visual encoders, by the names of their vectors.
        store: Holds these vectors.
        files: Holds page images and words.
        languages: Of the pages, ISO 639-2.
    """

    def __init__(
        self,
        searcher: Searcher,
        looks: Mapping[str, QueryLooks],
        store: Store,
        files: PageFiles,
        languages: tuple[str, ...],
    ) -> None:
        self._searcher, self._looks = searcher, looks
        self._store, self._files, self._languages = store, files, languages

    def hits(
        self,
        found: Found,
        likely: Mapping[str, float] = MappingProxyType({}),
        kinds: Collection[str] = (),
    ) -> list[Hit]:
        """Pages with what is shown of them: regions of these kinds, then passages.

        Args:
            found: In the order of the hits.
            likely: Probabilities, by the ids of points.
            kinds: Of regions.
        """
        hits = []
        for page, candidate in zip(found.order, self._searcher.candidates(found.order), strict=True):
            if candidate is None:
                continue  # removed since the lists were asked
            text = self._files.text(candidate.page.page_id)
            passages = evidence(text, found.weights, self._languages, page.passage)
            hits.append(
                Hit(
                    candidate.page,
                    candidate.path,
                    page.score,
                    dict(page.stages),
                    shown(candidate.regions, kinds) + passages,
                    candidate.text,
                    likely.get(page.id),
                    open_image=candidate.read_image,
                )
            )
        return hits

    def seen(self, hit: Hit, found: Found, query: str) -> Hit:
        """A hit that says where it looks like the question, where a visual encoder can.

        Args:
            hit: Of `hits`.
            found: What it is of.
            query: In words; empty where an image was asked with.
        """
        late = [name for name in found.looks if self._looks[name].late and name in hit.stages]
        if not late:
            return hit
        look = partial(self._heatmap, hit.record, late[0], found.looks[late[0]], query)
        if hit.evidence:
            return replace(hit, look=look)
        try:
            return replace(hit, look=look, evidence=seen(look(None), self._files.text(hit.page_id)))
        except (Missing, UsageError):  # the encoder does not say where, or is not needed but for this
            return replace(hit, look=look)

    def _heatmap(self, page: Page, name: str, rows: np.ndarray, query: str, word: str | None) -> Heatmap:
        """Of one word of the question, or of all."""
        import PIL.Image

        from pagelens.encoders.heatmap import Heatmap, similarities

        [point] = self._store.retrieve([page_point_id(page.page_id)], [name], payload=False)
        encoder = self._looks[name].encoder
        grid = encoder.grid(*PIL.Image.open(BytesIO(self._files.image(page.page_id))).size)
        if not grid:
            raise UsageError(f"{encoder.name} does not say where its patches lie; it has no heat map")
        words = encoder.words(query) if query else []
        if word is not None and word not in [each for each, _ in words]:
            known = ", ".join(each for each, _ in words) or "no words"
            raise UsageError(f"the question has no word {word!r}; it has {known}")
        chosen = [row for each, own in words if word in (None, each) for row in own]
        patches = point.vectors[name]
        assert isinstance(patches, np.ndarray)
        values = similarities(rows[chosen] if chosen else rows, patches, grid).mean(axis=0)
        return Heatmap(page, values)
