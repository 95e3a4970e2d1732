"""Leases and what is held with them, of the blocking client: a thread keeps each lease alive. ``leases`` decides."""

from __future__ import annotations

import threading
from abc import ABC
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

from raftkv.client.arguments import AnyLease, Value
from raftkv.client.exchange import Exchange
from raftkv.client.holds import ElectionPlans, HeldLead, HeldLock, HeldName, LeaderRecord, LeadTerms, LockTerms
from raftkv.client.lease_plans import LeaseInfo, LeasePlans
from raftkv.client.leases import HeldLease
from raftkv.client.observing import LeaderStream
from raftkv.client.requests import CallPlans
from raftkv.client.watches import ClientStream
from raftkv.core.clocks import lease_now_s
from raftkv.core.errors import RaftkvError, UsageError


class ClientLease(HeldLease):
    """See ``HeldLease``. Any thread may ask it; ``on_lost`` is called in a thread of its own."""

    def __init__(
        self, exchange: Exchange, calls: CallPlans, ttl: float, on_lost: Callable[[], None] | None = None
    ) -> None:
        super().__init__(calls, ttl, now_s=lease_now_s, on_lost=on_lost)
        self._exchange = exchange
        self._revoked = threading.Event()

    def grant(self) -> None:
        """Have it granted, and kept alive from now on, until ``revoke``."""
        self._exchange.perform(self.granting())
        threading.Thread(target=self._keep, name=f"raftkv lease {self.id}", daemon=True).start()

    def revoke(self) -> None:
        """End it, and every key that goes with it; twice is as good as once."""
        self._revoked.set()
        self._exchange.perform(self.revoking())

    def _keep(self) -> None:
        while (pause_s := self.pause_s()) is not None:
            if self._revoked.wait(pause_s):
                return
            self._exchange.perform(self.keeping())
        self.tell()

    def __enter__(self) -> Self:
        self.grant()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.revoke()
        else:
            _ended(self, error)


class ClientLeases:
    """Leases by number, that nobody keeps alive in the background; see ``Client.leases``."""

    def __init__(self, exchange: Exchange, calls: CallPlans) -> None:
        self._exchange = exchange
        self._plans = LeasePlans(calls)

    def grant(self, ttl: float, *, number: int | None = None) -> int:
        """A lease of ``ttl`` seconds (1 to ten years); returns its number, chosen by the cluster or given.

        Raises ``DefiniteError`` with the code ``lease_exists``.
        """
        return self._exchange.perform(self._plans.grant(ttl, number))

    def keep_alive(self, leases: Iterable[AnyLease]) -> tuple[int, ...]:
        """Let all live for their whole time again, in one request; returns the numbers of those that there are not."""
        return self._exchange.perform(self._plans.keep_alive(leases))

    def find(self, lease: AnyLease) -> LeaseInfo | None:
        """The lease, with what goes with it; ``None`` when there is none."""
        return self._exchange.perform(self._plans.find(lease))

    def list(self) -> Iterator[LeaseInfo]:
        """Every lease, by number, fetched page by page; how many keys each has, but not which."""
        return self._exchange.each(self._plans.every())

    def revoke(self, lease: AnyLease) -> int:
        """End it now, and all that goes with it, at one revision; returns how many keys went.

        Raises ``DefiniteError`` with the code ``lease_not_found``.
        """
        return self._exchange.perform(self._plans.revoke(lease))


class ClientHold(HeldName, ABC):
    """See ``HeldName``; held in a ``with`` block, or from ``acquire`` to ``release``.

    Leaving the block raises ``LockLost`` when it was lost meanwhile. A ``lease`` that is given lives on.
    """

    _own: ClientLease | None
    _lease: HeldLease

    def _with(self, exchange: Exchange, lease: HeldLease | float, on_lost: Callable[[], None] | None) -> None:
        self._exchange = exchange
        if isinstance(lease, HeldLease):
            if on_lost is not None:
                raise UsageError("on_lost: say it where the lease is made")
            self._own, self._lease = None, lease
        else:
            self._own = self._lease = ClientLease(exchange, self._calls, lease, on_lost)

    @property
    def lease(self) -> HeldLease:
        """The lease with which it is held."""
        return self._lease

    def acquire(self) -> None:
        """Wait for it, as long as was said; raises ``LockHeld``."""
        if self._own is not None:
            self._own.grant()
        try:
            self._exchange.perform(self.entering())
        except BaseException as error:
            # Whatever came of the attempt, it holds nothing once its lease has ended.
            if self._own is not None:
                _ended(self._own, error)
            raise

    def release(self) -> None:
        """Let it go; twice is as good as once."""
        token, self.token = self.token, 0
        if self._own is not None:
            self._own.revoke()
        elif token:
            self._exchange.perform(self.leaving(token))

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lost = self.loss() if error is None else None
        try:
            self.release()
        except RaftkvError as failure:
            told = error or lost
            if told is None:
                raise
            told.add_note(f"{self.name!r} could not be released, and is with the end of its lease: {failure}")
        if lost is not None:
            raise lost


def _ended(lease: ClientLease, error: BaseException) -> None:
    try:
        lease.revoke()
    except RaftkvError as failure:
        error.add_note(f"the lease {lease.id} could not be revoked, and ends by itself: {failure}")


class ClientLock(ClientHold, HeldLock):
    """A lock, or a permit of a semaphore; see ``Client.lock``."""

    def __init__(
        self,
        exchange: Exchange,
        calls: CallPlans,
        terms: LockTerms,
        lease: HeldLease | float,
        on_lost: Callable[[], None] | None,
    ) -> None:
        HeldLock.__init__(self, calls, terms)
        self._with(exchange, lease, on_lost)


class ClientLead(ClientHold, HeldLead):
    """The lead, for as long as it is held; see ``ClientElection.campaign``."""

    def __init__(
        self,
        exchange: Exchange,
        calls: CallPlans,
        terms: LeadTerms,
        lease: HeldLease | float,
        on_lost: Callable[[], None] | None,
    ) -> None:
        HeldLead.__init__(self, calls, terms)
        self._with(exchange, lease, on_lost)

    def proclaim(self, value: Value) -> int:
        """Be known by ``value`` from now on; returns the revision. Raises ``LockLost``."""
        return self._exchange.perform(self.proclaiming(value))


class ClientElection:
    """An election: who campaigns leads in turn; see ``Client.election``."""

    def __init__(self, exchange: Exchange, calls: CallPlans, name: str) -> None:
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
    ) -> ClientLead:
        """Lead, in a ``with`` block, known by ``value``; the choices are those of ``Client.lock``."""
        terms = LeadTerms(name=self.name, wait=wait, value=value)
        return ClientLead(self._exchange, self._calls, terms, lease or ttl, on_lost)

    def leader(self) -> LeaderRecord | None:
        """Who leads, ``None`` while nobody does."""
        return self._exchange.perform(self._plans.leader())

    def observe(self) -> ClientStream[LeaderRecord | None]:
        """Who leads, for ``for``: as it is, and again whenever that or the leader's value changes, until it is closed.

        ``None`` while nobody does. Every leader comes, in order, and none twice: it goes on from node to node by
        itself, and only its beginning must succeed within ``timeout_s``. Where history is forgotten while no node can
        be reached, it goes on with who leads then. Who came to lead and went within one revision is not shown.
        """
        return ClientStream(self._exchange, LeaderStream(self._calls, self.name))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"
