"""The engines: one behaviour for both, and what RocksDB makes of killed writers, damaged logs and full disks."""

import signal
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv.storage.disk import DiskError
from raftkv.storage.engines.port import MemoryEngine, Table
from raftkv.storage.engines.rocks import RocksEngine

# Commits batches that span all tables and says when each one is durable.
WRITER = """
import sys
from pathlib import Path
from raftkv.storage.engines.port import Table
from raftkv.storage.engines.rocks import RocksEngine
engine = RocksEngine(Path(sys.argv[1]))
number = 0
while True:
    number += 1
    engine.commit([(table, b"%d" % (number % 50), b"%d" % number * 40) for table in Table])
    print(number, flush=True)
"""


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "deep" / "data"


@pytest.fixture(params=["memory", "rocks"])
def engine(request, directory):
    engine = MemoryEngine() if request.param == "memory" else RocksEngine(directory)
    yield engine
    engine.close()


def rows(engine, table=Table.DATA, start=b"", end=None):
    return list(engine.scan(table, start, end))


# -- both engines


def test_a_batch_puts_and_deletes_in_order_and_in_each_table_by_itself(engine):
    engine.commit([(Table.DATA, b"a", b"1"), (Table.HINTS, b"a", b"2"), (Table.DATA, b"b", b"")])

    assert engine.get(Table.DATA, b"a") == b"1"
    assert engine.get(Table.HINTS, b"a") == b"2"
    assert engine.get(Table.DATA, b"b") == b""
    assert engine.get(Table.META, b"a") is None

    engine.commit([(Table.DATA, b"a", b"3"), (Table.DATA, b"a", None), (Table.DATA, b"never", None)])
    engine.commit([(Table.HINTS, b"a", None), (Table.HINTS, b"a", b"4")])

    assert rows(engine) == [(b"b", b"")]
    assert rows(engine, Table.HINTS) == [(b"a", b"4")]


def test_a_scan_is_bytewise_half_open_and_may_be_left_early(engine):
    engine.commit([(Table.DATA, key, key) for key in (b"b", b"a\xff", b"a", b"\xff\xff", b"a\0", b"\0")])

    assert [key for key, _ in rows(engine)] == [b"\0", b"a", b"a\0", b"a\xff", b"b", b"\xff\xff"]
    assert [key for key, _ in rows(engine, start=b"a\0", end=b"b")] == [b"a\0", b"a\xff"]
    assert rows(engine, start=b"c", end=b"b") == []
    assert next(engine.scan(Table.DATA, b"b", None)) == (b"b", b"b")


def test_a_scan_shows_the_table_as_it_was_when_it_began(engine):
    engine.commit([(Table.DATA, b"a", b"1"), (Table.DATA, b"b", b"1"), (Table.DATA, b"c", b"1")])
    begun, unread = engine.scan(Table.DATA, b"", None), engine.scan(Table.DATA, b"", None)

    assert next(begun) == (b"a", b"1")

    engine.commit([(Table.DATA, b"b", b"2"), (Table.DATA, b"c", None), (Table.DATA, b"d", b"2")])

    assert list(begun) == [(b"b", b"1"), (b"c", b"1")]
    assert [key for key, _ in unread] == [b"a", b"b", b"c"]
    assert rows(engine) == [(b"a", b"1"), (b"b", b"2"), (b"d", b"2")]


KEYS = st.binary(max_size=3)
BATCHES = st.lists(st.lists(st.tuples(st.sampled_from(list(Table)), KEYS, st.none() | KEYS), max_size=8), max_size=5)


@settings(deadline=None, max_examples=30)
@given(BATCHES, KEYS, KEYS)
def test_both_engines_hold_the_same(tmp_path_factory, batches, start, end):
    memory, rocks = MemoryEngine(), RocksEngine(tmp_path_factory.mktemp("rocks"))
    for batch in batches:
        memory.commit(batch)
        rocks.commit(batch)
    seen = [(rows(engine, table, start, end), rows(engine, table)) for engine in (memory, rocks) for table in Table]
    rocks.close()

    assert seen[: len(Table)] == seen[len(Table) :]


# -- in memory


def test_the_engine_in_memory_fails_before_or_after_a_commit_as_it_is_told():
    engine = MemoryEngine()

    def fail():
        raise DiskError("no space left on the device", full=True)

    engine.before_commit = fail
    with pytest.raises(DiskError):
        engine.commit([(Table.DATA, b"a", b"1")])
    engine.before_commit, engine.after_commit = None, fail
    with pytest.raises(DiskError):
        engine.commit([(Table.DATA, b"b", b"1")])

    assert rows(engine) == [(b"b", b"1")]


# -- on a disk


def test_a_directory_is_opened_once_at_a_time(directory):
    engine = RocksEngine(directory)

    with pytest.raises(DiskError, match=r"LOCK") as caught:
        RocksEngine(directory)

    assert "\n" not in str(caught.value)
    assert str(directory) in str(caught.value)
    assert not caught.value.full

    engine.close()
    RocksEngine(directory).close()


def test_a_path_that_is_no_directory_is_a_disk_error(tmp_path):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(DiskError, match="file"):
        RocksEngine(tmp_path / "file")


def test_a_closed_engine_says_so(directory):
    engine = RocksEngine(directory)
    engine.close()

    for use in (
        lambda: engine.get(Table.DATA, b"a"),
        lambda: engine.scan(Table.DATA, b"", None),
        lambda: engine.commit([(Table.DATA, b"a", b"1")]),
    ):
        with pytest.raises(DiskError, match="closed"):
            use()


def test_a_scan_that_was_left_open_does_not_keep_the_directory(directory):
    engine = RocksEngine(directory)
    engine.commit([(Table.DATA, b"a", b"1"), (Table.DATA, b"b", b"1")])
    unfinished = engine.scan(Table.DATA, b"", None)
    next(unfinished)
    engine.close()
    del unfinished

    RocksEngine(directory).close()


def killed_writer(directory, batches):
    """Let a process commit, kill it once it has reported ``batches``, and tell what it reported last."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, directory], stdout=subprocess.PIPE)
    for _ in range(batches):
        assert process.stdout.readline(), "the writer died"
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()
    process.stdout.close()
    process.wait(30)
    return batches + rest.count(b"\n")


def log_file(directory):
    return max((path for path in directory.iterdir() if path.suffix == ".log"), key=lambda path: path.stat().st_size)


def largest(engine, table):
    return max(int(value[: len(value) // 40]) for _, value in engine.scan(table, b"", None))


def test_what_a_killed_writer_reported_is_there_and_no_batch_is_there_in_part(directory):
    reported = 0
    for round_number in range(4):
        reported = killed_writer(directory, 20 + 17 * round_number)
        engine = RocksEngine(directory)
        found = {table: rows(engine, table) for table in Table}

        assert largest(engine, Table.DATA) in (reported, reported + 1)
        assert all(found[table] == found[Table.DATA] for table in Table)

        engine.commit([(table, key, None) for table in Table for key, _ in found[table]])
        engine.close()


@pytest.mark.parametrize("missing_bytes", [1, 7, 300])
def test_a_record_that_was_being_written_when_the_machine_stopped_is_dropped(directory, missing_bytes):
    reported = killed_writer(directory, 20)
    log = log_file(directory)
    log.write_bytes(log.read_bytes()[:-missing_bytes])
    engine = RocksEngine(directory)
    found = {table: rows(engine, table) for table in Table}

    # The last record of the log is the last one reported, or one after it.
    assert largest(engine, Table.DATA) in (reported - 1, reported)
    assert all(found[table] == found[Table.DATA] for table in Table)

    engine.close()


def test_room_that_was_allocated_behind_the_last_record_does_no_harm(directory):
    reported = killed_writer(directory, 20)
    log = log_file(directory)
    log.write_bytes(log.read_bytes() + bytes(5000))
    engine = RocksEngine(directory)

    assert largest(engine, Table.DATA) in (reported, reported + 1)

    engine.close()


@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_an_acknowledged_batch_that_is_damaged_keeps_the_directory_from_opening(directory, part):
    killed_writer(directory, 20)
    log = log_file(directory)
    content = bytearray(log.read_bytes())
    content[int(len(content) * part)] ^= 0x10
    log.write_bytes(content)

    with pytest.raises(DiskError, match="Corruption"):
        RocksEngine(directory)


# Fills its disk, then makes room by removing the ballast.
FILLER = """
import sys, time
from pathlib import Path
from raftkv.storage.disk import DiskError
from raftkv.storage.engines.port import Table
from raftkv.storage.engines.rocks import RocksEngine
engine = RocksEngine(Path(sys.argv[1]))
number = 0
try:
    while number < 100_000:
        engine.commit([(Table.DATA, b"%d" % number, bytes(10_000))])
        number += 1
except DiskError as error:
    print(number, int(error.full), flush=True)
print(int(engine.get(Table.DATA, b"%d" % (number - 1)) is not None), engine.get(Table.DATA, b"%d" % number), flush=True)
Path(sys.argv[2]).unlink()
while True:
    try:
        engine.commit([(Table.DATA, b"again", b"1")])
        break
    except DiskError as error:
        assert error.full
        time.sleep(0.05)
print(engine.get(Table.DATA, b"again"), flush=True)
engine.close()
"""

SMALL_DISK = "mount -t tmpfs -o size=48m none $1 && head -c 16000000 /dev/zero > $1/ballast"


def can_mount(tmp_path):
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=1m", "none", str(tmp_path)]
    try:
        return subprocess.run(probe, check=False, capture_output=True, timeout=10).returncode == 0
    except OSError:
        return False


def test_a_full_disk_refuses_commits_goes_on_reading_and_takes_commits_again_once_there_is_room(tmp_path):
    if not can_mount(tmp_path):
        pytest.skip("no small disk can be mounted here")
    disk = tmp_path / "small"
    disk.mkdir()
    script = f'{SMALL_DISK} && exec "$2" -c "$3" "$1/data" "$1/ballast"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(disk), sys.executable, FILLER],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    lines = done.stdout.splitlines()

    assert done.returncode == 0, done.stderr
    assert int(lines[0].split()[0]) > 100
    assert lines[0].split()[1] == "1"
    assert lines[1:] == ["1 None", "b'1'"]
