"""What a replica of the leaderless mode is told (meanings in ``raftkv.core.config``), and the words it refuses with."""

from __future__ import annotations

from typing import Final

from raftkv.core.config import QuorumSection
from raftkv.core.delays import DelaysSection
from raftkv.core.errors import Code, Refused
from raftkv.core.requests import Consistency


class QuorumSettings(QuorumSection, frozen=True, kw_only=True):
    """The settings of one replica: its section, and more."""

    node_id: str
    window_bytes: int
    max_waiting: int
    delays: DelaysSection = DelaysSection()
    export: tuple[str, ...] = ()
    """The module that writes a backup of a store; where that lies, and ``export_arguments``, are added."""

    export_arguments: tuple[str, ...] = ()

    @property
    def silence_s(self) -> float:
        """How long a replica has to answer, artificial delays included."""
        delays = self.delays
        delays_s = self.n * delays.leader_after_message_s + delays.follower_update_s + delays.follower_read_s
        return self.replica_timeout_s + delays_s


PAGE_BYTES: Final = 1 << 20
"""A replica's part of a page, and one frame to a peer, end once they have grown past this."""

OFFERS: Final = (Consistency.EVENTUAL, Consistency.LOCAL)
SHUTTING_DOWN: Final = Refused(code=Code.QUORUM_UNREACHABLE, detail="this node is shutting down", retry_after_s=1.0)
DISK_FULL: Final = Refused(
    code=Code.DISK_FULL, detail="the replica's disk is nearly full, and has no room for this write", retry_after_s=5.0
)
DATA_LOST: Final = Refused(
    code=Code.QUORUM_UNREACHABLE,
    detail="this node has no data, and counts in no quorum before the others said that it had none, or gave it back",
    retry_after_s=1.0,
)
NO_LEVEL: Final = Refused(
    code=Code.NOT_SUPPORTED,
    detail="a leaderless cluster cannot give linearizable or lease reads; it offers eventual (?r=) and local",
)
NO_MATCH: Final = Refused(
    code=Code.NOT_SUPPORTED,
    detail="a leaderless cluster cannot compare and set (If-Match, If-None-Match); keep siblings, or use raft mode",
)
NO_IDEMPOTENCY: Final = Refused(
    code=Code.NOT_SUPPORTED,
    detail="a leaderless cluster cannot promise that a retry with an Idempotency-Key is applied once; leave it out",
)
NO_TEXT: Final = Refused(code=Code.BAD_REQUEST, detail="key: not valid UTF-8, as keys are in a leaderless cluster")
NO_BARRIER: Final = Refused(code=Code.NOT_SUPPORTED, detail="a leaderless cluster has no applied state to wait for")
NO_LEADER_HERE: Final = Refused(
    code=Code.NOT_SUPPORTED,
    detail="a leaderless cluster has no leader and no learners; a member has the addresses that its own file says",
)
STRANGE_RANGE: Final = Refused(
    code=Code.NOT_SUPPORTED, detail="the ring is another here; it will be the same once gossip has gone round"
)
NOT_KEPT: Final = Refused(
    code=Code.NOT_SUPPORTED, detail='a causal context means something only where conflicts = "siblings"'
)
NOT_KEPT_ALONE: Final = Refused(
    code=Code.NOT_SUPPORTED, detail='one replica alone cannot be given a version where conflicts = "siblings"'
)


def untimely(detail: str) -> Refused:
    """Nothing is stamped, expired or exchanged now, since it is not certain what time it is; ``detail`` says why."""
    return Refused(code=Code.QUORUM_UNREACHABLE, detail=detail, retry_after_s=1.0)


def overloaded() -> Refused:
    """Too much is under way already."""
    return Refused(code=Code.OVERLOADED, detail="too many requests are under way; try again later", retry_after_s=1.0)
