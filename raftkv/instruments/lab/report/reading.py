"""A history of one key as its readers met it: which acknowledged writes each answer left out.

The order of two writes is known only when one returned before the other was invoked. So a read is called *stale* only
when it began after a write had been acknowledged, and everything it was shown was written by writes that had all
returned before that one was invoked: then no order of events makes the answer new. Pure. Imports ``flaw``,
``history`` and ``specification``.
"""

from __future__ import annotations

import math

from raftkv.instruments.lab.flaw import Case
from raftkv.instruments.lab.history import GetAction, History, ObservedOperation, Outcome
from raftkv.instruments.lab.specification import State


class KeyHistory:
    """The operations on one key; ``writes`` are those that were acknowledged, ``reads`` those that were answered."""

    def __init__(self, part: History) -> None:
        """``part`` holds operations on one key only."""
        case = Case(part.operations)
        self.writes = [write.operation for write in case.writes]
        self.reads = [each for each in part if isinstance(each.action, GetAction) and each.outcome is Outcome.OK]
        self._writers = case.writers

    def newest_shown_ns(self, read: ObservedOperation) -> float:
        """When the last write of anything that ``read`` was shown had returned; minus infinity: before everything."""
        return max(self._writers(value).over_ns(math.inf) for value in shown(read))

    def begun_ns(self, read: ObservedOperation) -> float:
        """When the newest of what ``read`` was shown began to be written, at the earliest."""
        return max(-math.inf if value is None else self._writers(value).first_ns() for value in shown(read))

    def missed(self, read: ObservedOperation) -> list[ObservedOperation]:
        """The acknowledged writes that ``read`` should have shown the effect of, and was too old for."""
        newest_ns = self.newest_shown_ns(read)
        return [
            write
            for write in self.writes
            if write.returned_ns is not None and write.returned_ns < read.invoked_ns and write.invoked_ns > newest_ns
        ]


def shown(read: ObservedOperation) -> tuple[State, ...]:
    """All values that a read was given."""
    assert not isinstance(read.result, bool)
    return (read.result, *read.siblings)
