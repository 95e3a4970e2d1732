"""Operations drawn as bars, in text or as a picture: a lane for each client, and places in the order of events.

Bars show the order of events, not how long they took: what matters is what was over before something else began, and
that words fit. Pure. Imports ``raftkv.instruments.lab.history`` only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from raftkv.instruments.lab.history import ObservedOperation, Outcome

Moment = tuple[float, int]
"""When, and does something begin (0) or end (1) then? Beginnings come first: such operations are concurrent."""


def begin_of(operation: ObservedOperation) -> Moment:
    """When the bar begins."""
    return operation.invoked_ns, 0


def end_of(operation: ObservedOperation) -> Moment:
    """When the bar ends: never where the client was not told."""
    returned_ns = None if operation.outcome is Outcome.UNKNOWN else operation.returned_ns
    return math.inf if returned_ns is None else returned_ns, 1


def lanes(operations: Iterable[ObservedOperation]) -> list[list[ObservedOperation]]:
    """The operations by client; one that begins before the lane's last one has ended gets another lane."""
    found: list[list[ObservedOperation]] = []
    for operation in sorted(operations, key=begin_of):
        for lane in found:
            if lane[-1].client == operation.client and end_of(lane[-1]) < begin_of(operation):
                lane.append(operation)
                break
        else:
            found.append([operation])
    return found


def places(
    operations: Sequence[ObservedOperation],
    moments: Iterable[Moment],
    *,
    first: float,
    step: float,
    room: Callable[[ObservedOperation], float],
) -> dict[Moment, float]:
    """Where each beginning, each known end and each of ``moments`` stands: from ``first`` on, ``step`` apart or more.

    Each bar that ends has ``room`` for its words.
    """
    events = {begin_of(each) for each in operations} | {end_of(each) for each in operations} - {(math.inf, 1)}
    found: dict[Moment, float] = {}
    place = first
    for event in sorted(events | set(moments)):
        ending = (found[begin_of(each)] + room(each) for each in operations if end_of(each) == event)
        found[event] = max([place, *ending])
        place = found[event] + step
    return found
