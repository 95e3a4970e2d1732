"""What a client asks, as frozen values: validated once at the edge, then passed unchanged to whichever replicator runs.

The same values travel over the front-end's socket and inside replicated commands, as msgpack arrays; a field may only
be appended, with a default, never moved. Keys and values are bytes; a client's key has 1 to
``max_key_bytes`` of them, comes before ``keys.SYSTEM`` and, in leaderless clusters, is UTF-8.
``caller`` is the client that asks; whoever judges rights takes ``None`` for a client that nobody knows, except in
reads: those without a caller are the front-end's own, which judges what it gives to whom.
What the machine could not carry out is no request: such bytes do not decode, wherever they come from. What a batch has
very many of can be in no cycle, so Python is told (``gc``) not to look for any.

This module imports nothing but the standard library, msgspec and its neighbours in ``core``.
"""

from __future__ import annotations

import enum
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from raftkv.core.config import AddressText, Zone
from raftkv.core.keys import Key
from raftkv.core.rights import Caller

ABSENT: Final = 0
"""``match`` value: the key must not exist."""

ANY: Final = -1
"""``match`` value: the key must exist, at whatever revision."""

MAJORITY: Final = 0
"""``acks`` value: answer when the write is committed, that is durable on a majority; leaderless, on W replicas."""

DEFAULT: Final = 0
"""``n``, ``r`` value: whatever the cluster's configuration says."""


Revision = Annotated[int, Meta(ge=0, le=1 << 62)]

MATCHES_MAX: Final = 64
"""Revisions that one precondition may name: whoever merges has read a few."""

Match = Annotated[int, Meta(ge=ANY, le=1 << 62)] | Annotated[tuple[Revision, ...], Meta(max_length=MATCHES_MAX)]
"""What the key must be: one value as below, or several revisions of which it must have one, the longer form."""

Milliseconds = Annotated[int, Meta(ge=0, le=1 << 48)]
"""A span of time; up to nine thousand years, so that no sum of two leaves 64 bits."""


LeaseNumber = Annotated[int, Meta(ge=0, le=1 << 62)]
"""A lease; 0 stands for none, or for one that is still to be numbered."""

Integer = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]

LATEST: Final = 0
"""``revision`` of a query: as it stands now."""

NOW: Final = 0
"""``at_ms`` of a query, where its ``revision`` says which moment is meant."""


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
    that many milliseconds after the command's time stamp; one with a ``lease`` goes when that ends. Not both.
    ``keeps_value``: the value that is there stays, and ``value`` is empty; ``keeps_lease``: its lease and its expiry
    stay, and none is named. Either takes a key that is there, and no ``match``.
    """

    key: Key
    value: bytes
    match: Match | None = None
    ttl_ms: Milliseconds = 0
    lease: LeaseNumber = 0
    keeps_value: bool = False
    keeps_lease: bool = False


class Delete(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="delete", gc=False):
    """Remove ``key``; ``match`` as in ``Put``."""

    key: Key
    match: Match | None = None


class Get(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="get", gc=False):
    """Ask for the record under ``key``, as it stood at ``revision``, or at ``at_ms`` by the log's clock."""

    key: Key
    revision: Revision = LATEST
    at_ms: Milliseconds = NOW


class List(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="list"):
    """Ask for the records with ``start`` <= key < ``end`` in key order, ``limit`` at most; ``end`` ``None`` is open.

    They are told as they stood at ``revision``, or at ``at_ms`` by the log's clock.
    """

    start: bytes
    end: bytes | None
    limit: int
    keys_only: bool = False
    revision: Revision = LATEST
    at_ms: Milliseconds = NOW


class CountKeys(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="count_keys", gc=False):
    """Ask how many keys there are with ``start`` <= key < ``end``; ``end`` ``None`` is open.

    A query looks at ``limit`` keys at most, and at the store as it stood at ``revision``; an operation at all, as they
    are.
    """

    start: bytes
    end: bytes | None
    limit: int = 10_000
    revision: Revision = LATEST


class Increment(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="increment", gc=False):
    """Add ``by`` to the integer in ``key``, which is text, and 0 where there is no key; the sum stays in the bounds.

    Expiry and lease of the key stay.
    """

    key: Key
    by: Integer = 1
    minimum: Integer | None = None
    maximum: Integer | None = None


class Touch(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="touch", gc=False):
    """Let ``key`` expire ``ttl_ms`` after the command's time stamp, 0 for never; its value and revision stay."""

    key: Key
    ttl_ms: Milliseconds


class DeleteSpan(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="delete_span", gc=False):
    """Remove the keys with ``start`` <= key < ``end``, all at one revision; ``end`` ``None`` is open."""

    start: bytes
    end: bytes | None


class Grant(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="grant", gc=False):
    """Let there be a lease, which ends ``ttl_ms`` after the command's time stamp unless it is kept alive.

    ``lease`` 0 lets the machine number it.
    """

    ttl_ms: Annotated[int, Meta(ge=1, le=1 << 48)]
    lease: LeaseNumber = 0


class Revoke(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="revoke", gc=False):
    """End a lease; its keys go with it, at one revision."""

    lease: LeaseNumber


class ComparedField(enum.IntEnum):
    """What a comparison looks at; of a key that does not exist the numbers are 0, and the value is like no other."""

    VALUE = 0
    VERSION = 1
    REVISION = 2
    CREATE_REVISION = 3
    LEASE = 4
    EXISTS = 5


class Operator(enum.IntEnum):
    """How a comparison compares: what is found stands on the left."""

    EQUAL = 0
    UNEQUAL = 1
    LESS = 2
    GREATER = 3


class KeyComparison(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """One comparison: of the key ``start``, or, as ``several``, of each with ``start`` <= key < ``end``.

    Where there is none of several, it holds; ``of_none``: it holds there if it does of a key that does not exist.
    """

    start: bytes
    end: bytes | None = None
    several: bool = False
    target: ComparedField
    operator: Operator = Operator.EQUAL
    operand: Integer | bytes
    of_none: bool = False


class Transaction(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="transaction"):
    """If every comparison holds, do ``success``, else ``failure``; wholly or not at all, at one revision.

    All comparisons see the state before it. No key may be put twice in one of the branches, or put and removed.
    """

    comparisons: tuple[KeyComparison, ...] = ()
    success: tuple[AnyOperation, ...] = ()
    failure: tuple[AnyOperation, ...] = ()


class FindLease(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="find_lease", gc=False):
    """Ask for one lease."""

    lease: LeaseNumber


class FindLeases(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="find_leases", gc=False):
    """Ask for the leases from number ``start`` on, ``limit`` at most."""

    start: LeaseNumber = 0
    limit: int = 1000


class ChangesAfter(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="changes_after", gc=False):
    """Ask for what changed after ``revision``, in order, of the keys with ``start`` <= key < ``end`` (``None``: open).

    Whole revisions, ``limit_bytes`` and one revision at most; with ``previous``, also what was there before.
    """

    revision: Revision
    start: bytes = b""
    end: bytes | None = None
    previous: bool = False
    limit_bytes: int = 1 << 18


Operation = Put | Delete | Get
LaterOperation = List | CountKeys | Increment | Touch | DeleteSpan | Grant | Revoke | Transaction
"""What leaderless clusters cannot do."""

AnyOperation = Operation | LaterOperation
Query = Get | List
LaterQuery = CountKeys | FindLease | FindLeases | ChangesAfter


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

    operations: tuple[AnyOperation, ...]
    acks: int = MAJORITY
    idempotency_key: Annotated[str, Meta(min_length=1)] | None = None
    placing: Placing | None = None
    caller: Caller | None = None


class Read(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="read"):
    """Answer ``query`` at ``consistency``; an eventual read takes the newest of ``r`` of the key's replicas."""

    query: Query | LaterQuery
    consistency: Consistency = Consistency.LINEARIZABLE
    r: int = DEFAULT
    placing: Placing | None = None
    caller: Caller | None = None


class Barrier(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="barrier"):
    """Answer once this node's applied state is fit for a read at ``consistency`` that began before the request."""

    consistency: Consistency = Consistency.LINEARIZABLE


class Inspect(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="inspect"):
    """Ask for a fresh ``Status`` of this node."""


class ShowSights(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="show_sights"):
    """Ask for what this node sees of the cluster, and for what others show of themselves while somebody asks.

    ``after`` tells, for a node in a life (``node/life``), up to which happening is known already, and in the same way
    (``node/life/samples``) up to which sample.
    """

    after: dict[str, int] = {}


class ShowRing(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="show_ring"):
    """Ask which node comes first for which part of all keys, where that is so."""


class ShowReplicas(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="show_replicas"):
    """Ask what each node holds of ``key``, where nodes may differ about that."""

    key: Key
    caller: Caller | None = None


class Configure(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="configure"):
    """Change how many replicas a key has, and how many of them a read and a write need; 0 leaves a number as it is."""

    n: int = DEFAULT
    r: int = DEFAULT
    w: int = DEFAULT
    caller: Caller | None = None


class KeepAlive(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="keep_alive"):
    """Let each of ``leases`` live for its whole time again, from the command's time stamp on."""

    leases: tuple[LeaseNumber, ...]
    caller: Caller | None = None


class Compact(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="compact"):
    """Forget what was before ``revision``."""

    revision: Revision
    caller: Caller | None = None


class StoreHere(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="store_here"):
    """Let this one replica take a version, as a peer would; ``value`` ``None`` is a tombstone.

    The stamp is (``counter``, ``node``); ``counter`` 0 lets this replica choose the next.
    """

    key: Key
    value: bytes | None
    counter: Annotated[int, Meta(ge=0, le=1 << 53)] = 0
    node: Annotated[str, Meta(max_length=63)] = ""
    caller: Caller | None = None


class Repair(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="repair"):
    """Let this node hold what others do: range by range, or, where there is a leader, all anew if it is wrong."""

    caller: Caller | None = None


class HoldState(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="hold_state"):
    """Let all that this node holds be written out, as it is now, for a backup.

    Where there is a leader all is in it that was acknowledged before, unless ``is_local``.
    """

    is_local: bool = False
    caller: Caller | None = None


class AddMember(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="add_member"):
    """Let a node join; ``http`` and ``peer`` are its advertised addresses (``host:port``)."""

    id: str
    http: AddressText
    peer: AddressText
    zone: Zone = ""
    caller: Caller | None = None


class RemoveMember(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="remove_member"):
    """Let a node leave: one that is alive hands its data over first."""

    id: str
    caller: Caller | None = None


class PromoteMember(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="promote_member"):
    """Let a node that only learns vote, once it has caught up; raft mode, where the leader does it by itself."""

    id: str
    caller: Caller | None = None


class ChangeMember(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="change_member"):
    """Let a member have other addresses (``host:port``) from now on."""

    id: str
    http: AddressText
    peer: AddressText
    caller: Caller | None = None


class TransferLeadership(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="transfer_leadership"):
    """Let the node ``to`` lead."""

    to: str
    caller: Caller | None = None


AboutNodes = Inspect | ShowSights | ShowRing
"""What tells of nodes, and of no key."""

Amendment = AddMember | RemoveMember | PromoteMember | ChangeMember
"""Who belongs to the cluster."""

MembersRequest = Amendment | TransferLeadership
"""Who belongs to the cluster, and who leads it."""

Request = (
    Write
    | Read
    | Barrier
    | Inspect
    | ShowSights
    | ShowRing
    | ShowReplicas
    | Configure
    | KeepAlive
    | Compact
    | StoreHere
    | Repair
    | HoldState
    | MembersRequest
)


def is_read(request: Request) -> bool:
    """Can nothing come of ``request`` but an answer? Then its failure is always definite."""
    if not isinstance(request, Write):
        return isinstance(request, Read | Barrier | AboutNodes | ShowReplicas | HoldState)
    for operation in request.operations:  # noqa: SIM110  all() takes twice as long, and this is asked of every write
        if not isinstance(operation, Get):
            return False
    return True


def is_of_past(query: Get | List) -> bool:
    """Does ``query`` ask for anything but what stands now?"""
    return bool(query.revision or query.at_ms)


AnyRequest = TypeVar("AnyRequest", bound=Request)


def on_behalf(request: AnyRequest, caller: Caller | None) -> AnyRequest:
    """``request`` as ``caller`` asks for it; what tells nothing of keys, as it is."""
    if caller is None or isinstance(request, Barrier | AboutNodes):
        return request
    return msgspec.structs.replace(request, caller=caller)
