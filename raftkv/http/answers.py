"""The JSON of answers that are no problem, as types: what ``/openapi.json`` says of them. A test holds handlers to it.

A null ``version``, ``revision`` or the like stands in answers to writes that asked not to wait for a majority.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from raftkv.http.bodies import Value


class Stored(msgspec.Struct, frozen=True):
    """A value was stored under the key."""

    key: str
    version: int | None
    revision: int | None


class Deleted(msgspec.Struct, frozen=True):
    """The key was removed."""

    deleted: Literal[1] | None
    revision: int | None


class KeyDeleted(Deleted, frozen=True, kw_only=True):
    """The key was removed, and which."""

    key: str


class RecordFound(msgspec.Struct, frozen=True):
    """A key as it stands."""

    key: str
    value: Value
    version: int
    revision: int
    create_revision: int


class Item(msgspec.Struct, frozen=True):
    """A key of a page; without its value when only keys were asked for."""

    key: str
    version: int
    revision: int
    create_revision: int
    value: Value | msgspec.UnsetType = msgspec.UNSET


class Listed(msgspec.Struct, frozen=True):
    """A page; ``next`` is the ``start`` of the one that follows."""

    items: list[Item]
    next: str | None
    revision: int


class BatchDone(msgspec.Struct, frozen=True):
    """One result for each operation, in order, each with the ``status`` it would have had alone."""

    results: list[dict[str, Any]] | None
    revision: int | None


class Acknowledged(msgspec.Struct, frozen=True):
    """A value was stored, and by how many replicas."""

    result: Literal["ok"]
    acks: int
    key: str
    version: int | None


class Created(msgspec.Struct, frozen=True):
    """A value was stored."""

    key: str
    value: Value
    version: int | None
    status: Literal["created"]


class Found(msgspec.Struct, frozen=True):
    """A value; ``timestamp`` is logical: the revision of the write, which orders all writes."""

    key: str
    value: Value
    version: int
    timestamp: int


class Health(msgspec.Struct, frozen=True):
    """The front-end is alive; ``time`` is RFC 3339."""

    status: Literal["healthy"]
    time: str


class Alive(msgspec.Struct, frozen=True):
    """Alive, or ready."""

    status: Literal["alive", "ready"]


class QuorumSizes(msgspec.Struct, frozen=True):
    """How many replicas there are, and how many of them a read and a write need."""

    n: int
    r: int
    w: int


class Peer(msgspec.Struct, frozen=True):
    """Another node as this one sees it."""

    id: str
    http: str | None
    reachable: bool
    match_index: int | None


class NodeStatus(msgspec.Struct, frozen=True):
    """A node's view of itself and its cluster; ``reason`` says why it is not ready."""

    node: str
    mode: Literal["raft", "quorum"]
    role: str
    leader: str | None
    term: int
    commit_index: int
    applied_index: int
    revision: int
    peers: list[Peer]
    version: str
    offers: list[str]
    cluster_size: int
    can_write: bool
    ready: bool
    reason: str | None


class Member(msgspec.Struct, frozen=True):
    """A member of the configuration; ``reachable`` is null when this node cannot tell."""

    id: str
    http: str
    peer: str
    reachable: bool | None


class Members(msgspec.Struct, frozen=True):
    """The members, and who leads them."""

    members: list[Member]
    leader: str | None
