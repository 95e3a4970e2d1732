"""What comes back, as frozen values: the counterpart of ``raftkv.core.requests``, under the same rules.

What only one mode says is in a type of that mode, derived from the common one. ``Stamped...`` are a leaderless
cluster's: a write there has a stamp, whose counter stands where a leader's number would, and whose other half is
``node``, the writer.

This module imports nothing but msgspec and its neighbours in ``core``.
"""

from __future__ import annotations

import msgspec

from raftkv.core.errors import Refused, Unknown
from raftkv.core.requests import Consistency
from raftkv.core.sights import SightsShown
from raftkv.core.status import MemberStatus, ModeStatus, ReplicasShown, RingShown


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
