"""What comes back, as frozen values: the counterpart of ``raftkv.core.requests``, under the same rules.

This module imports nothing but msgspec and its neighbours in ``core``.
"""

from __future__ import annotations

import msgspec

from raftkv.core.errors import Refused, Unknown
from raftkv.core.requests import Consistency


class Record(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="record"):
    """A key as it stands: its value, how often it was written since it was created, and the revisions of both ends.

    ``version`` counts from 1 at creation. ``expires_at_ms`` is on the machine's clock (milliseconds since the epoch),
    0 for never.
    """

    key: bytes
    value: bytes
    version: int
    create_revision: int
    mod_revision: int
    expires_at_ms: int = 0


class Missing(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="missing"):
    """There is no such key."""

    key: bytes


class PutDone(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="put_done"):
    """The value is stored at ``revision``; ``version`` 1 means that the key was created."""

    version: int
    revision: int


class DeleteDone(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="delete_done"):
    """The key was removed at ``revision``."""

    revision: int


class Mismatch(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="mismatch"):
    """The precondition failed; ``revision`` is the key's current modification revision, 0 when it does not exist."""

    revision: int


OperationResult = PutDone | DeleteDone | Record | Missing | Mismatch


class Written(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="written"):
    """One result for each operation, in order; ``revision`` is the store's after the last of them.

    ``acks`` is how many replicas are known to hold the write durably. ``committed`` is false only when the client asked
    for fewer acknowledgements than a majority: then nothing is applied yet, ``results`` is empty and ``revision`` is 0.
    ``refused``, when set, says why the whole write was turned down (an idempotency key used for another request).
    """

    results: tuple[OperationResult, ...]
    revision: int
    acks: int
    committed: bool = True
    refused: str | None = None


class Page(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="page"):
    """Records in key order; ``next_start`` is where the next page begins, ``None`` when this was the last."""

    records: tuple[Record, ...]
    next_start: bytes | None


class Answer(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="answer"):
    """A read's answer, and what it is: the level it was given at and the store's revision it was taken from."""

    content: Record | Missing | Page
    consistency: Consistency
    revision: int


class Ready(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="ready"):
    """The barrier is passed: the state at ``applied_index`` or later is fit for the read."""

    applied_index: int


class PeerStatus(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """How this node sees another: is its link up, and, on the leader, up to which log index it is known to match."""

    id: str
    reachable: bool
    match_index: int | None = None


class Status(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="status"):
    """One node's view of itself and its cluster.

    ``heard_at_s`` is when this node last knew itself level with a leader (monotonic clock, seconds); ``None`` if never.
    ``offers`` are the read consistencies that this node can give; another is refused, never approximated.
    ``can_write`` is false while the disk is too full to take writes. ``state_path`` is where the front-end finds the
    applied state for its own reads, empty when there is none to share.
    """

    node: str
    mode: str
    role: str
    leader: str | None
    term: int
    commit_index: int
    applied_index: int
    revision: int
    peers: tuple[PeerStatus, ...]
    offers: tuple[Consistency, ...]
    cluster_size: int
    heard_at_s: float | None = None
    can_write: bool = True
    state_path: str = ""


Outcome = Written | Answer | Ready | Status | Refused | Unknown
