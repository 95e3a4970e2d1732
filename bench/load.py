"""Load in a closed loop: every connection sends its next request when the last one is answered.

So latencies are those of this many waiting clients, and a slow server is asked less (coordinated omission is not
corrected for; both systems are driven alike). Samples are kept raw while the clock runs and sorted into a histogram
afterwards.
"""

from __future__ import annotations

import asyncio
import resource
import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

from bench.connection import BrokenConnectionError, Connection
from bench.dialects import Check, Load

WARM_UP_S = 1.0
STUCK_AFTER_S = 15.0
"""A request without an answer for this long is an error; its connection is dropped."""

PAUSE_AFTER_ERROR_S = 0.02
POUR_ATTEMPTS = 10


class LoadError(Exception):
    """Data that must be loaded before measuring could not be."""


class Measurement(msgspec.Struct, frozen=True, kw_only=True):
    """One system under one load once. ``*_cpu_cores`` are CPU seconds per second, of client and cluster."""

    operations: int
    operations_per_s: float
    errors: int
    first_error: str
    elapsed_s: float
    latency_ms_p50: float
    latency_ms_p90: float
    latency_ms_p99: float
    latency_ms_p999: float
    latency_ms_max: float
    client_cpu_cores: float
    cluster_cpu_cores: float
    term_changes: int = 0


class _Tally:
    """What the connections of one measurement count together; only answers between ``begin_s`` and ``end_s`` count."""

    def __init__(self, begin_s: float, end_s: float) -> None:
        self.begin_s = begin_s
        self.end_s = end_s
        self.latencies_s = array("d")
        self.errors = 0
        self.first_error = ""

    def count_error(self, reason: str) -> None:
        """Every error counts, also those while warming up."""
        self.errors += 1
        self.first_error = self.first_error or reason


async def measure(
    connections: Sequence[Connection], load: Load, seconds: float, cluster_cpu_s: Callable[[], float]
) -> Measurement:
    """Drive ``load`` over all ``connections`` for ``seconds`` after a warm-up."""
    begin_s = time.perf_counter() + WARM_UP_S
    tally = _Tally(begin_s, begin_s + seconds)
    step = max(1, len(load.requests) // len(connections))
    watch = asyncio.create_task(_drop_stuck(connections))
    workers = [
        asyncio.create_task(_work(connection, load, number * step, tally))
        for number, connection in enumerate(connections)
    ]
    try:
        await asyncio.sleep(begin_s - time.perf_counter())
        client_before_s, cluster_before_s = _own_cpu_s(), cluster_cpu_s()
        await asyncio.sleep(tally.end_s - time.perf_counter())
        client_s, cluster_s = _own_cpu_s() - client_before_s, cluster_cpu_s() - cluster_before_s
        await asyncio.gather(*workers)
    finally:
        for task in (watch, *workers):
            task.cancel()
        await asyncio.gather(watch, *workers, return_exceptions=True)
    return _summary(tally, load, seconds, client_s / seconds, cluster_s / seconds)


async def _work(connection: Connection, load: Load, position: int, tally: _Tally) -> None:
    requests, check, clock = load.requests, load.check, time.perf_counter
    begin_s, end_s, record = tally.begin_s, tally.end_s, tally.latencies_s.append
    while (started_s := clock()) < end_s:
        position = (position + 1) % len(requests)
        try:
            if not connection.is_open:
                await connection.open()
            status, body = await connection.exchange(requests[position])
        except OSError as error:
            tally.count_error(str(error) or type(error).__name__)
            await asyncio.sleep(PAUSE_AFTER_ERROR_S)
            continue
        answered_s = clock()
        if not check(status, body):
            tally.count_error(f"status {status}: {body[:200]!r}")
            await asyncio.sleep(PAUSE_AFTER_ERROR_S)
        elif begin_s <= answered_s <= end_s:
            record(answered_s - started_s)


async def _drop_stuck(connections: Sequence[Connection]) -> None:
    while True:
        await asyncio.sleep(1.0)
        for connection in connections:
            if connection.waiting_since_s and time.perf_counter() - connection.waiting_since_s > STUCK_AFTER_S:
                connection.close()


def _own_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _summary(tally: _Tally, load: Load, seconds: float, client_cores: float, cluster_cores: float) -> Measurement:
    histogram = HdrHistogram(1, 120_000_000, 3)
    for latency_us, count in Counter(max(1, round(s * 1e6)) for s in tally.latencies_s).items():
        histogram.record_value(latency_us, count)

    def at(percentile: float) -> float:
        return float(histogram.get_value_at_percentile(percentile)) / 1000.0 if tally.latencies_s else float("nan")

    operations = len(tally.latencies_s) * load.operations_per_request
    return Measurement(
        operations=operations,
        operations_per_s=operations / seconds,
        errors=tally.errors,
        first_error=tally.first_error,
        elapsed_s=seconds,
        latency_ms_p50=at(50),
        latency_ms_p90=at(90),
        latency_ms_p99=at(99),
        latency_ms_p999=at(99.9),
        latency_ms_max=at(100),
        client_cpu_cores=client_cores,
        cluster_cpu_cores=cluster_cores,
    )


async def pour(connections: Sequence[Connection], requests: Iterable[bytes], check: Check) -> int:
    """Send every request once, over all connections together, and return how many there were.

    A refused or broken one is repeated, which is harmless since all are plain puts; raises ``LoadError`` when one keeps
    failing.
    """
    remaining = iter(requests)
    watch = asyncio.create_task(_drop_stuck(connections))
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_pour(connection, remaining, check)) for connection in connections]
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    finally:
        watch.cancel()
    return sum(task.result() for task in tasks)


async def _pour(connection: Connection, remaining: Iterator[bytes], check: Check) -> int:
    sent = 0
    for request in remaining:
        for attempt in range(POUR_ATTEMPTS):
            try:
                if not connection.is_open:
                    await connection.open()
                status, body = await connection.exchange(request)
                if check(status, body):
                    break
                reason = f"status {status}: {body[:200]!r}"
            except BrokenConnectionError as error:
                reason = str(error)
            await asyncio.sleep(0.1 * (attempt + 1))
        else:
            raise LoadError(f"refused {POUR_ATTEMPTS} times, last: {reason}")
        sent += 1
    return sent
