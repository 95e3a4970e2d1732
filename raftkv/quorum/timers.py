"""Things to do later, on the replica's own clock: a heap, worked off by ``due``. No clock of its own."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

Action = Callable[[], None]


class Timers:
    """Actions by the time they are due; those of one moment run in the order they were added."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Action, Callable[[], bool] | None]] = []
        self._order = count()

    def add(self, due_s: float, action: Action, is_pointless: Callable[[], bool] | None = None) -> None:
        """Do ``action`` at ``due_s``; it cannot be taken back, so it must be harmless when it has become pointless.

        Nobody is woken for it once it ``is_pointless``.
        """
        heapq.heappush(self._heap, (due_s, next(self._order), action, is_pointless))

    @property
    def next_s(self) -> float:
        """When the next one is due that is not pointless; infinite when there is none."""
        heap = self._heap
        while heap and (is_pointless := heap[0][3]) is not None and is_pointless():
            heapq.heappop(heap)
        return heap[0][0] if heap else float("inf")

    def run(self, now_s: float) -> None:
        """Do what is due at ``now_s``."""
        while self._heap and self._heap[0][0] <= now_s:
            heapq.heappop(self._heap)[2]()
