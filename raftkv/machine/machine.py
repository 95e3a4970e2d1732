"""The state machine: applies one command after another to its tables.

Rules: ``apply`` is deterministic and total (it raises only for a command format from the future, upon which the node
must stop); it does not commit the tables, its caller does; applying an index a second time is refused by assertion,
because the tables already carry the index they stand at. What a command reads is told to nobody but its proposer, up
to a number of bytes, and changes nothing: no command, of this log or an older one, makes a node build more than that.
Every change of a row goes through ``raftkv.machine.rows``, which keeps the sum by which replicas are compared; every
change of a key through ``raftkv.machine.changes``. While authentication is on, what a client asks for is done only if
the command says who asks, and ``raftkv.machine.judging`` finds nothing against it; else all of it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from raftkv.core.errors import KEEPS_NO_HISTORY, Refused
from raftkv.core.judgement import of_caller
from raftkv.core.pages import ANSWER_BYTES
from raftkv.core.results import Compacted, Configured, HistoryAhead, HistoryGone, KeptAlive, Written
from raftkv.core.rights import NOBODY, Caller, Rights
from raftkv.formats import entries, layout
from raftkv.formats.commands import (
    AdoptCommand,
    AnyOperation,
    CallersCommand,
    Command,
    CompactCommand,
    ConfigureCommand,
    KeepAliveCommand,
    LeaseTimeCommand,
    OperateCommand,
    WriteCommand,
)
from raftkv.formats.outcomes import name_of
from raftkv.formats.seals import state_hash_of
from raftkv.machine.changes import Changes
from raftkv.machine.history import ChangeHistory
from raftkv.machine.judging import Judge
from raftkv.machine.lease_rows import LeaseRows
from raftkv.machine.leases import Leases, lease_of
from raftkv.machine.operations import Operations
from raftkv.machine.repeats import RepeatLimits, Repeats
from raftkv.machine.rows import SummedRows
from raftkv.storage.state.tables import StateTables

EXPIRIES_PER_COMMAND = 1_000
"""How many keys one command removes, give or take one lease's, so that applying stays short; the next goes on."""

NEVER_MS = (1 << 64) - 1

_pack = layout.pack_number

CommandOutcome = Written | Configured | KeptAlive | Compacted | HistoryGone | HistoryAhead | Refused
Handlers = Mapping[type[Command], Callable[[Any], CommandOutcome]]


class AppliedCommand(msgspec.Struct, frozen=True, kw_only=True):
    """What one entry did: one outcome for each of its commands, in order."""

    origin: int
    sequence: int
    outcomes: tuple[CommandOutcome, ...]


class Machine:
    """The key-value machine over ``tables``, whose last applied index it takes up again."""

    def __init__(self, tables: StateTables, limits: RepeatLimits, *, newest_format: int = entries.NEWEST) -> None:
        """``newest_format``: later commands are from the future, as for whoever greets with it."""
        self._tables = tables
        self._newest_format = newest_format
        self._limits = limits
        self.rows = SummedRows(tables)
        self.history = ChangeHistory(tables, self.rows)
        numbers = self.history.numbers
        self.adopted = AdoptCommand(numbers.events_max, numbers.age_max_ms, numbers.bytes_max)
        """The bounds of history; of no events where none is kept."""

        self._lease_rows = LeaseRows(tables, self.rows)
        self._changes = Changes(tables, self.rows, self.history, self._lease_rows)
        self._leases = Leases(tables, self._lease_rows, self._changes)
        self._operations = Operations(tables, self._changes, self._leases)
        self._repeats = Repeats(tables, self.rows, limits, read=self._operations.do)
        self._judge = Judge(tables)
        self.applied_index = self._number(layout.APPLIED_INDEX)
        self.applied_term = self._number(layout.APPLIED_TERM)
        self._room_bytes = 0
        self.sizes = (self._number(layout.READ_SIZE), self._number(layout.WRITE_SIZE))
        """R and W of requests that name none; 0 where nobody has ever set it."""
        self._asked: Handlers = {
            WriteCommand: self._write,
            ConfigureCommand: self._configure,
            OperateCommand: self._operate,
            KeepAliveCommand: self._keep_alive,
            CompactCommand: self._compact,
        }
        self._own: Handlers = {
            AdoptCommand: self._adopt,
            LeaseTimeCommand: self._leapt,
            CallersCommand: self._judged,
        }
        self._handlers = self._all_handlers()

    def over(self, tables: StateTables) -> Machine:
        """A machine like this one, over other tables."""
        return Machine(tables, self._limits, newest_format=self._newest_format)

    @property
    def rights(self) -> Rights:
        """Who may do what in this state."""
        return self._judge.rights

    @property
    def revision(self) -> int:
        """The store's: that of the last change."""
        return self._changes.revision

    @property
    def clock_ms(self) -> int:
        """The latest stamp applied, in milliseconds since the epoch."""
        return self._changes.clock_ms

    @property
    def lease_ms(self) -> int:
        """Lease time, by which leases end: the clock without its leaps."""
        return self._leases.now_ms

    @property
    def leapt_ms(self) -> int:
        """How much further the clock has come than lease time, by leaps."""
        return self._leases.leapt_ms

    @property
    def has_leases(self) -> bool:
        """Is there any lease?"""
        return any(True for _ in self._tables.scan(layout.LEASES, b"", None))

    @property
    def state_hash(self) -> int:
        """A 62-bit hash of all that the machine holds at ``applied_index``: equal on replicas that applied the same."""
        repeats = self._repeats
        numbers = (self.revision, self.clock_ms, repeats.first, repeats.next, *self.sizes)
        more = b""
        if self.history.is_kept or self._leases.leapt_ms:
            more = self.history.packed + _pack(self._lease_rows.next_lease) + _pack(self._leases.leapt_ms)
        return state_hash_of(self.rows.total, *numbers, more=more)

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
        changes = self._changes
        before_ms = changes.clock_ms
        changes.clock_ms = max(before_ms, now_ms)
        if batch.commands and type(batch.commands[0]) is LeaseTimeCommand:
            self._leases.leap(before_ms - self._leases.leapt_ms, batch.commands[0].lease_ms)
        self._room_bytes = room_bytes if told is None or told == batch.origin else 0
        self._expire()
        outcomes = []
        for one in batch.commands:
            outcomes.append(self._handlers[type(one)](one))
            if changes.has_changed_rights:
                self._learn_rights()
        self._repeats.evict(self.lease_ms)
        self.history.finish(changes.clock_ms)
        put, meta = self._tables.put, layout.META
        self.rows.store_sum()
        put(meta, layout.REVISION, _pack(changes.revision))
        put(meta, layout.CLOCK_MS, _pack(changes.clock_ms))
        self.skip(index, term)
        return AppliedCommand(origin=batch.origin, sequence=batch.sequence, outcomes=tuple(outcomes))

    def skip(self, index: int, term: int) -> None:
        """Pass over an entry that is no command of ours (an election's no-op)."""
        assert index == self.applied_index + 1 or self.applied_index == 0
        if term != self.applied_term:
            self._tables.put(layout.META, layout.APPLIED_TERM, _pack(term))
        self._tables.put(layout.META, layout.APPLIED_INDEX, _pack(index))
        self.applied_index, self.applied_term = index, term

    def next_expiry_ms(self) -> int | None:
        """When a key or lease comes due next, in ms since the epoch; the leader then proposes an empty command."""
        for row, _ in self._tables.scan(layout.EXPIRY, b"", None):
            return layout.unpack_number(row[: layout.NUMBER_BYTES])
        return None

    def _number(self, name: bytes) -> int:
        return layout.unpack_number(self._tables.get(layout.META, name))

    def _expire(self) -> None:
        """Remove what is due, if anything can be: nothing comes due before ``due_from_ms``."""
        changes = self._changes
        self._operations.reads_nothing_due = True
        if changes.clock_ms < changes.due_from_ms:
            return
        due: list[bytes] = []
        left = EXPIRIES_PER_COMMAND
        changes.due_from_ms = NEVER_MS
        for row, _ in self._tables.scan(layout.EXPIRY, b"", None):
            at_ms = layout.unpack_number(row[: layout.NUMBER_BYTES])
            if at_ms > changes.clock_ms or left <= 0:
                changes.due_from_ms = at_ms
                break
            due.append(row)
            lease = lease_of(row)
            left -= 1 if lease is None else 1 + self._leases.key_count(lease)
        self._operations.reads_nothing_due = changes.clock_ms < changes.due_from_ms
        changes.begin()
        for row in due:
            lease = lease_of(row)
            if lease is not None:
                self._leases.due(lease)
                continue
            key = row[layout.NUMBER_BYTES :]
            standing = changes.standing(key)
            assert standing is not None
            changes.remove(key, standing, expired=True)

    def _learn_rights(self) -> None:
        """Judge what comes next by what the state says now, and let readers know that it has changed."""
        self._changes.has_changed_rights = False
        self._tables.put(layout.META, layout.RIGHTS, _pack(self.revision))
        self._judge.learn()
        self._handlers = self._all_handlers()

    def _all_handlers(self) -> Handlers:
        """Once authentication is on, nothing that a client asks for is done without a word of who asks."""
        asked = dict.fromkeys(self._asked, self._unsaid) if self.rights.enabled else self._asked
        return {**asked, **self._own}

    def _unsaid(self, _command: Command) -> CommandOutcome:
        refusal = of_caller(self.rights, NOBODY)
        assert refusal is not None
        return refusal

    def _judged(self, command: CallersCommand) -> CommandOutcome:
        caller, asked = Caller(command.user, command.generation), command.command
        refusal = self._judge.refusal(caller, asked)
        if isinstance(asked, WriteCommand | OperateCommand) and asked.idempotency_key is not None:
            return self._write_once(asked, asked.idempotency_key, caller, refusal)
        return self._asked[type(asked)](asked) if refusal is None else refusal

    def _configure(self, command: ConfigureCommand) -> Configured:
        """How many replicas there are is no affair of the machine: ``n`` is told as 0."""
        self.sizes = (command.r, command.w)
        self._tables.put(layout.META, layout.READ_SIZE, _pack(command.r))
        self._tables.put(layout.META, layout.WRITE_SIZE, _pack(command.w))
        return Configured(n=0, r=command.r, w=command.w)

    def _operate(self, command: OperateCommand) -> CommandOutcome:
        return self._write(command) if self.history.is_kept else KEEPS_NO_HISTORY

    def _write(self, command: WriteCommand | OperateCommand) -> CommandOutcome:
        if command.idempotency_key is not None:
            return self._write_once(command, command.idempotency_key, NOBODY, None)
        self._begin_write()
        return self._do_all(command.operations)

    def _write_once(
        self, command: WriteCommand | OperateCommand, key: str, caller: Caller, refusal: Refused | None
    ) -> CommandOutcome:
        """Whoever has lost a right is still told what it did by it, but nothing else."""
        if isinstance(command, OperateCommand) and not self.history.is_kept:
            return KEEPS_NO_HISTORY
        if refusal is not None and not self.rights.knows(caller):
            return refusal
        self._begin_write()
        name, operations, may_read = name_of(caller, key), command.operations, refusal is None
        first = self._repeats.first_time(name, operations, self.revision, may_read=may_read)
        if refusal is not None and (first is None or first.refused is not None):
            return refusal
        if first is not None:
            self._room_bytes -= self._operations.answers.size_bytes
            return first
        written = self._do_all(operations)
        self._repeats.keep(name, operations, written, self.lease_ms)
        return written

    def _begin_write(self) -> None:
        self._operations.answers.begin(min(ANSWER_BYTES, self._room_bytes))
        self._operations.begin()

    def _do_all(self, operations: tuple[AnyOperation, ...]) -> Written:
        do = self._operations.do
        results = tuple([do(operation) for operation in operations])
        self._room_bytes -= self._operations.answers.size_bytes
        return Written(results=results, revision=self.revision, acks=0)

    def _keep_alive(self, command: KeepAliveCommand) -> KeptAlive | Refused:
        if not self.history.is_kept:
            return KEEPS_NO_HISTORY
        return KeptAlive(leases=tuple([self._leases.keep_alive(lease) for lease in command.leases]))

    def _leapt(self, _command: LeaseTimeCommand) -> Compacted:
        """Nothing more: it was heeded before anything could end."""
        return Compacted(compacted_revision=self.history.numbers.compacted)

    def _compact(self, command: CompactCommand) -> CommandOutcome:
        if not self.history.is_kept:
            return KEEPS_NO_HISTORY
        oldest = self.history.numbers.compacted
        if command.revision > self.revision:
            return HistoryAhead(revision=self.revision)
        if command.revision < oldest:
            return HistoryGone(compacted_revision=oldest)
        self.history.compact(command.revision)
        return Compacted(compacted_revision=command.revision)

    def _adopt(self, command: AdoptCommand) -> Compacted:
        self.history.adopt(
            self.revision, events_max=command.events, age_max_ms=command.age_ms, bytes_max=command.size_bytes
        )
        self.adopted = command
        return Compacted(compacted_revision=self.history.numbers.compacted)
