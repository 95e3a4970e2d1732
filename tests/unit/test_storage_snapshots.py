"""Snapshots: written beside a changing state, published atomically, received in order, refused when damaged."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raftkv.core.errors import StartupError
from raftkv.formats.landmarks import SUM, pack_number
from raftkv.storage.disk import DiskError
from raftkv.storage.engines.memory import MemoryEngine
from raftkv.storage.engines.port import DamagedState
from raftkv.storage.snapshots.bodies import CorruptBody, load_body, write_body
from raftkv.storage.snapshots.files import SnapshotFailedError, SnapshotFiles
from raftkv.storage.state.sums import sum_of
from raftkv.storage.state.tables import StateTables
from raftkv.storage.state.trust import is_trustworthy, open_state

TABLES = (b"keys", b"meta", b"outcomes")


@pytest.fixture
def live(tmp_path):
    tables = over(open_state(tmp_path / "state", TABLES))
    yield tables
    tables.engine.close()


def over(engine):
    return StateTables(engine, TABLES, Path("state"))


@pytest.fixture
def store(tmp_path):
    opened = SnapshotFiles(tmp_path / "snapshots")
    yield opened
    opened.close()


def fill(tables, index, rows=50, value=b"value"):
    for row in range(rows):
        tables.put(b"keys", b"%06d" % row, b"%d:" % index + value)
    tables.put(b"keys", b"long" * 300, b"long key")
    tables.put(b"meta", b"applied_index", index.to_bytes(8, "big"))
    tables.put(b"meta", b"applied_term", (3).to_bytes(8, "big"))
    tables.commit()


def wait_for(poll, result=lambda found: found):
    deadline = time.monotonic() + 30
    while not (found := result(poll())):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


def take(store, live):
    store.start_write(live.engine.directory)
    return store.publish(wait_for(store.poll_write), previous_term=2, last_command=b"\xff\x00last", members=("a", "b"))


def rows_of(tables):
    return {table: list(tables.scan(table, b"", None)) for table in TABLES}


def files(store):
    return sorted(path.name for path in store.directory.iterdir())


def test_a_snapshot_comes_back_as_it_was_in_process_and_by_helper(tmp_path, store, live):
    fill(live, 17)
    manifest = take(store, live)

    assert (manifest.index, manifest.term, manifest.previous_term) == (17, 3, 2)
    assert (manifest.last_command, manifest.members, manifest.rows) == (b"\xff\x00last", ("a", "b"), 53)
    again = SnapshotFiles(store.directory)
    assert again.newest == manifest
    loaded = over(MemoryEngine(TABLES))
    again.load_now(manifest, loaded.engine)
    assert rows_of(loaded) == rows_of(live)

    again.start_load(manifest, tmp_path / "new state")
    wait_for(again.poll_load)
    assert is_trustworthy(tmp_path / "new state")
    opened = over(open_state(tmp_path / "new state", TABLES))
    assert rows_of(opened) == rows_of(live)
    opened.engine.close()
    again.close()


def test_a_snapshot_of_a_changing_state_is_one_consistent_view(store, live):
    fill(live, 1, rows=3000)
    store.start_write(live.engine.directory)
    index = 1
    while (written := store.poll_write()) is None:
        index += 1
        fill(live, index, rows=3000)
    manifest = store.publish(written, previous_term=1, last_command=b"", members=())
    loaded = over(MemoryEngine(TABLES))
    store.load_now(manifest, loaded.engine)

    assert index > 2
    values = {value for key, value in loaded.scan(b"keys", b"", b"a")}
    assert values == {b"%d:value" % manifest.index}
    assert int.from_bytes(loaded.get(b"meta", b"applied_index"), "big") == manifest.index


def test_only_the_newest_snapshot_is_kept_and_the_older_can_be_read_to_its_end(store, live):
    fill(live, 5)
    first = take(store, live)
    begun = store.read_body(first, 0, 10)
    whole = (store.directory / f"{1:016d}.body").read_bytes()
    fill(live, 6)
    second = take(store, live)

    assert files(store) == [f"{2:016d}.body", f"{2:016d}.manifest"]
    assert begun + store.read_body(first, 10, 1 << 20) == whole
    fill(live, 7)
    take(store, live)
    with pytest.raises(SnapshotFailedError, match="replaced"):
        store.read_body(second, 0, 10)


def test_a_helper_killed_midway_leaves_nothing_and_the_next_one_works(store, live):
    fill(live, 8, rows=2000, value=os.urandom(5000))
    store.start_write(live.engine.directory)
    draft = store.directory / "write.body.tmp"
    wait_for(lambda: draft.exists() and draft.stat().st_size > 0)
    store._writing.kill()
    with pytest.raises(SnapshotFailedError, match="status -9"):
        wait_for(store.poll_write)

    assert files(store) == []
    assert store.newest is None
    assert take(store, live).index == 8


def test_a_helper_that_fails_says_why_and_leaves_nothing(tmp_path, store, live):
    store.start_write(tmp_path / "nowhere")
    with pytest.raises(SnapshotFailedError, match="nowhere"):
        wait_for(store.poll_write)
    fill(live, 9)
    manifest = take(store, live)
    body = store.directory / f"{1:016d}.body"
    content = bytearray(body.read_bytes())
    content[len(content) // 2] ^= 1
    body.write_bytes(content)
    store.start_load(manifest, tmp_path / "new state")
    with pytest.raises(SnapshotFailedError, match="damaged"):
        wait_for(store.poll_load)

    assert not (tmp_path / "new state").exists()


def test_a_helper_ends_when_its_parent_dies(tmp_path, live):
    fill(live, 3, rows=20_000, value=bytes(5000))
    script = (
        "import sys, pathlib; from raftkv.storage.snapshots.files import SnapshotFiles\n"
        "store = SnapshotFiles(pathlib.Path(sys.argv[1])); store.start_write(pathlib.Path(sys.argv[2]))\n"
        "print(store._writing.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script, tmp_path / "snapshots", live.engine.directory],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    helper = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()

    def ended():
        try:
            return Path(f"/proc/{helper}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
        except OSError:
            return True

    wait_for(ended)
    draft = tmp_path / "snapshots" / "write.body.tmp"
    assert not draft.exists() or draft.stat().st_size < 20_000 * 5000, "it went on to the end"
    store = SnapshotFiles(tmp_path / "snapshots")
    assert store.newest is None
    assert files(store) == []


def test_leftovers_are_deleted_and_do_not_count(store, live):
    fill(live, 4)
    manifest = take(store, live)
    for name in ("write.body.tmp", "receive.body.tmp", f"{2:016d}.manifest.tmp", f"{2:016d}.body"):
        (store.directory / name).write_bytes(b"rubbish")
    again = SnapshotFiles(store.directory)

    assert again.newest == manifest
    assert files(again) == [f"{1:016d}.body", f"{1:016d}.manifest"]
    fill(live, 5)
    assert take(again, live).index == 5


# A missing manifest is not among them: without it there is no snapshot, and the gap before the log is told elsewhere.
@pytest.mark.parametrize(
    ("kind", "damage"),
    [(kind, damage) for kind in ("body", "manifest") for damage in ("flip", "cut", "extend", "empty")]
    + [("body", "missing")],
)
def test_a_damaged_snapshot_is_refused_at_start_naming_the_file(store, live, kind, damage):
    fill(live, 4)
    take(store, live)
    path = store.directory / f"{1:016d}.{kind}"
    content = bytearray(path.read_bytes())
    if damage == "flip":
        for offset in range(len(content)):
            content[offset] ^= 4
            path.write_bytes(content)
            with pytest.raises(StartupError, match=path.name):
                SnapshotFiles(store.directory)
            content[offset] ^= 4
    path.unlink()
    if damage != "missing":
        changed = {"flip": b"", "cut": content[:-1], "extend": content + b"\x00", "empty": b""}
        path.write_bytes(changed[damage])
    with pytest.raises(StartupError, match=path.name):
        SnapshotFiles(store.directory)


def sent_to(receiver, store, manifest, chunk=700):
    offset = 0
    while offset < manifest.body_bytes:
        data = store.read_body(manifest, offset, chunk)
        receiver.write(offset, data)
        offset += len(data)


def test_a_body_received_in_order_becomes_the_newest_snapshot(tmp_path, store, live):
    fill(live, 12)
    manifest = take(store, live)
    peer = SnapshotFiles(tmp_path / "peer")
    receiver = peer.begin_receive(manifest)
    sent_to(receiver, store, manifest)

    assert peer.newest is None
    assert receiver.finish() == manifest
    assert peer.newest == manifest
    loaded = over(MemoryEngine(TABLES))
    SnapshotFiles(peer.directory).load_now(manifest, loaded.engine)
    assert rows_of(loaded) == rows_of(live)
    with pytest.raises(SnapshotFailedError, match="ended"):
        receiver.finish()


def test_pieces_out_of_order_too_many_too_few_or_altered_are_refused_and_leave_nothing(tmp_path, store, live):
    fill(live, 12)
    manifest = take(store, live)
    body = store.read_body(manifest, 0, 1 << 20)
    peer = SnapshotFiles(tmp_path / "peer")
    receiver = peer.begin_receive(manifest)
    receiver.write(0, body[:100])
    for offset in (0, 99, 101):
        with pytest.raises(SnapshotFailedError, match="was due"):
            receiver.write(offset, body[offset : offset + 10])
    with pytest.raises(SnapshotFailedError, match="more than"):
        receiver.write(100, body[100:] + b"x")
    with pytest.raises(SnapshotFailedError, match="100 of"):
        receiver.finish()
    altered = peer.begin_receive(manifest)
    altered.write(0, body[:-1] + bytes([body[-1] ^ 1]))
    with pytest.raises(SnapshotFailedError, match="checksum"):
        altered.finish()

    assert peer.newest is None
    assert files(peer) == []
    given_up = peer.begin_receive(manifest)
    given_up.write(0, body[:50])
    second = peer.begin_receive(manifest)
    with pytest.raises(SnapshotFailedError, match="ended"):
        given_up.write(50, body[50:60])
    second.write(0, body)
    assert second.finish() == manifest


def test_a_snapshot_older_than_ours_is_not_taken(tmp_path, store, live):
    fill(live, 12)
    older = take(store, live)
    body = store.read_body(older, 0, 1 << 20)
    fill(live, 13)
    newer = take(store, live)
    receiver = store.begin_receive(older)
    receiver.write(0, body)
    with pytest.raises(SnapshotFailedError, match="newer"):
        receiver.finish()

    assert store.newest == newer


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk_fails_the_snapshot_and_leaves_room_again(tmp_path, live):
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mount], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        fill(live, 2, rows=2000, value=os.urandom(1000))
        store = SnapshotFiles(mount / "snapshots")
        store.start_write(live.engine.directory)
        with pytest.raises(SnapshotFailedError, match="no space left"):
            wait_for(store.poll_write)
        assert files(store) == []
        store.close()
    finally:
        subprocess.run(["umount", mount], check=True)


def test_what_is_spared_of_the_disk_is_taken_by_nothing_that_can_wait(tmp_path, store, live):
    fill(live, 17)
    manifest = take(store, live)
    sparing = SnapshotFiles(tmp_path / "snapshots", spared_bytes=1 << 62)
    before = files(sparing)

    sparing.start_write(live.engine.directory)
    with pytest.raises(SnapshotFailedError, match=r"no space left on the device; .* are spared for the log"):
        wait_for(sparing.poll_write)
    sparing.start_load(manifest, tmp_path / "new state")
    with pytest.raises(SnapshotFailedError, match=r"no space left on the device; .* are spared for the log"):
        wait_for(sparing.poll_load)
    with pytest.raises(DiskError, match=r"no space left on the device; .* are spared for the log") as refused:
        sparing.begin_receive(manifest)

    assert refused.value.full
    assert files(sparing) == before
    assert not is_trustworthy(tmp_path / "new state")
    sparing.close()


def test_a_state_whose_rows_do_not_add_up_to_its_sum_is_found_damaged_when_a_snapshot_is_written(store, live):
    fill(live, 17)
    live.put(b"meta", SUM, pack_number(sum_of(live, TABLES)))
    live.commit()
    take(store, live)
    live.put(b"keys", b"000001", b"another value, rightly sealed")
    live.commit()

    store.start_write(live.engine.directory)
    with pytest.raises(DamagedState, match="is damaged"):
        wait_for(store.poll_write)


def test_a_body_whose_rows_do_not_add_up_to_its_sum_is_not_loaded(tmp_path, live):
    fill(live, 17)
    live.put(b"meta", SUM, pack_number(sum_of(live, TABLES) ^ 1))
    write_body(live, TABLES, tmp_path / "body")

    with pytest.raises(CorruptBody, match="do not add up"):
        load_body(tmp_path / "body", MemoryEngine(TABLES))


def descriptors_of(path):
    """What this process has open at ``path``, or had when it had a name."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one by which the directory is read
            found.append(str(descriptor.readlink()).removesuffix(" (deleted)"))
    return [name for name in found if name == str(path)]


def test_a_replaced_body_is_let_go_once_nobody_takes_it(store, live):
    fill(live, 1)
    first = take(store, live)
    store.read_body(first, 0, 10)
    path = store.directory / f"{1:016}.body"
    fill(live, 2)
    second = take(store, live)
    store.read_body(second, 0, 10)

    assert descriptors_of(path)
    store.keep_open([first])
    assert store.read_body(first, 10, 10)
    store.keep_open([second])
    assert not descriptors_of(path)
    with pytest.raises(SnapshotFailedError, match="replaced"):
        store.read_body(first, 0, 10)
