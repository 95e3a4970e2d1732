"""Operations and flaws in words, for people; lists are told by their length and their last element. Pure.

Imports its neighbours ``additions``, ``flaw``, ``history`` and ``specification``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from typing import Final

import msgspec

from raftkv.instruments.lab.additions import LIST_PREFIX, elements
from raftkv.instruments.lab.flaw import Flaw, FlawKind
from raftkv.instruments.lab.history import (
    CompareAndSet,
    DeleteAction,
    Existing,
    GetAction,
    ObservedOperation,
    Outcome,
    PutAction,
)
from raftkv.instruments.lab.specification import State, transition_of

_VALUE_CHARACTERS_MAX: Final = 24

_LISTED_MAX: Final = 3
"""Of a longer list, how long it is says more than its beginning."""


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """How moments are told: seconds since ``origin_ns``, with as many ``digits`` as it takes to tell them apart."""

    origin_ns: int
    digits: int

    def seconds(self, moment_ns: int | None) -> str:
        """``moment_ns`` in words; ``?`` when it is not known."""
        return "?" if moment_ns is None else f"{(moment_ns - self.origin_ns) / 1e9:.{self.digits}f}"


def clock_for(operations: Iterable[ObservedOperation], origin_ns: int) -> Clock:
    """The clock that tells the moments of ``operations`` apart."""
    moments_ns = {moment for each in operations for moment in (each.invoked_ns, each.returned_ns) if moment is not None}
    gaps_ns = [later - earlier for earlier, later in itertools.pairwise(sorted(moments_ns))]
    least_ns = min(gaps_ns, default=1_000_000)
    return Clock(origin_ns=origin_ns, digits=max(3, math.ceil(9 - math.log10(least_ns))))


def quoted(value: State) -> str:
    """A value as people read it, shortened where it is long."""
    if value is None:
        return "nothing"
    text = value.decode(errors="backslashreplace")
    if not text.isprintable():
        text = ascii(text)[1:-1]
    if len(text) > _VALUE_CHARACTERS_MAX:
        half = _VALUE_CHARACTERS_MAX // 2  # of both ends: values that grow differ in the last of them
        text = f"{text[:half]}…{text[1 - half :]}"
    return f"'{text}'"


def shown(operation: ObservedOperation, value: State) -> str:
    """A value of the key of ``operation`` as people read it."""
    if value is None or not operation.key.startswith(LIST_PREFIX):
        return quoted(value)
    found = [each.decode(errors="backslashreplace") for each in elements(value)]
    if len(found) <= _LISTED_MAX:
        return f"[{', '.join(found)}]"
    return f"[{len(found)} things, last {found[-1]}]"


def described(operation: ObservedOperation) -> str:
    """The action and what it was told, in few words; siblings one beside the other."""
    result = operation.result
    match operation.action:
        case GetAction():
            if operation.outcome is not Outcome.OK or isinstance(result, bool):
                return "get"
            return f"get → {' | '.join(shown(operation, value) for value in (result, *operation.siblings))}"
        case PutAction(value):
            return f"put {shown(operation, value)}"
        case DeleteAction():
            return "delete" if result is None else f"delete → {'done' if result else 'nothing there'}"
        case CompareAndSet(expected, value):
            test = "anything" if isinstance(expected, Existing) else shown(operation, expected)
            effect = shown(operation, value) if value is not None else "deleted"
            return f"cas {test} to {effect}" + ("" if result is None else f" → {'done' if result else 'not so'}")


def sentence(flaw: Flaw, clock: Clock) -> str:
    """What is wrong."""
    if flaw.kind is FlawKind.OTHER:
        return f"no order of these {len(flaw.operations)} operations explains what the clients were told"
    accused = flaw.accused
    if flaw.kind is FlawKind.SIBLINGS:
        values = (value for value in (*accused.siblings, accused.result) if isinstance(value, bytes))
        told = " and ".join(shown(accused, value) for value in values)
        return f"client {accused.client} was given {told} at once at {clock.seconds(accused.returned_ns)} s"
    saw = _saw(accused, clock)
    if flaw.kind is FlawKind.LOST_UPDATE:
        assert flaw.other is not None
        return f"{_saw(flaw.other, clock)}, and {saw} as well, although {_found(flaw.accused)} was written only once"
    return saw + _objection(flaw, clock)


def _objection(flaw: Flaw, clock: Clock) -> str:
    """Why what the accused was told cannot be."""
    other = flaw.other
    if other is None:
        return ", which nobody ever wrote"
    match flaw.kind:
        case FlawKind.INVENTED_VALUE:
            return ", before anybody began to write it"
        case FlawKind.DIRTY_READ:
            return f", although {_whose(other)} had been refused"
        case FlawKind.BACKWARDS:
            return f", after {_saw(other, clock)}, which was written later"
        case FlawKind.REAPPEARED:
            return f" again, after {_saw(other, clock)}, although {_found(flaw.accused)} was written only once"
        case _:
            again = f", and nobody wrote {_found(flaw.accused)} again" if flaw.kind is FlawKind.RESURRECTED else ""
            return f", although {_whose(other)} had returned at {clock.seconds(other.returned_ns)} s{again}"


def _found(operation: ObservedOperation) -> str:
    transition = transition_of(operation)
    assert transition is not None
    return shown(operation, transition.against)


def _saw(operation: ObservedOperation, clock: Clock) -> str:
    """Who found what, by which action, and when."""
    transition = transition_of(operation)
    assert transition is not None
    found = transition.against
    before = shown(operation, found)
    match operation.action:
        case GetAction():
            deed = f"read {before}" if found is not None else "found nothing"
        case CompareAndSet(value=bytes(value)) if operation.result and found is None:
            deed = f"created {shown(operation, value)} where nothing was"
        case CompareAndSet(value=bytes(value)) if operation.result:
            deed = f"replaced {before} by {shown(operation, value)}"
        case CompareAndSet() if operation.result:
            deed = f"deleted {before}"
        case _:
            deed = "was told that nothing was there"
    return f"client {operation.client} {deed} at {clock.seconds(operation.returned_ns)} s"


def named_write(operation: ObservedOperation) -> str:
    """A write in a sentence."""
    match operation.action:
        case PutAction(value):
            return f"put of {shown(operation, value)}"
        case CompareAndSet(value=bytes(value)):
            return f"compare-and-set to {shown(operation, value)}"
        case _:
            return "delete"


def _whose(operation: ObservedOperation) -> str:
    """A write, and whose it was."""
    return f"client {operation.client}'s {named_write(operation)}"
