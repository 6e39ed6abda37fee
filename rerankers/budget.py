"""What work on a page costs on this machine: measured, and refined with every batch."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

FORGET = 0.8
"""Of what earlier batches said, at each new one: a machine's speed changes with what else runs on it."""
CAUTION = 1.15
"""A batch is started when this times its expected time is left."""

Phase = str
"""A kind of work: `load` (megabytes of stored features), `prepare` (images), `look`, `keep`, `read` (tokens),
`resume` (pages of which the beginning was kept)."""

Task = TypeVar("Task")


@dataclass(slots=True)
class Rate:
    """Seconds as a straight line over units of work, by least squares with forgetting.

    >>> rate = Rate()
    >>> for units in (1, 2, 4):
    ...     rate.observe(units, 0.5 + 0.1 * units)
    >>> round(rate.expect(10), 3)
    1.5
    """

    _n: float = 0.0
    _x: float = 0.0
    _y: float = 0.0
    _xx: float = 0.0
    _xy: float = 0.0

    def observe(self, units: float, seconds: float) -> None:
        """So much work took so long."""
        self._n, self._x, self._y, self._xx, self._xy = (
            FORGET * old + new
            for old, new in zip(
                (self._n, self._x, self._y, self._xx, self._xy),
                (1.0, units, seconds, units * units, units * seconds),
                strict=True,
            )
        )

    def expect(self, units: float) -> float:
        """How long so much would take; 0 for none, and while nothing was measured."""
        if not self._n or not units:
            return 0.0
        mean_x, mean_y = self._x / self._n, self._y / self._n
        spread = self._xx / self._n - mean_x**2
        slope = (self._xy / self._n - mean_x * mean_y) / spread if spread > 1e-9 * mean_x**2 else -1.0
        start = mean_y - slope * mean_x
        if slope < 0 or start < 0:  # all alike, or noise: as if it were in proportion
            slope, start = mean_y / mean_x, 0.0
        return start + slope * units


@dataclass(slots=True)
class Costs:
    """A rate for each phase."""

    wait: Callable[[], None] = lambda: None
    """Returns when the device has done what it was told."""
    _rates: dict[Phase, Rate] = field(default_factory=dict)

    @property
    def known(self) -> bool:
        """Whether anything was measured yet."""
        return bool(self._rates)

    def measured(self, work: Iterable[Mapping[Phase, float]]) -> bool:
        """Whether all phases of it were."""
        return all(phase in self._rates for each in work for phase in each)

    @contextmanager
    def timed(self, phase: Phase, units: float) -> Iterator[None]:
        """Observe what is done inside."""
        started = time.perf_counter()
        yield
        self.wait()
        if units:
            self._rates.setdefault(phase, Rate()).observe(units, time.perf_counter() - started)

    def expect(self, work: Mapping[Phase, float]) -> float:
        """Seconds for so many units of each phase, of all pages that are done together; with caution."""
        known = ((self._rates.get(phase), units) for phase, units in work.items())
        return CAUTION * sum(rate.expect(units) for rate, units in known if rate is not None)


def what_fits(
    tasks: Sequence[Task],
    work: Callable[[Task], Mapping[Phase, float]],
    costs: Costs,
    seconds: float,
    most: int,
) -> list[Task]:
    """The tasks to start now: in their order, at most `most`, leaving out those that do not fit."""
    chosen: list[Task] = []
    begun: Counter[Phase] = Counter()
    for task in tasks:
        if len(chosen) == most:
            break
        more = begun + Counter(work(task))
        if costs.expect(more) <= seconds:
            chosen.append(task)
            begun = more
    return chosen
