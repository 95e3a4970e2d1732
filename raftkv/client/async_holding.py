"""Leases and what is held with them, of the client for asyncio: a task keeps each lease alive. ``leases`` decides."""

from __future__ import annotations

import asyncio
from abc import ABC
from collections.abc import AsyncIterator, Callable, Iterable
from types import TracebackType
from typing import Self

from raftkv.client.arguments import AnyLease, Value
from raftkv.client.async_exchange import AsyncExchange
from raftkv.client.async_watches import AsyncStream
from raftkv.client.holds import ElectionPlans, HeldLead, HeldLock, HeldName, LeaderRecord, LeadTerms, LockTerms
from raftkv.client.lease_plans import LeaseInfo, LeasePlans
from raftkv.client.leases import HeldLease
from raftkv.client.observing import LeaderStream
from raftkv.client.requests import CallPlans
from raftkv.core.clocks import lease_now_s
from raftkv.core.errors import RaftkvError, UsageError


class AsyncLease(HeldLease):
    """See ``HeldLease``. ``on_lost`` is called in the loop, by a task of its own."""

    def __init__(
        self, exchange: AsyncExchange, calls: CallPlans, ttl: float, on_lost: Callable[[], None] | None = None
    ) -> None:
        super().__init__(calls, ttl, now_s=lease_now_s, on_lost=on_lost)
        self._exchange = exchange
        self._keeper: asyncio.Task[None] | None = None

    async def grant(self) -> None:
        """Have it granted, and kept alive from now on, until ``revoke``."""
        await self._exchange.perform(self.granting())
        self._keeper = asyncio.create_task(self._keep(), name=f"raftkv lease {self.id}")

    async def revoke(self) -> None:
        """End it, and every key that goes with it; twice is as good as once."""
        if self._keeper is not None:
            self._keeper.cancel()
        await self._exchange.perform(self.revoking())

    async def _keep(self) -> None:
        while (pause_s := self.pause_s()) is not None:
            await asyncio.sleep(pause_s)
            await self._exchange.perform(self.keeping())
        self.tell()

    async def __aenter__(self) -> Self:
        await self.grant()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            await self.revoke()
        else:
            await _ended(self, error)


class AsyncLeases:
    """Leases by number, that nobody keeps alive in the background; see ``AsyncClient.leases``."""

    def __init__(self, exchange: AsyncExchange, calls: CallPlans) -> None:
        self._exchange = exchange
        self._plans = LeasePlans(calls)

    async def grant(self, ttl: float, *, number: int | None = None) -> int:
        """A lease of ``ttl`` seconds (1 to ten years); returns its number, chosen by the cluster or given.

        Raises ``DefiniteError`` with the code ``lease_exists``.
        """
        return await self._exchange.perform(self._plans.grant(ttl, number))

    async def keep_alive(self, leases: Iterable[AnyLease]) -> tuple[int, ...]:
        """Let all live for their whole time again, in one request; returns the numbers of those that there are not."""
        return await self._exchange.perform(self._plans.keep_alive(leases))

    async def find(self, lease: AnyLease) -> LeaseInfo | None:
        """The lease, with what goes with it; ``None`` when there is none."""
        return await self._exchange.perform(self._plans.find(lease))

    def list(self) -> AsyncIterator[LeaseInfo]:
        """Every lease, by number, fetched page by page; how many keys each has, but not which."""
        return self._exchange.each(self._plans.every())

    async def revoke(self, lease: AnyLease) -> int:
        """End it now, and all that goes with it, at one revision; returns how many keys went.

        Raises ``DefiniteError`` with the code ``lease_not_found``.
        """
        return await self._exchange.perform(self._plans.revoke(lease))


class AsyncHold(HeldName, ABC):
    """See ``HeldName``; held in an ``async with`` block, or from ``acquire`` to ``release``.

    Leaving the block raises ``LockLost`` when it was lost meanwhile. A ``lease`` that is given lives on.
    """

    _own: AsyncLease | None
    _lease: HeldLease

    def _with(self, exchange: AsyncExchange, lease: HeldLease | float, on_lost: Callable[[], None] | None) -> None:
        self._exchange = exchange
        if isinstance(lease, HeldLease):
            if on_lost is not None:
                raise UsageError("on_lost: say it where the lease is made")
            self._own, self._lease = None, lease
        else:
            self._own = self._lease = AsyncLease(exchange, self._calls, lease, on_lost)

    @property
    def lease(self) -> HeldLease:
        """The lease with which it is held."""
        return self._lease

    async def acquire(self) -> None:
        """Wait for it, as long as was said; raises ``LockHeld``."""
        if self._own is not None:
            await self._own.grant()
        try:
            await self._exchange.perform(self.entering())
        except BaseException as error:
            # Whatever came of the attempt, it holds nothing once its lease has ended.
            if self._own is not None:
                await _ended(self._own, error)
            raise

    async def release(self) -> None:
        """Let it go; twice is as good as once."""
        token, self.token = self.token, 0
        if self._own is not None:
            await self._own.revoke()
        elif token:
            await self._exchange.perform(self.leaving(token))

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lost = self.loss() if error is None else None
        try:
            await self.release()
        except RaftkvError as failure:
            told = error or lost
            if told is None:
                raise
            told.add_note(f"{self.name!r} could not be released, and is with the end of its lease: {failure}")
        if lost is not None:
            raise lost


async def _ended(lease: AsyncLease, error: BaseException) -> None:
    try:
        await lease.revoke()
    except RaftkvError as failure:
        error.add_note(f"the lease {lease.id} could not be revoked, and ends by itself: {failure}")


class AsyncLock(AsyncHold, HeldLock):
    """A lock, or a permit of a semaphore; see ``Client.lock``."""

    def __init__(
        self,
        exchange: AsyncExchange,
        calls: CallPlans,
        terms: LockTerms,
        lease: HeldLease | float,
        on_lost: Callable[[], None] | None,
    ) -> None:
        HeldLock.__init__(self, calls, terms)
        self._with(exchange, lease, on_lost)


class AsyncLead(AsyncHold, HeldLead):
    """The lead, for as long as it is held; see ``AsyncElection.campaign``."""

    def __init__(
        self,
        exchange: AsyncExchange,
        calls: CallPlans,
        terms: LeadTerms,
        lease: HeldLease | float,
        on_lost: Callable[[], None] | None,
    ) -> None:
        HeldLead.__init__(self, calls, terms)
        self._with(exchange, lease, on_lost)

    async def proclaim(self, value: Value) -> int:
        """Be known by ``value`` from now on; returns the revision. Raises ``LockLost``."""
        return await self._exchange.perform(self.proclaiming(value))


class AsyncElection:
    """An election: who campaigns leads in turn; see ``Client.election``."""

    def __init__(self, exchange: AsyncExchange, calls: CallPlans, name: str) -> None:
        self.name = name
        self._exchange = exchange
        self._calls = calls
        self._plans = ElectionPlans(calls, name)

    def campaign(
        self,
        value: Value = "",
        *,
        ttl: float = 10.0,
        lease: HeldLease | None = None,
        wait: float = 60.0,
        on_lost: Callable[[], None] | None = None,
    ) -> AsyncLead:
        """Lead, in an ``async with`` block, known by ``value``; the choices are those of ``Client.lock``."""
        terms = LeadTerms(name=self.name, wait=wait, value=value)
        return AsyncLead(self._exchange, self._calls, terms, lease or ttl, on_lost)

    async def leader(self) -> LeaderRecord | None:
        """Who leads, ``None`` while nobody does."""
        return await self._exchange.perform(self._plans.leader())

    def observe(self) -> AsyncStream[LeaderRecord | None]:
        """Who leads, for ``async for``, now and whenever that changes. See ``ClientElection.observe``."""
        return AsyncStream(self._exchange, LeaderStream(self._calls, self.name))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"
