"""How several requests for the replica become one response, and what is taken back when its client leaves meanwhile.

Rules: a plan is performed to its end, whoever leaves: then it hears of that, and takes back what it began; at most
``limit`` of them wait for others, so that some connections are left for requests, the releases among them. Must not
import Flask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final, Protocol

from raftkv.coordination.feed import Feed
from raftkv.coordination.steps import AwaitChange, Circumstances, Submit
from raftkv.core.errors import Code
from raftkv.core.replicator import Pending, Replicator
from raftkv.core.rights import NOBODY, Caller
from raftkv.http.futures import outcome_of
from raftkv.http.handlers.handler import Conversation, asked_by
from raftkv.http.messages import HttpResponse
from raftkv.http.problems import problem

LEAVING_S: Final = 0.25
"""How often it is tried whether a client that has closed its half has left."""


class Asker(Protocol):
    """A client's connection, as far as a long conversation needs more than ASGI has."""

    def begin_wait(self, half_closed: Callable[[], None]) -> None:
        """``half_closed`` is called once the client has sent all it ever will."""

    def probe(self) -> None:
        """Send something that means nothing: who has left without a word is found by it."""

    def end_wait(self) -> None:
        """It is over."""


class Conversations:
    """The conversations of one worker."""

    def __init__(self, replicator: Replicator, feed: Feed, *, limit: int) -> None:
        self._replicator = replicator
        self._feed = feed
        self._limit = limit
        self._open: dict[_Talk, None] = {}

    @property
    def open_count(self) -> int:
        """How many are under way."""
        return len(self._open)

    async def carry(self, conversation: Conversation, asker: Asker | None, caller: Caller = NOBODY) -> HttpResponse:
        """The response; if this is cancelled, the plan hears that nobody waits for it. ``caller`` is who asks."""
        if conversation.is_long and sum(talk.is_long for talk in self._open) >= self._limit:
            return problem(Code.OVERLOADED, f"{self._limit} requests wait for others already; try again later")
        talk = _Talk(conversation, self._replicator, self._feed, caller)
        self._open[talk] = None
        task = asyncio.get_running_loop().create_task(talk.run())
        task.add_done_callback(lambda _: self._open.pop(talk))
        if asker is None or not conversation.is_long:
            return await self._heard(talk, task)
        probing = _Probing(asker)
        asker.begin_wait(probing.begin)
        try:
            return await self._heard(talk, task)
        finally:
            probing.end()
            asker.end_wait()

    @staticmethod
    async def _heard(talk: _Talk, task: asyncio.Task[HttpResponse]) -> HttpResponse:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            talk.leave()
            raise

    def end(self) -> None:
        """The worker ends: nobody waits any more."""
        for talk in tuple(self._open):
            talk.leave()


class _Probing:
    """Tries, again and again, whether a client that has closed its half has left."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        self._asker.probe()
        self._timer = asyncio.get_running_loop().call_later(LEAVING_S, self.begin)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class _Talk:
    """One plan on its way."""

    def __init__(self, conversation: Conversation, replicator: Replicator, feed: Feed, caller: Caller) -> None:
        self.is_long = conversation.is_long
        self._replicator = replicator
        self._feed = feed
        self._caller = caller
        self._has_left = False
        self._woken = asyncio.Event()
        self._plan = conversation.plan(Circumstances(monotonic, lambda: self._has_left))

    def leave(self) -> None:
        """Nobody waits for it any more."""
        self._has_left = True
        self._woken.set()

    async def run(self) -> HttpResponse:
        """Perform it."""
        plan, came, failed = self._plan, None, None
        while True:
            try:
                step = plan.send(came) if failed is None else plan.throw(failed)
            except StopIteration as end:
                response: HttpResponse = end.value
                return response
            came, failed = None, None
            if isinstance(step, Submit):
                came = await outcome_of(self._submit(step))
            elif isinstance(step, AwaitChange):
                await self._wait(step)
            else:
                try:
                    came = await step.work()
                except Exception as error:  # noqa: BLE001  whatever it is, it is the plan's to know what it means
                    failed = error

    def _submit(self, step: Submit) -> Pending:
        return self._replicator.submit(asked_by(self._caller, step.request), step.deadline_s)

    async def _wait(self, step: AwaitChange) -> None:
        self._woken.clear()
        if self._has_left and step.keys:
            return
        awaited = [self._feed.wait(key, key + b"\x00", step.after, self._woken.set) for key in step.keys]
        try:
            async with asyncio.timeout(max(0.0, step.until_s - monotonic())):
                await self._woken.wait()
        except TimeoutError:
            pass
        finally:
            for one in awaited:
                one.end()
