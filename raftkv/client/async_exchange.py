"""Performs plans on an asyncio loop. It decides nothing; it is ``exchange`` with ``await``.

One loop at a time owns the connections: another one that comes later gets its own, and the first one's are closed; in a
process that was forked they are left to the parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import ssl
import time
from collections.abc import AsyncIterator
from typing import Final, TypeVar

from raftkv.client.async_channels import AsyncChannelBody, AsyncChannels
from raftkv.client.portions import Portions
from raftkv.client.reach import Host, UnheardError, UnopenedError
from raftkv.client.steps import AskHead, AskWhole, Outcome, Plan, Step, Wait

T = TypeVar("T")

CHANNELS_MAX: Final = 64
"""Connections of one client to one server. More calls at a time than this would only queue in the server."""


class AsyncExchange:
    """Performs plans over kept-alive connections, for any number of tasks; ``tls`` says who is trusted."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = 0
        self._channels: dict[Host, AsyncChannels] = {}

    def now_s(self) -> float:
        """The clock of deadlines."""
        return time.monotonic()

    async def perform(self, plan: Plan[T]) -> T:
        """Do what ``plan`` says, to its end: its value, or what it raises."""
        try:
            step = next(plan)
            while True:
                step = plan.send(await self._outcome(step))
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            plan.close()

    async def each(self, portions: Portions[T]) -> AsyncIterator[T]:
        """All of them, as they are wanted."""
        try:
            while (items := await self.perform(portions.more())) is not None:
                for item in items:
                    yield item
        finally:
            portions.close()

    def close(self) -> None:
        """Close the connections that nobody uses now; a later step opens new ones."""
        for channels in self._channels.values():
            channels.close()

    def _to(self, host: Host) -> AsyncChannels:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._leave()
            self._loop, self._process = loop, os.getpid()
        channels = self._channels.get(host)
        if channels is None:
            channels = self._channels[host] = AsyncChannels(host, tls=self._tls, limit=CHANNELS_MAX, place_s=math.inf)
        return channels

    def _leave(self) -> None:
        """Another loop has come: what the one before had is of no use."""
        channels, self._channels = self._channels, {}
        if self._loop is None or self._process != os.getpid():
            return
        for one in channels.values():
            if self._loop.is_closed():
                one.abandon()
            else:
                with contextlib.suppress(RuntimeError):  # it was closed just now, which closes them later
                    self._loop.call_soon_threadsafe(one.close)

    async def _outcome(self, step: Step) -> Outcome:
        try:
            return await self._done(step)
        except (UnopenedError, UnheardError) as failure:
            return failure.with_traceback(None)  # which would hold this frame

    async def _done(self, step: Step) -> Outcome:
        if isinstance(step, AskWhole):
            return await self._to(step.host).ask(*step[1:4], is_apart=step.is_apart)
        if isinstance(step, AskHead):
            return await self._to(step.host).begin(*step[1:])
        if isinstance(step, Wait):
            await asyncio.sleep(step.wait_s)
            return None
        assert isinstance(step.body, AsyncChannelBody)
        return await step.body.piece(step.timeout_s)
