"""What comes back, as frozen values: the counterpart of ``raftkv.core.requests``, under the same rules.

What only one mode says is in a type of that mode, derived from the common one. ``Stamped...`` are a leaderless
cluster's: a write there has a stamp, whose counter stands where a leader's number would, and whose other half is
``node``, the writer.

This module imports nothing but msgspec and its neighbours in ``core``.
"""

from __future__ import annotations

import enum

import msgspec

from raftkv.core.config import Mode
from raftkv.core.errors import Refused, Unknown
from raftkv.core.measures import Measured
from raftkv.core.requests import Consistency
from raftkv.core.sights import Fate, SightsShown
from raftkv.core.voters import majority


class KeyRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="record", gc=False):
    """A key as it stands: its value, how often it was written since it was created, and the revisions of both ends.

    ``version`` counts from 1 at creation. ``expires_at_ms`` is on the machine's clock (milliseconds since the epoch),
    0 for never; ``lease`` is that to which the key is attached, 0 for none.
    """

    key: bytes
    value: bytes
    version: int
    create_revision: int
    mod_revision: int
    expires_at_ms: int = 0
    lease: int = 0


class StampedRecord(KeyRecord, frozen=True, kw_only=True, array_like=True, tag="stamped_record", gc=False):
    """All three numbers are the stamp's counter."""

    node: str


class Missing(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="missing", gc=False):
    """There is no such key."""

    key: bytes


class PutDone(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="put_done", gc=False):
    """The value is stored at ``revision``; ``version`` 1 means that the key was created."""

    version: int
    revision: int

    @property
    def created(self) -> bool:
        """Was there no such key before?"""
        return self.version == 1


class StampedPut(PutDone, frozen=True, kw_only=True, array_like=True, tag="stamped_put", gc=False):
    """``replaced``: a replica that took the write held a value before."""

    node: str
    replaced: bool

    @property
    def created(self) -> bool:
        """Did none of the replicas that took the write hold a value before?"""
        return not self.replaced


class DeleteDone(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="delete_done", gc=False):
    """The key was removed at ``revision``."""

    revision: int


class StampedDelete(DeleteDone, frozen=True, kw_only=True, array_like=True, tag="stamped_delete", gc=False):
    """The key was removed by this stamp."""

    node: str


class Incremented(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="incremented", gc=False):
    """The integer is ``value`` now; ``version`` 1 means that the key was created."""

    value: int
    version: int
    revision: int


class Touched(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="touched", gc=False):
    """The key, last changed at ``revision``, expires then (milliseconds since the epoch; 0 for never)."""

    expires_at_ms: int
    revision: int


class SpanDeleted(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="span_deleted", gc=False):
    """So many keys were removed, all at ``revision``, which is the store's where there were none."""

    count: int
    revision: int


class Granted(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="granted", gc=False):
    """The lease is there; it ends at ``expires_at_ms`` unless it is kept alive."""

    lease: int
    ttl_ms: int
    expires_at_ms: int


class Revoked(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="revoked", gc=False):
    """The lease has ended, and so many keys with it, at ``revision``."""

    count: int
    revision: int


class Transacted(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="transacted"):
    """Which branch was done, and what came of its operations."""

    succeeded: bool
    results: tuple[AnyResult, ...]


class Mismatch(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="mismatch"):
    """The precondition failed; ``revision`` is the key's current modification revision, 0 when it does not exist."""

    revision: int


class Withheld(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="withheld", gc=False):
    """What the key holds is not told: the answer, which is bounded, has no room for it; a read of its own gets it."""

    key: bytes


AnyRecord = KeyRecord | StampedRecord
OperationResult = PutDone | StampedPut | DeleteDone | StampedDelete | AnyRecord | Missing | Mismatch | Withheld


class Written(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="written"):
    """One result for each operation, in order; ``revision`` is the store's after the last of them.

    ``acks`` is how many replicas are known to hold the write durably. ``committed`` is false only when the client asked
    for fewer acknowledgements than a majority: then nothing is applied yet, ``results`` is empty and ``revision`` is 0.
    ``refused``, when set, says why the whole write was turned down (an idempotency key used for another request).
    """

    results: tuple[AnyResult, ...]
    revision: int
    acks: int
    committed: bool = True
    refused: str | None = None


class QuorumWritten(Written, frozen=True, kw_only=True, array_like=True, tag="quorum_written"):
    """``replicas`` are the nodes that acknowledged, ``hinted`` how many of them hold it for another."""

    replicas: tuple[str, ...]
    hinted: int


class KeyPage(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="page"):
    """Records in key order; ``next_start`` is where the next page begins, ``None`` when this was the last."""

    records: tuple[AnyRecord, ...]
    next_start: bytes | None


class KeyCount(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="key_count", gc=False):
    """So many keys there are; ``next_start`` is where those begin that were not looked at, ``None`` if all were."""

    count: int
    next_start: bytes | None = None


LaterResult = Incremented | Touched | SpanDeleted | Granted | Revoked | Transacted | KeyPage | KeyCount | Refused
"""``Refused``: this operation was not done, nor was anything of the transaction that it stands in."""

AnyResult = OperationResult | LaterResult


class LeaseRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="lease", gc=False):
    """A lease as it stands; ``keys`` are those attached to it, in order, ``None`` where they were not asked for."""

    lease: int
    ttl_ms: int
    expires_at_ms: int
    key_count: int
    keys: tuple[bytes, ...] | None = None


class NoLease(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="no_lease", gc=False):
    """There is no such lease."""

    lease: int


class LeasePage(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="lease_page"):
    """Leases by number; ``next_start`` is where the next page begins."""

    leases: tuple[LeaseRecord, ...]
    next_start: int | None


class KeptAlive(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="kept_alive"):
    """What became of each of the leases, in order: as it stands now, or there is none."""

    leases: tuple[LeaseRecord | NoLease, ...]


class Change(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="change", gc=False):
    """A key changed at ``revision``: to ``record``, or, if that is ``None``, it was removed.

    ``expired``: by time, its own or its lease's. ``previous`` is what was there before, if that was asked for, there
    was anything, and it is kept. ``time_ms`` is when, by the log's clock (since 1970).
    """

    revision: int
    key: bytes
    record: KeyRecord | None
    previous: KeyRecord | None = None
    expired: bool = False
    time_ms: int = 0


class ChangePage(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="changes"):
    """Changes in order, whole revisions: all there were up to ``through``; ``is_level``: that is where the store is."""

    changes: tuple[Change, ...]
    through: int
    is_level: bool


class HistoryGone(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="history_gone", gc=False):
    """What was asked for is forgotten: the oldest that can be read is ``compacted_revision``.

    Where no history is kept, changes can be told after no revision that there is: the oldest is the one to come.
    """

    compacted_revision: int


class HistoryAhead(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="history_ahead", gc=False):
    """What was asked for is not there yet: the newest is ``revision``."""

    revision: int


class Compacted(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="compacted", gc=False):
    """Nothing before ``compacted_revision`` can be read any more."""

    compacted_revision: int


class Siblings(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="siblings"):
    """Concurrent values of one key, oldest stamp first; a write with the answer's ``context`` replaces all of them."""

    key: bytes
    records: tuple[StampedRecord, ...]


Found = (
    KeyRecord
    | Missing
    | KeyPage
    | KeyCount
    | LeaseRecord
    | NoLease
    | LeasePage
    | ChangePage
    | HistoryGone
    | HistoryAhead
)
"""What one state has to say to a query."""

Content = Found | StampedRecord | Siblings


class Answer(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="answer"):
    """A read's answer, and what it is: the level it was given at and the store's revision it was taken from.

    ``level_at_s`` bounds the age of a local read: all that was committed anywhere by then (monotonic clock, seconds) is
    in the state that was read; ``None`` if nothing is known. ``replicas`` are the nodes that were asked and answered.
    """

    content: Content
    consistency: Consistency
    revision: int
    replicas: tuple[str, ...] = ()
    level_at_s: float | None = None


class StampedAnswer(Answer, frozen=True, kw_only=True, array_like=True, tag="stamped_answer"):
    """The stamp is that of the newest version seen, a tombstone's included.

    ``context`` is the causal context to send with a write that has seen this (empty unless siblings are kept).
    """

    node: str
    context: bytes


class Ready(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="ready"):
    """The barrier is passed: the state at ``applied_index`` or later is fit for the read."""

    applied_index: int


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


class Configured(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="configured"):
    """The sizes in force from now on."""

    n: int
    r: int
    w: int


class StoredVersion(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="stored"):
    """The replica holds the version durably, or a newer one: (``counter``, ``node``) is the stamp it holds now."""

    counter: int
    node: str
    taken: bool


class Repaired(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="repaired"):
    """What a repair did: peers and ranges compared, versions received and sent; ``unreachable`` were not asked."""

    peers: tuple[str, ...]
    unreachable: tuple[str, ...]
    ranges: int
    differing: int
    received: int
    sent: int


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


class StateHeld(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="state_held"):
    """``command`` is the module of raftkv, and its arguments, that writes a backup of the state to standard output."""

    command: tuple[str, ...]


class MembersChanged(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="membership"):
    """The members after a change was accepted; it spreads from here."""

    members: tuple[MemberStatus, ...]


class LeaderChanged(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="leader_changed"):
    """Another node leads now, in that term, or the same one still."""

    leader: str
    term: int


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

Outcome = (
    Written
    | QuorumWritten
    | Answer
    | StampedAnswer
    | Ready
    | ModeStatus
    | SightsShown
    | RingShown
    | ReplicasShown
    | Configured
    | KeptAlive
    | Compacted
    | HistoryGone
    | HistoryAhead
    | StoredVersion
    | Repaired
    | StateHeld
    | MembersChanged
    | LeaderChanged
    | Refused
    | Unknown
)
