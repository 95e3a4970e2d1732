"""Starting from what the disk holds: log, newest snapshot, and the state, which is only a cache of the two.

The log and the snapshot decide. The state is taken up when it can be trusted (``raftkv.storage.state.trust``) and lies
on the log's line; otherwise it is thrown away and rebuilt from the snapshot, and the log is applied again on top. A
log that does not continue the newest snapshot is cut to begin exactly there: the crash came between installing the one
and cutting the other (11). Whatever contradicts itself is refused, never repaired by guessing.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from raftkv.core.errors import StartupError
from raftkv.formats import layout
from raftkv.formats.segments import Entry
from raftkv.formats.snapshots import Manifest
from raftkv.process.loggers import get_logger
from raftkv.raft.snapshots.transfer import base_entries, holds
from raftkv.storage.disk import RealDisk, remove_file, translated
from raftkv.storage.engines.lmdb import LmdbEngine
from raftkv.storage.engines.port import DamagedState, TableReader
from raftkv.storage.log import extent
from raftkv.storage.log.log import Log
from raftkv.storage.log.recovery import Recovered
from raftkv.storage.removal import remove_directory_aside
from raftkv.storage.snapshots.files import SnapshotFiles
from raftkv.storage.state.tables import StateTables
from raftkv.storage.state.trust import close_cleanly, distrust, is_trustworthy, open_state

log_line = get_logger("raftkv.raft")


class AppliedGeneration:
    """The applied state of this node: one generation of tables at a time, each in a directory of its own."""

    def __init__(self, engine: LmdbEngine) -> None:
        self._engine = engine
        self.tables = _tables_of(engine)

    @property
    def directory(self) -> Path:
        """Where the generation in use lies."""
        return self._engine.directory

    def fresh_directory(self) -> Path:
        """Where the next generation goes."""
        return self.directory.with_name(f"{int(self.directory.name) + 1:08d}")

    def switch(self, directory: Path) -> None:
        """Take up the generation in ``directory`` and drop the one before."""
        self._engine.close()
        self.discard(self.directory)
        self._engine = open_state(directory, layout.TABLES)
        self.tables = _tables_of(self._engine)

    def discard(self, directory: Path) -> None:
        """Remove a generation; readers that still map it keep what they see."""
        remove_directory_aside(directory)

    def close(self) -> None:
        """End; the state may be trusted at the next start."""
        close_cleanly(self._engine)


def _tables_of(engine: LmdbEngine) -> StateTables:
    return StateTables(engine, layout.TABLES, engine.directory)


def discard_data(home: Path) -> None:
    """Throw away log, snapshots and state under ``home``, all that a repair fetches anew; may be begun again."""
    for directory in (home / "state").glob("*"):
        distrust(directory)  # its name is not used again, so its removal is left to ``recover_state``
    with translated(home):
        for name in ("snapshots", "log"):
            if (home / name).exists():
                shutil.rmtree(home / name)
    remove_file(extent.path_of(home / "log"))
    RealDisk().sync_directory(home)


def recover_log(log: Log, newest: Manifest | None) -> None:
    """Make the log begin no later than the newest snapshot ends; raises ``StartupError`` on a gap."""
    if not goes_on(log.entries, newest):
        assert newest is not None
        log.reset(*base_entries(newest))


def goes_on(entries: Sequence[Entry], newest: Manifest | None) -> bool:
    """Do the entries of a log go on from its newest snapshot, or does that stand for all of them?

    Raises ``StartupError`` when some between the two are missing.
    """
    if not entries:
        return newest is None
    first_index, last_index = entries[0][1], entries[-1][1]
    if newest is None:
        if first_index > 1:
            raise StartupError(f"the log begins at entry {first_index}, but there is no snapshot before it")
        return True
    if first_index > newest.index:
        raise StartupError(f"the log begins at entry {first_index}, but the newest snapshot ends at {newest.index}")
    return newest.index <= last_index and entries[newest.index - first_index][2] == newest.term


def behind(log: Recovered, newest: Manifest | None) -> Sequence[Entry]:
    """The entries to apply on top of the newest snapshot where nobody is left to say which of them are committed: all.

    What was committed a node hears only later from its leader (Raft, section 5.3), so ``log.commit_index`` says nothing
    of the entries beyond it: any of them may have been acknowledged. Raises as ``goes_on``.
    """
    if not goes_on(log.entries, newest):
        return ()
    return log.entries if newest is None else log.entries[newest.index - log.entries[0][1] + 1 :]


def recover_state(home: Path, log: Log, snapshots: SnapshotFiles) -> AppliedGeneration:
    """Open the state under ``home``, or rebuild it from the newest snapshot."""
    home.mkdir(parents=True, exist_ok=True)
    generations = sorted(path for path in home.iterdir() if path.name.isdigit())
    newest = snapshots.newest
    for directory in reversed(generations):
        engine = _usable(directory, log, newest)
        if engine is not None:
            for other in generations:
                if other != directory:
                    shutil.rmtree(other, ignore_errors=True)
            return AppliedGeneration(engine)
    for directory in generations:
        shutil.rmtree(directory, ignore_errors=True)
    # Another name each time: LMDB refuses one that this process may still have open.
    directory = home / f"{int(generations[-1].name) + 1 if generations else 1:08d}"
    engine = open_state(directory, layout.TABLES)
    if newest is not None:
        snapshots.load_now(newest, engine)
    return AppliedGeneration(engine)


def _usable(directory: Path, log: Log, newest: Manifest | None) -> LmdbEngine | None:
    """The state in ``directory`` if they can be trusted and lie between the newest snapshot and the log's end."""
    if not is_trustworthy(directory):
        return None
    try:
        engine = open_state(directory, layout.TABLES)
    except DamagedState as error:
        log_line.warning("state rebuilt", reason=str(error))
        return None
    tables = _tables_of(engine)
    try:
        if is_on_the_line(tables, log, newest):
            return engine
        check_end(tables, log.last_index)
    except DamagedState as error:
        log_line.warning("state rebuilt", reason=str(error))
    except StartupError:
        engine.close()
        raise
    engine.close()
    return None


def check_end(tables: TableReader, last_index: int) -> None:
    """Raise ``StartupError`` if entries that were applied are gone from the end of the log.

    An entry is flushed before it is applied, and a snapshot that is ahead of the log replaced it before this is asked:
    so no crash explains it.
    """
    applied_index = layout.unpack_number(tables.get(layout.META, layout.APPLIED_INDEX))
    if applied_index > last_index:
        raise StartupError(
            f"the log ends at entry {last_index}, but entry {applied_index} was applied: its end is lost, and votes"
            " with it; put the log back, or move the whole data directory away"
        )


def is_on_the_line(tables: TableReader, log: Log, newest: Manifest | None) -> bool:
    """Does this state lie between the newest snapshot and the log's end, so that the log continues it?"""
    applied_index = layout.unpack_number(tables.get(layout.META, layout.APPLIED_INDEX))
    applied_term = layout.unpack_number(tables.get(layout.META, layout.APPLIED_TERM))
    covered = newest.index if newest is not None else 0
    if applied_index == 0 and covered == 0:
        return True
    return applied_index >= covered and holds(log, applied_index, applied_term)
