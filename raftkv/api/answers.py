"""The JSON of answers that are no problem: what handlers encode, what clients read, what the description says.

A null ``version``, ``revision`` or the like stands in answers to writes that asked not to wait for a majority. ``node``
and whatever else may be left out is there in leaderless clusters only. A field with another default came to its answer
later: it is always written, and need not be there to be read; a size of 0 was not said. Imports ``core`` and msgspec
only.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from raftkv.api.bodies import PermissionBody
from raftkv.api.values import Value, value_from_json
from raftkv.core.config import Mode

Node = str | msgspec.UnsetType
"""Who stamped a version, the other half of its revision."""


TtlLeft = float | msgspec.UnsetType
"""Seconds until the key expires, by the clock of the node that answers; left out when it never does."""


LeaseOf = int | msgspec.UnsetType
"""The lease with which the key goes; left out where there is none."""


class Stored(msgspec.Struct, frozen=True):
    """A value was stored under the key."""

    key: Value
    version: int | None
    revision: int | None
    node: Node = msgspec.UNSET


class Deleted(msgspec.Struct, frozen=True):
    """The key was removed."""

    deleted: Literal[1] | None
    revision: int | None
    node: Node = msgspec.UNSET


class KeysDeleted(msgspec.Struct, frozen=True):
    """So many keys were removed, all at this revision."""

    deleted: int
    revision: int


class Counted(msgspec.Struct, frozen=True):
    """The integer in the key is ``value`` now."""

    key: Value
    value: int
    version: int
    revision: int


class KeyTouched(msgspec.Struct, frozen=True):
    """The key has ``ttl_left`` seconds from now on, or lives for ever; it stands at the revision at which it stood."""

    key: Value
    revision: int
    ttl_left: TtlLeft = msgspec.UNSET


class TransactionDone(msgspec.Struct, frozen=True):
    """Which branch was done, and one result for each of its operations, with the ``status`` it would have had alone."""

    succeeded: bool
    revision: int
    results: list[dict[str, Any]]


class CompactDone(msgspec.Struct, frozen=True):
    """Nothing before this revision can be read any more."""

    compacted_revision: int


class LeaseGranted(msgspec.Struct, frozen=True):
    """There is such a lease, of so many seconds."""

    id: int
    ttl: float


class LeaseShown(msgspec.Struct, frozen=True):
    """A lease: how many seconds it lives, how many are left, and what goes with it, or how many of that there are.

    ``locks`` and ``elections`` are the names that it holds, or waits to.
    """

    id: int
    ttl: float
    left: float
    key_count: int
    keys: list[Value] | msgspec.UnsetType = msgspec.UNSET
    locks: list[str] | msgspec.UnsetType = msgspec.UNSET
    elections: list[str] | msgspec.UnsetType = msgspec.UNSET


class PreviousTold(msgspec.Struct, frozen=True, kw_only=True):
    """What a key held before it changed."""

    value: Value
    version: int
    create_revision: int
    revision: int
    lease: int | msgspec.UnsetType = msgspec.UNSET


class ChangeTold(msgspec.Struct, frozen=True, kw_only=True):
    """One change of a key; of a removal there is neither a value nor its numbers.

    ``expired``: it was removed by time, its own or its lease's. ``previous`` is there if it was asked for and kept.
    """

    type: Literal["put", "delete"]
    key: Value
    value: Value | msgspec.UnsetType = msgspec.UNSET
    version: int | msgspec.UnsetType = msgspec.UNSET
    create_revision: int | msgspec.UnsetType = msgspec.UNSET
    revision: int
    lease: int | msgspec.UnsetType = msgspec.UNSET
    expired: bool | msgspec.UnsetType = msgspec.UNSET
    previous: PreviousTold | msgspec.UnsetType = msgspec.UNSET


class ChangesTold(msgspec.Struct, frozen=True, kw_only=True):
    """All changes of one revision that a watcher wants, in order.

    ``time_ms`` is when it came about, by the log's clock, in milliseconds since 1970; unset by older nodes.
    """

    revision: int
    time_ms: int | msgspec.UnsetType = msgspec.UNSET
    changes: list[ChangeTold]


class ProgressTold(msgspec.Struct, frozen=True):
    """A watcher has been told everything up to here."""

    revision: int


class LeaseList(msgspec.Struct, frozen=True):
    """Leases by number; ``next`` is the ``start`` of the page that follows."""

    leases: list[LeaseShown]
    next: int | None
    revision: int


class LockGranted(msgspec.Struct, frozen=True):
    """The lock is held with this lease; ``token`` is greater than that of any grant before (a fencing token)."""

    name: str
    lease: int
    token: int


class LockReleased(msgspec.Struct, frozen=True):
    """What was granted with the token is let go."""

    name: str
    token: int
    revision: int


class LockContender(msgspec.Struct, frozen=True):
    """Who holds, or waits; ``left`` is how many seconds the lease of a holder has, by this node's clock."""

    holder: str
    lease: int
    token: int
    left: float | msgspec.UnsetType = msgspec.UNSET


class LockShown(msgspec.Struct, frozen=True):
    """A lock: who holds it, and who waits, in order."""

    name: str
    permits: int
    holders: list[LockContender]
    waiting: list[LockContender]


class LockSummary(msgspec.Struct, frozen=True):
    """A lock of a page: who holds it, and how many wait."""

    name: str
    permits: int
    holders: list[LockContender]
    waiting: int


class LockList(msgspec.Struct, frozen=True):
    """Locks by name; ``next`` is the ``start`` of the page that follows."""

    locks: list[LockSummary]
    next: str | None


class ElectionWon(msgspec.Struct, frozen=True):
    """The candidate leads; ``token`` is greater than that of any leader before (a fencing token)."""

    name: str
    lease: int
    token: int


class LeaderShown(msgspec.Struct, frozen=True):
    """Who leads, by its value, which stands at ``revision``."""

    name: str
    value: Value
    lease: int
    token: int
    revision: int


class CandidateShown(msgspec.Struct, frozen=True):
    """Who waits to lead."""

    lease: int
    token: int


class ElectionShown(msgspec.Struct, frozen=True):
    """An election of a page: who leads, and who waits, in order."""

    name: str
    leader: LeaderShown
    waiting: list[CandidateShown]


class ElectionList(msgspec.Struct, frozen=True):
    """Elections by name; ``next`` is the ``start`` of the page that follows."""

    elections: list[ElectionShown]
    next: str | None


class LeaderTold(msgspec.Struct, frozen=True):
    """Who leads from this revision on, or by which value; ``None``: nobody does."""

    revision: int
    leader: LeaderShown | None


class Proclaimed(msgspec.Struct, frozen=True):
    """The leader is known by the new value from this revision on."""

    name: str
    token: int
    revision: int


class KeepAlives(msgspec.Struct, frozen=True):
    """The leases that live for their whole time again, and those that there are not (any more)."""

    kept: list[LeaseGranted]
    missing: list[int]


class KeyDeleted(msgspec.Struct, frozen=True):
    """The key was removed, and which."""

    deleted: Literal[1] | None
    key: Value
    revision: int | None


class RecordFound(msgspec.Struct, frozen=True):
    """A key as it stands."""

    key: Value
    value: Value
    version: int
    revision: int
    create_revision: int
    node: Node = msgspec.UNSET
    ttl_left: TtlLeft = msgspec.UNSET
    lease: LeaseOf = msgspec.UNSET


class Sibling(msgspec.Struct, frozen=True):
    """One of several values whose writers did not know of each other."""

    value: Value
    version: int
    revision: int
    node: str
    ttl_left: TtlLeft = msgspec.UNSET


class SiblingsAnswer(msgspec.Struct, frozen=True):
    """The concurrent values of a key, oldest stamp first; a write with their ``Raftkv-Context`` replaces all."""

    key: Value
    siblings: Annotated[list[Sibling], Meta(min_length=1)]

    def values(self) -> tuple[bytes, ...]:
        """The values themselves, in order; raises ``ValueError``."""
        return tuple([value_from_json(each.value) for each in self.siblings])


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """A key of a page; without its value when only keys were asked for."""

    key: Value
    value: Value | msgspec.UnsetType = msgspec.UNSET
    version: int
    revision: int
    create_revision: int
    node: Node = msgspec.UNSET
    ttl_left: TtlLeft = msgspec.UNSET
    lease: LeaseOf = msgspec.UNSET

    def content(self) -> bytes | None:
        """The value itself, ``None`` when only keys were asked for; raises ``ValueError``."""
        return None if self.value is msgspec.UNSET else value_from_json(self.value)


class Listed(msgspec.Struct, frozen=True):
    """A page; ``next`` is the ``start`` of the one that follows."""

    items: list[Item]
    next: Value | None
    revision: int


class BatchDone(msgspec.Struct, frozen=True):
    """One result for each operation, in order, each with the ``status`` it would have had alone."""

    results: list[dict[str, Any]] | None
    revision: int | None


class Acknowledged(msgspec.Struct, frozen=True):
    """A value was stored, and by how many replicas."""

    result: Literal["ok"]
    acks: int
    key: Value
    version: int | None


class Created(msgspec.Struct, frozen=True):
    """A value was stored."""

    key: Value
    value: Value
    version: int | None
    status: Literal["created"]


class Found(msgspec.Struct, frozen=True):
    """A value; ``timestamp`` is logical: the revision of the write, which orders all writes."""

    key: Value
    value: Value
    version: int
    timestamp: int


class Health(msgspec.Struct, frozen=True):
    """The front-end is alive; ``time`` is RFC 3339.

    ``health`` is what etcd calls so: does this node serve writes and reads as they are by default? ``reason``: why not.
    """

    status: Literal["healthy"]
    time: str
    health: Literal["true", "false"]
    reason: str


class Alive(msgspec.Struct, frozen=True):
    """Alive, or ready."""

    status: Literal["alive", "ready"]


class QuorumSizes(msgspec.Struct, frozen=True):
    """How many replicas there are, and how many of them a read and a write need."""

    n: int
    r: int
    w: int


class StoredHere(msgspec.Struct, frozen=True):
    """What this one replica holds of the key now: the version that was sent (``taken``), or a newer one."""

    result: Literal["ok"]
    key: Value
    taken: bool
    timestamp: int
    node: str


class RepairDone(msgspec.Struct, frozen=True):
    """What was compared and what was exchanged; nodes in ``unreachable`` were not asked."""

    peers: list[str]
    unreachable: list[str]
    ranges: int
    differing: int
    received: int
    sent: int


class Peer(msgspec.Struct, frozen=True):
    """Another node as this one sees it; ``misfit`` says why it takes no part, if it does not.

    ``clock_ahead_s`` is how much later its clock is than this node's, if this node asks it.
    """

    id: str
    http: str | None
    reachable: bool
    match_index: int | None = None
    misfit: str | None = None
    clock_ahead_s: float | None = None


class NodeStatus(msgspec.Struct, frozen=True):
    """A node's view of itself and its cluster; ``reason`` says why it is not ready, ``misfit`` why it takes no part.

    ``staleness_ms`` is how stale its own copy is at most, ``None`` if it cannot tell. With less than
    ``disk_reserve_bytes`` free it takes no writes that need room. ``certificate_ends_in_s`` is of that of its
    certificates which ends first. Where backups are made on a schedule, that is every ``backup_interval_s``, and the
    newest that this node knows of was made ``backup_age_s`` ago.
    """

    node: str
    mode: Mode
    role: str
    leader: str | None
    term: int
    commit_index: int
    applied_index: int
    revision: int
    peers: list[Peer]
    version: str
    offers: list[str] = []
    cluster_size: int = 0
    can_write: bool = False
    has_room: bool = True
    ready: bool = False
    reason: str | None = None
    misfit: str | None = None
    n: int = 0
    r: int = 0
    w: int = 0
    staleness_ms: int | None = None
    disk_free_bytes: int | None = None
    disk_reserve_bytes: int | None = None
    certificate_ends_in_s: int | None = None
    backup_interval_s: int | None = None
    backup_age_s: int | None = None
    ring: str | msgspec.UnsetType = msgspec.UNSET
    vnodes: int | msgspec.UnsetType = msgspec.UNSET
    conflicts: str | msgspec.UnsetType = msgspec.UNSET
    hints_pending: int | msgspec.UnsetType = msgspec.UNSET
    repaired_keys: int | msgspec.UnsetType = msgspec.UNSET
    transfer: Moving | msgspec.UnsetType | None = msgspec.UNSET
    members: list[Member] | msgspec.UnsetType = msgspec.UNSET
    configuration_index: int | msgspec.UnsetType = msgspec.UNSET


class StandingTold(msgspec.Struct, frozen=True):
    """How the asked node stands, and the members as it knows them; ``status`` is null while its replica is away."""

    status: NodeStatus | None
    members: list[Member]


class ClientTraffic(msgspec.Struct, frozen=True, kw_only=True):
    """What clients have asked of this node since it started: only differences between two of these say anything.

    ``at_s`` is its monotonic clock. ``errors`` are by status, or ``gRPC`` and its code. ``took`` counts answers by the
    upper bound of how long they took, in seconds (cumulative), ``disk`` likewise how long it took to make writes
    durable. What pages and monitoring ask is left out.
    """

    at_s: float
    requests: int
    errors: dict[str, int]
    took: dict[str, int]
    disk: dict[str, int]
    streams: int


class TrafficTold(msgspec.Struct, frozen=True):
    """What clients ask of this node."""

    traffic: ClientTraffic


class ProxiedNode(msgspec.Struct, frozen=True):
    """A node behind a proxy; ``state`` is what other members think of it, and ``connections`` those in use."""

    id: str
    http: str
    reachable: bool
    state: str | None
    connections: int


PROXY: Final = "proxy"
"""The role that tells a proxy's status from a node's."""


class ProxyStatus(msgspec.Struct, frozen=True):
    """A proxy's view of the cluster behind it; ``ring_agreed``: it places keys on the ring that the nodes do."""

    role: Literal["proxy"]
    version: str
    ready: bool
    reason: str | None
    learned_ago_ms: int | None
    leader: str | None
    ring: str | None
    ring_agreed: bool
    n: int | None
    requests_waiting: int
    peers: list[ProxiedNode]


class Moving(msgspec.Struct, frozen=True):
    """Data on the move after the ring changed: ring ranges done and in all, and what came in so far."""

    ranges_done: int
    ranges: int
    keys: int
    bytes: int


class Member(msgspec.Struct, frozen=True):
    """A member; ``reachable`` is null when this node cannot tell.

    ``state`` is, where there is a leader, ``voter``, or ``learner`` of one that catches up before it votes.
    ``share`` is the part of all keys, 0 to 1, that it is the first replica of; ``heard_ago_ms`` how long ago it gave a
    sign of life; ``hints`` how many writes the asked node keeps for it.
    """

    id: str
    http: str
    peer: str
    reachable: bool | None
    state: str | msgspec.UnsetType = msgspec.UNSET
    zone: str | msgspec.UnsetType = msgspec.UNSET
    share: float | msgspec.UnsetType = msgspec.UNSET
    heard_ago_ms: int | msgspec.UnsetType | None = msgspec.UNSET
    hints: int | msgspec.UnsetType = msgspec.UNSET


class TheRing(msgspec.Struct, frozen=True):
    """Which node comes first for which part of all keys; see ``raftkv.core.results.RingShown``.

    ``tokens`` are pairs of a place on the ring, 0 to 1, in order, and of a node's place in ``nodes``.
    """

    ring: str
    n: int
    nodes: list[str]
    tokens: list[list[float]]


class HeldVersion(msgspec.Struct, frozen=True):
    """A version of a key at one replica; ``revision`` and ``node`` are its stamp.

    ``value`` is null for a tombstone, and else what the value of ``bytes`` bytes begins with, 256 of them at most.
    """

    revision: int
    node: str
    value: Value | None
    bytes: int
    ttl_left: TtlLeft = msgspec.UNSET


class KeptHint(msgspec.Struct, frozen=True):
    """What a node keeps of a key for another: ``revision`` and ``node`` are the stamp of the newest version of it."""

    target: str
    revision: int
    node: str


class ReplicaOfKey(msgspec.Struct, frozen=True):
    """What one node holds of a key.

    ``part`` is ``replica``, ``moving`` (the key moves to it or from it) or ``other``; ``fate`` is ``holds`` once it has
    told, whatever it is, else ``silent``, ``lost`` (not reached) or ``declined`` for a ``reason``. ``versions`` are
    the last of ``versions_count``; ``seen`` says up to which of each actor's events it has processed, where siblings
    are kept. ``hints`` is null where it does not tell. ``behind``: it lacks something that another has.
    """

    id: str
    part: str
    fate: str
    behind: bool
    versions: list[HeldVersion]
    versions_count: int
    seen: dict[str, int]
    hints: list[KeptHint] | None
    reason: str | None


class KeyOnRing(msgspec.Struct, frozen=True):
    """Where a key lies on the ring, 0 to 1, and what each node holds of it, its ``n`` replicas first."""

    key: Value
    turn: float
    n: int
    nodes: list[ReplicaOfKey]


class LeaderNow(msgspec.Struct, frozen=True):
    """Who leads now, and in which term."""

    leader: str
    term: int


class MemberList(msgspec.Struct, frozen=True):
    """The members, and who leads them, or how keys are placed on them.

    ``configuration_index`` is where the log says so; 0 while it is as in the nodes' files.
    """

    members: list[Member]
    leader: str | None
    ring: str | msgspec.UnsetType = msgspec.UNSET
    vnodes: int | msgspec.UnsetType = msgspec.UNSET
    n: int | msgspec.UnsetType = msgspec.UNSET
    configuration_index: int | msgspec.UnsetType = msgspec.UNSET


class AuthStatus(msgspec.Struct, frozen=True):
    """Is authentication on, and as whom does this client ask?"""

    enabled: bool
    user: str | None
    roles: list[str]


class LoggedIn(msgspec.Struct, frozen=True):
    """A token, to be shown as ``Authorization: Bearer``, and for how many seconds it is good."""

    token: str
    user: str
    expires_in: float


class UserShown(msgspec.Struct, frozen=True):
    """A user."""

    name: str
    roles: list[str]


class UserList(msgspec.Struct, frozen=True):
    """All users, by name."""

    users: list[UserShown]


class RoleShown(msgspec.Struct, frozen=True):
    """A role."""

    name: str
    permissions: list[PermissionBody]


class RoleList(msgspec.Struct, frozen=True):
    """All roles, by name, save ``root``, which is built in."""

    roles: list[RoleShown]
