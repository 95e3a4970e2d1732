"""One run from the first connection to the result: fill the keys, warm up, measure. Owns the clock."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import resource
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from raftkv import __version__
from raftkv.load.dialect import Dialect
from raftkv.load.engine import ClosedLoop, OpenLoop, Server, drive
from raftkv.load.plan import LoadError, Plan
from raftkv.load.pour import Pour
from raftkv.load.result import Result, result
from raftkv.load.traffic import Operation, Traffic

FILL_CLIENTS: Final = 64
FILL_S: Final = 600.0
SLACK_S: Final = 1.0
"""How much longer than the servers' own deadline a client waits for an answer."""

WATCH_S: Final = 0.25


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is: ``done`` of ``total``, keys while ``phase`` is "fill" and seconds afterwards."""

    phase: str
    done: float
    total: float
    operations: int = 0
    errors: int = 0
    stale: int = 0


Watch = Callable[[Progress], None]


async def run(
    plan: Plan,
    servers: Sequence[Server],
    dialect: Dialect,
    *,
    writers: Sequence[int] = (),
    watch: Watch = lambda _: None,
    tls: ssl.SSLContext | None = None,
) -> Result:
    """Do what ``plan`` says to ``servers``, and tell ``watch`` four times a second; raises ``LoadError``.

    Writes go to those of the servers whose places are ``writers``, or to any.
    """
    running = _Run(plan, servers, writers, dialect, tls)
    ticking = asyncio.create_task(running.tell(watch))
    try:
        if plan.fill:
            await running.fill()
        return await running.measure()
    finally:
        ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ticking


class _Run:
    """A run under way."""

    def __init__(
        self,
        plan: Plan,
        servers: Sequence[Server],
        writers: Sequence[int],
        dialect: Dialect,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._plan = plan
        self._servers = servers
        self._tls = tls
        self._timeout_s = plan.timeout_s + SLACK_S
        self._began = dt.datetime.now(dt.UTC)
        readers = range(len(servers))
        self._traffic = Traffic(plan, dialect, run=f"{time.time_ns():x}", readers=readers, writers=writers or readers)
        self._pour: Pour[int, Operation] | None = None

    async def fill(self) -> None:
        """Write every key once."""
        plan, traffic = self._plan, self._traffic
        pour = Pour(range(plan.keys), request=traffic.filling, judge=traffic.filled)
        self._pour = pour
        clients = min(FILL_CLIENTS, plan.keys)
        pace = ClosedLoop(time.perf_counter() + FILL_S)
        await drive(pour, self._servers, pace, clients=clients, timeout_s=self._timeout_s, tls=self._tls)
        if pour.done < plan.keys:
            raise LoadError(f"only {pour.done} of {plan.keys} keys could be written in {FILL_S:g} s")
        self._pour = None

    async def measure(self) -> Result:
        """Warm up, measure, and count."""
        plan, traffic = self._plan, self._traffic
        start_s = time.perf_counter()
        traffic.begin_s = start_s + plan.warm_up_s
        end_s = traffic.begin_s + plan.seconds
        pace = (
            ClosedLoop(end_s)
            if plan.rate_per_s is None
            else OpenLoop(start_s, end_s, plan.rate_per_s, warm_up_s=plan.warm_up_s)
        )
        cpu_before_s = _cpu_s()
        await drive(traffic, self._servers, pace, clients=plan.clients, timeout_s=self._timeout_s, tls=self._tls)
        ended_s = time.perf_counter()
        return result(
            traffic.samples,
            plan,
            servers=tuple(f"{server.host}:{server.port}" for server in self._servers),
            began=self._began.isoformat(timespec="seconds"),
            version=__version__,
            # Shorter only if the limit of operations ended it.
            seconds=min(plan.seconds, max(ended_s - traffic.begin_s, 1e-3)),
            unsent=pace.unsent_count if isinstance(pace, OpenLoop) else 0,
            client_cores=(_cpu_s() - cpu_before_s) / (ended_s - start_s),
        )

    async def tell(self, watch: Watch) -> None:
        """Tell ``watch`` how far it is, until cancelled."""
        while True:
            watch(self._progress())
            await asyncio.sleep(WATCH_S)

    def _progress(self) -> Progress:
        plan, samples = self._plan, self._traffic.samples
        if self._pour is not None:
            return Progress(phase="fill", done=self._pour.done, total=plan.keys)
        left_s = self._traffic.begin_s - time.perf_counter()
        if left_s > 0:
            return Progress(phase="warm up", done=max(0.0, plan.warm_up_s - left_s), total=plan.warm_up_s)
        return Progress(
            phase="measure",
            done=min(-left_s, plan.seconds),
            total=plan.seconds,
            operations=samples.done_count,
            errors=samples.failed_count,
            stale=samples.stale,
        )


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
