"""The search path, top to bottom: encode, candidates, exact scores, fusion, rerankers, rules.

Every list is asked by itself, so that a hit knows what each stage thought of it; fusion is ours.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import numpy as np

from pagelens.errors import UsageError
from pagelens.filters import PathsOf, where
from pagelens.looks import BLOCKS, POOLED
from pagelens.ranking import FUSION, Ranked, first_order, reorder
from pagelens.records import Candidate, Feature, Opinion, Query, Reranked, SparseVector
from pagelens.rules import STAGE as RULES
from pagelens.rules import Rule
from pagelens.scores import standardised
from pagelens.store.plan import ListQuery, Point, Store, Vector, Where
from pagelens.store.points import page_of, point_id, regions_of

if TYPE_CHECKING:
    import PIL.Image

CANDIDATES = 100
"""Of each list: recall@100 of the fused list is .940 on `mmdocir-dev` (`benchmarks/retrieval.py`)."""
FUSED = "fused"
"""The last of the first stage's orders; see `Searcher.stages` for those before. After it come those of
`stage_names`, and `rules.STAGE`."""
BLEND = 1.0
"""Weight of a reranker's standardised score beside that of the stage before, unless fitted."""


class SparseQueryEncoder(Protocol):
    """A question to its terms."""

    def encode_query(self, text: str) -> SparseVector | None:
        """None for a question of stop words."""


class TextQueryEncoder(Protocol):
    """A question to a matrix of one row, or to terms."""

    def encode_query(self, text: str) -> Vector | None:
        """*Shape:* (1, size), or sparse; None for a question without a term."""


class LooksQueryEncoder(Protocol):
    """A question, in words or as an image, to vectors that page images are near to."""

    late: bool

    def encode_query(self, query: str | PIL.Image.Image) -> np.ndarray:
        """*Shape:* (tokens, size); (1, size) where it is not `late`."""


@dataclass(frozen=True, slots=True)
class LooksCounts:
    """How many pages each step of late interaction sees; the next sees fewer and costs more a page.

    The defaults are from `benchmarks/first_stage.py`; `docs/encoders.md` has what others lose and cost.
    """

    nominated: int = 1000
    """Of all pages, compared by their blocks; beside what the other lists bring."""
    pooled: int = 1000
    """Of all candidates that are compared by their pooled vectors."""
    exact: int = 300
    """Of these, compared by all patches."""


class Reranker(Protocol):
    """Question and pages together, one score each; higher is better.

    `needs` names what it reads: `text`, `image`, `stages` (what the stages before thought), `list` (its
    scores hang on the other candidates). A member that reads the stages weighs them itself; any other is
    blended with the stage before it, never taken alone.
    """

    name: str
    needs: frozenset[str]

    def score(self, query: Query | str, candidates: Sequence[Candidate]) -> list[float]:
        """One score a candidate, in their order."""


@runtime_checkable
class ExplainingReranker(Protocol):
    """A reranker that can say why; the scores are those of `score`."""

    def opinions(self, query: Query | str, candidates: Sequence[Candidate]) -> list[Opinion]:
        """One opinion a candidate, in their order."""


@runtime_checkable
class BudgetedReranker(Protocol):
    """A reranker that knows what a page costs it on this machine."""

    signature: str

    def calibrate(self) -> None:
        """Measure that, once; takes seconds."""

    def opinions(self, query: Query | str, candidates: Sequence[Candidate]) -> list[Opinion]:
        """One opinion a candidate, in their order."""

    def within(
        self, query: Query | str, candidates: Sequence[Candidate], milliseconds: float
    ) -> list[Opinion | None]:
        """As `opinions`, in so many milliseconds; None for a page that did not fit."""


@dataclass(frozen=True, slots=True)
class Step:
    """One reranker of a cascade."""

    reranker: Reranker
    depth: int
    """How many pages it sees, from the top of the order before it."""
    weight: float = BLEND
    """Of its score beside the stage before it."""


def stage_names(steps: Sequence[Step]) -> list[str]:
    """What each reranker's stage is called."""
    return ["rerank"] if len(steps) == 1 else [f"rerank:{step.reranker.name}" for step in steps]


def is_list(stage: str) -> bool:
    """Whether a stage is a list by itself, a visual encoder's too: not their fusion, nor what comes after it.

    >>> [stage for stage in ("bm25", "colqwen2", "fused", "rerank:evidence", "rules") if is_list(stage)]
    ['bm25', 'colqwen2']
    """
    return stage != FUSED and not stage.startswith(("rerank", RULES))


Cascade: TypeAlias = str | Step | Sequence[str | Step] | None
"""`"auto"`, a name, several (`["evidence@50", "text@20"]`), or none."""
DEPTH = {"evidence": 50}
OTHER_DEPTH = 20
"""Pages that a member sees when nothing is said; a model costs far more a page than a few features."""


def parse_cascade(wanted: Cascade) -> list[Step | tuple[str, int]]:
    """Each reranker's name and how many pages it sees.

    >>> parse_cascade(["evidence@50", "text"])
    [('evidence', 50), ('text', 20)]
    >>> parse_cascade("evidence"), parse_cascade(None)
    ([('evidence', 50)], [])

    Raises:
        UsageError: the number of pages is none.
    """
    if wanted is None:
        return []
    steps: list[Step | tuple[str, int]] = []
    for each in [wanted] if isinstance(wanted, str | Step) else wanted:
        if isinstance(each, Step):
            steps.append(each)
            continue
        name, at, depth = each.rpartition("@")
        if not at:
            name, depth = depth, str(DEPTH.get(depth, OTHER_DEPTH))
        if not name or not depth.isdecimal() or int(depth) < 1:
            raise UsageError(f"rerank {each!r}: name a reranker and how many pages it sees, as evidence@50")
        steps.append((name, int(depth)))
    return steps


@dataclass(slots=True)
class Found:
    """What a search found, best first."""

    order: list[Ranked]
    beyond: list[Ranked] = field(default_factory=list)
    """The candidates after those asked for, in their order."""
    timings: dict[str, float] = field(default_factory=dict)
    """Milliseconds by step."""
    weights: Mapping[int, float] = field(default_factory=dict)
    """What each term of the question is worth: its idf; terms that no page holds are absent."""
    notes: list[str] = field(default_factory=list)
    reranked: dict[str, Reranked] = field(default_factory=dict)
    """By stage, of rerankers that keep features of pages."""
    stages: tuple[str, ...] = ()
    """Of the first stage, as `Searcher.stages`."""
    looks: dict[str, np.ndarray] = field(default_factory=dict)
    """What visual encoders made of the question, by their names."""


@dataclass(frozen=True, slots=True)
class Limits:
    """When reranking stops, or does not begin."""

    budget_ms: float | None = None
    """Milliseconds for the whole search. A reranker that knows its costs begins no page that does not fit."""
    skip_margin: float | None = None
    """By how many standard deviations, among the pages it would see, the best must lead for a reranker to be
    left out."""

    def left(self, started: float) -> float | None:
        """Milliseconds that remain of the budget; None without one."""
        if self.budget_ms is None:
            return None
        return self.budget_ms - (time.perf_counter() - started) * 1000


class Searcher:
    """The two stages and the rules.

    Args:
        store: What is searched.
        paths_of: The absolute paths a document's point was seen under.
        read_image: The page image of a page id, for rerankers that look at it.
        sparse: Encodes the question for `bm25` and `document`.
        texts: Gives text encoders by the name of their vectors, loaded when they are first needed.
        joined: Names of the metadata fields that pages can be filtered by.
        looks: Visual encoders by the name of their vectors.
        own: Names of vectors that somebody else made, asked only with a vector.
        counts: Of pages that late interaction sees.
        weights: Of the lists in the fusion; others have `ranking.OTHER`.
    """

    def __init__(
        self,
        store: Store,
        paths_of: PathsOf,
        read_image: Callable[[str], PIL.Image.Image],
        sparse: SparseQueryEncoder,
        texts: Mapping[str, Callable[[], TextQueryEncoder]] | None = None,
        joined: Sequence[str] = (),
        looks: Mapping[str, LooksQueryEncoder] | None = None,
        own: Sequence[str] = (),
        counts: LooksCounts | None = None,
        weights: Mapping[str, float] = FUSION,
    ) -> None:
        self._store, self._paths_of, self._read_image = store, paths_of, read_image
        self._sparse, self._texts, self._joined = sparse, texts or {}, joined
        self._looks, self._own, self._counts = looks or {}, own, counts or LooksCounts()
        self._weights = weights

    @property
    def stages(self) -> tuple[str, ...]:
        """Of the first stage: each list by its name, and last `fused`."""
        return ("bm25", *self._texts, "document", *self._looks, *self._own, FUSED)

    def search(
        self,
        query: Query,
        k: int,
        stage: str = FUSED,
        steps: Sequence[Step] = (),
        rules: Sequence[Rule] = (),
        limits: Limits | None = None,
        look: PIL.Image.Image | Mapping[str, np.ndarray] | bool = True,
        own: Mapping[str, Vector] | None = None,
    ) -> Found:
        """The best `k` pages.

        Args:
            query: The question and the pages that count.
            k: How many, at least 1.
            stage: Order the first stage by this, asking only what it needs.
            steps: Rerankers, in their order.
            rules: What comes after them, in their order.
            limits: Of time, and of doubt.
            look: What pages should look like: as the question says (True), as an image, as vectors of the
                encoders' own by their names; or looks do not count (False).
            own: Vectors to ask those with that somebody else made, by their names.

        Raises:
            UsageError: an empty question, an unknown filter or stage, a vector of another name or size.
        """
        asked, own = bool(query.text.strip()), own or {}
        if not asked and not own and (isinstance(look, bool) or not self._looks):
            raise UsageError("the question is empty; say what the page should be about")
        if stage not in self.stages:
            raise UsageError(f"there is no stage {stage!r} here; choose one of {', '.join(self.stages)}")
        if strange := set(own).difference(self._own):
            known = ", ".join(self._own) or "none"
            raise UsageError(f"no vectors {', '.join(sorted(strange))} were added here; there are {known}")
        if stage in self._own and stage not in own:
            raise UsageError(f"stage {stage!r} is asked with a vector: vectors={{{stage!r}: array}}")
        if stage in self._looks and look is False:
            raise UsageError(f"stage {stage!r} is asked by looks, and they are left out")
        if not asked and stage not in (FUSED, *self._looks, *self._own):
            raise UsageError(f"stage {stage!r} is asked in words; give a question")
        limits = limits or Limits()
        started, clock, found = time.perf_counter(), _Clock(), Found([], stages=self.stages)
        notes = found.notes
        among = where(query.filter, self._store, self._paths_of, self._joined)
        vectors: dict[str, Vector] = {}
        terms = self._sparse.encode_query(query.text) if asked else None
        if terms is not None:
            vectors["bm25"] = terms
        elif asked:
            notes.append("the question holds no word that is searched for, only such as stand on every page")
        for name, load in self._texts.items():
            if asked and stage in (name, FUSED):
                meaning = load().encode_query(query.text)
                vectors |= {} if meaning is None else {name: meaning}
        vectors |= own
        if stage in (FUSED, *self._looks):
            found.looks = self._questions(query.text, look, stage)
        late = {name: rows for name, rows in found.looks.items() if self._looks[name].late}
        vectors |= {name: rows[0] for name, rows in found.looks.items() if name not in late}
        vectors |= {name + BLOCKS: rows for name, rows in late.items()}
        clock.lap("encode")
        wanted = [
            name
            for name in vectors
            if stage in (name.removesuffix(BLOCKS), FUSED) or (stage == "document" and name == "bm25")
        ]
        fewest = {name + BLOCKS: max(self._counts.nominated, k * (stage == name)) for name in late}
        lists = self._lists(vectors, wanted, among, max(k, CANDIDATES), fewest)
        clock.lap("candidates")
        if late:
            nominated = [lists.pop(name + BLOCKS, {}) for name in late]
            candidates = _by_rank([*nominated, *lists.values()])[: max(self._counts.pooled, k)]
            lists |= self._compare(late, Where(ids=frozenset(candidates)), k if stage in late else 0)
            clock.lap("looks")
        if stage in ("document", FUSED) and terms is not None:
            self._complete(lists, vectors, terms)
        found.weights = self.idf(frozenset(terms.indices.tolist())) if terms else {}
        clock.lap("scores")
        order = first_order(lists, stage, self._weights)
        clock.lap("fusion")
        for step, name in zip(steps, stage_names(steps), strict=True):
            if _sure(order, step, limits.skip_margin):
                notes.append(f"{step.reranker.name} was left out: the best page leads by the margin set")
                continue
            order = self._rerank(query, order, step, name, limits.left(started), found)
            clock.lap(name)
        for rule in rules:
            order = rule(order, self._store)
        if rules:
            clock.lap("rules")
        found.order, found.beyond, found.timings = order[:k], order[k:], clock.laps
        return found

    def _questions(
        self, text: str, look: PIL.Image.Image | Mapping[str, np.ndarray] | bool, stage: str
    ) -> dict[str, np.ndarray]:
        """What every visual encoder that counts for `stage` makes of the question, by its name."""
        if isinstance(look, Mapping):
            return {name: rows for name, rows in look.items() if stage in (FUSED, name)}
        if look is False or (look is True and not text.strip()):
            return {}
        query = text if look is True else look
        return {
            name: encoder.encode_query(query)
            for name, encoder in self._looks.items()
            if stage in (FUSED, name)
        }

    def _compare(self, late: Mapping[str, np.ndarray], among: Where, k: int) -> dict[str, dict[str, float]]:
        """A list of late interaction for each encoder, by point id.

        Pages are first compared by their pooled vectors, and the best of those by all patches.

        Args:
            late: The question's vectors by encoder.
            among: The pages to compare.
            k: At least so many, whatever the counts.
        """
        count = max(k, self._counts.exact)
        seen, found = dict.fromkeys(late, among), {}
        for suffix in (POOLED, ""):
            queries = [ListQuery(name + suffix, rows, count, seen[name]) for name, rows in late.items()]
            for name, hits in zip(late, self._store.query(queries), strict=True):
                found[name] = {hit.id: hit.score for hit in hits}
                seen[name] = Where(ids=frozenset(found[name]))
        return found

    def idf(self, terms: frozenset[int]) -> dict[int, float]:
        """The collection's inverse document frequency of each term; terms that no page holds are absent.

        The store keeps its document frequencies to itself. A list for one term scores its first page with
        idf times the page's weight of the term, and the weight can be read.
        """
        asked = sorted(terms)
        one = np.ones(1, np.float32)
        queries = [
            ListQuery("bm25", SparseVector(np.array([term], np.uint32), one), 1, Where({"kind": "page"}))
            for term in asked
        ]
        best = {term: hits[0] for term, hits in zip(asked, self._store.query(queries), strict=True) if hits}
        ids = sorted({hit.id for hit in best.values()})
        pages = {p.id: p.vectors["bm25"] for p in self._store.retrieve(ids, ["bm25"], payload=False)}
        return {
            term: hit.score / _weight(pages[hit.id], term) for term, hit in best.items() if hit.id in pages
        }

    def candidates(self, order: Sequence[Ranked]) -> list[Candidate | None]:
        """The pages as a reranker sees them; None for one removed since the lists were asked."""
        points = {point.id: point for point in self._store.retrieve([page.id for page in order])}
        owners = sorted({point_id("document", point.payload["doc_id"]) for point in points.values()})
        documents = self._store.retrieve(owners, payload=["doc_id", "files"])
        paths = {point.payload["doc_id"]: self._paths_of(point)[0] for point in documents}
        return [self._candidate(points.get(page.id), page, paths) for page in order]

    def _candidate(self, point: Point | None, ranked: Ranked, paths: Mapping[str, str]) -> Candidate | None:
        if point is None or point.payload["doc_id"] not in paths:
            return None
        page = page_of(point.payload)
        return Candidate(
            page,
            paths[page.doc_id],
            point.payload["text"],
            ranked.stages,
            lambda: self._read_image(page.page_id),
            image_sha256=point.payload["digests"]["image"],
            regions=regions_of(point.payload),
        )

    def _lists(
        self,
        vectors: Mapping[str, Vector],
        wanted: Sequence[str],
        among: Where,
        limit: int,
        limits: Mapping[str, int],
    ) -> dict[str, dict[str, float]]:
        """Every list by point id, of `limit` pages but for those in `limits`; asked as one batch."""
        answers = self._store.query(
            [ListQuery(name, vectors[name], limits.get(name, limit), among) for name in wanted]
        )
        return {name: {hit.id: hit.score for hit in hits} for name, hits in zip(wanted, answers, strict=True)}

    def _complete(
        self, lists: dict[str, dict[str, float]], vectors: Mapping[str, Vector], terms: SparseVector
    ) -> None:
        """Exact scores of pages that only another list returned, and those of the pages' documents."""
        union = sorted({id for scores in lists.values() for id in scores})
        if not union:
            return
        owner = {p.id: p.payload["doc_id"] for p in self._store.retrieve(union, payload=["doc_id"])}
        queries, names = [], []
        for name, scores in lists.items():
            if name not in vectors:
                continue  # late interaction compares as many pages as it is told
            if missing := frozenset(union).difference(scores):
                queries.append(ListQuery(name, vectors[name], len(missing), Where(ids=missing)))
                names.append(name)
        documents = {point_id("document", doc_id): doc_id for doc_id in set(owner.values())}
        queries.append(ListQuery("document_bm25", terms, len(documents), Where(ids=frozenset(documents))))
        *more, scored = self._store.query(queries)
        for name, hits in zip(names, more, strict=True):
            lists[name].update({hit.id: hit.score for hit in hits})
        by_document = {documents[hit.id]: hit.score for hit in scored}
        lists["document"] = {id: by_document[doc] for id, doc in owner.items() if doc in by_document}

    def _rerank(
        self, query: Query, order: list[Ranked], step: Step, stage: str, left: float | None, found: Found
    ) -> list[Ranked]:
        """The order after one reranker; a page it has no number for stays below, and is named in the notes.

        It is shown pages that the stage before it saw, so that no two stages' scores are weighed together.
        """
        top = [page for page in order[: step.depth] if page.stage == order[0].stage]
        there = [(page, each) for page, each in zip(top, self.candidates(top), strict=True) if each]
        candidates = [each for _, each in there]
        if not candidates:
            return order
        reranker = step.reranker
        opinions: Sequence[Opinion | None]
        if isinstance(reranker, BudgetedReranker):
            if left is None:
                opinions = reranker.opinions(query, candidates)
            else:
                opinions = reranker.within(query, candidates, left)
            levels = Counter("left out" if each is None else each.level or "read" for each in opinions)
            found.reranked[stage] = Reranked(reranker.signature, dict(levels))
        elif isinstance(reranker, ExplainingReranker):
            opinions = reranker.opinions(query, candidates)
        else:
            opinions = [Opinion(score) for score in reranker.score(query, candidates)]
        sound = []
        for (page, candidate), opinion in zip(there, opinions, strict=True):
            if opinion is None:
                continue
            if math.isfinite(opinion.score):
                sound.append((page, opinion))
            else:
                reason = f" ({opinion.problem})" if opinion.problem else ""
                found.notes.append(
                    f"the reranker {reranker.name} gave no number for {candidate.path}, page "
                    f"{candidate.page.number + 1}{reason}: it stands below what was reranked"
                )
        if (late := sum(opinion is None for opinion in opinions)) == len(opinions):
            found.notes.append(f"no page fitted the budget of {reranker.name}: the order is that before it")
        elif late:
            found.notes.append(
                f"{late} of {len(opinions)} pages did not fit the budget of {reranker.name} and stand below, "
                "in the order they had"
            )
        if "stages" not in step.reranker.needs:
            sound = _blended(sound, step)
        return reorder(order, stage, {page.id: opinion for page, opinion in sound})


def _sure(order: Sequence[Ranked], step: Step, margin: float | None) -> bool:
    """Whether the best page leads the second so far that the step may be left out."""
    top = [page.score for page in order[: step.depth] if page.stage == order[0].stage]
    if margin is None or len(top) < 2:
        return False
    best, second, *_ = standardised(top)
    return best - second >= margin


def _blended(seen: list[tuple[Ranked, Opinion]], step: Step) -> list[tuple[Ranked, Opinion]]:
    """Each opinion added to the score of the stage before, both standardised among the pages seen."""
    before = standardised([page.score for page, _ in seen])
    own = standardised([opinion.score for _, opinion in seen])
    blended = []
    for (page, opinion), old, new in zip(seen, before, own, strict=True):
        features = {
            page.stage: Feature(page.score, old),
            step.reranker.name: Feature(opinion.score, step.weight * new),
        }
        blended.append((page, opinion._replace(score=old + step.weight * new, features=features)))
    return blended


def _weight(vector: Vector, term: int) -> float:
    assert isinstance(vector, SparseVector)
    return float(vector.values[vector.indices == term][0])


def _by_rank(lists: Sequence[Mapping[str, float]]) -> list[str]:
    """The ids of all lists: the best of each, then the second of each, and so on; each once."""
    ranks: dict[str, tuple[int, str]] = {}
    for scores in lists:
        for rank, id in enumerate(sorted(scores, key=lambda id: (-scores[id], id))):
            ranks[id] = min(ranks.get(id, (rank, id)), (rank, id))
    return sorted(ranks, key=lambda id: ranks[id])


class _Clock:
    """Milliseconds between one lap and the next."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round((now - self._last) * 1000, 3)
        self._last = now
