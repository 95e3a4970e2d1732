"""Users, roles and whether authentication is on: ``/auth`` and what lies below it. Pure functions.

What users and roles there are, root may see and change; a user sees itself and its roles, and changes its password with
the old one. Somebody has to have the role root while authentication is on.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final

import msgspec

from raftkv.api import paths
from raftkv.api.answers import AuthStatus, KeysDeleted, LoggedIn, RoleList, RoleShown, UserList, UserShown
from raftkv.coordination.steps import Circumstances
from raftkv.core import passwords
from raftkv.core.errors import Code, Refused
from raftkv.core.judgement import of_operator
from raftkv.core.requests import AnyOperation, Delete, Put
from raftkv.core.rights import CLUSTER, PERMISSIONS_MAX, ROLES_OF_USER_MAX, ROOT, Caller, Role, User
from raftkv.formats.rights import ENABLED, encode_role, encode_user, role_key, user_key
from raftkv.http import bodies, parameters
from raftkv.http.choices import PermissionNaming, Timed
from raftkv.http.door.callers import UnauthenticatedError, unauthenticated
from raftkv.http.handlers.amending import Amendment, Roster, amended, roster, told
from raftkv.http.handlers.handler import (
    Aside,
    Context,
    Conversation,
    Handler,
    HttpPlan,
    conversing,
    timeout_s,
)
from raftkv.http.handlers.permissions import permission_named, permission_of, permission_shown
from raftkv.http.messages import HttpRequest, HttpResponse, json_response
from raftkv.http.needs import Needs
from raftkv.http.problems import refuse

_GENERATION_BITS: Final = 62
HOW_TO: Final = "name auth.root_password_file, or set RAFTKV_ROOT_PASSWORD, and start the node again"

Planning = Callable[[HttpRequest, Any, Context, Circumstances, float], HttpPlan]


def _handler(planning: Planning, choices: type[msgspec.Struct] = Timed, *, needs: Needs = Needs.OPERATOR) -> Handler:
    """A handler that performs what ``planning`` makes, which may raise ``DefiniteError`` at any time."""

    def converse(request: HttpRequest, chosen: Any, context: Context) -> Conversation:
        limit_s = timeout_s(chosen, context)
        return Conversation(
            plan=lambda circumstances: told(partial(planning, request, chosen, context, circumstances, limit_s))
        )

    return conversing(converse, choices, needs=needs)


def _seen(show: Callable[[HttpRequest, Roster, Context], HttpResponse], *, needs: Needs = Needs.OPERATOR) -> Handler:
    """A question, answered by all that stands; ``show`` raises ``DefiniteError``."""

    def planning(
        request: HttpRequest, _: Timed, context: Context, circumstances: Circumstances, limit_s: float
    ) -> HttpPlan:
        read = yield from roster(limit_s, circumstances)
        return show(request, read, context)

    return _handler(planning, needs=needs)


def _check_root(read: Roster, caller: Caller, *, unless: bool = False) -> None:
    """Refuse who is not root, ``unless`` it is its own affair; raises ``DefiniteError``."""
    refused = None if unless else of_operator(read.rights, caller)
    if isinstance(refused, Refused):
        refuse(refused.code, refused.detail)


# -- who one is -------------------------------------------------------------------------------------------------------


def _status(request: HttpRequest, read: Roster, context: Context) -> HttpResponse:
    """``GET /auth``."""
    rights, name = read.rights, request.caller.user
    user = rights.users.get(name) if rights.enabled else None
    shown = AuthStatus(rights.enabled, None if user is None else name, [] if user is None else list(user.roles))
    return json_response(200, shown, context.node_header)


def _login(
    request: HttpRequest, _: Timed, context: Context, _circumstances: Circumstances, _limit_s: float
) -> HttpPlan:
    """``POST /auth/login``."""
    body = bodies.body_of(request, bodies.decode_login, allow_form_type=True)
    callers = context.callers
    if callers.missing:
        refuse(Code.NO_LEADER, callers.missing)
    if not callers.is_asked:
        refuse(Code.NOT_SUPPORTED, "authentication is off: nobody has to log in")
    try:
        caller = yield Aside(lambda: callers.by_password(body.user, body.password, request.client))
    except UnauthenticatedError as error:
        return unauthenticated(error.detail, context.node_header)
    token = callers.tokens.make(caller)
    no_store = (b"cache-control", b"no-store")
    return json_response(
        200, LoggedIn(token, caller.user, callers.tokens.ttl_ms / 1000), (no_store, *context.node_header)
    )


def _enable(
    _request: HttpRequest, _: Timed, context: Context, circumstances: Circumstances, limit_s: float
) -> HttpPlan:
    """``POST /auth/enable``."""

    def amend(read: Roster) -> Amendment:
        roots = _roots(read)
        if not roots:
            refuse(Code.FORBIDDEN, "there is no user with the role root, so nobody could undo it; make one first")
        shown = AuthStatus(enabled=True, user=None, roles=[])
        return Amendment(
            _enabling(read), lambda _: json_response(200, shown, context.node_header), (user_key(roots[0]),)
        )

    return amended(amend, limit_s, circumstances)


def _enabling(read: Roster) -> tuple[AnyOperation, ...]:
    """Nothing where it is on: of several that found, only the first costs a revision."""
    return () if read.rights.enabled else (Put(key=ENABLED, value=b""),)


def _disable(
    _request: HttpRequest, _: Timed, context: Context, circumstances: Circumstances, limit_s: float
) -> HttpPlan:
    """``POST /auth/disable``."""
    if context.callers.is_demanded:
        refuse(Code.FORBIDDEN, "this node's configuration says auth.enabled = true; change it, on all nodes, first")

    def amend(read: Roster) -> Amendment:
        shown = AuthStatus(enabled=False, user=None, roles=[])
        operations = (Delete(key=ENABLED),) if read.rights.enabled else ()
        return Amendment(operations, lambda _: json_response(200, shown, context.node_header))

    return amended(amend, limit_s, circumstances)


def founding(password: str, context: Context) -> Conversation:
    """Let authentication be on, and a user be root: by that name and ``password``, if nobody is yet."""
    limit_s = context.limits.request_timeout_s

    def plan(circumstances: Circumstances) -> HttpPlan:
        read = yield from roster(limit_s, circumstances)
        new: str | None = None
        if not _roots(read):
            if not password:
                refuse(Code.NOT_SUPPORTED, HOW_TO)
            new = yield _hashed(password, "the root user's password", context)
        generation = secrets.randbits(_GENERATION_BITS)

        def amend(read: Roster) -> Amendment:
            roots = _roots(read)
            operations = _enabling(read)
            if not roots:
                if new is None:
                    refuse(Code.NOT_SUPPORTED, "the last user with the role root was removed meanwhile")
                user = User(roles=(ROOT,), password=new, generation=generation)
                operations = (Put(key=user_key(ROOT), value=encode_user(user)), *operations)
            shown = AuthStatus(enabled=True, user=None, roles=[])
            return Amendment(operations, lambda _: json_response(200, shown), tuple(map(user_key, (*roots[:1], ROOT))))

        return (yield from amended(amend, limit_s, circumstances))

    return Conversation(plan=lambda circumstances: told(partial(plan, circumstances)))


# -- users ------------------------------------------------------------------------------------------------------------


def _roots(read: Roster) -> list[str]:
    return [name for name, user in read.rights.users.items() if ROOT in user.roles]


def _relied_on(read: Roster, name: str, user: User | None) -> tuple[bytes, ...]:
    """The keys that must stand as they do for ``name`` to be ``user`` from now on; raises ``DefiniteError``."""
    others = [other for other in _roots(read) if other != name]
    is_last = ROOT in getattr(read.rights.users.get(name), "roles", ()) and not others
    if read.rights.enabled and is_last and (user is None or ROOT not in user.roles):
        refuse(Code.FORBIDDEN, f"{name} is the last user with the role {ROOT}; give it to another one first")
    roles = () if user is None else tuple([role_key(role) for role in user.roles if role != ROOT])
    return user_key(name), *roles, *[user_key(other) for other in others[:1]]


def _name(request: HttpRequest, route: str, place: str = "name") -> str:
    return parameters.name_in_path(request.path, route, place)


def _user_shown(name: str, user: User) -> UserShown:
    return UserShown(name, list(user.roles))


def _with_user(name: str, user: User, read: Roster, context: Context, *, caller: Caller | None = None) -> Amendment:
    """``name`` is ``user`` from now on."""
    status = 200 if name in read.rights.users else 201
    return Amendment(
        (Put(key=user_key(name), value=encode_user(user)),),
        lambda _: json_response(status, _user_shown(name, user), context.node_header),
        _relied_on(read, name, user),
        caller,
    )


def _users(_request: HttpRequest, read: Roster, context: Context) -> HttpResponse:
    """``GET /auth/users``."""
    users = [_user_shown(name, user) for name, user in sorted(read.rights.users.items())]
    return json_response(200, UserList(users), context.node_header)


def _user(request: HttpRequest, read: Roster, context: Context) -> HttpResponse:
    """``GET /auth/users/{name}``."""
    name = _name(request, paths.USER)
    _check_root(read, request.caller, unless=name == request.caller.user)
    return json_response(200, _user_shown(name, read.user(name)), context.node_header)


def _hashed(password: str, what: str, context: Context) -> Aside:
    """The hash of a new password; raises ``DefiniteError`` for a weak one."""
    reason = passwords.weakness(password)
    if reason is not None:
        refuse(Code.BAD_REQUEST, f"{what}: it {reason}")
    return Aside(lambda: context.callers.passwords.hashed(password))


def _put_user(
    request: HttpRequest, _: Timed, context: Context, circumstances: Circumstances, limit_s: float
) -> HttpPlan:
    """``PUT /auth/users/{name}``: what the body leaves out stays as it is."""
    name = _name(request, paths.USER)
    if ":" in name:
        refuse(Code.BAD_REQUEST, "name: has a colon, with which no user can log in")
    body = bodies.body_of(request, bodies.decode_user, allow_form_type=True)
    password = None if body.password is None else (yield _hashed(body.password, "password", context))
    generation = secrets.randbits(_GENERATION_BITS)

    def amend(read: Roster) -> Amendment:
        user = read.rights.users.get(name) or User(generation=generation)
        if password is not None:
            user = msgspec.structs.replace(user, password=password, generation=generation)
        if body.roles is not None:
            user = msgspec.structs.replace(user, roles=_roles_named(body.roles, read))
        return _with_user(name, user, read, context)

    return (yield from amended(amend, limit_s, circumstances))


def _roles_named(names: Iterable[str], read: Roster) -> tuple[str, ...]:
    """Each of them once; raises ``DefiniteError`` where there is none."""
    for name in names:
        if name != ROOT:
            read.role(name)
    found = tuple(dict.fromkeys(names))
    if len(found) > ROLES_OF_USER_MAX:
        refuse(Code.BAD_REQUEST, f"roles: a user has {ROLES_OF_USER_MAX} at most")
    return found


def _delete_user(
    request: HttpRequest, _: Timed, context: Context, circumstances: Circumstances, limit_s: float
) -> HttpPlan:
    """``DELETE /auth/users/{name}``."""
    name = _name(request, paths.USER)

    def amend(read: Roster) -> Amendment:
        read.user(name)
        return Amendment((Delete(key=user_key(name)),), _gone(context), _relied_on(read, name, None))

    return amended(amend, limit_s, circumstances)


def _gone(context: Context) -> Callable[[int], HttpResponse]:
    return lambda revision: json_response(200, KeysDeleted(1, revision), context.node_header)


def _grant_role(
    request: HttpRequest, _: Timed, context: Context, circumstances: Circumstances, limit_s: float
) -> HttpPlan:
    """``PUT /auth/users/{name}/roles/{role}``."""
    name, role = _name(request, paths.USER_ROLE), _name(request, paths.USER_ROLE, "role")

    def amend(read: Roster) -> Amendment:
        user = read.user(name)
        user = msgspec.structs.replace(user, roles=_roles_named((*user.roles, role), read))
        return _with_user(name, user, read, context)

    return amended(amend, limit_s, circumstances)


def _revoke_role(
    request: HttpRequest, _: Timed, context: Context, circumstances: Circumstances, limit_s: float
) -> HttpPlan:
    """``DELETE /auth/users/{name}/roles/{role}``."""
    name, role = _name(request, paths.USER_ROLE), _name(request, paths.USER_ROLE, "role")

    def amend(read: Roster) -> Amendment:
        user = read.user(name)
        if role not in user.roles:
            refuse(Code.NOT_FOUND, f"{name} does not have the role {role!r}")
        user = msgspec.structs.replace(user, roles=tuple([one for one in user.roles if one != role]))
        return _with_user(name, user, read, context)

    return amended(amend, limit_s, circumstances)


def _set_password(
    request: HttpRequest, _: Timed, context: Context, circumstances: Circumstances, limit_s: float
) -> HttpPlan:
    """``POST /auth/users/{name}/password``: root sets whose it will, a user its own, and says the old one."""
    name = _name(request, paths.USER_SETS)
    body = bodies.body_of(request, bodies.decode_new_password, allow_form_type=True)
    read = yield from roster(limit_s, circumstances)
    asker = request.caller
    is_own = read.rights.enabled and name == asker.user
    _check_root(read, asker, unless=is_own)
    before = read.user(name)
    if body.old is not None or (is_own and not read.rights.is_root(asker)):
        old = body.old or ""
        if (yield Aside(lambda: context.callers.passwords.caller(name, before, old, request.client))) is None:
            refuse(Code.FORBIDDEN, f"old: it is not the password of {name}")
    password = yield _hashed(body.password, "password", context)
    generation = secrets.randbits(_GENERATION_BITS)

    def amend(read: Roster) -> Amendment:
        user = read.user(name)
        if user.generation != before.generation:
            refuse(Code.FORBIDDEN, f"the password of {name} was set meanwhile by somebody else")
        _check_root(read, asker, unless=is_own)
        user = msgspec.structs.replace(user, password=password, generation=generation)
        # Whose own it is has just been shown, to this worker; to anybody else only root may write users.
        return _with_user(name, user, read, context, caller=CLUSTER if is_own else None)

    return (yield from amended(amend, limit_s, circumstances))


# -- roles ------------------------------------------------------------------------------------------------------------


def _role_name(request: HttpRequest, route: str) -> str:
    name = _name(request, route)
    if name == ROOT:
        refuse(Code.FORBIDDEN, f"the role {ROOT} is built in: it may do everything")
    return name


def _role_shown(name: str, role: Role) -> RoleShown:
    return RoleShown(name, [permission_shown(one) for one in role.permissions])


def _roles(_request: HttpRequest, read: Roster, context: Context) -> HttpResponse:
    """``GET /auth/roles``."""
    roles = [_role_shown(name, role) for name, role in sorted(read.rights.roles.items())]
    return json_response(200, RoleList(roles), context.node_header)


def _role(request: HttpRequest, read: Roster, context: Context) -> HttpResponse:
    """``GET /auth/roles/{name}``."""
    name = _role_name(request, paths.ROLE)
    own = read.rights.users.get(request.caller.user)
    _check_root(read, request.caller, unless=own is not None and name in own.roles)
    return json_response(200, _role_shown(name, read.role(name)), context.node_header)


def _with_role(name: str, role: Role, read: Roster, context: Context) -> Amendment:
    status = 200 if name in read.rights.roles else 201
    if len(role.permissions) > PERMISSIONS_MAX:
        refuse(Code.BAD_REQUEST, f"permissions: a role has {PERMISSIONS_MAX} at most")
    return Amendment(
        (Put(key=role_key(name), value=encode_role(role)),),
        lambda _: json_response(status, _role_shown(name, role), context.node_header),
        (role_key(name),),
    )


def _put_role(
    request: HttpRequest, _: Timed, context: Context, circumstances: Circumstances, limit_s: float
) -> HttpPlan:
    """``PUT /auth/roles/{name}``: what it may is what the body says."""
    name = _role_name(request, paths.ROLE)
    body = bodies.body_of(request, bodies.decode_role, allow_form_type=True)
    permissions = [permission_of(one, context, f"permissions[{place}].") for place, one in enumerate(body.permissions)]
    role = Role(permissions=tuple(dict.fromkeys(permissions)))
    return amended(lambda read: _with_role(name, role, read, context), limit_s, circumstances)


def _delete_role(
    request: HttpRequest, _: Timed, context: Context, circumstances: Circumstances, limit_s: float
) -> HttpPlan:
    """``DELETE /auth/roles/{name}``; no user has it any more."""
    name = _role_name(request, paths.ROLE)

    def amend(read: Roster) -> Amendment:
        read.role(name)
        having = {each: user for each, user in read.rights.users.items() if name in user.roles}
        operations: list[AnyOperation] = [Delete(key=role_key(name))]
        for each, user in having.items():
            less = msgspec.structs.replace(user, roles=tuple([one for one in user.roles if one != name]))
            operations.append(Put(key=user_key(each), value=encode_user(less)))
        return Amendment(tuple(operations), _gone(context), (role_key(name), *map(user_key, having)))

    return amended(amend, limit_s, circumstances)


def _grant_permission(
    request: HttpRequest, _: Timed, context: Context, circumstances: Circumstances, limit_s: float
) -> HttpPlan:
    """``POST /auth/roles/{name}/permissions``."""
    name = _role_name(request, paths.ROLE_PERMISSIONS)
    permission = permission_of(bodies.body_of(request, bodies.decode_permission, allow_form_type=True), context)

    def amend(read: Roster) -> Amendment:
        permissions = dict.fromkeys((*read.role(name).permissions, permission))
        return _with_role(name, Role(permissions=tuple(permissions)), read, context)

    return amended(amend, limit_s, circumstances)


def _revoke_permission(
    request: HttpRequest, chosen: PermissionNaming, context: Context, circumstances: Circumstances, limit_s: float
) -> HttpPlan:
    """``DELETE /auth/roles/{name}/permissions``: one that was granted in just these words."""
    name = _role_name(request, paths.ROLE_PERMISSIONS)
    permission = permission_named(chosen, context)

    def amend(read: Roster) -> Amendment:
        permissions = read.role(name).permissions
        if permission not in permissions:
            refuse(Code.NOT_FOUND, f"the role {name!r} has no such permission")
        left = Role(permissions=tuple([one for one in permissions if one != permission]))
        return _with_role(name, left, read, context)

    return amended(amend, limit_s, circumstances)


STATUS: Final = _seen(_status, needs=Needs.USER)
LOGIN: Final = _handler(_login, needs=Needs.NOTHING)
ENABLE: Final = _handler(_enable)
DISABLE: Final = _handler(_disable)
USERS: Final = _seen(_users)
USER: Final = _seen(_user, needs=Needs.OWNER)
PUT_USER: Final = _handler(_put_user)
DELETE_USER: Final = _handler(_delete_user)
GRANT_ROLE: Final = _handler(_grant_role)
REVOKE_ROLE: Final = _handler(_revoke_role)
SET_PASSWORD: Final = _handler(_set_password, needs=Needs.OWNER)
ROLES: Final = _seen(_roles)
ROLE: Final = _seen(_role, needs=Needs.OWNER)
PUT_ROLE: Final = _handler(_put_role)
DELETE_ROLE: Final = _handler(_delete_role)
GRANT_PERMISSION: Final = _handler(_grant_permission)
REVOKE_PERMISSION: Final = _handler(_revoke_permission, PermissionNaming)
