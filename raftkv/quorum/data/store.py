"""One replica's data: what it holds of each key, in the order of keys and in the order of the ring, and its hints.

Rules: what a turn changes is staged, and joins of that turn see it; reads see only what ``commit`` has made durable;
one commit is one batch of the engine. How it lies on the disk is ``raftkv.formats.rows``. Nothing here sends, waits or
looks at a clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

from raftkv.core.errors import Code, Refused, StartupError
from raftkv.formats.rows import (
    ACTOR,
    ALIVE,
    CLOCK,
    CONFLICTS,
    DATA,
    HINTS,
    MEMBERS,
    META,
    ORDER,
    POSITION_BYTES,
    PROMISED,
    RIGHTS,
    UNPROVEN,
    Held,
    OrderKey,
    decode_number,
    encode_held,
    encode_number,
    hint_key,
    is_mortal,
    mark_of,
    order_key,
    target_of,
)
from raftkv.formats.versions import KeyState, Seen, Version, encode_state
from raftkv.quorum.data.staged import MAX_ROW_BYTES, ContextAheadError, StagedTable, TooLargeError, state_in
from raftkv.quorum.data.versions import Conflicts, LastWriterWins, visible
from raftkv.quorum.membership.ring import POSITIONS, Range
from raftkv.storage.change_counts import ChangeCounts
from raftkv.storage.disk import DiskError
from raftkv.storage.engines.port import RowChange, StorageEngine

CLOCK_AHEAD_US: Final = 2_000_000
"""The clock mark is written this far ahead, so that it is seldom written. A restart takes the clock there at once, so
it must be far below ``clock_ahead_s``."""

DROPPED_PER_BATCH: Final = 10_000

Joined = tuple[KeyState | None, KeyState]
"""What was held before, and what will be."""

MarkChange = tuple[OrderKey, bytes | None, bytes | None]
"""An order key, and the marks of its state before and now; ``None`` where the key is not held."""


MAX_SIBLINGS_BYTES: Final = 4 << 20
"""No write makes the concurrent values of a key larger: a state, and the union of some, must fit into one message."""


class Store:
    """The data of one replica over an ``StorageEngine``. Any method may raise ``DiskError``.

    After one that says ``full``, what was staged of keys and hints is gone and was acknowledged to nobody, but the
    store goes on; after any other the node must end. What is to be dropped stays while the disk is full.
    """

    def __init__(
        self,
        engine: StorageEngine,
        conflicts: Conflicts,
        *,
        max_siblings: int = 64,
        max_row_bytes: int = MAX_ROW_BYTES,
        counts: ChangeCounts | None = None,
    ) -> None:
        """``max_row_bytes`` of concurrent values fit into a frame, beside a page of others.

        ``counts`` are told of every key that has changed, once that is durable, and are the store's own.

        Raises ``StartupError`` when the data was written with other ``conflicts``.
        """
        self.on_change: Callable[[OrderKey, bytes | None, bytes | None], None] | None = None
        """Told of every ``MarkChange``, once it is durable."""
        self._engine = engine
        self._conflicts = conflicts
        self._max_siblings = max_siblings
        self._counts = counts
        self._data = StagedTable(engine, DATA, conflicts, max_row_bytes)
        self._hints = StagedTable(engine, HINTS, conflicts, max_row_bytes)
        self._meta: dict[bytes, bytes] = {}
        self._is_staged = False
        self._purged: tuple[int, int] = (0, 0)
        self._hint_counts: dict[str, int] = {}
        self._hint_bytes: dict[str, int] = {}
        self.hints_kept_count = 0
        """How many hints this life has come to keep."""
        for row, data in engine.scan(HINTS, b"", None):
            self._count_hint(target_of(row), 1, _hint_size(row, state_in(data)))
        self.clock_mark = decode_number(engine.get(META, CLOCK))
        """No counter up to this one may be given again."""
        self._check_conflicts()
        self.is_unproven = bool(decode_number(engine.get(META, UNPROVEN)))
        """May this node have had data, under another directory, that is not here?"""
        if self.members is None:
            self.is_unproven = True
            self._stage_meta(UNPROVEN, encode_number(1))

    @property
    def changes_path(self) -> str:
        """Where changes are counted; empty if they are not."""
        return "" if self._counts is None else self._counts.path

    # -- what is kept beside the keys

    def actor(self, node_id: str, fresh: Callable[[], str]) -> str:
        """The name of this data directory in version vectors; made of ``fresh()`` when there is none yet."""
        found = self._engine.get(META, ACTOR)
        if found is not None:
            return found.decode()
        name = f"{node_id}~{fresh()}"
        self._engine.commit([(META, ACTOR, name.encode())])
        return name

    def keep_clock_mark(self, last: int) -> None:
        """The clock has come to ``last``: move the mark well ahead of it, with the next commit, when it comes near."""
        if last + CLOCK_AHEAD_US // 2 > self.clock_mark:
            self._stage_meta(CLOCK, encode_number(last + CLOCK_AHEAD_US))

    @property
    def alive_ms(self) -> int | None:
        """When this data was last in service (ms since the epoch); ``None`` for a new directory."""
        found = self._engine.get(META, ALIVE)
        return None if found is None else decode_number(found)

    def keep_alive(self, now_ms: int) -> None:
        """Remember that this data is in service at ``now_ms``; durable with the next commit."""
        self._stage_meta(ALIVE, encode_number(now_ms))

    @property
    def members(self) -> bytes | None:
        """What was last known of the members."""
        return self._engine.get(META, MEMBERS)

    def keep_members(self, encoded: bytes) -> None:
        """Remember the members; durable with the next commit."""
        self._stage_meta(MEMBERS, encoded)

    @property
    def rights(self) -> bytes | None:
        """What was last known of rights."""
        return self._engine.get(META, RIGHTS)

    def keep_rights(self, encoded: bytes) -> None:
        """Remember the rights; durable with the next commit."""
        self._stage_meta(RIGHTS, encoded)

    @property
    def promised(self) -> bytes | None:
        """With what stamp a change of rights was promised to be waited for; ``None`` for a new directory."""
        return self._engine.get(META, PROMISED)

    def keep_promise(self, encoded: bytes) -> None:
        """Remember the promise; durable with the next commit."""
        self._stage_meta(PROMISED, encoded)

    def prove(self) -> None:
        """All that this node is to have is here; remembered with the next commit."""
        self.is_unproven = False
        self._stage_meta(UNPROVEN, encode_number(0))

    # -- writing

    @property
    def has_staged(self) -> bool:
        """Was anything staged since the last commit, even if it changed nothing?"""
        return self._is_staged

    def stage(self, key: bytes, state: KeyState) -> Joined | Refused:
        """Join ``state`` into what is held of ``key``; returns what was held before and what will be.

        A state that is new here, but that the last purge would have dropped, is left out: replicas that purge at
        different times would otherwise give it back to each other for ever.
        """
        self._is_staged = True
        if self._is_forgotten(state) and self._data.standing(key) is None:
            return None, state
        return _join(self._data, key, state)

    def stage_hint(self, target: str, key: bytes, state: KeyState) -> Joined | Refused:
        """Join ``state`` into the hint kept for ``target``; as ``stage``."""
        self._is_staged = True
        return _join(self._hints, hint_key(target, key), state)

    def stage_event(self, key: bytes, version: Version, context: Seen, *, stands_for: str = "") -> Joined | Refused:
        """Let ``version`` happen on what is held of ``key``, or on the hint for ``stands_for``; as ``stage``.

        ``version.node`` is this directory's ``actor``; the version gets the row's own (see ``rows``), and is the one
        with the highest stamp of the state that comes of it if the clock has observed what is held.
        """
        self._is_staged = True
        table, row = (self._hints, hint_key(stands_for, key)) if stands_for else (self._data, key)
        try:
            before, held = table.event(row, version, context)
        except ContextAheadError as error:
            return Refused(code=Code.BAD_REQUEST, detail=str(error))
        count = len(held.state.versions)
        if count > self._max_siblings:
            detail = f"the key has {count - 1} concurrent values already; read it, and write with its context"
            return Refused(code=Code.OVERLOADED, detail=detail)
        size_bytes = sum([len(version.value or b"") for version in held.state.versions])
        if count > 1 and size_bytes > MAX_SIBLINGS_BYTES:
            detail = f"the concurrent values of the key have {size_bytes} bytes; read it, and write with its context"
            return Refused(code=Code.OVERLOADED, detail=detail)
        table.put(row, held)
        return before, held.state

    def drop_hint(self, target: str, key: bytes, encoded: bytes) -> None:
        """``target`` holds this state now: forget the hint, unless it has grown since."""
        self._is_staged = True
        row = hint_key(target, key)
        held = self._hints.standing(row)
        if held is not None and encode_state(held.state) == encoded:
            self._hints.put(row, None)

    def commit(self) -> None:
        """Make everything staged durable, in one batch; free if nothing changed."""
        self._is_staged = False
        data, hints, (meta, self._meta) = self._data.take(), self._hints.take(), (self._meta, {})
        batch: list[RowChange] = []
        changes: list[MarkChange] = []
        for key, before, held in data:
            assert held is not None
            encoded = encode_state(held.state)
            where, mark = order_key(key), mark_of(held.state, encoded)
            before_mark = None
            if before is not None:
                before_mark = mark_of(before.state, before.encoded or encode_state(before.state))
            changes.append((where, before_mark, mark))
            batch += ((DATA, key, encode_held(held, encoded)), (ORDER, where, mark))
        for row, _, held in hints:
            batch.append((HINTS, row, None if held is None else encode_held(held, encode_state(held.state))))
        reached = max((held.state.versions[-1].counter for _, _, held in (*data, *hints) if held), default=0)
        if reached > max(self.clock_mark, decode_number(meta.get(CLOCK))):
            meta[CLOCK] = encode_number(reached + CLOCK_AHEAD_US)
        batch += [(META, name, value) for name, value in meta.items()]
        if not batch:
            return
        try:
            self._engine.commit(batch)
        except DiskError:
            self._meta = meta | self._meta  # for the next commit that finds room
            raise
        self.clock_mark = max(self.clock_mark, decode_number(meta.get(CLOCK)))
        for row, before, held in hints:
            self._hint_changed(row, before, held)
        self._tell(changes)

    # -- reading

    def read(self, key: bytes) -> KeyState | None:
        """What is held of ``key``."""
        data = self._engine.get(DATA, key)
        return None if data is None else state_in(data)

    def read_encoded(self, key: bytes) -> bytes | None:
        """The same, encoded. Where the last writer wins a row is nothing else."""
        data = self._engine.get(DATA, key)
        return data if data is None or self._conflicts.name == LastWriterWins.name else encode_state(state_in(data))

    def read_hint(self, target: str, key: bytes) -> KeyState | None:
        """What is kept of ``key`` for ``target``."""
        data = self._engine.get(HINTS, hint_key(target, key))
        return None if data is None else state_in(data)

    def read_hinted(self, key: bytes) -> KeyState | None:
        """What is kept of ``key`` for others."""
        found: KeyState | None = None
        for target in self._hint_counts:
            state = self.read_hint(target, key)
            if state is not None:
                found = state if found is None else self._conflicts.join(found, state)
        return found

    def scan(self, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, KeyState]]:
        """The keys from ``start`` up to ``end`` in order, tombstones included."""
        for key, data in self._engine.scan(DATA, start, end):
            yield key, state_in(data)

    def scan_order(self, piece: Range, after: OrderKey = b"") -> Iterator[tuple[OrderKey, bytes]]:
        """Order keys and marks of the keys in ``piece``, those after ``after`` only."""
        start = max(piece.start.to_bytes(POSITION_BYTES, "big"), after + b"\0" if after else b"")
        beyond = piece.last + 1
        end = beyond.to_bytes(POSITION_BYTES, "big") if beyond < POSITIONS else None
        return self._engine.scan(ORDER, start, end)

    # -- hints

    @property
    def hints_pending(self) -> int:
        """How many hints are kept for others."""
        return sum(self._hint_counts.values())

    def hint_count(self, target: str) -> int:
        """How many hints are kept for ``target``."""
        return self._hint_counts.get(target, 0)

    def hint_bytes(self, target: str) -> int:
        """How large they are."""
        return self._hint_bytes.get(target, 0)

    def hinted_nodes(self) -> tuple[str, ...]:
        """The nodes that hints are kept for."""
        return tuple(self._hint_counts)

    def hints(self, target: str, limit: int) -> list[tuple[bytes, KeyState]]:
        """The first hints kept for ``target``: keys and states."""
        start = hint_key(target, b"")
        found: list[tuple[bytes, KeyState]] = []
        for row, data in self._engine.scan(HINTS, start, start[:-1] + b"\1"):
            if len(found) == limit:
                break
            if self._hints.rows.get(row, ...) is not None:
                found.append((row[len(start) :], state_in(data)))
        return found

    # -- upkeep

    def purge(self, before_us: int, now_ms: int, after: OrderKey, limit: int) -> OrderKey:
        """Look at ``limit`` keys after ``after``; drop tombstones, and what has expired, stamped before ``before_us``.

        Those that a hint is kept of stay. Returns where to go on; empty once the end was reached.
        """
        self._purged = before_us, now_ms
        dropped: list[tuple[OrderKey, bytes]] = []
        count = 0
        where = b""
        for where, mark in self._engine.scan(ORDER, after + b"\0" if after else b"", None):
            count += 1
            if is_mortal(mark):
                key = where[POSITION_BYTES:]
                state = self.read(key)
                if state is not None and self._is_forgotten(state) and self.read_hinted(key) is None:
                    dropped.append((where, mark))
            if count == limit:
                break
        self._drop(dropped)
        return where if count == limit else b""

    def purge_hints(self, before_us: int, after: bytes, limit: int) -> bytes:
        """Look at ``limit`` hints after ``after`` and forget those stamped before ``before_us``; as ``purge``.

        The deletions in them may have been forgotten by others already.
        """
        count = 0
        row = b""
        for row, data in self._engine.scan(HINTS, after + b"\0" if after else b"", None):
            count += 1
            if row not in self._hints.rows and state_in(data).newest.counter < before_us:
                self._is_staged = True
                self._hints.put(row, None)
            if count == limit:
                break
        return row if count == limit else b""

    def drop_range(self, piece: Range) -> None:
        """Forget every key in ``piece``: others own it, and hold all that is here."""
        dropped: list[tuple[OrderKey, bytes]] = []
        for row in self.scan_order(piece):
            dropped.append(row)
            if len(dropped) == DROPPED_PER_BATCH:
                self._drop(dropped)
                dropped = []
        self._drop(dropped)

    def close(self) -> None:
        """Let go of the files; what is staged is lost, and was acknowledged to nobody."""
        self._engine.close()
        if self._counts is not None:
            self._counts.close()

    # -- within

    def _check_conflicts(self) -> None:
        found, name = self._engine.get(META, CONFLICTS), self._conflicts.name.encode()
        if found is None:
            self._stage_meta(CONFLICTS, name)
        elif found != name:
            raise StartupError(
                f"quorum.conflicts: this data was written with {found.decode()!r}, and cannot be read with "
                f"{self._conflicts.name!r}"
            )

    def _stage_meta(self, name: bytes, value: bytes) -> None:
        self._is_staged = True
        self._meta[name] = value

    def _is_forgotten(self, state: KeyState) -> bool:
        before_us, now_ms = self._purged
        return state.versions[-1].counter < before_us and not visible(state, now_ms)

    def _drop(self, rows: list[tuple[OrderKey, bytes]]) -> None:
        if not rows:
            return
        batch: list[RowChange] = [(ORDER, where, None) for where, _ in rows]
        batch += [(DATA, where[POSITION_BYTES:], None) for where, _ in rows]
        try:
            self._engine.commit(batch)
        except DiskError as error:
            if not error.full:
                raise
            return  # what could not be dropped is dropped another time
        for where, _ in rows:
            self._data.forget(where[POSITION_BYTES:])
        self._tell([(where, mark, None) for where, mark in rows])

    def _tell(self, changes: Sequence[MarkChange]) -> None:
        if self._counts is not None:
            self._counts.changed([where[POSITION_BYTES:] for where, _, _ in changes])
        if self.on_change is not None:
            for where, before, now in changes:
                self.on_change(where, before, now)

    def _hint_changed(self, row: bytes, before: Held | None, held: Held | None) -> None:
        change = (held is not None) - (before is not None)
        size_bytes, before_bytes = [0 if one is None else _hint_size(row, one.state) for one in (held, before)]
        self.hints_kept_count += change > 0
        self._count_hint(target_of(row), change, size_bytes - before_bytes)

    def _count_hint(self, target: str, change: int, grown_bytes: int) -> None:
        count = self._hint_counts.get(target, 0) + change
        if count:
            self._hint_counts[target] = count
            self._hint_bytes[target] = self._hint_bytes.get(target, 0) + grown_bytes
        else:
            self._hint_counts.pop(target, None)
            self._hint_bytes.pop(target, None)


def _hint_size(row: bytes, state: KeyState) -> int:
    return len(row) + len(encode_state(state))


def _join(table: StagedTable, row: bytes, state: KeyState) -> Joined | Refused:
    try:
        return table.join(row, state)
    except TooLargeError as error:
        return Refused(code=Code.OVERLOADED, detail=str(error))
