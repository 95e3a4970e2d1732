"""A history of one key as its readers met it: which acknowledged writes each answer left out.

The order of two writes is known only when one returned before the other was invoked. So a read is called *stale* only
when it began after a write had been acknowledged, and everything it was shown was written by writes that had all
returned before that one was invoked: then no order of events makes the answer new. Pure. Imports ``history`` and
``specification``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from raftkv.instruments.lab.history import GetAction, History, ObservedOperation, Outcome
from raftkv.instruments.lab.specification import State, transition_of


class _Span(NamedTuple):
    """When the first write of a value began and the last one returned; infinite where that is not known."""

    first_invoked_ns: float
    last_returned_ns: float


_NEVER = _Span(-math.inf, -math.inf)


class KeyHistory:
    """The operations on one key; ``writes`` are those that were acknowledged, ``reads`` those that were answered."""

    def __init__(self, part: History) -> None:
        """``part`` holds operations on one key only."""
        self.reads: list[ObservedOperation] = []
        self.writes: list[ObservedOperation] = []
        spans: dict[State, _Span] = {}
        for operation in part:
            if isinstance(operation.action, GetAction):
                if operation.outcome is Outcome.OK:
                    self.reads.append(operation)
                continue
            transition = transition_of(operation)
            if transition is None or not transition.writes:
                continue
            known = spans.get(transition.value, _Span(math.inf, -math.inf))
            returned_ns = operation.returned_ns if operation.outcome is Outcome.OK else None
            spans[transition.value] = _Span(
                min(known.first_invoked_ns, operation.invoked_ns),
                max(known.last_returned_ns, math.inf if returned_ns is None else returned_ns),
            )
            if returned_ns is not None:
                self.writes.append(operation)
        self._spans = spans

    def newest_shown_ns(self, read: ObservedOperation) -> float:
        """When the last write of anything that ``read`` was shown had returned; minus infinity: before everything."""
        return max(self._spans.get(value, _NEVER).last_returned_ns for value in shown(read))

    def begun_ns(self, read: ObservedOperation) -> float:
        """When the newest of what ``read`` was shown began to be written, at the earliest."""
        return max(
            -math.inf if value is None else self._spans.get(value, _NEVER).first_invoked_ns for value in shown(read)
        )

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
