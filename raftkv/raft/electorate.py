"""Who votes now, in one place: the configuration in force puts ``voters`` and ``learners`` here, and nobody else does.

Every part that needs a majority, or the others, asks at each step and keeps none. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from raftkv.core.voters import Voters


class Electorate:
    """The ``voters`` and ``learners`` in force, as the node ``node_id`` sees them, and what follows from them.

    ``others`` are all members but this node, ``other_voters`` those of them that vote; ``size`` is how many vote, and
    what is decided, ``majority`` of them agreed to. ``votes``: this node is a voter; ``is_alone``: the only one.
    """

    def __init__(self, node_id: str, voters: Voters, learners: Iterable[str] = ()) -> None:
        self.node_id = node_id
        self.put(voters, learners)

    def put(self, voters: Voters, learners: Iterable[str] = ()) -> None:
        """These are the members from now on; what is asked in every turn is worked out once, here."""
        names = voters.names
        self._voters = voters
        self.learners = tuple([name for name in learners if name not in names])
        self.other_voters = tuple([name for name in names if name != self.node_id])
        self.others = (*self.other_voters, *[name for name in self.learners if name != self.node_id])
        self.size = len(names)
        self.majority = voters.majority
        self.votes = self.node_id in names
        self.is_alone = names == (self.node_id,)

    @property
    def voters(self) -> Voters:
        """Who decides."""
        return self._voters

    @voters.setter
    def voters(self, voters: Voters) -> None:
        self.put(voters, self.learners)

    def agree(self, peers: Collection[str]) -> bool:
        """Do these ``peers``, together with this node, decide?"""
        return self._voters.won({self.node_id, *peers})
