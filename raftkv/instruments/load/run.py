"""One run from the first connection to the result: fill the keys, warm up, measure, delete them. Owns the clock."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from raftkv import __version__
from raftkv.instruments.load.dialect import Dialect
from raftkv.instruments.load.engine import ClosedLoop, LoadTarget, OpenLoop, drive
from raftkv.instruments.load.plan import LoadError, LoadPlan
from raftkv.instruments.load.pour import Pour
from raftkv.instruments.load.result import Result, result
from raftkv.instruments.load.traffic import LoadOperation, Traffic

FILL_CLIENTS: Final = 64
FILL_S: Final = 600.0
CLEAN_UP_S: Final = 10.0
"""Deleting may take so long, or twice as long as filling did unless a person waits for the run to end."""

CLEAN_UP_ATTEMPTS: Final = 100
"""Of one key, some seconds: an election may pass, but nobody waits for servers that are gone."""

SLACK_S: Final = 1.0
"""How much longer than the servers' own deadline a client waits for an answer."""

WATCH_S: Final = 0.25


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is: ``done`` of ``total``, keys while ``phase`` is "fill" or "clean up", otherwise seconds."""

    phase: str
    done: float
    total: float
    operations: int = 0
    errors: int = 0
    stale: int = 0


Watch = Callable[[Progress], None]


async def run(
    plan: LoadPlan,
    servers: Sequence[LoadTarget],
    dialect: Dialect,
    *,
    writers: Sequence[int] = (),
    watch: Watch = lambda _: None,
    tls: ssl.SSLContext | None = None,
) -> Result:
    """Do what ``plan`` says to ``servers``, and tell ``watch`` four times a second; raises ``LoadError``.

    Writes go to those of the servers whose places are ``writers``, or to any. However it ends, also when it is
    cancelled, the keys are deleted unless the plan keeps them; ``Result.left`` counts those that could not be.
    """
    running = _Run(plan, servers, writers, dialect, tls)
    ticking = asyncio.create_task(running.tell(watch))
    limit_s = CLEAN_UP_S
    began_s = time.perf_counter()
    try:
        if plan.fill:
            await running.fill()
        filled_s = time.perf_counter() - began_s
        found = await running.measure()
        limit_s = max(limit_s, 2 * filled_s)
    finally:
        # In a task of its own: whoever is cancelled waits for it, and a second interruption ends it.
        left = 0 if plan.keep else await asyncio.create_task(running.clean_up(limit_s))
        watch(running.progress())
        ticking.cancel()
        await asyncio.wait((ticking,))
    return msgspec.structs.replace(found, left=left)


class _Run:
    """A run under way."""

    def __init__(
        self,
        plan: LoadPlan,
        servers: Sequence[LoadTarget],
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
        self._pour: Pour[int, LoadOperation] | None = None
        self._pouring = Progress(phase="fill", done=0, total=plan.keys)

    async def fill(self) -> None:
        """Write every key once."""
        plan, traffic = self._plan, self._traffic
        pour = Pour(range(plan.keys), request=traffic.filling, judge=traffic.filled)
        await self._pour_out(pour, "fill", plan.keys, FILL_S)
        if pour.done < plan.keys:
            raise LoadError(f"only {pour.done} of {plan.keys} keys could be written in {FILL_S:g} s")
        self._pour = None

    async def clean_up(self, limit_s: float) -> int:
        """Delete what was written; returns how many keys could not be within ``limit_s``."""
        traffic = self._traffic
        keys = traffic.touched()
        pour = Pour(keys, request=traffic.removing, judge=traffic.removed, attempts_max=CLEAN_UP_ATTEMPTS)
        if keys:
            with contextlib.suppress(LoadError):  # what is left is counted, and told to whoever reads the result
                await self._pour_out(pour, "clean up", len(keys), limit_s)
        return len(keys) - pour.done

    async def _pour_out(self, pour: Pour[int, LoadOperation], phase: str, total: int, limit_s: float) -> None:
        self._pour, self._pouring = pour, Progress(phase=phase, done=0, total=total)
        pace = ClosedLoop(time.perf_counter() + limit_s)
        clients = min(FILL_CLIENTS, total)
        await drive(pour, self._servers, pace, clients=clients, timeout_s=self._timeout_s, tls=self._tls)

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
        cpu_before_s = time.process_time()
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
            client_cores=(time.process_time() - cpu_before_s) / (ended_s - start_s),
        )

    async def tell(self, watch: Watch) -> None:
        """Tell ``watch`` how far it is, until cancelled."""
        while True:
            watch(self.progress())
            await asyncio.sleep(WATCH_S)

    def progress(self) -> Progress:
        """How far it is."""
        plan, samples = self._plan, self._traffic.samples
        if self._pour is not None:
            return msgspec.structs.replace(self._pouring, done=self._pour.done)
        left_s = self._traffic.begin_s - time.perf_counter()
        if left_s > 0:
            return Progress(phase="warm up", done=max(0.0, plan.warm_up_s - left_s), total=plan.warm_up_s)
        return Progress(
            phase="measure",
            done=min(-left_s, plan.seconds),
            total=plan.seconds,
            operations=samples.done_count,
            errors=samples.failed_count,
            stale=samples.freshness.stale,
        )
