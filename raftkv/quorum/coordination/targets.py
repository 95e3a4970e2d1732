"""Who is asked: the replicas of one key for one request, and who stands in for those that cannot be reached. Pure.

The first N nodes of the preference list are the key's primaries. In a sloppy quorum the next healthy node of the list
takes the place of a primary that is unreachable, refused, or silent for too long, and knows whom it stands in for
(Dynamo, section 4.6). Rules: no node is ever asked twice for one request, so answers are of distinct replicas; nothing
here looks at a clock or sends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec


class Target(msgspec.Struct, frozen=True):
    """A node to ask; ``stands_for`` is the primary whose place it takes, empty when it is one itself."""

    node: str
    stands_for: str = ""


class Targets:
    """The nodes asked for one request so far.

    ``primaries`` are asked first; ``besides`` are nodes that the key is moving to or from, asked as well and never
    replaced; ``fallbacks`` follow in the order of the preference list. ``usable`` says whether a node can be reached.
    """

    __slots__ = ("_besides", "_fallbacks", "_fresh", "asked", "is_usable", "unasked")

    def __init__(
        self,
        primaries: Sequence[str],
        fallbacks: Sequence[str],
        *,
        besides: Sequence[str] = (),
        usable: Callable[[str], bool],
        sloppy: bool,
    ) -> None:
        self.is_usable = usable
        self._fallbacks = list(fallbacks) if sloppy else []
        self._besides = frozenset(besides)
        self.asked: dict[str, Target] = {}
        self._fresh: set[str] = set()
        self.unasked: list[str] = []
        """Primaries that nobody could stand in for."""
        for node in (*primaries, *besides):
            if usable(node):
                self.asked[node] = Target(node)
        for node in primaries:
            if node not in self.asked and self.replace(node) is None:
                self.unasked.append(node)
        self._fresh.clear()

    @property
    def besides_count(self) -> int:
        """How many nodes the key is moving to or from; each of them must take a write as well."""
        return len(self._besides)

    def place_of(self, node: str) -> str:
        """Whose place ``node`` takes: a primary's, or its own."""
        target = self.asked.get(node)
        return target.stands_for if target is not None and target.stands_for else node

    def take_fresh(self) -> set[str]:
        """Who was asked in another's place since this was called last, and has had less time to answer than others."""
        fresh, self._fresh = self._fresh, set()
        return fresh

    def ask_late(self, node: str) -> None:
        """``node`` is asked only now."""
        self._fresh.add(node)

    def renew(self) -> None:
        """All are asked only now."""
        self._fresh.update(self.asked)

    def replace(self, node: str) -> Target | None:
        """Ask someone in place of ``node`` (of whom it stands for, if it is a fallback); ``None`` when none is left."""
        stands_for = self.place_of(node)
        if stands_for in self._besides:
            return None
        while self._fallbacks:
            fallback = self._fallbacks.pop(0)
            if fallback not in self.asked and self.is_usable(fallback):
                target = self.asked[fallback] = Target(fallback, stands_for)
                self._fresh.add(fallback)
                return target
        return None
