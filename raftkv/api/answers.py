"""The JSON of answers about keys and who holds what, which handlers encode, clients read and the description tells.

A null ``version``, ``revision`` or the like stands in answers to writes that asked not to wait for a majority. ``node``
and whatever else may be left out is there in leaderless clusters only. A field with another default came to its answer
later: it is always written, and need not be there to be read; a size of 0 was not said. Imports ``core`` and msgspec
only.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from raftkv.api.values import Value, value_from_json

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
    """Who waits to lead, and the value that it would be known by, unless there was too much of that for one answer."""

    lease: int
    token: int
    value: Value | msgspec.UnsetType = msgspec.UNSET


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


class StoredHere(msgspec.Struct, frozen=True):
    """What this one replica holds of the key now: the version that was sent (``taken``), or a newer one."""

    result: Literal["ok"]
    key: Value
    taken: bool
    timestamp: int
    node: str
