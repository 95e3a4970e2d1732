"""THE table of what etcd's clients and servers say to each other: names, numbers and types of every field.

As etcd 3.5 has it. A name that is no attribute's (``ID``, ``TTL``, ``peerURLs``) stands beside its number.
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


class AlarmAction(enum.IntEnum):
    """What to do about alarms."""

    GET = 0
    ACTIVATE = 1
    DEACTIVATE = 2


class AlarmType(enum.IntEnum):
    """Why a member raises an alarm."""

    NONE = 0
    NOSPACE = 1
    CORRUPT = 2


class DowngradeAction(enum.IntEnum):
    """What to do about a downgrade."""

    VALIDATE = 0
    ENABLE = 1
    CANCEL = 2


class PermissionType(enum.IntEnum):
    """What a permission allows."""

    READ = 0
    WRITE = 1
    READWRITE = 2


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


class CompactionResponse(Message, frozen=True, kw_only=True):
    """It is forgotten."""

    header: Annotated[ResponseHeader | None, Place(1)] = None


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


class LeaseRevokeResponse(Message, frozen=True, kw_only=True):
    """It has ended."""

    header: Annotated[ResponseHeader | None, Place(1)] = None


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


class LeaseLeasesRequest(Message, frozen=True, kw_only=True):
    """Ask for all leases."""


class LeaseStatus(Message, frozen=True, kw_only=True):
    """One of them."""

    id: Annotated[int, Place(1, name="ID")] = 0


class LeaseLeasesResponse(Message, frozen=True, kw_only=True):
    """All leases."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    leases: Annotated[tuple[LeaseStatus, ...], Place(2)] = ()


# -- Cluster ----------------------------------------------------------------------------------------------------------


class Member(Message, frozen=True, kw_only=True):
    """A member."""

    id: Annotated[int, Place(1, _UINT64, "ID")] = 0
    name: Annotated[str, Place(2)] = ""
    peer_urls: Annotated[tuple[str, ...], Place(3, name="peerURLs")] = ()
    client_urls: Annotated[tuple[str, ...], Place(4, name="clientURLs")] = ()
    is_learner: Annotated[bool, Place(5, name="isLearner")] = False


class MemberAddRequest(Message, frozen=True, kw_only=True):
    """Let a member join."""

    peer_urls: Annotated[tuple[str, ...], Place(1, name="peerURLs")] = ()
    is_learner: Annotated[bool, Place(2, name="isLearner")] = False


class MemberAddResponse(Message, frozen=True, kw_only=True):
    """It may join."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    member: Annotated[Member | None, Place(2)] = None
    members: Annotated[tuple[Member, ...], Place(3)] = ()


class MemberRemoveRequest(Message, frozen=True, kw_only=True):
    """Let a member leave."""

    id: Annotated[int, Place(1, _UINT64, "ID")] = 0


class MembersResponse(Message, frozen=True, kw_only=True):
    """The members as they are then: to a list, a removal, a promotion and new addresses alike."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    members: Annotated[tuple[Member, ...], Place(2)] = ()


class MemberUpdateRequest(Message, frozen=True, kw_only=True):
    """Let a member have another address."""

    id: Annotated[int, Place(1, _UINT64, "ID")] = 0
    peer_urls: Annotated[tuple[str, ...], Place(2, name="peerURLs")] = ()


class MemberListRequest(Message, frozen=True, kw_only=True):
    """Ask for the members."""

    linearizable: Annotated[bool, Place(1)] = False


class MemberPromoteRequest(Message, frozen=True, kw_only=True):
    """Let a learner vote."""

    id: Annotated[int, Place(1, _UINT64, "ID")] = 0


# -- Maintenance ------------------------------------------------------------------------------------------------------


class EmptyRequest(Message, frozen=True, kw_only=True):
    """Ask for what takes no words: status, defragmentation, hash, snapshot, and lists of who may do what."""


class HeaderResponse(Message, frozen=True, kw_only=True):
    """It was done: what many requests are answered."""

    header: Annotated[ResponseHeader | None, Place(1)] = None


class MoveLeaderRequest(Message, frozen=True, kw_only=True):
    """Let another member lead."""

    target_id: Annotated[int, Place(1, _UINT64, "targetID")] = 0


class AlarmRequest(Message, frozen=True, kw_only=True):
    """Ask for alarms, or raise or end one."""

    action: Annotated[AlarmAction, Place(1)] = AlarmAction.GET
    member_id: Annotated[int, Place(2, _UINT64, "memberID")] = 0
    alarm: Annotated[AlarmType, Place(3)] = AlarmType.NONE


class AlarmMember(Message, frozen=True, kw_only=True):
    """A member's alarm."""

    member_id: Annotated[int, Place(1, _UINT64, "memberID")] = 0
    alarm: Annotated[AlarmType, Place(2)] = AlarmType.NONE


class AlarmResponse(Message, frozen=True, kw_only=True):
    """The alarms there are."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    alarms: Annotated[tuple[AlarmMember, ...], Place(2)] = ()


class DowngradeRequest(Message, frozen=True, kw_only=True):
    """Ask for an older version."""

    action: Annotated[DowngradeAction, Place(1)] = DowngradeAction.VALIDATE
    version: Annotated[str, Place(2)] = ""


class DowngradeResponse(Message, frozen=True, kw_only=True):
    """The version now."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    version: Annotated[str, Place(2)] = ""


class StatusResponse(Message, frozen=True, kw_only=True):
    """Where a member stands."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    version: Annotated[str, Place(2)] = ""
    db_size: Annotated[int, Place(3, name="dbSize")] = 0
    leader: Annotated[int, Place(4, _UINT64)] = 0
    raft_index: Annotated[int, Place(5, _UINT64, "raftIndex")] = 0
    raft_term: Annotated[int, Place(6, _UINT64, "raftTerm")] = 0
    raft_applied_index: Annotated[int, Place(7, _UINT64, "raftAppliedIndex")] = 0
    errors: Annotated[tuple[str, ...], Place(8)] = ()
    db_size_in_use: Annotated[int, Place(9, name="dbSizeInUse")] = 0
    is_learner: Annotated[bool, Place(10, name="isLearner")] = False


class HashKVRequest(Message, frozen=True, kw_only=True):
    """Ask for the hash of all keys as of a revision."""

    revision: Annotated[int, Place(1)] = 0


class HashKVResponse(Message, frozen=True, kw_only=True):
    """That hash."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    hash: Annotated[int, Place(2, _UINT32)] = 0
    compact_revision: Annotated[int, Place(3)] = 0


class HashResponse(Message, frozen=True, kw_only=True):
    """The hash of the whole state."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    hash: Annotated[int, Place(2, _UINT32)] = 0


class SnapshotResponse(Message, frozen=True, kw_only=True):
    """A piece of a snapshot."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    remaining_bytes: Annotated[int, Place(2, _UINT64)] = 0
    blob: Annotated[bytes, Place(3)] = b""


# -- Auth -------------------------------------------------------------------------------------------------------------


class Permission(Message, frozen=True, kw_only=True):
    """What a role allows with one key, or with those up to ``range_end``."""

    perm_type: Annotated[PermissionType, Place(1, name="permType")] = PermissionType.READ
    key: Annotated[bytes, Place(2)] = b""
    range_end: Annotated[bytes, Place(3)] = b""


class AuthStatusResponse(Message, frozen=True, kw_only=True):
    """Is authentication on?"""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    enabled: Annotated[bool, Place(2)] = False
    auth_revision: Annotated[int, Place(3, _UINT64, "authRevision")] = 0


class AuthenticateRequest(Message, frozen=True, kw_only=True):
    """Log in."""

    name: Annotated[str, Place(1)] = ""
    password: Annotated[str, Place(2)] = ""


class AuthenticateResponse(Message, frozen=True, kw_only=True):
    """The token to show from now on."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    token: Annotated[str, Place(2)] = ""


class UserAddOptions(Message, frozen=True, kw_only=True):
    """How the user proves who it is."""

    no_password: Annotated[bool, Place(1)] = False


class UserAddRequest(Message, frozen=True, kw_only=True):
    """Let there be a user."""

    name: Annotated[str, Place(1)] = ""
    password: Annotated[str, Place(2)] = ""
    options: Annotated[UserAddOptions | None, Place(3)] = None
    hashed_password: Annotated[str, Place(4, name="hashedPassword")] = ""


class NameRequest(Message, frozen=True, kw_only=True):
    """It is about the user, or the role, of this name."""

    name: Annotated[str, Place(1)] = ""


class UserGetResponse(Message, frozen=True, kw_only=True):
    """The user's roles."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    roles: Annotated[tuple[str, ...], Place(2)] = ()


class UserListResponse(Message, frozen=True, kw_only=True):
    """All users."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    users: Annotated[tuple[str, ...], Place(2)] = ()


class UserChangePasswordRequest(Message, frozen=True, kw_only=True):
    """Let a user have another password."""

    name: Annotated[str, Place(1)] = ""
    password: Annotated[str, Place(2)] = ""
    hashed_password: Annotated[str, Place(3, name="hashedPassword")] = ""


class UserGrantRoleRequest(Message, frozen=True, kw_only=True):
    """Give a user a role."""

    user: Annotated[str, Place(1)] = ""
    role: Annotated[str, Place(2)] = ""


class UserRevokeRoleRequest(Message, frozen=True, kw_only=True):
    """Take a role from a user."""

    name: Annotated[str, Place(1)] = ""
    role: Annotated[str, Place(2)] = ""


class RoleRequest(Message, frozen=True, kw_only=True):
    """It is about this role."""

    role: Annotated[str, Place(1)] = ""


class RoleGetResponse(Message, frozen=True, kw_only=True):
    """What the role allows."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    perm: Annotated[tuple[Permission, ...], Place(2)] = ()


class RoleListResponse(Message, frozen=True, kw_only=True):
    """All roles."""

    header: Annotated[ResponseHeader | None, Place(1)] = None
    roles: Annotated[tuple[str, ...], Place(2)] = ()


class RoleGrantPermissionRequest(Message, frozen=True, kw_only=True):
    """Let a role allow more."""

    name: Annotated[str, Place(1)] = ""
    perm: Annotated[Permission | None, Place(2)] = None


class RoleRevokePermissionRequest(Message, frozen=True, kw_only=True):
    """Let a role allow less."""

    role: Annotated[str, Place(1)] = ""
    key: Annotated[bytes, Place(2)] = b""
    range_end: Annotated[bytes, Place(3)] = b""


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
