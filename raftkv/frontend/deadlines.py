"""What is due when: one sweep for all requests instead of a timer for each. No clock of its own.

Must not import ``raft`` or ``http``.
"""

from __future__ import annotations

from typing import Final

from raftkv.core.replicator import Pending

SWEEP_S: Final = 0.05
"""How often deadlines are looked at. The replica knows them too and is asked to answer first."""


Bucket = dict[Pending, tuple[bool, int]]
"""What is due at one time: is it a write, and its id. Who has an outcome is taken out (``pop``)."""


class Deadlines:
    """What is due when, in buckets of ``SWEEP_S``: one sweep instead of a timer for every request.

    What has its outcome is let go of at once: an answer may hold megabytes, and a deadline may be a minute away.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, Bucket] = {}
        self._swept = 0

    def add(self, deadline_s: float, pending: Pending, *, is_write: bool, request_id: int = 0) -> Bucket:
        """``pending`` is to have an outcome by ``deadline_s`` (monotonic); whoever gives it takes it out again."""
        # Two buckets late: the replica's own verdict, which knows more, should arrive first.
        place = max(int(deadline_s / SWEEP_S) + 2, self._swept + 1)
        bucket = self._buckets.get(place)
        if bucket is None:
            bucket = self._buckets[place] = {}
        bucket[pending] = (is_write, request_id)
        return bucket

    def clear(self) -> None:
        """Everything has its outcome."""
        self._buckets.clear()

    def due(self, now_s: float) -> list[tuple[Pending, bool, int]]:
        """What is due at ``now_s`` and still without an outcome."""
        self._swept = int(now_s / SWEEP_S)
        passed = [bucket for bucket in self._buckets if bucket <= self._swept]
        return [
            (pending, is_write, request_id)
            for bucket in passed
            for pending, (is_write, request_id) in self._buckets.pop(bucket).items()
            if pending.outcome is None
        ]

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    def __bool__(self) -> bool:
        return any(self._buckets.values())
