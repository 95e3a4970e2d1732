"""What is due when: one sweep for all requests instead of a timer for each. No clock of its own.

Must not import ``raft`` or ``http``.
"""

from __future__ import annotations

from typing import Final

from raftkv.core.replicator import Pending

SWEEP_S: Final = 0.05
"""How often deadlines are looked at. The replica knows them too and is asked to answer first."""


class Deadlines:
    """What is due when, in buckets of ``SWEEP_S``: one sweep instead of a timer for every request."""

    def __init__(self) -> None:
        self._buckets: dict[int, list[tuple[Pending, bool, int]]] = {}
        self._swept = 0

    def add(self, deadline_s: float, pending: Pending, *, is_write: bool, request_id: int = 0) -> None:
        """``pending`` is to have an outcome by ``deadline_s`` (monotonic)."""
        # Two buckets late: the replica's own verdict, which knows more, should arrive first.
        bucket = max(int(deadline_s / SWEEP_S) + 2, self._swept + 1)
        self._buckets.setdefault(bucket, []).append((pending, is_write, request_id))

    def due(self, now_s: float) -> list[tuple[Pending, bool, int]]:
        """What is due at ``now_s`` and still without an outcome."""
        self._swept = int(now_s / SWEEP_S)
        passed = [bucket for bucket in self._buckets if bucket <= self._swept]
        entries = [entry for bucket in passed for entry in self._buckets.pop(bucket)]
        return [entry for entry in entries if entry[0].outcome is None]

    def __bool__(self) -> bool:
        return bool(self._buckets)
