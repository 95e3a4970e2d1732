"""What a run found, as stored: latencies by HdrHistogram, failures by kind, and how fresh the reads were. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from hdrh.histogram import HdrHistogram

from raftkv.instruments.load.plan import LoadPlan
from raftkv.instruments.load.samples import Errors, ReadFreshness, RequestKind, Samples

LONGEST_US: Final = 3_600_000_000
DIGITS: Final = 3
"""Latencies are kept to three significant digits, up to an hour."""


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds. ``histogram`` is the whole distribution in microseconds, in HdrHistogram's own V2 encoding."""

    count: int
    mean_ms: float
    p50_ms: float
    p90_ms: float
    p95_ms: float
    p99_ms: float
    p999_ms: float
    p9999_ms: float
    max_ms: float
    histogram: str


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Operations are those that were due in ``seconds`` and done; ``per_second`` follows.

    ``unsent`` requests of an open loop found no free client in time: latencies are then too good. ``client_cores`` is
    the load generator's own CPU: near 1 it was the bottleneck. ``left`` keys could not be deleted afterwards.
    """

    plan: LoadPlan
    servers: tuple[str, ...]
    began: str
    version: str
    seconds: float
    per_second: float
    latency: dict[RequestKind, Latency]
    errors: tuple[Errors, ...]
    freshness: ReadFreshness
    unsent: int
    client_cores: float
    left: int = 0

    @property
    def error_count(self) -> int:
        """All failed requests."""
        return sum(each.count for each in self.errors)


def latency(counts_us: Mapping[int, int]) -> Latency:
    """The distribution of latencies, given how often each number of microseconds occurred; at least one."""
    histogram = HdrHistogram(1, LONGEST_US, DIGITS)
    for value_us, count in counts_us.items():
        histogram.record_value(min(value_us, LONGEST_US), count)
    total, max_us = sum(counts_us.values()), max(counts_us)

    def at(percentile: float) -> float:
        # A bucket of the histogram ends a little after the longest latency in it.
        return min(float(histogram.get_value_at_percentile(percentile)), max_us) / 1000

    return Latency(
        count=total,
        mean_ms=sum(value_us * count for value_us, count in counts_us.items()) / total / 1000,
        p50_ms=at(50),
        p90_ms=at(90),
        p95_ms=at(95),
        p99_ms=at(99),
        p999_ms=at(99.9),
        p9999_ms=at(99.99),
        max_ms=max_us / 1000,
        histogram=histogram.encode().decode(),
    )


def result(
    samples: Samples,
    plan: LoadPlan,
    *,
    servers: tuple[str, ...],
    began: str,
    version: str,
    seconds: float,
    unsent: int,
    client_cores: float,
) -> Result:
    """Everything that ``samples`` tell."""
    return Result(
        plan=plan,
        servers=servers,
        began=began,
        version=version,
        seconds=seconds,
        per_second=samples.done_count / seconds,
        latency={kind: latency(counts) for kind, counts in samples.latencies_us.items() if counts},
        errors=tuple(sorted(samples.errors.values(), key=lambda each: -each.count)),
        freshness=msgspec.structs.replace(
            samples.freshness,
            reads=samples.latencies_us[RequestKind.READ].total(),
            since_write_ms={
                age: dict(sorted(counts.items())) for age, counts in samples.freshness.since_write_ms.items()
            },
        ),
        unsent=unsent,
        client_cores=client_cores,
    )
