"""What RocksDB makes of a second opening, scans that are left open, and logs that a crash or the disk has damaged."""

import pytest

from raftkv.storage.disk import DiskError
from tests.unit.test_storage_contract import TABLES, killed_writer, largest, opened, rows


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "deep" / "data"


def test_a_directory_is_opened_once_at_a_time(directory):
    engine = opened("rocks", directory)

    with pytest.raises(DiskError, match=r"LOCK") as caught:
        opened("rocks", directory)

    assert "\n" not in str(caught.value)
    assert str(directory) in str(caught.value)
    assert not caught.value.full

    engine.close()
    opened("rocks", directory).close()


def test_a_scan_that_was_left_open_does_not_keep_the_directory(directory):
    engine = opened("rocks", directory)
    engine.commit([(b"data", b"a", b"1"), (b"data", b"b", b"1")])
    unfinished = engine.scan(b"data", b"", None)
    next(unfinished)
    engine.close()
    del unfinished

    opened("rocks", directory).close()


def log_file(directory):
    return max((path for path in directory.iterdir() if path.suffix == ".log"), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("missing_bytes", [1, 7, 200])
def test_a_record_that_was_being_written_when_the_machine_stopped_is_dropped(directory, missing_bytes):
    reported = killed_writer("rocks", directory, 20)
    log = log_file(directory)
    log.write_bytes(log.read_bytes()[:-missing_bytes])
    engine = opened("rocks", directory)
    found = {table: rows(engine, table) for table in TABLES}

    # The last record of the log is the last one reported, or one after it.
    assert largest(engine, b"data") in (reported - 1, reported)
    assert all(found[table] == found[b"data"] for table in TABLES)

    engine.close()


def test_room_that_was_allocated_behind_the_last_record_does_no_harm(directory):
    reported = killed_writer("rocks", directory, 20)
    log = log_file(directory)
    log.write_bytes(log.read_bytes() + bytes(5000))
    engine = opened("rocks", directory)

    assert largest(engine, b"data") in (reported, reported + 1)

    engine.close()


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_an_acknowledged_batch_that_is_damaged_keeps_the_directory_from_opening(directory, part):
    killed_writer("rocks", directory, 20)
    log = log_file(directory)
    content = bytearray(log.read_bytes())
    content[int(len(content) * part)] ^= 0x10
    log.write_bytes(content)

    with pytest.raises(DiskError, match="Corruption"):
        opened("rocks", directory)
