"""Is there an order of the operations on one key that explains everything the clients were told?

The search of Wing and Gong ("Testing and Verifying Concurrent Objects", 1993) with the memory of Lowe ("Testing for
Linearizability", 2017): from the empty order, append one operation after the other, each allowed where no operation
that is still missing had returned before it was invoked, and never look twice at the same remaining operations with the
same state. Operations of unknown outcome may be appended at any time after their invocation, or never.

What keeps it short without ever changing the answer (an *explanation* is a complete order that the specification
allows; "missing" are operations that must still be appended; a *candidate* is one that may be appended next):

1. A candidate that writes nothing and accepts the state is appended at once. It can be moved from wherever an
   explanation has it to the front, since it changes nothing for the others.
2. Of several candidates with the same transition only the one that returns first is tried. Where an explanation begins
   with another, the two can change places: both were invoked early enough, and the later place is within both bounds.
3. Values that no test names look alike to every test, and are one state. With rule 2, the many writes that nobody ever
   read are one class, of which the search remembers a count and not a subset.
4. A write of unknown outcome is appended only as part of a chain, directly before the operation that needs it: one that
   accepts the state after it and not the state before. An explanation with as few unknown writes as possible needs each
   of them. What stands between one and the operation that needs it accepts both states and writes nothing (else the
   write would not be needed), so it can come first. Of several unknown writes with the same transition the earliest is
   used, as in rule 2: it has no bound to its right.
5. The state is not left while somebody must still see it and nobody is left who could write it again.
6. Of two places that differ in the unknown writes that were used, one that used a part of what the other did can do
   whatever the other can.

Steps are counted, each a look at one operation, so that equal histories give equal answers on every machine. Time and
memory are proportional to them. Pure: no clock, no thread. Imports its neighbours ``history`` and ``specification``.
"""

from __future__ import annotations

import enum
import heapq
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from raftkv.instruments.lab.history import ObservedOperation, Outcome
from raftkv.instruments.lab.specification import State, Test, Transition, transition_of

_ABSENT: Final = 0
_UNNAMED: Final = 1
"""The state of holding any value that no test names (rule 3)."""


class SearchEnd(enum.Enum):
    """What the search came to."""

    EXPLAINED = "explained"
    CONTRADICTION = "contradiction"
    EXHAUSTED = "exhausted"
    """The steps were used up before it was decided."""


class Conclusion(NamedTuple):
    """The finding, and the steps that it took."""

    finding: SearchEnd
    steps: int


class _Move(NamedTuple):
    """A transition between numbered states."""

    test: Test
    against: int
    writes: bool
    value: int

    def accepts(self, state: int) -> bool:
        return self.test is Test.ALWAYS or (state == self.against) is (self.test is Test.EQUAL)


class _Place(NamedTuple):
    """Where the search stands.

    Missing are the operations ``skipped`` and all from ``next_index`` on, by their numbers in order of invocation;
    ``used`` has a bit for each unknown write that was appended. Equal places have equal futures.
    """

    next_index: int
    skipped: tuple[int, ...]
    state: int
    used: int

    def after(self, index: int, state: int, used: int) -> _Place:
        """The place once the missing operation ``index`` is appended."""
        if index >= self.next_index:
            return _Place(index + 1, self.skipped + tuple(range(self.next_index, index)), state, used)
        at = self.skipped.index(index)
        return _Place(self.next_index, self.skipped[:at] + self.skipped[at + 1 :], state, used)


class _Unknown(NamedTuple):
    """The unknown writes of one transition: when each was invoked, and its bit; the earliest first."""

    move: _Move
    members: tuple[tuple[int, int], ...]

    def free(self, used: int, until_ns: float) -> int:
        """The bit of the earliest that is not ``used`` yet; 0 when there is none that was invoked by ``until_ns``."""
        for invoked_ns, bit in self.members:
            if not used & bit:
                return bit if invoked_ns <= until_ns else 0
        return 0


class _Stop(NamedTuple):
    """A place in the frontier, in the order in which the search goes on, and what may be appended there."""

    depth: int
    used_count: int
    number: int
    place: _Place
    candidates: list[int]
    until_ns: float


class _OutOfStepsError(Exception):
    pass


def search(operations: Iterable[ObservedOperation], *, steps_max: int) -> Conclusion:
    """Decide about ``operations``, all of one key, in about ``steps_max`` steps at most."""
    attempt = _Search(operations, steps_max)
    try:
        finding = SearchEnd.EXPLAINED if attempt.finds_explanation() else SearchEnd.CONTRADICTION
    except _OutOfStepsError:
        finding = SearchEnd.EXHAUSTED
    return Conclusion(finding, attempt.steps)


class _Search:
    """One key's operations in the form that the search wants, and the steps it has taken."""

    def __init__(self, operations: Iterable[ObservedOperation], steps_max: int) -> None:
        self.steps = 0
        self._steps_max = self._steps_now_max = steps_max
        told = [(operation, found) for operation in operations if (found := transition_of(operation)) is not None]
        moves = _numbered([transition for _, transition in told])
        required = [
            (operation.invoked_ns, operation.returned_ns, move)
            for (operation, _), move in zip(told, moves, strict=True)
            if operation.outcome is Outcome.OK and operation.returned_ns is not None
        ]
        required.sort(key=lambda entry: entry[:2])
        self._invoked = [invoked_ns for invoked_ns, _, _ in required]
        self._returned = [returned_ns for _, returned_ns, _ in required]
        self._moves = [move for _, _, move in required]
        self._last_observer = {move.against: index for index, move in enumerate(self._moves) if move.test is Test.EQUAL}
        self._last_writer = {move.value: index for index, move in enumerate(self._moves) if move.writes}
        self._unknown = _unknown_classes(
            (operation.invoked_ns, move)
            for (operation, _), move in zip(told, moves, strict=True)
            if operation.outcome is Outcome.UNKNOWN
        )
        self._unknown_writing: dict[int, list[_Unknown]] = {}
        for group in self._unknown:
            self._unknown_writing.setdefault(group.move.value, []).append(group)

    def finds_explanation(self) -> bool:
        """Try to get to an end quickly; if half of the steps do not suffice, go through all places in order.

        Deepest first finds most explanations almost at once. Shallowest first meets all places with the same missing
        operations together, so that rule 6 keeps only the best of them: that is how contradictions are found.
        """
        if self._last_observer.keys() - self._last_writer.keys() - self._unknown_writing.keys() - {_ABSENT}:
            return False
        try:
            return self._explore(steps_max=self._steps_max // 2, is_deepest_first=True)
        except _OutOfStepsError:
            return self._explore(steps_max=self._steps_max, is_deepest_first=False)

    def _explore(self, *, steps_max: int, is_deepest_first: bool) -> bool:
        self._steps_now_max = steps_max
        sign = -1 if is_deepest_first else 1
        seen: dict[tuple[int, tuple[int, ...], int], list[int]] = {}
        numbers = itertools.count()
        frontier = [_Stop(0, 0, 0, *self._settle(_Place(0, (), _ABSENT, 0)))]
        while frontier:
            stop = heapq.heappop(frontier)
            if not stop.candidates:
                return True
            place = stop.place
            known = seen.setdefault(place[:3], [])
            if any(used & place.used == used for used in known):
                continue
            known.append(place.used)
            for successor in self._successors(stop):
                settled, candidates, until_ns = self._settle(successor)
                depth = settled.next_index - len(settled.skipped)
                order = (sign * depth, settled.used.bit_count(), sign * next(numbers))
                heapq.heappush(frontier, _Stop(*order, settled, candidates, until_ns))
        return False

    def _settle(self, place: _Place) -> tuple[_Place, list[int], float]:
        """Rule 1; returns where it ends, the candidates there, and by when the next operation must be invoked."""
        while True:
            candidates, until_ns = self._candidates(place)
            state = place.state
            before = place
            for index in candidates:
                move = self._moves[index]
                if not move.writes and move.accepts(state):
                    place = place.after(index, state, place.used)
            if place is before:
                return place, candidates, until_ns

    def _candidates(self, place: _Place) -> tuple[list[int], float]:
        """The missing operations that no other missing one precedes, and when the first of the missing returned."""
        candidates = []
        until_ns = math.inf
        for index in itertools.chain(place.skipped, range(place.next_index, len(self._moves))):
            if self._invoked[index] > until_ns:
                break
            candidates.append(index)
            until_ns = min(until_ns, self._returned[index])
        self._count(len(candidates) + 1)
        return candidates, until_ns

    def _successors(self, stop: _Stop) -> list[_Place]:
        """The places to go on from; the last is the most promising: appended is what returned first."""
        place, candidates, until_ns = stop.place, stop.candidates, stop.until_ns
        first_of: dict[_Move, int] = {}
        for index in sorted(candidates, key=self._returned.__getitem__):
            first_of.setdefault(self._moves[index], index)
        successors = []
        for move, index in reversed(first_of.items()):
            if move.accepts(place.state):
                successors.append(place.after(index, move.value if move.writes else place.state, place.used))
                continue
            for used, value in self._chains(move, place, until_ns):
                successors.append(place.after(index, move.value if move.writes else value, used))
        return [successor for successor in successors if self._may_leave(place.state, successor)]

    def _chains(self, move: _Move, place: _Place, until_ns: float) -> Iterator[tuple[int, int]]:
        """Rule 4: chains of unknown writes after which ``move`` is possible, as what is used then and the state."""
        pending: list[tuple[_Move, int, int | None, frozenset[int]]] = [(move, place.used, None, frozenset())]
        while pending:
            needing, used, last_value, passed = pending.pop()
            links = self._unknown_writing.get(needing.against, []) if needing.test is Test.EQUAL else self._unknown
            self._count(len(links))
            for link in links:
                value = link.move.value
                # A chain that comes to the same state twice could do without what lies between.
                if value in passed or not needing.accepts(value):
                    continue
                bit = link.free(used, until_ns)
                if not bit:
                    continue
                last = value if last_value is None else last_value
                if link.move.accepts(place.state):
                    yield used | bit, last
                else:
                    pending.append((link.move, used | bit, last, passed | {value}))

    def _may_leave(self, state: int, place: _Place) -> bool:
        """Rule 5: may ``place`` follow on ``state``?"""
        if place.state == state or not self._is_observed(state, place):
            return True
        return self._is_written(state, place)

    def _is_observed(self, state: int, place: _Place) -> bool:
        if self._last_observer.get(state, -1) >= place.next_index:
            return True
        moves = self._moves
        return any(moves[index].test is Test.EQUAL and moves[index].against == state for index in place.skipped)

    def _is_written(self, state: int, place: _Place) -> bool:
        if self._last_writer.get(state, -1) >= place.next_index:
            return True
        moves = self._moves
        if any(moves[index].writes and moves[index].value == state for index in place.skipped):
            return True
        return any(group.free(place.used, math.inf) for group in self._unknown_writing.get(state, ()))

    def _count(self, steps: int) -> None:
        self.steps += steps
        if self.steps > self._steps_now_max:
            raise _OutOfStepsError


def _numbered(transitions: Sequence[Transition]) -> list[_Move]:
    """The transitions between numbers instead of values (rule 3)."""
    numbers: dict[State, int] = {None: _ABSENT}
    for transition in transitions:
        if transition.test is not Test.ALWAYS:
            numbers.setdefault(transition.against, len(numbers) + 1)
    return [
        _Move(
            transition.test,
            numbers[transition.against] if transition.test is not Test.ALWAYS else _ABSENT,
            transition.writes,
            numbers.get(transition.value, _UNNAMED) if transition.writes else _ABSENT,
        )
        for transition in transitions
    ]


def _unknown_classes(writes: Iterable[tuple[int, _Move]]) -> list[_Unknown]:
    members: dict[_Move, list[tuple[int, int]]] = {}
    for number, (invoked_ns, move) in enumerate(sorted(writes, key=lambda write: write[0])):
        members.setdefault(move, []).append((invoked_ns, 1 << number))
    return [_Unknown(move, tuple(group)) for move, group in members.items()]
