"""A reranker's score to the probability that the page answers; good for exactly the model it was fitted to.

`pagelens calibrate` makes one (`calibrating`), the library's settings keep it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from pagelens.errors import UsageError
from pagelens.records import Stage
from pagelens.searching import Found, Step, stage_names

Method: TypeAlias = Literal["temperature", "Platt", "isotonic"]

NOTHING = "nothing relevant here"
"""How the note begins that a search has where no page is likely enough."""
_SURE = 1e-6
"""A probability is kept so far from 0 and 1: a sigmoid in 16 bits reaches them."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """A function that never falls, from a score to a probability."""

    signature: str
    """Of what it was fitted to, see `signature_of`."""
    method: Method
    log_odds: bool
    """Whether the scores are probabilities already, which are taken as their log odds."""
    slope: float = 1.0
    shift: float = 0.0
    """`sigmoid(slope * score + shift)`: slope is 1 / temperature, and only Platt's way has a shift."""
    knots: tuple[tuple[float, float], ...] = ()
    """Score and probability, between them straight lines: the isotonic way."""
    fitted_to: tuple[str, ...] = ()
    """Digests of the questions; figures on these say little."""

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """*Shape:* that of `scores`."""
        values = log_odds(scores) if self.log_odds else np.asarray(scores, float)
        if self.knots:
            xs, ys = np.transpose(self.knots)
            return np.asarray(np.interp(values, xs, ys))
        return sigmoid(self.slope * values + self.shift)

    def as_dict(self) -> dict[str, Any]:
        """What `read` reads."""
        return {**asdict(self), "knots": [list(knot) for knot in self.knots], "fitted_to": [*self.fitted_to]}

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Calibration:
        """From `as_dict`."""
        knots = tuple((x, y) for x, y in record["knots"])
        return cls(**{**record, "knots": knots, "fitted_to": tuple(record.get("fitted_to", ()))})


def sigmoid(values: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), which never overflows."""
    return 0.5 * (1 + np.tanh(np.asarray(values, float) / 2))


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """The inverse of `sigmoid`."""
    inside = np.clip(np.asarray(probabilities, float), _SURE, 1 - _SURE)
    return np.asarray(np.log(inside) - np.log1p(-inside))


class CalibratedStage(NamedTuple):
    """The last reranker of a cascade and its calibration."""

    stage: str
    reranker: str
    """Its name."""
    calibration: Calibration

    def probabilities(self, found: Found) -> dict[str, float]:
        """Of the pages that it scored, by the ids of their points; none where images were made smaller."""
        used = found.reranked.get(self.stage)
        if used is not None and used.pages.get("smaller"):
            return {}
        pages = {page.id: page.stages[self.stage] for page in found.order if self.stage in page.stages}
        scores = np.array([own_score(each, self.reranker) for each in pages.values()])
        return dict(zip(pages, map(float, self.calibration.probabilities(scores)), strict=True))


def is_relative(step: Step) -> bool:
    """Whether the scores of a step hang on the other pages that it sees."""
    return "list" in step.reranker.needs


def choose_calibration(
    kept: Mapping[str, Mapping[str, Any]], steps: Sequence[Step], needed: bool, filtered: bool = False
) -> CalibratedStage | None:
    """The calibration of exactly the last of these rerankers.

    Args:
        kept: All there are, by signature.
        steps: Of the search.
        needed: Whether its lack is an error.
        filtered: Whether the search sees some of the pages only: what compares pages with each other was
            calibrated among all.

    Raises:
        UsageError: it is needed and not there.
    """
    signature = signature_of(steps[-1]) if steps else None
    if steps and filtered and is_relative(steps[-1]):
        if needed:
            raise UsageError(
                f"{steps[-1].reranker.name} compares pages with each other: among those that a filter leaves "
                "its scores are no probabilities. Leave out the filter or the least probability, or rerank "
                "by a model that scores each page alone"
            )
        return None
    if signature is not None and signature in kept:
        last = stage_names(steps)[-1]
        return CalibratedStage(last, steps[-1].reranker.name, Calibration.read(kept[signature]))
    if not needed:
        return None
    if not steps:
        raise UsageError("a page's probability comes from its reranker; name one with --rerank")
    others = f"; there is one for {', '.join(sorted(kept))}" if kept else ""
    raise UsageError(
        f"there is no calibration of {signature or steps[-1].reranker.name}, which orders the pages here"
        f"{others}. A score of another model says nothing of a page's probability: `pagelens calibrate "
        "--queries Q.jsonl --qrels QRELS` with the same --rerank makes one"
    )


def keep_likely(found: Found, likely: Mapping[str, float], least: float) -> None:
    """Leave only pages that are at least so likely; if there are none, say so.

    Raises:
        UsageError: no page has a probability, because images were made smaller for a budget.
    """
    if found.order and not likely:
        raise UsageError(
            "no page was scored as the calibration has it: the budget is too small, or made the images "
            "smaller; give a larger --budget-ms, or leave out --min-probability"
        )
    best = max(likely.values(), default=0.0)
    found.order = [page for page in found.order if likely.get(page.id, 0.0) >= least]
    if likely and not found.order:
        found.notes.append(
            f"{NOTHING}: the likeliest page answers with probability {best:.2f}, {least:g} is "
            "the least that counts"
        )


def signature_of(step: Step) -> str | None:
    """All that shapes the scores of a step; None where its reranker does not say that.

    The reranker's own signature (model, revision, type, prompt, size of images), and where its scores hang on
    the other pages, how many it sees.
    """
    own = getattr(step.reranker, "signature", None)
    return f"{own} of {step.depth} pages" if own and is_relative(step) else own


def own_score(stage: Stage, name: str) -> float:
    """What a reranker itself said of a page: not blended with the stage before."""
    blended = stage.features.get(name)
    return stage.score if blended is None else blended.value
