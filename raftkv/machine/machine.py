"""The state machine: applies one command after another to its tables.

Rules: ``apply`` is deterministic and total (it raises only for a command format from the future, upon which the node
must stop); it does not commit the tables, its caller does; applying an index a second time is refused by assertion,
because the tables already carry the index they stand at. What a command reads is told to nobody but its proposer, up
to a number of bytes, and changes nothing: no command, of this log or an older one, makes a node build more than that.
Every change of a row goes through ``raftkv.machine.rows``, which keeps the sum by which replicas are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from raftkv.core.pages import ANSWER_BYTES
from raftkv.core.requests import ANY, Match
from raftkv.core.results import Configured, DeleteDone, Mismatch, Missing, OperationResult, PutDone, Withheld, Written
from raftkv.formats import entries, layout
from raftkv.formats.commands import Command, ConfigureCommand, DeleteKey, GetKey, KeyOperation, PutKey, WriteCommand
from raftkv.formats.outcomes import (
    KeptDelete,
    KeptMismatch,
    KeptMissing,
    KeptOutcome,
    KeptPut,
    KeptResult,
    KeptWrite,
    decode_outcome,
    encode_outcome,
    fingerprint_of,
)
from raftkv.formats.seals import state_hash_of
from raftkv.machine.reading import Answers
from raftkv.machine.rows import SummedRows
from raftkv.storage.state.tables import StateTables

EXPIRIES_PER_COMMAND = 1_000
"""How many expired keys one command removes at most, so that applying stays short; the next command goes on."""

NEVER_MS = (1 << 64) - 1

REUSED_KEY = "the Idempotency-Key was used before, for a different request"

_pack = layout.pack_number


class MachineLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How long and how many outcomes are kept for retries. Part of the replicated rules: equal on every node."""

    idempotency_window_ms: int = 3_600_000
    idempotency_keys: int = 100_000


CommandOutcome = Written | Configured


class AppliedCommand(msgspec.Struct, frozen=True, kw_only=True):
    """What one entry did: one outcome for each of its commands, in order."""

    origin: int
    sequence: int
    outcomes: tuple[CommandOutcome, ...]


class Machine:
    """The key-value machine over ``tables``, whose last applied index it takes up again."""

    def __init__(self, tables: StateTables, limits: MachineLimits, *, newest_format: int = entries.NEWEST) -> None:
        """``newest_format``: later commands are from the future, as for whoever greets with it."""
        self._tables = tables
        self._newest_format = newest_format
        self.rows = SummedRows(tables)
        self._limits = limits
        self.applied_index = self._number(layout.APPLIED_INDEX)
        self.applied_term = self._number(layout.APPLIED_TERM)
        self.revision = self._number(layout.REVISION)
        self._clock_ms = self._number(layout.CLOCK_MS)
        self._outcome_first = self._number(layout.OUTCOME_FIRST)
        self._outcome_next = self._number(layout.OUTCOME_NEXT)
        self._room_bytes = 0
        self._none_is_due = False
        self._due_from_ms = 0
        self._answers = Answers(0)
        self.sizes = (self._number(layout.READ_SIZE), self._number(layout.WRITE_SIZE))
        """R and W of requests that name none; 0 where nobody has ever set it."""
        self._handlers: Mapping[type[Command], Callable[[Any], CommandOutcome]] = {
            WriteCommand: self._write,
            ConfigureCommand: self._configure,
        }

    def over(self, tables: StateTables) -> Machine:
        """A machine like this one, over other tables."""
        return Machine(tables, self._limits, newest_format=self._newest_format)

    @property
    def clock_ms(self) -> int:
        """The latest stamp applied, in milliseconds since the epoch."""
        return self._clock_ms

    @property
    def state_hash(self) -> int:
        """A 62-bit hash of all that the machine holds at ``applied_index``: equal on replicas that applied the same."""
        numbers = (self.revision, self._clock_ms, self._outcome_first, self._outcome_next, *self.sizes)
        return state_hash_of(self.rows.total, *numbers)

    def apply(
        self,
        index: int,
        term: int,
        command: bytes | memoryview,
        *,
        told: int | None = None,
        room_bytes: int = ANSWER_BYTES,
    ) -> AppliedCommand | None:
        """Apply what stands at log ``index`` of ``term``; ``None`` when it is malformed and was skipped.

        What it reads is answered, up to about ``room_bytes`` in all, if its origin is ``told`` (``None``: any);
        otherwise it is withheld. Raises ``UnsupportedCommandError`` for a command format from the future.
        """
        decoded = entries.decode(command, self._newest_format)
        if decoded is None:
            self.skip(index, term)
            return None
        now_ms, batch = decoded
        self._clock_ms = max(self._clock_ms, now_ms)
        self._room_bytes = room_bytes if told is None or told == batch.origin else 0
        self._expire()
        handlers = self._handlers
        outcomes = tuple([handlers[type(one)](one) for one in batch.commands])
        self._evict_outcomes()
        put, meta = self._tables.put, layout.META
        self.rows.store_sum()
        put(meta, layout.REVISION, _pack(self.revision))
        put(meta, layout.CLOCK_MS, _pack(self._clock_ms))
        self.skip(index, term)
        return AppliedCommand(origin=batch.origin, sequence=batch.sequence, outcomes=outcomes)

    def skip(self, index: int, term: int) -> None:
        """Pass over an entry that is no command of ours (an election's no-op)."""
        assert index == self.applied_index + 1 or self.applied_index == 0
        self.applied_index, self.applied_term = index, term
        self._tables.put(layout.META, layout.APPLIED_INDEX, _pack(index))
        self._tables.put(layout.META, layout.APPLIED_TERM, _pack(term))

    def next_expiry_ms(self) -> int | None:
        """When the next key expires, in milliseconds since the epoch; the leader then proposes an empty command."""
        for row, _ in self._tables.scan(layout.EXPIRY, b"", None):
            return layout.unpack_number(row[: layout.NUMBER_BYTES])
        return None

    def _number(self, name: bytes) -> int:
        return layout.unpack_number(self._tables.get(layout.META, name))

    def _expire(self) -> None:
        """Remove what is due, if anything can be: none expires before ``_due_from_ms``."""
        self._none_is_due = True
        if self._clock_ms < self._due_from_ms:
            return
        due: list[bytes] = []
        self._due_from_ms = NEVER_MS
        for row, _ in self._tables.scan(layout.EXPIRY, b"", None):
            expires_at_ms = layout.unpack_number(row[: layout.NUMBER_BYTES])
            if expires_at_ms > self._clock_ms or len(due) == EXPIRIES_PER_COMMAND:
                self._due_from_ms = expires_at_ms
                break
            due.append(row)
        self._none_is_due = self._clock_ms < self._due_from_ms
        for row in due:
            self.revision += 1
            self.rows.remove_empty(layout.EXPIRY, row)
            self.rows.drop(layout.KEYS, row[layout.NUMBER_BYTES :])

    def _configure(self, command: ConfigureCommand) -> Configured:
        """How many replicas there are is no affair of the machine: ``n`` is told as 0."""
        self.sizes = (command.r, command.w)
        self._tables.put(layout.META, layout.READ_SIZE, _pack(command.r))
        self._tables.put(layout.META, layout.WRITE_SIZE, _pack(command.w))
        return Configured(n=0, r=command.r, w=command.w)

    def _write(self, command: WriteCommand) -> Written:
        answers = self._answers
        answers.begin(min(ANSWER_BYTES, self._room_bytes))
        if command.idempotency_key is None:
            written = self._operate_all(command)
        else:
            written = self._write_once(command, command.idempotency_key.encode())
        self._room_bytes -= answers.size_bytes
        return written

    def _operate_all(self, command: WriteCommand) -> Written:
        results = tuple([self._operate(operation) for operation in command.operations])
        return Written(results=results, revision=self.revision, acks=0)

    def _write_once(self, command: WriteCommand, name: bytes) -> Written:
        """Apply a write that carries an idempotency key, or return what it did the first time."""
        fingerprint = fingerprint_of(command.operations)
        row = self._tables.get(layout.OUTCOMES, name)
        if row is not None:
            stored = decode_outcome(row)
            if stored.fingerprint != fingerprint:
                return Written(results=(), revision=self.revision, acks=0, refused=REUSED_KEY)
            return self._repeat(command, stored.written)
        written = self._operate_all(command)
        results = tuple([_kept(*pair) for pair in zip(command.operations, written.results, strict=True)])
        kept = KeptOutcome(fingerprint, KeptWrite(results, written.revision))
        order = _pack(self._outcome_next)
        self.rows.put(layout.OUTCOMES, name, encode_outcome(kept))
        self.rows.put(layout.OUTCOME_ORDER, order, _pack(self._clock_ms) + name)
        self._outcome_next += 1
        self._tables.put(layout.META, layout.OUTCOME_NEXT, _pack(self._outcome_next))
        return written

    def _repeat(self, command: WriteCommand, first: KeptWrite) -> Written:
        """Nothing is done again; what reads find is read anew."""
        results = [
            self._operate(operation) if isinstance(operation, GetKey) else _told(kept)
            for operation, kept in zip(command.operations, first.results, strict=True)
        ]
        return Written(results=tuple(results), revision=first.revision, acks=0)

    def _evict_outcomes(self) -> None:
        """Forget the oldest outcomes beyond the window or the count; both are judged by the log alone."""
        forgotten = self._outcome_first
        while forgotten < self._outcome_next:
            row, part = self._tables.find(layout.OUTCOME_ORDER, _pack(forgotten))
            assert row is not None
            age_ms = self._clock_ms - layout.unpack_number(row[: layout.NUMBER_BYTES])
            held = self._outcome_next - forgotten
            if held <= self._limits.idempotency_keys and age_ms <= self._limits.idempotency_window_ms:
                break
            self.rows.drop(layout.OUTCOMES, row[layout.NUMBER_BYTES :])
            self.rows.remove(layout.OUTCOME_ORDER, _pack(forgotten), part)
            forgotten += 1
        if forgotten != self._outcome_first:
            self._outcome_first = forgotten
            self._tables.put(layout.META, layout.OUTCOME_FIRST, _pack(forgotten))

    def _operate(self, operation: KeyOperation) -> OperationResult:
        if isinstance(operation, GetKey) and self._answers.is_full and self._none_is_due:
            return Withheld(key=operation.key)  # reading it would tell nobody anything, and could remove nothing
        row, part = self._tables.find(layout.KEYS, operation.key)
        if row is not None:
            version, create_revision, mod_revision, expires_at_ms = layout.unpack_header(row)
            if 0 < expires_at_ms <= self._clock_ms:
                self._remove(operation.key, expires_at_ms, part)
                row, part = None, 0
        if isinstance(operation, GetKey):
            return Missing(key=operation.key) if row is None else self._answers.found(operation.key, row)
        if row is None:
            version = create_revision = mod_revision = expires_at_ms = 0
        if not _matches(operation.match, mod_revision):
            return Mismatch(revision=mod_revision)
        if isinstance(operation, DeleteKey):
            if row is None:
                return Missing(key=operation.key)
            self._remove(operation.key, expires_at_ms, part)
            return DeleteDone(revision=self.revision)
        return self._put(operation, version, create_revision, expires_at_ms, part)

    def _put(self, operation: PutKey, version: int, create_revision: int, expires_at_ms: int, replaced: int) -> PutDone:
        self.revision += 1
        if expires_at_ms:
            self.rows.remove_empty(layout.EXPIRY, _pack(expires_at_ms) + operation.key)
        expires_at_ms = self._clock_ms + operation.ttl_ms if operation.ttl_ms else 0
        if expires_at_ms:
            self.rows.put(layout.EXPIRY, _pack(expires_at_ms) + operation.key, b"")
            self._due_from_ms = min(self._due_from_ms, expires_at_ms)
        row = layout.pack_record(
            version + 1, create_revision or self.revision, self.revision, expires_at_ms, operation.value
        )
        self.rows.put(layout.KEYS, operation.key, row, replaced=replaced)
        return PutDone(version=version + 1, revision=self.revision)

    def _remove(self, key: bytes, expires_at_ms: int, part: int) -> None:
        self.revision += 1
        if expires_at_ms:
            self.rows.remove_empty(layout.EXPIRY, _pack(expires_at_ms) + key)
        self.rows.remove(layout.KEYS, key, part)


def _kept(operation: KeyOperation, result: OperationResult) -> KeptResult:
    match result:
        case PutDone():
            return KeptPut(result.version, result.revision)
        case DeleteDone():
            return KeptDelete(result.revision)
        case Mismatch():
            return KeptMismatch(result.revision)
        case _:
            return KeptMissing(b"" if isinstance(operation, GetKey) else operation.key)


def _told(kept: KeptResult) -> OperationResult:
    match kept:
        case KeptPut():
            return PutDone(version=kept.version, revision=kept.revision)
        case KeptDelete():
            return DeleteDone(revision=kept.revision)
        case KeptMismatch():
            return Mismatch(revision=kept.revision)
        case KeptMissing():
            return Missing(key=kept.key)


def _matches(match: Match | None, mod_revision: int) -> bool:
    """Does a key at ``mod_revision`` (0: it does not exist) meet the precondition?"""
    if match is None:
        return True
    if match == ANY:
        return mod_revision != 0
    if isinstance(match, tuple):
        return mod_revision in match
    return match == mod_revision
