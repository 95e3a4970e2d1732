"""Raft's log, with term and vote as records in the same files: what ``flush`` returned from survives a power loss.

Rules: everything is buffered until ``flush``, which makes one unit of it, writes it and syncs it; nothing that depends
on it may leave the node before ``flush`` has returned (Raft, figure 2: "updated on stable storage before responding to
RPCs"). After a failed write or sync nobody knows what is on the disk, so the log refuses everything from then on. All
uncompacted entries are also held in memory. One thread owns a log.

A segment is drafted under another name, synced and renamed, so a segment that has its name has a good header. New
segments carry term, vote and commit index, so that old ones can be deleted whole, oldest first.

Pure logic over ``Disk``: no clock, no socket, no operating system call. ``raftkv.formats.segments`` is the format.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from raftkv.formats.segments import (
    FORMAT,
    SALT_BYTES,
    CommitRecord,
    Entry,
    EntryRecord,
    Record,
    SegmentHeader,
    TruncateRecord,
    UnitCodec,
    VoteRecord,
    encode_header,
)
from raftkv.storage.disk import Disk, DiskError, File
from raftkv.storage.log import extent
from raftkv.storage.log.recovery import LastSegment, Segment, recover

# Small units are written over real zeros, laid down this far ahead: overwriting costs a sync about a third less than
# filling a hole or a preallocated, unwritten extent (129 against 192 microseconds on ext4). Zeroing a whole segment at
# once would stop the node for tens of milliseconds; larger units are too few per chunk of zeros to gain anything.
_ZERO_AHEAD: Final = bytes(256 << 10)
_SMALL_UNIT_BYTES: Final = 8 << 10


class Log:
    """Entries with consecutive indexes, the term, the vote and the commit index. Open one with ``Log.open``."""

    def __init__(self, disk: Disk, directory: Path, segment_bytes: int, random_bytes: Callable[[int], bytes]) -> None:
        self._disk = disk
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._random_bytes = random_bytes
        self._entries: list[Entry] = []
        self._size_bytes = 0
        self._term = 0
        self._voted_for: str | None = None
        self._commit_index = 0
        self._written_commit_index = 0
        self._pending: list[Record] = []
        self._pending_highest = 0
        self._segments: deque[Segment] = deque()
        self._next_unit = 1
        self._failure: str | None = None
        # The current segment: where the next unit goes, and what is known of the bytes there.
        self._file: File | None = None
        self._codec: UnitCodec | None = None
        self._units_start = self._offset = self._capacity = self._zeroed_until = 0

    @classmethod
    def open(
        cls, disk: Disk, directory: Path, *, segment_bytes: int, random_bytes: Callable[[int], bytes] = os.urandom
    ) -> Log:
        """Read the log in ``directory``, or begin one; raises ``CorruptLog`` or ``DiskError``, naming the file."""
        log = cls(disk, directory, segment_bytes, random_bytes)
        try:
            log._load()
        except BaseException:
            if log._file is not None:
                log._file.close()
            raise
        return log

    @property
    def entries(self) -> Sequence[Entry]:
        """All entries held, oldest first; not to be changed by the reader."""
        return self._entries

    @property
    def first_index(self) -> int:
        """The index of the oldest entry held, 0 when there is none."""
        return self._entries[0][1] if self._entries else 0

    @property
    def last_index(self) -> int:
        """The index of the newest entry, 0 when there is none."""
        return self._entries[-1][1] if self._entries else 0

    @property
    def term(self) -> int:
        """The latest term set."""
        return self._term

    @property
    def voted_for(self) -> str | None:
        """Who got this node's vote in ``term``."""
        return self._voted_for

    @property
    def commit_index(self) -> int:
        """The latest commit index set."""
        return self._commit_index

    @property
    def segment_bytes(self) -> int:
        """What a new segment takes of the disk at once."""
        return self._segment_bytes

    @property
    def size_bytes(self) -> int:
        """Bytes of all commands held."""
        return self._size_bytes

    @property
    def dirty(self) -> bool:
        """Is there anything that a ``flush`` would write?"""
        return bool(self._pending)

    def __len__(self) -> int:
        return len(self._entries)

    def entry(self, index: int) -> Entry:
        """The entry at ``index``, which must be held."""
        position = index - self.first_index
        assert 0 <= position < len(self._entries)
        return self._entries[position]

    def slice(self, start_offset: int, stop_offset: int) -> list[Entry]:
        """Entries by their place among those held, 0 being the oldest."""
        return self._entries[start_offset:stop_offset]

    def append(self, command: bytes, index: int, term: int) -> None:
        """Add an entry behind the last one; an empty log takes any index."""
        self._check_usable()
        assert index >= 1
        assert not self._entries or index == self._entries[-1][1] + 1
        if not self._entries:
            # Entries that were only forgotten may still be on disk; nothing says that this one continues them.
            self._pending.append(TruncateRecord(1))
        self._entries.append((command, index, term))
        self._size_bytes += len(command)
        self._pending.append(EntryRecord(index, term, command))
        self._pending_highest = max(self._pending_highest, index)

    def truncate_from(self, index: int) -> None:
        """Drop ``index`` and everything after it."""
        self._check_usable()
        if index > self.last_index:
            return
        assert index >= self.first_index
        self._cut(index)
        self._pending.append(TruncateRecord(index))

    def set_vote(self, term: int, voted_for: str | None) -> None:
        """Enter ``term``, or vote in it. A term never goes back, a vote given in a term stays (Raft, section 5.2)."""
        self._check_usable()
        if (term, voted_for) == (self._term, self._voted_for):
            return
        assert term >= self._term
        assert term > self._term or self._voted_for is None
        self._term, self._voted_for = term, voted_for
        self._pending.append(VoteRecord(term, voted_for))

    def set_commit(self, index: int) -> None:
        """Note the commit index; it rides along with the next flush, and is a lower bound after a crash."""
        self._check_usable()
        self._commit_index = index

    def flush(self) -> None:
        """Make everything so far durable; nothing is written when nothing changed."""
        self._check_usable()
        if not self._pending:
            return
        with self._poisoned_by_failure():
            self._flush()

    def rotate(self) -> None:
        """Flush and start a new segment, unless the current one is still empty."""
        self.flush()
        if self._offset > self._units_start:
            with self._poisoned_by_failure():
                self._start_segment()

    def drop_before(self, index: int) -> None:
        """Forget entries below ``index``; delete the oldest segments as far as they hold nothing else.

        Entries whose segment stays come back when the log is opened again.
        """
        self._check_usable()
        assert index <= self.last_index + 1
        count = index - self.first_index
        if self._entries and count > 0:
            self._size_bytes -= sum(len(entry[0]) for entry in self._entries[:count])
            del self._entries[:count]
        with self._poisoned_by_failure():
            while len(self._segments) > 1 and self._segments[0].highest_index < index:
                # Each name is gone for good before the next goes: a gap in the sequence would look like damage.
                self._disk.remove(self._segments.popleft().path)
                self._disk.sync_directory(self._directory)

    def reset(self, previous: Entry, last: Entry) -> None:
        """Start over behind a snapshot: the log is these two entries, durably, and nothing older."""
        self._check_usable()
        assert last[1] == previous[1] + 1
        with self._poisoned_by_failure():
            self._entries = [previous, last]
            self._size_bytes = len(previous[0]) + len(last[0])
            self._commit_index = last[1]
            self._pending.clear()  # the vote goes into the header, the entries are void
            self._pending_highest = 0
            self._start_segment(base=(previous, last))
            while len(self._segments) > 1:
                self._disk.remove(self._segments.popleft().path)
            self._disk.sync_directory(self._directory)

    def close(self) -> None:
        """Flush, commit index included, and close; after a failure only close."""
        if self._file is None:
            return
        try:
            if self._failure is None and (self._pending or self._commit_index != self._written_commit_index):
                with self._poisoned_by_failure():
                    self._flush()
        finally:
            file, self._file = self._file, None
            self._failure = self._failure or f"{self._directory}: the log is closed"
            file.close()

    def _check_usable(self) -> None:
        if self._failure is not None:
            raise DiskError(self._failure)

    @contextmanager
    def _poisoned_by_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            detail = str(error) or type(error).__name__
            self._failure = f"{detail} (earlier; the log takes nothing after a failure)"
            raise

    def _cut(self, index: int) -> None:
        position = max(0, index - self.first_index)
        self._size_bytes -= sum(len(entry[0]) for entry in self._entries[position:])
        del self._entries[position:]

    def _flush(self) -> None:
        if self._commit_index != self._written_commit_index:
            self._pending.append(CommitRecord(self._commit_index))
        assert self._codec is not None
        unit = self._codec.encode(self._next_unit, self._pending)
        if self._offset + len(unit) > self._capacity and self._offset > self._units_start:
            self._start_segment(room_bytes=len(unit))
            unit = self._codec.encode(self._next_unit, self._pending)
        assert self._file is not None
        end = self._offset + len(unit)
        self._file.write_at(self._offset, unit)
        if end > self._zeroed_until:
            self._zeroed_until = end
            if len(unit) <= _SMALL_UNIT_BYTES and end < self._capacity:
                zeros = _ZERO_AHEAD[: self._capacity - end]
                self._file.write_at(end, zeros)
                self._zeroed_until = end + len(zeros)
        self._file.sync()
        self._offset = end
        self._next_unit += 1
        self._written_commit_index = self._commit_index
        segment = self._segments[-1]
        segment.highest_index = max(segment.highest_index, self._pending_highest)
        self._pending.clear()
        self._pending_highest = 0

    def _start_segment(self, *, base: tuple[Entry, Entry] | None = None, room_bytes: int = 0) -> None:
        """Make a new segment the current one; it has its name only once its header is durable."""
        sequence = self._segments[-1].sequence + 1 if self._segments else 1
        # A new segment is durable before the unit it was made for. Its header may speak of no commit index that rests
        # on that unit: after a crash in between it would declare committed what the unit was about to replace.
        durable_commit_index = self._commit_index
        if base is None:
            durable_commit_index = min(self._commit_index, self._written_commit_index)
        path = self._directory / f"{sequence:016d}.log"
        header = SegmentHeader(
            format=FORMAT,
            sequence=sequence,
            salt=self._random_bytes(SALT_BYTES),
            first_unit=self._next_unit,
            term=self._term,
            voted_for=self._voted_for,
            commit_index=durable_commit_index,
            base=base,
        )
        head = encode_header(header)
        capacity = max(self._segment_bytes, len(head) + room_bytes)
        draft = path.with_name(path.name + ".tmp")
        file = self._disk.create(draft, capacity)
        try:
            file.write_at(0, head)
            file.sync()
            self._disk.rename(draft, path)
            file.renamed(path)
            self._disk.sync_directory(self._directory)
        except BaseException:
            file.close()
            raise
        if self._file is not None:
            self._file.close()
        self._file, self._codec = file, UnitCodec(header)
        self._units_start = self._offset = self._zeroed_until = len(head)
        self._capacity = capacity
        self._written_commit_index = durable_commit_index
        extent.note(self._disk, self._directory, sequence)
        self._segments.append(Segment(sequence, path, base[1][1] if base is not None else 0))

    def _load(self) -> None:
        self._disk.make_directory(self._directory)
        found = recover(self._disk, self._directory)
        newest = found.segments[-1].sequence if found.segments else 0
        is_noted = extent.check(self._disk, self._directory, newest)
        self._entries, self._size_bytes = found.entries, sum(len(entry[0]) for entry in found.entries)
        self._term, self._voted_for = found.term, found.voted_for
        # Where the two differ, the next flush corrects what is stored, so that it never speaks for later entries.
        self._commit_index, self._written_commit_index = found.commit_index, found.stored_commit_index
        self._segments.extend(found.segments)
        if found.last is not None:
            assert found.next_unit is not None
            self._next_unit = found.next_unit
            self._continue_segment(found.last)
        # What was read must be durable, names included, before what it replaced is deleted; and the deletions before
        # any later one, which would otherwise leave a gap in the sequence.
        self._disk.sync_directory(self._directory)
        for path in found.useless:
            self._disk.remove(path)
        self._disk.sync_directory(self._directory)
        if found.last is None:
            self._start_segment()
        elif not is_noted:
            extent.note(self._disk, self._directory, newest)

    def _continue_segment(self, last: LastSegment) -> None:
        """Cut off a torn end, and make durable what was read.

        The last unit may have been read from the cache only: the node was killed before its sync returned, or the sync
        failed and left the cache marked clean. It is written again, so that the sync has something to do.
        """
        self._file, self._codec = self._disk.open_for_append(self._segments[-1].path), last.codec
        self._units_start, self._offset, self._zeroed_until = last.units_start, last.end, last.end
        self._capacity = max(self._segment_bytes, last.file_bytes)
        if last.torn:
            self._file.truncate(last.end)
        if last.last_unit is not None:
            self._file.write_at(*last.last_unit)
        self._file.sync()
