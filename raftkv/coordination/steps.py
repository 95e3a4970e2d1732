"""What a plan of several requests asks of whoever performs it, step by step. Pure: no socket, no clock, no loop.

A plan is a generator: it yields a step, is sent what came of it, and returns its result. Whoever performs it decides
nothing: a worker and the simulator perform the same plans. A plan never ends before its last step has: where the asker
has left, it still takes back what it began.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import NamedTuple, TypeVar

from raftkv.core.errors import Refused, Unknown, of_read
from raftkv.core.requests import Request
from raftkv.core.results import Outcome

T = TypeVar("T")


class Submit(NamedTuple):
    """Give ``request`` to the replicator, by ``deadline_s``: gives the outcome."""

    request: Request
    deadline_s: float


class AwaitChange(NamedTuple):
    """Wait until one of ``keys`` may have changed after revision ``after``, or ``until_s``, or the asker leaves.

    Without keys it is a pause. Gives nothing: which of them it was, the plan finds out by looking.
    """

    keys: tuple[bytes, ...]
    after: int
    until_s: float


class Circumstances(NamedTuple):
    """What a plan may ask at any time: the clock of deadlines (seconds), and whether nobody waits for it any more."""

    now_s: Callable[[], float]
    has_left: Callable[[], bool]


Step = Submit | AwaitChange
Plan = Generator[Step, Outcome | None, T]


def submitted(request: Request, deadline_s: float) -> Plan[Outcome]:
    """Submit ``request``; the outcome."""
    outcome = yield Submit(request, deadline_s)
    assert outcome is not None
    return outcome


def read_failure(outcome: object) -> Refused:
    """Why a read came to nothing: no outcome of a read is unknown, whatever it was told as."""
    assert isinstance(outcome, Refused | Unknown)
    return of_read(outcome)
