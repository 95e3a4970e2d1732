"""What a client asks, as frozen values: validated once at the edge, then passed unchanged to whichever replicator runs.

The same values travel over the front-end's socket and inside replicated commands, as msgpack arrays; a field may only
be appended, with a default, never moved. Keys and values are bytes; keys are UTF-8 of 1 to ``max_key_bytes`` bytes.

This module imports nothing but the standard library and msgspec.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

ABSENT: Final = 0
"""``match`` value: the key must not exist."""

ANY: Final = -1
"""``match`` value: the key must exist, at whatever revision."""

MAJORITY: Final = 0
"""``acks`` value: answer when the write is committed, that is durable on a majority."""


class Consistency(enum.StrEnum):
    """What a read promises.

    ``linearizable``: at least as new as every write acknowledged before the read began, whatever the clocks do.
    ``lease``: the same, as long as clocks run at rates within the configured drift bound. ``local``: whatever the asked
    node has applied.
    """

    LINEARIZABLE = "linearizable"
    LEASE = "lease"
    LOCAL = "local"


class Put(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="put"):
    """Store ``value`` under ``key``.

    ``match`` is the precondition: ``None`` for none, ``ABSENT``, ``ANY``, or the exact modification revision the key
    must have. ``ttl_ms`` > 0 lets the key expire that many milliseconds after the command's time stamp.
    """

    key: bytes
    value: bytes
    match: int | None = None
    ttl_ms: int = 0


class Delete(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="delete"):
    """Remove ``key``; ``match`` as in ``Put``."""

    key: bytes
    match: int | None = None


class Get(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="get"):
    """Ask for the record under ``key``."""

    key: bytes


class List(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="list"):
    """Ask for the records with ``start`` <= key < ``end`` in key order, ``limit`` at most; ``end`` ``None`` is open."""

    start: bytes
    end: bytes | None
    limit: int
    keys_only: bool = False


Operation = Put | Delete | Get
Query = Get | List


class Write(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="write"):
    """Apply independent operations, in order, in one replicated step.

    ``acks`` is how many replicas must have the write durably before the answer: ``MAJORITY``, or a count (1 is the
    leader alone). ``idempotency_key``: a repeat with the same key and the same operations returns the first outcome.
    """

    operations: tuple[Operation, ...]
    acks: int = MAJORITY
    idempotency_key: str | None = None


class Read(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="read"):
    """Answer ``query`` at ``consistency``."""

    query: Query
    consistency: Consistency = Consistency.LINEARIZABLE


class Barrier(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="barrier"):
    """Answer once this node's applied state is fit for a read at ``consistency`` that began before the request."""

    consistency: Consistency = Consistency.LINEARIZABLE


class Inspect(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="inspect"):
    """Ask for a fresh ``Status`` of this node."""


Request = Write | Read | Barrier | Inspect


def prefix_end(prefix: bytes) -> bytes | None:
    """The smallest key greater than every key with ``prefix``, or ``None`` when there is none (``b""``, ``ff ff``)."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return None
    return stripped[:-1] + bytes([stripped[-1] + 1])
