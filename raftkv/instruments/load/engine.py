"""Clients that keep servers busy, in a closed or an open loop, and measure each request from when it should have begun.

In a closed loop a client sends its next request when the last one is answered, so a slow server is asked less. In an
open loop requests are due at a fixed rate, whatever the server does, and latency counts from when a request was *due*:
one that had to wait because all clients were stuck shows that wait. Measuring from when it was sent instead hides just
the moments that matter ("coordinated omission", Tene, "How NOT to Measure Latency", 2013).

Rules. One thread, one event loop, one request in flight per client; idle connections are shared by all clients. A
request that is silent for ``timeout_s`` is given up. The engine knows nothing of what it carries: ``Work`` does.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Sequence
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from raftkv.client.async_channels import AsyncChannel
from raftkv.client.reach import Host, UnheardError, UnopenedError
from raftkv.core.errors import Effect

PAUSE_AFTER_ERROR_S: Final = 0.02
"""A client whose request failed waits this long, so that a server that is down is not hammered."""

OPEN_S: Final = 5.0
WATCH_S: Final = 0.25


class LoadTarget(msgspec.Struct, frozen=True):
    """Where one node is; ``tls`` when it speaks https."""

    host: str
    port: int
    tls: bool = False


class LoadCall(msgspec.Struct, kw_only=True):
    """One request on its way: its bytes, and the place of its server in the list of servers."""

    request: bytes
    server: int


class Failure(msgspec.Struct, frozen=True):
    """Why a request has no good answer: ``code`` is a stable word."""

    applied: Effect
    code: str
    detail: str = ""


UNREACHABLE: Final = "unreachable"
CONNECTION_LOST: Final = "connection_lost"
NO_ANSWER: Final = "no_answer"


class Times(msgspec.Struct, frozen=True):
    """Of one request, in ``perf_counter`` seconds: when it was due, when it was sent, when its fate was known."""

    due_s: float
    began_s: float
    ended_s: float


C = TypeVar("C", bound=LoadCall)


class Work(Protocol[C]):
    """Where requests come from and where answers go; called from the engine's one thread, in the order of events.

    Each call that ``begin`` returned comes back exactly once, through ``answered`` or ``failed``, unless the engine is
    cancelled. Whatever these raise ends the run.
    """

    def begin(self, client: int, began_s: float) -> C | None:
        """The next request of ``client``, about to be sent; ``None`` when there is nothing more for it to do."""

    def answered(self, call: C, status: int, body: bytes, times: Times) -> bool:
        """The server answered; was it a good answer?"""

    def failed(self, call: C, failure: Failure, times: Times) -> None:
        """No answer came."""


class Pace(Protocol):
    """When requests are due."""

    def take(self, now_s: float) -> float | None:
        """When the next request is due, perhaps in the past; ``None`` when no more begin."""


class ClosedLoop:
    """A request is due whenever a client is free, until ``end_s``."""

    def __init__(self, end_s: float) -> None:
        self._end_s = end_s

    def take(self, now_s: float) -> float | None:
        """See ``Pace``."""
        return now_s if now_s < self._end_s else None


class OpenLoop:
    """``rate_per_s`` requests are due from ``begin_s`` to ``end_s``, evenly spaced.

    The first ``warm_up_s`` are forgotten when they are over: what could not be sent in them must not keep clients from
    what is due afterwards, or a rate beyond the servers' would leave nothing to measure.
    """

    def __init__(self, begin_s: float, end_s: float, rate_per_s: float, *, warm_up_s: float = 0.0) -> None:
        self._begin_s = begin_s
        self._end_s = end_s
        self._rate_per_s = rate_per_s
        self._measured_from_s = begin_s + warm_up_s
        self._warm_up_count = math.ceil(warm_up_s * rate_per_s)
        self._count = max(1, self._warm_up_count, round((end_s - begin_s) * rate_per_s))
        self._taken = 0

    @property
    def unsent_count(self) -> int:
        """Requests after the warm-up whose time has not come, or for which no client was free until the end."""
        return self._count - max(self._taken, self._warm_up_count)

    def take(self, now_s: float) -> float | None:
        """See ``Pace``."""
        if now_s >= self._measured_from_s:
            self._taken = max(self._taken, self._warm_up_count)
        if self._taken >= self._count or now_s >= self._end_s:
            return None
        due_s = self._begin_s + self._taken / self._rate_per_s
        self._taken += 1
        return due_s


async def drive(
    work: Work[C],
    servers: Sequence[LoadTarget],
    pace: Pace,
    *,
    clients: int,
    timeout_s: float,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Let ``clients`` work until ``pace`` or ``work`` has no more for them, and every answer is there or given up."""
    engine = _Engine(work, servers, pace, tls)
    watch = asyncio.create_task(engine.give_up_silent(timeout_s))
    try:
        async with asyncio.TaskGroup() as group:
            for client in range(clients):
                group.create_task(engine.client(client))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    finally:
        watch.cancel()
        engine.close()
        # To await the task itself, and pass over its end, would pass over an interrupt of this one too.
        await asyncio.wait((watch,))


class _Engine(Generic[C]):
    """What the clients of one run share."""

    def __init__(self, work: Work[C], servers: Sequence[LoadTarget], pace: Pace, tls: ssl.SSLContext | None) -> None:
        self._work = work
        self._servers = servers
        self._pace = pace
        self._tls = tls
        self._idle: list[list[AsyncChannel]] = [[] for _ in servers]
        self._all: list[AsyncChannel] = []

    async def client(self, number: int) -> None:
        """One client, until there is no more for it to do."""
        clock = time.perf_counter
        while (due_s := self._pace.take(clock())) is not None:
            wait_s = due_s - clock()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
                due_s = min(due_s, clock())  # the loop's timer has milliseconds and may be early
            began_s = clock()
            call = self._work.begin(number, began_s)
            if call is None:
                return
            if not await self._exchange(call, due_s, began_s):
                await asyncio.sleep(PAUSE_AFTER_ERROR_S)

    async def _exchange(self, call: C, due_s: float, began_s: float) -> bool:
        idle = self._idle[call.server]
        channel = idle.pop() if idle else self._new_channel(call.server)
        try:
            if not channel.is_open:
                await channel.open(OPEN_S)
            answer = await channel.ask(call.request)
        except (UnopenedError, UnheardError) as error:
            failure = _failure(error, channel.host)
            self._work.failed(call, failure, Times(due_s, began_s, time.perf_counter()))
            return False
        finally:
            idle.append(channel)
        return self._work.answered(call, answer.status, answer.body, Times(due_s, began_s, time.perf_counter()))

    def _new_channel(self, server: int) -> AsyncChannel:
        address = self._servers[server]
        channel = AsyncChannel(Host(address.host, address.port, is_tls=address.tls), tls=self._tls)
        self._all.append(channel)
        return channel

    async def give_up_silent(self, timeout_s: float) -> None:
        """Until cancelled: drop every connection whose server has been silent for ``timeout_s``."""
        while True:
            await asyncio.sleep(min(WATCH_S, timeout_s))
            oldest_s = time.monotonic() - timeout_s
            for channel in self._all:
                if 0 < channel.waiting_since_s < oldest_s:
                    channel.give_up()

    def close(self) -> None:
        """Drop all connections."""
        for channel in self._all:
            channel.close()


def _failure(error: UnopenedError | UnheardError, host: Host) -> Failure:
    detail = f"{host.authority}: {error}"
    if isinstance(error, UnopenedError):
        return Failure(Effect.NO, UNREACHABLE, detail)
    return Failure(Effect.UNKNOWN, NO_ANSWER if error.is_silence else CONNECTION_LOST, detail)
