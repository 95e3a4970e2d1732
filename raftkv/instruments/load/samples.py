"""What was counted while the clock ran: latencies to the microsecond, failures, and how old reads were. Pure."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import Final

import msgspec

from raftkv.core.errors import Effect
from raftkv.instruments.load.engine import Failure

INTERVAL_STEP_S: Final = 0.001


class RequestKind(StrEnum):
    """What a client did."""

    READ = "read"
    WRITE = "write"


class Age(StrEnum):
    """What a read returned, from best to worst, measured by the last write of its key that had begun."""

    NEWEST = "newest"
    OVERTAKEN = "overtaken"
    """Not the newest, because that one was still under way, as every store may."""

    STALE = "stale"


class Errors(msgspec.Struct, kw_only=True):
    """Requests of one kind that failed alike; ``first`` is why the first did."""

    kind: RequestKind
    applied: Effect
    code: str
    count: int
    first: str


class ReadFreshness(msgspec.Struct, kw_only=True):
    """How old reads were; see ``raftkv.instruments.load.ledger`` for what the words mean.

    ``during_write`` reads began while a write of their key was unanswered, ``during_write_older`` of them did not see
    it. ``since_write_ms`` counts reads by what they returned and by the milliseconds since the last write of the key
    began.
    """

    reads: int = 0
    stale: int = 0
    missed: int = 0
    backward: int = 0
    during_write: int = 0
    during_write_older: int = 0
    since_write_ms: dict[Age, dict[int, int]]

    @property
    def stale_share(self) -> float:
        """Of all reads, 0 to 1."""
        return self.stale / self.reads if self.reads else 0.0


class Samples:
    """One run's measurements; every count is of requests that were due while it was measured."""

    def __init__(self) -> None:
        self.latencies_us: dict[RequestKind, Counter[int]] = {kind: Counter() for kind in RequestKind}
        self.errors: dict[tuple[RequestKind, Effect, str], Errors] = {}
        self.freshness = ReadFreshness(since_write_ms={age: Counter() for age in Age})

    def done(self, kind: RequestKind, latency_s: float) -> None:
        """A good answer."""
        self.latencies_us[kind][max(1, round(latency_s * 1e6))] += 1

    def failed(self, kind: RequestKind, failure: Failure) -> None:
        """Anything else; failures have no latency."""
        applied, code = failure.applied, failure.code
        new = Errors(kind=kind, applied=applied, code=code, count=0, first=failure.detail)
        self.errors.setdefault((kind, applied, code), new).count += 1

    @property
    def done_count(self) -> int:
        """Good answers of both kinds."""
        return sum(latencies.total() for latencies in self.latencies_us.values())

    @property
    def failed_count(self) -> int:
        """Requests without one."""
        return sum(each.count for each in self.errors.values())
