"""Intervals and tests, against effects that were planted and against scipy."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.stats import permutation_test

from pagelens.errors import Missing
from pagelens.evaluation.significance import (
    clusters,
    compare,
    detectable,
    holm,
    interval,
    intervals,
    randomisation,
)

EFFECT = 0.05


def drawn(seed: int, documents: int = 25, effect: float = EFFECT) -> tuple[np.ndarray, np.ndarray]:
    """Differences whose mean is `effect`, and the document of each: of one document they are alike."""
    draw = np.random.default_rng(seed)
    groups = np.repeat(np.arange(documents), draw.integers(1, 12, documents))
    gains = effect + draw.normal(0, 0.1, documents)[groups] + draw.normal(0, 0.2, len(groups))
    return gains, groups


def test_the_interval_covers_the_mean_19_times_of_20() -> None:
    """With documents as clusters, over 1,000 simulations; ignoring them it would cover it far less often."""
    covered = np.zeros(2)
    for seed in range(1_000):
        gains, groups = drawn(seed)
        for number, by in enumerate((groups, None)):
            mean, low, high = intervals(gains[:, None], by, samples=1_000)[0]
            assert low < mean < high
            covered[number] += low <= EFFECT <= high
    assert 930 <= covered[0] <= 970
    assert covered[1] < 900


def test_the_interval_of_independent_questions() -> None:
    draw, covered = np.random.default_rng(3), 0
    for _ in range(1_000):
        _, low, high = intervals(draw.normal(0.1, 1, (20, 1)), samples=1_000)[0]
        covered += low <= 0.1 <= high
    assert 930 <= covered <= 970


def test_a_handful_of_documents_is_not_overrated() -> None:
    """Plain percentiles of six would cover 86 times of 100."""
    draw, covered = np.random.default_rng(4), 0
    for _ in range(1_000):
        _, low, high = intervals(draw.normal(0.1, 1, (6, 1)), samples=1_000)[0]
        covered += low <= 0.1 <= high
    assert 930 <= covered <= 970


def test_columns_have_the_intervals_they_would_have_alone() -> None:
    values = np.random.default_rng(0).random((40, 3))
    groups = np.arange(40) // 4
    for together, alone in zip(intervals(values, groups), values.T, strict=True):
        assert together == pytest.approx(interval(alone, groups))


def test_a_question_with_itself_counts_once() -> None:
    """Translations of one question are no further evidence."""
    gains, _ = drawn(1)
    once = interval(gains[:50], np.arange(50))
    twice = interval(np.repeat(gains[:50], 6), np.repeat(np.arange(50), 6))
    assert twice == pytest.approx(once)


def test_randomisation_is_scipy_s() -> None:
    """Eight clusters: scipy turns round each of the 256 ways."""
    draw = np.random.default_rng(5)
    groups = np.repeat(np.arange(8), [1, 2, 3, 4, 1, 2, 3, 4])
    gains = draw.normal(0.3, 0.5, len(groups))
    sums = np.bincount(groups, gains)
    exact = permutation_test(
        (sums,), lambda x, axis: x.sum(axis), permutation_type="samples", n_resamples=np.inf, vectorized=True
    ).pvalue
    assert randomisation(gains, groups) == pytest.approx(exact, abs=0.015)


def test_randomisation_cries_wolf_as_often_as_it_says_and_finds_what_is_there() -> None:
    false = [randomisation(*drawn(seed, effect=0.0), samples=500) < 0.05 for seed in range(400)]
    assert 0.02 <= np.mean(false) <= 0.08
    found = [randomisation(*drawn(seed, effect=0.15), samples=500) < 0.05 for seed in range(50)]
    assert np.mean(found) > 0.95


def test_the_smallest_detectable_difference_is_detected_4_times_of_5() -> None:
    sizes = [detectable(*drawn(seed, 60, 0.0), samples=500) for seed in range(50)]
    planted = float(np.median(sizes))
    found = [randomisation(*drawn(seed, 60, planted), samples=500) < 0.05 for seed in range(400)]
    assert 0.74 <= np.mean(found) <= 0.86


def test_holm_by_hand() -> None:
    assert holm({}) == {}
    assert holm({"a": 0.02, "b": 0.01, "c": 0.5}) == {"b": 0.03, "a": 0.04, "c": 0.5}
    assert holm({"a": 0.4, "b": 0.02, "c": 0.3}) == {"b": 0.06, "c": 0.6, "a": 0.6}


@pytest.mark.parametrize("seed", range(5))
def test_clusters_are_the_connected_components(seed: int) -> None:
    draw = np.random.default_rng(seed)
    homes = [set(map(str, draw.integers(0, 40, draw.integers(0, 3)))) for _ in range(60)]
    pairs = [(i, j) for i, a in enumerate(homes) for j, b in enumerate(homes) if a & b]
    rows, columns = zip(*pairs, strict=True)
    graph = coo_array((np.ones(len(pairs)), (rows, columns)), shape=(60, 60))
    _, expected = connected_components(graph, directed=False)
    found = clusters(homes)
    for i in range(60):
        np.testing.assert_array_equal(found == found[i], expected == expected[i])


def test_wins_ties_losses() -> None:
    found = compare(np.array([0.5, 0.5, 0.5, 1.0]), np.array([1.0, 0.5, 0.25, 1.0]))
    assert (found.wins, found.ties, found.losses) == (1, 2, 1)
    assert found.mean == pytest.approx(0.0625)


def test_one_cluster_tells_nothing() -> None:
    found = compare(np.zeros(3), np.ones(3), np.zeros(3, int))
    assert found.mean == 1.0 and np.isnan([found.low, found.high, found.detectable]).all()
    assert found.p == 1.0


def test_without_scipy_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(Missing, match=r"pip install 'pagelens\[eval\]'"):
        interval(np.arange(4.0))
