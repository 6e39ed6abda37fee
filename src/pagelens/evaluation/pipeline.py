"""The whole search over a corpus of page images that comes with ids of its own, as benchmarks have it.

Every corpus becomes a library, kept by its content: the next run, and another task with the same pages, reads
none of them again. One search answers for every stage.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import PIL.Image

from pagelens.calibration import signature_of
from pagelens.errors import UsageError
from pagelens.evaluation.asking import DEPTH, every_order, fitted_to, known_pages
from pagelens.library import Library
from pagelens.profiles import PROFILES, choose
from pagelens.ranking import FUSION
from pagelens.records import Candidate, Page, Stage
from pagelens.rerankers import Looking
from pagelens.rerankers.evidence import EvidenceReranker
from pagelens.searching import FUSED, Step, stage_names
from pagelens.wording import counted

Scores: TypeAlias = dict[str, dict[str, float]]
"""Question id -> corpus id -> score, best first and strictly falling."""

FORMATS = {"PNG": ".png", "JPEG": ".jpg", "TIFF": ".tif", "WEBP": ".webp"}
"""Stored as they come; any other is stored as PNG."""
APART = 1e-5
"""Share of a score by which two neighbours differ at least: tools compare them in 32 bits."""


class Corpus(NamedTuple):
    """A library and whose pages are in it."""

    library: Library
    ids: Mapping[str, Sequence[str]]
    """Page id -> corpus ids: equal pictures are one page."""


class Pipeline:
    """Index a corpus, search it; each stage by itself.

    Args:
        out: Where libraries are kept.
        profile: What pages are indexed by.
        rerank: As `search --rerank`; default: the profile's. An empty list: none.
        languages: Of the pages, ISO 639-2.
        image: Visual encoders, as `Library.ingest`.
        models: Folder with a folder a model.
        looking: How vision-language rerankers look at pages.
        say: Told what is done.

    Raises:
        UsageError: there is no such profile or reranker.
        Missing: a model or a program is not there.
    """

    def __init__(
        self,
        out: Path,
        profile: str = "auto",
        rerank: Sequence[str] | None = None,
        languages: Sequence[str] = ("eng",),
        image: Sequence[str] = (),
        models: Path | None = None,
        looking: Looking | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._out, self._models, self._say = out, models, say
        self._looking = replace(looking or Looking(), features="none")  # a model is not one library's alone
        self._profile, self._languages = choose(profile, models)[0].name, tuple(languages)
        self._image = list(image)
        self._wanted = list(PROFILES[self._profile].rerank if rerank is None else rerank)
        self._corpus: Corpus | None = None
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "page.png"
            PIL.Image.new("RGB", (240, 320), "white").save(page)
            with self._library(Path(folder) / "one.pagelens") as library:
                library.ingest(page, languages=self._languages, readers=1, image=self._image)
                self._cascade = self._load(library)
                steps = library.steps(self._cascade)
                made = library.status()["signatures"]
        lists = [name for name in ("bm25", "text", *self._image) if name in made]
        self._lists = [*lists, FUSED]
        self.stages: Sequence[str] = [*self._lists, *stage_names(steps)]
        """Without `document`: here each page is one."""
        used = [(signature_of(step), step.depth, step.weight) for step in steps]
        shaped = repr((sorted(made.items()), dict(FUSION), used, _code()))
        self.signature = hashlib.sha256(shaped.encode()).hexdigest()[:16]
        """All that shapes a score, this program's code too."""

    @property
    def name(self) -> str:
        """The profile's name: what the pipeline is called."""
        return self._profile

    def close(self) -> None:
        """Leave the library of the last corpus."""
        if self._corpus is not None:
            self._corpus.library.close()
            self._corpus = None

    def index(self, pages: Iterable[tuple[str, bytes]]) -> None:
        """Take a corpus in: ids and image files. It is what is searched from now on.

        Raises:
            UsageError: it has no page, or one is no image.
        """
        self.close()
        ids: dict[str, list[str]] = {}
        self._out.mkdir(parents=True, exist_ok=True)
        images = Path(tempfile.mkdtemp(prefix="reading-", dir=self._out))
        try:
            for id, data in pages:
                suffix, data = _stored(id, data)
                digest = hashlib.sha256(data).hexdigest()[:16]
                ids.setdefault(digest, []).append(id)
                (images / f"{digest}{suffix}").write_bytes(data)
            if not ids:
                raise UsageError("the corpus has no page")
            key = "\n".join([*sorted(ids), *self._languages, *self._image, self._profile])
            folder = self._out / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.pagelens"
            library = self._library(folder)
            report = library.ingest(images, languages=self._languages, image=self._image, say=self._say)
        finally:
            shutil.rmtree(images, ignore_errors=True)
        for failure in report.failed:
            self._say(f"page {', '.join(ids[Path(failure.path).stem])} cannot be read: {failure.reason}")
        by_page = {page["page_id"]: ids[Path(page["path"]).stem] for page in library.pages()}
        self._corpus = Corpus(library, by_page)
        self._say(f"{counted(len(by_page), 'page')} in {folder}")

    def check_unseen(self, stage: str, questions: Collection[str]) -> None:
        """See that figures of a stage on these questions, in words, would say something.

        Raises:
            UsageError: it reranks, and a reranker was fitted to some of them.
        """
        assert self._corpus is not None, "index a corpus first"
        steps = [] if stage in self._lists else self._corpus.library.steps(self._cascade)
        if known := fitted_to(steps, questions):
            raise UsageError(
                f"no figure of {stage}: the evidence reranker was fitted to {known} of these "
                f"{counted(len(questions), 'question')}; take coefficients that do not know them"
            )

    def search(
        self, questions: Mapping[str, str], among: Mapping[str, Sequence[str]] | None = None
    ) -> dict[str, Scores]:
        """The pages of each question, by stage.

        Args:
            questions: Text by id.
            among: Corpus ids by question: only these count, as where several rerankers share candidates. A
                last reranker that scores pairs then does so page by page, and its score stands alone.
        """
        assert self._corpus is not None, "index a corpus first"
        library, ids = self._corpus
        names = {id: page.page_id for id, page in known_pages(library, "{doc_id}#{number}").items()}
        home = {id: page_id for page_id, own in ids.items() for id in own}
        steps = library.steps(self._cascade)
        alone = None
        if among is not None and steps and hasattr(steps[-1].reranker, "score_pairs"):
            *steps, alone = steps
        found: dict[str, Scores] = {stage: {} for stage in self.stages}
        for question, text in questions.items():
            wanted = None if among is None else set(among[question])
            trace = library.trace(text, DEPTH, _filter(wanted, home), steps)
            own = every_order(trace, steps)
            pages = {page.id: page for page in [*trace.order, *trace.beyond]}
            for stage, name in zip(self.stages, [*self._lists, *stage_names(steps)], strict=False):
                order = [(names[id], pages[id].stages.get(name)) for id in own[name][:DEPTH]]
                found[stage][question] = _scores(order, ids, wanted)
        if alone is not None and among is not None:
            found[self.stages[-1]] = _pairs(alone.reranker, library, questions, among, home)
        return found

    def _library(self, folder: Path) -> Library:
        return Library(folder, self._profile, self._models, self._looking)

    def _load(self, library: Library) -> list[str | Step]:
        """The cascade with its models loaded, once for all libraries; evidence counts in each anew."""
        steps = library.steps(self._wanted)
        return [
            name if isinstance(step.reranker, EvidenceReranker) else step
            for name, step in zip(self._wanted, steps, strict=True)
        ]


def _stored(id: str, data: bytes) -> tuple[str, bytes]:
    """The suffix and the bytes that are stored of an image file."""
    try:
        with PIL.Image.open(BytesIO(data)) as image:
            if image.format in FORMATS:
                return FORMATS[image.format], data
            again = BytesIO()
            image.convert("RGB").save(again, "PNG")
            return ".png", again.getvalue()
    except (OSError, ValueError) as error:
        raise UsageError(f"page {id} of the corpus is no image: {error}") from error


def _filter(wanted: Collection[str] | None, home: Mapping[str, str]) -> dict[str, list[str]]:
    if wanted is None:
        return {}
    return {"doc_id": sorted({home[id].partition("#")[0] for id in wanted if id in home})}


def _scores(
    order: Sequence[tuple[str, Stage | None]],
    ids: Mapping[str, Sequence[str]],
    wanted: Collection[str] | None,
) -> dict[str, float]:
    """What a stage gave each corpus id, in its order; a page that it did not see comes below what it saw."""
    scores: dict[str, float] = {}
    below = math.inf
    for page_id, stage in order:
        for id in ids[page_id]:
            if wanted is None or id in wanted:
                own = below if stage is None else stage.score
                scores[id] = own = min(own, below) if math.isfinite(min(own, below)) else 0.0
                below = own - APART * max(1.0, abs(own))
    return scores


def _pairs(
    reranker: Any,
    library: Library,
    questions: Mapping[str, str],
    among: Mapping[str, Sequence[str]],
    home: Mapping[str, str],
) -> Scores:
    """Each question with each of its candidates, page by page: a page is prepared once for all questions."""
    sizes = {page["page_id"]: (page["width"], page["height"]) for page in library.pages()}
    pairs = [(question, id) for question in questions for id in among[question] if id in home]
    candidates = {page_id: _candidate(library, page_id, *size) for page_id, size in sizes.items()}
    scored = reranker.score_pairs((questions[question], candidates[home[id]]) for question, id in pairs)
    found: Scores = {question: {} for question in questions}
    for (question, id), score in sorted(zip(pairs, scored, strict=True), key=lambda each: -each[1]):
        if not math.isnan(score):
            found[question][id] = float(score)
    return found


def _candidate(library: Library, page_id: str, width: float, height: float) -> Candidate:
    doc_id, _, number = page_id.partition("#")
    page = Page(doc_id, int(number), width, height)
    return Candidate(page, page_id, library.words(page_id).text, {}, lambda: library.image(page_id))


def _code() -> str:
    """A digest of this program's own files."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    rooms = (here / room for room in ("", "ingest", "encoders", "rerankers", "store", "backbones"))
    for path in sorted(path for room in rooms for path in room.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
