"""What was counted while the clock ran: latencies to the microsecond, failures, and how old reads were. Pure."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import Final

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


class Samples:
    """One run's measurements; every count is of requests that were due while it was measured."""

    def __init__(self) -> None:
        self.latencies_us: dict[RequestKind, Counter[int]] = {kind: Counter() for kind in RequestKind}
        self.failures: dict[RequestKind, Counter[tuple[Effect, str]]] = {kind: Counter() for kind in RequestKind}
        self.first_details: dict[tuple[RequestKind, Effect, str], str] = {}
        self.stale = 0
        self.missed = 0
        self.backward = 0
        self.during_write = 0
        self.during_write_older = 0
        self.since_write_ms: dict[Age, Counter[int]] = {age: Counter() for age in Age}
        """How long after the last write of the key had begun a read of it began, by what the read returned."""

    def done(self, kind: RequestKind, latency_s: float) -> None:
        """A good answer."""
        self.latencies_us[kind][max(1, round(latency_s * 1e6))] += 1

    def failed(self, kind: RequestKind, failure: Failure) -> None:
        """Anything else; failures have no latency."""
        self.failures[kind][failure.applied, failure.code] += 1
        self.first_details.setdefault((kind, failure.applied, failure.code), failure.detail)

    @property
    def done_count(self) -> int:
        """Good answers of both kinds."""
        return sum(latencies.total() for latencies in self.latencies_us.values())

    @property
    def failed_count(self) -> int:
        """Requests without one."""
        return sum(failures.total() for failures in self.failures.values())
