"""The log over a disk that crashes, tears, fills up, fails and rots: what is kept, and what is refused."""

import contextlib
import errno
import os
import random
import subprocess
from pathlib import Path

import pytest

from raftkv.formats.segments import CorruptLog, SegmentHeader, UnitCodec, decode_header
from raftkv.instruments.sim.disk import Crashed, VirtualDisk
from raftkv.instruments.sim.raft import LOG_DIRECTORY
from raftkv.storage.disk import DiskError, RealDisk
from raftkv.storage.log import extent
from raftkv.storage.log.log import Log
from tests.unit.opened_log import SEGMENT_BYTES, append_and_flush, open_log


def test_compaction_leaves_no_old_segments():
    disk = VirtualDisk()
    log = open_log(disk)
    for index in range(1, 101):
        log.append(bytes([index]) * 300, index, 1)
        log.flush()
    log.rotate()
    assert len(disk.list(LOG_DIRECTORY)) > 10
    log.drop_before(101)

    assert len(disk.list(LOG_DIRECTORY)) == 1
    assert len(log) == 0
    log.append(b"next", 101, 1)
    log.flush()
    assert list(open_log(disk).entries) == [(b"next", 101, 1)]


def test_a_crash_while_many_segments_are_deleted_leaves_no_gap_among_them():
    for crash_at in range(1, 80):
        for seed in range(6):
            disk = VirtualDisk()
            log, flushed = open_log(disk), []
            append_and_flush(log, b"v" * 900, flushed, 30)
            disk.steps, disk.crash_at = 0, crash_at
            with contextlib.suppress(Crashed):
                log.drop_before(25)
            again = open_log(disk.after_crash(seed))

            assert list(again.entries) == flushed[again.first_index - 1 :]
            assert again.first_index <= 25


def test_what_a_torn_unit_leaves_behind_does_not_outlive_the_next_start():
    disk = VirtualDisk()
    log = Log.open(disk, LOG_DIRECTORY, segment_bytes=1 << 20)
    append_and_flush(log, b"kept", [], 1)
    log.append(random.Random(1).randbytes(600_000), 2, 1)
    log.flush()
    (path,) = [path for path in disk.names if path.parent == LOG_DIRECTORY]
    content = disk.names[path].current
    end = len(bytes(content).rstrip(b"\x00"))
    content[end - 4 : end] = bytes(4)
    log = Log.open(disk, LOG_DIRECTORY, segment_bytes=1 << 20)
    log.append(b"short", 2, 2)
    log.rotate()
    log.append(b"after", 3, 2)
    log.flush()

    assert [entry[0] for entry in open_log(disk).entries] == [b"kept", b"short", b"after"]


def test_a_unit_wiped_out_before_a_whole_one_is_refused():
    disk, extents = flushed_log([b"a", b"b" * 1200, b"c"])
    (path,) = extents
    content = disk.names[path].current
    start = content.index(b"b" * 1200) - 40
    content[start : start + 1240] = bytes(1240)
    with pytest.raises(CorruptLog, match="later one is whole"):
        open_log(disk)


def test_rubbish_behind_the_last_unit_of_a_finished_segment_is_refused():
    disk, extents = flushed_log([b"v" * 500] * 8)
    first = min(extents)
    disk.names[first].current[extents[first][1].end + 9] = 1
    with pytest.raises(CorruptLog, match="later segments follow"):
        open_log(disk)


def test_the_first_entry_after_an_empty_log_may_have_any_index():
    disk = VirtualDisk()
    log = open_log(disk)
    for index in range(1, 11):
        log.append(b"x", index, 1)
    log.flush()
    log.drop_before(5)
    log.truncate_from(5)
    log.append(b"far", 20, 2)
    log.flush()

    assert list(open_log(disk).entries) == [(b"far", 20, 2)]


def test_a_failed_sync_poisons_the_log_and_what_a_restart_reads_is_made_durable():
    for fail_at in range(1, 40, 2):
        disk = VirtualDisk(fail_at=fail_at)
        try:
            log = open_log(disk)
        except DiskError:
            continue
        with pytest.raises(DiskError):
            append_and_flush(log, b"value" * 50, [], 30)
        for method, arguments in (("flush", ()), ("append", (b"", 99, 1)), ("set_vote", (9, None)), ("rotate", ())):
            with pytest.raises(DiskError, match="earlier"):
                getattr(log, method)(*arguments)
        disk.fail_at = None
        restarted = open_log(disk)
        seen = list(restarted.entries)

        assert list(open_log(disk.after_crash(fail_at)).entries) == seen


def test_a_full_disk_is_told_as_such_and_loses_nothing():
    disk = VirtualDisk(limit_bytes=5 * SEGMENT_BYTES)
    log = open_log(disk)
    flushed = []
    with pytest.raises(DiskError) as failure:
        append_and_flush(log, b"v" * 500, flushed, 100)

    assert failure.value.full
    disk.limit_bytes *= 2
    assert len(flushed) > 5
    assert list(open_log(disk).entries)[: len(flushed)] == flushed


def flushed_log(values):
    """A disk with one unit per value, and where the units of each segment lie."""
    disk = VirtualDisk()
    log = open_log(disk)
    for index, value in enumerate(values, 1):
        log.append(value, index, 1)
        log.flush()
    extents = {}
    for path, inode in disk.names.items():
        if path.parent != LOG_DIRECTORY:
            continue
        header, start = decode_header(bytes(inode.current), "")
        content = UnitCodec(header).decode_all(bytes(inode.current), start, header.first_unit, "", is_last=True)
        extents[path] = (start, content)
    return disk, extents


def test_every_flipped_bit_in_what_was_flushed_is_refused():
    dice = random.Random(3)
    disk, extents = flushed_log([dice.randbytes(dice.randrange(1, 700)) for _ in range(14)])
    assert len(extents) > 2
    flips = [
        (path, offset, bit)
        for path, (_, content) in extents.items()
        for offset in range(content.end)
        for bit in (dice.randrange(8),)
    ]
    for path, offset, bit in flips:
        inode = disk.names[path]
        inode.current[offset] ^= 1 << bit
        with pytest.raises(CorruptLog, match=path.name):
            open_log(disk)
        inode.current[offset] ^= 1 << bit

    assert len(open_log(disk)) == 14


def test_a_segment_that_is_missing_cut_short_or_renamed_is_refused():
    disk, extents = flushed_log([b"v" * 500] * 20)
    first, second, *_ = sorted(extents)
    saved = disk.names.pop(second)
    with pytest.raises(CorruptLog, match=f"{second.name}.*missing"):
        open_log(disk)
    disk.names[second] = saved
    _, content = extents[first]
    whole = bytes(disk.names[first].current)
    disk.names[first].current[content.last_start :] = bytes(len(whole) - content.last_start)
    with pytest.raises(CorruptLog, match="units are missing"):
        open_log(disk)
    disk.names[first].current[:] = whole
    disk.names[first], disk.names[second] = disk.names[second], disk.names[first]
    with pytest.raises(CorruptLog):
        open_log(disk)


def test_a_first_segment_without_a_readable_header_is_refused_not_begun_anew():
    for content in (b"", b"RAFTKVL1", bytes(4096), b"something else entirely, and longer than a header"):
        disk, extents = flushed_log([b"v"])
        (path,) = extents
        disk.names[path].current[:] = content
        with pytest.raises(CorruptLog, match="offset 0"):
            open_log(disk)


def test_a_value_that_holds_a_copy_of_a_unit_is_never_taken_for_one():
    disk, extents = flushed_log([b"first"])
    (path,) = extents
    start, content = extents[path]
    unit = bytes(disk.names[path].current[start : content.end])
    other = UnitCodec(
        SegmentHeader(format=1, sequence=1, salt=b"othersal", first_unit=1, term=0, voted_for=None, commit_index=0)
    ).encode(3, [])
    log = open_log(disk)
    log.append(unit * 3 + bytes(other) + bytes(600), 2, 1)
    log.flush()
    inode = disk.names[path]
    log_end = len(bytes(inode.current).rstrip(b"\x00"))
    inode.current[log_end - 4 : log_end] = bytes(4)  # the end did not arrive: the unit is torn

    assert list(open_log(disk).entries) == [(b"first", 1, 1)]


def test_a_unit_larger_than_a_segment_and_the_units_around_it_are_kept(tmp_path):
    log = Log.open(RealDisk(), tmp_path / "log", segment_bytes=1 << 16)
    values = [b"a", os.urandom(1 << 20), b"b", os.urandom(3 << 16)]
    for index, value in enumerate(values, 1):
        log.append(value, index, 1)
        log.flush()
    log.close()
    again = Log.open(RealDisk(), tmp_path / "log", segment_bytes=1 << 16)

    assert [entry[0] for entry in again.entries] == values
    again.close()
    with pytest.raises(DiskError, match="closed"):
        again.flush()


def test_a_clean_log_writes_nothing_and_the_commit_index_only_rides_along():
    disk = VirtualDisk()
    log = open_log(disk)
    log.append(b"v", 1, 1)
    log.flush()
    steps = disk.steps
    log.set_commit(1)

    assert not log.dirty
    log.flush()
    assert disk.steps == steps
    assert open_log(disk.after_crash(0)).commit_index == 0
    log.set_vote(2, "n1")
    assert log.dirty
    log.flush()
    assert open_log(disk.after_crash(0)).commit_index == 1


def test_a_vote_is_never_taken_back():
    log = open_log(VirtualDisk())
    log.set_vote(3, "n1")
    for term, voted_for in ((3, "n2"), (3, None), (2, "n1")):
        with pytest.raises(AssertionError):
            log.set_vote(term, voted_for)

    assert (log.term, log.voted_for) == (3, "n1")


def test_a_stored_commit_index_never_speaks_for_entries_that_came_later():
    disk = VirtualDisk()
    log = open_log(disk)
    log.append(b"one", 1, 1)
    log.append(b"two", 2, 1)
    log.set_commit(2)
    log.flush()
    log.truncate_from(2)
    log.flush()
    log = open_log(disk)
    assert log.commit_index == 1
    log.append(b"other", 2, 2)
    log.flush()

    assert open_log(disk).commit_index == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_real_full_disk_ends_in_disk_error_and_the_log_opens_again(tmp_path):
    mount = tmp_path / "small"
    mount.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", mount], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        log = Log.open(RealDisk(), mount / "log", segment_bytes=1 << 16)
        flushed = []
        with pytest.raises(DiskError) as failure:
            append_and_flush(log, os.urandom(30_000), flushed, 1000)
        log.close()

        assert failure.value.full
        assert "no space left" in str(failure.value)
        again = Log.open(RealDisk(), mount / "log", segment_bytes=1 << 16)
        assert len(flushed) > 10
        assert list(again.entries) == flushed
        again.close()
    finally:
        subprocess.run(["umount", mount], check=True)


def test_a_crash_between_a_new_segment_and_its_first_unit_commits_nothing_that_the_unit_replaces():
    """A rejoining leader's stale tail is replaced by a unit so large that it starts a segment of its own."""

    def replace_a_tail(disk):
        log = Log.open(disk, LOG_DIRECTORY, segment_bytes=1 << 12)
        log.set_vote(1, None)
        for index in range(1, 6):
            log.append(b"stale", index, 1)
        log.set_commit(3)
        log.flush()
        log.set_vote(2, None)
        log.truncate_from(4)
        for index in range(4, 9):
            log.append(b"N" * 2000, index, 2)
        log.set_commit(8)
        log.flush()

    whole = VirtualDisk()
    replace_a_tail(whole)
    for crash_at in range(1, whole.steps + 1):
        for seed in range(10):
            disk = VirtualDisk(crash_at=crash_at)
            with contextlib.suppress(Crashed):
                replace_a_tail(disk)
            log = Log.open(disk.after_crash(seed), LOG_DIRECTORY, segment_bytes=1 << 12)

            assert not [entry for entry in log.entries if 4 <= entry[1] <= log.commit_index and entry[2] == 1]


def test_a_failing_disk_is_told_with_the_name_that_the_segment_has(tmp_path, monkeypatch):
    log = Log.open(RealDisk(), tmp_path / "log", segment_bytes=1 << 16)
    log.append(b"x", 1, 1)

    def fails(*_):
        raise OSError(errno.EIO, "I/O error")

    monkeypatch.setattr(os, "fdatasync", fails)
    with pytest.raises(DiskError) as told:
        log.flush()
    monkeypatch.undo()
    named = Path(str(told.value).split(": ")[0])

    assert named.parent == tmp_path / "log"
    assert named.exists()


def grown(count=4):
    """A log of several segments, closed; returns its disk and the names of the segments, oldest first."""
    disk = VirtualDisk()
    log = Log.open(disk, LOG_DIRECTORY, segment_bytes=1 << 10)
    log.set_vote(3, "n2")
    for index in range(1, count + 1):
        log.append(b"x" * 900, index, 3)
        log.flush()
    log.close()
    return disk, sorted(path for path in disk.names if path.parent == LOG_DIRECTORY)


@pytest.mark.parametrize("lost", [1, 2, None])
def test_a_log_that_lost_its_last_segments_or_all_is_refused_by_name(lost):
    disk, segments = grown()
    for path in segments[-lost:] if lost else segments:
        disk.remove(path)

    with pytest.raises(CorruptLog, match=r"^/log/0+4\.log: the last segment of the log is missing"):
        Log.open(disk, LOG_DIRECTORY, segment_bytes=1 << 10)


def test_a_log_of_an_earlier_version_learns_how_far_it_reaches():
    disk, segments = grown()
    disk.remove(extent.path_of(LOG_DIRECTORY))

    Log.open(disk, LOG_DIRECTORY, segment_bytes=1 << 10).close()
    disk.remove(segments[-1])

    with pytest.raises(CorruptLog):
        Log.open(disk, LOG_DIRECTORY, segment_bytes=1 << 10)


@pytest.mark.parametrize("content", [b"", b"no number", b"9" * 40, b"-1", b"\xff"])
def test_a_damaged_extent_is_refused_by_name(content):
    disk, _ = grown()
    disk.names[extent.path_of(LOG_DIRECTORY)].current[:] = content

    with pytest.raises(CorruptLog, match=r"^/log\.extent: damaged"):
        Log.open(disk, LOG_DIRECTORY, segment_bytes=1 << 10)
