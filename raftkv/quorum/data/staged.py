"""What a turn has staged over a replica's rows: joins and events, before they are committed together.

The rule about actors: events of a row are made by an actor that belongs to this row and to nothing else, and whose
name is kept in the row only. As long as the row is there it has processed all of that actor's events, and when the row
goes (a hint handed over, a tombstone purged, a range that moved away, a lost disk) its actor is never used again. So no
state can claim to have seen an event that it has forgotten, which would let other replicas drop it (the invariant of
``versions.KeepSiblings``).
"""

from __future__ import annotations

from typing import Final

import msgspec

from raftkv.formats.rows import Held, decode_held
from raftkv.formats.versions import MAX_VERSIONS, KeyState, MalformedStateError, Seen, Version, decode_state
from raftkv.quorum.data.versions import Conflicts
from raftkv.storage.disk import DiskError
from raftkv.storage.engines.overlay import Overlay
from raftkv.storage.engines.port import StorageEngine

MAX_ROW_BYTES: Final = 10 << 20
"""No row holds concurrent values of more where frames are of the shortest length there is: more could not be told to
anybody. The rest of the frame is for a page that a row comes with, for keys, and for who wrote what."""


class ContextAheadError(ValueError):
    """A causal context names events that have not happened; no read gave it."""


class TooLargeError(ValueError):
    """A row would hold more than one may."""


def held_in(data: bytes) -> Held:
    """Read a row of the disk; raises ``DiskError``."""
    try:
        return decode_held(data)
    except MalformedStateError as error:
        raise _undecodable(error) from None


def state_in(data: bytes) -> KeyState:
    """Read the state of a row of the disk; raises ``DiskError``."""
    try:
        return decode_state(data)
    except MalformedStateError as error:
        raise _undecodable(error) from None


def _undecodable(error: MalformedStateError) -> DiskError:
    return DiskError(f"a state on the disk does not decode: {error}")


class StagedTable(Overlay[Held]):
    """What a turn has staged in ``data`` or ``hints``, over what is committed."""

    def __init__(self, engine: StorageEngine, table: bytes, conflicts: Conflicts, max_row_bytes: int) -> None:
        super().__init__()
        self._engine = engine
        self._table = table
        self._conflicts = conflicts
        self._max_row_bytes = max_row_bytes
        self._committed: dict[bytes, Held | None] = {}

    def committed(self, row: bytes) -> Held | None:
        """What the disk has in ``row``; read once in a turn."""
        if row not in self._committed:
            data = self._engine.get(self._table, row)
            self._committed[row] = None if data is None else held_in(data)
        return self._committed[row]

    def standing(self, row: bytes) -> Held | None:
        """What the commit will leave in ``row``, as far as it is known now."""
        return self.rows[row] if row in self.rows else self.committed(row)

    def join(self, row: bytes, state: KeyState) -> tuple[KeyState | None, KeyState]:
        """Join ``state`` into ``row``; returns what stood there and what stands there now. Raises ``TooLargeError``."""
        held = self.standing(row)
        if held is None:
            _check_size(state, self._max_row_bytes)
            self.put(row, Held(state))
            return None, state
        now = self._conflicts.join(held.state, state)
        if now != held.state:
            _check_size(now, self._max_row_bytes)
            self.put(row, Held(now, held.actor))
        return held.state, now

    def event(self, row: bytes, version: Version, context: Seen) -> tuple[KeyState | None, Held]:
        """What ``row`` holds, and what it holds once ``version`` has happened on it; nothing is staged.

        The version's node becomes the row's actor: its own name with the counter of the row's first event.
        Raises ``ContextAheadError``.
        """
        held = self.standing(row)
        actor, seen = "" if held is None else held.actor, () if held is None else held.state.seen
        # The data directory has another name when it was restored from a copy, which has forgotten events as well.
        is_ours = actor.startswith(f"{version.node}~")
        if not is_ours or _reach(seen, actor) >= version.counter:
            actor = f"{version.node}~{version.counter:x}"
        if max(_reach(context, actor), _reach(seen, actor)) >= version.counter:
            raise ContextAheadError(f"the context names events of {actor} that have not happened")
        version = msgspec.structs.replace(version, node=actor)
        before = None if held is None else held.state
        return before, Held(self._conflicts.write(before, version, context), actor)

    def forget(self, row: bytes) -> None:
        """``row`` was removed from the disk without being staged."""
        self._committed.pop(row, None)

    def take(self) -> list[tuple[bytes, Held | None, Held | None]]:
        """Rows as they are on the disk and as they are to be, for all that changes; afterwards nothing is staged."""
        changes = [(row, self.committed(row), held) for row, held in self.rows.items()]
        self.clear()
        self._committed = {}
        return [change for change in changes if change[1] is not change[2]]


def _check_size(state: KeyState, max_row_bytes: int) -> None:
    """What peers bring must not add up without end: a row that can be written can be read, and held in memory."""
    versions = state.versions
    if len(versions) == 1 and len(state.seen) <= MAX_VERSIONS:
        return
    size_bytes = sum([len(version.value or b"") for version in versions])
    if max(len(versions), len(state.seen)) > MAX_VERSIONS or size_bytes > max_row_bytes:
        raise TooLargeError(f"{len(versions)} concurrent values with {size_bytes} bytes are more than a row may hold")


def _reach(seen: Seen, actor: str) -> int:
    return next((counter for name, counter in seen if name == actor), 0)
