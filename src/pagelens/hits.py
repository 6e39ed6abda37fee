"""What a search gives back: pages, best first, each with its scores and its evidence.

Plain values: `as_dict` is the JSON that other tools rely on; the pictures are drawn by `gallery` and `marks`
and only when somebody looks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, overload

from pagelens.errors import UsageError
from pagelens.records import Evidence, Page, Reranked, Stage
from pagelens.wording import counted, excerpt, printable

if TYPE_CHECKING:
    import PIL.Image

    from pagelens.encoders.heatmap import Heatmap

SCHEMA = 1
"""Of every JSON that pagelens prints; a change that breaks a reader raises it."""


@dataclass(frozen=True)
class Hit:
    """One page in a result."""

    record: Page
    """Identity and geometry of the page."""
    path: str
    """The file, absolute."""
    score: float
    """Of the last stage that saw the page; never comparable with another stage's."""
    stages: Mapping[str, Stage] = field(default_factory=dict, hash=False)
    """What each stage thought of the page, in the order it went through them."""
    evidence: tuple[Evidence, ...] = field(default=(), repr=False)
    """The passages that answer, best first."""
    text: str = field(default="", repr=False)
    """All that was read on the page."""
    probability: float | None = None
    """That the page answers, 0..1; None unless calibrated."""
    open_image: Callable[[], PIL.Image.Image] = field(kw_only=True, repr=False, compare=False)
    """Reads the page image; called only when somebody looks."""
    look: Callable[[str | None], Heatmap] | None = field(
        default=None, kw_only=True, repr=False, compare=False
    )
    """Makes the heat map of one word, or of all; None where no visual encoder can."""

    @property
    def page_id(self) -> str:
        """`"<doc_id>#<number>"`, number from 0."""
        return self.record.page_id

    @property
    def doc_id(self) -> str:
        """The document, by content."""
        return self.record.doc_id

    @property
    def page(self) -> int:
        """The page as people count: from 1."""
        return self.record.number + 1

    @property
    def name(self) -> str:
        """The file's name without its folders."""
        return PurePath(self.path).name

    @property
    def last_stage(self) -> str | None:
        """The stage that `score` is of; None for a hit that no stage scored."""
        return next(reversed(list(self.stages)), None)

    @property
    def snippet(self) -> str:
        """The best passage, cut to a few lines; without evidence, how the page begins."""
        if self.evidence and self.evidence[0].text:
            return excerpt(self.evidence[0].text, self.evidence[0].words)
        return excerpt(self.text)

    def show(self) -> PIL.Image.Image:
        """The page image, RGB, as large as it is stored, with the evidence marked.

        Raises:
            DocumentError: the page image is gone.
            OSError: it is damaged.
        """
        from pagelens.marks import mark

        return mark(self.open_image(), self.record, self.evidence)

    def heatmap(self, word: str | None = None) -> Heatmap:
        """Where on the page the question is answered, as a visual encoder sees it.

        Args:
            word: Of the question, as it stands there; default: all of them together, or the image asked with.

        Raises:
            UsageError: the question has no such word, or no visual encoder of late interaction saw the page.
        """
        if self.look is None:
            raise UsageError(
                "no visual encoder of late interaction saw this page; `pagelens ingest PATH "
                "--image colqwen2` adds one"
            )
        return self.look(word)

    def as_dict(self) -> dict[str, Any]:
        """For JSON; boxes as `[left, top, right, bottom]` in points, top-left origin of the page as shown."""
        return {
            "page_id": self.page_id,
            "path": self.path,
            "page": self.page,
            "score": self.score,
            "stages": {name: stage.as_dict() for name, stage in self.stages.items()},
            **({} if self.probability is None else {"probability": self.probability}),
            "evidence": [{"text": each.text, "box": list(each.box)} for each in self.evidence],
        }


@dataclass(frozen=True, repr=False)
class Hits(Sequence[Hit]):
    """The pages found, best first. In a notebook a gallery; a slice is again `Hits`."""

    query: str
    profile: str
    hits: tuple[Hit, ...]
    timings: Mapping[str, float] = field(default_factory=dict, hash=False)
    """Milliseconds of each stage, in the order they ran."""
    reranked: Mapping[str, Reranked] = field(default_factory=dict, hash=False)
    """Of stages that looked at pages: with what, and how many pages at which level of stored features."""
    notes: tuple[str, ...] = ()
    """What one should know to read the result, such as that no page has any word of the question."""

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> Hits: ...
    def __getitem__(self, index: int | slice) -> Hit | Hits:
        if isinstance(index, slice):
            return replace(self, hits=self.hits[index])
        return self.hits[index]

    def __len__(self) -> int:
        return len(self.hits)

    def as_dict(self) -> dict[str, Any]:
        """What `pagelens search --json` prints."""
        reranked = {stage: each._asdict() for stage, each in self.reranked.items()}
        return {
            "schema": SCHEMA,
            "query": self.query,
            "profile": self.profile,
            "timings_ms": dict(self.timings),
            **({"reranked": reranked} if reranked else {}),
            "hits": [hit.as_dict() for hit in self.hits],
        }

    def to_html(self, title: str | None = None) -> str:
        """The gallery as a whole page that needs no other file; `title` instead of the question."""
        from pagelens.gallery import page_html

        return page_html([(self.query if title is None else title, self)])

    def _repr_html_(self) -> str:
        from pagelens.gallery import gallery_html

        return gallery_html(self)

    def __repr__(self) -> str:
        lines = [f"{counted(len(self), 'page')} for {self.query!r}, profile {self.profile}"]
        for number, hit in enumerate(self.hits, start=1):
            stage = f"   {hit.last_stage} {hit.score:.4g}" if hit.last_stage else ""
            lines.append(f"{number:3}. {printable(hit.name)}, page {hit.page}{stage}")
            if hit.snippet:
                lines.append(f"     {printable(hit.snippet)}")
        lines += [f"note: {printable(note)}" for note in self.notes]
        return "\n".join(lines)
