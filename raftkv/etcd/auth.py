"""The Auth service, over the users and roles that the native API has: what changes them is ``amending``'s.

Where it differs from etcd's: the role ``root`` is built in, so it is there before it is made, may always be made, is
there when it was deleted, which takes it from all users, and cannot be given permissions. A password must be one by
``raftkv.core.passwords``, and is hashed here: a hash that a client has made is refused. A change of users takes a
revision of the store. A user's own password is set over the native API. Who asks is looked at before what is asked. A
token's time is over an hour after it was given, however much it is used; that of etcd's is over five minutes after it
was used last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import msgspec

from raftkv.coordination.steps import Plan
from raftkv.core.errors import Code, DefiniteError, IndefiniteError, Refused, Unknown
from raftkv.core.judgement import of_operator
from raftkv.core.rights import NOBODY, ROOT, Access, Permission, Role, User
from raftkv.etcd import messages, operating
from raftkv.etcd.calls import EtcdCall, Steps, header, refuse, revision_of, revision_told
from raftkv.etcd.errors import CallStatus, Known
from raftkv.etcd.grpc.status import GrpcStatus
from raftkv.etcd.kv import check_key
from raftkv.etcd.messages import HeaderResponse
from raftkv.etcd.operating import PermissionType
from raftkv.http.door.callers import UnauthenticatedError
from raftkv.http.handlers import amending
from raftkv.http.handlers.amending import Amendment, Roster
from raftkv.http.handlers.handler import Aside
from raftkv.http.parameters import checked_name

Amend = Callable[[Roster], Amendment]

_HASHED: Final = CallStatus(
    GrpcStatus.INVALID_ARGUMENT, "etcdserver: hashedPassword is not taken: passwords are hashed by this server"
)
_NOT_HERE: Final = CallStatus(GrpcStatus.FAILED_PRECONDITION, f"etcdserver: {amending.DEMANDED}")
_NO_TYPE: Final = CallStatus(GrpcStatus.INVALID_ARGUMENT, "etcdserver: permType is READ, WRITE or READWRITE")


@contextmanager
def _told(call: EtcdCall) -> Iterator[None]:
    """What goes wrong, as etcd's clients are told it."""
    try:
        yield
    except IndefiniteError as error:
        refuse(Unknown(detail=error.detail), call)
    except DefiniteError as error:
        refuse(Refused(code=Code(error.code), detail=error.detail), call)


def _limit_s(call: EtcdCall) -> float:
    return max(0.0, call.deadline_s - call.circumstances.now_s())


def _read(call: EtcdCall) -> Plan[Roster]:
    with _told(call):
        return (yield from amending.roster(_limit_s(call), call.circumstances))


def _amended(amend: Amend, call: EtcdCall) -> Plan[HeaderResponse]:
    def amending_told(read: Roster) -> Amendment:
        try:
            return amend(read)
        except DefiniteError as error:
            if error.code == Code.FORBIDDEN:
                raise Known.INVALID_AUTH_MANAGEMENT.status from None
            raise

    caller = None if call.caller is NOBODY else call.caller
    with _told(call):
        done = yield from amending.amended(amending_told, _limit_s(call), call.circumstances, caller)
    return HeaderResponse(header=header(call, done.revision))


# -- is it on, and who asks -------------------------------------------------------------------------------------------


def enable(_: messages.EmptyRequest, call: EtcdCall) -> Plan[HeaderResponse]:
    """``Auth.AuthEnable``: as etcd has it, for a user ``root`` with that role only."""

    def amend(read: Roster) -> Amendment:
        root = read.rights.users.get(ROOT)
        if not read.rights.enabled and root is None:
            raise Known.ROOT_USER_MISSING.status
        if not read.rights.enabled and root is not None and ROOT not in root.roles:
            raise Known.ROOT_ROLE_MISSING.status
        return amending.enabling(read)

    return (yield from _amended(amend, call))


def disable(_: messages.EmptyRequest, call: EtcdCall) -> Plan[HeaderResponse]:
    """``Auth.AuthDisable``."""
    if call.context.callers.is_demanded:
        raise _NOT_HERE
    return (yield from _amended(amending.disabling, call))


def status(_: messages.EmptyRequest, call: EtcdCall) -> Plan[operating.AuthStatusResponse]:
    """``Auth.AuthStatus``: its revision is the store's when users or roles last changed."""
    found = yield from _read(call)
    known = call.context.callers.known.current  # as new as what was read
    return operating.AuthStatusResponse(
        header=header(call, found.revision),
        enabled=found.rights.enabled,
        auth_revision=revision_told(0 if known is None else known.revision),
    )


def authenticate(request: operating.AuthenticateRequest, call: EtcdCall) -> Steps[operating.AuthenticateResponse]:
    """``Auth.Authenticate``."""
    callers = call.context.callers
    if not callers.is_asked:
        yield from _read(call)  # it may have been turned on at another node just now
    if not callers.is_asked:
        raise Known.AUTH_NOT_ENABLED.status
    try:
        with _told(call):
            caller = yield Aside(lambda: callers.by_password(request.name, request.password, call.client))
    except UnauthenticatedError:
        raise Known.AUTH_FAILED.status from None
    return operating.AuthenticateResponse(header=header(call, revision_of(call)), token=callers.tokens.make(caller))


# -- users ------------------------------------------------------------------------------------------------------------


def user_add(request: operating.UserAddRequest, call: EtcdCall) -> Steps[HeaderResponse]:
    """``Auth.UserAdd``; without a password for who shows a certificate to the native API."""
    if not request.name:
        raise Known.USER_EMPTY.status
    with _told(call):
        name = checked_name(request.name, "name")
        amending.check_user_name(name)
    has_none = request.options is not None and request.options.no_password
    password = "" if has_none else (yield from _hashed(request.password, request.hashed_password, call))
    generation = amending.new_generation()

    def amend(read: Roster) -> Amendment:
        if name in read.rights.users:
            raise Known.USER_EXISTS.status
        return amending.with_user(name, User(password=password, generation=generation), read)

    return (yield from _amended(amend, call))


def _hashed(password: str, of_client: str, call: EtcdCall) -> Steps[str]:
    if of_client:
        raise _HASHED
    with _told(call):
        found: str = yield amending.hashed(password, "password", call.context)
    return found


def user_get(request: operating.NameRequest, call: EtcdCall) -> Plan[operating.UserGetResponse]:
    """``Auth.UserGet``: a user sees itself."""
    found = yield from _read(call)
    _check_seen(found, call, is_own=request.name == call.caller.user)
    user = _user(found, request.name)
    return operating.UserGetResponse(header=header(call, found.revision), roles=tuple(sorted(user.roles)))


def _check_seen(found: Roster, call: EtcdCall, *, is_own: bool) -> None:
    if not is_own and of_operator(found.rights, call.caller) is not None:
        raise Known.PERMISSION_DENIED.status


def _user(found: Roster, name: str) -> User:
    user = found.rights.users.get(name)
    if user is None:
        raise Known.USER_NOT_FOUND.status
    return user


def user_list(_: messages.EmptyRequest, call: EtcdCall) -> Plan[operating.UserListResponse]:
    """``Auth.UserList``."""
    found = yield from _read(call)
    return operating.UserListResponse(header=header(call, found.revision), users=tuple(sorted(found.rights.users)))


def user_delete(request: operating.NameRequest, call: EtcdCall) -> Plan[HeaderResponse]:
    """``Auth.UserDelete``; not of ``root`` while authentication is on."""

    def amend(read: Roster) -> Amendment:
        if read.rights.enabled and request.name == ROOT:
            raise Known.INVALID_AUTH_MANAGEMENT.status
        _user(read, request.name)
        return amending.without_user(request.name, read)

    return (yield from _amended(amend, call))


def user_change_password(request: operating.UserChangePasswordRequest, call: EtcdCall) -> Steps[HeaderResponse]:
    """``Auth.UserChangePassword``."""
    _user((yield from _read(call)), request.name)
    password = yield from _hashed(request.password, request.hashed_password, call)
    generation = amending.new_generation()

    def amend(read: Roster) -> Amendment:
        user = _user(read, request.name)
        return amending.with_user(
            request.name, msgspec.structs.replace(user, password=password, generation=generation), read
        )

    return (yield from _amended(amend, call))


def user_grant_role(request: operating.UserGrantRoleRequest, call: EtcdCall) -> Plan[HeaderResponse]:
    """``Auth.UserGrantRole``; nothing is done where the user has it."""

    def amend(read: Roster) -> Amendment:
        user = _user(read, request.user)
        if request.role != ROOT:
            _role(read, request.role)
        if request.role in user.roles:
            return Amendment(())
        return amending.with_roles(request.user, user, (*user.roles, request.role), read)

    return (yield from _amended(amend, call))


def user_revoke_role(request: operating.UserRevokeRoleRequest, call: EtcdCall) -> Plan[HeaderResponse]:
    """``Auth.UserRevokeRole``; not the role root from the user root while authentication is on."""

    def amend(read: Roster) -> Amendment:
        if read.rights.enabled and request.name == request.role == ROOT:
            raise Known.INVALID_AUTH_MANAGEMENT.status
        if request.role not in _user(read, request.name).roles:
            raise Known.ROLE_NOT_GRANTED.status
        return amending.without_role_of(request.name, request.role, read)

    return (yield from _amended(amend, call))


# -- roles ------------------------------------------------------------------------------------------------------------


def role_add(request: operating.NameRequest, call: EtcdCall) -> Plan[HeaderResponse]:
    """``Auth.RoleAdd``; of ``root`` any number of times, as programs do it once and stop where it fails."""
    if not request.name:
        raise Known.ROLE_EMPTY.status
    with _told(call):
        name = checked_name(request.name, "name")

    def amend(read: Roster) -> Amendment:
        if name == ROOT:
            return Amendment(())
        if name in read.rights.roles:
            raise Known.ROLE_EXISTS.status
        return amending.with_role(name, Role())

    return (yield from _amended(amend, call))


def role_get(request: operating.RoleRequest, call: EtcdCall) -> Plan[operating.RoleGetResponse]:
    """``Auth.RoleGet``: a user sees its own. What ``root`` allows is no list, so there is none."""
    found = yield from _read(call)
    user = found.rights.users.get(call.caller.user)
    _check_seen(found, call, is_own=user is not None and request.role in user.roles)
    permissions = () if request.role == ROOT else _role(found, request.role).permissions
    shown = tuple([_permission_shown(one) for one in sorted(permissions, key=lambda one: one.start)])
    return operating.RoleGetResponse(header=header(call, found.revision), perm=shown)


def role_list(_: messages.EmptyRequest, call: EtcdCall) -> Plan[operating.RoleListResponse]:
    """``Auth.RoleList``; of ``root`` where a user has it, as programs delete what they are told of."""
    found = yield from _read(call)
    roles = [*found.rights.roles, *([ROOT] if found.roots else [])]
    return operating.RoleListResponse(header=header(call, found.revision), roles=tuple(sorted(roles)))


def role_delete(request: operating.RoleRequest, call: EtcdCall) -> Plan[HeaderResponse]:
    """``Auth.RoleDelete``; its users have it no more. ``root`` is there still, but nobody's."""

    def amend(read: Roster) -> Amendment:
        if request.role == ROOT and not read.rights.enabled:
            return amending.taken_from_all(ROOT, read)
        _role(read, request.role)
        return amending.without_role(request.role, read)

    return (yield from _amended(amend, call))


def role_grant_permission(request: operating.RoleGrantPermissionRequest, call: EtcdCall) -> Plan[HeaderResponse]:
    """``Auth.RoleGrantPermission``; of the same keys the role has one permission, the last that was granted."""
    if request.perm is None:
        raise Known.PERMISSION_NOT_GIVEN.status
    perm = request.perm
    if not isinstance(perm.perm_type, PermissionType):
        raise _NO_TYPE
    start, end = _span(perm.key, perm.range_end, call)
    permission = Permission(access=_ACCESS[perm.perm_type], start=start, end=end)

    def amend(read: Roster) -> Amendment:
        kept = [one for one in _role(read, request.name).permissions if (one.start, one.end) != (start, end)]
        return amending.with_role(request.name, Role(permissions=(*kept, permission)))

    return (yield from _amended(amend, call))


def role_revoke_permission(request: operating.RoleRevokePermissionRequest, call: EtcdCall) -> Plan[HeaderResponse]:
    """``Auth.RoleRevokePermission``: of just these keys."""

    def amend(read: Roster) -> Amendment:
        permissions = _role(read, request.role).permissions
        span = _bounds(request.key, request.range_end)
        kept = tuple([one for one in permissions if (one.start, one.end) != span])
        if len(kept) == len(permissions):
            raise Known.PERMISSION_NOT_GRANTED.status
        return amending.with_role(request.role, Role(permissions=kept))

    return (yield from _amended(amend, call))


def _role(found: Roster, name: str) -> Role:
    """The role, which is not the one that is built in."""
    if name == ROOT:
        raise Known.INVALID_AUTH_MANAGEMENT.status
    role = found.rights.roles.get(name)
    if role is None:
        raise Known.ROLE_NOT_FOUND.status
    return role


# -- permissions ------------------------------------------------------------------------------------------------------

_ACCESS: Final = {
    PermissionType.READ: Access.READ,
    PermissionType.WRITE: Access.WRITE,
    PermissionType.READWRITE: Access.BOTH,
}
_TYPES: Final = {access: kind for kind, access in _ACCESS.items()}
_OPEN: Final = b"\0"
"""As a key the first there can be; as the end of a range that there is none."""


def _bounds(key: bytes, range_end: bytes) -> tuple[bytes, bytes | None]:
    """Where the keys that etcd names so begin and end."""
    if not range_end:
        return key, key + b"\0"
    return b"" if key == _OPEN else key, None if range_end == _OPEN else range_end


def _span(key: bytes, range_end: bytes, call: EtcdCall) -> tuple[bytes, bytes | None]:
    """The same, of which there must be some. Raises ``CallStatus``."""
    if not key:
        raise Known.INVALID_AUTH_MANAGEMENT.status
    if not range_end:
        check_key(key, call)
    start, end = _bounds(key, range_end)
    if max(len(key), len(range_end)) > call.context.limits.max_key_bytes:
        raise Known.REQUEST_TOO_LARGE.status
    if end is not None and end <= start:
        raise Known.INVALID_AUTH_MANAGEMENT.status
    return start, end


def _permission_shown(permission: Permission) -> operating.Permission:
    start, end = permission.start, permission.end
    kind = _TYPES[permission.access]
    if end == start + b"\0":
        return operating.Permission(perm_type=kind, key=start)
    return operating.Permission(perm_type=kind, key=start or _OPEN, range_end=_OPEN if end is None else end)
