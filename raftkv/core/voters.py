"""Who decides: the members of whom a majority must agree. Of both modes; nobody else computes a majority.

Any two majorities share a member; all that a cluster promises rests on this (Raft, section 5.2). While members change
there are two groups, the old and the new one, and each of them must agree by itself (joint consensus, section 6). So
whoever decides something says *which* members are for it, and no number.

As the commit index is the highest index that a majority of logs has reached, the agreed time is the latest that a
majority of clocks has reached. While some clocks have not been heard it is known within bounds only: as if they all
were far behind, and as if they all were far ahead. Whoever knows more of the same clocks finds a time within them.

Pure; imports nothing of this package.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec


def majority(size: int) -> int:
    """How many of ``size`` are more than half of them; for those who count copies, not members."""
    return size // 2 + 1


def minority(size: int) -> int:
    """How many of ``size`` may be missing, or wrong, while the others decide."""
    return size - majority(size)


class Voters(msgspec.Struct, frozen=True):
    """The groups that must agree, each by a majority: one, or two while members change."""

    groups: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, names: Iterable[str]) -> Voters:
        """The members ``names`` and no others."""
        return cls((tuple(names),))

    @property
    def names(self) -> tuple[str, ...]:
        """All who vote, each once."""
        return tuple(dict.fromkeys(name for group in self.groups for name in group))

    @property
    def majority(self) -> int:
        """What is decided, at least so many members have agreed to."""
        return max(majority(len(group)) for group in self.groups)

    def won(self, granted: Collection[str]) -> bool:
        """Have those who ``granted`` it decided it?"""
        return all(sum([name in granted for name in group]) >= majority(len(group)) for group in self.groups)

    def lost(self, refused: Collection[str]) -> bool:
        """Can it not be decided any more, now that these have ``refused`` it?"""
        return any(sum([name in refused for name in group]) > minority(len(group)) for group in self.groups)

    def reached(self, values: Mapping[str, float]) -> float | None:
        """The highest value that a majority has reached; ``None`` if fewer are known. Others than voters do not count.

        Of whole numbers it is one of them.
        """
        lowest = []
        for group in self.groups:
            highest_first = sorted([values[name] for name in group if name in values], reverse=True)
            needed = majority(len(group))
            if len(highest_first) < needed:
                return None
            lowest.append(highest_first[needed - 1])
        return min(lowest)

    def bounds(self, values: Mapping[str, float]) -> tuple[float, float] | None:
        """Between what and what that lies, whatever those who are not known have reached."""
        lowest = self.reached(values)
        highest = self.reached({**dict.fromkeys(self.names, float("inf")), **values})
        return None if lowest is None or highest is None else (lowest, highest)
