"""Users, roles and whether authentication is on: ``/auth`` and what lies below it. Pure functions.

What users and roles there are, root may see and change; a user sees itself and its roles, and changes its password with
the old one. Somebody has to have the role root while authentication is on.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import msgspec

from raftkv.api import paths
from raftkv.api.answers import KeysDeleted
from raftkv.api.cluster_answers import AuthStatus, LoggedIn, RoleList, RoleShown, UserList, UserShown
from raftkv.coordination.steps import Circumstances
from raftkv.core.errors import Code, RaftkvError, Refused
from raftkv.core.judgement import of_operator
from raftkv.core.rights import CLUSTER, ROOT, Caller, Role, User
from raftkv.http import bodies, parameters
from raftkv.http.choices import PermissionNaming, Timed
from raftkv.http.door.callers import UnauthenticatedError, unauthenticated
from raftkv.http.handlers import amending
from raftkv.http.handlers.amending import Amended, Amendment, Roster, amended, hashed, new_generation, roster
from raftkv.http.handlers.handler import Aside, Context, Conversation, Handler, HttpPlan, conversing, timeout_s
from raftkv.http.handlers.permissions import permission_named, permission_of, permission_shown
from raftkv.http.messages import HttpRequest, HttpResponse, json_response
from raftkv.http.needs import Needs
from raftkv.http.problems import mistake, refuse

HOW_TO: Final = "name auth.root_password_file, or set RAFTKV_ROOT_PASSWORD, and start the node again"

Planning = Callable[[HttpRequest, Any, Context, Circumstances, float], HttpPlan]


def _handler(planning: Planning, choices: type[msgspec.Struct] = Timed, *, needs: Needs = Needs.OPERATOR) -> Handler:
    """A handler that performs what ``planning`` makes, which may raise ``DefiniteError`` at any time."""

    def converse(request: HttpRequest, chosen: Any, context: Context) -> Conversation:
        limit_s = timeout_s(chosen, context)
        return Conversation(
            plan=lambda circumstances: _told(partial(planning, request, chosen, context, circumstances, limit_s))
        )

    return conversing(converse, choices, needs=needs)


def _told(plan: Callable[[], HttpPlan]) -> HttpPlan:
    """What ``plan`` makes, with what it raises as a response."""
    try:
        return (yield from plan())
    except RaftkvError as error:
        return mistake(error)


def _changing(
    amend: Callable[[HttpRequest, Context], Callable[[Roster], Amendment]],
    show: Callable[[HttpRequest, Amended, Context], HttpResponse],
) -> Handler:
    """A change that takes nothing but what the request says; ``amend``, and what it gives, raise ``DefiniteError``."""

    def planning(
        request: HttpRequest, _: Timed, context: Context, circumstances: Circumstances, limit_s: float
    ) -> HttpPlan:
        done = yield from amended(amend(request, context), limit_s, circumstances)
        return show(request, done, context)

    return _handler(planning)


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


def _enable(_request: HttpRequest, _context: Context) -> Callable[[Roster], Amendment]:
    """``POST /auth/enable``."""
    return amending.enabling


def _disable(_request: HttpRequest, context: Context) -> Callable[[Roster], Amendment]:
    """``POST /auth/disable``."""
    if context.callers.is_demanded:
        refuse(Code.FORBIDDEN, amending.DEMANDED)
    return amending.disabling


def _switched(_request: HttpRequest, _done: Amended, context: Context, *, enabled: bool) -> HttpResponse:
    return json_response(200, AuthStatus(enabled=enabled, user=None, roles=[]), context.node_header)


def founding(password: str, context: Context) -> Conversation:
    """Let authentication be on, and a user be root: by that name and ``password``, if nobody is yet."""
    limit_s = context.limits.request_timeout_s

    def plan(circumstances: Circumstances) -> HttpPlan:
        read = yield from roster(limit_s, circumstances)
        root: User | None = None
        if not read.roots:
            if not password:
                refuse(Code.NOT_SUPPORTED, HOW_TO)
            new = yield hashed(password, "the root user's password", context)
            root = User(roles=(ROOT,), password=new, generation=new_generation())
        yield from amended(lambda read: amending.founding(read, root), limit_s, circumstances)
        return json_response(200, AuthStatus(enabled=True, user=None, roles=[]))

    return Conversation(plan=lambda circumstances: _told(partial(plan, circumstances)))


# -- users ------------------------------------------------------------------------------------------------------------


def _name(request: HttpRequest, route: str, place: str = "name") -> str:
    return parameters.name_in_path(request.path, route, place)


def _user_shown(name: str, user: User) -> UserShown:
    return UserShown(name, list(user.roles))


def _user_made(name: str, done: Amended, context: Context) -> HttpResponse:
    user = done.amendment.made
    assert isinstance(user, User)
    status = 200 if name in done.before.rights.users else 201
    return json_response(status, _user_shown(name, user), context.node_header)


def _users(_request: HttpRequest, read: Roster, context: Context) -> HttpResponse:
    """``GET /auth/users``."""
    users = [_user_shown(name, user) for name, user in sorted(read.rights.users.items())]
    return json_response(200, UserList(users), context.node_header)


def _user(request: HttpRequest, read: Roster, context: Context) -> HttpResponse:
    """``GET /auth/users/{name}``."""
    name = _name(request, paths.USER)
    _check_root(read, request.caller, unless=name == request.caller.user)
    return json_response(200, _user_shown(name, read.user(name)), context.node_header)


def _put_user(
    request: HttpRequest, _: Timed, context: Context, circumstances: Circumstances, limit_s: float
) -> HttpPlan:
    """``PUT /auth/users/{name}``: what the body leaves out stays as it is."""
    name = _name(request, paths.USER)
    amending.check_user_name(name)
    body = bodies.body_of(request, bodies.decode_user, allow_form_type=True)
    password = None if body.password is None else (yield hashed(body.password, "password", context))
    generation = new_generation()

    def amend(read: Roster) -> Amendment:
        user = read.rights.users.get(name) or User(generation=generation)
        if password is not None:
            user = msgspec.structs.replace(user, password=password, generation=generation)
        if body.roles is None:
            return amending.with_user(name, user, read)
        return amending.with_roles(name, user, body.roles, read)

    done = yield from amended(amend, limit_s, circumstances)
    return _user_made(name, done, context)


def _delete_user(request: HttpRequest, _context: Context) -> Callable[[Roster], Amendment]:
    """``DELETE /auth/users/{name}``."""
    return partial(amending.without_user, _name(request, paths.USER))


def _gone(_request: HttpRequest, done: Amended, context: Context) -> HttpResponse:
    return json_response(200, KeysDeleted(1, done.revision), context.node_header)


def _grant_role(request: HttpRequest, _context: Context) -> Callable[[Roster], Amendment]:
    """``PUT /auth/users/{name}/roles/{role}``."""
    name, role = _name(request, paths.USER_ROLE), _name(request, paths.USER_ROLE, "role")

    def amend(read: Roster) -> Amendment:
        user = read.user(name)
        return amending.with_roles(name, user, (*user.roles, role), read)

    return amend


def _revoke_role(request: HttpRequest, _context: Context) -> Callable[[Roster], Amendment]:
    """``DELETE /auth/users/{name}/roles/{role}``."""
    name, role = _name(request, paths.USER_ROLE), _name(request, paths.USER_ROLE, "role")
    return partial(amending.without_role_of, name, role)


def _role_given(request: HttpRequest, done: Amended, context: Context) -> HttpResponse:
    return _user_made(_name(request, paths.USER_ROLE), done, context)


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
    password = yield hashed(body.password, "password", context)
    generation = new_generation()

    def amend(read: Roster) -> Amendment:
        user = read.user(name)
        if user.generation != before.generation:
            refuse(Code.FORBIDDEN, f"the password of {name} was set meanwhile by somebody else")
        _check_root(read, asker, unless=is_own)
        user = msgspec.structs.replace(user, password=password, generation=generation)
        return amending.with_user(name, user, read)

    # Whose own it is has just been shown, to this worker; to anybody else only root may write users.
    done = yield from amended(amend, limit_s, circumstances, CLUSTER if is_own else None)
    return _user_made(name, done, context)


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


def _role_made(name: str, done: Amended, context: Context) -> HttpResponse:
    role = done.amendment.made
    assert isinstance(role, Role)
    status = 200 if name in done.before.rights.roles else 201
    return json_response(status, _role_shown(name, role), context.node_header)


def _put_role(request: HttpRequest, context: Context) -> Callable[[Roster], Amendment]:
    """``PUT /auth/roles/{name}``: what it may is what the body says."""
    name = _role_name(request, paths.ROLE)
    body = bodies.body_of(request, bodies.decode_role, allow_form_type=True)
    permissions = [permission_of(one, context, f"permissions[{place}].") for place, one in enumerate(body.permissions)]
    role = Role(permissions=tuple(dict.fromkeys(permissions)))
    return lambda _: amending.with_role(name, role)


def _delete_role(request: HttpRequest, _context: Context) -> Callable[[Roster], Amendment]:
    """``DELETE /auth/roles/{name}``; no user has it any more."""
    return partial(amending.without_role, _role_name(request, paths.ROLE))


def _grant_permission(request: HttpRequest, context: Context) -> Callable[[Roster], Amendment]:
    """``POST /auth/roles/{name}/permissions``."""
    name = _role_name(request, paths.ROLE_PERMISSIONS)
    permission = permission_of(bodies.body_of(request, bodies.decode_permission, allow_form_type=True), context)

    def amend(read: Roster) -> Amendment:
        permissions = dict.fromkeys((*read.role(name).permissions, permission))
        return amending.with_role(name, Role(permissions=tuple(permissions)))

    return amend


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
        return amending.with_role(name, Role(permissions=tuple([one for one in permissions if one != permission])))

    done = yield from amended(amend, limit_s, circumstances)
    return _role_made(name, done, context)


def _role_put(request: HttpRequest, done: Amended, context: Context) -> HttpResponse:
    return _role_made(_role_name(request, paths.ROLE), done, context)


def _permitted(request: HttpRequest, done: Amended, context: Context) -> HttpResponse:
    return _role_made(_role_name(request, paths.ROLE_PERMISSIONS), done, context)


STATUS: Final = _seen(_status, needs=Needs.USER)
LOGIN: Final = _handler(_login, needs=Needs.NOTHING)
ENABLE: Final = _changing(_enable, partial(_switched, enabled=True))
DISABLE: Final = _changing(_disable, partial(_switched, enabled=False))
USERS: Final = _seen(_users)
USER: Final = _seen(_user, needs=Needs.OWNER)
PUT_USER: Final = _handler(_put_user)
DELETE_USER: Final = _changing(_delete_user, _gone)
GRANT_ROLE: Final = _changing(_grant_role, _role_given)
REVOKE_ROLE: Final = _changing(_revoke_role, _role_given)
SET_PASSWORD: Final = _handler(_set_password, needs=Needs.OWNER)
ROLES: Final = _seen(_roles)
ROLE: Final = _seen(_role, needs=Needs.OWNER)
PUT_ROLE: Final = _changing(_put_role, _role_put)
DELETE_ROLE: Final = _changing(_delete_role, _gone)
GRANT_PERMISSION: Final = _changing(_grant_permission, _permitted)
REVOKE_PERMISSION: Final = _handler(_revoke_permission, PermissionNaming)
