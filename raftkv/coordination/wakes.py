"""Wakes who waits for a change of a contender's key: one reader of the changes, however many wait. Sans I/O.

Rules. Whoever waits is woken once, as soon as one of its keys has changed after the revision it names, or may have: the
history is gone, the replica was away, a read failed. It then looks for itself. Nobody else is woken. The changes of the
cluster's own keys are read from the state of this node, once for all, whenever that has moved on and somebody waits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raftkv.core.replicator import Replicator, Shown, Subscription
from raftkv.core.requests import SYSTEM, ChangesAfter, Consistency, Read
from raftkv.core.results import Answer, ChangePage, Outcome

READ_S: Final = 5.0


class Wake:
    """One who waits, until it is woken or ends."""

    __slots__ = ("_wakes", "after", "hear", "keys")

    def __init__(self, wakes: Wakes, keys: tuple[bytes, ...], after: int, hear: Callable[[], None]) -> None:
        self._wakes = wakes
        self.keys = keys
        self.after = after
        self.hear = hear

    def end(self) -> None:
        """Wait no more; any number of times."""
        self._wakes.forget(self)


class Wakes:
    """Those who wait at one worker. ``soon`` calls a function when the caller's has returned; seconds are monotonic."""

    def __init__(
        self,
        replicator: Replicator,
        *,
        soon: Callable[[Callable[[], None]], object],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._replicator = replicator
        self._soon = soon
        self._monotonic_s = monotonic_s
        self._waiting: dict[bytes, dict[Wake, None]] = {}
        self._subscription: Subscription | None = None
        self._shown = 0
        self._through = 0
        self._asked = 0
        self._is_reading = False

    def __len__(self) -> int:
        return len({wake for waiting in self._waiting.values() for wake in waiting})

    def wait(self, keys: tuple[bytes, ...], after: int, hear: Callable[[], None]) -> Wake:
        """Call ``hear`` once, not from within this, when one of ``keys`` may have changed after revision ``after``."""
        wake = Wake(self, keys, after, hear)
        if not keys:
            return wake
        self._through = min(self._through, after) if self._waiting else after
        for key in keys:
            self._waiting.setdefault(key, {})[wake] = None
        if self._subscription is None:
            self._shown = 0
            self._subscription = self._replicator.subscribe(self._hear)
        self._soon(self._read)
        return wake

    def forget(self, wake: Wake) -> None:
        """``wake`` is over."""
        for key in wake.keys:
            waiting = self._waiting.get(key)
            if waiting is not None and waiting.pop(wake, wake) is None and not waiting:
                del self._waiting[key]
        if not self._waiting and self._subscription is not None:
            self._subscription.end()
            self._subscription = None

    def _hear(self, shown: Shown | None) -> None:
        if shown is None:
            self._shown = 0
            self._soon(self._wake_all)
        else:
            self._shown = shown.revision
            self._soon(self._read)

    def _read(self) -> None:
        if self._is_reading or not self._waiting or self._shown <= self._through:
            return
        self._is_reading, self._asked = True, self._through
        query = ChangesAfter(revision=self._asked, start=SYSTEM)
        read = Read(query=query, consistency=Consistency.LOCAL)
        self._replicator.submit(read, self._monotonic_s() + READ_S).when_done(self._found)

    def _found(self, outcome: Outcome) -> None:
        self._is_reading = False
        page = outcome.content if isinstance(outcome, Answer) else None
        if not isinstance(page, ChangePage):
            self._through = max(self._through, self._shown)
            self._wake_all()
            return
        for change in page.changes:
            for wake in tuple(self._waiting.get(change.key, ())):
                if wake.after < change.revision:
                    self._wake(wake)
        if self._through >= self._asked:  # else somebody came meanwhile who must hear of what was before
            self._through = page.through
        self._soon(self._read)

    def _wake(self, wake: Wake) -> None:
        self.forget(wake)
        wake.hear()

    def _wake_all(self) -> None:
        for wake in {wake: None for waiting in self._waiting.values() for wake in waiting}:
            self._wake(wake)
