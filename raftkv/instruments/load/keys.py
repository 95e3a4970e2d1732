"""Which key comes next: uniform, zipfian, or local in time. Pure; the caller's ``Random`` makes the choices.

Keys are numbers from 0 to ``count`` - 1. ``read`` and ``write`` draw one; ``written`` tells which was just written.
"""

from __future__ import annotations

from bisect import bisect
from collections import deque
from itertools import accumulate
from random import Random
from typing import Final, Protocol

from raftkv.instruments.load.plan import Distribution, LoadPlan

RECENT_MAX: Final = 64
NEWER_WRITES_MEAN: Final = 8.0
"""So many other keys, on average, were written after the key that a read local in time asks for."""


class KeyChoice(Protocol):
    """One distribution of keys, shared by all clients of a run."""

    def read(self, random: Random) -> int:
        """The key of a read."""

    def write(self, random: Random) -> int:
        """The key of a write."""

    def written(self, key: int) -> None:
        """A write of ``key`` begins."""


class Uniform:
    """Every key is as likely as any other."""

    def __init__(self, count: int) -> None:
        self._count = count

    def read(self, random: Random) -> int:
        """See ``KeyChoice``."""
        return int(random.random() * self._count)

    write = read

    def written(self, key: int) -> None:
        """See ``KeyChoice``."""


class Zipfian:
    """Key k is asked for in proportion to 1 / (k + 1) ** exponent: a few are hot, most are cold."""

    def __init__(self, count: int, exponent: float) -> None:
        self._reach = list(accumulate((k + 1) ** -exponent for k in range(count)))

    def read(self, random: Random) -> int:
        """See ``KeyChoice``."""
        # Rounding may put the draw on the very end of the last interval.
        return min(bisect(self._reach, random.random() * self._reach[-1]), len(self._reach) - 1)

    write = read

    def written(self, key: int) -> None:
        """See ``KeyChoice``."""


class LocalInTime:
    """Writes are uniform; a read asks for a key whose write has just begun, the newest more often than any other."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._recent: deque[int] = deque(maxlen=RECENT_MAX)

    def write(self, random: Random) -> int:
        """See ``KeyChoice``."""
        return int(random.random() * self._count)

    def read(self, random: Random) -> int:
        """See ``KeyChoice``."""
        back = int(random.expovariate(1 / (NEWER_WRITES_MEAN + 0.5)))
        if not self._recent:
            return self.write(random)
        return self._recent[-1 - min(back, len(self._recent) - 1)]

    def written(self, key: int) -> None:
        """See ``KeyChoice``."""
        self._recent.append(key)


def keys(plan: LoadPlan) -> KeyChoice:
    """The distribution that ``plan`` asks for."""
    if plan.distribution is Distribution.ZIPFIAN:
        return Zipfian(plan.keys, plan.exponent)
    return LocalInTime(plan.keys) if plan.distribution is Distribution.LOCAL_IN_TIME else Uniform(plan.keys)
