"""How users and roles are read and changed: what a change of them is, and plans over the replication interface.

All of it are keys of the cluster's own, so a change is a transaction like any other: it says at which revisions stood
what it was decided by, and is decided anew where something else came first, so that of two who change users at once
neither undoes what the other did. Who may change them is judged where it is applied. What a change left is read once
more before it is answered, so that this front-end knows it too. Whatever API asks, this is how it is done: nothing here
knows what is answered. Pure functions.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

import msgspec

from raftkv.coordination.contention import result_of
from raftkv.coordination.steps import Circumstances, Plan, read_failure, submitted
from raftkv.core import passwords
from raftkv.core.errors import Code, DefiniteError, IndefiniteError, Refused, Unknown
from raftkv.core.requests import (
    AnyOperation,
    ComparedField,
    Delete,
    KeyComparison,
    List,
    Operator,
    Put,
    Read,
    Transaction,
    Write,
)
from raftkv.core.results import Answer, KeyPage, Transacted, Written
from raftkv.core.rights import CLUSTER, PERMISSIONS_MAX, ROLES_OF_USER_MAX, ROOT, Caller, Rights, Role, User
from raftkv.formats.rights import AUTH, AUTH_END, ENABLED, encode_role, encode_user, rights_of, role_key, user_key
from raftkv.http.handlers.handler import Aside, Context
from raftkv.http.problems import refuse

ATTEMPTS: Final = 10
"""So many others may come first, one after another."""

PAGE_KEYS: Final = 1_000
DEMANDED: Final = "this node's configuration says auth.enabled = true; change it, on all nodes, first"
_GENERATION_BITS: Final = 62


class Roster(NamedTuple):
    """All users and roles as they stood at ``revision``, and at which one each of their keys did."""

    rights: Rights
    standing: dict[bytes, int]
    revision: int

    def user(self, name: str) -> User:
        """Raises ``DefiniteError`` where there is no such user."""
        found = self.rights.users.get(name)
        if found is None:
            refuse(Code.NOT_FOUND, f"there is no user {name!r}")
        return found

    def role(self, name: str) -> Role:
        """Raises ``DefiniteError`` where there is no such role."""
        found = self.rights.roles.get(name)
        if found is None:
            refuse(Code.NOT_FOUND, f"there is no role {name!r}")
        return found

    @property
    def roots(self) -> list[str]:
        """Who may do everything."""
        return [name for name, user in self.rights.users.items() if ROOT in user.roles]


class Amendment(NamedTuple):
    """What is to be done. ``relies_on`` are keys that must stand as they did; ``made`` is who or what there is then."""

    operations: tuple[AnyOperation, ...]
    relies_on: tuple[bytes, ...] = ()
    made: User | Role | None = None


class Amended(NamedTuple):
    """What was done: to what stood ``before``, at which revision of the store."""

    before: Roster
    amendment: Amendment
    revision: int


def roster(limit_s: float, circumstances: Circumstances) -> Plan[Roster]:
    """All of it, no older than this question; raises ``DefiniteError``."""
    rows: dict[bytes, bytes] = {}
    standing: dict[bytes, int] = {}
    start: bytes | None = AUTH
    revision = 0
    while start is not None:
        read = Read(query=List(start=start, end=AUTH_END, limit=PAGE_KEYS), caller=CLUSTER)
        outcome = yield from submitted(read, circumstances.now_s() + limit_s)
        if not isinstance(outcome, Answer):
            refused = read_failure(outcome)
            raise DefiniteError(refused.code, refused.detail, retry_after_s=refused.retry_after_s)
        assert isinstance(outcome.content, KeyPage)
        for record in outcome.content.records:
            rows[record.key], standing[record.key] = record.value, record.mod_revision
        revision = revision or outcome.revision
        start = outcome.content.next_start
    return Roster(rights_of(rows.items()), standing, revision)


def amended(
    amend: Callable[[Roster], Amendment], limit_s: float, circumstances: Circumstances, caller: Caller | None = None
) -> Plan[Amended]:
    """Carry out what ``amend`` makes of all that stands, anew as often as something else came first.

    ``caller`` is who does it, ``None`` for whomever the plan is performed for. Raises ``RaftkvError``.
    """
    for _ in range(ATTEMPTS):
        read = yield from roster(limit_s, circumstances)
        amendment = amend(read)
        write = Write(operations=(_transaction(read, amendment),), caller=caller)
        outcome = yield from submitted(write, circumstances.now_s() + limit_s)
        result = result_of(outcome)
        if isinstance(result, Refused):
            raise DefiniteError(result.code, result.detail, retry_after_s=result.retry_after_s)
        if isinstance(result, Unknown):
            raise IndefiniteError(result.code, result.detail)
        assert isinstance(outcome, Written)
        assert isinstance(result, Transacted)
        if result.succeeded:
            with contextlib.suppress(DefiniteError):  # it is done, and this front-end will hear of it
                yield from roster(limit_s, circumstances)
            return Amended(read, amendment, outcome.revision)
    refuse(Code.OVERLOADED, "others change users and roles all the time; nothing was done")


def _transaction(read: Roster, amendment: Amendment) -> Transaction:
    """Do it, if nothing was written since that was read, and what it relies on is still there."""
    untouched = KeyComparison(
        start=AUTH,
        end=AUTH_END,
        several=True,
        target=ComparedField.REVISION,
        operator=Operator.LESS,
        operand=read.revision + 1,
    )
    standing = [
        KeyComparison(start=key, target=ComparedField.REVISION, operand=read.standing.get(key, 0))
        for key in dict.fromkeys((ENABLED, *amendment.relies_on))
    ]
    return Transaction(comparisons=(untouched, *standing), success=amendment.operations)


# -- is authentication on ---------------------------------------------------------------------------------------------


def enabling(read: Roster) -> Amendment:
    """Authentication is on. Of several that find it off only the first costs a revision."""
    roots = read.roots
    if not roots:
        refuse(Code.FORBIDDEN, "there is no user with the role root, so nobody could undo it; make one first")
    return Amendment(() if read.rights.enabled else (Put(key=ENABLED, value=b""),), (user_key(roots[0]),))


def disabling(read: Roster) -> Amendment:
    """It is off."""
    return Amendment((Delete(key=ENABLED),) if read.rights.enabled else ())


def founding(read: Roster, root: User | None) -> Amendment:
    """It is on, and ``root`` the user of that name, if nobody has the role; ``None``: somebody had it before."""
    roots = read.roots
    operations: tuple[AnyOperation, ...] = () if read.rights.enabled else (Put(key=ENABLED, value=b""),)
    if not roots:
        if root is None:
            refuse(Code.NOT_SUPPORTED, "the last user with the role root was removed meanwhile")
        operations = (Put(key=user_key(ROOT), value=encode_user(root)), *operations)
    return Amendment(operations, tuple(map(user_key, (*roots[:1], ROOT))))


# -- users ------------------------------------------------------------------------------------------------------------


def new_generation() -> int:
    """That of a user who is made, or has another password, from now on."""
    return secrets.randbits(_GENERATION_BITS)


def hashed(password: str, what: str, context: Context) -> Aside:
    """The hash of a new password, which stands at ``what``; raises ``DefiniteError`` for a weak one."""
    reason = passwords.weakness(password)
    if reason is not None:
        refuse(Code.BAD_REQUEST, f"{what}: it {reason}")
    return Aside(lambda: context.callers.passwords.hashed(password))


def check_user_name(name: str) -> None:
    """Refuse a name with which no user could log in; raises ``DefiniteError``."""
    if ":" in name:
        refuse(Code.BAD_REQUEST, "name: has a colon, with which no user can log in")


def with_user(name: str, user: User, read: Roster) -> Amendment:
    """``name`` is ``user``; raises ``DefiniteError``."""
    return Amendment((Put(key=user_key(name), value=encode_user(user)),), _relied_on(read, name, user), user)


def without_user(name: str, read: Roster) -> Amendment:
    """There is no user ``name`` any more; raises ``DefiniteError``."""
    read.user(name)
    return Amendment((Delete(key=user_key(name)),), _relied_on(read, name, None))


def with_roles(name: str, user: User, roles: Iterable[str], read: Roster) -> Amendment:
    """``name`` is ``user``, with these roles, each of them once; raises ``DefiniteError`` where there is none."""
    return with_user(name, msgspec.structs.replace(user, roles=_roles_named(roles, read)), read)


def _roles_named(names: Iterable[str], read: Roster) -> tuple[str, ...]:
    """Each of them once; raises ``DefiniteError`` where there is none."""
    found = tuple(dict.fromkeys(names))
    for name in found:
        if name != ROOT:
            read.role(name)
    if len(found) > ROLES_OF_USER_MAX:
        refuse(Code.BAD_REQUEST, f"roles: a user has {ROLES_OF_USER_MAX} at most")
    return found


def without_role_of(name: str, role: str, read: Roster) -> Amendment:
    """``name`` has ``role`` no more; raises ``DefiniteError``."""
    user = read.user(name)
    if role not in user.roles:
        refuse(Code.NOT_FOUND, f"{name} does not have the role {role!r}")
    return with_user(name, _less(user, role), read)


def _less(user: User, role: str) -> User:
    return msgspec.structs.replace(user, roles=tuple([one for one in user.roles if one != role]))


def _relied_on(read: Roster, name: str, user: User | None) -> tuple[bytes, ...]:
    """The keys that must stand as they do for ``name`` to be ``user`` from now on; raises ``DefiniteError``."""
    others = [other for other in read.roots if other != name]
    is_last = ROOT in getattr(read.rights.users.get(name), "roles", ()) and not others
    if read.rights.enabled and is_last and (user is None or ROOT not in user.roles):
        refuse(Code.FORBIDDEN, f"{name} is the last user with the role {ROOT}; give it to another one first")
    roles = () if user is None else tuple([role_key(role) for role in user.roles if role != ROOT])
    return user_key(name), *roles, *[user_key(other) for other in others[:1]]


# -- roles ------------------------------------------------------------------------------------------------------------


def with_role(name: str, role: Role) -> Amendment:
    """The role ``name`` allows what ``role`` does; raises ``DefiniteError``."""
    if len(role.permissions) > PERMISSIONS_MAX:
        refuse(Code.BAD_REQUEST, f"permissions: a role has {PERMISSIONS_MAX} at most")
    return Amendment((Put(key=role_key(name), value=encode_role(role)),), (role_key(name),), role)


def without_role(name: str, read: Roster) -> Amendment:
    """There is no role ``name`` any more, and no user has it; raises ``DefiniteError``."""
    read.role(name)
    taken = taken_from_all(name, read)
    return Amendment((Delete(key=role_key(name)), *taken.operations), (role_key(name), *taken.relies_on))


def taken_from_all(role: str, read: Roster) -> Amendment:
    """No user has ``role`` any more. Of ``ROOT`` while authentication is off only, as nobody could switch it off."""
    assert role != ROOT or not read.rights.enabled
    having = {each: user for each, user in read.rights.users.items() if role in user.roles}
    less = [Put(key=user_key(each), value=encode_user(_less(user, role))) for each, user in having.items()]
    return Amendment(tuple(less), tuple(map(user_key, having)))
