"""A lease as its holder has it: granted, kept alive, lost in time, and revoked. Pure: no socket, no thread.

The holder must know that a lease is lost before the cluster can have ended it. It counts by its own clock from when it
*sent* the last request that succeeded, which is earlier than when any node took it, and takes off what two clocks may
drift apart (``CLOCK_DRIFT_MAX``, as ``raft.clock_drift_bound`` is by default) and ``EARLY_S``: from then on the lease
is lost, whatever an answer may say later. A holder that does not look before it acts only a fencing token keeps safe.

In a process that was forked the lease is lost from the start: its parent keeps it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from raftkv.api import paths
from raftkv.api.answers import KeysDeleted, LeaseGranted
from raftkv.api.bodies import NewLease
from raftkv.client.calls import Call
from raftkv.client.errors import LeaseLost
from raftkv.client.records import outcome_from_body, typed
from raftkv.client.requests import CallPlans, must_exist
from raftkv.client.steps import Plan
from raftkv.core.errors import Code, DefiniteError, RaftkvError, UsageError

CLOCK_DRIFT_MAX: Final = 0.1
"""How far, as a fraction, this machine's clock may run slower than those of the nodes."""

EARLY_S: Final = 0.1
"""How much earlier than its time a cluster may end a lease (``docs/decisions/0004-lease-time.rst``)."""

KEPT_IN_A_LIFE: Final = 3
"""How often a lease is kept alive in the time that it lives."""

PAUSE_MAX_S: Final = 1.0
"""Between one keep-alive that failed and the next."""


class LeaseTerm:
    """How long a lease lives for certain, by the clock ``now_s``, and when it is to be kept alive next."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._process = 0
        self._ends_s = 0.0
        self._due_s = 0.0
        self._is_over = True

    def lasts(self, sent_s: float, ttl_s: float) -> None:
        """A request that was sent at ``sent_s`` let it live for ``ttl_s``; too late is too late."""
        if self._process and self.is_over:
            return
        self._process, self._is_over = os.getpid(), False
        self._ends_s = max(self._ends_s, sent_s + ttl_s * (1 - CLOCK_DRIFT_MAX) - EARLY_S)
        self._due_s = sent_s + ttl_s / KEPT_IN_A_LIFE

    def failed(self) -> None:
        """Keeping it alive failed, and is to be tried again soon."""
        self._due_s = self._now_s() + min(PAUSE_MAX_S, self.left_s() / 4)

    def end(self) -> None:
        """It is over, whatever the clock says."""
        self._is_over = True

    @property
    def is_own(self) -> bool:
        """Was it granted to this process?"""
        return self._process == os.getpid()

    @property
    def is_over(self) -> bool:
        return self._is_over or not self.is_own or self._now_s() >= self._ends_s

    def left_s(self) -> float:
        """How long it lives for certain."""
        return 0.0 if self.is_over else max(0.0, self._ends_s - self._now_s())

    def pause_s(self) -> float | None:
        """How long to wait before it is kept alive again; ``None`` when it is over."""
        return None if self.is_over else max(0.0, min(self._due_s, self._ends_s) - self._now_s())


class HeldLease:
    """A lease of a client; see ``Client.lease``. ``id`` is its number, 0 before it is granted.

    ``is_lost``: it has ended, or may have by now. It is told before the cluster can have ended it, and for good.
    """

    def __init__(
        self, calls: CallPlans, ttl: float, *, now_s: Callable[[], float], on_lost: Callable[[], None] | None
    ) -> None:
        if not 1 <= ttl <= 10 * 365 * 86_400:
            raise UsageError(f"ttl: {ttl!r} is not a number of seconds from 1 to ten years")
        self.id = 0
        self.ttl = ttl
        self._calls = calls
        self._now_s = now_s
        self._on_lost = on_lost
        self._term = LeaseTerm(now_s)
        self._is_revoked = False

    @property
    def is_lost(self) -> bool:
        """Was it granted, and has ended, or may have by now?"""
        return bool(self.id) and not self._is_revoked and self._term.is_over

    def left_s(self) -> float:
        """How many seconds it lives for certain, if nobody keeps it alive any more."""
        return self._term.left_s()

    def check(self) -> None:
        """Raises ``LeaseLost`` when it is lost."""
        if self.is_lost:
            raise LeaseLost(f"the lease {self.id} is lost")

    # -- for who performs it

    def granting(self) -> Plan[None]:
        """Have it granted."""
        if self.id:
            raise UsageError("a lease is granted once; make another")
        sent_s = self._now_s()
        granted = yield from self._calls.told("POST", paths.LEASES, NewLease(ttl=self.ttl), LeaseGranted)
        self._term.lasts(sent_s, granted.ttl)
        self.id = granted.id

    def keeping(self) -> Plan[None]:
        """Keep it alive once; that it fails is known by ``pause_s``."""
        sent_s = self._now_s()
        call = Call(
            method="POST",
            path=paths.filled(paths.KEEPALIVE, str(self.id)),
            is_read=False,
            repeatable=True,
        )
        try:
            # No answer that comes after the end is waited for.
            answer = yield from self._calls.answer(call, min(self._calls.deadline_s(), self._ends_s()))
            must_exist(answer)
            self._term.lasts(sent_s, typed(outcome_from_body(answer.body), LeaseGranted, is_read=False).ttl)
        except RaftkvError as error:
            if error.code == Code.LEASE_NOT_FOUND:
                self._term.end()
            self._term.failed()

    def pause_s(self) -> float | None:
        """How long to wait before it is kept alive again; ``None`` when nobody shall any more."""
        return self._term.pause_s()

    def revoking(self) -> Plan[None]:
        """End it, and all that goes with it; that it has ended already is no failure. Only its own process can."""
        is_own = self.id and not self._is_revoked and self._term.is_own
        self._is_revoked = True
        self._term.end()
        if not is_own:
            return
        try:
            yield from self._calls.told("DELETE", paths.filled(paths.LEASE, str(self.id)), None, KeysDeleted)
        except DefiniteError as error:
            if error.code != Code.LEASE_NOT_FOUND:
                raise

    def tell(self) -> None:
        """Nobody keeps it alive any more: whoever wants to know that it is lost is told."""
        if self.is_lost and self._on_lost is not None and self._term.is_own:
            self._on_lost()

    def _ends_s(self) -> float:
        """By the clock of deadlines."""
        return self._calls.now_s() + self._term.left_s()

    def __repr__(self) -> str:
        if not self.id:
            return f"<{type(self).__name__} not granted yet>"
        state = "revoked" if self._is_revoked else "lost" if self.is_lost else f"{self.left_s():.1f} s left"
        return f"<{type(self).__name__} {self.id}, {state}>"
