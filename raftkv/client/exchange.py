"""Performs plans in the thread that calls: where another client would await, this one waits. It decides nothing.

Neither the environment's proxies nor ``.netrc`` are looked at: a key-value store is not reached through a web proxy by
accident. Any thread may call.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import Iterator
from typing import TypeVar

from raftkv.client.channels import ChannelBody, Channels
from raftkv.client.portions import Portions
from raftkv.client.reach import UnheardError, UnopenedError
from raftkv.client.steps import AskHead, AskWhole, Outcome, Plan, Step, Wait

T = TypeVar("T")


class Exchange:
    """Performs plans over kept-alive connections, for any number of threads; ``tls`` says who is trusted."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self._channels = Channels(tls=tls)

    def now_s(self) -> float:
        """The clock of deadlines."""
        return time.monotonic()

    def perform(self, plan: Plan[T]) -> T:
        """Do what ``plan`` says, to its end: its value, or what it raises."""
        with contextlib.closing(plan):
            try:
                step = next(plan)
                while True:
                    step = plan.send(self._outcome(step))
            except StopIteration as end:
                value: T = end.value
                return value

    def each(self, portions: Portions[T]) -> Iterator[T]:
        """All of them, as they are wanted."""
        with contextlib.closing(portions):
            while (items := self.perform(portions.more())) is not None:
                yield from items

    def close(self) -> None:
        """Close the connections; a later step opens them again."""
        self._channels.close()

    def _outcome(self, step: Step) -> Outcome:
        try:
            return self._done(step)
        except (UnopenedError, UnheardError) as failure:
            return failure.with_traceback(None)  # which would hold this frame

    def _done(self, step: Step) -> Outcome:
        if isinstance(step, AskWhole):
            return self._channels.ask(*step[:4], is_apart=step.is_apart)
        if isinstance(step, AskHead):
            return self._channels.begin(*step)
        if isinstance(step, Wait):
            time.sleep(step.wait_s)
            return None
        assert isinstance(step.body, ChannelBody)
        return step.body.piece(step.timeout_s)
