"""From a contradiction among thousands of operations to one among a handful, which still follows from what was told.

An operation may be left out only if leaving it out turns every explanation of the rest into one without it; then a
contradiction among the fewer operations is one among all of them. That holds

* for an operation that writes nothing, always;
* for the test of a write (a compare-and-set becomes a put): fewer demands keep every explanation;
* for a write of ``v`` without a test, known or unknown, if no remaining test can tell ``v`` from what it replaced: take
  the write out of an explanation, and until the next write the state is what it was before. Whoever looks there
  accepted ``v``; so only one that demands ``v``, or that forbids another value than ``v``, can be disturbed.
  Operations that had returned before the write was invoked never look there, and neither do those invoked after some
  other, acknowledged write had ended that was invoked after this one had returned.

Leaving out an acknowledged put whose value somebody may have read is none of these: it would accuse the store falsely.
For the sake of people, the last writer of a value that was read stays in any case: nobody should think that the value
came from nowhere.

Pure. Imports its neighbours ``history``, ``search`` and ``specification``.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, NamedTuple

from raftkv.instruments.lab.history import ObservedOperation, Outcome
from raftkv.instruments.lab.search import SearchEnd, search
from raftkv.instruments.lab.specification import State, Test, Transition, transition_of, without_test

_STEPS_MAX: Final = 5_000_000
"""For all attempts together; then the smallest contradiction that was found so far must do."""

_STEPS_PER_ATTEMPT_MAX: Final = 500_000
"""An attempt that takes longer is given up: the operations stay."""

_STRETCH_LEAST: Final = 16
"""So many operations, one invoked after the other, are the shortest stretch to look for a contradiction in."""


def reduced(
    operations: Iterable[ObservedOperation], *, steps_max: int = _STEPS_MAX
) -> tuple[ObservedOperation, ...] | None:
    """The smallest contradiction found within ``operations`` of one key; ``None`` when none was found.

    It can be found where a search among all ``operations`` takes too long, because only few are looked at together.
    """
    told = [operation for operation in operations if transition_of(operation) is not None]
    reduction = _Reduction(told, steps_max)
    if not reduction.focus():
        return None
    reduction.leave_out()
    reduction.leave_out_tests()
    reduction.leave_out()
    reduction.restore_tests()
    return tuple(reduction.operations[index] for index in reduction.kept)


def removable(chunk: AbstractSet[int], operations: Sequence[ObservedOperation]) -> set[int]:
    """Those of the operations with the indexes ``chunk`` that may be left out of ``operations`` together.

    All of them must assert something: ``transition_of`` is not ``None``. They are in order of invocation.
    """
    return _Reduction(operations, 0).removable(chunk)


class _Look(NamedTuple):
    """A test by an operation that stays, and between which moments it may be made."""

    invoked_ns: int
    until_ns: float
    test: Test
    against: State


class _Stay:
    """What the operations that stay can see of one that leaves, asked of the looks around it only."""

    def __init__(self, staying: Iterable[tuple[ObservedOperation, Transition]]) -> None:
        self._looks: list[_Look] = []
        certain: list[tuple[int, int]] = []
        for operation, transition in staying:
            returned_ns = operation.returned_ns
            is_known = operation.outcome is Outcome.OK and returned_ns is not None
            if transition.test is not Test.ALWAYS:
                until_ns = returned_ns if is_known and returned_ns is not None else math.inf
                self._looks.append(_Look(operation.invoked_ns, until_ns, transition.test, transition.against))
            if transition.writes and is_known and returned_ns is not None:
                certain.append((operation.invoked_ns, returned_ns))
        self._latest_ns = list(itertools.accumulate((look.until_ns for look in self._looks), max))
        self._looked_ns = [look.invoked_ns for look in self._looks]
        self._written_ns = [invoked_ns for invoked_ns, _ in certain]
        returns_ns = (returned_ns for _, returned_ns in reversed(certain))
        self._overwritten_ns = list(itertools.accumulate(returns_ns, min))[::-1]

    def sees(self, write: ObservedOperation, transition: Transition) -> bool:
        """Might a look tell the difference that ``write`` makes?"""
        if not transition.writes:
            return False
        for index in range(bisect.bisect_right(self._looked_ns, self._gone_ns(write)) - 1, -1, -1):
            if self._latest_ns[index] < write.invoked_ns:
                return False
            look = self._looks[index]
            is_same = look.against == transition.value
            if look.until_ns >= write.invoked_ns and is_same is (look.test is Test.EQUAL):
                return True
        return False

    def _gone_ns(self, write: ObservedOperation) -> float:
        """By when some write that began after ``write`` had ended has surely taken its place."""
        if write.outcome is Outcome.UNKNOWN or write.returned_ns is None:
            return math.inf
        following = bisect.bisect_right(self._written_ns, write.returned_ns)
        return self._overwritten_ns[following] if following < len(self._overwritten_ns) else math.inf


class _Reduction:
    """The operations, some of them without their tests by now, and the indexes of those that are kept, in order."""

    def __init__(self, operations: Sequence[ObservedOperation], steps_max: int) -> None:
        self._steps_left = steps_max
        self._originals = tuple(operations)
        self.operations = list(operations)
        self._transitions = [_transition(operation) for operation in operations]
        self.kept = list(range(len(operations)))
        self._origins = self._find_origins()

    def _find_origins(self) -> dict[int, int]:
        """For each operation that found a value: who began last of those who may have written it."""
        writers: dict[State, list[int]] = {}
        for index, transition in enumerate(self._transitions):
            if transition.writes:
                writers.setdefault(transition.value, []).append(index)
        origins = {}
        for index, (operation, transition) in enumerate(zip(self._originals, self._transitions, strict=True)):
            if transition.test is Test.EQUAL and operation.returned_ns is not None:
                returned_ns = operation.returned_ns
                those = writers.get(transition.against, [])
                begun = bisect.bisect_right(those, returned_ns, key=lambda writer: self._originals[writer].invoked_ns)
                if begun:
                    origins[index] = those[begun - 1]
        return origins

    def removable(self, chunk: AbstractSet[int]) -> set[int]:
        """Those of ``chunk`` that may be left out together; they leave without their tests, which see nothing."""
        leaving = set(self.kept) & chunk
        while True:
            staying = [index for index in self.kept if index not in leaving]
            needed = self._needed(leaving, staying)
            if not needed:
                return leaving
            leaving -= needed

    def _needed(self, leaving: Iterable[int], staying: Iterable[int]) -> set[int]:
        """Those of ``leaving`` whose absence one of ``staying`` might see."""
        staying = list(staying)
        rest = _Stay((self.operations[index], self._transitions[index]) for index in staying)
        looking = (index for index in staying if self._transitions[index].test is Test.EQUAL)
        origins = {self._origins[index] for index in looking if index in self._origins}
        return {
            index
            for index in leaving
            if index in origins or rest.sees(self.operations[index], self._transitions[index])
        }

    def focus(self) -> bool:
        """Keep what was invoked during some stretch of time, the shortest that is found, and what it depends on."""
        width = min(_STRETCH_LEAST, len(self.operations))
        while True:
            for start in range(0, len(self.operations), max(1, width // 2)):
                if self._focus_on(range(start, min(start + width, len(self.operations)))):
                    return True
            if width >= len(self.operations) or self._steps_left <= 0:
                return False
            width *= 2

    def _focus_on(self, stretch: range) -> bool:
        outside = [index for index in self.kept if index not in stretch]
        needed = self._needed(outside, stretch)
        kept = [index for index in self.kept if index in stretch or index in needed]
        testless = {index: without_test(self.operations[index]) for index in needed}
        if not self._is_contradictory(testless.get(index, self.operations[index]) for index in kept):
            return False
        self.kept = kept
        self._replace(testless)
        return True

    def leave_out(self) -> None:
        """Leave out runs of operations, half of them at first, in the end each one, until all are needed."""
        size = max(1, len(self.kept) // 2)
        while self._steps_left > 0:
            has_changed = False
            for end in range(len(self.kept), 0, -size):
                leaving = self.removable(set(self.kept[max(0, end - size) : end]))
                rest = [index for index in self.kept if index not in leaving]
                if leaving and self._is_contradictory(self.operations[index] for index in rest):
                    self.kept = rest
                    has_changed = True
            if size == 1 and not has_changed:
                return
            size = max(1, size // 2)

    def leave_out_tests(self) -> None:
        """Take from the kept operations the tests that the contradiction does not need, in runs like the rest."""
        size = len(self.kept)
        while size and self._steps_left > 0:
            for start in range(0, len(self.kept), size):
                run = self.kept[start : start + size]
                before = {index: self.operations[index] for index in run}
                testless = {index: without_test(operation) for index, operation in before.items()}
                if testless != before:
                    self._replace(testless)
                    if not self._is_contradictory(self.operations[index] for index in self.kept):
                        self._replace(before)
            size //= 2

    def restore_tests(self) -> None:
        """Give the tests back where nothing that was left out could have mattered to them: it reads more easily."""
        left_out = set(range(len(self.operations))) - set(self.kept)
        for index in self.kept:
            testless = self.operations[index]
            self._replace({index: self._originals[index]})
            if self._needed(left_out, self.kept):
                self._replace({index: testless})

    def _replace(self, operations: Mapping[int, ObservedOperation]) -> None:
        for index, operation in operations.items():
            self.operations[index] = operation
            self._transitions[index] = _transition(operation)

    def _is_contradictory(self, operations: Iterable[ObservedOperation]) -> bool:
        steps_max = min(self._steps_left, _STEPS_PER_ATTEMPT_MAX)
        if steps_max <= 0:
            return False
        conclusion = search(operations, steps_max=steps_max)
        self._steps_left -= conclusion.steps
        return conclusion.finding is SearchEnd.CONTRADICTION


def _transition(operation: ObservedOperation) -> Transition:
    transition = transition_of(operation)
    assert transition is not None
    return transition
