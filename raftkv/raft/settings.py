"""What a replica is told (meanings in ``raftkv.core.config``), and the words with which it refuses."""

from __future__ import annotations

from typing import Final

from raftkv.core.config import RaftSection
from raftkv.core.delays import DelaysSection
from raftkv.core.errors import Code, Refused
from raftkv.core.history import HistorySection
from raftkv.formats import entries
from raftkv.formats.commands import AdoptCommand
from raftkv.formats.configurations import Configuration, ConfiguredMember
from raftkv.machine.repeats import RepeatLimits


class ReplicaSettings(RaftSection, frozen=True, kw_only=True):
    """The settings of one replica: its section, and more.

    ``members`` are all nodes that found the cluster, this one included, by name or with all that is known of them; none
    where the node was let in by others.
    ``reads`` is the newest format of commands that it reads: as new as this version, but where tests run an older one.
    """

    node_id: str
    members: tuple[str | ConfiguredMember, ...]
    window_bytes: int
    largest_command_bytes: int
    max_waiting: int
    reads: int = entries.NEWEST
    history: HistorySection = HistorySection()
    delays: DelaysSection = DelaysSection()
    export: tuple[str, ...] = ()
    """The module that writes a backup of a state; where that lies, and ``export_arguments``, are added."""

    export_arguments: tuple[str, ...] = ()

    @property
    def founding(self) -> Configuration:
        """Who belongs to the cluster until that is changed."""
        members = [ConfiguredMember(one) if isinstance(one, str) else one for one in self.members]
        return Configuration(tuple(members))

    @property
    def adoption(self) -> AdoptCommand:
        """By which bounds history is to be kept."""
        history = self.history
        return AdoptCommand(history.events, int(history.age_s * 1000), history.size_bytes)

    @property
    def limits(self) -> RepeatLimits:
        """What the machine remembers of idempotency keys."""
        return RepeatLimits.by(self.idempotency_window_s, self.idempotency_keys)


LEADERLESS_TIMEOUTS: Final = 2
"""After this many election timeouts without a leader, requests are refused at once instead of waiting for one."""

NO_LEADER: Final = Refused(
    code=Code.NO_LEADER, detail="no leader is known to this node; an election may be under way", retry_after_s=1.0
)
TOO_LATE: Final = Refused(
    code=Code.OVERLOADED, detail="the deadline passed before the write was proposed", retry_after_s=1.0
)
NOT_OF_RAFT: Final = Refused(
    code=Code.NOT_SUPPORTED, detail="raft mode does not offer this; it belongs to leaderless clusters"
)
NOTHING_TO_REPAIR: Final = Refused(
    code=Code.NOT_SUPPORTED,
    detail="nothing to repair: the state of this node is not known to differ from that of the others",
)
ONE_KEY_ONLY: Final = Refused(
    code=Code.NOT_SUPPORTED,
    detail="in raft mode several replicas can be read for one key as it stands, and for nothing else; ask with r=1",
)
HELD_TOO_LONG: Final = Refused(
    code=Code.OVERLOADED, detail="this node holds its reads for longer than this one may wait (delays.follower_read_s)"
)
R_IS_EVENTUAL: Final = Refused(code=Code.BAD_REQUEST, detail="r belongs to consistency=eventual")
DISK_FULL: Final = Refused(
    code=Code.DISK_FULL, detail="the leader's disk is nearly full; writes are refused", retry_after_s=5.0
)
NO_ROOM_HERE: Final = Refused(
    code=Code.DISK_FULL,
    detail="the disk of this node has no room left, so it follows the leader no more; ask another node",
    retry_after_s=5.0,
)
SHUTTING_DOWN: Final = Refused(code=Code.NO_LEADER, detail="this node is shutting down", retry_after_s=1.0)


def out_of_service(reason: str) -> Refused:
    """Ask another node: this one serves nobody."""
    return Refused(code=Code.QUORUM_UNREACHABLE, detail=f"this node takes no part: {reason}", retry_after_s=1.0)


def not_read(peer: str, command_format: int, reads: int) -> Refused:
    """``peer`` would have to stop at such a command."""
    detail = (
        f"node {peer} reads commands up to format {reads}, this one has format {command_format}: every node must run a"
        " version that knows it, and have been met since"
    )
    return Refused(code=Code.NOT_SUPPORTED, detail=detail)


def overloaded(what: str) -> Refused:
    """Too many ``what`` wait already."""
    return Refused(code=Code.OVERLOADED, detail=f"too many {what} are waiting at this node", retry_after_s=0.5)
