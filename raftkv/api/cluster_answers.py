"""The JSON of what a cluster says of itself, its nodes, members, ring, users and roles; as ``raftkv.api.answers``."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from raftkv.api.answers import TtlLeft
from raftkv.api.bodies import PermissionBody
from raftkv.api.values import Value
from raftkv.core.config import Mode


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
    """Which node comes first for which part of all keys; see ``raftkv.core.status.RingShown``.

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
