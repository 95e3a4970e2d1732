"""One acknowledged write that is gone, with those who took part: small enough to be drawn and told. Pure.

Of all that were lost the plainest is told: additions to short lists first, whose end is known step by step. Imports its
neighbours ``harm`` and ``reading``, and ``additions``, ``flaw``, ``history`` and ``wording`` of the laboratory.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec

from raftkv.instruments.lab.additions import added, elements
from raftkv.instruments.lab.history import (
    LAST_LOOK,
    CompareAndSet,
    GetAction,
    History,
    ObservedOperation,
    Outcome,
    PutAction,
)
from raftkv.instruments.lab.report.harm import Harm, is_delete
from raftkv.instruments.lab.report.reading import shown
from raftkv.instruments.lab.wording import clock_for, named_write, quoted


class LostWrite(msgspec.Struct, frozen=True, kw_only=True):
    """``lost`` was acknowledged, and is not there at the last of ``operations``, which are in order of invocation.

    ``over`` wrote the list back without what ``lost`` had added; ``None`` when nobody is known to have. Moments are
    told in seconds since ``origin_ns``.
    """

    lost: ObservedOperation
    over: ObservedOperation | None
    operations: tuple[ObservedOperation, ...]
    origin_ns: int

    @property
    def element(self) -> str:
        """What was added to a list; empty if something else was done."""
        return (added(self.lost) or b"").decode(errors="backslashreplace")

    @property
    def sentence(self) -> str:
        """What happened."""
        lost, look = self.lost, self.operations[-1]
        clock = clock_for(self.operations, self.origin_ns)
        name = self.element
        if name:
            at_s = clock.seconds(lost.returned_ns)
            done = f"client {lost.client} added {name}, and was told at {at_s} s that it is done"
            if self.over is None:
                return f"{done}; in the end {name} is not there"
            who = "it" if self.over.client == lost.client else f"client {self.over.client}"
            return f"{done}; {who} had read the list before that, and wrote it back without {name}"
        left = " and ".join(quoted(value) for value in shown(look))
        if is_delete(lost):
            deleted = f"client {lost.client} was told at {clock.seconds(lost.returned_ns)} s that its delete is done"
            return f"{deleted}; in the end {left} is back"
        done = f"client {lost.client}'s {named_write(lost)} was acknowledged at {clock.seconds(lost.returned_ns)} s"
        return f"{done}; in the end {left} is there" + (", which is older" if look.result is not None else "")


def plainest_loss(history: History, harm: Harm, *, origin_ns: int) -> LostWrite | None:
    """The one that is told first; ``None`` when nothing was lost."""
    parts = {key: part.operations for key, part in history.by_key().items()}
    losses = [_dropped(write, parts[write.key], origin_ns) for write in harm.dropped]
    losses += [_replaced(write, parts[write.key], origin_ns) for write in harm.lost]
    return min(losses, key=_effort, default=None)


def _effort(loss: LostWrite) -> tuple[bool, int, float]:
    """How much a person must keep in mind: things at the same time, things in lists, and how far apart it all was."""
    *deeds, _ = loss.operations
    is_plain = loss.over is not None and loss.over.invoked_ns > (loss.lost.returned_ns or math.inf)
    length = sum(
        len(elements(each.action.value)) for each in deeds if isinstance(each.action, PutAction) and added(each)
    )
    return not is_plain, length, deeds[-1].invoked_ns - deeds[0].invoked_ns


def _dropped(lost: ObservedOperation, part: Sequence[ObservedOperation], origin_ns: int) -> LostWrite:
    """How an addition came to be dropped: by a write that was over later, of somebody who had not read it."""
    element = added(lost)
    over = min(
        (
            write
            for write in part
            if write.outcome is Outcome.OK
            and (value := _written(write)) is not None
            and element not in elements(value)
            and (write.returned_ns or math.inf) > lost.invoked_ns
        ),
        key=lambda write: (write.invoked_ns < (lost.returned_ns or 0), write.invoked_ns),
        default=None,
    )
    writes = [lost] if over is None else [lost, over]
    reads = [read for write in writes for read in _read_before(write, part)]
    return _told(lost, over, [*reads, *writes], part, origin_ns)


def _replaced(lost: ObservedOperation, part: Sequence[ObservedOperation], origin_ns: int) -> LostWrite:
    """A write and what is there instead of it: who wrote that, and one who had seen the lost value."""
    look = _look(part)
    older = [write for write in part if _written(write) is not None and _written(write) in shown(look)][-1:]
    seen = [
        each
        for each in part
        if isinstance(each.action, GetAction) and each.note != LAST_LOOK and _written(lost) in shown(each)
    ]
    return _told(lost, None, [*older, lost, *(seen[:1] if not is_delete(lost) else [])], part, origin_ns)


def _told(
    lost: ObservedOperation,
    over: ObservedOperation | None,
    deeds: Sequence[ObservedOperation],
    part: Sequence[ObservedOperation],
    origin_ns: int,
) -> LostWrite:
    ordered = sorted(dict.fromkeys(deeds), key=lambda each: each.invoked_ns)
    return LostWrite(lost=lost, over=over, operations=(*ordered, _look(part)), origin_ns=origin_ns)


def _look(part: Sequence[ObservedOperation]) -> ObservedOperation:
    return next(each for each in part if each.note == LAST_LOOK)


def _read_before(write: ObservedOperation, part: Sequence[ObservedOperation]) -> Iterator[ObservedOperation]:
    """The last read of the same client before ``write``, if there is one: what it wrote is built on that."""
    reads = [
        each
        for each in part
        if isinstance(each.action, GetAction)
        and each.outcome is Outcome.OK
        and each.client == write.client
        and (each.returned_ns or math.inf) <= write.invoked_ns
    ]
    yield from reads[-1:]


def _written(write: ObservedOperation) -> bytes | None:
    """The value that ``write`` may have left; ``None`` where it left none."""
    if not isinstance(write.action, PutAction | CompareAndSet) or write.result is False:
        return None
    return None if write.outcome is Outcome.FAILED else write.action.value
