"""The one interface that the HTTP layer, embedded use, the contract tests and the simulator know.

Raft and quorum implement it inside the replica process; the front-end holds a third implementation that speaks to that
process. This module imports nothing but msgspec and its neighbours in ``core``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from raftkv.core.requests import Request
from raftkv.core.results import Outcome
from raftkv.core.status import ModeStatus


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


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What readers of the applied state see: all up to ``applied_index``, the last write of which is ``revision``.

    Without a log ``applied_index`` is 0, and ``revision`` the newest stamp of this node when it last wrote to its disk.
    """

    revision: int
    applied_index: int


Hear = Callable[[Shown | None], None]
"""Hears what is shown; ``None``: nobody knows, the replica is away."""


class Subscription:
    """One listener of a replicator, until ``end``."""

    __slots__ = ("_subscribers", "hear")

    def __init__(self, subscribers: Subscribers, hear: Hear) -> None:
        self._subscribers = subscribers
        self.hear = hear

    def end(self) -> None:
        """Hear nothing more; from the owner's thread, also while hearing, and any number of times."""
        self._subscribers.remove(self)


class Subscribers:
    """The listeners of one replicator. ``changed`` is called when the first came (true) and when the last left."""

    def __init__(self, changed: Callable[[bool], None] = lambda _: None) -> None:
        self._all: dict[Subscription, None] = {}
        self._changed = changed
        self.latest: Shown | None = None

    def __len__(self) -> int:
        return len(self._all)

    def add(self, hear: Hear) -> Subscription:
        """See ``Replicator.subscribe``."""
        subscription = Subscription(self, hear)
        self._all[subscription] = None
        if len(self._all) == 1:
            self._changed(True)  # noqa: FBT003  one word, as in the class's docstring
        if self.latest is not None:
            hear(self.latest)
        return subscription

    def remove(self, subscription: Subscription) -> None:
        """``subscription`` has ended."""
        if self._all.pop(subscription, self) is None and not self._all:
            self._changed(False)  # noqa: FBT003

    def tell(self, shown: Shown | None) -> None:
        """Readers see this from now on."""
        self.latest = shown
        for subscription in tuple(self._all):
            subscription.hear(shown)


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

    def subscribe(self, hear: Hear) -> Subscription:
        """Call ``hear`` with what readers are shown, at once where that is known, and whenever it may have changed.

        Only ever the newest counts: several changes may be told as one, and one more than once, so nothing is queued
        for who is slow, and who wants what happened between reads it in the state. Ordering: nothing is told before
        it can be read, and nothing goes back but after ``None``; whoever subscribes first and then reads misses
        nothing. Crash: nothing is remembered; a replica that comes back tells where it stands then, to the same
        subscriptions. Threads: on the owner's, from within ``work`` or this call; ``hear`` must not raise, block or
        call the replicator, except to end its subscription.
        """

    def status(self) -> ModeStatus:
        """What this node knows of itself right now, without asking anyone."""

    def close(self) -> None:
        """End: pending requests become unknown or refused, files and sockets are closed; nothing may follow."""
