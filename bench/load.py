"""What one load costs one system: the package's load generator over requests built beforehand, mostly in a closed loop.

So latencies are those of this many waiting clients, and a slow server is asked less; both systems are driven alike.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import msgspec

from bench.dialects import Check, Load
from raftkv.core.errors import Effect
from raftkv.instruments.load.engine import ClosedLoop, Failure, LoadCall, LoadTarget, OpenLoop, Times, drive
from raftkv.instruments.load.plan import LoadError
from raftkv.instruments.load.pour import Answer, Pour
from raftkv.instruments.load.result import latency

__all__ = ["WARM_UP_S", "LoadError", "Measurement", "measure", "pour"]

WARM_UP_S = 1.0
STUCK_AFTER_S = 15.0
"""A request without an answer for this long is an error; its connection is dropped."""

POUR_WITHIN_S = 3600.0


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


class _Rounds:
    """``Work``: each client sends its part of the requests round and round, always to the same node."""

    def __init__(self, load: Load, *, clients: int, servers: int, begin_s: float, end_s: float) -> None:
        step = max(1, len(load.requests) // clients)
        self._load = load
        self._positions = [client * step for client in range(clients)]
        self._servers = servers
        self._begin_s, self._end_s = begin_s, end_s
        self.latencies_us: Counter[int] = Counter()
        self.errors = 0
        self.first_error = ""

    def begin(self, client: int, began_s: float) -> LoadCall:  # noqa: ARG002  see Work
        position = self._positions[client] = (self._positions[client] + 1) % len(self._load.requests)
        return LoadCall(request=self._load.requests[position], server=client % self._servers)

    def answered(self, call: LoadCall, status: int, body: bytes, times: Times) -> bool:  # noqa: ARG002  see Work
        if not self._load.check(status, body):
            self._count_error(f"status {status}: {body[:200]!r}")
            return False
        if self._begin_s <= times.ended_s <= self._end_s:
            self.latencies_us[max(1, round((times.ended_s - times.began_s) * 1e6))] += 1
        return True

    def failed(self, call: LoadCall, failure: Failure, times: Times) -> None:  # noqa: ARG002  see Work
        self._count_error(failure.detail)

    def _count_error(self, reason: str) -> None:
        """Every error counts, also those while warming up."""
        self.errors += 1
        self.first_error = self.first_error or reason


async def measure(
    servers: Sequence[LoadTarget],
    load: Load,
    seconds: float,
    cluster_cpu_s: Callable[[], float],
    *,
    clients: int,
    rate_per_s: float | None = None,
) -> Measurement:
    """Drive ``load`` by ``clients``, spread evenly over ``servers``, for ``seconds`` after a warm-up.

    With ``rate_per_s`` so many requests are due each second, whatever the servers do.
    """
    begin_s = time.perf_counter() + WARM_UP_S
    end_s = begin_s + seconds
    pace = ClosedLoop(end_s) if rate_per_s is None else OpenLoop(begin_s - WARM_UP_S, end_s, rate_per_s)
    rounds = _Rounds(load, clients=clients, servers=len(servers), begin_s=begin_s, end_s=end_s)
    driving = asyncio.create_task(
        drive(rounds, servers, pace, clients=clients, timeout_s=STUCK_AFTER_S),
    )
    try:
        await asyncio.sleep(begin_s - time.perf_counter())
        client_before_s, cluster_before_s = time.process_time(), cluster_cpu_s()
        await asyncio.sleep(end_s - time.perf_counter())
        client_s, cluster_s = time.process_time() - client_before_s, cluster_cpu_s() - cluster_before_s
        await driving
    finally:
        driving.cancel()
        await asyncio.gather(driving, return_exceptions=True)
    return _summary(rounds, load, seconds, client_s / seconds, cluster_s / seconds)


def _summary(rounds: _Rounds, load: Load, seconds: float, client_cores: float, cluster_cores: float) -> Measurement:
    found = latency(rounds.latencies_us) if rounds.latencies_us else None
    operations = rounds.latencies_us.total() * load.operations_per_request
    kept = ("p50", "p90", "p99", "p999", "max")
    return Measurement(
        operations=operations,
        operations_per_s=operations / seconds,
        errors=rounds.errors,
        first_error=rounds.first_error,
        elapsed_s=seconds,
        client_cpu_cores=client_cores,
        cluster_cpu_cores=cluster_cores,
        **{f"latency_ms_{name}": getattr(found, f"{name}_ms") if found else float("nan") for name in kept},
    )


async def pour(servers: Sequence[LoadTarget], requests: Iterable[bytes], check: Check, *, clients: int = 0) -> int:
    """Send every request once, by ``clients`` or one for each server, and return how many there were.

    A refused or broken one is repeated, which is harmless since all are plain puts; raises ``LoadError`` when one keeps
    failing.
    """

    def call(request: bytes, turn: int, began_s: float) -> LoadCall:  # noqa: ARG001  see Pour
        return LoadCall(request=request, server=turn % len(servers))

    def judge(call: LoadCall, answer: Answer, times: Times) -> Failure | None:  # noqa: ARG001  see Pour
        if isinstance(answer, Failure):
            return answer
        status, body = answer
        return None if check(status, body) else Failure(Effect.UNKNOWN, f"status_{status}", repr(body[:200]))

    work = Pour(requests, request=call, judge=judge)
    pace = ClosedLoop(time.perf_counter() + POUR_WITHIN_S)
    await drive(work, servers, pace, clients=clients or len(servers), timeout_s=STUCK_AFTER_S)
    return work.done
