"""Every rule that the code keeps, and how it is broken on purpose: planted bugs, by which the simulator is tested.

A simulator that finds nothing may be blind. Each entry takes away one remedy, as if it had been forgotten; random
seeds, or a scenario written for it, must then find something. For simulations only: what is changed here is changed for
the whole process, for as long as the context lasts.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Final

from raftkv.instruments.sim.planted import quorum, raft
from raftkv.instruments.sim.planted.swaps import Remedy

REMEDIES: Final[dict[str, dict[str, Remedy]]] = {"raft": raft.REMEDIES, "quorum": quorum.REMEDIES}
"""By mode and name."""


def without(name: str, mode: str = "raft") -> AbstractContextManager[None]:
    """Everything as it is, but for one remedy."""
    return REMEDIES[mode][name].taken_away()
