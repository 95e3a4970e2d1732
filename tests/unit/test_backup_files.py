"""A backup is whole or none, and what is made of it is there wholly or not at all."""

import io
import os
import shutil
from pathlib import Path

import pytest

from raftkv.backup import restoring
from raftkv.backup.fetching import drafted, publish
from raftkv.core.config import parse_config
from raftkv.core.errors import StartupError
from raftkv.formats import layout
from raftkv.formats.identity import Standing, decode_identity
from raftkv.raft.snapshots.recovery import recover_log, recover_state
from raftkv.storage.backups.reading import CorruptBackup, read_manifest, verify
from raftkv.storage.backups.writing import blank_manifest, write_backup
from raftkv.storage.disk import DiskError, RealDisk
from raftkv.storage.engines.memory import MemoryEngine
from raftkv.storage.log.log import Log
from raftkv.storage.snapshots.files import SnapshotFiles

REVISION, INDEX, TERM = 41, 50, 3


def backed_up(tables=layout.TABLES, *, rows=500, **known):
    engine = MemoryEngine(tables)
    engine.commit([(tables[0], b"key%05d" % number, b"v" * 5000) for number in range(rows)])
    if layout.META in tables:
        names = {
            layout.APPLIED_INDEX: INDEX,
            layout.APPLIED_TERM: TERM,
            layout.REVISION: REVISION,
            layout.WRITE_SIZE: 5,
        }
        engine.commit([(layout.META, name, layout.pack_number(number)) for name, number in names.items()])
    head = blank_manifest(
        **{"cluster": "old", "mode": "raft", "nodes": ("n1",), "revision": REVISION, "made_ms": 1, "version": "1"}
        | known
    )
    out = io.BytesIO()
    write_backup(engine, tables, lambda: head, out.write)
    return out.getvalue()


@pytest.fixture
def backup(tmp_path):
    path = tmp_path / "backup"
    path.write_bytes(backed_up())
    return path


def cluster(home: Path, size=3, mode="raft"):
    text = f'[cluster]\nname = "new"\nmode = "{mode}"\ndata_dir = "{home}"\n'
    for number in range(1, size + 1):
        text += f'[[node]]\nid = "n{number}"\nhttp = "127.0.0.1:{8000 + number}"\npeer = "127.0.0.1:{9000 + number}"\n'
    return parse_config(text)


def tree(home: Path):
    return {str(path.relative_to(home)): path.is_file() and path.read_bytes() for path in sorted(home.rglob("*"))}


def test_it_says_what_is_in_it(backup):
    manifest = verify(backup)

    assert (manifest.cluster, manifest.revision, manifest.index, manifest.term) == ("old", REVISION, INDEX, TERM)
    assert manifest.tables["keys"] == 500
    assert manifest == read_manifest(backup)


def test_one_that_was_cut_short_anywhere_is_none(backup):
    content = backup.read_bytes()
    for length in [*range(0, len(content), len(content) // 50), *range(len(content) - 40, len(content))]:
        backup.write_bytes(content[:length])

        with pytest.raises(CorruptBackup, match=str(backup)):
            verify(backup)


def test_one_that_goes_on_behind_its_end_is_none(backup):
    backup.write_bytes(backup.read_bytes() + b"\0")

    with pytest.raises(CorruptBackup):
        verify(backup)


def test_a_bit_that_flipped_anywhere_is_found(backup):
    content = backup.read_bytes()
    for place in [*range(0, len(content), len(content) // 40), *range(len(content) - 500, len(content), 7)]:
        damaged = bytearray(content)
        damaged[place] ^= 4
        backup.write_bytes(damaged)

        with pytest.raises(CorruptBackup):
            verify(backup)


def test_a_check_that_fails_leaves_it_without_an_end(tmp_path):
    out, engine = io.BytesIO(), MemoryEngine(layout.TABLES)

    def check(_):
        raise StartupError("wrong")

    with pytest.raises(StartupError):
        write_backup(engine, layout.TABLES, blank_manifest, out.write, check)
    (tmp_path / "backup").write_bytes(out.getvalue())

    with pytest.raises(CorruptBackup):
        verify(tmp_path / "backup")


def test_what_is_made_of_it_goes_on_where_it_ended(backup, tmp_path):
    config = cluster(tmp_path / "data")

    done = restoring.restore(backup, config, ["n1", "n2"], advance=1000)

    assert [home.name for home in done.made] == ["n1", "n2"]
    home = tmp_path / "data" / "n1"
    identity, other = (decode_identity((one / "identity.json").read_bytes()) for one in done.made)
    assert (identity.standing, identity.starts) == (Standing.MEMBER, ())
    assert identity.disk != other.disk
    snapshots = SnapshotFiles(home / "snapshots")
    log = Log.open(RealDisk(), home / "log", segment_bytes=1 << 20)
    recover_log(log, snapshots.newest)
    assert (log.term, log.voted_for, log.last_index, log.entry(INDEX)[2]) == (TERM, None, INDEX, TERM)
    state = recover_state(home / "state", log, snapshots)
    numbers = [
        layout.unpack_number(state.tables.get(layout.META, name)) for name in (layout.REVISION, layout.WRITE_SIZE)
    ]
    assert numbers == [REVISION + 1000, 3], "W is no more than the cluster has nodes"
    assert state.tables.get(layout.KEYS, b"key00499") == b"v" * 5000
    state.close()
    log.close()


def test_nothing_is_written_over_data(backup, tmp_path):
    config = cluster(tmp_path / "data")
    (tmp_path / "data" / "n2" / "log").mkdir(parents=True)

    with pytest.raises(StartupError, match="n2: holds data"):
        restoring.restore(backup, config, ["n1", "n2", "n3"])

    assert [path.name for path in (tmp_path / "data").iterdir()] == ["n2"]


def test_a_damaged_backup_makes_nothing(backup, tmp_path):
    backup.write_bytes(backup.read_bytes()[:-1])

    with pytest.raises(CorruptBackup):
        restoring.restore(backup, cluster(tmp_path / "data"), ["n1"])

    assert not (tmp_path / "data").exists()


def test_what_was_cut_off_between_nodes_is_gone_on_with(backup, tmp_path):
    config = cluster(tmp_path / "data")
    restoring.restore(backup, config, ["n1"])
    (tmp_path / "data" / ".n2.restoring" / "log").mkdir(parents=True)  # what a process that was killed leaves
    before = tree(tmp_path / "data" / "n1")

    done = restoring.restore(backup, config, ["n1", "n2", "n3"])

    assert [home.name for home in done.there] == ["n1"]
    assert [home.name for home in done.made] == ["n2", "n3"]
    assert tree(tmp_path / "data" / "n1") == before
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["n1", "n2", "n3"]


def test_nodes_of_other_backups_or_revisions_are_not_mixed(backup, tmp_path):
    config = cluster(tmp_path / "data")
    restoring.restore(backup, config, ["n1"])

    with pytest.raises(StartupError, match="holds data"):
        restoring.restore(backup, config, ["n1", "n2"], advance=5)


def test_a_failure_on_the_way_leaves_nothing(backup, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("raftkv.backup.raft_data.Log.open", full)

    with pytest.raises(StartupError, match="no space left"):
        restoring.restore(backup, cluster(tmp_path / "data"), ["n1"])

    assert not any((tmp_path / "data").iterdir())


def test_what_is_no_file_is_not_replaced_by_one(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    (tmp_path / "directory").mkdir()
    before = sorted(tmp_path.rglob("*"))

    for name, reason in (("pipe", "not a file"), ("null", "not a file"), ("directory", "is a directory")):
        with pytest.raises(DiskError, match=f"^{tmp_path}/{name}: {reason}"), drafted(tmp_path / name):
            pytest.fail("it was begun")
    with pytest.raises(DiskError, match=r"^/dev/full: not a file"), drafted(Path("/dev/full")):
        pytest.fail("it was begun")
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "null").is_symlink()


def test_a_link_stands_for_the_file_it_leads_to(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk/monday")  # which is not there yet

    for content in (b"one", b"two"):
        with drafted(tmp_path / "link") as draft:
            draft.write_bytes(content)

        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "disk" / "monday").read_bytes() == content


def test_a_directory_that_cannot_be_written_to_is_named_and_no_draft_in_it(tmp_path):
    with (
        pytest.raises(DiskError, match=f"^{tmp_path}/gone: no such file or directory$"),
        drafted(tmp_path / "gone" / "x"),
    ):
        pytest.fail("it was begun")
    (tmp_path / "taken").mkdir()
    (tmp_path / "draft").touch()

    with pytest.raises(DiskError, match=f"^{tmp_path}/taken: is a directory$"):
        publish(tmp_path / "draft", tmp_path / "taken")


def test_the_mode_must_be_the_same(backup, tmp_path):
    with pytest.raises(StartupError, match='is of mode "raft"'):
        restoring.restore(backup, cluster(tmp_path / "data", mode="quorum"), ["n1"])


def test_a_directory_that_only_has_a_lock_is_empty(backup, tmp_path):
    (tmp_path / "data" / "n1").mkdir(parents=True)
    (tmp_path / "data" / "n1" / "lock").touch()

    restoring.restore(backup, cluster(tmp_path / "data"), ["n1"])

    shutil.rmtree(tmp_path / "data" / "n1" / "snapshots")
