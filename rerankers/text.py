"""The text cross-encoder: question and words of the page read together by a small language model.

Any model that sentence-transformers loads as a `CrossEncoder`. A page longer than its window is read in
overlapping passages; the page is worth its best passage, and that passage is the evidence.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pagelens.errors import Missing, UsageError
from pagelens.records import Candidate, Opinion, Query
from pagelens.rerankers.budget import Costs, what_fits
from pagelens.weights import locate

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

DEFAULT = "cross-encoder/ms-marco-MiniLM-L6-v2"
"""What `text` stands for: 91 MB, Apache-2.0, English, made for a CPU."""
PASSAGE = 256
"""Tokens of a page in one passage at most, also where a model takes thousands: a passage that fills the page
would be no evidence."""


class TextReranker:
    """Scores are the model's own, one a page; higher is better.

    Args:
        model: Loaded; its tokenizer and its window are used.
        name: What people call it.
        batch: Passages computed together, of like length.
        revision: Of its weights.
    """

    needs = frozenset({"text"})

    def __init__(
        self, model: CrossEncoder, name: str = "text", batch: int = 16, revision: str | None = None
    ) -> None:
        self.name = name
        self.signature = f"{name} {revision}" if revision else name
        self._model, self._batch = model, batch
        self._costs = Costs()

    @classmethod
    def load(cls, name: str, models: Path | None = None) -> TextReranker:
        """The model called so: `text`, a folder, or a repository on the Hugging Face hub.

        Args:
            name: A repository is first looked for as a folder of its last part below `models`.
            models: Default `$PAGELENS_MODELS`.

        Raises:
            Missing: sentence-transformers is not installed, or the model is nowhere to be had.
        """
        from pagelens.backbones.checkpoints import fingerprint

        try:
            from sentence_transformers import CrossEncoder
        except ImportError as error:
            raise Missing(
                "reranking by a cross-encoder needs sentence-transformers: pip install 'pagelens[rerank]'"
            ) from error
        repository = DEFAULT if name == "text" else name
        folder = locate(repository, repository, None, models)
        try:
            # Code of a model's repository is never run, and a pickle is never opened.
            model = CrossEncoder(
                str(folder),
                trust_remote_code=False,
                local_files_only=True,
                model_kwargs={"use_safetensors": True},
            )
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise Missing(f"the cross-encoder in {folder} cannot be loaded ({reason})") from error
        return cls(model, name, revision=fingerprint(folder))

    def score(
        self, query: Query | str, candidates: Sequence[Candidate | str | Mapping[str, Any]]
    ) -> list[float]:
        """One score a candidate; plain texts and `{"text": ...}` are candidates too."""
        return [opinion.score for opinion in self.opinions(query, candidates)]

    def opinions(
        self, query: Query | str, candidates: Sequence[Candidate | str | Mapping[str, Any]]
    ) -> list[Opinion]:
        """One opinion a candidate: its best passage and what that is worth.

        A page without words is read as an empty passage.

        Raises:
            UsageError: a candidate has no text, or the question alone fills the model's window.
        """
        question = query if isinstance(query, str) else query.text
        pages = [_text(candidate).split() for candidate in candidates]
        passages = [
            (page, span) for page, words in enumerate(pages) for span in self._passages(question, words)
        ]
        if not passages:
            return []
        pairs = [(question, " ".join(pages[page][span.start : span.stop])) for page, span in passages]
        scores = self._model.predict(pairs, batch_size=self._batch, show_progress_bar=False)
        best: dict[int, Opinion] = {}
        for (page, span), score in zip(passages, scores.tolist(), strict=True):
            # Not-a-number stays: it must not hide behind another passage.
            if page not in best or math.isnan(score) or score > best[page].score:
                best[page] = Opinion(float(score), passage=span)
        return [best[page] for page in range(len(pages))]

    def within(
        self,
        query: Query | str,
        candidates: Sequence[Candidate | str | Mapping[str, Any]],
        milliseconds: float,
    ) -> list[Opinion | None]:
        """As `opinions`, begun and ended within so many milliseconds; None for a page that was left out.

        Raises:
            UsageError: as `opinions`.
        """
        self.calibrate()
        until = time.perf_counter() + milliseconds / 1000
        answers: list[Opinion | None] = [None] * len(candidates)
        waiting = list(range(len(candidates)))
        words = [len(_text(candidate).split()) + 1 for candidate in candidates]
        while waiting:
            left = until - time.perf_counter()
            batch = what_fits(waiting, lambda page: {"read": words[page]}, self._costs, left, self._batch)
            if not batch:
                break
            with self._costs.timed("read", sum(words[page] for page in batch)):
                found = self.opinions(query, [candidates[page] for page in batch])
            for page, opinion in zip(batch, found, strict=True):
                answers[page] = opinion
            waiting = [page for page in waiting if page not in batch]
        return answers

    def calibrate(self) -> None:
        """Measure what a word costs here, once: needed before a budget can be kept."""
        if self._costs.known:
            return
        self.opinions("what does it say?", ["a page"])  # wakes the model
        for count in (100, 400):
            with self._costs.timed("read", count):
                self.opinions("what does it say?", ["word " * count])

    def _passages(self, question: str, words: Sequence[str]) -> list[range]:
        """Spans of words that fit beside the question, each half over the one before."""
        tokenizer = self._model.tokenizer
        if not words:
            return [range(0)]
        lengths = [len(ids) for ids in tokenizer(list(words), add_special_tokens=False)["input_ids"]]
        alone = len(tokenizer(question, add_special_tokens=False)["input_ids"])
        alone += tokenizer.num_special_tokens_to_add(pair=True)
        window = self._model.max_seq_length or tokenizer.model_max_length
        room = min(PASSAGE, window - alone)
        if room < 1:
            raise UsageError(
                f"the question is {alone} tokens long, {self.name} reads {window} in all; ask a shorter one"
            )
        spans = []
        start = 0
        while True:
            stop, used = start, 0
            while stop < len(words) and (stop == start or used + lengths[stop] <= room):
                used += lengths[stop]
                stop += 1
            spans.append(range(start, stop))
            if stop == len(words):
                return spans
            start += max(1, (stop - start) // 2)


def _text(candidate: Candidate | str | Mapping[str, Any]) -> str:
    match candidate:
        case str():
            return candidate
        case Candidate():
            return candidate.text
        case {"text": str(text)}:
            return text
    raise UsageError(f"the text cross-encoder needs a text, not {type(candidate).__name__}")
