"""How a node and its cluster stand, as one replica knows it; under the rules of ``raftkv.core.results``.

What only one mode says is in a type of that mode, derived from the common one. This module imports nothing but msgspec
and its neighbours in ``core``.
"""

from __future__ import annotations

import enum

import msgspec

from raftkv.core.config import Mode
from raftkv.core.measures import Measured
from raftkv.core.requests import Consistency
from raftkv.core.sights import Fate
from raftkv.core.voters import majority


class PeerStatus(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """How this node sees another: is its link up, and, on the leader, up to which log index it is known to match.

    ``misfit`` is why it may not take part, if it was reached and does not fit. ``outstanding_bytes`` were sent to it
    and not yet taken by the network. ``clock_ahead_s`` is how much later its wall clock is than this node's; ``None``
    if this node does not ask it.
    """

    id: str
    reachable: bool
    match_index: int | None = None
    misfit: str = ""
    outstanding_bytes: int = 0
    clock_ahead_s: float | None = None


class MemberState(enum.StrEnum):
    """What a node knows of a member.

    Where there is a leader: a ``voter`` decides, a ``learner`` catches up before it does. Where there is none:
    ``joining``: takes writes of its future ranges while its data moves in; ``leaving``: serves until it has handed its
    data over; ``suspect``: alive until lately, silent now; ``down``: silent for long. ``left`` is remembered for a
    while, so that old gossip does not bring it back.
    """

    VOTER = "voter"
    LEARNER = "learner"
    JOINING = "joining"
    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"
    LEAVING = "leaving"
    LEFT = "left"


class MemberStatus(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A member as one node sees it; ``share`` is the part of all keys it is the first replica of, 0 to 1.

    ``heard_ago_ms`` is how long ago its heartbeat was last seen to advance; ``None`` for the node itself, or if never.
    ``hints`` is how many writes this node holds for it, and ``hint_bytes`` their size.
    """

    id: str
    http: str
    peer: str
    state: MemberState
    zone: str = ""
    share: float = 0.0
    heard_ago_ms: int | None = None
    hints: int = 0
    hint_bytes: int = 0


class Transfer(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Data on the move after a ring change: ring ranges done and in all, and what came in so far."""

    ranges_done: int
    ranges: int
    keys: int
    bytes: int


class RingShown(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="ring_shown"):
    """The ring that reads ask: ``nodes``, and where each of their tokens lies, 0 to 1, with its node's place there.

    A key belongs to the node of the first token from where it lies on, and to the next distinct ones, ``n`` in all,
    those of other zones first. ``digest`` names it.
    """

    digest: str
    n: int
    nodes: tuple[str, ...]
    tokens: tuple[tuple[float, int], ...]


class ReplicaPart(enum.StrEnum):
    """What a key is to a node: its ``replica``; ``moving`` to it or from it; or an ``other``'s, but for hints."""

    REPLICA = "replica"
    MOVING = "moving"
    OTHER = "other"


class VersionShown(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """A version of a key at one replica; ``head`` is how its value begins, ``None`` for a tombstone."""

    counter: int
    node: str
    head: bytes | None
    size_bytes: int
    expires_at_ms: int


class HintShown(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """What is kept of a key for ``target``: the newest stamp of it."""

    target: str
    counter: int
    node: str


class ReplicaShown(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What one node holds of a key; ``fate`` says whether it told (``raftkv.core.sights.Fate``), ``reason`` why not.

    ``versions`` by ascending stamp, the last of ``versions_count``; none where it holds nothing. ``seen``: up to which
    of each actor's events it has processed, where siblings are kept. ``hints`` are what it keeps of the key for
    others; ``None`` where it does not tell. ``is_behind``: it lacks something that another has.
    """

    node: str
    part: ReplicaPart
    fate: Fate
    reason: str
    is_behind: bool
    versions: tuple[VersionShown, ...]
    versions_count: int
    seen: dict[str, int]
    hints: tuple[HintShown, ...] | None


class ReplicasShown(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="replicas_shown"):
    """What all nodes hold of ``key``, its replicas first; ``turn`` is where on the ring it lies, 0 to 1."""

    key: bytes
    turn: float
    n: int
    nodes: tuple[ReplicaShown, ...]


class Status(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """One node's view of itself and its cluster.

    ``level_at_s``: all that was committed anywhere by then (monotonic clock, seconds) can be read at this node;
    ``None`` if nothing is known.
    ``offers`` are the read consistencies that this node can give, the default first; another is refused, never
    approximated. ``r`` and ``w`` are what a read and a write need by default, ``n`` how many replicas a key has.
    ``can_read`` is false while a node that lost its disk fetches its data, ``can_write`` while writes are refused
    because a disk is full, the leader's where there is one, and ``has_room`` while this node's is. ``state_path`` is
    where the front-end finds the applied state for its own reads, empty when there is none to share; ``changes_path``
    where the replica counts the changes of keys, if it does, for those that remember what it answered.
    ``log_lines_dropped`` counts the lines of the log that nobody took from the replica. ``misfit`` is why this node
    itself takes no part, if it does not. ``measures`` are what it has counted and timed.
    """

    node: str
    mode: Mode
    role: str
    leader: str | None
    revision: int
    peers: tuple[PeerStatus, ...]
    offers: tuple[Consistency, ...]
    cluster_size: int
    level_at_s: float | None = None
    can_read: bool = True
    can_write: bool = True
    has_room: bool = True
    state_path: str = ""
    changes_path: str = ""
    n: int = 0
    r: int = 0
    w: int = 0
    log_lines_dropped: int = 0
    misfit: str = ""
    measures: Measured = Measured()

    @property
    def sizes(self) -> tuple[int, int, int]:
        """N, R and W; where a majority of all members decides, N is all of them."""
        usual = majority(self.cluster_size)
        return self.n or self.cluster_size, self.r or usual, self.w or usual

    @property
    def learners(self) -> frozenset[str]:
        """Nodes of the cluster that decide nothing yet."""
        return frozenset()

    @property
    def reached_count(self) -> int:
        """How many of those who decide this node reaches, itself included if it is one."""
        learners = self.learners
        return (self.node not in learners) + sum(peer.reachable and peer.id not in learners for peer in self.peers)


class RaftStatus(Status, frozen=True, kw_only=True, array_like=True, tag="raft_status"):
    """Where a node stands in a log; ``diverged``: it takes no part because its state differs from others'.

    ``last_index`` is the end of its log, ``voted_for`` whom it gave its vote in ``term``. ``members`` are those of the
    configuration in force here, which stands at ``configuration_index`` of the log, or is that of the nodes' files (0).
    ``entrusted_term`` is the last in which it stood because the leader before handed over to it.
    """

    term: int
    commit_index: int
    applied_index: int
    diverged: bool = False
    last_index: int = 0
    voted_for: str = ""
    members: tuple[MemberStatus, ...] = ()
    configuration_index: int = 0
    entrusted_term: int = 0

    @property
    def learners(self) -> frozenset[str]:
        """See ``Status``."""
        return frozenset([member.id for member in self.members if member.state is MemberState.LEARNER])


class QuorumStatus(Status, frozen=True, kw_only=True, array_like=True, tag="quorum_status"):
    """What a node of a leaderless cluster knows: the ring, its debts and what repair has done.

    ``ring`` is a digest of the ring: equal on nodes that agree about it. ``repaired_keys`` counts the versions that
    read repair and range exchanges (anti-entropy, repair, data on the move) brought to this node since it started,
    whoever began them; ``speculative_reads`` the reads that asked more replicas than R because the first were late.
    ``short_share`` is the part of all keys, 0 to 1, that cannot be written or read now by the
    cluster's own numbers. ``clock_fault`` is why this node stamps no writes, when the members' clocks are the reason;
    ``rights_fault`` why it lets no user in.
    """

    ring: str
    vnodes: int
    conflicts: str
    hints_pending: int
    members: tuple[MemberStatus, ...]
    transfer: Transfer | None = None
    repaired_keys: int = 0
    short_share: float = 0.0
    clock_fault: str = ""
    rights_fault: str = ""
    speculative_reads: int = 0


ModeStatus = RaftStatus | QuorumStatus
"""A status as a replica gives it."""
