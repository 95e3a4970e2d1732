"""The one interface that the HTTP layer, embedded use, the contract tests and the simulator know.

Raft and quorum implement it inside the replica process; the front-end holds a third implementation that speaks to that
process. This module imports nothing but its neighbours in ``core``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from raftkv.core.requests import Request
from raftkv.core.results import Outcome, Status


class Pending:
    """The outcome of one submitted request, now or later; resolved exactly once, on the thread that does the work."""

    __slots__ = ("_callback", "outcome")

    def __init__(self) -> None:
        self.outcome: Outcome | None = None
        self._callback: Callable[[Outcome], None] | None = None

    def resolve(self, outcome: Outcome) -> None:
        """Fix the outcome and tell the waiter; a second call is a broken invariant."""
        assert self.outcome is None
        self.outcome = outcome
        callback, self._callback = self._callback, None
        if callback is not None:
            callback(outcome)

    def when_done(self, callback: Callable[[Outcome], None]) -> None:
        """Call ``callback`` with the outcome, at once if it is known; there is one waiter, and it must not raise."""
        if self.outcome is not None:
            callback(self.outcome)
            return
        assert self._callback is None
        self._callback = callback


class Replicator(Protocol):
    """Replicates requests. One thread owns it: every method is called from that thread, none of them blocks.

    Ordering: requests submitted one after another may take effect in any order; a client that needs an order waits for
    the first outcome. Retry: an implementation may retry what is definitely not applied, never what may be. Crash:
    after a crash of this process a request without an outcome is unknown; one with an outcome stands. Deadlines:
    every request gets an outcome by its deadline, give or take one call of ``work``. Of a read
    (``requests.is_read``) no outcome is ``Unknown``.
    """

    def submit(self, request: Request, deadline_s: float) -> Pending:
        """Take a request; ``deadline_s`` is absolute, on the monotonic clock, in seconds."""

    def work(self, now_s: float) -> float:
        """Do what is due at ``now_s`` (monotonic, seconds) and return when to be called again at the latest."""

    def status(self) -> Status:
        """What this node knows of itself right now, without asking anyone."""

    def close(self) -> None:
        """End: pending requests become unknown or refused, files and sockets are closed; nothing may follow."""
