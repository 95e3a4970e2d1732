"""What this node does, for whoever looks: exact counts of all of it, and samples of some of it while somebody looks.

A sample is taken when something is over, so it tells what became of it and never of what did not happen. Few are taken,
those that went as usual and those that did not each at their own pace, so that a rare repair is seen among thousands of
reads; and none once nobody has looked for ``WATCHED_S``. It has no effect on anything.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from raftkv.core.sights import ExchangeSeen, Fate, ReplicaAsked, Sample, SampleKind, WorkCounts, WorkSeen
from raftkv.quorum.membership.ring import turn_of

WATCHED_S: Final = 2.0
"""So long after somebody looked samples are still taken."""

PACE_S: Final = 0.5
"""Of each kind, one that went as usual and one that did not are taken in this time."""

SAMPLES_MAX: Final = 64
"""So many are kept: those of some seconds. Each names the replicas of a key, so it has a few hundred bytes."""

TURN_DIGITS: Final = 3


class Sampling:
    """What one node has done. ``tally`` is counted by whoever does it."""

    def __init__(self, *, clock: Callable[[], float], wall_us: Callable[[], int]) -> None:
        self.tally = WorkCounts()
        self._clock = clock
        self._wall_us = wall_us
        self._watched_until_s = float("-inf")
        self._due_s: dict[tuple[SampleKind, bool], float] = {}
        self._number = 0
        self._samples: deque[Sample] = deque(maxlen=SAMPLES_MAX)

    def shown(self, after: int, exchange: ExchangeSeen | None) -> WorkSeen:
        """What is shown to who looks now, and knows the samples up to ``after``."""
        self._watched_until_s = self._clock() + WATCHED_S
        samples = tuple([one for one in self._samples if one.number > after])
        return WorkSeen(tally=msgspec.structs.replace(self.tally), exchange=exchange, samples=samples)

    @property
    def is_watched(self) -> bool:
        """Does somebody look?"""
        return self._clock() < self._watched_until_s

    def take(
        self, kind: SampleKind, asked: Iterable[ReplicaAsked], *, done: bool, key: bytes | None = None, **more: Any
    ) -> None:
        """Something is over: a sample of it if it is time for one. ``more`` are fields of ``Sample``."""
        replicas = tuple(asked)
        went_as_usual = done and not more.get("differing") and all(map(_is_usual, replicas))
        now_s = self._clock()
        if now_s < self._due_s.get((kind, went_as_usual), float("-inf")):
            return
        self._due_s[kind, went_as_usual] = now_s + PACE_S
        self._number += 1
        turn = 0.0 if key is None else round(turn_of(key), TURN_DIGITS)
        at_ms = self._wall_us() // 1000
        self._samples.append(
            Sample(number=self._number, at_ms=at_ms, kind=kind, asked=replicas, done=done, turn=turn, **more)
        )


def _is_usual(replica: ReplicaAsked) -> bool:
    return replica.fate in (Fate.HOLDS, Fate.ASKED) and not replica.stands_for
