"""Virtual time: a queue of what is to happen, and a clock that jumps from one event to the next.

Rules: nothing here waits, time never goes back, and of two events due at the same moment the one that was scheduled
first happens first. Imports the standard library only.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

Action = Callable[[], None]


class ScheduledEvent:
    """Something that is to happen; ``cancel`` it and it will not."""

    __slots__ = ("action", "due_s")

    def __init__(self, due_s: float, action: Action) -> None:
        self.due_s = due_s
        self.action: Action | None = action

    def cancel(self) -> None:
        """Let it not happen."""
        self.action = None


class Schedule:
    """The events to come and the time it is, in seconds."""

    def __init__(self, start_s: float = 0.0) -> None:
        self.now_s = start_s
        self.done_count = 0
        self._queue: list[tuple[float, int, ScheduledEvent]] = []
        self._number = 0

    def at(self, due_s: float, action: Action) -> ScheduledEvent:
        """Let ``action`` happen at ``due_s``, or now if that is past."""
        event = ScheduledEvent(max(due_s, self.now_s), action)
        self._number += 1
        heapq.heappush(self._queue, (event.due_s, self._number, event))
        return event

    def after(self, delay_s: float, action: Action) -> ScheduledEvent:
        """Let ``action`` happen ``delay_s`` from now."""
        return self.at(self.now_s + delay_s, action)

    def step(self, end_s: float) -> bool:
        """Do the next event due by ``end_s``; false, and the time is ``end_s``, when there is none."""
        queue = self._queue
        while queue and queue[0][0] <= end_s:
            due_s, _, event = heapq.heappop(queue)
            if event.action is not None:
                self.now_s = max(self.now_s, due_s)
                self.done_count += 1
                action, event.action = event.action, None
                action()
                return True
        self.now_s = max(self.now_s, end_s)
        return False

    def run_to(self, end_s: float) -> None:
        """Do everything due by ``end_s``."""
        while self.step(end_s):
            pass
