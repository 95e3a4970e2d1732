"""From requests to commands: the one place where what a client asks becomes bytes of the log.

It happens once, at the node that proposes. A request that is to go through the log needs an arm in
``raftkv.formats.commands``, a line in ``_CONVERSIONS`` here, and a handler in the machine; whoever replicates
(``raftkv.raft``) sees bytes, and how large and of what kind they are.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import msgspec

from raftkv.core.errors import Code, Refused
from raftkv.core.keys import SYSTEM, is_text, quoted
from raftkv.core.requests import (
    ABSENT,
    ANY,
    AnyOperation,
    Compact,
    Configure,
    CountKeys,
    Delete,
    DeleteSpan,
    Get,
    Grant,
    Increment,
    KeepAlive,
    KeyComparison,
    List,
    Match,
    Put,
    Revoke,
    Touch,
    Transaction,
    Write,
)
from raftkv.formats import commands
from raftkv.formats.commands import (
    BYTES_FORMAT,
    DEPTH_MAX,
    OVERHEAD_BYTES,
    AskedCommand,
    CallersCommand,
    CompactCommand,
    CompareKey,
    CompareRange,
    CompareSpan,
    Comparison,
    ConfigureCommand,
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
    encode_command,
    least_format,
)
from raftkv.formats.layout import LEASE_MARK

Change = Write | Configure | KeepAlive | Compact
"""Requests that go through the log."""

WEIGHT_OF_MANY: Final = 1 << 16
"""What an operation counts for that may change very many keys: it has an entry of its own."""


class Proposal(msgspec.Struct, frozen=True, gc=False):
    """A command as it travels: encoded, with the least format that has it, and how many operations it counts for.

    ``makes_room``: it only deletes.
    """

    command: bytes
    least_format: int
    operation_count: int
    makes_room: bool

    @property
    def size_bytes(self) -> int:
        """What it takes up at most, in a batch or alone."""
        return len(self.command) + OVERHEAD_BYTES


def proposal_of(request: Change) -> Proposal | Refused:
    """``request`` as a command, or why it can be none."""
    command = command_of(request)
    if isinstance(command, Refused):
        return command
    asked = command.command if isinstance(command, CallersCommand) else command
    least = least_format(command)
    if isinstance(asked, WriteCommand | OperateCommand) and _stores_bytes(asked.operations):
        least = max(least, BYTES_FORMAT)
    return Proposal(encode_command(command), least, *_weight(asked))


def _stores_bytes(operations: Iterable[commands.AnyOperation]) -> bool:
    """May there be a client's key afterwards that is no text, and was not there before?"""
    for one in operations:  # as in makes_room
        if type(one) in _STORING:
            if one.key < SYSTEM and not is_text(one.key):  # type: ignore[union-attr]
                return True
        elif isinstance(one, Transact) and (_stores_bytes(one.success) or _stores_bytes(one.failure)):
            return True
    return False


def command_of(request: Change) -> AskedCommand | CallersCommand | Refused:
    """``request`` as a command, not encoded yet; with its caller, if it has one."""
    command, caller = _CONVERSIONS[type(request)](request), request.caller
    if caller is None or isinstance(command, Refused):
        return command
    return CallersCommand(caller.user, caller.generation, command)


def _weight(command: AskedCommand) -> tuple[int, bool]:
    """How many operations it counts for, and does it only delete?"""
    if isinstance(command, WriteCommand):
        return len(command.operations) or 1, makes_room(command.operations)
    if isinstance(command, OperateCommand):
        return sum(map(_operation_weight, command.operations)), makes_room(command.operations)
    return (len(command.leases) if isinstance(command, KeepAliveCommand) else 1), False


def _operation_weight(operation: commands.AnyOperation) -> int:
    if isinstance(operation, Transact):
        return 1 + sum(map(_operation_weight, (*operation.success, *operation.failure)))
    return WEIGHT_OF_MANY if isinstance(operation, DeleteRange | RevokeLease) else 1


def makes_room(operations: tuple[commands.AnyOperation, ...]) -> bool:
    """Does a write of ``operations`` only delete?"""
    for operation in operations:  # all() with a generator takes twice as long, and this is asked of every write
        if type(operation) not in _REMOVING:
            return False
    return bool(operations)


def _write(request: Write) -> AskedCommand | Refused:
    operations = request.operations
    for operation in operations:
        if type(operation) in _MATCHING and operation.match is not None and _is_negative(operation.match):  # type: ignore[union-attr]
            return _refused("a revision cannot be negative")
    converted = tuple([_OPERATIONS[type(one)](one) for one in operations])
    if _expires_unheard(converted):
        return _refused("a key that begins with the byte ff has no time to live of its own; attach it to a lease")
    if not _needs_history(operations):
        return WriteCommand(converted, request.idempotency_key)
    if commands.depth(converted) > DEPTH_MAX:
        return _refused(f"transactions stand more than {DEPTH_MAX} deep in each other")
    for one in converted:
        twice = _written_twice(one) if isinstance(one, Transact) else None
        if twice is not None:
            return _refused(f"a transaction writes the key {quoted(twice)} twice in one branch")
    return OperateCommand(converted, request.idempotency_key)


def _needs_history(operations: tuple[AnyOperation, ...]) -> bool:
    for operation in operations:  # as in makes_room
        if type(operation) not in _FIRST:
            return True
        if isinstance(operation, Put) and (operation.lease or operation.keeps_value or operation.keeps_lease):
            return True
    return False


def _expires_unheard(operations: Iterable[commands.AnyOperation]) -> bool:
    """Is a key to expire whose row in ``expiry`` would be that of a lease?"""
    for one in operations:  # as in makes_room
        if type(one) in _EXPIRING:
            if one.ttl_ms and LEASE_MARK <= one.key < SYSTEM:  # type: ignore[union-attr]
                return True
        elif isinstance(one, Transact) and (_expires_unheard(one.success) or _expires_unheard(one.failure)):
            return True
    return False


def _refused(detail: str) -> Refused:
    return Refused(code=Code.BAD_REQUEST, detail=detail)


_CONVERSIONS: Final[Mapping[type[Change], Callable[[Any], AskedCommand | Refused]]] = {
    Write: _write,
    Configure: lambda request: ConfigureCommand(request.r, request.w),
    KeepAlive: lambda request: KeepAliveCommand(request.leases),
    Compact: lambda request: CompactCommand(request.revision),
}


def _put(put: Put) -> PutKey | PutLeased | PutKept:
    if put.keeps_value or put.keeps_lease:
        return PutKept(put.key, None if put.keeps_value else put.value, None if put.keeps_lease else put.lease)
    if put.lease:
        return PutLeased(put.key, put.value, put.match, put.lease)
    return PutKey(put.key, put.value, put.match, put.ttl_ms)


def _transaction(transaction: Transaction) -> Transact:
    return Transact(
        tuple(map(_comparison, transaction.comparisons)),
        tuple([_OPERATIONS[type(one)](one) for one in transaction.success]),
        tuple([_OPERATIONS[type(one)](one) for one in transaction.failure]),
    )


def _comparison(one: KeyComparison) -> Comparison:
    if one.several:
        if one.of_none:
            return CompareSpan(one.start, one.end, one.target, one.operator, one.operand)
        return CompareRange(one.start, one.end, one.target, one.operator, one.operand)
    return CompareKey(one.start, one.target, one.operator, one.operand)


_OPERATIONS: Final[Mapping[type[AnyOperation], Callable[[Any], Any]]] = {
    Put: _put,
    Delete: lambda one: DeleteKey(one.key, one.match),
    Get: lambda one: GetKey(one.key),
    List: lambda one: ListRange(one.start, one.end, one.limit, one.keys_only),
    CountKeys: lambda one: CountRange(one.start, one.end),
    Increment: lambda one: IncrementKey(one.key, one.by, one.minimum, one.maximum),
    Touch: lambda one: TouchKey(one.key, one.ttl_ms),
    DeleteSpan: lambda one: DeleteRange(one.start, one.end),
    Grant: lambda one: GrantLease(one.lease, one.ttl_ms),
    Revoke: lambda one: RevokeLease(one.lease),
    Transaction: _transaction,
}
# Every write is asked what it is of, and to look a type up takes a tenth of what ``isinstance`` takes to say no.
_FIRST: Final = frozenset({Put, Delete, Get})
_MATCHING: Final = frozenset({Put, Delete})
_STORING: Final = frozenset({PutKey, PutLeased, IncrementKey})
_EXPIRING: Final = frozenset({PutKey, TouchKey})
_REMOVING: Final = frozenset({DeleteKey, DeleteRange, RevokeLease})


def _written_twice(transaction: Transact) -> bytes | None:
    """A key that ``transaction`` may put twice, or put and remove, whichever branches are taken, or ``None``."""
    try:
        for branch in (transaction.success, transaction.failure):
            if len(branch) > 1 or commands.depth(branch):
                _Writes().add(branch)
    except _WrittenTwice as found:
        return found.key
    return None


class _WrittenTwice(Exception):  # noqa: N818  what was found; nobody outside hears of it
    def __init__(self, key: bytes) -> None:
        self.key = key


class _Writes:
    """What is written so far: keys that are put, and the ranges that are removed, which may meet each other."""

    def __init__(self) -> None:
        self.keys: set[bytes] = set()
        self.ranges: list[DeleteRange] = []

    def add(self, branch: Iterable[commands.BranchOperation]) -> _Writes:
        """Write ``branch`` as well; raises ``_WrittenTwice``."""
        for one in branch:
            if isinstance(one, Transact):
                success, failure = _Writes().add(one.success), _Writes().add(one.failure)
                self._take(success.keys | failure.keys, success.ranges + failure.ranges)
            elif isinstance(one, DeleteRange):
                self._take(set(), [one])
            elif isinstance(one, DeleteKey):
                self._take(set(), [DeleteRange(one.key, one.key + b"\0")])
            elif not isinstance(one, GetKey | ListRange | CountRange):
                self._take({one.key}, [])
        return self

    def _take(self, keys: set[bytes], ranges: list[DeleteRange]) -> None:
        for key in (self.keys & keys) or _within(self.keys, ranges) or _within(keys, self.ranges):
            raise _WrittenTwice(key)
        self.keys |= keys
        self.ranges += ranges


def _within(keys: set[bytes], ranges: list[DeleteRange]) -> list[bytes]:
    """The keys that lie in one of the ranges."""
    if not ranges:
        return []
    ordered = sorted(keys)
    firsts = [(one, bisect_left(ordered, one.start)) for one in ranges]
    return [
        ordered[first]
        for one, first in firsts
        if first < len(ordered) and (one.end is None or ordered[first] < one.end)
    ]


def _is_negative(match: Match) -> bool:
    return any(one < ABSENT for one in match) if isinstance(match, tuple) else match < min(ABSENT, ANY)
