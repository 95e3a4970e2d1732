"""What callers may do, as plainly as can be: the model's counterpart of the rights in the machine. Pure.

It looks at the model's keys anew for every command, and knows of rights what ``docs/formats.rst`` says of their rows.
It must never import what judges in a replica: ``raftkv.machine``, ``raftkv.core.judgement``, or more of
``raftkv.core.rights`` than who asks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from raftkv.core.keys import ELECTION_KEYS, LOCK_KEYS, SYSTEM
from raftkv.core.results import KeyRecord
from raftkv.core.rights import Caller
from raftkv.formats.commands import (
    AnyOperation,
    AskedCommand,
    CallersCommand,
    CompareKey,
    CountRange,
    DeleteRange,
    GetKey,
    GrantLease,
    IncrementKey,
    KeepAliveCommand,
    ListRange,
    OperateCommand,
    PutKept,
    PutLeased,
    RevokeLease,
    Transact,
    WriteCommand,
)

READ: Final = 1
WRITE: Final = 2
_AUTH: Final = SYSTEM + b"auth/"


class Need(NamedTuple):
    """Access to the keys of a span."""

    access: int
    start: bytes
    end: bytes | None


class ModelledRights:
    """The rights that stand among ``keys``."""

    def __init__(self, keys: Mapping[bytes, KeyRecord]) -> None:
        self._keys = keys
        self.enabled = _AUTH + b"enabled" in keys

    def forbids_the_unknown(self, command: AskedCommand | CallersCommand) -> bool:
        """Is nothing to be done for whoever asks, as it is nobody?"""
        if not self.enabled:
            return False
        return not isinstance(command, CallersCommand) or self._user(command) is None

    def forbids(self, command: CallersCommand) -> bool:
        """May the caller not ask for ``command``?"""
        user = self._user(command)
        if not self.enabled or (user is not None and "root" in user[0]):
            return False
        if user is None:
            return True
        asked, permissions = command.command, self._permissions(user)
        if isinstance(asked, WriteCommand | OperateCommand):
            return not all(self._may(permissions, one) for one in asked.operations)
        if isinstance(asked, KeepAliveCommand):
            return not all(self._may_use(permissions, lease) for lease in asked.leases)
        return True

    def forbids_reading(self, caller: Caller, needs: Iterable[Need]) -> bool:
        """May the caller not be told what takes those ``needs``?"""
        user = self._user(caller)
        if not self.enabled or (user is not None and "root" in user[0]):
            return False
        return user is None or not all(_is_allowed(self._permissions(user), need) for need in needs)

    def _user(self, who: CallersCommand | Caller) -> Any:
        if who.user == "\0cluster":
            return (("root",), "", 0)
        record = self._keys.get(_AUTH + b"user/" + who.user.encode())
        if record is None:
            return None
        user = msgspec.msgpack.decode(record.value)
        return user if user[2] == who.generation else None

    def _permissions(self, user: Any) -> list[Need]:
        records = [self._keys.get(_AUTH + b"role/" + role.encode()) for role in user[0]]
        roles = [msgspec.msgpack.decode(record.value)[0] for record in records if record is not None]
        return [Need(*permission) for role in roles for permission in role]

    def _may_use(self, permissions: list[Need], lease: int) -> bool:
        keys = self._of_lease(lease)
        return not keys or any(_is_allowed(permissions, _one(WRITE, key)) for key in keys)

    def _of_lease(self, lease: int) -> list[bytes]:
        return [key for key, record in self._keys.items() if record.lease == lease]

    def _may(self, permissions: list[Need], one: AnyOperation) -> bool:
        if isinstance(one, PutLeased | PutKept) and one.lease and not self._may_use(permissions, one.lease):
            return False
        if isinstance(one, Transact) and not all(self._may(permissions, each) for each in (*one.success, *one.failure)):
            return False
        return all(_is_allowed(permissions, need) for need in self._needs(one))

    def _needs(self, one: AnyOperation) -> Iterable[Need]:  # noqa: PLR0911  one line for each kind
        match one:
            case GetKey():
                return [_one(READ, one.key)]
            case ListRange() | CountRange():
                return [Need(READ, one.start, one.end)]
            case DeleteRange():
                return [Need(WRITE, one.start, one.end)]
            case IncrementKey():
                return [_one(READ, one.key), _one(WRITE, one.key)]
            case GrantLease():
                return []
            case RevokeLease():
                return [_one(WRITE, key) for key in self._of_lease(one.lease)]
            case Transact():
                return [
                    _one(READ, each.key) if isinstance(each, CompareKey) else Need(READ, each.start, each.end)
                    for each in one.comparisons
                ]
            case _:
                return [_one(WRITE, one.key)]


def _one(access: int, key: bytes) -> Need:
    return Need(access, key, key + b"\0")


def _is_allowed(permissions: list[Need], need: Need) -> bool:
    """Who may write a name may see, too, who contends for it."""
    access, start, end = need
    if end is not None and end <= SYSTEM:
        return _covers(permissions, access, start, end)
    named = _named(start, end)
    return named is not None and any(_covers(permissions, one, *named) for one in {access, WRITE})


def _covers(permissions: list[Need], access: int, start: bytes, end: bytes) -> bool:
    """Is every key allowed at which a permission ends? Then all are."""
    granted = [one for one in permissions if one.access & access]
    points = [start, *[one.end for one in granted if one.end is not None and start < one.end < end]]
    return all(any(_has(one, point) for one in granted) for point in points)


def _has(span: Need, key: bytes) -> bool:
    return span.start <= key and (span.end is None or key < span.end)


def _named(start: bytes, end: bytes | None) -> tuple[bytes, bytes] | None:
    """The names from the first up to the second whose contenders' keys those are."""
    for area in (LOCK_KEYS, ELECTION_KEYS):
        if end is not None and area <= start and end <= area + b"\xff":
            name, mark, _ = end[len(area) :].partition(b"\0")
            return start[len(area) :].split(b"\0")[0], name + mark
    return None
