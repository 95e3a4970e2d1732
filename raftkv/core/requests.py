"""What a client asks, as frozen values: validated once at the edge, then passed unchanged to whichever replicator runs.

The same values travel over the front-end's socket and inside replicated commands, as msgpack arrays; a field may only
be appended, with a default, never moved. Keys and values are bytes; keys are UTF-8 of 1 to ``max_key_bytes`` bytes.
What the machine could not carry out is no request: such bytes do not decode, wherever they come from. What a batch has
very many of can be in no cycle, so Python is told (``gc``) not to look for any.

This module imports nothing but the standard library, msgspec and its neighbours in ``core``.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from raftkv.core.config import KEY_BYTES_MAX, AddressText, Zone

ABSENT: Final = 0
"""``match`` value: the key must not exist."""

ANY: Final = -1
"""``match`` value: the key must exist, at whatever revision."""

MAJORITY: Final = 0
"""``acks`` value: answer when the write is committed, that is durable on a majority; leaderless, on W replicas."""

DEFAULT: Final = 0
"""``n``, ``r`` value: whatever the cluster's configuration says."""


Key = Annotated[bytes, Meta(min_length=1, max_length=KEY_BYTES_MAX)]
Revision = Annotated[int, Meta(ge=0, le=1 << 62)]

MATCHES_MAX: Final = 64
"""Revisions that one precondition may name: whoever merges has read a few."""

Match = Annotated[int, Meta(ge=ANY, le=1 << 62)] | Annotated[tuple[Revision, ...], Meta(max_length=MATCHES_MAX)]
"""What the key must be: one value as below, or several revisions of which it must have one, the longer form."""

Milliseconds = Annotated[int, Meta(ge=0, le=1 << 48)]
"""A span of time; up to nine thousand years, so that no sum of two leaves 64 bits."""


class Consistency(enum.StrEnum):
    """What a read promises.

    ``linearizable``: at least as new as every write acknowledged before the read began, whatever the clocks do.
    ``lease``: the same, as long as clocks run at rates within the configured drift bound. ``eventual``: the newest of
    what ``r`` replicas hold. ``local``: whatever the asked node has applied.
    """

    LINEARIZABLE = "linearizable"
    LEASE = "lease"
    EVENTUAL = "eventual"
    LOCAL = "local"


class Put(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="put", gc=False):
    """Store ``value`` under ``key``.

    ``match`` is the precondition: ``None`` for none, ``ABSENT``, ``ANY``, the exact modification revision the key
    must have, or several of which it must have one (``ABSENT`` may be among them). ``ttl_ms`` > 0 lets the key expire
    that many milliseconds after the command's time stamp.
    """

    key: Key
    value: bytes
    match: Match | None = None
    ttl_ms: Milliseconds = 0


class Delete(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="delete", gc=False):
    """Remove ``key``; ``match`` as in ``Put``."""

    key: Key
    match: Match | None = None


class Get(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="get", gc=False):
    """Ask for the record under ``key``."""

    key: Key


class List(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="list"):
    """Ask for the records with ``start`` <= key < ``end`` in key order, ``limit`` at most; ``end`` ``None`` is open."""

    start: bytes
    end: bytes | None
    limit: int
    keys_only: bool = False


Operation = Put | Delete | Get
Query = Get | List


class Placing(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What only a request to a leaderless cluster chooses: which replicas, and what they are to take as seen.

    ``n`` replicas are asked, fallbacks stand in for unreachable ones if ``sloppy`` (``None``: as configured), and
    ``context`` is the causal context that a writer read before (Dynamo, section 4.4).
    """

    n: int = DEFAULT
    sloppy: bool | None = None
    context: bytes = b""


AS_CONFIGURED: Final = Placing()


class Write(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="write"):
    """Apply independent operations, in order, in one replicated step.

    ``acks`` is how many replicas must have the write durably before the answer: ``MAJORITY``, or a count (1 is the
    leader alone). ``idempotency_key``: a repeat with the same key and the same operations returns the first outcome.
    A mode that cannot give what a request names refuses it.
    """

    operations: tuple[Operation, ...]
    acks: int = MAJORITY
    idempotency_key: Annotated[str, Meta(min_length=1)] | None = None
    placing: Placing | None = None


class Read(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="read"):
    """Answer ``query`` at ``consistency``; an eventual read takes the newest of ``r`` of the key's replicas."""

    query: Query
    consistency: Consistency = Consistency.LINEARIZABLE
    r: int = DEFAULT
    placing: Placing | None = None


class Barrier(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="barrier"):
    """Answer once this node's applied state is fit for a read at ``consistency`` that began before the request."""

    consistency: Consistency = Consistency.LINEARIZABLE


class Inspect(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="inspect"):
    """Ask for a fresh ``Status`` of this node."""


class Configure(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="configure"):
    """Change how many replicas a key has, and how many of them a read and a write need; 0 leaves a number as it is."""

    n: int = DEFAULT
    r: int = DEFAULT
    w: int = DEFAULT


class StoreHere(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="store_here"):
    """Let this one replica take a version, as a peer would; ``value`` ``None`` is a tombstone.

    The stamp is (``counter``, ``node``); ``counter`` 0 lets this replica choose the next.
    """

    key: Key
    value: bytes | None
    counter: Annotated[int, Meta(ge=0, le=1 << 53)] = 0
    node: Annotated[str, Meta(max_length=63)] = ""


class Repair(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="repair"):
    """Let this node hold what others do: range by range, or, where there is a leader, all anew if it is wrong."""


class AddMember(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="add_member"):
    """Let a node join; ``http`` and ``peer`` are its advertised addresses (``host:port``)."""

    id: str
    http: AddressText
    peer: AddressText
    zone: Zone = ""


class RemoveMember(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="remove_member"):
    """Let a node leave: one that is alive hands its data over first."""

    id: str


Request = Write | Read | Barrier | Inspect | Configure | StoreHere | Repair | AddMember | RemoveMember


def is_read(request: Request) -> bool:
    """Can nothing come of ``request`` but an answer? Then its failure is always definite."""
    if not isinstance(request, Write):
        return isinstance(request, Read | Barrier | Inspect)
    for operation in request.operations:  # noqa: SIM110  all() takes twice as long, and this is asked of every write
        if not isinstance(operation, Get):
            return False
    return True


def prefix_end(prefix: bytes) -> bytes | None:
    """The smallest key greater than every key with ``prefix``, or ``None`` when there is none (``b""``, ``ff ff``)."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return None
    return stripped[:-1] + bytes([stripped[-1] + 1])
