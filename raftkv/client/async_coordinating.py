"""What the client for asyncio offers beside keys: ``coordinating`` with ``await``.

This module must not import anything of the server.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping

from raftkv.client.arguments import Key
from raftkv.client.async_exchange import AsyncExchange
from raftkv.client.async_holding import AsyncElection, AsyncLease, AsyncLeases, AsyncLock
from raftkv.client.async_watches import AsyncStream, AsyncWatch
from raftkv.client.holds import LockTerms
from raftkv.client.leases import HeldLease
from raftkv.client.planned import PlannedClient
from raftkv.client.watching import ChangeType, MirrorStream, WatchRange


class AsyncCoordinatingClient(PlannedClient[AsyncExchange], ABC):
    """What ``AsyncClient`` offers beside keys, in clusters with a leader; others refuse it (``not_supported``)."""

    def watch(
        self,
        key: Key | None = None,
        *,
        prefix: str | None = None,
        start: str | None = None,
        end: str | None = None,
        from_revision: int | None = None,
        previous: bool = False,
        only: ChangeType | None = None,
    ) -> AsyncWatch:
        """Changes as they come, for ``async for``, until it is closed. See ``Client.watch``."""
        watched = WatchRange(key=key, prefix=prefix, start=start, end=end, previous=previous, only=only)
        return AsyncWatch(self._exchange, self._calls, watched, from_revision)

    def mirror(self, prefix: str) -> AsyncStream[Mapping[str, bytes]]:
        """All that is under ``prefix``, as a mapping: now, and again whenever it has changed. See ``Client.mirror``."""
        return AsyncStream(self._exchange, MirrorStream(self._calls, prefix, self._plans.page_of))

    def lease(self, ttl: float, *, on_lost: Callable[[], None] | None = None) -> AsyncLease:
        """A lease, for an ``async with`` block: kept alive by a task, revoked at its end. See ``Client.lease``."""
        return AsyncLease(self._exchange, self._calls, ttl, on_lost)

    @property
    def leases(self) -> AsyncLeases:
        """Leases by number: grant, keep alive, find, list, revoke. See ``Client.leases``."""
        return AsyncLeases(self._exchange, self._calls)

    def lock(
        self,
        name: str,
        *,
        ttl: float = 10.0,
        lease: HeldLease | None = None,
        wait: float = 60.0,
        holder: str = "",
        on_lost: Callable[[], None] | None = None,
    ) -> AsyncLock:
        """A lock, held in an ``async with`` block, with a fencing ``token``. See ``Client.lock``."""
        terms = LockTerms(name=name, wait=wait, holder=holder)
        return AsyncLock(self._exchange, self._calls, terms, lease or ttl, on_lost)

    def semaphore(
        self,
        name: str,
        permits: int,
        *,
        ttl: float = 10.0,
        lease: HeldLease | None = None,
        wait: float = 60.0,
        holder: str = "",
        on_lost: Callable[[], None] | None = None,
    ) -> AsyncLock:
        """As ``lock``, but ``permits`` may hold it at once. See ``Client.semaphore``."""
        terms = LockTerms(name=name, wait=wait, holder=holder, permits=permits)
        return AsyncLock(self._exchange, self._calls, terms, lease or ttl, on_lost)

    def election(self, name: str) -> AsyncElection:
        """An election: ``campaign(value)`` leads, in turn, and ``leader()`` says who. See ``Client.election``."""
        return AsyncElection(self._exchange, self._calls, name)
