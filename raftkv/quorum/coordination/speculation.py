"""When a read asks more replicas than the R that it needs: late, and seldom.

As Cassandra's speculative retry (CASSANDRA-4705): R replicas are asked first, and others once those take longer than
usual. How long that is follows the answers: their smoothed time and four times its deviation, as TCP has its
retransmission timer (RFC 6298; Jacobson 1988), within fixed bounds. Whoever was late is asked last until it has
answered in time again, and every ``ALL_ASKED_EVERY``-th read asks all: so it is noticed, and so that replicas which
reads pass over are compared, and repaired, all the same.

Rules: no clock of its own; nothing here decides what a read answers, and no replica is asked twice for one read.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

DEVIATION_LEAST_S: Final = 0.002
"""Some turns of the loop, beyond the smoothed time: RFC 6298 has the granularity of its clock here."""

DELAY_MOST_PART: Final = 0.25
"""Of the time after which a replica counts as silent, at the most; and before anybody has answered."""

ALL_ASKED_EVERY: Final = 16


class LateRead(Protocol):
    """A read whose first replicas may be late."""

    @property
    def is_short(self) -> bool:
        """Do answers lack, and are there others to ask?"""

    def ask_others(self) -> None:
        """Ask as many others as answers lack."""


class Speculation:
    """How one node's reads have fared, and those whose replicas may come to be late; times are in seconds."""

    def __init__(self, silence_s: float) -> None:
        self._most_s = silence_s * DELAY_MOST_PART
        self._smoothed_s: float | None = None
        self._deviation_s = 0.0
        self._late: set[str] = set()
        self._read_count = 0
        self._watched: deque[tuple[float, LateRead]] = deque()
        self.asked_count = 0
        """How many reads have asked others because the first were late."""

    @property
    def delay_s(self) -> float:
        """How long those who are asked first have before others are asked."""
        if self._smoothed_s is None:
            return self._most_s
        return min(self._smoothed_s + max(4 * self._deviation_s, DEVIATION_LEAST_S), self._most_s)

    def asks_all(self) -> bool:
        """Does the read that begins now ask all replicas at once?"""
        self._read_count += 1
        return self._read_count % ALL_ASKED_EVERY == 0

    def is_late(self, node: str) -> bool:
        """Was ``node`` late when it was asked last?"""
        return node in self._late

    def answered(self, node: str, took_s: float) -> None:
        """``node``, which was asked among the first, has answered after ``took_s``."""
        if node in self._late and took_s <= self.delay_s:
            self._late.discard(node)
        if self._smoothed_s is None:
            self._smoothed_s, self._deviation_s = took_s, took_s / 2
        else:
            error_s = took_s - self._smoothed_s
            self._deviation_s += (abs(error_s) - self._deviation_s) / 4
            self._smoothed_s += error_s / 8

    def late(self, nodes: tuple[str, ...]) -> None:
        """``nodes`` have not answered in time, and others are asked for it."""
        self._late.update(nodes)
        self.asked_count += 1

    def watch(self, read: LateRead, now_s: float) -> None:
        """Let ``read``, which begins at ``now_s``, ask others once it is late."""
        self._watched.append((now_s + self.delay_s, read))

    def next_s(self) -> float:
        """When a read may be late; infinite when none can."""
        watched = self._watched
        while watched and not watched[0][1].is_short:
            watched.popleft()
        return watched[0][0] if watched else float("inf")

    def run(self, now_s: float) -> None:
        """Let those that are late at ``now_s`` ask others; one behind another that has longer waits as long."""
        watched = self._watched
        while watched and (watched[0][0] <= now_s or not watched[0][1].is_short):
            _, read = watched.popleft()
            if read.is_short:
                read.ask_others()
                if read.is_short:
                    self.watch(read, now_s)
