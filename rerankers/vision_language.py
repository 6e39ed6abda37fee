"""Vision-language rerankers: question and page image read together by one model.

What the three families share: what counts as a page, the work that depends on the page alone and is kept,
batches by visual tokens, a budget. The families themselves are `jina_m0`, `nemotron_vl` and `qwen3_vl`: a
prompt, a head, and published constants.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol, TypeAlias

import PIL.Image
import torch
from torch import Tensor

from pagelens.backbones.batches import THREADS, Batches
from pagelens.backbones.prompts import Part, Prompt, PromptTokenizer, Vision
from pagelens.backbones.qwen_vl import Prefix
from pagelens.errors import DocumentError, UsageError
from pagelens.records import Candidate, Opinion, PageContent, Prepared, Query
from pagelens.rerankers.budget import Costs, Phase, what_fits
from pagelens.rerankers.features import Features, Key, PageFeatures

logger = logging.getLogger(__name__)

Page: TypeAlias = Candidate | PageContent | PIL.Image.Image | str | Mapping[str, Any]
"""What is scored: a page, an image, a text, or `{"image": ..., "text": ...}`."""
Question: TypeAlias = Query | str | PIL.Image.Image

DPI = 150.0
"""Of stored page images: what a page's size in pixels is guessed from before its image is opened."""
WINDOW = 128
"""Pages whose features are loaded or computed, and held in memory, at a time."""
RESUMED = 10
"""As many times the tokens go together where the beginning of a prompt is kept: little is computed then."""
UNTRIED = 4
"""Pages begun together within a budget while a part of the work, as loading features, was never measured."""
CALIBRATION = 0.25
"""Seconds: once a batch takes longer, the next would say nothing new."""


class Read(NamedTuple):
    """One side of the pair, as a prompt takes it in."""

    text: str = ""
    vision: Vision | None = None


class Body(Protocol):
    """A model without its head; see `backbones`."""

    tokenizer: PromptTokenizer
    device: torch.device
    dtype: torch.dtype

    def tokens(self, width: float, height: float, size: Any) -> int:
        """How many tokens an image of so many pixels is."""

    def prepare(self, image: PIL.Image.Image, size: Any) -> Any:
        """An image as the vision tower takes it in; on the CPU."""

    def look(self, images: Sequence[Any]) -> list[Vision]:
        """The vision tower on images together."""

    def read(self, prompts: Sequence[Prompt], after: Any = None) -> tuple[Tensor, Tensor]:
        """The language model: hidden states and mask."""


class Model(Protocol):
    """A family: prompt, head, constants."""

    name: str
    levels: tuple[str, ...]
    """Of page features that can be kept, the cheapest to use last: `vision`, `prefix`."""
    takes_both: bool
    """Whether a page may be an image and a text."""
    takes_image_query: bool
    sizes: tuple[Any, ...]
    """Of an image in tokens, as `Body.prepare` takes them: the published one first, smaller ones after."""
    prompt: str
    """Which prompt, for the signature."""
    max_tokens: int
    """Of a prompt."""
    max_query: int
    """Of a question."""
    keep_last: int
    """Tokens at the end of a prompt that stay when it is cut to `max_tokens`."""
    body: Any

    def whole(self, query: Read, page: Read) -> list[Part]:
        """The prompt."""

    def logits(self, states: Tensor, mask: Tensor) -> Tensor:
        """The head, in float32; its sigmoid is the score. *Shape:* (prompts,)."""


class PrefixModel(Model, Protocol):
    """One whose prompt begins with the page, so that what it makes of the page can be kept whole."""

    def beginning(self, page: Vision) -> list[Part]:
        """The page's part of the prompt."""

    def ending(self, query: Read) -> list[Part]:
        """The rest."""


@dataclass(slots=True)
class _Side:
    """A page as it was given: nothing of it opened yet."""

    text: str = ""
    open: Callable[[], PIL.Image.Image] | None = None
    key: Key | None = None
    """Of its features, where they can be kept."""
    pixels: tuple[float, float] = (0, 0)
    """Width and height of its image, about."""


@dataclass(slots=True)
class _Task:
    """A page on its way to a score."""

    side: _Side
    tokens: int
    """Of its image."""
    stored: str | None = None
    """Where features of it are."""
    pixels: Any = None
    features: Features | None = None
    level: str = "none"
    """Of features that were found stored."""
    score: float = math.nan
    problem: str = ""

    @property
    def length(self) -> int:
        """Tokens of its part of a prompt, about: four letters are one."""
        return self.tokens + len(self.side.text) // 4

    @property
    def opinion(self) -> Opinion:
        """What came of it."""
        return Opinion(self.score, level=self.level, problem=self.problem)


class VisionLanguageReranker:
    """Scores in 0..1, the sigmoid of the model's own; a page is its image unless said otherwise.

    Args:
        model: Prompt, head and body.
        signature: All that shapes a score: model, revision, type, prompt, size of images.
        features: Where features of pages are kept; None: nowhere, all is computed every time.
        level: Of these features, one of the model's `levels`.
        with_text: Give the words of a page beside its image, where the model takes both.
    """

    def __init__(
        self,
        model: Model,
        signature: str,
        features: PageFeatures | None = None,
        level: str = "vision",
        with_text: bool = False,
    ) -> None:
        if with_text and not model.takes_both:
            raise UsageError(f"{model.name} takes an image or a text, not both; leave the text out")
        self.name = model.name
        self.signature = signature
        self.needs = frozenset({"image", "text"} if with_text else {"image"})
        self.model: Any = model
        self.features = features
        self._level, self._with_text = level, with_text
        device = model.body.device
        self._batches = Batches(model.name, device)
        cuda = device.type == "cuda"
        self._costs = Costs((lambda: torch.cuda.synchronize(device)) if cuda else (lambda: None))

    # what it is asked

    def score(self, query: Question, candidates: Sequence[Page]) -> list[float]:
        """One score a candidate, 0..1; not a number where a page could not be read, which is logged.

        Args:
            query: A text, or an image where the model takes that.
            candidates: A `Candidate` or `PageContent` is scored by its image; others by what they are.

        Raises:
            UsageError: an empty or too long question, or a page of a kind that the model does not take.
        """
        scores = []
        for opinion in self.opinions(query, candidates):
            if opinion.problem:
                logger.warning("%s", opinion.problem)
            scores.append(opinion.score)
        return scores

    def opinions(self, query: Question, candidates: Sequence[Page]) -> list[Opinion]:
        """One opinion a candidate, with the level of the features that were found stored.

        Args:
            query: As `score`.
            candidates: As `score`.

        Raises:
            UsageError: as `score`.
        """
        question, size = self._question(query), self.model.sizes[0]
        tasks = [self._task(self._side(page), size) for page in candidates]
        with ThreadPoolExecutor(THREADS) as threads:
            self._answer(question, tasks, size, threads)
        return [task.opinion for task in tasks]

    def within(
        self, query: Question, candidates: Sequence[Page], milliseconds: float
    ) -> list[Opinion | None]:
        """As `opinions`, begun and ended within so many milliseconds; None for a page that was left out.

        No page is begun that does not fit. Where not all fit at the published size of images, all of them are
        made smaller if more fit then: scores of two sizes are not compared.

        Args:
            query: As `score`.
            candidates: The most promising first.
            milliseconds: From now.

        Raises:
            UsageError: as `score`.
        """
        self.calibrate()
        until = time.perf_counter() + milliseconds / 1000
        question = self._question(query)
        sides = [self._side(page) for page in candidates]
        asked = len(self._compose(self.model.whole(question, Read())))  # tokens beside those of the page
        size, tasks = self._affordable(sides, asked, until - time.perf_counter())
        waiting = tasks

        def work(task: _Task) -> dict[Phase, float]:
            return self._work(task, size, asked)

        with ThreadPoolExecutor(THREADS) as threads:
            while waiting:
                most = max(1, self._batches.tokens // max(1, *map(self._counted, waiting)))
                if not self._costs.measured(map(work, waiting)):
                    most = min(most, UNTRIED)
                batch = what_fits(waiting, work, self._costs, until - time.perf_counter(), most)
                if not batch:
                    break
                self._answer(question, batch, size, threads)
                waiting = [task for task in waiting if all(task is not begun for begun in batch)]
        return [None if any(task is each for each in waiting) else task.opinion for task in tasks]

    def score_pairs(self, pairs: Iterable[tuple[Question, Page]]) -> list[float]:
        """Scores of many pairs, page by page: each page prepared once, whatever number of questions it has.

        For evaluations: nothing is stored, and pages are held in memory one at a time. Pairs share a page
        when it has the same page id, or is the same object.

        Raises:
            UsageError: as `score`.
        """
        listed, size = list(pairs), self.model.sizes[0]
        questions: dict[Any, Read] = {}
        asked: list[Any] = []
        by_page: dict[Any, list[int]] = {}
        for place, (query, page) in enumerate(listed):
            key = query.text if isinstance(query, Query) else query if isinstance(query, str) else id(query)
            if key not in questions:
                questions[key] = self._question(query)
            asked.append(key)
            own = page.page.page_id if isinstance(page, Candidate | PageContent) else id(page)
            by_page.setdefault(own, []).append(place)
        scores = [math.nan] * len(listed)
        for places in by_page.values():
            side = self._side(listed[places[0]][1])
            side.key = None  # nothing is stored
            first = self._task(side, size)
            with ThreadPoolExecutor(1) as thread:
                list(self._obtain([first], size, thread))
            if (
                "prefix" in self.model.levels
                and isinstance(first.features, Vision)
                and self._batches.halving(self._make_prefixes, [first])
            ):
                first.problem = self._too_large(first)
            if first.problem:
                logger.warning("%s", first.problem)
                continue
            tasks = {place: replace(first) for place in places}
            self._read_all([(questions[asked[place]], task) for place, task in tasks.items()])
            for place, task in tasks.items():
                scores[place] = task.score
        return scores

    def prepare(self, pages: Iterable[Page]) -> Iterator[Prepared]:
        """Compute and keep for good the features of pages that are not kept yet; each page as it is done.

        Raises:
            UsageError: this reranker keeps no features.
            OSError: the disk is full.
        """
        if self.features is None:
            raise UsageError(f"this {self.name} keeps no features; load it with features='auto'")
        size = self.model.sizes[0]
        with ThreadPoolExecutor(THREADS) as threads:
            for window in _windows(pages, WINDOW):
                tasks = [self._task(self._side(page), size) for page in window]
                new = [t for t in tasks if t.side.key is not None and not self.features.on_disk(t.side.key)]
                for batch in self._obtain(new, size, threads, for_good=True):
                    for task in batch:
                        task.features = None
                for task in tasks:
                    page_id = task.side.key.page_id if task.side.key else ""
                    made = any(task is each for each in new) and not task.problem
                    yield Prepared(page_id, made, task.problem)

    def cost(self, pages: Sequence[Page]) -> tuple[float, int]:
        """Seconds and bytes of keeping the features of these pages; nothing is kept.

        Raises:
            UsageError: this reranker keeps no features.
        """
        if self.features is None:
            raise UsageError(f"this {self.name} keeps no features; load it with features='auto'")
        self.calibrate()
        size = self.model.sizes[0]
        tasks = [self._task(self._side(page), size) for page in pages]
        started = time.perf_counter()
        with ThreadPoolExecutor(THREADS) as threads:
            list(self._obtain(tasks, size, threads))
        seconds = time.perf_counter() - started
        made = [task.features for task in tasks if task.features is not None]
        return seconds, sum(map(self.features.packed_size, made))

    def calibrate(self) -> None:
        """Measure what a page costs here, once: needed before a budget can be kept."""
        if self._costs.known:
            return
        size = self.model.sizes[0]
        page, question = PIL.Image.new("RGB", (1240, 1754), "white"), Read("what does the page say?")  # A4
        with ThreadPoolExecutor(THREADS) as threads:
            # The first also wakes the device, and is forgotten. A device that is hardly busy with one page
            # says little of what ten take.
            for count in (1, 1, 2, 4, 8):
                if count == 1:
                    self._costs = Costs(self._costs.wait)
                started = time.perf_counter()
                tasks = [self._task(self._side(page), size) for _ in range(count)]
                list(self._obtain(tasks, size, threads))
                self._read_all([(question, task) for task in tasks])
                if self._level == "prefix" and self.features is not None:
                    self._make_prefixes(tasks)
                    self._read_all([(question, task) for task in tasks])
                if count > 1 and time.perf_counter() - started > CALIBRATION:
                    break

    # pages and questions

    def _question(self, query: Question) -> Read:
        if isinstance(query, PIL.Image.Image):
            if not self.model.takes_image_query:
                raise UsageError(f"{self.name} takes no image for a question; ask in words")
            size = self.model.sizes[0]
            return Read("", self.model.body.look([self.model.body.prepare(query, size)])[0])
        text = query.text if isinstance(query, Query) else query
        if not text.strip():
            raise UsageError("the question is empty; say what the page should be about")
        length = len(self.model.body.tokenizer.text_ids(text))
        if length > self.model.max_query:
            raise UsageError(
                f"the question is {length} tokens long, {self.name} reads {self.model.max_query}; "
                "ask a shorter one"
            )
        return Read(text)

    def _side(self, page: Page) -> _Side:
        match page:
            case Candidate():
                own = page.page
                key = Key(own.page_id, page.image_sha256) if page.image_sha256 else None
                text = page.text if self._with_text else ""
                return _Side(text, page.read_image, key, _pixels(own.width, own.height))
            case PageContent():
                own = page.page
                text = page.text.text if self._with_text else ""
                key = Key(own.page_id, hashlib.sha256(page.jpeg).hexdigest())
                return _Side(text, lambda: page.image, key, _pixels(own.width, own.height))
            case PIL.Image.Image():
                return _Side("", lambda: page, None, page.size)
            case str():
                return _Side(page)
            case {"image": PIL.Image.Image() as image, "text": str(text)}:
                if not self.model.takes_both:
                    raise UsageError(f"{self.name} takes an image or a text, not both; give one of them")
                return _Side(text, lambda: image, None, image.size)
            case {"image": PIL.Image.Image() as image}:
                return _Side("", lambda: image, None, image.size)
            case {"text": str(text)}:
                return _Side(text)
        raise UsageError(
            f"{self.name} scores a page, an image, a text or {{'image': ..., 'text': ...}}, "
            f"not {type(page).__name__}"
        )

    def _task(self, side: _Side, size: Any) -> _Task:
        tokens = self.model.body.tokens(*side.pixels, size) if side.open else 0
        task = _Task(side, tokens)
        if self.features is not None and side.key is not None and self._keeps(task, size):
            task.stored = self.features.where(side.key)
        return task

    # the work

    def _affordable(self, sides: Sequence[_Side], asked: int, seconds: float) -> tuple[Any, list[_Task]]:
        """The size of images at which most pages fit, of several the largest; the pages at that size.

        Features are kept at the published size alone: where they are, smaller images may well take longer.
        """
        most = -1
        for size in self.model.sizes:
            tasks = [self._task(side, size) for side in sides]
            work = [self._work(task, size, asked) for task in tasks]
            fits = len(what_fits(work, lambda own: own, self._costs, seconds, len(work)))
            if fits > most:
                best, most = (size, tasks), fits
            if fits == len(sides):
                break
        return best

    def _work(self, task: _Task, size: Any, asked: int) -> dict[Phase, float]:
        """What a page asks for, by phase; `asked`: tokens of a prompt beside those of the page."""
        read = task.length + asked
        if task.side.open is None:
            return {"read": read}
        if task.stored:
            load = {"load": 1.0} if task.stored != "device" else {}
            return load | ({"resume": 1.0} if self._level == "prefix" else {"read": read})
        work: dict[Phase, float] = {"prepare": 1.0, "look": task.tokens}
        if self._level == "prefix" and self._keeps(task, size):
            return work | {"keep": task.tokens, "resume": 1.0}
        return work | {"read": read}

    def _counted(self, task: _Task) -> int:
        """Of its tokens, how many count when a batch is made up."""
        resumed = isinstance(task.features, Prefix) or (self._level == "prefix" and task.stored)
        return task.length // RESUMED if resumed else task.length

    def _keeps(self, task: _Task, size: Any) -> bool:
        """Whether the page's features will be kept: at the published size alone."""
        return self.features is not None and task.side.key is not None and size == self.model.sizes[0]

    def _answer(self, question: Read, tasks: Sequence[_Task], size: Any, threads: ThreadPoolExecutor) -> None:
        """Obtain the features of pages, and read: each task gets its score, or its problem."""
        for batch in self._obtain(tasks, size, threads):
            self._read_all([(question, task) for task in batch if not task.problem])
            for task in batch:
                task.features = None

    def _obtain(
        self, tasks: Sequence[_Task], size: Any, threads: ThreadPoolExecutor, for_good: bool = False
    ) -> Iterator[list[_Task]]:
        """Pages in batches, as soon as their features are there: loaded where stored, else computed.

        Images are prepared by `threads` while the device is busy with those before them.
        """
        for window in _windows([task for task in tasks if task.stored], WINDOW):
            with self._costs.timed("load", len(window)):
                list(threads.map(self._load, window))
            there = [task for task in window if task.stored]
            if for_good:
                for task in there:
                    self._store(task, for_good)
            yield there
        yield [task for task in tasks if not task.side.open]
        new = [task for task in tasks if task.side.open and not task.stored]
        for ahead in self._batches.ahead(
            new, lambda task: task.tokens, lambda task: self._prepare(task, size), threads
        ):
            with self._costs.timed("prepare", len(ahead)):
                for _, coming in ahead:
                    coming.result()
            batch = [task for task, _ in ahead]
            self._compute([task for task in batch if task.pixels is not None], size, for_good)
            yield batch

    def _load(self, task: _Task) -> None:
        """Stored features; where they turn out to be damaged, they are not stored."""
        assert self.features is not None and task.side.key is not None  # or they would not be stored
        task.features = self.features.load(task.side.key)
        if task.features is None:
            task.stored = None
        else:
            task.level = self._level

    def _prepare(self, task: _Task, size: Any) -> None:
        """The image as the vision tower takes it in; what goes wrong is written down."""
        if size != self.model.sizes[0]:
            task.level = "smaller"
        assert task.side.open is not None  # or there would be nothing to prepare
        try:
            task.pixels = self.model.body.prepare(task.side.open(), size)
        except (DocumentError, OSError, ValueError, PIL.Image.DecompressionBombError) as error:
            where = f"page {task.side.key.page_id}: " if task.side.key else ""
            task.problem = f"{self.name} cannot look at a page: {where}{error}"

    def _compute(self, tasks: Sequence[_Task], size: Any, for_good: bool) -> None:
        """The features of a batch from its prepared images; kept in memory, and `for_good` as files."""

        def work(batch: Sequence[_Task]) -> None:
            # of those that were begun before, when memory ran out, something may be done already
            self._look([task for task in batch if task.features is None])
            kept = [task for task in batch if self._keeps(task, size)]
            if self._level == "prefix":
                self._make_prefixes([task for task in kept if isinstance(task.features, Vision)])
            for task in batch:
                task.pixels = None
            for task in kept:
                self._store(task, for_good)

        if tasks:
            for lost in self._batches.halving(work, tasks):
                lost.problem = self._too_large(lost)

    def _store(self, task: _Task, for_good: bool) -> None:
        assert self.features is not None and task.side.key is not None and task.features is not None
        self.features.store(task.side.key, task.features, for_good)

    def _look(self, tasks: Sequence[_Task]) -> None:
        if not tasks:
            return
        with self._costs.timed("look", sum(task.tokens for task in tasks)):
            seen = self.model.body.look([task.pixels for task in tasks])
        for task, vision in zip(tasks, seen, strict=True):
            task.features, task.tokens = vision, len(vision.tokens)

    def _make_prefixes(self, tasks: Sequence[_Task]) -> None:
        if not tasks:
            return
        prompts = [self.model.body.tokenizer.compose(self.model.beginning(task.features)) for task in tasks]
        with self._costs.timed("keep", sum(map(len, prompts))):
            for task, prefix in zip(tasks, self.model.body.keep(prompts), strict=True):
                task.features = prefix

    def _read_all(self, pairs: Sequence[tuple[Read, _Task]]) -> None:
        """The score of each page for its question; what memory does not hold is a problem of the page."""
        kept = [pair for pair in pairs if isinstance(pair[1].features, Prefix)]
        whole = [pair for pair in pairs if not isinstance(pair[1].features, Prefix)]
        for work, some in ((self._resume, kept), (self._read, whole)):
            for batch in self._batches.of(some, lambda pair: self._counted(pair[1])):
                for _, lost in self._batches.halving(work, batch):
                    lost.problem = self._too_large(lost)

    def _resume(self, pairs: Sequence[tuple[Read, _Task]]) -> None:
        """Pages whose part of the prompt is kept: the question alone is read."""
        asked = {id(query): query for query, _ in pairs}
        endings = {key: self._compose(self.model.ending(query)) for key, query in asked.items()}
        prompts = [endings[id(query)] for query, _ in pairs]
        with self._costs.timed("resume", len(pairs)):
            states, mask = self.model.body.read(prompts, [task.features for _, task in pairs])
            self._mark(pairs, states, mask)

    def _read(self, pairs: Sequence[tuple[Read, _Task]]) -> None:
        """Pages whose whole prompt is read."""
        prompts = []
        for query, task in pairs:
            assert not isinstance(task.features, Prefix)  # `_read_all` parted them
            prompts.append(self._compose(self.model.whole(query, Read(task.side.text, task.features))))
        with self._costs.timed("read", sum(map(len, prompts))):
            states, mask = self.model.body.read(prompts)
            self._mark(pairs, states, mask)

    def _mark(self, pairs: Sequence[tuple[Read, _Task]], states: Tensor, mask: Tensor) -> None:
        scores = torch.sigmoid(self.model.logits(states, mask)).tolist()
        for (_, task), score in zip(pairs, scores, strict=True):
            task.score = score

    def _compose(self, parts: Sequence[Part]) -> Prompt:
        """The prompt, cut where it is longer than the model reads: the end of the page's text goes."""
        prompt: Prompt = self.model.body.tokenizer.compose(parts)
        most, last = self.model.max_tokens, self.model.keep_last
        if len(prompt) > most:
            prompt.ids = prompt.ids[: most - last] + prompt.ids[len(prompt.ids) - last :]
            if any(
                place + len(vision.tokens) > most - last
                for place, vision in zip(prompt.places, prompt.visions, strict=True)
            ):
                raise UsageError(f"an image alone fills the {most} tokens that {self.name} reads")
        return prompt

    def _too_large(self, task: _Task) -> str:
        page = task.side.key.page_id if task.side.key else "a page"
        return f"{page}: the device's memory does not hold it beside {self.name}; take a smaller model"


def _pixels(width: float, height: float) -> tuple[float, float]:
    return max(1.0, width * DPI / 72), max(1.0, height * DPI / 72)


def _windows(items: Iterable[Any], most: int) -> Iterable[list[Any]]:
    iterator = iter(items)
    while window := list(itertools.islice(iterator, most)):
        yield window
