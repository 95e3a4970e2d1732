"""The read coordinator: plain arithmetic over the answers of replicas (Dynamo, section 4.5; Riak's get core). Pure.

R replicas are asked first; the others are in reserve, for those that are lost, silent or late. The first R answers make
the response: their states joined. The coordinator then stays to hear the rest of those asked, and ``repairs`` says who
holds less than the join of all that answered (read repair, Dynamo, section 5).
"""

from __future__ import annotations

from collections.abc import Callable

from raftkv.core.errors import Code, Refused
from raftkv.core.sights import Fate, ReplicaAsked
from raftkv.formats.versions import KeyState
from raftkv.quorum.coordination.targets import Target, Targets

Join = Callable[[KeyState, KeyState], KeyState]


class ReadCoordinator:
    """One read of one key, of which ``needed`` (R) replicas must answer."""

    __slots__ = ("_join", "_lost", "_reserve", "_silent", "_targets", "answers", "joined", "needed")

    def __init__(self, targets: Targets, *, needed: int, join: Join) -> None:
        self._targets = targets
        self.needed = needed
        self._join = join
        self._silent: set[str] = set()
        self._lost: set[str] = set()
        self._reserve: dict[str, Target] = {}
        self.answers: dict[str, KeyState | None] = {}
        self.joined: KeyState | None = None

    @property
    def is_hopeless(self) -> bool:
        """Can ``needed`` answers not be counted on any more? Those that are silent are not, until they answer."""
        return len(self._targets.asked) - len(self._lost | self._silent) < self.needed

    @property
    def is_complete(self) -> bool:
        """Has everyone who was asked answered, or been given up?"""
        awaited_count = len(self._targets.asked) - len(self._reserve)
        return len(self.answers) + len(self._lost | self._silent) >= awaited_count

    @property
    def waiting(self) -> tuple[str, ...]:
        """Who was asked and has not answered in any way."""
        gone = (self.answers, self._lost, self._reserve)
        return tuple([node for node in self._targets.asked if not any(node in some for some in gone)])

    @property
    def lacking_count(self) -> int:
        """How many answers lack that others, who are in reserve, could give."""
        return min(self.needed - len(self.answers), len(self._reserve))

    @property
    def differ(self) -> bool:
        """Do the answers differ?"""
        return any(state != self.joined for state in self.answers.values())

    def begin(self, last: Callable[[str], object] | None = None) -> tuple[Target, ...]:
        """Whom to ask first: all, or with ``last`` as many as must answer: those of which it says the least."""
        assert not self.is_hopeless
        targets = list(self._targets.asked.values())
        if last is None or len(targets) == self.needed:
            return tuple(targets)
        targets.sort(key=lambda target: last(target.node))  # type: ignore[return-value, arg-type]
        self._reserve = {target.node: target for target in targets[self.needed :]}
        return tuple(targets[: self.needed])

    def ask_others(self, count: int) -> tuple[Target, ...]:
        """Whom to ask as well, ``count`` at most; they count as silent when those do who were asked first."""
        others: list[Target] = []
        while self._reserve and len(others) < count:
            node = next(iter(self._reserve))
            target = self._reserve.pop(node)
            if self._targets.is_usable(node):
                others.append(target)
            else:
                self._lose_reserve(node)
        return tuple(others)

    def add(self, node: str, state: KeyState | None) -> bool:
        """``node`` holds ``state``; is this the answer that makes the response?"""
        if node not in self._targets.asked or node in self.answers or node in self._reserve:
            return False
        self._silent.discard(node)
        self.answers[node] = state
        if state is not None and state is not self.joined:
            self.joined = state if self.joined is None else self._join(self.joined, state)
        return len(self.answers) == self.needed

    def silent(self, node: str) -> Target | None:
        """``node`` takes too long: whom to ask in its place, if anyone. Its answer still counts if it comes."""
        if node not in self.waiting or node in self._silent:
            return None
        self._silent.add(node)
        return self._instead_of(node)

    def lost(self, node: str) -> Target | None:
        """``node`` will not answer: whom to ask in its place, if anyone."""
        if self._reserve.pop(node, None) is not None:
            self._lose_reserve(node)
            return None
        if node not in self.waiting:
            return None
        self._lost.add(node)
        self._silent.discard(node)
        return self._instead_of(node)

    def failure(self, reason: str) -> Refused:
        """Why the read has no answer; a read changes nothing, so this is definite."""
        count, asked = len(self.answers), len(self._targets.asked)
        if asked < self.needed:
            detail = f"{self.needed} replicas must answer the read, but only {asked} can be reached"
        else:
            detail = f"{reason}: {count} of {self.needed} replicas have answered"
        return Refused(code=Code.QUORUM_UNREACHABLE, detail=detail, retry_after_s=1.0)

    def repairs(self) -> tuple[Target, ...]:
        """Who of those that answered holds less than the join of all answers; primaries only, fallbacks hold hints."""
        if self.joined is None:
            return ()
        behind = [node for node, state in self.answers.items() if state != self.joined]
        return tuple([target for node in behind if not (target := self._targets.asked[node]).stands_for])

    def told(self) -> tuple[ReplicaAsked, ...]:
        """Whom it asked, and what became of that; who was in reserve was not asked."""
        asked = [one for one in self._targets.asked.values() if one.node not in self._reserve]
        return tuple(
            [ReplicaAsked(node=one.node, fate=self._fate(one.node), stands_for=one.stands_for) for one in asked]
        )

    def _fate(self, node: str) -> Fate:
        if node in self.answers:
            if self.answers[node] == self.joined:
                return Fate.HOLDS
            return Fate.ANSWERED if self._targets.asked[node].stands_for else Fate.BEHIND
        if node in self._lost:
            return Fate.LOST
        return Fate.SILENT if node in self._silent else Fate.ASKED

    def _instead_of(self, node: str) -> Target | None:
        others = self.ask_others(1)
        if not others:
            return self._targets.replace(node)
        self._targets.ask_late(others[0].node)
        return others[0]

    def _lose_reserve(self, node: str) -> None:
        self._lost.add(node)
        substitute = self._targets.replace(node)
        if substitute is not None:
            self._reserve[substitute.node] = substitute
