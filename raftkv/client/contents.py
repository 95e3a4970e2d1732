"""What a server says in JSON, as it comes, for type checkers: the answers of ``raftkv.api`` as mappings.

A test holds them to the structs there. Whatever may be left out, as by servers of another version or mode, is
``NotRequired``; what else is there is for newer programs.
"""

from __future__ import annotations

from typing import NotRequired, TypedDict, final


class Base64Content(TypedDict):
    """A value or a key that is no text."""

    base64: str


class PeerContent(TypedDict):
    """Another node as the asked one sees it, or a node as a proxy does; see ``Peer`` and ``ProxiedNode``."""

    id: str
    http: str | None
    reachable: bool
    match_index: NotRequired[int | None]
    misfit: NotRequired[str | None]
    clock_ahead_s: NotRequired[float | None]
    state: NotRequired[str | None]
    connections: NotRequired[int]


class MovingContent(TypedDict):
    """Data on the move; see ``Moving``."""

    ranges_done: int
    ranges: int
    keys: int
    bytes: int


class MemberContent(TypedDict):
    """A member; see ``Member``."""

    id: str
    http: str
    peer: str
    reachable: bool | None
    state: NotRequired[str]
    zone: NotRequired[str]
    share: NotRequired[float]
    heard_ago_ms: NotRequired[int | None]
    hints: NotRequired[int]


class MembersContent(TypedDict):
    """The members; see ``MemberList``."""

    members: list[MemberContent]
    leader: str | None
    ring: NotRequired[str]
    vnodes: NotRequired[int]
    n: NotRequired[int]
    configuration_index: NotRequired[int]


class LedContent(TypedDict):
    """Who leads; see ``LeaderNow``."""

    leader: str
    term: int


@final
class StatusContent(TypedDict):
    """How a node, or a proxy, sees itself and its cluster; see ``NodeStatus`` and ``ProxyStatus``.

    What both say is there for certain; a proxy, whose ``role`` is ``"proxy"``, has neither ``node`` nor ``mode``.
    """

    role: str
    leader: str | None
    version: str
    peers: list[PeerContent]
    node: NotRequired[str]
    mode: NotRequired[str]
    term: NotRequired[int]
    commit_index: NotRequired[int]
    applied_index: NotRequired[int]
    revision: NotRequired[int]
    offers: NotRequired[list[str]]
    cluster_size: NotRequired[int]
    can_write: NotRequired[bool]
    has_room: NotRequired[bool]
    ready: NotRequired[bool]
    reason: NotRequired[str | None]
    misfit: NotRequired[str | None]
    staleness_ms: NotRequired[int | None]
    disk_free_bytes: NotRequired[int | None]
    disk_reserve_bytes: NotRequired[int | None]
    n: NotRequired[int | None]
    r: NotRequired[int]
    w: NotRequired[int]
    certificate_ends_in_s: NotRequired[int | None]
    backup_interval_s: NotRequired[int | None]
    backup_age_s: NotRequired[int | None]
    ring: NotRequired[str | None]
    vnodes: NotRequired[int]
    conflicts: NotRequired[str]
    hints_pending: NotRequired[int]
    repaired_keys: NotRequired[int]
    transfer: NotRequired[MovingContent | None]
    members: NotRequired[list[MemberContent]]
    configuration_index: NotRequired[int]
    learned_ago_ms: NotRequired[int | None]
    ring_agreed: NotRequired[bool]
    requests_waiting: NotRequired[int]


class HolderContent(TypedDict):
    """Who holds what cannot be had; see ``LockContender``."""

    holder: str
    lease: int
    token: int
    left: NotRequired[float]


@final
class ProblemContent(TypedDict):
    """Why there is no answer; see ``Problem``."""

    type: NotRequired[str]
    title: str
    status: int
    detail: str
    code: str
    applied: str
    revision: NotRequired[int]
    compacted_revision: NotRequired[int]
    holders: NotRequired[list[HolderContent]]


StatusOrProblem = StatusContent | ProblemContent
"""``"code" in told`` tells the problem."""


class RepairContent(TypedDict):
    """What a repair did; see ``RepairDone``."""

    peers: list[str]
    unreachable: list[str]
    ranges: int
    differing: int
    received: int
    sent: int


class ItemContent(TypedDict):
    """A key of a page; see ``Item``."""

    key: str | Base64Content
    value: NotRequired[str | Base64Content]
    version: int
    revision: int
    create_revision: int
    node: NotRequired[str]
    ttl_left: NotRequired[float]
    lease: NotRequired[int]


class _ResultContent(TypedDict):
    """What came of an operation: the ``status`` it would have had alone, and of a failed one its ``code``."""

    op: str
    status: int
    version: NotRequired[int]
    revision: NotRequired[int]
    create_revision: NotRequired[int]
    node: NotRequired[str]
    ttl_left: NotRequired[float]
    lease: NotRequired[int]
    deleted: NotRequired[int]
    code: NotRequired[str]
    detail: NotRequired[str]


class ResultContent(_ResultContent):
    """What came of an operation of a batch; ``value`` is what was read, or counted to."""

    key: NotRequired[str]
    value: NotRequired[bytes | int]


class StepContent(_ResultContent):
    """What came of an operation of a transaction, its ``value`` in the form of JSON."""

    key: NotRequired[str | Base64Content]
    value: NotRequired[str | Base64Content | int]
    items: NotRequired[list[ItemContent]]
    next: NotRequired[str | Base64Content | None]
    succeeded: NotRequired[bool]
    results: NotRequired[list[StepContent]]


class TransactionContent(TypedDict):
    """What came of a transaction; see ``TransactionDone``."""

    succeeded: bool
    revision: int
    results: list[StepContent]
