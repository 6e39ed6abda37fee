"""What an ingest will read and with what: settled, and said, before it starts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pagelens.encoders.sparse import Bm25Encoder
from pagelens.errors import UsageError
from pagelens.ingest import ocr
from pagelens.ingest.reading import ReadSettings
from pagelens.ingest.sources import find
from pagelens.looks import LookSettings, PageLooks, vector_name
from pagelens.models import Models
from pagelens.places import Place
from pagelens.profiles import Profile
from pagelens.roots import Roots
from pagelens.settings import Settings, TextVectors
from pagelens.store.plan import Store, VectorSpec, Where
from pagelens.store.points import SeenFile, files_of

if TYPE_CHECKING:
    from pagelens.indexing import PageEncoder


@dataclass(frozen=True, slots=True)
class Plan:
    """For `indexing.Ingest`."""

    files: Mapping[Path, SeenFile]
    reading: ReadSettings
    encoders: Mapping[str, PageEncoder]
    """Of words, by the names of their vectors."""
    looks: Sequence[PageLooks]
    unnamed: Sequence[Path]
    """Files that neither the store nor JSON could name."""
    texts: Mapping[str, TextVectors]
    """The further ones among `encoders`, for the settings."""

    @property
    def vectors(self) -> tuple[VectorSpec, ...]:
        """What the collection must hold beside its own."""
        texts = (each.spec for each in self.texts.values())
        return (*texts, *(spec for each in self.looks for spec in each.vectors.specs))


@dataclass(frozen=True, slots=True)
class Planner:
    """Plans for a library as it is now."""

    settings: Settings
    place: Place
    """Where it lies: page images below a folder given are no documents."""
    roots: Roots
    """Files in none of them found one."""
    models: Models
    profile: Profile
    why: str
    """It is this profile."""
    pages: int
    """That are there already."""
    say: Callable[[str], None]
    """Told what was chosen, and what a page costs of each encoder, a line each."""

    def plan(
        self,
        paths: Sequence[str | os.PathLike[str]],
        *,
        languages: Sequence[str] | None,
        ocr_engine: ocr.OcrEngine | None,
        password: str | None,
        item_per_folder: bool,
        text: Sequence[str],
        image: Sequence[str],
        look_settings: LookSettings | None,
    ) -> Plan:
        """As `Library.ingest` is asked; models are loaded, nothing is read or stored.

        Raises:
            UsageError: a path does not exist, or is a library.
            Missing: no OCR engine, a language of it, or a model is not there.
        """
        files, unnamed = {}, []
        named = [Path(each) for each in paths]
        for each in named:
            if self.place.keeps(each):
                raise UsageError(f"{each} is a library; name the files or the folder that it was made of")
        for source in find(named, item_per_folder, self.place.keeps):
            if not _is_text(source.path):
                unnamed.append(source.path)
                continue
            root, path = self.roots.locate(source.path, source.root)
            files[source.path] = SeenFile(root, path, source.size, source.mtime_ns)
        spoken = tuple(languages or self.settings.languages)
        engine = ocr.choose(ocr_engine or self.settings.ocr, spoken)
        self.say(f"{self.why}; OCR by {ocr.version(engine)}, {'+'.join(spoken)}")
        encoders: dict[str, PageEncoder] = {"bm25": Bm25Encoder(spoken)}
        if self.profile.text_model:
            encoders["text"] = self.models.text(self.profile)
        texts = {}
        for name in dict.fromkeys([*(kept.encoder for kept in self.settings.texts.values()), *text]):
            encoder = self.models.further_text(name)
            encoders[vector_name(name)] = encoder
            texts[vector_name(name)] = TextVectors(name, encoder.kind, encoder.size)
            self.say(
                f"{name}: {f'{encoder.size} numbers a window' if encoder.size else 'terms with weights'}"
            )
        reading = ReadSettings(ocr=engine, languages=spoken, password=password)
        if self.profile.name != self.settings.profile:  # later it has those that nobody took out
            image = [*image, *self.profile.image]
        return Plan(files, reading, encoders, self._looks(image, look_settings), unnamed, texts)

    def _looks(self, image: Sequence[str], settings: LookSettings | None) -> list[PageLooks]:
        """The visual encoders that the library has and those asked for, loaded; what a page costs is said."""
        kept = {each.encoder: each.settings for each in self.settings.looks.values()}
        planned = []
        for name, each in (dict.fromkeys(image, settings or LookSettings()) | kept).items():
            looks = PageLooks(self.models.visual(name), each)
            planned.append(looks)
            if self.settings.signatures.get(looks.name) == looks.signature:
                continue  # said when it came; a page to measure takes minutes on a slow machine
            vectors, size, seconds = looks.cost()
            hours = f"1,000 pages take {seconds / 3.6:.1f} h"
            if name not in kept and self.pages:
                hours += f", the {self.pages} that are there {seconds * self.pages / 3600:.1f} h"
            self.say(
                f"{name}: {vectors} vectors, {size / 1000:.0f} KB and {seconds:.2f} s a page of A4; {hours}"
            )
        return planned


def gone_below(paths: Sequence[str | os.PathLike[str]], store: Store, roots: Roots) -> list[SeenFile]:
    """Names below paths that are no file any more, of documents and of failures.

    Raises:
        UsageError: that is every one.
    """
    named = [Path(path).resolve() for path in paths]
    points = [each for kind in ("document", "failure") for each in store.scroll(Where({"kind": kind}))]
    below = {
        file: roots.absolute(file.root, file.path) for point in points for file in files_of(point.payload)
    }
    below = {f: place for f, place in below.items() if any(place.is_relative_to(each) for each in named)}
    gone = [file for file, place in below.items() if not place.exists()]
    if gone and len(gone) == len(below):
        raise UsageError(
            f"all {len(gone)} files known below {', '.join(map(str, named))} are gone; is a disk not "
            "mounted? To take them out all the same: pagelens remove PATH"
        )
    return gone


def _is_text(path: Path) -> bool:
    """Whether a path's bytes are UTF-8, as a store wants them; the others are lone surrogates in Python."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True
