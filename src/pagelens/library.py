"""`Library`: opens the rooms and hands their members to the two paths.

What only an ingest needs is imported where it is used: a search does not pay for it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pagelens import inventory
from pagelens.calibration import CalibratedStage, Calibration, choose_calibration, keep_likely
from pagelens.errors import UsageError
from pagelens.hits import Hits
from pagelens.looks import LookSettings, vector_name
from pagelens.models import Models
from pagelens.places import Place
from pagelens.profiles import PROFILES, choose
from pagelens.query_encoders import QueryEncoders
from pagelens.ranking import FUSION, OTHER, Ranked, falling
from pagelens.records import NO_LAYOUT, Candidate, PageText, Query, SparseVector
from pagelens.rerankers import FAMILIES, Looking
from pagelens.rerankers.evidence import Coefficients, EvidenceReranker
from pagelens.roots import Roots
from pagelens.rules import Rule, on_named_pages, pages_named
from pagelens.searching import (
    BLEND,
    BudgetedReranker,
    Cascade,
    Found,
    Limits,
    LooksCounts,
    Reranker,
    Searcher,
    Step,
    is_list,
    parse_cascade,
)
from pagelens.settings import Settings
from pagelens.showing import Showing
from pagelens.store.plan import FieldKind, Point, Schema, Vector, VectorSpec, Where, check_points
from pagelens.store.points import FIELDS, files_of, page_point_id
from pagelens.things import known, named

if TYPE_CHECKING:
    import PIL.Image

    from pagelens.checking import Finding
    from pagelens.encoders.visual import VisualEncoder
    from pagelens.estimating import Estimate
    from pagelens.indexing import Failure, Progress, Report
    from pagelens.ingest.ocr import OcrEngine
    from pagelens.planning import Planner
    from pagelens.warming import Warmed, WarmEstimate

TOGETHER = 100
"""Pages fetched from the store at a time where all are wanted."""


class Library:
    """Holds the pages of many files, in a folder or on a Qdrant server, and answers questions about them.

    Args:
        folder: Made when missing. Default: `$PAGELENS_LIBRARY`, else `./library.pagelens`. Or a server's gRPC
            interface, as `http://localhost:6334`; its key is `$QDRANT_API_KEY`.
        profile: `"auto"`, or a name of `profiles.PROFILES`.
        models: Folder with a folder a model, looked into first; default `$PAGELENS_MODELS`.
        looking: How vision-language rerankers look at pages; visual encoders use its device and dtype.
        counts: How many pages each step of late interaction sees.
        pages: With a server: a folder or a URL that fsspec knows, for the page files.
        collection: With a server: its collection, made when missing; default: `pagelens`.
        tenant: With a server: whose library this is, where several share the collection.

    Raises:
        UsageError: what is there is no library, or one of another format, or an unfinished copy; the server
            cannot be used; the page files are another library's.
        LibraryBusy: a process that does not answer holds it, or the server does not answer.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str] | None = None,
        profile: str = "auto",
        models: Path | None = None,
        looking: Looking | None = None,
        *,
        pages: str | os.PathLike[str] | None = None,
        collection: str | None = None,
        tenant: str | None = None,
        counts: LooksCounts | None = None,
    ) -> None:
        self.place = Place.of(folder, pages, collection, tenant)
        self._wanted, self._models = profile, models
        self._counts = counts or LooksCounts()
        if profile != "auto":
            choose(profile, models)  # a wrong name is said before anything is made
        self._store, self._files = self.place.open()
        self._loaded = Models(models, looking or Looking(), self._files)
        try:
            self._declare()
            self._settings = Settings.read(self._store)
        except BaseException:
            self._store.close()
            raise

    @property
    def folder(self) -> Path:
        """Where it lies.

        Raises:
            UsageError: it lies on a server.
        """
        if self.place.folder is None:
            raise UsageError(f"{self.place} is no folder")
        return self.place.folder

    def __enter__(self) -> Library:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the library; the last one to leave ends its worker."""
        self._store.close()

    # ingest

    def ingest(
        self,
        *paths: str | os.PathLike[str],
        languages: Sequence[str] | None = None,
        ocr_engine: OcrEngine | None = None,
        readers: int | None = None,
        password: str | None = None,
        item_per_folder: bool = False,
        retry: bool = False,
        prune: bool = False,
        metadata: str | os.PathLike[str] | None = None,
        regions: bool = True,
        text: str | Sequence[str] = (),
        image: str | Sequence[str] = (),
        look_settings: LookSettings | None = None,
        progress: Callable[[Progress], None] = lambda _: None,
        say: Callable[[str], None] = lambda _: None,
    ) -> Report:
        """Bring the library up to date with files and folders; what is there already is not read again.

        Args:
            paths: Files or folders.
            languages: Of the pages, ISO 639-2 as tesseract has them; default: as the library has, or `eng`.
            ocr_engine: Default: as the library has, or tesseract if it is installed, or rapidocr.
            readers: Processes that read; default: one a core.
            password: Of encrypted PDF files; kept nowhere. What failed before is tried with it.
            item_per_folder: A folder of images is one document, its images the pages.
            retry: Try again what failed before.
            prune: Take out the files below `paths` that are gone.
            metadata: A CSV file of fields to join; see `metadata.read_metadata`.
            regions: Look for tables, charts, signatures and other regions, also on pages that are there
                already.
            text: A further text encoder, or several, that this library has from now on; see
                `encoders.load_text_encoder`. Pages that are there are encoded from their stored words.
            image: A visual encoder, or several, likewise; see `encoders.load_encoder`. Pages that are there
                are encoded from their stored images.
            look_settings: How the vectors of these are kept; one that the library has keeps its own.
            progress: Called after every page; first for those that are only encoded or looked at anew.
            say: Told what was chosen and why, a line each.

        Raises:
            UsageError: a path does not exist, the metadata cannot be joined, or every file to prune is gone.
            Missing: no OCR engine, a language of it, or the profile's model is not there.
            OSError: the disk cannot hold it; run it again after freeing space.
        """
        from pagelens.finding import find_stale
        from pagelens.indexing import Failure, Ingest, Progress
        from pagelens.ingest import layout
        from pagelens.ingest.pool import ReaderPool
        from pagelens.ingest.regions import signature as regions_signature
        from pagelens.planning import gone_below

        self._refresh()
        planner = self._planner(say)
        plan = planner.plan(
            paths,
            languages=languages,
            ocr_engine=ocr_engine,
            password=password,
            item_per_folder=item_per_folder,
            text=_names(text),
            image=_names(image),
            look_settings=look_settings,
        )
        fields = None
        if metadata is not None:
            from pagelens.metadata import read_metadata

            fields, strangers = read_metadata(Path(metadata), plan.files)
            if strangers:
                say(f"{len(strangers)} rows of {metadata} name no file given, such as {strangers[0]!r}")
            names = {name for each in fields.values() for name in each}
            self._save(metadata=tuple(sorted(names.union(self._settings.metadata))))
            self._declare({f"metadata.{name}": "keyword" for name in names})
        gone = gone_below(paths, self._store, self._roots) if prune else []
        self._store.declare(Schema(plan.vectors, {}))
        looks = {each.name: each for each in plan.looks}
        run = Ingest(
            self._store,
            self._files,
            plan.reading,
            plan.encoders,
            progress,
            looks,
            list(self._settings.own),
        )
        # An index must never hold vectors of two models as if they were of one: what was made with another is
        # not searched until it is made anew.
        signatures = {name: encoder.signature for name, encoder in plan.encoders.items()}
        signatures |= {name: each.signature for name, each in looks.items()}
        before = self._settings.signatures
        kept = {name: made for name, made in before.items() if signatures.get(name, made) == made}
        self._save(
            signatures=kept,
            roots=planner.roots.as_dict(),
            languages=plan.reading.languages,
            ocr=plan.reading.ocr,
            texts=plan.texts,
            looks={each.name: each.vectors for each in plan.looks},
        )
        run.encode_stale(retry)
        reading = replace(plan.reading, regions=regions)
        made = {"image": reading.image_signature, "words": reading.words_signature(reading.ocr)}
        look_again = regions
        if regions:
            made["regions"] = regions_signature()
            if missing := layout.problem():
                say(f"{missing}; charts, signatures and stamps are looked for without it")
                if NO_LAYOUT not in (had := before.get("regions", NO_LAYOUT)):
                    made["regions"], look_again = had, False
                    say("regions that were found with it stay as they are")
        self._save(signatures=made | signatures, profile=planner.profile.name)
        with ReaderPool(reading, readers or os.cpu_count() or 1) as pool:
            if look_again:

                def looked(done: int, total: int) -> None:
                    progress(Progress(done, total, 0, 0))

                find_stale(self._store, self._files, pool, made["regions"], looked)
            report = run.run(plan.files, pool, metadata=fields, gone=gone, retry=retry)
        for path in plan.unnamed:
            name = str(path).encode(errors="backslashreplace").decode()
            report.failed.append(Failure(name, None, "open", "its name is not UTF-8; rename the file"))
        return report

    def estimate(
        self,
        *paths: str | os.PathLike[str],
        languages: Sequence[str] | None = None,
        ocr_engine: OcrEngine | None = None,
        readers: int | None = None,
        password: str | None = None,
        item_per_folder: bool = False,
        text: str | Sequence[str] = (),
        image: str | Sequence[str] = (),
        look_settings: LookSettings | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> Estimate:
        """What `ingest` of these paths into an empty library would take; nothing is stored.

        Args:
            paths: As `ingest`, like the others.
            languages: As `ingest`.
            ocr_engine: As `ingest`.
            readers: As `ingest`.
            password: As `ingest`.
            item_per_folder: As `ingest`.
            text: As `ingest`.
            image: As `ingest`.
            look_settings: As `ingest`.
            say: As `ingest`.
        """
        from pagelens.estimating import estimate
        from pagelens.ingest.pool import ReaderPool

        plan = self._planner(say).plan(
            paths,
            languages=languages,
            ocr_engine=ocr_engine,
            password=password,
            item_per_folder=item_per_folder,
            text=_names(text),
            image=_names(image),
            look_settings=look_settings,
        )
        with ReaderPool(plan.reading, readers or os.cpu_count() or 1) as pool:
            return estimate(plan.files, pool, plan.encoders, plan.looks)

    def drop_encoder(self, name: str) -> None:
        """Take vectors out and free their space: of a visual encoder, a further text encoder, or added ones.

        Raises:
            UsageError: the library has no such encoder, or it is one tenant of several.
        """
        from pagelens.indexing import forget_encoder

        self._refresh()
        if self.place.tenant is not None:
            raise UsageError(
                f"{self.place}: other tenants may have vectors {name} too, and they go for all; "
                f"`pagelens weigh {name}=0` keeps it out of the order"
            )
        stored = vector_name(name)
        settings = self._settings
        if stored not in (known := [*settings.looks, *settings.texts, *settings.own]):
            has = ", ".join(known) or "none"
            raise UsageError(f"this library has no encoder {name!r} that could be taken out; it has {has}")

        def without(kept: Mapping[str, Any]) -> dict[str, Any]:
            return {name: each for name, each in kept.items() if name != stored}

        self._save(signatures=without(settings.signatures))  # first: from here on nothing asks for them
        forget_encoder(self._store, stored)
        looks = settings.looks.get(stored)
        self._store.drop([spec.name for spec in looks.specs] if looks else [stored])
        self._save(  # last: what was interrupted can be asked for again
            looks=without(settings.looks),
            texts=without(settings.texts),
            own=without(settings.own),
            weights=without(settings.weights),
        )
        self._store.optimize()

    def add(self, page_id: str, vectors: Mapping[str, Vector]) -> None:
        """Give a page vectors that somebody else made; `search(vectors=...)` asks them.

        A page that is read anew keeps them. One of a changed file is another page.

        Args:
            page_id: A page of the library.
            vectors: By names of one's own. *Shape:* (size,), or (rows, size) for MaxSim, both compared by
                cosine; or a `SparseVector`, by dot product. The first of a name says what the others are.

        Raises:
            UsageError: there is no such page, the name is taken or no name, or a vector is not finite or not
                like the others of its name.
        """
        self._refresh()
        vectors = {name: _own_vector(name, vector) for name, vector in vectors.items()}
        if not (there := self._store.retrieve([page_point_id(page_id)], payload=[])):
            raise UsageError(f"page {page_id} is not in this library; `pagelens pages` lists them")
        own = self._settings.own
        taken = {spec.name for spec in self._store.schema().vectors}.difference(own)
        specs = []
        for name, vector in vectors.items():
            if name in taken.union(self._searcher.stages).difference(own):
                raise UsageError(f"vectors {name!r} are the library's own; choose another name")
            specs.append(_spec_of(name, vector))
        given = Point(there[0].id, {}, dict(vectors))
        check_points([given], {spec.name: spec for spec in specs})  # before a name is taken for good
        self._store.declare(Schema(tuple(specs), {}))
        if new := {spec.name: spec.kind for spec in specs if spec.name not in own}:
            self._save(own={**own, **new})
        self._store.update([given])

    def check(self) -> Iterator[Finding]:
        """Hold points and page files against each other; see `checking.Finding`."""
        from pagelens.checking import check

        return check(self._store, self._files)

    def remove(self, *wanted: str | os.PathLike[str]) -> list[str]:
        """Take documents out, by `doc_id` or by a path they were seen under; their doc_ids.

        Raises:
            UsageError: no document has one of these names; nothing is taken out then.
        """
        from pagelens.indexing import remove_document

        documents = self._documents()
        gone: dict[str, None] = {}
        for each in wanted:
            names = {str(each), str(Path(each).resolve())}
            found = [
                point.payload["doc_id"]
                for point in documents
                if names & {point.payload["doc_id"], *self._paths(point)}
            ]
            if not found:
                raise UsageError(f"no document has the doc_id or path {each}; `pagelens pages` lists them")
            gone.update(dict.fromkeys(found))
        for doc_id in gone:
            remove_document(self._store, self._files, doc_id)
        if gone:
            self._store.optimize()
        return list(gone)

    # search

    def search(
        self,
        query: str = "",
        k: int = 10,
        filter: Mapping[str, Any] | None = None,
        stage: str | None = None,
        rerank: Cascade = "auto",
        rules: Sequence[Rule] = (),
        named_pages: bool = True,
        budget_ms: float | None = None,
        skip_margin: float | None = None,
        image: str | os.PathLike[str] | PIL.Image.Image | None = None,
        looks: bool = True,
        min_probability: float | None = None,
        has: Collection[str] = (),
        vectors: Mapping[str, Vector] | None = None,
    ) -> Hits:
        """The best `k` pages for a question, with the evidence on them.

        Args:
            query: In words; may be left out where an image is given.
            k: How many pages.
            filter: Which pages count; keys as in `records.Query`.
            stage: Stop at this one: a list alone (`"bm25"`, `"text"`, `"document"`, a visual encoder by its
                name), `"fused"`, `"rerank"`.
            rerank: `"auto"`: what the profile has; `light`'s is the evidence reranker on 50 pages. None: no
                one. A name, or several, each with how many pages it sees: `["evidence@100",
                "qwen3-vl-2b@20"]`. Names: `evidence`, a file of coefficients that `pagelens fit` wrote, one
                of `rerankers.VISION_LANGUAGE`, `text`, or a text cross-encoder's folder or name.
            rules: What comes last, such as `rules.one_per_document`, `rules.diverse()`, `rules.boost(...)`.
            named_pages: Whether a page number in the question ("on page 3") brings pages of that number up.
            budget_ms: See `searching.Limits`. What a page costs is measured before the first such search.
            skip_margin: See `searching.Limits`.
            image: A file or an image that pages should look like, for the library's visual encoders.
            looks: Whether these count at all; without them no model of theirs is loaded.
            min_probability: Of these only pages at least so likely to answer, which may be none. Pages that
                the reranker did not score have no probability.
            has: Only pages with a region of one of these kinds, of `records.REGION_KINDS`. It is shown, as
                are the regions that the question names ("who signed", "chart").
            vectors: To ask those of `add` with, by their names; each is a list more in the fusion. Of a
                multivector a matrix.

        Raises:
            UsageError: an empty question, an unknown filter, stage or reranker, an index made with another
                model, or a probability asked for without a calibration of exactly this reranker.
            Missing: a reranker's model or package is not there.
        """
        limits = Limits(budget_ms, skip_margin)
        self._refresh()
        if image is not None and not looks:
            raise UsageError("an image is asked by its looks: leave out --no-looks, looks=False")
        if has:
            filter = {**(filter or {}), "has": known(has)}
        look = looks if image is None else self._picture(image)
        calibrated = self._calibrated(stage, rerank, skip_margin, min_probability, bool(filter))
        found = self._find(query, k, filter, stage, rerank, rules, named_pages, limits, look, vectors)
        likely = calibrated.probabilities(found) if calibrated else {}
        if min_probability is not None:
            keep_likely(found, likely, min_probability)
        asked = (filter or {}).get("has", ())
        hits = self._showing.hits(
            found, likely, named(query).union([asked] if isinstance(asked, str) else asked)
        )
        notes = list(found.notes)
        if has and "layout" not in (made := self._settings.signatures.get("regions", "")):
            notes.append("regions of these pages were not looked for: `pagelens ingest` does")
        elif has and made.endswith(NO_LAYOUT):
            notes.append(
                "the layout model was not there, and without it most tables are missed: `make regions`"
            )
        if unfinished := self._unfinished():
            notes.append(f"{unfinished}; this answer is without")
        if query and hits and not any(hit.evidence for hit in hits):
            notes.append("no page found holds a word of the question: read with care")
        hits = [self._showing.seen(hit, found, query if image is None else "") for hit in hits]
        return Hits(query, self._profile_name, tuple(hits), found.timings, found.reranked, tuple(notes))

    def similar(self, page_id: str, k: int = 10, filter: Mapping[str, Any] | None = None) -> Hits:
        """The pages that look most like one of the library, best first; it is not among them.

        Raises:
            UsageError: there is no such page, or it has no vectors of a visual encoder.
        """
        self._refresh()
        names = self._ready_looks()
        points = self._store.retrieve([page_point_id(page_id)], [*names], payload=False)
        looks = {
            name: np.atleast_2d(vector)
            for point in points
            for name, vector in point.vectors.items()
            if isinstance(vector, np.ndarray)
        }
        if not looks:
            what = "is not in this library" if not points else "has no vectors of a visual encoder"
            cure = "`pagelens pages` lists them; `pagelens ingest PATH --image NAME` adds a visual encoder"
            raise UsageError(f"page {page_id} {what}; {cure}")
        found = self._searcher.search(Query("", dict(filter or {})), k + 1, look=looks)
        found.order = [each for each in found.order if each.id != points[0].id][:k]
        hits = [self._showing.seen(hit, found, "") for hit in self._showing.hits(found)]
        return Hits(f"pages that look like {page_id}", self._profile_name, tuple(hits), found.timings, {}, ())

    def rank(
        self,
        query: str,
        k: int = 100,
        filter: Mapping[str, Any] | None = None,
        stage: str | None = None,
        rerank: Cascade = "auto",
        rules: Sequence[Rule] = (),
        named_pages: bool = True,
        looks: bool = True,
    ) -> list[tuple[str, float]]:
        """Page ids and scores alone, best first: what an evaluation needs, without evidence.

        The order is that of `search`. Scores fall with it, for tools that sort by score: the last stage's as
        they are, those of a stage before moved below.
        """
        self._refresh()
        found = self._find(query, k, filter, stage, rerank, rules, named_pages, Limits(), looks).order
        points = self._store.retrieve([each.id for each in found], payload=["doc_id", "number"])
        ids = {p.id: f"{p.payload['doc_id']}#{p.payload['number']}" for p in points}
        scores = falling(found)
        return [(ids[each.id], score) for each, score in zip(found, scores, strict=True) if each.id in ids]

    def trace(
        self,
        query: str,
        k: int = 100,
        filter: Mapping[str, Any] | None = None,
        rerank: Cascade = "auto",
        named_pages: bool = True,
    ) -> Found:
        """All that one search saw, the pages by the ids of their points: what an evaluation reads.

        Every candidate is there with what each stage thought of it; `ranking.orders` reads the stages' own
        orders back.
        """
        self._refresh()
        return self._find(query, k, filter, None, rerank, (), named_pages, Limits())

    def candidates(self, query: str, k: int = 50, filter: Mapping[str, Any] | None = None) -> list[Candidate]:
        """The best `k` pages of the first stage as a reranker sees them, with what that stage thought."""
        order = self._searcher.search(Query(query, dict(filter or {})), k).order
        return [each for each in self._searcher.candidates(order) if each is not None]

    def reranker(self, name: str = "evidence") -> Reranker:
        """The reranker that `search` calls so; a model is loaded once."""
        if name == "evidence" or name.endswith(".json"):
            coefficients = Coefficients.load(None if name == "evidence" else Path(name))
            return EvidenceReranker(self._settings.languages, coefficients, self._searcher.idf)
        return self._loaded.reranker(name)

    def keep(self, calibration: Calibration) -> None:
        """From now on hits of exactly that reranker have a probability; one kept before is replaced."""
        self._refresh()
        kept = {**self._settings.calibrations, calibration.signature: calibration.as_dict()}
        self._save(calibrations=kept)

    def calibration(self, rerank: Cascade = "auto") -> Calibration | None:
        """What was kept (`keep`) for exactly the last of these rerankers; None: nothing."""
        found = choose_calibration(self._settings.calibrations, self.steps(rerank), needed=False)
        return found and found.calibration

    @property
    def weights(self) -> dict[str, float]:
        """Of every list in the fusion: those that `weigh` set, else 1 of text and low of all others."""
        settings = self._settings
        others = dict.fromkeys([*settings.looks, *settings.own], OTHER)
        return {**FUSION, **dict.fromkeys(settings.texts, 1.0), **others, **settings.weights}

    def weigh(self, weights: Mapping[str, float]) -> None:
        """Set how much lists count in the fusion, from now on.

        Args:
            weights: By the name of the list, at least 0; a list with 0 only names candidates.

        Raises:
            UsageError: there is no such list, or its weight is no such number.
        """
        self._refresh()
        known = self.weights
        for name, weight in weights.items():
            if vector_name(name) not in known:
                raise UsageError(f"there is no list {name!r} to weigh; there are {', '.join(known)}")
            if not 0 <= weight < math.inf:
                raise UsageError(f"the weight of {name} must be a number from 0, not {weight}")
        own = {vector_name(name): float(weight) for name, weight in weights.items()}
        self._save(weights={**self._settings.weights, **own})

    def steps(self, wanted: Cascade = "auto") -> list[Step]:
        """The rerankers that `search` would use, each with the weight those before it have for its score."""
        steps: list[Step] = []
        blend: Mapping[str, float] = {}
        for each in parse_cascade(PROFILES[self._profile_name].rerank if wanted == "auto" else wanted):
            if isinstance(each, Step):
                steps.append(each)
                continue
            name, depth = each
            reranker = self.reranker(name)
            steps.append(Step(reranker, depth, blend.get(reranker.name, BLEND)))
            if isinstance(reranker, EvidenceReranker):
                blend = reranker.coefficients.blend
        return steps

    def encoder(self, name: str) -> VisualEncoder:
        """The visual encoder that `ingest --image` calls so; loaded once."""
        return self._loaded.visual(name)

    def warm(
        self,
        rerank: str,
        page_ids: Collection[str] | None = None,
        cap: int | None = None,
        progress: Callable[[Warmed], None] = lambda _: None,
    ) -> Warmed:
        """Compute and keep what a reranker makes of pages alone, so that a search need not.

        Args:
            rerank: One that keeps features of pages: `jina-m0`, `nemotron-vl`, `qwen3-vl-2b`, `qwen3-vl-8b`.
            page_ids: These pages alone; default: all.
            cap: Bytes that such features may take in this library; the least recently used make room.
            progress: Called after every page.

        Raises:
            UsageError: the reranker keeps nothing.
            Missing: its model is not there.
            OSError: the disk is full.
        """
        from pagelens.warming import warm

        reranker = self._keeping(rerank)
        reranker.features.limit(cap)
        return warm(self._candidates(page_ids), reranker, progress)

    def estimate_warm(self, rerank: str, page_ids: Collection[str] | None = None) -> WarmEstimate:
        """What `warm` would take, were nothing kept yet.

        Raises:
            UsageError: the reranker keeps nothing.
            Missing: its model is not there.
        """
        from pagelens.warming import estimate_warm

        return estimate_warm(list(self._candidates(page_ids)), self._keeping(rerank))

    def image(self, page_id: str) -> PIL.Image.Image:
        """The page image, RGB."""
        import PIL.Image

        return PIL.Image.open(BytesIO(self._files.image(page_id))).convert("RGB")

    def words(self, page_id: str) -> PageText:
        """What was read on a page."""
        return self._files.text(page_id)

    # what is there

    def pages(self) -> Iterator[dict[str, Any]]:
        """One record a page, by document and number, as `pagelens pages --json` prints them."""
        return inventory.pages(self._store, self._paths)

    def failures(self) -> list[Failure]:
        """Files and pages that could not be read."""
        return inventory.failures(self._store, self._paths)

    def status(self) -> dict[str, Any]:
        """Counts, failures, missing files, signatures, bytes: what `pagelens status --json` prints."""
        return inventory.status(self._store, self._files, self._paths, self._settings)

    # inside

    @cached_property
    def _searcher(self) -> Searcher:
        if not self._settings.signatures:
            raise UsageError(f"{self.place} is empty; `pagelens ingest PATH` fills it")
        if self._wanted not in ("auto", self._profile_name):
            raise UsageError(
                f"this library was made with profile {self._profile_name}, not {self._wanted}; leave the "
                f"profile out, or ingest its files again with --profile {self._wanted}"
            )
        return Searcher(
            self._store,
            self._paths,
            self.image,
            self._encoders.sparse,
            self._encoders.texts,
            self._settings.metadata,
            self._encoders.looks,
            list(self._settings.own),
            self._counts,
            self.weights,
        )

    @cached_property
    def _encoders(self) -> QueryEncoders:
        return QueryEncoders(self._settings, self._loaded)

    @cached_property
    def _showing(self) -> Showing:
        looks = self._encoders.looks
        return Showing(self._searcher, looks, self._store, self._files, self._settings.languages)

    def _planner(self, say: Callable[[str], None]) -> Planner:
        """With the profile asked for; `auto` keeps the one a library was made with."""
        from pagelens.planning import Planner

        if self._wanted == "auto" and (before := self._settings.profile):
            profile, why = PROFILES[before], f"profile {before}, as this library has it"
        else:
            profile, why = choose(self._wanted, self._models)
        pages = self._store.count(Where({"kind": "page"}))
        return Planner(self._settings, self.place, self._roots, self._loaded, profile, why, pages, say)

    @property
    def _profile_name(self) -> str:
        return str(self._settings.profile)

    def _find(
        self,
        query: str,
        k: int,
        filter: Mapping[str, Any] | None,
        stage: str | None,
        rerank: Cascade,
        rules: Sequence[Rule],
        named_pages: bool,
        limits: Limits,
        look: PIL.Image.Image | bool = True,
        vectors: Mapping[str, Vector] | None = None,
    ) -> Found:
        """Every stage up to `stage`."""
        asked = Query(query, dict(filter or {}))
        stages = self._searcher.stages
        stage = None if stage is None else vector_name(stage)
        if stage is not None and stage in stages:
            return self._searcher.search(asked, k, stage, look=look, own=vectors)
        if stage not in (None, "rerank"):
            raise UsageError(f"there is no stage {stage!r}; choose one of {', '.join(stages)}, rerank")
        if not query.strip() and (vectors or not isinstance(look, bool)):
            found = self._searcher.search(asked, k, rules=rules, look=look, own=vectors)
            asked_with = "vectors" if vectors else "an image"
            found.notes.append(f"asked with {asked_with} alone: words count for nothing, and no reranker ran")
            return found
        steps = self.steps(rerank)
        if limits.budget_ms is not None:
            for step in steps:
                if isinstance(step.reranker, BudgetedReranker):
                    step.reranker.calibrate()  # before the clock starts
        if stage == "rerank":
            return self._searcher.search(asked, k, steps=steps, limits=limits, look=look, own=vectors)
        named = pages_named(query) if named_pages else ()
        all_rules = [*([on_named_pages(named)] if named else []), *rules]
        found = self._searcher.search(
            asked, k, steps=steps, rules=all_rules, limits=limits, look=look, own=vectors
        )
        if named:
            found.notes.append(
                f"the question names page {', '.join(map(str, named))}: pages of that number are brought up; "
                "--any-page or named_pages=False leaves them where they are"
            )
        return found

    def _keeping(self, name: str) -> Any:
        """A reranker that keeps features of pages."""
        reranker = self.reranker(name)
        if getattr(reranker, "features", None) is None:
            raise UsageError(f"{name} keeps nothing of a page; choose one of {', '.join(FAMILIES)}")
        return reranker

    def _candidates(self, page_ids: Collection[str] | None) -> Iterator[Candidate]:
        """All pages, or these, as a reranker sees them that needs no stages."""
        if page_ids is not None:
            ids = [page_point_id(each) for each in page_ids]
        else:
            ids = [page.id for page in self._store.scroll(Where({"kind": "page"}), payload=["doc_id"])]
        for start in range(0, len(ids), TOGETHER):
            some = [Ranked(id, 0.0, {}) for id in ids[start : start + TOGETHER]]
            yield from (each for each in self._searcher.candidates(some) if each is not None)

    def _calibrated(
        self,
        stage: str | None,
        rerank: Cascade,
        skip_margin: float | None,
        min_probability: float | None,
        filtered: bool,
    ) -> CalibratedStage | None:
        """What makes probabilities of a search's scores; None where nothing does, and none is needed."""
        kept, needed = self._settings.calibrations, min_probability is not None
        reranks = stage in (None, "rerank")
        if needed and (skip_margin is not None or not reranks):
            raise UsageError(
                "a page's probability comes from its reranker: leave out the skip margin, and the stage"
            )
        if not needed and not (kept and reranks):
            return None
        return choose_calibration(kept, self.steps(rerank), needed, filtered)

    def _picture(self, image: str | os.PathLike[str] | PIL.Image.Image) -> PIL.Image.Image:
        """An image to ask with.

        Raises:
            UsageError: it cannot be read, or this library has no visual encoder to ask.
        """
        import PIL.Image

        from pagelens.ingest.images import upright

        if not self._settings.looks:
            raise UsageError(
                "this library has no visual encoder to ask with an image; `pagelens ingest PATH --image "
                "colmodernvbert` adds one"
            )
        self._ready_looks()
        try:
            return upright(image if isinstance(image, PIL.Image.Image) else PIL.Image.open(image))
        except (OSError, ValueError, PIL.Image.DecompressionBombError) as error:
            raise UsageError(f"{image} cannot be read as an image ({error})") from error

    def _ready_looks(self) -> Collection[str]:
        """The visual encoders that can be asked.

        Raises:
            UsageError: there are some, and none can be.
        """
        ready = self._settings.ready_looks
        if self._settings.looks and not ready:
            raise UsageError(f"{self._unfinished()}; until then looks cannot be asked")
        return ready

    def _unfinished(self) -> str:
        """Which vectors are not whole, and what to do; empty if all are."""
        names = self._settings.unfinished
        made = "is" if len(names) == 1 else "are"
        return f"{', '.join(names)} {made} not whole yet: `pagelens ingest` goes on with it" if names else ""

    def _documents(self) -> list[Point]:
        return list(self._store.scroll(Where({"kind": "document"})))

    def _paths(self, point: Point) -> list[str]:
        return [str(self._roots.absolute(file.root, file.path)) for file in files_of(point.payload)]

    # settings

    def _refresh(self) -> None:
        """Take up what another process has changed: a long-lived library is not alone."""
        now = Settings.read(self._store)
        if now != self._settings:
            self._settings = now
            self._forget()

    def _forget(self) -> None:
        for made_of_settings in ("_searcher", "_encoders", "_showing"):
            self.__dict__.pop(made_of_settings, None)

    def _save(self, **changes: Any) -> None:
        self._refresh()  # only what is named changes
        home = str(self.place.folder) if self.place.folder else None
        page_files = None if home else self._settings.page_files or self._files.claim()
        self._settings = replace(self._settings, home=home, page_files=page_files, **changes)
        self._settings.write(self._store)
        self._forget()

    def _declare(self, fields: Mapping[str, FieldKind] = FIELDS) -> None:
        """Create the collection, or what it lacks of vectors and fields."""
        vectors = (
            VectorSpec("bm25", "sparse"),
            VectorSpec("document_bm25", "sparse"),
            VectorSpec("text", "multi", 384),
        )
        self._store.declare(Schema(vectors, fields))

    @cached_property
    def _roots(self) -> Roots:
        here = self.place.folder or Path("/")  # a server does not move with the files
        home = Path(self._settings.home or here) if self.place.folder else here
        return Roots(self._settings.roots, home, here)


def _names(given: str | Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _own_vector(name: str, vector: Vector | Sequence[Any]) -> Vector:
    """A vector that somebody made, as the store has it.

    Raises:
        UsageError: its name is no name, or it is none.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", name) or not is_list(name):
        raise UsageError(
            f"vectors cannot be called {name[:64]!r}: take up to 64 letters, digits, _, - and ., and no name "
            "of a stage"
        )
    if isinstance(vector, SparseVector):
        return vector
    try:
        found = np.asarray(vector, np.float32)
    except (TypeError, ValueError) as error:
        raise UsageError(f"vectors {name!r}: this is no array of numbers ({error})") from error
    if found.ndim not in (1, 2):
        raise UsageError(
            f"vectors {name!r}: an array of one or two dimensions was wanted, not of {found.ndim}"
        )
    return found


def _spec_of(name: str, vector: Vector) -> VectorSpec:
    """How a vector of somebody's own is kept."""
    if isinstance(vector, SparseVector):
        return VectorSpec(name, "sparse", idf=False)
    return VectorSpec(name, "dense" if vector.ndim == 1 else "multi", vector.shape[-1])
