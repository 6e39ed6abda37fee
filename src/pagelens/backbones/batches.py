"""As many items computed together as memory holds, and the next ones prepared meanwhile."""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import TypeVar

import torch

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Ready = TypeVar("Ready")

BATCH_TOKENS = {"cpu": 4096, "cuda": 8192}
"""Tokens computed together at most, padding counted; halved whenever memory runs out. Ten pages or so keep a
large GPU busy, and while it is the next ones can be prepared."""
LOOK = 2
"""What a token of an image counts when the vision tower works, which has four patches to it."""
THREADS = 8
"""That prepare images, and read what is kept of pages."""
AHEAD = 32
"""Images prepared before the device has come to them; each takes up to 31 MB."""


class Batches:
    """Batches by tokens, smaller from the moment that memory runs out.

    Args:
        name: Of the model, for the log.
        device: Where it computes.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self._name = name
        self.tokens = BATCH_TOKENS.get(device.type, BATCH_TOKENS["cpu"])
        """Computed together at most."""

    def of(self, items: Sequence[Item], length: Callable[[Item], int]) -> Iterator[list[Item]]:
        """Items of like length together, none above `tokens` with its padding; `length`: tokens of one."""
        batch: list[Item] = []
        for item in sorted(items, key=length):
            if batch and length(item) * (len(batch) + 1) > self.tokens:
                yield batch
                batch = []
            batch.append(item)
        if batch:
            yield batch

    def ahead(
        self,
        items: Iterable[Item],
        tokens: Callable[[Item], int],
        prepare: Callable[[Item], Ready],
        threads: Executor,
    ) -> Iterator[list[tuple[Item, Future[Ready]]]]:
        """Batches for the vision tower, each item with what `prepare` makes of it.

        The threads prepare the items of the next batches while the caller has the device busy with this one.

        Args:
            items: Images, in any order.
            tokens: Of one.
            prepare: Called in a thread.
            threads: `THREADS` are enough.
        """
        ordered = sorted(items, key=tokens)
        waiting = iter(ordered)
        coming: deque[Future[Ready]] = deque()
        for batch in self.of(ordered, lambda item: LOOK * tokens(item)):
            more = itertools.islice(waiting, max(AHEAD, len(batch)) - len(coming))
            coming.extend(threads.submit(prepare, item) for item in more)
            yield [(item, coming.popleft()) for item in batch]

    def halving(self, work: Callable[[Sequence[Item]], None], items: Sequence[Item]) -> list[Item]:
        """`work` on all items at once, or on halves while memory holds no more; the items it never held."""
        try:
            work(items)
            return []
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
        if len(items) == 1:
            return list(items)
        self.tokens = max(1, self.tokens // 2)
        logger.warning("memory ran out: %s goes on with %d tokens together", self._name, self.tokens)
        middle = len(items) // 2
        return self.halving(work, items[:middle]) + self.halving(work, items[middle:])
