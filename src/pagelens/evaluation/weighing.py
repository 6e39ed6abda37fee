"""How much each list should count in the fusion, read off the scores that were stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from pagelens.evaluation.significance import Difference, compare
from pagelens.evaluation.sweeping import Quality, chosen_elsewhere
from pagelens.evaluation.verdict import SURE
from pagelens.ranking import OTHER, fuse

Lists: TypeAlias = Mapping[str, Mapping[str, float]]
"""Of one question: list -> point id -> score."""
WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0)


class ListWeight(NamedTuple):
    """One list of the fusion, the others as they are."""

    name: str
    used: float
    best: float
    """Of `WEIGHTS` and the one used, on these questions."""
    gain: Difference
    """Over the weight used; each fold of documents by the weight that is best on the others."""
    p: float
    """Of the gain, corrected for the number of lists (Bonferroni)."""

    @property
    def pays(self) -> bool:
        """Whether the gain is more than luck."""
        return self.best != self.used and self.gain.low > 0 and self.p < SURE


def fused_order(lists: Lists, weights: Mapping[str, float]) -> list[str]:
    """The candidates of one question in the order of the fusion."""
    scored = fuse(lists, weights)
    return sorted(scored, key=lambda id: (-scored[id].score, id))


def list_weights(
    lists: Sequence[Lists], weights: Mapping[str, float], quality: Quality, groups: np.ndarray
) -> list[ListWeight]:
    """Each list at other weights.

    Args:
        lists: One a question.
        weights: That were used, by list.
        quality: What makes an order good.
        groups: See `significance.clusters`.
    """
    names = list(dict.fromkeys(name for each in lists for name, scores in each.items() if scores))
    if len(names) < 2:
        return []

    def at(name: str, weight: float) -> np.ndarray:
        return quality([fused_order(each, {**weights, name: weight}) for each in lists])

    found = []
    for name in names:
        used = weights.get(name, OTHER)
        tried = sorted({*WEIGHTS, used})
        values = {weight: at(name, weight) for weight in tried}
        chosen = chosen_elsewhere(np.array([values[weight] for weight in tried]), values[used], groups)
        gain = compare(values[used], chosen, groups)
        best = max(tried, key=lambda weight: (round(float(values[weight].mean()), 9), weight == used))
        found.append(ListWeight(name, used, best, gain, min(1.0, gain.p * len(names))))
    return found
