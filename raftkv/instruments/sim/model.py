"""What the commands of a log come to: a small model of the store, written from what is promised. Pure.

It owns no code of the machine and is as plain as can be: all keys in one dictionary, which is copied whenever anything
was applied, so that every state there ever was can be looked at. Of the machine it knows the commands, and of clients
the words in which they are answered. What it leaves out: bounds in bytes, and that outcomes of idempotent writes are
forgotten after long.

It must never import ``raftkv.machine``, ``raftkv.storage`` or ``raftkv.raft``: it is what they are held against.
"""

from __future__ import annotations

import operator
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from raftkv.core.errors import Code, Refused
from raftkv.core.requests import ComparedField, Operator
from raftkv.core.results import (
    AnyResult,
    Change,
    Compacted,
    Configured,
    DeleteDone,
    Granted,
    HistoryAhead,
    HistoryGone,
    Incremented,
    KeptAlive,
    KeyCount,
    KeyPage,
    KeyRecord,
    LeaseRecord,
    Mismatch,
    Missing,
    NoLease,
    Outcome,
    PutDone,
    Revoked,
    SpanDeleted,
    Touched,
    Transacted,
    Withheld,
    Written,
)
from raftkv.formats.commands import (
    AdoptCommand,
    AnyOperation,
    AskedCommand,
    CallersCommand,
    Command,
    CompactCommand,
    CompareKey,
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
    LeaseTimeCommand,
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
from raftkv.instruments.sim.modelled_rights import ModelledRights

HISTORY_SLACK: Final = 16
"""What is beyond a bound is forgotten down to this part of it below."""

FORBIDDEN: Final = Refused(code=Code.FORBIDDEN, detail="")

_OPERATORS: Final[Mapping[int, Callable[[Any, Any], bool]]] = {
    Operator.EQUAL: operator.eq,
    Operator.UNEQUAL: operator.ne,
    Operator.LESS: operator.lt,
    Operator.GREATER: operator.gt,
}


class _EntryChanges(NamedTuple):
    """How many there were in one entry, up to which revision, at what time."""

    change_count: int
    last_revision: int
    stamp_ms: int


class StoreState(msgspec.Struct, frozen=True, kw_only=True):
    """The store after an entry. ``change_count`` is how many changes there had been, ``compacted`` the oldest kept."""

    revision: int = 0
    compacted: int = 0
    keeps_history: bool = True
    clock_ms: int = 0
    change_count: int = 0
    keys: Mapping[bytes, KeyRecord] = {}
    leases: Mapping[int, LeaseRecord] = {}


def in_span(keys: Iterable[bytes], start: bytes, end: bytes | None) -> list[bytes]:
    """Those of ``keys`` with ``start`` <= key < ``end``, in order."""
    return sorted(key for key in keys if start <= key and (end is None or key < end))


def page(keys: Mapping[bytes, KeyRecord], one: Any) -> KeyPage:
    """The first page of a list: ``one`` has ``start``, ``end``, ``limit`` and ``keys_only``."""
    found = in_span(keys, one.start, one.end)
    shown = [keys[key] for key in found[: one.limit]]
    if one.keys_only:
        shown = [msgspec.structs.replace(record, value=b"") for record in shown]
    return KeyPage(records=tuple(shown), next_start=found[one.limit] if len(found) > one.limit else None)


class ModelledStore:
    """The store. ``changes`` are all of those since history is kept."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self._keys: dict[bytes, KeyRecord] = {}
        self._leases: dict[int, LeaseRecord] = {}
        self._next_lease = 1
        self._revision = self._compacted = self._clock_ms = 0
        self._bounds: AdoptCommand | None = None
        self._kept: deque[_EntryChanges] = deque()
        self._leapt_ms = 0
        self._told: dict[tuple[str, str], Written] = {}
        """By the user and his idempotency key."""

        self._changed: set[bytes] | None = None

    def apply(self, stamp_ms: int, commands: Sequence[Command]) -> list[Outcome]:
        """What each of the commands of one entry comes to."""
        before_ms, self._clock_ms = self._clock_ms, max(self._clock_ms, stamp_ms)
        change_count = len(self.changes)
        if commands and isinstance(commands[0], LeaseTimeCommand):
            self._leap(before_ms, commands[0].lease_ms)
        self._expire()
        outcomes = [self._do(command) for command in commands]
        self._forget(change_count)
        return outcomes

    @property
    def state(self) -> StoreState:
        """As it stands."""
        return StoreState(
            revision=self._revision,
            compacted=self._compacted if self._bounds else self._revision,
            keeps_history=self._bounds is not None,
            clock_ms=self._clock_ms,
            change_count=len(self.changes),
            keys=dict(self._keys),
            leases=dict(self._leases),
        )

    # --- time

    def _leap(self, before_ms: int, lease_ms: int) -> None:
        """The clock leapt from ``before_ms``; for leases it is ``lease_ms`` now at most, so that all end later."""
        now_ms = max(before_ms - self._leapt_ms, min(lease_ms, self._clock_ms - self._leapt_ms))
        more_ms, self._leapt_ms = self._clock_ms - now_ms - self._leapt_ms, self._clock_ms - now_ms
        for lease, record in self._leases.items():
            self._leases[lease] = msgspec.structs.replace(record, expires_at_ms=record.expires_at_ms + more_ms)

    def _expire(self) -> None:
        """End what is due, all at one revision."""
        due = [(record.expires_at_ms, key) for key, record in self._keys.items() if record.expires_at_ms]
        self._changed = None
        for at_ms, key in sorted(due):
            if at_ms <= self._clock_ms:
                self._remove(key, expired=True)
        for lease, record in sorted(self._leases.items()):
            if record.expires_at_ms <= self._clock_ms:
                self._end(lease, expired=True)

    def _end(self, lease: int, *, expired: bool = False) -> int:
        del self._leases[lease]
        keys = sorted(key for key, record in self._keys.items() if record.lease == lease)
        for key in keys:
            self._remove(key, expired=expired)
        return len(keys)

    def _forget(self, change_count: int) -> None:
        """Forget what is too much or too old, an entry's changes at a time; ``change_count`` are older than this."""
        if len(self.changes) > change_count:
            self._kept.append(_EntryChanges(len(self.changes) - change_count, self._revision, self._clock_ms))
        if self._is_too_much():
            while self._is_too_much(HISTORY_SLACK):
                self._compacted = max(self._compacted, self._kept.popleft().last_revision)

    def _is_too_much(self, slack: int = 0) -> bool:
        """Is there more than is kept, less one part in ``slack`` of it?"""
        if not self._kept or self._bounds is None:
            return False
        oldest, most, age_ms = self._kept[0], self._bounds.events, self._bounds.age_ms
        if slack:
            most, age_ms = most - most // slack, age_ms - age_ms // slack
        is_old = oldest.last_revision <= self._compacted or self._clock_ms - oldest.stamp_ms > age_ms
        return is_old or sum(one.change_count for one in self._kept) > most

    # --- commands

    def _do(self, command: Command) -> Outcome:
        match command:
            case AdoptCommand():
                if self._bounds is None:
                    self._compacted = self._revision
                self._bounds = command
                return Compacted(compacted_revision=self._compacted)
            case LeaseTimeCommand():
                return Compacted(compacted_revision=self._compacted)
            case CallersCommand():
                return self._judged(command)
        return FORBIDDEN if ModelledRights(self._keys).enabled else self._asked(command)

    def _judged(self, command: CallersCommand) -> Outcome:
        rights, asked = ModelledRights(self._keys), command.command
        if not rights.forbids(command):
            return self._asked(asked, command.user)
        if rights.forbids_the_unknown(command) or not isinstance(asked, WriteCommand | OperateCommand):
            return FORBIDDEN
        name = asked.idempotency_key
        if name is None or (command.user, name) not in self._told:
            return FORBIDDEN
        return self._write(asked, command.user, may_read=False)

    def _asked(self, command: AskedCommand, user: str = "") -> Outcome:
        match command:
            case WriteCommand():
                return self._write(command, user)
            case ConfigureCommand():
                return Configured(n=0, r=command.r, w=command.w)
        if self._bounds is None:
            return Refused(code=Code.NOT_SUPPORTED, detail="")
        match command:
            case OperateCommand():
                return self._write(command, user)
            case KeepAliveCommand():
                return KeptAlive(leases=tuple([self._keep_alive(lease) for lease in command.leases]))
            case CompactCommand():
                return self._compact(command.revision)

    def _compact(self, revision: int) -> Outcome:
        if revision > self._revision:
            return HistoryAhead(revision=self._revision)
        if revision < self._compacted:
            return HistoryGone(compacted_revision=self._compacted)
        self._compacted = revision
        return Compacted(compacted_revision=revision)

    def _keep_alive(self, lease: int) -> LeaseRecord | NoLease:
        record = self._leases.get(lease)
        if record is None:
            return NoLease(lease=lease)
        self._leases[lease] = msgspec.structs.replace(record, expires_at_ms=self._clock_ms + record.ttl_ms)
        return self._leases[lease]

    def _write(self, command: WriteCommand | OperateCommand, user: str, *, may_read: bool = True) -> Written:
        self._changed, name = None, command.idempotency_key
        first = None if name is None else self._told.get((user, name))
        if first is not None:
            pairs = zip(command.operations, first.results, strict=True)
            results = tuple([self._again(*pair, may_read=may_read) for pair in pairs])
            return Written(results=results, revision=first.revision, acks=0)
        results = tuple([self._try(one) for one in command.operations])
        written = Written(results=results, revision=self._revision, acks=0)
        if name is not None:
            self._told[user, name] = written
        return written

    def _again(self, one: AnyOperation, result: AnyResult, *, may_read: bool) -> AnyResult:
        """What a repeat is told: what was done the first time, and what there is to be read now."""
        if isinstance(one, GetKey | ListRange | CountRange):
            if may_read:
                return self._carry_out(one)
            return Withheld(key=one.key if isinstance(one, GetKey) else one.start)
        if isinstance(one, Transact) and isinstance(result, Transacted):
            branch = one.success if result.succeeded else one.failure
            pairs = zip(branch, result.results, strict=True)
            results = tuple([self._again(*pair, may_read=may_read) for pair in pairs])
            return Transacted(succeeded=result.succeeded, results=results)
        return result

    # --- operations: what would stand in the way is looked for before anything is done

    def _try(self, one: AnyOperation) -> AnyResult:
        taken: dict[int, bool] = {}
        code = self._obstacle(one, taken)
        return self._carry_out(one, taken) if code is None else Refused(code=code, detail="")

    def _obstacle(self, one: AnyOperation, taken: dict[int, bool]) -> Code | None:  # noqa: PLR0911  one line for each kind
        """Why ``one`` cannot be done. Which branches are ``taken``, by identity, the state before it decides."""
        match one:
            case Transact():
                taken[id(one)] = all(map(self._holds, one.comparisons))
                branch = one.success if taken[id(one)] else one.failure
                return next((code for each in branch if (code := self._obstacle(each, taken))), None)
            case IncrementKey():
                total = self._sum(one)
                return total if isinstance(total, Code) else None
            case PutKept():
                if one.key not in self._keys:
                    return Code.NOT_FOUND
                return None if not one.lease or one.lease in self._leases else Code.LEASE_NOT_FOUND
            case PutLeased() | RevokeLease():
                return None if one.lease in self._leases else Code.LEASE_NOT_FOUND
            case GrantLease():
                return Code.LEASE_EXISTS if one.lease in self._leases else None
        return None

    def _holds(self, one: Comparison) -> bool:
        if isinstance(one, CompareKey):
            return _compare(one, self._keys.get(one.key))
        keys = in_span(self._keys, one.start, one.end)
        if isinstance(one, CompareSpan) and not keys:
            return _compare(one, None)
        return all(_compare(one, self._keys[key]) for key in keys)

    def _carry_out(self, one: AnyOperation, taken: Mapping[int, bool] | None = None) -> AnyResult:  # noqa: C901, PLR0911, PLR0912  one line for each kind
        match one:
            case GetKey():
                return self._keys.get(one.key) or Missing(key=one.key)
            case ListRange():
                return page(self._keys, one)
            case CountRange():
                return KeyCount(count=len(in_span(self._keys, one.start, one.end)))
            case PutKept():
                return self._put_kept(one)
            case PutKey() | PutLeased():
                return self._put_if(one)
            case DeleteKey():
                return self._delete_if(one)
            case IncrementKey():
                return self._increment(one)
            case TouchKey():
                return self._touch(one)
            case DeleteRange():
                keys = in_span(self._keys, one.start, one.end)
                for key in keys:
                    self._remove(key)
                return SpanDeleted(count=len(keys), revision=self._revision)
            case GrantLease():
                return self._grant(one)
            case RevokeLease():
                return Revoked(count=self._end(one.lease), revision=self._revision)
            case Transact():
                assert taken is not None
                succeeded = taken[id(one)]
                branch = one.success if succeeded else one.failure
                return Transacted(succeeded=succeeded, results=tuple([self._carry_out(each, taken) for each in branch]))

    def _put_if(self, one: PutKey | PutLeased) -> AnyResult:
        if not self._meets(one.key, one.match):
            return Mismatch(revision=self._revision_of(one.key))
        if isinstance(one, PutLeased):
            record = self._put(one.key, one.value, lease=one.lease)
        else:
            record = self._put(one.key, one.value, expires_at_ms=one.ttl_ms and self._clock_ms + one.ttl_ms)
        return PutDone(version=record.version, revision=record.mod_revision)

    def _put_kept(self, one: PutKept) -> PutDone:
        before = self._keys[one.key]
        value = before.value if one.value is None else one.value
        if one.lease is None:
            record = self._put(one.key, value, expires_at_ms=before.expires_at_ms, lease=before.lease)
        else:
            record = self._put(one.key, value, lease=one.lease)
        return PutDone(version=record.version, revision=record.mod_revision)

    def _delete_if(self, one: DeleteKey) -> AnyResult:
        if not self._meets(one.key, one.match):
            return Mismatch(revision=self._revision_of(one.key))
        if one.key not in self._keys:
            return Missing(key=one.key)
        self._remove(one.key)
        return DeleteDone(revision=self._revision)

    def _meets(self, key: bytes, match: Any) -> bool:
        found = self._revision_of(key)
        if match is None:
            return True
        return found > 0 if match == -1 else found in (match if isinstance(match, tuple) else (match,))

    def _revision_of(self, key: bytes) -> int:
        return self._keys[key].mod_revision if key in self._keys else 0

    def _sum(self, one: IncrementKey) -> int | Code:
        record = self._keys.get(one.key)
        if record is not None and not re.fullmatch(rb"-?[0-9]{1,19}", record.value):
            return Code.NOT_AN_INTEGER
        total = one.by + (0 if record is None else int(record.value))
        least = -(1 << 63) if one.minimum is None else one.minimum
        most = (1 << 63) - 1 if one.maximum is None else one.maximum
        return total if least <= total <= most else Code.OUT_OF_BOUNDS

    def _increment(self, one: IncrementKey) -> Incremented:
        total, before = self._sum(one), self._keys.get(one.key)
        assert isinstance(total, int)
        stays = {} if before is None else {"expires_at_ms": before.expires_at_ms, "lease": before.lease}
        record = self._put(one.key, b"%d" % total, **stays)
        return Incremented(value=total, version=record.version, revision=record.mod_revision)

    def _touch(self, one: TouchKey) -> AnyResult:
        record = self._keys.get(one.key)
        if record is None:
            return Missing(key=one.key)
        at_ms = one.ttl_ms and self._clock_ms + one.ttl_ms
        self._attach(record.lease, -1)
        self._keys[one.key] = msgspec.structs.replace(record, expires_at_ms=at_ms, lease=0)
        return Touched(expires_at_ms=at_ms, revision=record.mod_revision)

    def _grant(self, one: GrantLease) -> Granted:
        number = one.lease
        if not number:
            while self._next_lease in self._leases:
                self._next_lease += 1
            number, self._next_lease = self._next_lease, self._next_lease + 1
        at_ms = self._clock_ms + one.ttl_ms
        self._leases[number] = LeaseRecord(lease=number, ttl_ms=one.ttl_ms, expires_at_ms=at_ms, key_count=0)
        return Granted(lease=number, ttl_ms=one.ttl_ms, expires_at_ms=at_ms)

    # --- changes

    def _put(self, key: bytes, value: bytes, *, expires_at_ms: int = 0, lease: int = 0) -> KeyRecord:
        before, revision = self._keys.get(key), self._next_revision(key)
        record = KeyRecord(
            key=key,
            value=value,
            version=1 if before is None else before.version + 1,
            create_revision=revision if before is None else before.create_revision,
            mod_revision=revision,
            expires_at_ms=expires_at_ms,
            lease=lease,
        )
        self._attach(0 if before is None else before.lease, -1)
        self._attach(lease, 1)
        self._keys[key] = record
        self._note(Change(revision=revision, key=key, record=record, previous=before, time_ms=self._clock_ms))
        return record

    def _remove(self, key: bytes, *, expired: bool = False) -> None:
        before = self._keys.pop(key)
        self._attach(before.lease, -1)
        revision = self._next_revision(key)
        change = Change(
            revision=revision, key=key, record=None, previous=before, expired=expired, time_ms=self._clock_ms
        )
        self._note(change)

    def _next_revision(self, key: bytes) -> int:
        """One for all that a request changes, until it changes a key again; without history each has its own."""
        if self._changed is None or key in self._changed or self._bounds is None:
            self._revision += 1
            self._changed = set()
        self._changed.add(key)
        return self._revision

    def _note(self, change: Change) -> None:
        if self._bounds is not None:
            self.changes.append(change)

    def _attach(self, lease: int, more: int) -> None:
        record = self._leases.get(lease)
        if record is not None:
            self._leases[lease] = msgspec.structs.replace(record, key_count=record.key_count + more)


def _compare(one: Comparison, record: KeyRecord | None) -> bool:
    """Without a key all numbers are 0, and a value there is none, which is like no other."""
    found: int | bytes | None
    match one.target:
        case ComparedField.VALUE:
            found = None if record is None else record.value
        case ComparedField.VERSION:
            found = 0 if record is None else record.version
        case ComparedField.REVISION:
            found = 0 if record is None else record.mod_revision
        case ComparedField.CREATE_REVISION:
            found = 0 if record is None else record.create_revision
        case ComparedField.LEASE:
            found = 0 if record is None else record.lease
        case _:
            found = int(record is not None)
    return type(found) is type(one.operand) and _OPERATORS[one.operator](found, one.operand)
