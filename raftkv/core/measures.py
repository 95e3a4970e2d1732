"""What a replica measures of its own work, as values that travel in its status.

A measure has the name that it is told under, without ``raftkv_``; ``raftkv.api.metrics`` says what each one is. Rules:
to measure costs a few additions, and never decides anything. No clock here: durations are handed in.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Final

import msgspec

BUCKETS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds; what took longer is in a last bucket of its own."""


class DurationCounts(msgspec.Struct, frozen=True, array_like=True):
    """How long something took, each time: how many of each bucket (not cumulative), and all together."""

    counts: tuple[int, ...]
    total_s: float


class Durations:
    """DurationCounts while they grow."""

    __slots__ = ("_counts", "_total_s")

    def __init__(self) -> None:
        self._counts = [0] * (len(BUCKETS_S) + 1)
        self._total_s = 0.0

    def observe(self, taken_s: float) -> None:
        """It took so long once more."""
        self._counts[bisect_left(BUCKETS_S, taken_s)] += 1
        self._total_s += taken_s

    @property
    def so_far(self) -> DurationCounts:
        """All that was observed."""
        return DurationCounts(tuple(self._counts), self._total_s)


class Measured(msgspec.Struct, frozen=True, array_like=True):
    """All measures of a replica at one time: what it timed, and numbers."""

    durations: Mapping[str, DurationCounts] = {}
    numbers: Mapping[str, float] = {}

    def with_numbers(self, numbers: Mapping[str, float]) -> Measured:
        """The same, and ``numbers`` besides."""
        return Measured(self.durations, {**self.numbers, **numbers}) if numbers else self
