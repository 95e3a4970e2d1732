"""What idempotent writes did, kept so that a repeat is told the same instead of being done again.

How long and how many are kept is judged by the log alone, and how long by lease time: when the clock leaps, whoever is
about to repeat a write has not waited (docs/decisions/0004). What reads found is not kept: a repeat reads anew.
The keys of each user are his own: nobody is told what another did by the same key.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from raftkv.core.errors import Code, Refused
from raftkv.core.results import (
    AnyResult,
    DeleteDone,
    Granted,
    Incremented,
    Mismatch,
    Missing,
    PutDone,
    Revoked,
    SpanDeleted,
    Touched,
    Transacted,
    Withheld,
    Written,
)
from raftkv.formats import layout
from raftkv.formats.commands import AnyOperation, CountRange, GetKey, ListRange, Transact
from raftkv.formats.outcomes import (
    KeptDelete,
    KeptGrant,
    KeptIncrement,
    KeptMismatch,
    KeptMissing,
    KeptOutcome,
    KeptPut,
    KeptRefusal,
    KeptResult,
    KeptRevoke,
    KeptSpanDelete,
    KeptTouch,
    KeptTransaction,
    KeptWrite,
    decode_outcome,
    encode_outcome,
    fingerprint_of,
)
from raftkv.machine.operations import refusal
from raftkv.machine.rows import SummedRows
from raftkv.storage.state.tables import StateTables

REUSED_KEY = "the Idempotency-Key was used before, for a different request"

_pack = layout.pack_number


class RepeatLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How long and how many outcomes are kept for repeats. Part of the replicated rules: equal on every node."""

    idempotency_window_ms: int = 3_600_000
    idempotency_keys: int = 100_000

    @classmethod
    def by(cls, window_s: float, keys: int) -> RepeatLimits:
        """What the keys of the configuration mean."""
        return cls(idempotency_window_ms=int(window_s * 1000), idempotency_keys=keys)


class Repeats:
    """The outcomes that one state keeps. ``read`` reads for a repeat what an operation asks for."""

    def __init__(
        self,
        tables: StateTables,
        rows: SummedRows,
        limits: RepeatLimits,
        *,
        read: Callable[[AnyOperation], AnyResult],
    ) -> None:
        self._tables = tables
        self._rows = rows
        self._limits = limits
        self._read = read
        self._may_read = True
        self.first = layout.unpack_number(tables.get(layout.META, layout.OUTCOME_FIRST))
        self.next = layout.unpack_number(tables.get(layout.META, layout.OUTCOME_NEXT))
        """The numbers of the oldest outcome that is kept, and of the one to come."""

    def first_time(
        self, name: bytes, operations: tuple[AnyOperation, ...], revision: int, *, may_read: bool
    ) -> Written | None:
        """What the write of this name did; ``None`` if it was not done yet. ``revision`` is the store's.

        What its reads find now is withheld unless it ``may_read``.
        """
        self._may_read = may_read
        row = self._tables.get(layout.OUTCOMES, name)
        if row is None:
            return None
        stored = decode_outcome(row)
        if stored.fingerprint != fingerprint_of(operations):
            return Written(results=(), revision=revision, acks=0, refused=REUSED_KEY)
        return Written(results=self._told(operations, stored.written.results), revision=stored.written.revision, acks=0)

    def keep(self, name: bytes, operations: tuple[AnyOperation, ...], written: Written, lease_ms: int) -> None:
        """Keep what the write did, at lease time."""
        results = tuple([_kept(*pair) for pair in zip(operations, written.results, strict=True)])
        kept = KeptOutcome(fingerprint_of(operations), KeptWrite(results, written.revision))
        self._rows.put(layout.OUTCOMES, name, encode_outcome(kept))
        self._rows.put(layout.OUTCOME_ORDER, _pack(self.next), _pack(lease_ms) + name)
        self.next += 1
        self._tables.put(layout.META, layout.OUTCOME_NEXT, _pack(self.next))

    def evict(self, lease_ms: int) -> None:
        """Forget the oldest outcomes beyond the window, at lease time, or the count."""
        forgotten = self.first
        while forgotten < self.next:
            row, part = self._tables.find(layout.OUTCOME_ORDER, _pack(forgotten))
            assert row is not None
            age_ms = lease_ms - layout.unpack_number(row[: layout.NUMBER_BYTES])
            held = self.next - forgotten
            if held <= self._limits.idempotency_keys and age_ms <= self._limits.idempotency_window_ms:
                break
            self._rows.drop(layout.OUTCOMES, row[layout.NUMBER_BYTES :])
            self._rows.remove(layout.OUTCOME_ORDER, _pack(forgotten), part)
            forgotten += 1
        if forgotten != self.first:
            self.first = forgotten
            self._tables.put(layout.META, layout.OUTCOME_FIRST, _pack(forgotten))

    def _told(self, operations: tuple[AnyOperation, ...], kept: tuple[KeptResult, ...]) -> tuple[AnyResult, ...]:
        return tuple([self._told_of(*pair) for pair in zip(operations, kept, strict=True)])

    def _told_of(self, operation: AnyOperation, kept: KeptResult) -> AnyResult:
        if isinstance(operation, GetKey | ListRange | CountRange):
            if self._may_read:
                return self._read(operation)
            return Withheld(key=operation.key if isinstance(operation, GetKey) else operation.start)
        if isinstance(kept, KeptTransaction):
            assert isinstance(operation, Transact)
            branch = operation.success if kept.succeeded else operation.failure
            return Transacted(succeeded=kept.succeeded, results=self._told(branch, kept.results))
        return _told(kept)


def _kept(operation: AnyOperation, result: AnyResult) -> KeptResult:  # noqa: C901, PLR0911  one line for each kind
    match result:
        case PutDone():
            return KeptPut(result.version, result.revision)
        case DeleteDone():
            return KeptDelete(result.revision)
        case Mismatch():
            return KeptMismatch(result.revision)
        case Incremented():
            return KeptIncrement(result.value, result.version, result.revision)
        case Touched():
            return KeptTouch(result.expires_at_ms, result.revision)
        case SpanDeleted():
            return KeptSpanDelete(result.count, result.revision)
        case Granted():
            return KeptGrant(result.lease, result.ttl_ms, result.expires_at_ms)
        case Revoked():
            return KeptRevoke(result.count, result.revision)
        case Refused():
            return KeptRefusal(result.code.value)
        case Transacted():
            assert isinstance(operation, Transact)
            branch = operation.success if result.succeeded else operation.failure
            kept = tuple([_kept(*pair) for pair in zip(branch, result.results, strict=True)])
            return KeptTransaction(result.succeeded, kept)
        case Missing() if not isinstance(operation, GetKey):
            return KeptMissing(result.key)
        case _:
            return KeptMissing(b"")


def _told(kept: KeptResult) -> AnyResult:  # noqa: C901, PLR0911  one line for each kind
    match kept:
        case KeptPut():
            return PutDone(version=kept.version, revision=kept.revision)
        case KeptDelete():
            return DeleteDone(revision=kept.revision)
        case KeptMismatch():
            return Mismatch(revision=kept.revision)
        case KeptIncrement():
            return Incremented(value=kept.value, version=kept.version, revision=kept.revision)
        case KeptTouch():
            return Touched(expires_at_ms=kept.expires_at_ms, revision=kept.revision)
        case KeptSpanDelete():
            return SpanDeleted(count=kept.count, revision=kept.revision)
        case KeptGrant():
            return Granted(lease=kept.lease, ttl_ms=kept.ttl_ms, expires_at_ms=kept.expires_at_ms)
        case KeptRevoke():
            return Revoked(count=kept.count, revision=kept.revision)
        case KeptRefusal():
            return refusal(Code(kept.code))
        case KeptMissing():
            return Missing(key=kept.key)
        case KeptTransaction():
            raise AssertionError("what a transaction did is told with its operations")
