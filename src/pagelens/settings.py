"""What a library remembers of how it was made: one of its points, so that index and settings go together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal

from pagelens.errors import UsageError
from pagelens.looks import LookVectors, vector_name
from pagelens.store.plan import Point, Store, VectorSpec
from pagelens.store.points import FORMAT, SETTINGS

if TYPE_CHECKING:
    from pagelens.ingest.ocr import OcrEngine


@dataclass(frozen=True, slots=True)
class TextVectors:
    """How a library keeps the vectors of a further text encoder."""

    encoder: str
    """As `encoders.load_text_encoder` calls it."""
    kind: Literal["sparse", "dense", "multi"]
    size: int
    """Numbers a row; 0 of sparse ones."""

    @property
    def spec(self) -> VectorSpec:
        """What the collection must hold."""
        return VectorSpec(vector_name(self.encoder), self.kind, self.size, idf=self.kind != "sparse")


@dataclass(frozen=True, slots=True)
class Settings:
    """Of an empty library: as they are by default."""

    home: str | None = None
    """Folder of the library when it was last written."""
    page_files: str | None = None
    """Of a library on a server: how its page files know it (`PageFiles.claim`)."""
    roots: Mapping[str, str] = field(default_factory=dict)
    """See `roots.Roots`."""
    profile: str | None = None
    languages: tuple[str, ...] = ("eng",)
    """ISO 639-2, of the pages."""
    ocr: OcrEngine | None = None
    metadata: tuple[str, ...] = ()
    """Names of the fields that the user joined."""
    signatures: Mapping[str, str] = field(default_factory=dict)
    """Artefact or vector -> what it is made with; only what is named here is searched."""
    texts: Mapping[str, TextVectors] = field(default_factory=dict)
    """Further text encoders, by the names of their vectors."""
    looks: Mapping[str, LookVectors] = field(default_factory=dict)
    """Visual encoders, likewise."""
    own: Mapping[str, str] = field(default_factory=dict)
    """Vectors that somebody else made (`Library.add`): name -> kind."""
    weights: Mapping[str, float] = field(default_factory=dict)
    """Lists of the fusion that count otherwise than they do by default (`Library.weigh`)."""
    calibrations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By the signature of the reranker; see `calibration.Calibration`."""

    @property
    def unfinished(self) -> tuple[str, ...]:
        """Further encoders whose vectors are not whole: no search asks them."""
        return tuple(name for name in (*self.looks, *self.texts) if name not in self.signatures)

    @property
    def ready_looks(self) -> Mapping[str, LookVectors]:
        """The others among the visual ones."""
        return {name: kept for name, kept in self.looks.items() if name in self.signatures}

    @classmethod
    def read(cls, store: Store) -> Settings:
        """Those of a library.

        Raises:
            UsageError: it is an unfinished copy of another.
        """
        points = store.retrieve([SETTINGS])
        if not all(map(is_whole, points)):
            raise UsageError(
                "this library is an unfinished copy; run the same `pagelens migrate` again, it goes on where "
                "it stopped"
            )
        known = {each.name for each in fields(cls)}
        kept: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for each in points
            for key, value in each.payload.items()
            if key in known
        }
        for key, of in (("texts", TextVectors), ("looks", LookVectors)):
            kept[key] = {name: of(**about) for name, about in kept.get(key, {}).items()}
        return cls(**kept)

    def write(self, store: Store) -> None:
        """Replace those of a library."""
        kept = {key: list(each) if isinstance(each, tuple) else each for key, each in asdict(self).items()}
        store.upsert([Point(SETTINGS, {"kind": "library", "format": FORMAT, **kept})])


def being_copied(page_files: str | None) -> Point:
    """The settings of a library while it is copied from another."""
    return Point(SETTINGS, {"kind": "library", "format": FORMAT, "whole": False, "page_files": page_files})


def is_whole(settings: Point) -> bool:
    """Whether these are the settings of a library, and not of an unfinished copy."""
    return bool(settings.payload.get("whole", True))
