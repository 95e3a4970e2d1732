"""Who votes now, in one place: a committed entry that changes the members swaps ``voters`` here, and nowhere else.

Every part that needs a majority asks at each step and keeps none. Pure.
"""

from __future__ import annotations

from collections.abc import Collection

from raftkv.core.voters import Voters


class Electorate:
    """The ``voters`` in force, as the node ``node_id`` sees them, and what follows from them.

    ``others`` are all but this node, ``size`` is how many vote, and what is decided, ``majority`` of them agreed to.
    """

    def __init__(self, node_id: str, voters: Voters) -> None:
        self.node_id = node_id
        self.voters = voters

    @property
    def voters(self) -> Voters:
        """Who decides; what is asked in every turn is worked out once, when it changes."""
        return self._voters

    @voters.setter
    def voters(self, voters: Voters) -> None:
        names = voters.names
        self._voters = voters
        self.others = tuple([name for name in names if name != self.node_id])
        self.size = len(names)
        self.majority = voters.majority

    def agree(self, peers: Collection[str]) -> bool:
        """Do these ``peers``, together with this node, decide?"""
        return self._voters.won({self.node_id, *peers})
