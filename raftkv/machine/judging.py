"""Judges the commands that callers asked for, by the rights that stand in the state which they are applied to.

So a right that was taken away is gone for every later command, whatever the front-end knew that let it through; and as
rights are part of the state, every replica judges alike. A command is judged whole, before any of it is done: all keys
that it reads, writes or compares, in whichever branch. ``Judge.rights`` is what the state says, read anew whenever it
has changed; who changes it is root, and what it writes there must mean something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from raftkv.core.errors import Code, Refused
from raftkv.core.judgement import may_write_one, not_of_lease, of_caller, of_keys, of_operator, of_span
from raftkv.core.rights import RIGHTS_BYTES_MAX, ROLES_MAX, USERS_MAX, Access, Caller, Rights
from raftkv.formats import layout
from raftkv.formats.commands import (
    AnyOperation,
    AskedCommand,
    CompareKey,
    CountRange,
    DeleteKey,
    DeleteRange,
    GetKey,
    GrantLease,
    IncrementKey,
    KeepAliveCommand,
    ListRange,
    OperateCommand,
    PutKept,
    PutKey,
    PutLeased,
    RevokeLease,
    TouchKey,
    Transact,
    WriteCommand,
)
from raftkv.formats.rights import AUTH, AUTH_END, ENABLED, are_bounded, decoded, rights_of
from raftkv.machine import operations
from raftkv.machine.lease_rows import attached
from raftkv.storage.engines.port import TableReader

LEASE_KEYS_LOOKED_AT: Final = 10_000
"""Keys of leases that one command has judged at most, so that applying it stays short."""

KeyWriting = PutKey | DeleteKey | TouchKey | PutLeased | PutKept | IncrementKey

_MEANINGLESS: Final = Refused(
    code=Code.BAD_REQUEST, detail="users, roles and whether authentication is on are only put, as such, and deleted"
)
TOO_MANY_RIGHTS: Final = Refused(
    code=Code.BAD_REQUEST,
    detail=f"there can be {USERS_MAX} users and {ROLES_MAX} roles, of {RIGHTS_BYTES_MAX >> 10} KiB together",
)


class _TooManyKeys(Exception):  # noqa: N818  what was found; nobody outside hears of it
    pass


def stored_rights(reader: TableReader) -> Rights:
    """What this view says of users and roles; it changes with the number ``layout.RIGHTS`` of ``meta``."""
    return rights_of(_rows(reader), _changed_at(reader))


def _changed_at(reader: TableReader) -> int:
    return layout.unpack_number(reader.get(layout.META, layout.RIGHTS))


def _rows(reader: TableReader) -> Iterator[tuple[bytes, bytes]]:
    for key, row in reader.scan(layout.KEYS, AUTH, AUTH_END):
        yield key, layout.value_of(row)


class Judge:
    """Judges by ``reader``, the state of a machine."""

    def __init__(self, reader: TableReader) -> None:
        self._reader = reader
        self._writes_rights = False
        self._keys_left = 0
        self._handlers: Mapping[type[AnyOperation], Callable[[Caller, Any], Refused | None]] = {
            PutKey: self._of_write,
            DeleteKey: self._of_write,
            TouchKey: self._of_write,
            GetKey: lambda caller, one: of_span(self.rights, caller, Access.READ, one.key, one.key + b"\0"),
            IncrementKey: self._of_increment,
            PutLeased: self._of_put_leased,
            DeleteRange: lambda caller, one: of_span(self.rights, caller, Access.WRITE, one.start, one.end),
            ListRange: lambda caller, one: of_span(self.rights, caller, Access.READ, one.start, one.end),
            GrantLease: lambda _caller, _grant: None,
            RevokeLease: lambda caller, one: of_keys(self.rights, caller, Access.WRITE, self._keys_of(one.lease)),
            Transact: self._of_transaction,
            PutKept: self._of_put_kept,
            CountRange: lambda caller, one: of_span(self.rights, caller, Access.READ, one.start, one.end),
        }
        self.learn()

    def learn(self) -> None:
        """The state says something else now."""
        rows = dict(_rows(self._reader))
        self.rights = rights_of(rows.items(), _changed_at(self._reader))
        self._sizes = {key: len(key) + len(value) for key, value in rows.items()}

    def refusal(self, caller: Caller, command: AskedCommand) -> Refused | None:
        """Why ``command`` is not to be done for ``caller``, if it is not."""
        refusal = of_caller(self.rights, caller)
        if refusal is not None:
            return refusal
        self._keys_left = LEASE_KEYS_LOOKED_AT
        try:
            if isinstance(command, WriteCommand | OperateCommand):
                return self._of_operations(caller, command.operations)
            if isinstance(command, KeepAliveCommand):
                return self._of_keep_alive(caller, command.leases)
        except _TooManyKeys:
            return operations.refusal(Code.TOO_MANY_CHANGES)
        return of_operator(self.rights, caller)

    def _of_operations(self, caller: Caller, several: tuple[AnyOperation, ...]) -> Refused | None:
        self._writes_rights = False
        refusal = self._of_each(caller, several)
        return self._of_new_rights(several) if refusal is None and self._writes_rights else refusal

    def _of_each(self, caller: Caller, several: tuple[AnyOperation, ...]) -> Refused | None:
        for operation in several:
            refusal = self._handlers[type(operation)](caller, operation)
            if refusal is not None:
                return refusal
        return None

    def _of_write(self, caller: Caller, operation: KeyWriting, access: Access = Access.WRITE) -> Refused | None:
        key = operation.key
        if AUTH <= key < AUTH_END:
            self._writes_rights = True
        return of_span(self.rights, caller, access, key, key + b"\0")

    def _of_increment(self, caller: Caller, operation: IncrementKey) -> Refused | None:
        """It tells what the key holds."""
        return self._of_write(caller, operation, Access.BOTH)

    def _of_put_leased(self, caller: Caller, operation: PutLeased | PutKept) -> Refused | None:
        """Else a stranger, by a key of his own, could keep the lease of others alive."""
        refusal = self._of_write(caller, operation)
        if refusal is None and not may_write_one(self.rights, caller, self._keys_of(operation.lease or 0)):
            return not_of_lease(caller)
        return refusal

    def _of_put_kept(self, caller: Caller, operation: PutKept) -> Refused | None:
        """What it keeps is told to nobody."""
        if not operation.lease:
            return self._of_write(caller, operation)
        return self._of_put_leased(caller, operation)

    def _of_transaction(self, caller: Caller, operation: Transact) -> Refused | None:
        for one in operation.comparisons:
            start, end = (one.key, one.key + b"\0") if isinstance(one, CompareKey) else (one.start, one.end)
            refusal = of_span(self.rights, caller, Access.READ, start, end)
            if refusal is not None:
                return refusal
        return self._of_each(caller, operation.success) or self._of_each(caller, operation.failure)

    def _of_keep_alive(self, caller: Caller, leases: tuple[int, ...]) -> Refused | None:
        """Whoever may write one of a lease's keys may keep it alive; who lost the right to all of them may not."""
        are_his = all(may_write_one(self.rights, caller, self._keys_of(one)) for one in leases)
        return None if are_his else not_of_lease(caller)

    def _keys_of(self, lease: int) -> Iterator[bytes]:
        """The keys attached to ``lease``; raises ``_TooManyKeys``."""
        for key in attached(self._reader, lease):
            if not self._keys_left:
                raise _TooManyKeys
            self._keys_left -= 1
            yield key

    def _of_new_rights(self, several: tuple[AnyOperation, ...]) -> Refused | None:
        """Why rights cannot be written so, if they cannot: who is root may do it, but must say something."""
        sizes = dict(self._sizes)
        for one in _in_all_branches(several):
            if isinstance(one, DeleteKey | GetKey) or not AUTH <= getattr(one, "key", b"") < AUTH_END:
                continue
            if (
                not isinstance(one, PutKey)
                or one.ttl_ms
                or (one.key != ENABLED and decoded(one.key, one.value) is None)
            ):
                return _MEANINGLESS
            sizes[one.key] = len(one.key) + len(one.value)
        return None if are_bounded(sizes) else TOO_MANY_RIGHTS


def _in_all_branches(several: Iterable[AnyOperation]) -> Iterator[AnyOperation]:
    """``several``, and those of their transactions."""
    for one in several:
        if isinstance(one, Transact):
            yield from _in_all_branches((*one.success, *one.failure))
        else:
            yield one
