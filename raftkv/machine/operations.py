"""What each operation of a request does to the keys, and what is told of it.

Every operation either does all that it says or nothing, and then tells why in one of the words of ``core.errors``: the
sentence goes by the word alone, as a repeat must be told the same. A transaction is judged whole before any of it is
done: its comparisons, those of the transactions in it, and whether each operation of the branches taken can be done.
"""

from __future__ import annotations

import operator
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from raftkv.core.errors import Code, Refused
from raftkv.core.requests import ANY, ComparedField, Match, Operator
from raftkv.core.results import (
    AnyResult,
    DeleteDone,
    Incremented,
    KeyCount,
    Mismatch,
    Missing,
    PutDone,
    Revoked,
    SpanDeleted,
    Touched,
    Transacted,
    Withheld,
)
from raftkv.formats import layout
from raftkv.formats.commands import (
    AnyOperation,
    CompareKey,
    CompareSpan,
    Comparison,
    CountRange,
    DeleteKey,
    DeleteRange,
    GetKey,
    GrantLease,
    IncrementKey,
    ListRange,
    PutKept,
    PutKey,
    PutLeased,
    RevokeLease,
    TouchKey,
    Transact,
)
from raftkv.machine.changes import Changes
from raftkv.machine.lease_rows import LEASE_KEYS_MAX
from raftkv.machine.leases import Leases
from raftkv.machine.reading import Answers
from raftkv.machine.rows import StandingRow
from raftkv.storage.state.tables import StateTables

CHANGES_MAX: Final = 10_000
"""Keys of ranges that one request removes at most, and that it compares, so that applying it stays short."""

RANGE_BYTES_MAX: Final = 64 << 20
"""How large the rows of these keys are at most, together."""

INTEGER_LIMITS: Final = (-(1 << 63), (1 << 63) - 1)

_INTEGER: Final = re.compile(rb"-?[0-9]{1,19}", re.ASCII)

_SENTENCES: Final = {
    Code.NOT_FOUND: "there is no such key",
    Code.LEASE_NOT_FOUND: "there is no such lease; it may have ended",
    Code.LEASE_EXISTS: "there is a lease of this number already",
    Code.NOT_AN_INTEGER: "the value of the key is no integer of 64 bits in decimal digits",
    Code.OUT_OF_BOUNDS: "the sum would be out of the bounds",
    Code.TOO_MANY_CHANGES: (
        f"one request removes, or compares, ranges of {CHANGES_MAX} keys and {RANGE_BYTES_MAX >> 20} MiB at most, and a"
        f" lease has {LEASE_KEYS_MAX} keys; take a part at a time"
    ),
}


def refusal(code: Code) -> Refused:
    """Why an operation was not done."""
    return Refused(code=code, detail=_SENTENCES[code])


class Operations:
    """Does operations. ``answers`` bounds what they tell of what they read."""

    def __init__(self, tables: StateTables, changes: Changes, leases: Leases) -> None:
        self._tables = tables
        self._changes = changes
        self._leases = leases
        self.answers = Answers(0)
        self.reads_nothing_due = False
        """Could no read of a key remove it, because none is due? Only states without history remove one so."""

        self._removed, self._compared = _Ranges(), _Ranges()
        self._attached: Counter[int] = Counter()
        """How many keys this request has attached to each lease, at most."""

        self._taken: dict[int, bool] = {}
        """Which branch each transaction takes, by its identity."""

        self._doomed: dict[int, list[bytes]] = {}
        """Which keys each range holds that is to be removed, likewise."""

        self._handlers: Mapping[type[Any], Callable[[Any], AnyResult]] = {
            PutKey: self._put,
            DeleteKey: self._delete,
            GetKey: self._get,
            PutLeased: self._put_leased,
            IncrementKey: self._increment,
            TouchKey: self._touch,
            DeleteRange: self._delete_range,
            ListRange: self._list,
            GrantLease: self._grant,
            RevokeLease: self._revoke,
            Transact: self._transact,
            PutKept: self._put_kept,
            CountRange: self._count,
        }
        # What stands in the way of each, and how many keys it removes or attaches is part of that.
        self._obstacles: Mapping[type[Any], Callable[[Any], Code | None]] = {
            PutLeased: self._cannot_put,
            IncrementKey: self._cannot_increment,
            DeleteRange: self._cannot_delete,
            GrantLease: self._cannot_grant,
            RevokeLease: self._cannot_revoke,
            Transact: self._cannot_transact,
            PutKept: self._cannot_put_kept,
        }

    def begin(self) -> None:
        """Another request."""
        self._changes.begin()
        self._removed.begin()
        self._compared.begin()
        self._taken.clear()
        self._doomed.clear()
        if self._attached:
            self._attached.clear()

    def do(self, operation: AnyOperation) -> AnyResult:
        """Do ``operation`` if nothing stands in its way, and tell what came of it."""
        kind = type(operation)
        if kind in self._obstacles:
            code = self._obstacles[kind](operation)
            if code is not None:
                return refusal(code)
        return self._handlers[kind](operation)

    def _get(self, operation: GetKey) -> AnyResult:
        if self.answers.is_full and self.reads_nothing_due:
            return Withheld(key=operation.key)  # reading it would tell nobody anything, and could remove nothing
        standing = self._changes.find(operation.key)
        if standing is None or standing.is_over:
            return Missing(key=operation.key)
        return self.answers.found(operation.key, standing.row)

    def _put(self, operation: PutKey) -> AnyResult:
        return self._store(operation, self._changes.clock_ms + operation.ttl_ms if operation.ttl_ms else 0, 0)

    def _put_leased(self, operation: PutLeased) -> AnyResult:
        return self._store(operation, 0, operation.lease)

    def _store(self, operation: PutKey | PutLeased, expires_at_ms: int, lease: int) -> AnyResult:
        standing = self._changes.find(operation.key)
        if operation.match is not None and not _matches(operation.match, _revision(standing)):
            return Mismatch(revision=_revision(standing))
        version, revision = self._changes.put(operation.key, standing, operation.value, expires_at_ms, lease)
        return PutDone(version=version, revision=revision)

    def _cannot_put(self, operation: PutLeased) -> Code | None:
        self._attached[operation.lease] += 1
        return self._leases.cannot_attach(operation.lease, self._attached[operation.lease])

    def _put_kept(self, operation: PutKept) -> AnyResult:
        standing = self._changes.find(operation.key)
        assert standing is not None
        value = layout.value_of(standing.row) if operation.value is None else operation.value
        expires_at_ms, lease = 0, operation.lease
        if lease is None:
            expires_at_ms, lease = standing.expires_at_ms, standing.lease
        version, revision = self._changes.put(operation.key, standing, value, expires_at_ms, lease)
        return PutDone(version=version, revision=revision)

    def _cannot_put_kept(self, operation: PutKept) -> Code | None:
        standing = self._changes.find(operation.key)
        if standing is None or standing.is_over:
            return Code.NOT_FOUND
        if not operation.lease:
            return None
        self._attached[operation.lease] += 1
        return self._leases.cannot_attach(operation.lease, self._attached[operation.lease])

    def _delete(self, operation: DeleteKey) -> AnyResult:
        standing = self._changes.find(operation.key)
        if not _matches(operation.match, _revision(standing)):
            return Mismatch(revision=_revision(standing))
        if standing is None or standing.is_over:
            return Missing(key=operation.key)
        return DeleteDone(revision=self._changes.remove(operation.key, standing))

    def _increment(self, operation: IncrementKey) -> AnyResult:
        standing = self._changes.find(operation.key)
        found = _sum(operation, standing)
        assert isinstance(found, int)
        expires_at_ms, lease = 0, 0
        if standing is not None and not standing.is_over:
            expires_at_ms, lease = standing.expires_at_ms, standing.lease
        version, revision = self._changes.put(operation.key, standing, b"%d" % found, expires_at_ms, lease)
        return Incremented(value=found, version=version, revision=revision)

    def _cannot_increment(self, operation: IncrementKey) -> Code | None:
        found = _sum(operation, self._changes.find(operation.key))
        return found if isinstance(found, Code) else None

    def _touch(self, operation: TouchKey) -> AnyResult:
        standing = self._changes.find(operation.key)
        if standing is None or standing.is_over:
            return Missing(key=operation.key)
        expires_at_ms = self._changes.clock_ms + operation.ttl_ms if operation.ttl_ms else 0
        self._changes.touch(operation.key, standing, expires_at_ms)
        return Touched(expires_at_ms=expires_at_ms, revision=standing.mod_revision)

    def _delete_range(self, operation: DeleteRange) -> AnyResult:
        removed = 0
        for key in self._doomed[id(operation)]:
            standing = self._changes.find(key)
            if standing is not None and not standing.is_over:
                self._changes.remove(key, standing)
                removed += 1
        return SpanDeleted(count=removed, revision=self._changes.revision)

    def _cannot_delete(self, operation: DeleteRange) -> Code | None:
        keys = self._doomed[id(operation)] = []
        for key, row in self._tables.scan(layout.KEYS, operation.start, operation.end):
            if not self._removed.takes(row):
                return Code.TOO_MANY_CHANGES
            keys.append(key)
        return None

    def _list(self, operation: ListRange) -> AnyResult:
        if self.answers.is_full:
            return Withheld(key=operation.start)
        rows = self._tables.scan(layout.KEYS, operation.start, operation.end)
        standing = ((key, row) for key, row in rows if not self._is_over(row))
        return self.answers.page(standing, operation.limit, keys_only=operation.keys_only)

    def _count(self, operation: CountRange) -> AnyResult:
        rows = self._tables.scan(layout.KEYS, operation.start, operation.end)
        return KeyCount(count=sum([not self._is_over(row) for _, row in rows]))

    def _is_over(self, row: bytes) -> bool:
        return 0 < layout.unpack_header(row)[3] <= self._changes.clock_ms

    def _grant(self, operation: GrantLease) -> AnyResult:
        return self._leases.grant(operation.lease, operation.ttl_ms)

    def _cannot_grant(self, operation: GrantLease) -> Code | None:
        return Code.LEASE_EXISTS if operation.lease and self._leases.is_there(operation.lease) else None

    def _revoke(self, operation: RevokeLease) -> AnyResult:
        count = self._leases.end(operation.lease, expired=False)
        return Revoked(count=count, revision=self._changes.revision)

    def _cannot_revoke(self, operation: RevokeLease) -> Code | None:
        return None if self._leases.is_there(operation.lease) else Code.LEASE_NOT_FOUND

    # -- transactions -------------------------------------------------------------------------------------------------

    def _transact(self, operation: Transact) -> AnyResult:
        succeeded = self._taken[id(operation)]
        branch = operation.success if succeeded else operation.failure
        return Transacted(succeeded=succeeded, results=tuple([self._handlers[type(one)](one) for one in branch]))

    def _cannot_transact(self, operation: Transact) -> Code | None:
        """Choose its branch, and those of the transactions in it; all comparisons see the state before any is done."""
        succeeds = True
        for comparison in operation.comparisons:
            holds = self._holds(comparison)
            if isinstance(holds, Code):
                return holds
            if not holds:
                succeeds = False
                break
        self._taken[id(operation)] = succeeds
        for one in operation.success if succeeds else operation.failure:
            obstacle = self._obstacles.get(type(one))
            code = None if obstacle is None else obstacle(one)
            if code is not None:
                return code
        return None

    def _holds(self, comparison: Comparison) -> bool | Code:
        if isinstance(comparison, CompareKey):
            standing = self._changes.find(comparison.key)
            return _compare(comparison, None if standing is None or standing.is_over else standing.row)
        is_any = False
        for _, row in self._tables.scan(layout.KEYS, comparison.start, comparison.end):
            if not self._compared.takes(row):
                return Code.TOO_MANY_CHANGES
            if self._is_over(row):
                continue
            is_any = True
            if not _compare(comparison, row):
                return False
        return is_any or not isinstance(comparison, CompareSpan) or _compare(comparison, None)


class _Ranges:
    """What one request may still go through of ranges."""

    __slots__ = ("_bytes_left", "_keys_left")

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Another request."""
        self._keys_left, self._bytes_left = CHANGES_MAX, RANGE_BYTES_MAX

    def takes(self, row: bytes) -> bool:
        """Go through one more key; is there room for it?"""
        self._keys_left -= 1
        self._bytes_left -= len(row)
        return self._keys_left >= 0 and self._bytes_left >= 0


def _revision(standing: StandingRow | None) -> int:
    """The revision that preconditions are held against, 0 where there is no key."""
    return 0 if standing is None or standing.is_over else standing.mod_revision


def _matches(match: Match | None, mod_revision: int) -> bool:
    """Does a key at ``mod_revision`` (0: it does not exist) meet the precondition?"""
    if match is None:
        return True
    if match == ANY:
        return mod_revision != 0
    if isinstance(match, tuple):
        return mod_revision in match
    return match == mod_revision


def _sum(operation: IncrementKey, standing: StandingRow | None) -> int | Code:
    """What the key is to hold, or why it cannot be told."""
    found, (least, most) = 0, INTEGER_LIMITS
    if standing is not None and not standing.is_over:
        value = layout.value_of(standing.row)
        if _INTEGER.fullmatch(value) is None or not least <= int(value) <= most:
            return Code.NOT_AN_INTEGER
        found = int(value)
    least = least if operation.minimum is None else operation.minimum
    most = most if operation.maximum is None else operation.maximum
    return found + operation.by if least <= found + operation.by <= most else Code.OUT_OF_BOUNDS


_NOTHING: Final = (0, 0, 0, 0, 0)
_NUMBERS: Final[Mapping[int, Callable[[tuple[int, ...]], int]]] = {
    ComparedField.VERSION: lambda header: header[0],
    ComparedField.CREATE_REVISION: lambda header: header[1],
    ComparedField.REVISION: lambda header: header[2],
    ComparedField.LEASE: lambda header: header[4],
    ComparedField.EXISTS: lambda header: int(header[0] > 0),
}
_OPERATORS: Final[Mapping[int, Callable[[Any, Any], bool]]] = {
    Operator.EQUAL: operator.eq,
    Operator.UNEQUAL: operator.ne,
    Operator.LESS: operator.lt,
    Operator.GREATER: operator.gt,
}


def _compare(comparison: Comparison, row: bytes | None) -> bool:
    """Does it hold of the key that has ``row``? An operand of the wrong kind never does, nor does no value."""
    operand = comparison.operand
    found: int | bytes | None
    if comparison.target == ComparedField.VALUE:
        found = None if row is None else layout.value_of(row)
    else:
        found = _NUMBERS[comparison.target](_NOTHING if row is None else layout.unpack_header(row))
    return type(found) is type(operand) and _OPERATORS[comparison.operator](found, operand)
