"""How several requests for the replica become one response, and what is taken back when its client leaves meanwhile.

Plans are performed as ``raftkv.http.door.performing`` says; at most ``limit`` of them wait for others, so that some
connections are left for requests, the releases among them. Must not import Flask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from raftkv.coordination.feed import Feed
from raftkv.core.errors import Code
from raftkv.core.replicator import Replicator
from raftkv.core.rights import NOBODY, Caller
from raftkv.http.door.performing import Performance
from raftkv.http.handlers.handler import Conversation
from raftkv.http.messages import HttpResponse
from raftkv.http.problems import problem

LEAVING_S: Final = 0.25
"""How often it is tried whether a client that has closed its half has left."""

Ended = Callable[[HttpResponse | None, Exception | None], None]


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
        self._open: dict[Performance[HttpResponse], bool] = {}
        """Those under way; true for those that wait for others."""

    @property
    def open_count(self) -> int:
        """How many are under way."""
        return len(self._open)

    async def carry(self, conversation: Conversation, asker: Asker | None, caller: Caller = NOBODY) -> HttpResponse:
        """The response; if this is cancelled, the plan hears that nobody waits for it. ``caller`` is who asks."""
        if conversation.is_long and sum(self._open.values()) >= self._limit:
            return problem(Code.OVERLOADED, f"{self._limit} requests wait for others already; try again later")
        future: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()
        leave = self.begin(conversation, caller, partial(_settle, future))
        if asker is None or not conversation.is_long:
            return await self._heard(future, leave)
        probing = _Probing(asker)
        asker.begin_wait(probing.begin)
        try:
            return await self._heard(future, leave)
        finally:
            probing.end()
            asker.end_wait()

    def begin(self, conversation: Conversation, caller: Caller, ended: Ended) -> Callable[[], None]:
        """Perform it; ``ended`` hears, perhaps at once, what it came to or raised. Call what this gives on leaving."""
        talk = Performance(conversation.plan, self._replicator, self._feed, caller)
        self._open[talk] = conversation.is_long

        def end(response: HttpResponse | None, failure: Exception | None) -> None:
            del self._open[talk]
            ended(response, failure)

        talk.begin(end)
        return talk.leave

    @staticmethod
    async def _heard(future: asyncio.Future[HttpResponse], leave: Callable[[], None]) -> HttpResponse:
        try:
            return await future
        except asyncio.CancelledError:
            leave()
            raise

    def end(self) -> None:
        """The worker ends: nobody waits any more."""
        for talk in tuple(self._open):
            talk.leave()


def _settle(future: asyncio.Future[HttpResponse], response: HttpResponse | None, failure: Exception | None) -> None:
    if future.done():
        return  # whoever asked has left
    if failure is not None:
        future.set_exception(failure)
    else:
        assert response is not None
        future.set_result(response)


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
