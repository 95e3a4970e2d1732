"""The state in LMDB: long keys, views of other processes, map growth, crashes and trust."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftkv.formats.seals import RAW_KEY_BYTES
from raftkv.storage.disk import DiskError
from raftkv.storage.engines import lmdb
from raftkv.storage.engines.lmdb import LmdbReader
from raftkv.storage.engines.port import DamagedState
from raftkv.storage.snapshots.bodies import write_body
from raftkv.storage.state import trust
from raftkv.storage.state.sealed import SealedRows
from raftkv.storage.state.tables import StateTables
from raftkv.storage.state.trust import close_cleanly, discard, is_trustworthy, open_state

TABLES = (b"keys", b"meta")

# Runs in another process: answers each line of Python with one line.
READER = """
import sys
from pathlib import Path
from raftkv.storage.engines.lmdb import LmdbReader
from raftkv.storage.state.sealed import SealedRows
reader = LmdbReader(Path(sys.argv[1]))
rows = SealedRows(reader, reader.directory)
def get(key):
    with reader:
        return rows.get(b"keys", key)
for line in sys.stdin:
    print(repr(eval(line)), flush=True)
"""


class OtherReader:
    def __init__(self, directory):
        self.process = subprocess.Popen(
            [sys.executable, "-c", READER, directory], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, expression):
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the reader died"
        return eval(line)

    def get(self, key):
        return self.ask(f"get({key!r})")

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(10) == 0
        self.process.stdout.close()


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "state"


def opened(directory, **limits):
    return StateTables(open_state(directory, TABLES, **limits), TABLES, directory)


@pytest.fixture
def tables(directory):
    tables = opened(directory)
    yield tables
    tables.engine.close()


# Few different bytes and lengths around the limit, so that prefixes are shared and cut in every way.
STEMS = st.sampled_from([b"a" * (RAW_KEY_BYTES - 1), b"a" * RAW_KEY_BYTES, b"a" * (RAW_KEY_BYTES + 1), b"b" * 600, b""])
KEYS = st.builds(
    lambda stem, tail: (stem + tail) or b"a",
    STEMS,
    st.lists(st.sampled_from([b"\x00", b"a", b"b", b"\xff"]), max_size=20).map(b"".join),
)
CHANGES = st.lists(st.tuples(st.sampled_from(["put", "put", "put", "delete", "commit"]), KEYS), max_size=50)


@given(changes=CHANGES, bounds=st.lists(st.tuples(KEYS | st.just(b""), KEYS | st.none()), min_size=1, max_size=8))
@settings(max_examples=150, deadline=None)
def test_rows_and_scans_are_those_of_a_sorted_model_whatever_the_length_of_keys(changes, bounds):
    with tempfile.TemporaryDirectory() as name:
        tables, model = opened(Path(name)), {}
        for number, (change, key) in enumerate(changes):
            if change == "put":
                tables.put(b"keys", key, b"%d" % number)
                model[key] = b"%d" % number
            elif change == "delete":
                tables.delete(b"keys", key)
                model.pop(key, None)
            else:
                tables.commit()

            assert tables.get(b"keys", key) == model.get(key)
        for start, end in [(b"", None), *bounds]:
            assert list(tables.scan(b"keys", start, end)) == between(model, start, end)
        tables.commit()
        for start, end in [(b"", None), *bounds]:
            assert list(tables.scan(b"keys", start, end)) == between(model, start, end)
        tables.engine.close()


def between(model, start, end):
    return sorted((key, value) for key, value in model.items() if start <= key and (end is None or key < end))


def test_keys_of_4_kib_and_values_of_16_mib_are_kept(tables):
    value = os.urandom(16 << 20)
    tables.put(b"keys", b"k" * 4096, value)
    tables.put(b"keys", b"k" * 4095 + b"j", b"")
    tables.commit()

    assert tables.get(b"keys", b"k" * 4096) == value
    assert [key for key, _ in tables.scan(b"keys", b"", None)] == [b"k" * 4095 + b"j", b"k" * 4096]
    assert tables.get(b"keys", b"k" * 4097) is None


def test_another_process_sees_committed_data_only_and_one_view_stays_as_it_was(directory, tables):
    tables.put(b"keys", b"a", b"1")
    tables.commit()
    other = OtherReader(directory)
    assert other.get(b"a") == b"1"
    tables.put(b"keys", b"a", b"2")

    assert tables.get(b"keys", b"a") == b"2"
    assert other.get(b"a") == b"1"
    other.ask("reader.__enter__() and None")
    tables.commit()
    assert other.ask("rows.get(b'keys', b'a')") == b"1"
    other.ask("reader.__exit__(None, None, None)")
    assert other.get(b"a") == b"2"
    other.close()


def test_a_reader_in_another_process_survives_growth_of_the_map(directory, monkeypatch):
    monkeypatch.setattr(lmdb, "_BATCH_ROOM_BYTES", 1 << 20)
    tables = opened(directory, map_bytes=2 << 20)
    tables.put(b"keys", b"first", b"1")
    tables.commit()
    other = OtherReader(directory)
    assert other.get(b"first") == b"1"
    for number in range(100):
        tables.put(b"keys", b"%d" % number, bytes(400_000))
        tables.commit()

    assert (directory / "data.mdb").stat().st_size > 32 << 20
    assert other.get(b"first") == b"1"
    assert other.get(b"99") == bytes(400_000)
    other.close()
    tables.engine.close()


def put_large_rows(tables, count, committed=None):
    """Commit each row and note its key in ``committed``, if that is given; else stage them all."""
    for number in range(count):
        key = b"%03d" % number
        tables.put(b"keys", key, bytes(100_000))
        if committed is not None:
            tables.commit()
            committed.append(key)


def test_a_batch_too_large_for_the_map_ends_in_disk_error_and_the_state_takes_nothing_more(directory, monkeypatch):
    monkeypatch.setattr(lmdb, "_BATCH_ROOM_BYTES", 1 << 20)
    tables = opened(directory, map_bytes=2 << 20)
    tables.put(b"keys", b"kept", b"1")
    tables.commit()
    put_large_rows(tables, 100)
    with pytest.raises(DiskError, match="MDB_MAP_FULL"):
        tables.commit()
    for call in (tables.commit, lambda: tables.get(b"keys", b"k"), lambda: close_cleanly(tables.engine)):
        with pytest.raises(DiskError, match="earlier"):
            call()

    assert not (directory / "CLEAN").exists()
    again = opened(directory, map_bytes=2 << 20)
    assert list(again.scan(b"keys", b"", None)) == [(b"kept", b"1")]
    again.engine.close()


def test_the_slot_of_a_killed_reader_is_freed(directory, tables, monkeypatch):
    monkeypatch.setattr(lmdb, "_COMMITS_BETWEEN_READER_CHECKS", 2)
    other = OtherReader(directory)
    other.ask("reader.__enter__() and None")
    other.process.kill()
    other.process.wait()
    other.process.stdin.close()
    other.process.stdout.close()
    assert str(other.process.pid) in tables.engine._environment.readers()
    for number in range(2):
        tables.put(b"keys", b"k", b"%d" % number)
        tables.commit()

    assert str(other.process.pid) not in tables.engine._environment.readers()


def test_state_is_trusted_after_a_clean_close_or_within_the_same_boot_and_never_else(directory, monkeypatch):
    assert not is_trustworthy(directory)
    monkeypatch.setattr(trust, "boot_id", lambda: "this boot")
    tables = opened(directory)

    assert is_trustworthy(directory)
    monkeypatch.setattr(trust, "boot_id", lambda: "next boot")
    assert not is_trustworthy(directory)
    close_cleanly(tables.engine)
    assert is_trustworthy(directory)
    monkeypatch.setattr(trust, "boot_id", lambda: "")
    assert is_trustworthy(directory)
    tables = opened(directory)
    assert not is_trustworthy(directory)
    tables.engine.close()
    assert not is_trustworthy(directory)
    discard(directory)
    assert not directory.exists()
    discard(directory)


def test_a_reader_without_a_state_is_refused_with_a_path(tmp_path):
    with pytest.raises(DiskError, match="nowhere"):
        LmdbReader(tmp_path / "nowhere")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_is_told_as_such_and_the_last_commit_stands(tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", mount], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        tables = opened(mount / "state")
        committed = []
        with pytest.raises(DiskError) as failure:
            put_large_rows(tables, 100, committed)
        tables.engine.close()

        assert failure.value.full
        again = opened(mount / "state")
        assert [key for key, _ in again.scan(b"keys", b"", None)] == committed
        assert committed
        again.engine.close()
    finally:
        subprocess.run(["umount", mount], check=True)


def test_a_row_that_was_changed_on_the_disk_is_never_read(tmp_path):
    for key in (b"k", b"k" * 600):
        directory = tmp_path / f"{len(key)}"
        tables = opened(directory)
        tables.put(b"keys", key, b"a value that stands out" * 400)
        tables.put(b"keys", b"other", b"whole")
        tables.commit()
        damage(directory, b"stands out")
        found_damaged(tables, key)
        with pytest.raises(DamagedState):
            write_body(tables, TABLES, tmp_path / f"{len(key)}.body")
        tables.engine.close()
        reader = LmdbReader(directory)
        with reader:
            found_damaged(SealedRows(reader, directory), key)
        reader.close()


def found_damaged(view, key):
    with pytest.raises(DamagedState, match="table keys"):
        view.get(b"keys", key)
    with pytest.raises(DamagedState, match="table keys"):
        list(view.scan(b"keys", b"", None))
    assert view.get(b"keys", b"other") == b"whole"


@pytest.mark.parametrize("left", [0.5, 0.9, 8192])
def test_a_file_that_was_cut_short_is_found_out_before_it_is_mapped(tmp_path, left):
    tables = opened(tmp_path / "state")
    for number in range(2000):
        tables.put(b"keys", b"%d" % number, bytes(1000))
    tables.commit()
    close_cleanly(tables.engine)
    data = tmp_path / "state" / "data.mdb"
    os.truncate(data, left if left > 1 else int(data.stat().st_size * left) // 4096 * 4096)

    with pytest.raises(DamagedState, match="instead of"):
        opened(tmp_path / "state")
    with pytest.raises(DamagedState, match="instead of"):
        LmdbReader(tmp_path / "state")


def test_a_state_of_the_format_before_is_not_trusted(tmp_path):
    close_cleanly(open_state(tmp_path / "state", TABLES))
    assert is_trustworthy(tmp_path / "state")

    (tmp_path / "state" / "FORMAT").unlink()

    assert not is_trustworthy(tmp_path / "state")


def damage(directory, piece):
    """Flip one bit of each copy of ``piece`` in the file, as a disk may."""
    data = directory / "data.mdb"
    content = bytearray(data.read_bytes())
    assert piece in content
    start = 0
    while (found := content.find(piece, start)) >= 0:
        content[found] ^= 1
        start = found + 1
    with data.open("r+b") as file:
        file.write(content)
