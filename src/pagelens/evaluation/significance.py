"""Whether a difference between two orders is more than the luck of the questions.

Everything here is paired and clustered: what is drawn anew, or turned round, is a document with all its
questions. They share its scan, its layout and its words, so they are not independent; and the translations of
one question, which have the same answer, stay together.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pagelens.errors import Missing

SAMPLES = 10_000
LEVEL = 0.95
POWER = 0.8
"""With which the smallest detectable difference would be detected."""
AT_ONCE = 4_000_000
"""Numbers drawn before they are summed up: what bounds the memory."""


class Interval(NamedTuple):
    """A mean and where it lies with 95%."""

    mean: float
    low: float
    high: float


class Difference(NamedTuple):
    """One measure of two orders, question by question."""

    mean: float
    low: float
    high: float
    """95% interval of the mean."""
    p: float
    """Of the randomisation test, two-sided."""
    detectable: float
    """The smallest true difference that so many questions would show 4 times of 5 (`detectable`)."""
    wins: int
    ties: int
    losses: int


def clusters(homes: Sequence[Collection[str]]) -> np.ndarray:
    """A number a question; the same where two share a document, be it through a third.

    Args:
        homes: The documents with the answer of each question; with none, a question stands alone.

    Returns:
        From 0, in the order of their first question. *Shape:* (questions,).

    >>> clusters([{"a"}, {"b", "c"}, {"a"}, set(), {"c"}]).tolist()
    [0, 1, 0, 2, 1]
    """
    parents: dict[object, object] = {}

    def root(one: object) -> object:
        while parents.setdefault(one, one) != one:
            one = parents[one]
        return one

    for number, home in enumerate(homes):
        for document in home:
            parents[root(document)] = root(number)
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(root(number), len(numbers)) for number in range(len(homes))], int)


def interval(values: Sequence[float] | np.ndarray, groups: np.ndarray | None = None) -> Interval:
    """The mean of one number a question, and its 95% interval by the bootstrap over clusters.

    Args:
        values: *Shape:* (questions,).
        groups: See `clusters`; None: every question for itself.
    """
    return intervals(np.asarray(values, float)[:, None], groups)[0]


def intervals(values: np.ndarray, groups: np.ndarray | None = None, samples: int = SAMPLES) -> list[Interval]:
    """As `interval`, of many columns over the same draws. *Shape:* (questions, columns).

    Percentiles of the bootstrap (Efron 1979), set a little wider, because the spread of few clusters is
    underrated: `z` becomes `sqrt(n / (n - 1)) t`, with n - 1 degrees of freedom (Hesterberg, The American
    Statistician 2015, "expanded percentile interval"). With one cluster nothing is known: NaN.
    """
    means = values.mean(0)
    draws = _bootstrap(values, groups, samples)
    if draws is None:
        return [Interval(float(mean), math.nan, math.nan) for mean in means]
    tail = _tail(_count(values, groups))
    low, high = np.percentile(draws, [100 * tail, 100 * (1 - tail)], axis=0)
    return [Interval(*map(float, each)) for each in zip(means, low, high, strict=True)]


def compare(
    before: np.ndarray, after: np.ndarray, groups: np.ndarray | None = None, samples: int = SAMPLES
) -> Difference:
    """How `after` does against `before`, one number a question each, *Shape:* (questions,)."""
    gains = np.asarray(after, float) - np.asarray(before, float)
    mean, low, high = intervals(gains[:, None], groups, samples)[0]
    return Difference(
        mean,
        low,
        high,
        randomisation(gains, groups, samples),
        detectable(gains, groups, samples),
        int((gains > 0).sum()),
        int((gains == 0).sum()),
        int((gains < 0).sum()),
    )


def randomisation(gains: np.ndarray, groups: np.ndarray | None = None, samples: int = SAMPLES) -> float:
    """How often chance alone makes a mean difference as large, two-sided (Fisher; Smucker et al., CIKM 2007).

    If both orders were as good, a cluster's differences could as well have the other sign. The order as it
    is counts as one of the samples, so that p is never 0.
    """
    sums, _ = _sums(gains[:, None], groups)
    observed = abs(sums.sum())
    draw, extreme, done = np.random.default_rng(0), 0, 0
    while done < samples:
        some = min(samples - done, max(1, AT_ONCE // len(sums)))
        signs = draw.integers(0, 2, (some, len(sums)), dtype=np.int8) * 2.0 - 1
        extreme += int((abs(signs @ sums[:, 0]) >= observed - 1e-12).sum())
        done += some
    return (1 + extreme) / (1 + samples)


def detectable(gains: np.ndarray, groups: np.ndarray | None = None, samples: int = SAMPLES) -> float:
    """The smallest true mean difference that a test at 5% would show with 80% power.

    `(t[.975] + t[.8])` standard errors, n - 1 degrees of freedom (Bloom, Evaluation Review 1995); that of the
    bootstrap is too small by `sqrt((n - 1) / n)`. NaN with one cluster, and where nothing differs: how much
    differences spread cannot be told from none.
    """
    if not np.any(gains):
        return math.nan
    draws = _bootstrap(np.asarray(gains, float)[:, None], groups, samples)
    if draws is None:
        return math.nan
    stats = _stats()
    number = _count(gains, groups)
    quantiles = stats.t.ppf((1 + LEVEL) / 2, number - 1) + stats.t.ppf(POWER, number - 1)
    return float(quantiles * draws.std() * math.sqrt(number / (number - 1)))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P values of several tests at once, corrected (Holm, Scandinavian Journal of Statistics 1979).

    >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
    {'a': 0.03, 'c': 0.06, 'b': 0.06}
    """
    corrected, largest = {}, 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[name]))
        corrected[name] = largest
    return corrected


def _bootstrap(values: np.ndarray, groups: np.ndarray | None, samples: int) -> np.ndarray | None:
    """Means of the columns over clusters drawn with replacement; None with one cluster.

    *Shape:* (samples, columns).
    """
    sums, sizes = _sums(values, groups)
    number = len(sizes)
    if number < 2:
        return None
    draw, means = np.random.default_rng(0), []
    for start in range(0, samples, max(1, AT_ONCE // number)):
        some = min(samples - start, max(1, AT_ONCE // number))
        drawn = draw.integers(0, number, (some, number)) + number * np.arange(some)[:, None]
        times = np.bincount(drawn.ravel(), minlength=some * number).reshape(some, number).astype(float)
        means.append((times @ sums) / (times @ sizes)[:, None])
    return np.concatenate(means)


def _sums(values: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Sums and sizes of the clusters."""
    if groups is None:
        return values, np.ones(len(values))
    sums = np.zeros((int(groups.max()) + 1, values.shape[1]))
    np.add.at(sums, groups, values)
    return sums, np.bincount(groups).astype(float)


def _count(values: np.ndarray, groups: np.ndarray | None) -> int:
    return len(values) if groups is None else int(groups.max()) + 1


def _tail(number: int) -> float:
    """The share of draws beyond each end of the interval."""
    stats = _stats()
    wide = math.sqrt(number / (number - 1)) * stats.t.ppf((1 - LEVEL) / 2, number - 1)
    return float(stats.norm.cdf(wide))


def _stats() -> Any:
    try:
        from scipy import stats
    except ImportError as error:
        raise Missing("intervals need scipy: pip install 'pagelens[eval]'") from error
    return stats
