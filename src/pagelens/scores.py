"""Scores on one scale: what may be added up."""

from __future__ import annotations

import math
from collections.abc import Sequence


def standardised(values: Sequence[float]) -> list[float]:
    """With mean 0 and standard deviation 1; zeros when they are all the same.

    The sums are exact (`math.fsum`), so that the order of the values does not change a digit.

    >>> standardised([1.0, 3.0]), standardised([2.0, 2.0])
    ([-1.0, 1.0], [0.0, 0.0])
    """
    if not values:
        return []
    mean = math.fsum(values) / len(values)
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))
    if spread <= 1e-12 * max(1.0, *map(abs, values)):  # rounding is not a difference
        return [0.0] * len(values)
    return [(value - mean) / spread for value in values]
