"""What a majority of members agrees on, as far as it is known what some of them say. Pure arithmetic, of both modes.

As the commit index is the highest index that a majority of logs has reached, the agreed time is the latest that a
majority of clocks has reached. While some clocks have not been heard it is known within bounds only: as if they all
were far behind, and as if they all were far ahead. Whoever knows more of the same clocks finds a time within them.
"""

from __future__ import annotations

from collections.abc import Iterable


def reached_by_majority(clocks: Iterable[float], size: int) -> tuple[float, float] | None:
    """Bounds of what a majority of ``size`` members has reached; ``None`` if fewer than that say anything."""
    latest_first = sorted(clocks, reverse=True)
    majority = size // 2 + 1
    if len(latest_first) < majority:
        return None
    unheard = size - len(latest_first)
    return latest_first[majority - 1], latest_first[max(0, majority - unheard - 1)]
