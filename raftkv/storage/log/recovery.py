"""Reads the segments of a log directory back: which of them count, and what they say together.

Rules: nothing is changed here. What cannot be explained by a crash between two syncs is ``CorruptLog``, never guessed
around. Segments older than the latest reset do not count: they were about to be deleted when the node stopped.

This module imports nothing but the standard library, msgspec and its neighbours in ``storage``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec

from raftkv.formats.segments import (
    CommitRecord,
    CorruptLog,
    Entry,
    EntryRecord,
    Record,
    TruncateRecord,
    UnitCodec,
    VoteRecord,
    decode_header,
)
from raftkv.storage.disk import Disk

_SEGMENT_NAME: Final = re.compile(r"([0-9]{16})\.log")
_DRAFT_NAME: Final = re.compile(r"[0-9]{16}\.log\.tmp")


class Segment(msgspec.Struct):
    """A segment on disk and the highest index of any entry ever written to it (0 for none)."""

    sequence: int
    path: Path
    highest_index: int


class LastSegment(msgspec.Struct, frozen=True, kw_only=True):
    """Where writing goes on: the offsets of the first unit, after the last one, and of the file's end.

    ``last_unit`` is the offset and the bytes of the last valid unit; ``torn`` says that rubbish follows it.
    """

    codec: UnitCodec
    units_start: int
    end: int
    file_bytes: int
    last_unit: tuple[int, bytes] | None
    torn: bool


class Recovered(msgspec.Struct, kw_only=True):
    """What the segments say. ``useless`` are the files that only take up room.

    ``commit_index`` never lies beyond the last entry; the stored one can, when a new segment's header came to the disk
    and the entries of its first unit did not.
    """

    entries: list[Entry] = []
    term: int = 0
    voted_for: str | None = None
    commit_index: int = 0
    stored_commit_index: int = 0
    next_unit: int | None = None
    segments: list[Segment] = []
    last: LastSegment | None = None
    useless: list[Path] = []

    def cut(self, index: int) -> None:
        """Drop ``index`` and what follows."""
        if self.entries:
            del self.entries[max(0, index - self.entries[0][1]) :]


def recover(disk: Disk, directory: Path) -> Recovered:
    """Read the log in ``directory``; raises ``CorruptLog`` naming file and offset, or ``DiskError``."""
    names = disk.list(directory)
    found = Recovered(useless=[directory / name for name in names if _DRAFT_NAME.fullmatch(name)])
    paths = {int(match[1]): directory / name for name in names if (match := _SEGMENT_NAME.fullmatch(name))}
    sequences = _sequences_that_count(disk, paths)
    for sequence in sequences:
        _read_segment(found, disk, sequence, paths[sequence], is_last=sequence == sequences[-1])
    found.useless += [path for sequence, path in sorted(paths.items()) if sequence < sequences[0]]
    found.stored_commit_index = found.commit_index
    found.commit_index = min(found.commit_index, found.entries[-1][1] if found.entries else 0)
    return found


def _sequences_that_count(disk: Disk, paths: dict[int, Path]) -> list[int]:
    """The segments from the latest reset on, oldest first."""
    sequences: list[int] = []
    for sequence in sorted(paths, reverse=True):
        if sequences and sequence != sequences[-1] - 1:
            missing = paths[sequence].with_name(f"{sequences[-1] - 1:016d}.log")
            raise CorruptLog(f"{missing}: offset 0: the segment is missing")
        sequences.append(sequence)
        header, _ = decode_header(disk.read(paths[sequence]), str(paths[sequence]))
        if header.base is not None:
            break
    return sequences[::-1]


def _read_segment(found: Recovered, disk: Disk, sequence: int, path: Path, *, is_last: bool) -> None:
    data = disk.read(path)
    header, start = decode_header(data, str(path))
    if header.sequence != sequence:
        raise CorruptLog(f"{path}: offset 0: this is segment {header.sequence} under a wrong name")
    if found.next_unit is not None and found.next_unit != header.first_unit:
        raise CorruptLog(
            f"{path}: offset 0: begins with unit {header.first_unit}, but the segment before it ends before unit "
            f"{found.next_unit}: units are missing"
        )
    found.term, found.voted_for, found.commit_index = header.term, header.voted_for, header.commit_index
    segment = Segment(sequence, path, 0)
    if header.base is not None:
        found.entries = list(header.base)
        segment.highest_index = header.base[1][1]
    codec = UnitCodec(header)
    content = codec.decode_all(data, start, header.first_unit, str(path), is_last=is_last)
    for record in content.records:
        _replay(found, record, segment)
    found.segments.append(segment)
    found.next_unit = content.next_unit
    if is_last:
        last_start = content.last_start
        found.last = LastSegment(
            codec=codec,
            units_start=start,
            end=content.end,
            file_bytes=len(data),
            last_unit=None if last_start is None else (last_start, data[last_start : content.end]),
            torn=content.torn,
        )


def _replay(found: Recovered, record: Record, segment: Segment) -> None:
    match record:
        case EntryRecord(index, term, command):
            if found.entries and index != found.entries[-1][1] + 1:
                raise CorruptLog(f"{segment.path}: offset 0: entry {index} follows entry {found.entries[-1][1]}")
            found.entries.append((command, index, term))
            segment.highest_index = max(segment.highest_index, index)
        case TruncateRecord(index):
            found.cut(index)
        case VoteRecord(term, voted_for):
            found.term, found.voted_for = term, voted_for
        case CommitRecord(index):
            found.commit_index = index
