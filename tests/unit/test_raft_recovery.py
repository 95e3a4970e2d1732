"""A log that ends before what was applied has lost entries: the node is refused, and never ready as if it had not."""

import pytest

from raftkv.core.errors import StartupError
from raftkv.formats import layout
from raftkv.raft.snapshots.recovery import AppliedGeneration, recover_state
from raftkv.storage.disk import RealDisk
from raftkv.storage.log.log import Log
from raftkv.storage.snapshots.files import SnapshotFiles
from raftkv.storage.state.tables import StateTables
from raftkv.storage.state.trust import open_state


def log_of(home, count):
    log = Log.open(RealDisk(), home, segment_bytes=1 << 16)
    for index in range(1, count + 1):
        log.append(b"\x01", index, 1)
    log.flush()
    return log


def state_at(home, index):
    """A state that was closed in order after it had applied ``index``."""
    home.mkdir()
    engine = open_state(home / "00000001", layout.TABLES)
    tables = StateTables(engine, layout.TABLES, engine.directory)
    tables.put(layout.META, layout.APPLIED_INDEX, layout.pack_number(index))
    tables.put(layout.META, layout.APPLIED_TERM, layout.pack_number(1))
    tables.commit()
    AppliedGeneration(engine).close()


@pytest.mark.parametrize("applied_index", [6, 7])
def test_a_log_that_ends_before_what_was_applied_is_refused(tmp_path, applied_index):
    log = log_of(tmp_path / "log", 5)
    state_at(tmp_path / "state", applied_index)

    with pytest.raises(StartupError, match=f"the log ends at entry 5, but entry {applied_index} was applied"):
        recover_state(tmp_path / "state", log, SnapshotFiles(tmp_path / "snapshots"))


def test_a_log_that_goes_beyond_what_was_applied_is_as_it_should_be(tmp_path):
    log = log_of(tmp_path / "log", 5)
    state_at(tmp_path / "state", 5)

    recover_state(tmp_path / "state", log, SnapshotFiles(tmp_path / "snapshots")).close()
