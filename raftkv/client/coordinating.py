"""What the blocking client offers beside keys: watches, leases, locks and elections, in words.

This module must not import anything of the server.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping

from raftkv.client.arguments import Key
from raftkv.client.exchange import Exchange
from raftkv.client.holding import ClientElection, ClientLease, ClientLeases, ClientLock
from raftkv.client.holds import LockTerms
from raftkv.client.leases import HeldLease
from raftkv.client.planned import PlannedClient
from raftkv.client.watches import ClientStream, ClientWatch
from raftkv.client.watching import ChangeType, MirrorStream, WatchRange


class CoordinatingClient(PlannedClient[Exchange], ABC):
    """What ``Client`` offers beside keys, in clusters with a leader; others refuse it (``not_supported``)."""

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
    ) -> ClientWatch:
        """Changes of a key, of those with a prefix, or from ``start`` up to ``end``, as they come, until it is closed.

        From now on, or from the revision ``from_revision``, which must be kept: else ``RevisionCompacted`` is raised.
        ``previous``: with what was there before; ``only``: only what was put, or deleted. It goes on from node to node
        by itself, without a gap, a repetition or a disorder; only its beginning must succeed within ``timeout_s``.
        """
        watched = WatchRange(key=key, prefix=prefix, start=start, end=end, previous=previous, only=only)
        return ClientWatch(self._exchange, self._calls, watched, from_revision)

    def mirror(self, prefix: str) -> ClientStream[Mapping[str, bytes]]:
        """All that is under ``prefix``, as a mapping: as it stands, and again whenever it has changed.

        What came together is shown at once. What a program needs that reloads its configuration.
        """
        return ClientStream(self._exchange, MirrorStream(self._calls, prefix, self._plans.page_of))

    def lease(self, ttl: float, *, on_lost: Callable[[], None] | None = None) -> ClientLease:
        """A lease of ``ttl`` seconds, for a ``with`` block: kept alive in the background, revoked at its end.

        Keys that were set with it (``lease=``) go with it. It is lost when it could not be kept alive: ``is_lost`` says
        so, and ``on_lost`` is called, before the cluster can have ended it. A forked process does not have it.
        """
        return ClientLease(self._exchange, self._calls, ttl, on_lost)

    @property
    def leases(self) -> ClientLeases:
        """Leases by number: grant, keep alive, find, list, revoke; nobody keeps them alive in the background."""
        return ClientLeases(self._exchange, self._calls)

    def lock(
        self,
        name: str,
        *,
        ttl: float = 10.0,
        lease: HeldLease | None = None,
        wait: float = 60.0,
        holder: str = "",
        on_lost: Callable[[], None] | None = None,
    ) -> ClientLock:
        """A lock, held in a ``with`` block, with a fencing ``token`` that grows from grant to grant.

        It waits its turn for ``wait`` seconds at most, and raises ``LockHeld`` then. The lock goes with a lease of its
        own of ``ttl`` seconds, which is kept alive in the background, or with ``lease``. ``is_lost`` and ``on_lost``
        tell that it is lost before another can hold it; leaving the block raises ``LockLost`` then. ``holder`` is shown
        to others.
        """
        terms = LockTerms(name=name, wait=wait, holder=holder)
        return ClientLock(self._exchange, self._calls, terms, lease or ttl, on_lost)

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
    ) -> ClientLock:
        """As ``lock``, but ``permits`` may hold it at once; all must name the same number."""
        terms = LockTerms(name=name, wait=wait, holder=holder, permits=permits)
        return ClientLock(self._exchange, self._calls, terms, lease or ttl, on_lost)

    def election(self, name: str) -> ClientElection:
        """An election: ``with store.election(name).campaign(value) as lead`` leads, in turn; ``leader()`` says who."""
        return ClientElection(self._exchange, self._calls, name)
