"""Users, roles and whether authentication is on, as keys of the cluster's own: how rights lie in a state.

===================  ===============================================================
key                  value
===================  ===============================================================
``auth/enabled``     empty; authentication is on while the key is there
``auth/user/NAME``   ``[[role, ...], password's hash, generation]``
``auth/role/NAME``   ``[[[access, start, end or nil], ...]]``, access 1 read, 2 write, 3 both
===================  ===============================================================

In raft mode all of them stand behind ``keys.SYSTEM``, where no client's key can be, so that they are replicated,
compared, kept in history and snapshots as any key is. A leaderless cluster's nodes have them as one document of
``StampedRow``, each with the stamp of its last change, which they tell each other whole; the newest is that of the
document. What was deleted last stays in it without a value. A row that means nothing counts as no such user or role: it
allows nothing.
This module imports msgspec and ``core``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from raftkv.core.keys import SYSTEM
from raftkv.core.requests import AnyOperation, Delete, Get, List, Put, Read, Transaction, Write
from raftkv.core.rights import RIGHTS_BYTES_MAX, ROLES_MAX, ROOT, USERS_MAX, Access, Permission, Rights, Role, User

AUTH: Final = SYSTEM + b"auth/"
"""Where the keys of rights begin; they end at ``AUTH_END``."""

AUTH_END: Final = SYSTEM + b"auth0"
ENABLED: Final = AUTH + b"enabled"
_USERS: Final = AUTH + b"user/"
_ROLES: Final = AUTH + b"role/"

RowBound = Annotated[bytes, Meta(max_length=4097)]
RowName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+\Z")]


class PermissionRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A permission; access is 1 to read, 2 to write, 3 for both."""

    access: Annotated[int, Meta(ge=1, le=3)]
    start: RowBound
    end: RowBound | None


class RoleRow(msgspec.Struct, frozen=True, array_like=True):
    """A role."""

    permissions: Annotated[tuple[PermissionRow, ...], Meta(max_length=100)]


class UserRow(msgspec.Struct, frozen=True, array_like=True):
    """A user."""

    roles: Annotated[tuple[RowName, ...], Meta(max_length=100)]
    password: Annotated[str, Meta(max_length=512)]
    generation: Annotated[int, Meta(ge=0, le=1 << 62)]


class StampedRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What stands under one key, as of the change that ``node`` has stamped ``counter``; ``None``: nothing any more."""

    key: Annotated[bytes, Meta(min_length=1, max_length=512)]
    value: bytes | None
    counter: Annotated[int, Meta(ge=1, le=1 << 53)]
    node: Annotated[str, Meta(min_length=1, max_length=63)]

    @property
    def stamp(self) -> Stamp:
        """What orders changes."""
        return self.counter, self.node


Stamp = tuple[Annotated[int, Meta(ge=0, le=1 << 53)], Annotated[str, Meta(max_length=63)]]
"""A counter, and the node that has given it."""

NEVER: Final[Stamp] = (0, "")
"""Before all others."""

Document = tuple[StampedRow, ...]
"""All rows of a leaderless cluster, in the order of their keys."""

DOCUMENT_BYTES_MAX: Final = 2 * RIGHTS_BYTES_MAX
"""Of keys and values, those among them that were deleted last."""

MARK_BYTES: Final = 16

_encode = msgspec.msgpack.Encoder().encode
_decode_document = msgspec.msgpack.Decoder(Document).decode
_decode_stamp = msgspec.msgpack.Decoder(Stamp).decode
_decode_user = msgspec.msgpack.Decoder(UserRow).decode
_decode_role = msgspec.msgpack.Decoder(RoleRow).decode


def user_key(name: str) -> bytes:
    """Where a user is stored."""
    return _USERS + name.encode()


def role_key(name: str) -> bytes:
    """Where a role is stored."""
    return _ROLES + name.encode()


def encode_user(user: User) -> bytes:
    """The value under its key."""
    return _encode(UserRow(user.roles, user.password, user.generation))


def encode_role(role: Role) -> bytes:
    """The value under its key."""
    return _encode(RoleRow(tuple([PermissionRow(one.access, one.start, one.end) for one in role.permissions])))


def rights_of(rows: Iterable[tuple[bytes, bytes]], revision: int = 0) -> Rights:
    """What the keys from ``AUTH`` to ``AUTH_END``, and their values, say; they last changed at ``revision``."""
    users: dict[str, User] = {}
    roles: dict[str, Role] = {}
    enabled = False
    for key, value in rows:
        if key == ENABLED:
            enabled = True
            continue
        found = decoded(key, value)
        if found is not None:
            name, what = found
            if isinstance(what, User):
                users[name] = what
            else:
                roles[name] = what
    return Rights(enabled=enabled, users=users, roles=roles, revision=revision)


def are_bounded(sizes: Mapping[bytes, int]) -> bool:
    """May there be rows of these keys, of so many bytes each?"""
    users, roles = (sum(key.startswith(start) for key in sizes) for start in (_USERS, _ROLES))
    return users <= USERS_MAX and roles <= ROLES_MAX and sum(sizes.values()) <= RIGHTS_BYTES_MAX


def decoded(key: bytes, value: bytes) -> tuple[str, User | Role] | None:
    """The name, and the user or role of that key and value; ``None`` if they mean nothing."""
    try:
        if key.startswith(_USERS):
            user: UserRow = _decode_user(value)
            return _name(key, _USERS), User(roles=user.roles, password=user.password, generation=user.generation)
        if key.startswith(_ROLES):
            role: RoleRow = _decode_role(value)
            name = _name(key, _ROLES)
            return None if name == ROOT else (name, Role(permissions=tuple(map(_permission, role.permissions))))
    except (ValueError, RecursionError):  # msgspec's own errors are ValueErrors, as is text that is not UTF-8
        pass
    return None


def document_of(rights: Rights) -> Document:
    """What says so, with stamps that mean nothing."""
    rows = {user_key(name): encode_user(user) for name, user in rights.users.items()}
    rows |= {role_key(name): encode_role(role) for name, role in rights.roles.items()}
    rows |= {ENABLED: b""} if rights.enabled else {}
    return tuple([StampedRow(key, value, 1, "-") for key, value in sorted(rows.items())])


def encode_document(document: Document) -> bytes:
    """A document at rest."""
    return _encode(document)


def decode_document(data: bytes) -> Document:
    """Read it; raises ``ValueError``."""
    document: Document = _decode_document(data)
    check_document(document)
    return document


def check_document(document: Document) -> None:
    """Raise ``ValueError`` for what no honest node has for one."""
    keys = [row.key for row in document]
    if keys != sorted(set(keys)) or size_of(document) > DOCUMENT_BYTES_MAX:
        raise ValueError("rights in no order, or too many")
    for key, value in [(row.key, row.value) for row in document]:
        is_known = key == ENABLED or (key.startswith((_USERS, _ROLES)) if value is None else decoded(key, value))
        if not is_known:
            raise ValueError("rights that mean nothing")


def stamp_of(document: Document) -> Stamp:
    """That of the change by which it became what it is: of two documents the later stands."""
    return max([row.stamp for row in document], default=NEVER)


def encode_stamp(stamp: Stamp) -> bytes:
    """A promise at rest."""
    return _encode(stamp)


def decode_stamp(data: bytes) -> Stamp:
    """Read it; raises ``ValueError``."""
    stamp: Stamp = _decode_stamp(data)
    return stamp


def is_of_rights(request: Write | Read) -> bool:
    """Is it about users and roles, and not about clients' keys? In either mode these are read as they are now."""
    if isinstance(request, Read):
        query = request.query
        start = query.key if isinstance(query, Get) else query.start if isinstance(query, List) else b""
        return start >= AUTH
    return any(map(_is_of_rights, request.operations))


def _is_of_rights(operation: AnyOperation) -> bool:
    if isinstance(operation, Transaction):
        compared = [one.start for one in operation.comparisons]
        return any(start >= AUTH for start in compared) or any(
            map(_is_of_rights, (*operation.success, *operation.failure))
        )
    return isinstance(operation, Put | Delete | Get) and operation.key >= AUTH


def size_of(document: Document) -> int:
    """Of its keys and values, in bytes."""
    return sum([len(row.key) + len(row.value or b"") for row in document])


def mark_of(document: Document) -> bytes:
    """What stands for a document where documents are compared."""
    return blake2b(encode_document(document), digest_size=MARK_BYTES).digest()


def _permission(row: PermissionRow) -> Permission:
    return Permission(access=Access(row.access), start=row.start, end=row.end)


def _name(key: bytes, start: bytes) -> str:
    """Raises ``ValueError`` for what is no name."""
    name: str = msgspec.convert(key[len(start) :].decode(), RowName)
    return name
