"""What a plan asks of whoever performs it, one step at a time, and what it is given back. Pure: no socket, no clock.

A plan is a generator: it yields a step, is sent what came of that, and ends in a value or an error. Whoever performs it
decides nothing: it does what a step says, within its time, never twice, and hands back what came, a failure as a value.
An interrupt, or the end of a task, closes the plan. A plan is performed once.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple, Protocol, TypeVar

from raftkv.client.http1 import HttpAnswer
from raftkv.client.reach import Host, UnheardError, UnopenedError

T = TypeVar("T")


class AskWhole(NamedTuple):
    """Send ``request`` and hear the whole answer within ``timeout_s``: gives an ``HttpAnswer`` or a failure.

    ``is_apart``: on a new connection that serves for nothing else.
    """

    host: Host
    method: str
    request: bytes
    timeout_s: float
    is_apart: bool = False


class AskHead(NamedTuple):
    """Send ``request`` and hear the head of the answer within ``timeout_s``: gives an ``AnswerBody`` or a failure."""

    host: Host
    method: str
    request: bytes
    timeout_s: float


class TakePiece(NamedTuple):
    """Wait for the next piece of ``body``, ``timeout_s`` at most: gives ``bytes``, empty at the end, or a failure."""

    body: AnswerBody
    timeout_s: float


class Wait(NamedTuple):
    """Let ``wait_s`` pass; gives nothing."""

    wait_s: float


class AnswerBody(Protocol):
    """An answer whose body is taken as it comes; its connection is lent to nobody else until ``end``."""

    head: HttpAnswer

    def end(self) -> None:
        """Nothing more is wanted. Does not wait, and may be said twice."""

    def cut(self) -> None:
        """Whoever waits for a piece now waits no longer, and ``end``s it. Any thread may say it where threads are."""


class Performer(Protocol):
    """What performs plans."""

    def now_s(self) -> float:
        """The clock of deadlines: seconds."""


Step = AskWhole | AskHead | TakePiece | Wait
Outcome = HttpAnswer | AnswerBody | bytes | UnopenedError | UnheardError | None
Plan = Generator[Step, Outcome, T]
