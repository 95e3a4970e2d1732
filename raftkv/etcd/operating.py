"""What operators and etcd say to each other: members, maintenance, users. Messages as in ``raftkv.etcd.messages``."""

from __future__ import annotations

import enum
from typing import Annotated

from raftkv.etcd.messages import ResponseHeader
from raftkv.etcd.schema import FieldKind, Message, Place

_UINT64, _UINT32 = FieldKind.UINT64, FieldKind.UINT32


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
