"""What one key may do: the sequential specification that the checker holds a history against.

The state of a key is its value, ``None`` when it is absent; it begins absent. Every operation comes down to one
``Transition``: a test of the state, and perhaps a value to write. An operation of unknown outcome either makes its
transition at some time or does not; that its precondition failed is the same as that it never happened.

Pure. Imports ``raftkv.instruments.lab.history`` only.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

import msgspec

from raftkv.instruments.lab.history import (
    CompareAndSet,
    DeleteAction,
    Existing,
    GetAction,
    ObservedOperation,
    Outcome,
    PutAction,
)

State = bytes | None


class Test(enum.Enum):
    """How a transition tests the state against its value."""

    ALWAYS = "always"
    EQUAL = "equal"
    DIFFERENT = "different"


class Transition(NamedTuple):
    """Possible if the state passes ``test`` against ``against``; then ``value`` is written, or the state stays."""

    test: Test
    against: State
    writes: bool
    value: State

    def accepts(self, state: State) -> bool:
        """Can it happen in ``state``?"""
        return self.test is Test.ALWAYS or (state == self.against) is (self.test is Test.EQUAL)

    def step(self, state: State) -> State:
        """The state after it."""
        return self.value if self.writes else state


def transition_of(operation: ObservedOperation) -> Transition | None:
    """What ``operation`` asserts about its key, or ``None`` when it asserts nothing and cannot have changed anything.

    A failed operation has had no effect, a read that was not answered has told nothing, and an unknown write that would
    write what it expects changes nothing.
    """
    if operation.outcome is Outcome.FAILED:
        return None
    transition = _of_known(operation) if operation.outcome is Outcome.OK else _of_unknown(operation)
    if transition is not None and transition.test is Test.EQUAL and transition.against == transition.value:
        transition = transition._replace(writes=False)
    if operation.outcome is Outcome.UNKNOWN and (transition is None or not transition.writes):
        return None
    return transition


def without_test(operation: ObservedOperation) -> ObservedOperation:
    """The same write, done whatever was there before; a note remembers that it was not so simple."""
    transition = transition_of(operation)
    if transition is None or not transition.writes or transition.test is Test.ALWAYS:
        return operation
    if not isinstance(operation.action, CompareAndSet):
        return msgspec.structs.replace(operation, result=None)
    action = DeleteAction() if transition.value is None else PutAction(transition.value)
    note = f"{operation.note}, by compare-and-set" if operation.note else "by compare-and-set"
    return msgspec.structs.replace(operation, action=action, result=None, note=note)


def _of_known(operation: ObservedOperation) -> Transition:
    action, result = operation.action, operation.result
    match action:
        case GetAction():
            assert not isinstance(result, bool)
            return Transition(Test.EQUAL, result, writes=False, value=None)
        case PutAction():
            return Transition(Test.ALWAYS, None, writes=True, value=action.value)
        case DeleteAction():
            if result is None:
                return Transition(Test.ALWAYS, None, writes=True, value=None)
            return Transition(Test.DIFFERENT if result else Test.EQUAL, None, writes=bool(result), value=None)
        case CompareAndSet():
            done = _compare_and_set(action)
            if result:
                return done
            opposite = Test.DIFFERENT if done.test is Test.EQUAL else Test.EQUAL
            return Transition(opposite, done.against, writes=False, value=None)


def _of_unknown(operation: ObservedOperation) -> Transition | None:
    action = operation.action
    match action:
        case GetAction():
            return None
        case PutAction():
            return Transition(Test.ALWAYS, None, writes=True, value=action.value)
        case DeleteAction():
            return Transition(Test.ALWAYS, None, writes=True, value=None)
        case CompareAndSet():
            return _compare_and_set(action)


def _compare_and_set(action: CompareAndSet) -> Transition:
    if isinstance(action.expected, Existing):
        return Transition(Test.DIFFERENT, None, writes=True, value=action.value)
    return Transition(Test.EQUAL, action.expected, writes=True, value=action.value)
