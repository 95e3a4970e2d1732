"""Who may do what: users, the roles they have, and the keys that these allow. Of both modes, and pure.

Rights are a value: they are judged as of one state, and whoever judges says of which. While authentication is off,
everybody may do everything. Once it is on, a caller that is no user, or whose ``generation`` is not that of the user
as it is now, may do nothing: the password was set since it proved who it is, or the user was made anew.

A user has what any of its roles allows: permissions add up, also where a span is allowed by several of them together.
Nothing is ever forbidden by a role. This module imports nothing but the standard library, msgspec and its neighbours in
``core``.
"""

from __future__ import annotations

import enum
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from raftkv.core.config import KEY_BYTES_MAX

NAME_CHARACTERS_MAX: Final = 64
"""Of a user, or a role."""

USERS_MAX: Final = 1_000
ROLES_MAX: Final = 1_000
"""Whoever judges holds all of them in memory."""

PERMISSIONS_MAX: Final = 100
"""Of one role."""

ROLES_OF_USER_MAX: Final = 100

RIGHTS_BYTES_MAX: Final = 256 << 10
"""What all users and roles take up together, as they are stored: leaderless nodes tell each other all of it at once."""

ROOT: Final = "root"
"""The role that may do everything, to keys and to the cluster. It is built in, so none is stored by this name."""

Name = Annotated[str, Meta(min_length=1, max_length=NAME_CHARACTERS_MAX, pattern=r"^[^\x00-\x1f\x7f]+\Z")]
"""Of a user or a role: any text without control characters."""

Generation = Annotated[int, Meta(ge=0, le=1 << 62)]
"""Which of the lives of a user's name, and which of its passwords; whoever sets either draws it at random."""

Bound = Annotated[bytes, Meta(max_length=KEY_BYTES_MAX + 1)]
"""Where keys begin or end: a key, or one and a zero byte."""


class Access(enum.IntEnum):
    """What is done to keys; the numbers add up."""

    READ = 1
    WRITE = 2
    BOTH = 3


class Permission(msgspec.Struct, frozen=True, kw_only=True):
    """``access`` to the keys with ``start`` <= key < ``end``; ``end`` ``None`` is open.

    One key is from itself to itself and a zero byte, a prefix from itself to ``requests.prefix_end`` of it.
    """

    access: Access
    start: Bound
    end: Bound | None


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """What its users may do."""

    permissions: Annotated[tuple[Permission, ...], Meta(max_length=PERMISSIONS_MAX)] = ()


class User(msgspec.Struct, frozen=True, kw_only=True):
    """``password`` is an encoded hash, empty for users that prove who they are by a certificate only."""

    roles: Annotated[tuple[Name, ...], Meta(max_length=ROLES_OF_USER_MAX)] = ()
    password: Annotated[str, Meta(max_length=512)] = ""
    generation: Generation


class Caller(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Who asks: a user, as it proved to a front-end, and the generation that it had then."""

    user: Annotated[str, Meta(max_length=NAME_CHARACTERS_MAX)]
    generation: Generation


NOBODY: Final = Caller("", 0)
"""Who has not said who it is."""

CLUSTER: Final = Caller("\0cluster", 0)
"""Who has proved to know the cluster's secret, and a node by itself: it may do everything. No user has such a name."""

Spans = tuple[tuple[bytes, ...], tuple[bytes | None, ...]]
"""Where keys begin that may be accessed, in order, and where each such span ends."""


_CLUSTER: Final = User(roles=(ROOT,), generation=0)


class Rights:
    """Who may do what as of one state; it never changes."""

    def __init__(
        self,
        *,
        enabled: bool = False,
        users: Mapping[str, User] | None = None,
        roles: Mapping[str, Role] | None = None,
        revision: int = 0,
    ) -> None:
        """``enabled``: is authentication on? ``revision`` is the store's when any of it last changed, 0 if not told."""
        self.enabled = enabled
        self.revision = revision
        self.users: Mapping[str, User] = users or {}
        self.roles: Mapping[str, Role] = roles or {}
        self._allowed: dict[str, Mapping[Access, Spans]] = {}
        """What users may do, of those who have asked."""

    def knows(self, caller: Caller) -> bool:
        """Is ``caller`` who it says, as of this state? While authentication is off, everybody is."""
        return not self.enabled or self._user(caller) is not None

    def is_root(self, caller: Caller) -> bool:
        """May ``caller`` do everything?"""
        if not self.enabled:
            return True
        user = self._user(caller)
        return user is not None and ROOT in user.roles

    def may(self, caller: Caller, access: Access, start: bytes, end: bytes | None) -> bool:
        """Has ``caller`` that access to every key with ``start`` <= key < ``end`` (``None``: to the last)?"""
        if not self.enabled:
            return True
        user = self._user(caller)
        if user is None:
            return False
        if ROOT in user.roles:
            return True
        allowed = self._allowed.get(caller.user)
        if allowed is None:
            allowed = self._allowed[caller.user] = self._allowed_to(user)
        if access is Access.BOTH:
            return _cover(allowed[Access.READ], start, end) and _cover(allowed[Access.WRITE], start, end)
        return _cover(allowed[access], start, end)

    def _user(self, caller: Caller) -> User | None:
        """Who asks, if it is who it says."""
        user = self.users.get(caller.user)
        if user is None:
            return _CLUSTER if caller == CLUSTER else None
        return user if user.generation == caller.generation else None

    def _allowed_to(self, user: User) -> Mapping[Access, Spans]:
        roles = [self.roles[name] for name in user.roles if name in self.roles]
        permissions = [permission for role in roles for permission in role.permissions]
        return {
            access: _joined((one.start, one.end) for one in permissions if one.access & access)
            for access in (Access.READ, Access.WRITE)
        }


def _joined(spans: Iterable[tuple[bytes, bytes | None]]) -> Spans:
    """The same keys, in spans that neither overlap nor touch each other."""
    joined: list[tuple[bytes, bytes | None]] = []
    for start, end in sorted(spans, key=lambda span: span[0]):
        if end is not None and end <= start:
            continue
        before = joined[-1] if joined else None
        if before is None or (before[1] is not None and before[1] < start):
            joined.append((start, end))
        elif before[1] is not None and (end is None or end > before[1]):
            joined[-1] = (before[0], end)
    return tuple(start for start, _ in joined), tuple(end for _, end in joined)


def _cover(spans: Spans, start: bytes, end: bytes | None) -> bool:
    """Are all keys from ``start`` up to ``end`` in ``spans``?"""
    starts, ends = spans
    place = bisect_right(starts, start) - 1
    if place < 0:
        return False
    last = ends[place]
    return last is None or (end is not None and start < last and end <= last)
