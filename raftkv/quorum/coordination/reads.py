"""The read coordinator: plain arithmetic over the answers of replicas (Dynamo, section 4.5; Riak's get core). Pure.

The first R answers make the response: their states joined. The coordinator then stays to hear the rest, and ``repairs``
says who holds less than the join of all that answered (read repair, Dynamo, section 5).
"""

from __future__ import annotations

from collections.abc import Callable

from raftkv.core.errors import Code, Refused
from raftkv.formats.versions import KeyState
from raftkv.quorum.coordination.targets import Target, Targets

Join = Callable[[KeyState, KeyState], KeyState]


class ReadCoordinator:
    """One read of one key, of which ``needed`` (R) replicas must answer."""

    __slots__ = ("_join", "_lost", "_needed", "_silent", "_targets", "answers", "joined")

    def __init__(self, targets: Targets, *, needed: int, join: Join) -> None:
        self._targets = targets
        self._needed = needed
        self._join = join
        self._silent: set[str] = set()
        self._lost: set[str] = set()
        self.answers: dict[str, KeyState | None] = {}
        self.joined: KeyState | None = None

    @property
    def is_hopeless(self) -> bool:
        """Can ``needed`` answers not be counted on any more? Those that are silent are not, until they answer."""
        return len(self._targets.asked) - len(self._lost | self._silent) < self._needed

    @property
    def is_complete(self) -> bool:
        """Has everyone who was asked answered, or been given up?"""
        return len(self.answers) + len(self._lost | self._silent) >= len(self._targets.asked)

    @property
    def waiting(self) -> tuple[str, ...]:
        """Who was asked and has not answered in any way."""
        return tuple(node for node in self._targets.asked if node not in self.answers and node not in self._lost)

    def begin(self) -> tuple[Target, ...]:
        """Whom to ask first."""
        assert not self.is_hopeless
        return tuple(self._targets.asked.values())

    def add(self, node: str, state: KeyState | None) -> bool:
        """``node`` holds ``state``; is this the answer that makes the response?"""
        if node not in self._targets.asked or node in self.answers:
            return False
        self._silent.discard(node)
        self.answers[node] = state
        if state is not None:
            self.joined = state if self.joined is None else self._join(self.joined, state)
        return len(self.answers) == self._needed

    def silent(self, node: str) -> Target | None:
        """``node`` takes too long: whom to ask in its place, if anyone. Its answer still counts if it comes."""
        if node not in self.waiting or node in self._silent:
            return None
        self._silent.add(node)
        return self._targets.replace(node)

    def lost(self, node: str) -> Target | None:
        """``node`` will not answer: whom to ask in its place, if anyone."""
        if node not in self.waiting:
            return None
        self._lost.add(node)
        self._silent.discard(node)
        return self._targets.replace(node)

    def failure(self, reason: str) -> Refused:
        """Why the read has no answer; a read changes nothing, so this is definite."""
        count, asked = len(self.answers), len(self._targets.asked)
        if asked < self._needed:
            detail = f"{self._needed} replicas must answer the read, but only {asked} can be reached"
        else:
            detail = f"{reason}: {count} of {self._needed} replicas have answered"
        return Refused(code=Code.QUORUM_UNREACHABLE, detail=detail, retry_after_s=1.0)

    def repairs(self) -> tuple[Target, ...]:
        """Who of those that answered holds less than the join of all answers; primaries only, fallbacks hold hints."""
        if self.joined is None:
            return ()
        behind = [node for node, state in self.answers.items() if state != self.joined]
        return tuple(target for node in behind if not (target := self._targets.asked[node]).stands_for)
