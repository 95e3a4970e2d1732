"""How a worker performs a plan: by callbacks, so that one whose answers are there at once costs no task and no future.

Rules: a plan is performed to its end, whoever leaves: then it hears of that, and takes back what it began; what it
raises is given to who waits for it, once. Must not import Flask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from time import monotonic
from typing import Any, Generic, TypeVar

from raftkv.coordination.feed import ChangeListener, Feed
from raftkv.coordination.steps import AwaitChange, Circumstances, Step, Submit
from raftkv.core.replicator import Pending, Replicator
from raftkv.core.rights import Caller
from raftkv.http.handlers.handler import Aside, asked_by

T = TypeVar("T")


class Performance(Generic[T]):
    """One plan on its way, for ``caller``."""

    def __init__(
        self,
        plan: Callable[[Circumstances], Generator[Step | Aside, Any, T]],
        replicator: Replicator,
        feed: Feed,
        caller: Caller,
    ) -> None:
        self._replicator = replicator
        self._feed = feed
        self._caller = caller
        self._has_left = False
        self._ended: Callable[[T | None, Exception | None], None] | None = None
        self._waiting: _Wait | None = None
        self._plan = plan(Circumstances(monotonic, lambda: self._has_left))

    def begin(self, ended: Callable[[T | None, Exception | None], None]) -> None:
        """Perform it; ``ended`` is called once, perhaps at once, with what it came to or with what it raised."""
        self._ended = ended
        self._go_on(None)

    def leave(self) -> None:
        """Nobody waits for it any more."""
        self._has_left = True
        if self._waiting is not None:
            self._waiting.wake()

    def _go_on(self, came: Any, failure: Exception | None = None) -> None:
        """Step by step, as far as it goes now: what is answered at once makes a loop, not a tower of calls."""
        while True:
            try:
                step = self._plan.send(came) if failure is None else self._plan.throw(failure)
            except StopIteration as end:
                self._end(end.value, None)
                return
            except Exception as error:  # noqa: BLE001  whoever waits decides what it means
                self._end(None, error)
                return
            came, failure = None, None
            if isinstance(step, Submit):
                pending = self._submit(step)
                if pending.outcome is None:
                    pending.when_done(self._go_on)
                    return
                came = pending.outcome
            elif isinstance(step, AwaitChange):
                if step.keys and self._has_left:
                    continue
                self._waiting = _Wait(self._feed, step, self._woken)
                return
            else:
                asyncio.get_running_loop().create_task(self._aside(step))
                return

    def _submit(self, step: Submit) -> Pending:
        return self._replicator.submit(asked_by(self._caller, step.request), step.deadline_s)

    def _woken(self) -> None:
        self._waiting = None
        self._go_on(None)

    async def _aside(self, step: Aside) -> None:
        came, failure = None, None
        try:
            came = await step.work()
        except Exception as error:  # noqa: BLE001  whatever it is, it is the plan's to know what it means
            failure = error
        self._go_on(came, failure)

    def _end(self, result: T | None, failure: Exception | None) -> None:
        ended, self._ended = self._ended, None
        assert ended is not None
        ended(result, failure)


class _Wait:
    """Waits for what a plan waits for, and calls ``woken`` in a later turn, once."""

    def __init__(self, feed: Feed, step: AwaitChange, woken: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._woken = woken
        self._is_over = False
        self._timer = self._loop.call_later(max(0.0, step.until_s - monotonic()), self.wake)
        self._awaited: list[ChangeListener] = []
        for key in step.keys:
            self._awaited.append(feed.wait(key, key + b"\x00", step.after, self.wake))

    def wake(self) -> None:
        """Something may have changed, or time is up, or the asker left."""
        if not self._is_over:
            self._is_over = True
            self._loop.call_soon(self._end)

    def _end(self) -> None:
        self._timer.cancel()
        for one in self._awaited:
            one.end()
        self._woken()
