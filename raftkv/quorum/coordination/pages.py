"""The list coordinator: pages of many replicas merged into one page of the whole store. Pure.

Every node of the ring is asked. Each key lies on N of them, so once at most N - R have not answered, every key was
answered for by R replicas at least. What a replica has not shown yet, because its own page ended, cannot be judged:
the merged page ends before the first key that some replica has not come to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raftkv.core.errors import Code, Refused
from raftkv.formats.versions import KeyState

Row = tuple[bytes, KeyState]


class PageCoordinator:
    """One page. ``allowed`` is how many of ``nodes`` may stay unanswered (N - R)."""

    __slots__ = ("_allowed", "_join", "_lost", "_nodes", "_rows", "answered", "horizon")

    def __init__(self, nodes: Sequence[str], *, allowed: int, join: Callable[[KeyState, KeyState], KeyState]) -> None:
        self._nodes = tuple(nodes)
        self._allowed = allowed
        self._join = join
        self._lost: set[str] = set()
        self._rows: dict[bytes, KeyState] = {}
        self.answered: set[str] = set()
        self.horizon: bytes | None = None
        """The last key up to which all answers reach; ``None`` when they reach to the end."""

    @property
    def is_hopeless(self) -> bool:
        """Are too many lost?"""
        return len(self._lost) > self._allowed

    @property
    def waiting(self) -> tuple[str, ...]:
        """Who has not answered in any way."""
        return tuple(node for node in self._nodes if node not in self.answered and node not in self._lost)

    def add(self, node: str, rows: Sequence[Row], *, complete: bool) -> bool:
        """``node`` holds ``rows``; is this the answer that makes the page?"""
        if node in self.answered or node not in self._nodes:
            return False
        self.answered.add(node)
        self._lost.discard(node)
        for key, state in rows:
            held = self._rows.get(key)
            self._rows[key] = state if held is None else self._join(held, state)
        if not complete:
            last = rows[-1][0]
            self.horizon = last if self.horizon is None else min(self.horizon, last)
        return len(self.answered) == len(self._nodes) - self._allowed

    def lost(self, node: str) -> None:
        """``node`` will not answer, or not in time; if it does after all, its answer counts."""
        if node in self._nodes and node not in self.answered:
            self._lost.add(node)

    def rows(self) -> list[Row]:
        """What is certain, in key order."""
        horizon = self.horizon
        return sorted(item for item in self._rows.items() if horizon is None or item[0] <= horizon)

    def failure(self, reason: str) -> Refused:
        """Why there is no page."""
        count, needed = len(self._nodes), len(self._nodes) - self._allowed
        if self.is_hopeless:
            reachable = count - len(self._lost)
            detail = f"{needed} of {count} nodes must answer a list, but only {reachable} can be reached"
        else:
            detail = f"{reason}: {len(self.answered)} of the {needed} nodes that a list needs have answered"
        return Refused(code=Code.QUORUM_UNREACHABLE, detail=detail, retry_after_s=1.0)
