"""Who votes now, in one place: a committed entry that changes the members swaps ``voters`` here, and nowhere else.

Every part that needs a majority asks at each step and keeps none. Pure.
"""

from __future__ import annotations

from collections.abc import Collection

from raftkv.core.voters import Voters


class Electorate:
    """The ``voters`` in force, as the node ``node_id`` sees them."""

    def __init__(self, node_id: str, voters: Voters) -> None:
        self.node_id = node_id
        self.voters = voters

    @property
    def others(self) -> tuple[str, ...]:
        """All voters but this node."""
        return tuple([name for name in self.voters.names if name != self.node_id])

    @property
    def size(self) -> int:
        """How many vote."""
        return len(self.voters.names)

    @property
    def majority(self) -> int:
        """What is decided, at least so many have agreed to."""
        return self.voters.majority

    def agree(self, peers: Collection[str]) -> bool:
        """Do these ``peers``, together with this node, decide?"""
        return self.voters.won({self.node_id, *peers})
