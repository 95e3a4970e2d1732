"""Every engine keeps to what the storage port says: order, atomicity, scans, sizes, reopening, kills and full disks."""

import functools
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv.storage.disk import DiskError
from raftkv.storage.engines.lmdb import LmdbEngine, LmdbReader
from raftkv.storage.engines.memory import MemoryEngine
from raftkv.storage.engines.rocks import RocksEngine

TABLES = (b"data", b"order", b"meta")


def opened(kind, directory):
    """The engine of this kind in ``directory``; the one in memory is kept by the test that made it."""
    directory.mkdir(parents=True, exist_ok=True)
    return {"lmdb": LmdbEngine, "rocks": RocksEngine}[kind](directory, TABLES)


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "deep" / "data"


@pytest.fixture(params=["memory", "rocks", "lmdb"])
def engine(request, directory):
    engine = MemoryEngine(TABLES) if request.param == "memory" else opened(request.param, directory)
    yield engine
    engine.close()


on_disks = pytest.mark.parametrize("kind", ["rocks", "lmdb"])


def rows(engine, table=b"data", start=b"", end=None):
    return list(engine.scan(table, start, end))


# -- rows


def test_a_batch_puts_and_deletes_in_order_and_in_each_table_by_itself(engine):
    engine.commit([(b"data", b"a", b"1"), (b"meta", b"a", b"2"), (b"data", b"b", b"")])

    assert engine.get(b"data", b"a") == b"1"
    assert engine.get(b"meta", b"a") == b"2"
    assert engine.get(b"data", b"b") == b""
    assert engine.get(b"order", b"a") is None

    engine.commit([(b"data", b"a", b"3"), (b"data", b"a", None), (b"data", b"never", None)])
    engine.commit([(b"meta", b"a", None), (b"meta", b"a", b"4")])

    assert rows(engine) == [(b"b", b"")]
    assert rows(engine, b"meta") == [(b"a", b"4")]


def test_a_batch_is_gone_through_once_and_may_be_made_on_the_way(engine):
    engine.commit((b"data", b"%d" % number, b"v") for number in range(3))
    engine.commit([])

    assert rows(engine) == [(b"0", b"v"), (b"1", b"v"), (b"2", b"v")]


def test_a_batch_that_breaks_off_is_not_there_at_all(engine):
    engine.commit([(b"data", b"a", b"1")])

    def breaking():
        yield b"data", b"a", b"2"
        yield b"meta", b"b", b"2"
        raise ValueError("the source is damaged")

    with pytest.raises(ValueError, match="damaged"):
        engine.commit(breaking())

    assert rows(engine) == [(b"a", b"1")]
    assert rows(engine, b"meta") == []

    engine.commit([(b"data", b"b", b"3")])

    assert rows(engine) == [(b"a", b"1"), (b"b", b"3")]


def test_keys_as_long_as_the_engine_says_and_large_values_are_kept(engine):
    longest, value = b"k" * engine.longest_key_bytes, bytes(range(256)) * (16 << 12)
    engine.commit([(b"data", longest, value), (b"data", longest[:-1], b"")])

    assert engine.get(b"data", longest) == value
    assert rows(engine) == [(longest[:-1], b""), (longest, value)]
    assert rows(engine, start=longest + b"\0") == []
    assert rows(engine, start=longest[:-1] + b"\0", end=longest + b"\0") == [(longest, value)]


# -- scans


def test_a_scan_is_bytewise_half_open_and_may_be_left_early(engine):
    engine.commit([(b"data", key, key) for key in (b"b", b"a\xff", b"a", b"\xff\xff", b"a\0", b"\0")])

    assert [key for key, _ in rows(engine)] == [b"\0", b"a", b"a\0", b"a\xff", b"b", b"\xff\xff"]
    assert [key for key, _ in rows(engine, start=b"a\0", end=b"b")] == [b"a\0", b"a\xff"]
    assert rows(engine, start=b"c", end=b"b") == []
    assert next(engine.scan(b"data", b"b", None)) == (b"b", b"b")


def test_a_scan_shows_the_table_as_it_was_when_it_was_asked_for(engine):
    if not engine.keeps_scans:
        pytest.skip("this engine says that its scans end with the next commit")
    engine.commit([(b"data", b"a", b"1"), (b"data", b"b", b"1"), (b"data", b"c", b"1")])
    begun, unread = engine.scan(b"data", b"", None), engine.scan(b"data", b"", None)

    assert next(begun) == (b"a", b"1")

    engine.commit([(b"data", b"b", b"2"), (b"data", b"c", None), (b"data", b"d", b"2")])

    assert list(begun) == [(b"b", b"1"), (b"c", b"1")]
    assert [key for key, _ in unread] == [b"a", b"b", b"c"]
    assert rows(engine) == [(b"a", b"1"), (b"b", b"2"), (b"d", b"2")]


def test_rows_are_read_while_a_scan_is_under_way(engine):
    engine.commit([(b"data", b"%d" % number, b"v%d" % number) for number in range(3)])

    assert [engine.get(b"data", key) for key, _ in engine.scan(b"data", b"", None)] == [b"v0", b"v1", b"v2"]


KEYS = st.binary(min_size=1, max_size=3)
BATCHES = st.lists(
    st.lists(st.tuples(st.sampled_from(TABLES), KEYS, st.none() | st.binary(max_size=3)), max_size=8), max_size=5
)


@settings(deadline=None, max_examples=40)
@given(BATCHES, st.binary(max_size=3), st.none() | st.binary(max_size=3))
def test_all_engines_hold_the_same(tmp_path_factory, batches, start, end):
    seen = []
    for kind in ("memory", "rocks", "lmdb"):
        engine = MemoryEngine(TABLES) if kind == "memory" else opened(kind, tmp_path_factory.mktemp(kind))
        for batch in batches:
            engine.commit(batch)
        seen.append([(rows(engine, table, start, end), rows(engine, table)) for table in TABLES])
        engine.close()

    assert seen[0] == seen[1] == seen[2]


# -- the reading half, in another process's hands


# Commits what it is told: LMDB refuses to open one directory twice in a process.
COMMITTER = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.unit.test_storage_contract import opened
engine = opened("lmdb", Path(sys.argv[1]))
for line in sys.stdin:
    engine.commit(eval(line))
    print("done", flush=True)
"""


def test_a_reader_sees_what_was_committed_before_its_view_and_nothing_after(directory):
    with subprocess.Popen(
        [sys.executable, "-c", COMMITTER, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def commit(*batch):
            process.stdin.write(f"{batch!r}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"

        commit((b"data", b"a", b"1"))
        reader = LmdbReader(directory)

        assert reader.tables == tuple(sorted(TABLES))
        with reader as view:
            commit((b"data", b"a", b"2"), (b"data", b"b", b"2"))

            assert view.get(b"data", b"a") == b"1"
            assert rows(view) == [(b"a", b"1")]
        with reader as view:
            assert rows(view) == [(b"a", b"2"), (b"b", b"2")]
            assert rows(view, start=b"aa") == [(b"b", b"2")]

        reader.close()
        process.stdin.close()


# -- what outlives a life


@on_disks
def test_what_was_committed_is_there_again_and_a_table_that_is_new_is_empty(kind, directory):
    engine = opened(kind, directory)
    engine.commit([(table, b"k", table) for table in TABLES[:2]])
    engine.close()
    engine = opened(kind, directory)

    assert [rows(engine, table) for table in TABLES] == [[(b"k", b"data")], [(b"k", b"order")], []]

    engine.close()


@on_disks
def test_a_closed_engine_says_so(kind, directory):
    engine = opened(kind, directory)
    engine.close()

    for use in (
        lambda: engine.get(b"data", b"a"),
        lambda: engine.scan(b"data", b"", None),
        lambda: engine.commit([(b"data", b"a", b"1")]),
    ):
        with pytest.raises(DiskError, match="closed"):
            use()


@on_disks
def test_a_path_that_is_no_directory_is_a_disk_error(kind, tmp_path):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(DiskError, match="file"):
        {"lmdb": LmdbEngine, "rocks": RocksEngine}[kind](tmp_path / "file", TABLES)


# Commits batches that span all tables and says when each one is there.
WRITER = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.unit.test_storage_contract import TABLES, opened
engine = opened(sys.argv[1], Path(sys.argv[2]))
number = 0
while True:
    number += 1
    engine.commit([(table, b"%d" % (number % 50), b"%d" % number * 40) for table in TABLES])
    print(number, flush=True)
"""


def killed_writer(kind, directory, batches):
    """Let a process commit, kill it once it has reported ``batches``, and tell what it reported last."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, kind, directory], stdout=subprocess.PIPE)
    for _ in range(batches):
        assert process.stdout.readline(), "the writer died"
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()
    process.stdout.close()
    process.wait(30)
    return batches + rest.count(b"\n")


def largest(engine, table):
    return max(int(value[: len(value) // 40]) for _, value in engine.scan(table, b"", None))


@on_disks
def test_what_a_killed_writer_reported_is_there_and_no_batch_is_there_in_part(kind, directory):
    for round_number in range(3):
        reported = killed_writer(kind, directory, 20 + 17 * round_number)
        engine = opened(kind, directory)
        found = {table: rows(engine, table) for table in TABLES}

        assert largest(engine, b"data") in (reported, reported + 1)
        assert all(found[table] == found[b"data"] for table in TABLES)

        engine.commit([(table, key, None) for table in TABLES for key, _ in found[table]])
        engine.close()


# -- failures


def failing(*, full):
    raise DiskError("input/output error", full=full)


def test_the_engine_in_memory_fails_before_or_after_a_commit_as_it_is_told():
    engine = MemoryEngine(TABLES)
    engine.before_commit = functools.partial(failing, full=True)
    with pytest.raises(DiskError):
        engine.commit([(b"data", b"a", b"1")])
    engine.before_commit, engine.after_commit = None, functools.partial(failing, full=False)
    with pytest.raises(DiskError):
        engine.commit([(b"data", b"b", b"1")])

    assert rows(engine) == [(b"b", b"1")]


# Fills its disk, then makes room by removing the ballast.
FILLER = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from raftkv.storage.disk import DiskError
from tests.unit.test_storage_contract import opened
engine = opened(sys.argv[1], Path(sys.argv[2]))
number = 0
try:
    while number < 100_000:
        engine.commit([(b"data", b"%d" % number, bytes(10_000)), (b"meta", b"last", b"%d" % number)])
        number += 1
except DiskError as error:
    print(number, int(error.full), flush=True)
last = engine.get(b"meta", b"last") == b"%d" % (number - 1)
print(int(last), int(engine.get(b"data", b"%d" % (number - 1)) == bytes(10_000)), engine.get(b"data", b"%d" % number))
Path(sys.argv[3]).unlink()
while True:
    try:
        engine.commit([(b"data", b"again", b"1")])
        break
    except DiskError as error:
        assert error.full
        time.sleep(0.05)
print(engine.get(b"data", b"again"), flush=True)
engine.close()
"""

SMALL_DISK = "mount -t tmpfs -o size=54m none $1 && head -c 22000000 /dev/zero > $1/ballast"


def can_mount(tmp_path):
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "-o", "size=1m", "none", str(tmp_path)]
    try:
        return subprocess.run(probe, check=False, capture_output=True, timeout=10).returncode == 0
    except OSError:
        return False


@on_disks
def test_a_full_disk_refuses_commits_goes_on_reading_and_takes_commits_again_once_there_is_room(kind, tmp_path):
    if not can_mount(tmp_path):
        pytest.skip("no small disk can be mounted here")
    disk = tmp_path / "small"
    disk.mkdir()
    script = f'{SMALL_DISK} && exec "$2" -c "$3" "$4" "$1/data" "$1/ballast"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(disk), sys.executable, FILLER, kind],
        check=False,
        capture_output=True,
        text=True,
        timeout=100,
    )
    lines = done.stdout.splitlines()

    assert done.returncode == 0, done.stderr
    assert int(lines[0].split()[0]) > 100
    assert lines[0].split()[1] == "1"
    assert lines[1:] == ["1 1 None", "b'1'"]


def test_who_reads_everything_once_does_not_come_to_hold_the_whole_map(directory):
    engine = opened("lmdb", directory)
    for start in range(0, 16_000, 1000):
        engine.commit([(b"data", b"%06d" % number, b"v" * 10_000) for number in range(start, start + 1000)])
    engine.close()

    def file_pages_mib():
        (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("RssFile")]
        return int(line.split()[1]) >> 10

    def most(reads_once):
        reader, before = LmdbReader(directory, reads_once=reads_once), file_pages_mib()
        with reader:
            rows = enumerate(reader.scan(b"data", b"", None))
            held = [file_pages_mib() - before for number, _ in rows if number % 1000 == 0]
        reader.close()
        assert len(held) == 16
        return max(held)

    assert most(reads_once=False) > 120
    assert most(reads_once=True) < 80
