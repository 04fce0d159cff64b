"""How much a device takes at once: as much as was asked for, and half of it after each refusal of memory.

On a GPU nobody knows beforehand how many images fit: that depends on the card, on the network, and on who else uses it.
So the first batch is tried whole; when memory is refused, the batch is halved, and later batches are no larger than
what fitted. Values do not depend on the batch, so none of this is in a key.
"""

from __future__ import annotations

import gc
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

import torch

from pipeline.errors import lacks_memory

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger(__name__)


class Fitting:
    """Runs a function over rows in batches. size: the number of rows in the next batch, at least 1."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, function: Callable[[Sequence[T]], R], rows: Iterable[T]) -> Iterator[R]:
        """The results for all rows, in their order, a batch at a time; rows are read as they are needed.

        Raises what `function` raises; a refusal of memory only for a batch of one row.
        """
        rest, waiting = iter(rows), deque[T]()
        while True:
            waiting.extend(islice(rest, max(0, self.size - len(waiting))))
            if not waiting:
                return
            batch = list(islice(waiting, self.size))
            for result in self._tried(function, batch):
                yield result
                for _ in batch:
                    waiting.popleft()

    def _tried(self, function: Callable[[Sequence[T]], R], batch: Sequence[T]) -> list[R]:
        """The result of a batch; none if memory was refused, after which batches are smaller."""
        try:
            return [function(batch)]
        except Exception as error:
            if not lacks_memory(error) or len(batch) == 1:
                raise
        self.size = len(batch) // 2
        log.warning("%d at once need more memory than there is: %d from here on", len(batch), self.size)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return []
