"""THE table of what etcd's clients and servers say to each other: names, numbers and types of every field.

As etcd 3.5 has it; what operators say stands in ``operating``. A name that is no attribute's (``ID``, ``TTL``,
``peerURLs``) stands beside its number.
"""

from __future__ import annotations

import enum
from typing import Annotated

from raftkv.etcd.schema import FieldKind, Message, Place

_UINT64, _UINT32 = FieldKind.UINT64, FieldKind.UINT32


class SortOrder(enum.IntEnum):
    """In which order a range is told."""

    NONE = 0
    ASCEND = 1
    DESCEND = 2


class SortTarget(enum.IntEnum):
    """By what it is ordered."""

    KEY = 0
    VERSION = 1
    CREATE = 2
    MOD = 3
    VALUE = 4


class CompareResult(enum.IntEnum):
    """How what is found has to stand to what is given."""

    EQUAL = 0
    GREATER = 1
    LESS = 2
    NOT_EQUAL = 3


class CompareTarget(enum.IntEnum):
    """What is compared."""

    VERSION = 0
    CREATE = 1
    MOD = 2
    VALUE = 3
    LEASE = 4


class EventType(enum.IntEnum):
    """What happened to a key."""

    PUT = 0
    DELETE = 1


class WatchFilter(enum.IntEnum):
    """What a watcher does not want to hear of."""

    NOPUT = 0
    NODELETE = 1


class ServingStatus(enum.IntEnum):
    """Whether a service serves (grpc.health.v1)."""

    UNKNOWN = 0
    SERVING = 1
    NOT_SERVING = 2
    SERVICE_UNKNOWN = 3


# -- what all answers have, and keys --------------------------------------------------------------------------------


class ResponseHeader(Message, frozen=True, kw_only=True):
    """Who answers, and where the store stands."""

    cluster_id: Annotated[int, Place(1, _UINT64)] = 0
    member_id: Annotated[int, Place(2, _UINT64)] = 0
    revision: Annotated[int, Place(3)] = 0
    raft_term: Annotated[int, Place(4, _UINT64)] = 0


class EmptyRequest(Message, frozen=True, kw_only=True):
    """Ask for what takes no words: status, defragmentation, hash, snapshot, and lists of who may do what."""


class HeaderResponse(Message, frozen=True, kw_only=True):
    """It was done: what many requests are answered."""

    header: Annotated[ResponseHeader | None, Place(1)] = None


class KeyValue(Message, frozen=True, kw_only=True):
    """A key as it stands."""

    key: Annotated[bytes, Place(1)] = b""
    create_revision: Annotated[int, Place(2)] = 0
    mod_revision: Annotated[int, Place(3)] = 0
    version: Annotated[int, Place(4)] = 0
    value: Annotated[bytes, Place(5)] = b""
    lease: Annotated[int, Place(6)] = 0


class Event(Message, frozen=True, kw_only=True):
    """What happened to a key, and what it was before."""

    type: Annotated[EventType, Place(1)] = EventType.PUT
    kv: Annotated[KeyValue | None, Place(2)] = None
    prev_kv: Annotated[KeyValue | None, Place(3)] = None


# -- KV ---------------------------------------------------------------------------------------------------------------


class RangeRequest(Message, frozen=True, kw_only=True):
    """Ask for one key, or for those up to ``range_end``."""

    key: Annotated[bytes, Place(1)] = b""
    range_end: Annotated[bytes, Place(2)] = b""
    limit: Annotated[int, Place(3)] = 0
    revision: Annotated[int, Place(4)] = 0
    sort_order: Annotated[SortOrder, Place(5)] = SortOrder.NONE
    sort_target: Annotated[SortTarget, Place(6)] = SortTarget.KEY
    serializable: Annotated[bool, Place(7)] = False
    keys_only: Annotated[bool, Place(8)] = False
    count_only: Annotated[bool, Place(9)] = False
    min_mod_revision: Annotated[int, Place(10)] = 0
    max_mod_revision: Annotated[int, Place(11)] = 0
    min_create_revision: Annotated[int, Place(12)] = 0
    max_create_revision: Annotated[int, Place(13)] = 0


class RangeResponse(Message, frozen=True, kw_only=True):
    """``count`` is how many there are, whatever the limit."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    kvs: Annotated[tuple[KeyValue, ...], Place(2)] = ()
    more: Annotated[bool, Place(3)] = False
    count: Annotated[int, Place(4)] = 0


class PutRequest(Message, frozen=True, kw_only=True):
    """Store a value, or keep the one that is there."""

    key: Annotated[bytes, Place(1)] = b""
    value: Annotated[bytes, Place(2)] = b""
    lease: Annotated[int, Place(3)] = 0
    prev_kv: Annotated[bool, Place(4)] = False
    ignore_value: Annotated[bool, Place(5)] = False
    ignore_lease: Annotated[bool, Place(6)] = False


class PutResponse(Message, frozen=True, kw_only=True):
    """It is stored."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    prev_kv: Annotated[KeyValue | None, Place(2)] = None


class DeleteRangeRequest(Message, frozen=True, kw_only=True):
    """Remove one key, or those up to ``range_end``."""

    key: Annotated[bytes, Place(1)] = b""
    range_end: Annotated[bytes, Place(2)] = b""
    prev_kv: Annotated[bool, Place(3)] = False


class DeleteRangeResponse(Message, frozen=True, kw_only=True):
    """So many were removed."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    deleted: Annotated[int, Place(2)] = 0
    prev_kvs: Annotated[tuple[KeyValue, ...], Place(3)] = ()


class RequestOp(Message, frozen=True, kw_only=True):
    """One of four."""

    request_range: Annotated[RangeRequest | None, Place(1)] = None
    request_put: Annotated[PutRequest | None, Place(2)] = None
    request_delete_range: Annotated[DeleteRangeRequest | None, Place(3)] = None
    request_txn: Annotated[TxnRequest | None, Place(4)] = None


class ResponseOp(Message, frozen=True, kw_only=True):
    """The answer to that one."""

    response_range: Annotated[RangeResponse | None, Place(1)] = None
    response_put: Annotated[PutResponse | None, Place(2)] = None
    response_delete_range: Annotated[DeleteRangeResponse | None, Place(3)] = None
    response_txn: Annotated[TxnResponse | None, Place(4)] = None


class Compare(Message, frozen=True, kw_only=True):
    """A comparison of one key, or of all up to ``range_end``."""

    result: Annotated[CompareResult, Place(1)] = CompareResult.EQUAL
    target: Annotated[CompareTarget, Place(2)] = CompareTarget.VERSION
    key: Annotated[bytes, Place(3)] = b""
    version: Annotated[int | None, Place(4)] = None
    create_revision: Annotated[int | None, Place(5)] = None
    mod_revision: Annotated[int | None, Place(6)] = None
    value: Annotated[bytes | None, Place(7)] = None
    lease: Annotated[int | None, Place(8)] = None
    range_end: Annotated[bytes, Place(64)] = b""


class TxnRequest(Message, frozen=True, kw_only=True):
    """If all comparisons hold the one, else the other."""

    compare: Annotated[tuple[Compare, ...], Place(1)] = ()
    success: Annotated[tuple[RequestOp, ...], Place(2)] = ()
    failure: Annotated[tuple[RequestOp, ...], Place(3)] = ()


class TxnResponse(Message, frozen=True, kw_only=True):
    """Which it was, and what came of it."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    succeeded: Annotated[bool, Place(2)] = False
    responses: Annotated[tuple[ResponseOp, ...], Place(3)] = ()


class CompactionRequest(Message, frozen=True, kw_only=True):
    """Forget what was before ``revision``."""

    revision: Annotated[int, Place(1)] = 0
    physical: Annotated[bool, Place(2)] = False


# -- Watch ------------------------------------------------------------------------------------------------------------


class WatchCreateRequest(Message, frozen=True, kw_only=True):
    """Tell what happens to one key, or to those up to ``range_end``, from ``start_revision`` on."""

    key: Annotated[bytes, Place(1)] = b""
    range_end: Annotated[bytes, Place(2)] = b""
    start_revision: Annotated[int, Place(3)] = 0
    progress_notify: Annotated[bool, Place(4)] = False
    filters: Annotated[tuple[WatchFilter, ...], Place(5)] = ()
    prev_kv: Annotated[bool, Place(6)] = False
    watch_id: Annotated[int, Place(7)] = 0
    fragment: Annotated[bool, Place(8)] = False


class WatchCancelRequest(Message, frozen=True, kw_only=True):
    """Tell no more of it."""

    watch_id: Annotated[int, Place(1)] = 0


class WatchProgressRequest(Message, frozen=True, kw_only=True):
    """Tell how far the stream is."""


class WatchRequest(Message, frozen=True, kw_only=True):
    """One of three."""

    create_request: Annotated[WatchCreateRequest | None, Place(1)] = None
    cancel_request: Annotated[WatchCancelRequest | None, Place(2)] = None
    progress_request: Annotated[WatchProgressRequest | None, Place(3)] = None


class WatchResponse(Message, frozen=True, kw_only=True):
    """What happened, or what became of the watch."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    watch_id: Annotated[int, Place(2)] = 0
    created: Annotated[bool, Place(3)] = False
    canceled: Annotated[bool, Place(4)] = False
    compact_revision: Annotated[int, Place(5)] = 0
    cancel_reason: Annotated[str, Place(6)] = ""
    fragment: Annotated[bool, Place(7)] = False
    events: Annotated[tuple[Event, ...], Place(11)] = ()


# -- Lease ------------------------------------------------------------------------------------------------------------


class LeaseGrantRequest(Message, frozen=True, kw_only=True):
    """Let there be a lease of so many seconds."""

    ttl: Annotated[int, Place(1, name="TTL")] = 0
    id: Annotated[int, Place(2, name="ID")] = 0


class LeaseGrantResponse(Message, frozen=True, kw_only=True):
    """The lease, and its seconds."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    id: Annotated[int, Place(2, name="ID")] = 0
    ttl: Annotated[int, Place(3, name="TTL")] = 0
    error: Annotated[str, Place(4)] = ""


class LeaseRevokeRequest(Message, frozen=True, kw_only=True):
    """Let a lease end."""

    id: Annotated[int, Place(1, name="ID")] = 0


class LeaseKeepAliveRequest(Message, frozen=True, kw_only=True):
    """Let a lease live for its whole time again."""

    id: Annotated[int, Place(1, name="ID")] = 0


class LeaseKeepAliveResponse(Message, frozen=True, kw_only=True):
    """``ttl`` 0: there is no such lease."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    id: Annotated[int, Place(2, name="ID")] = 0
    ttl: Annotated[int, Place(3, name="TTL")] = 0


class LeaseTimeToLiveRequest(Message, frozen=True, kw_only=True):
    """Ask how long a lease has left."""

    id: Annotated[int, Place(1, name="ID")] = 0
    keys: Annotated[bool, Place(2)] = False


class LeaseTimeToLiveResponse(Message, frozen=True, kw_only=True):
    """``ttl`` -1: there is no such lease."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    id: Annotated[int, Place(2, name="ID")] = 0
    ttl: Annotated[int, Place(3, name="TTL")] = 0
    granted_ttl: Annotated[int, Place(4, name="grantedTTL")] = 0
    keys: Annotated[tuple[bytes, ...], Place(5)] = ()


class LeaseStatus(Message, frozen=True, kw_only=True):
    """One of them."""

    id: Annotated[int, Place(1, name="ID")] = 0


class LeaseLeasesResponse(Message, frozen=True, kw_only=True):
    """All leases."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    leases: Annotated[tuple[LeaseStatus, ...], Place(2)] = ()


# -- Lock and Election ------------------------------------------------------------------------------------------------


class LockRequest(Message, frozen=True, kw_only=True):
    """Come to hold a name."""

    name: Annotated[bytes, Place(1)] = b""
    lease: Annotated[int, Place(2)] = 0


class LockResponse(Message, frozen=True, kw_only=True):
    """The key by which it is held."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    key: Annotated[bytes, Place(2)] = b""


class UnlockRequest(Message, frozen=True, kw_only=True):
    """Let it go."""

    key: Annotated[bytes, Place(1)] = b""


class LeaderKey(Message, frozen=True, kw_only=True):
    """By what somebody leads."""

    name: Annotated[bytes, Place(1)] = b""
    key: Annotated[bytes, Place(2)] = b""
    rev: Annotated[int, Place(3)] = 0
    lease: Annotated[int, Place(4)] = 0


class CampaignRequest(Message, frozen=True, kw_only=True):
    """Come to lead."""

    name: Annotated[bytes, Place(1)] = b""
    lease: Annotated[int, Place(2)] = 0
    value: Annotated[bytes, Place(3)] = b""


class CampaignResponse(Message, frozen=True, kw_only=True):
    """Who asked leads."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    leader: Annotated[LeaderKey | None, Place(2)] = None


class ProclaimRequest(Message, frozen=True, kw_only=True):
    """Let the leader say something else."""

    leader: Annotated[LeaderKey | None, Place(1)] = None
    value: Annotated[bytes, Place(2)] = b""


class LeaderRequest(Message, frozen=True, kw_only=True):
    """Ask who leads."""

    name: Annotated[bytes, Place(1)] = b""


class LeaderResponse(Message, frozen=True, kw_only=True):
    """Who leads, and what it says."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    kv: Annotated[KeyValue | None, Place(2)] = None


class ResignRequest(Message, frozen=True, kw_only=True):
    """Lead no more."""

    leader: Annotated[LeaderKey | None, Place(1)] = None


# -- grpc.health.v1 ---------------------------------------------------------------------------------------------------


class HealthCheckRequest(Message, frozen=True, kw_only=True):
    """Ask whether a service serves; without a name, whether the server does."""

    service: Annotated[str, Place(1)] = ""


class HealthCheckResponse(Message, frozen=True, kw_only=True):
    """Whether it does."""

    status: Annotated[ServingStatus, Place(1)] = ServingStatus.UNKNOWN
