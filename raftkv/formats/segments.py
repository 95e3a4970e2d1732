"""The format of one log segment: header, flush units, and how a damaged end is told from a damaged middle.

A segment is a header followed by *flush units*, then zeros up to its preallocated size or its end.

::

    header   "RAFTKVL1" | payload length u32 | crc32(payload) u32 | payload: msgpack ``SegmentHeader``
    unit     magic u32 | payload length u32 | crc32(salt, number, payload) u32 | number u64 | payload | magic u32
    payload  msgpack list of records: entry, truncate, vote, commit

Rules. A unit is written only after the sync of the unit before it has returned. So the last unit of the last segment
may be torn: it was never promised to anybody, and is cut off. A bad unit with a valid one behind it, or in a segment
that is not the last, was promised and is damaged: that is ``CorruptLog``. Magic and checksum are salted with 8 random
bytes of the segment, so that no value of a client, not even a copy of another segment, can pass for a unit.

A last unit whose both ends arrived and which lacks no whole sector was not torn but altered, and is refused as well
(the test is that of etcd's write-ahead log). It cannot tell a lost sector from one of a value that is zero anyway: an
altered last unit with such a value is cut off like a torn one.

Pure: bytes in, values out. This module imports nothing but the standard library, msgspec and ``raftkv.core.errors``.
"""

from __future__ import annotations

import struct
import zlib
from typing import Final

import msgspec

from raftkv.core.errors import StartupError

Entry = tuple[bytes, int, int]  # command, index, term

FORMAT: Final = 1
SECTOR_BYTES: Final = 512
SALT_BYTES: Final = 8

_HEADER_MAGIC: Final = b"RAFTKVL1"
_HEADER: Final = struct.Struct(">8sII")
_UNIT: Final = struct.Struct(">4sIIQ")
_SEED: Final = struct.Struct(">QI")
UNIT_OVERHEAD_BYTES: Final = _UNIT.size + 4


class CorruptLog(StartupError):  # noqa: N818  the name says what is wrong; it is an error by its base
    """The log is damaged where it had been durable: the message names file, offset and reason."""


class EntryRecord(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """``command`` stands at ``index`` with ``term``."""

    index: int
    term: int
    command: bytes


class TruncateRecord(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Entries at ``index`` and later are gone."""

    index: int


class VoteRecord(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The node is in ``term`` and voted for ``voted_for``, if for anyone."""

    term: int
    voted_for: str | None


class CommitRecord(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Everything up to ``index`` is known to be committed."""

    index: int


Record = EntryRecord | TruncateRecord | VoteRecord | CommitRecord


class SegmentHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What a segment needs to stand alone when everything before it is gone.

    ``base`` holds the two entries of a log that was reset by a snapshot: then nothing older counts. ``first_unit`` is
    the number of its first unit; unit numbers run through all segments, so a segment cut short is noticed.
    """

    format: int
    sequence: int
    salt: bytes
    first_unit: int
    term: int
    voted_for: str | None
    commit_index: int
    base: tuple[Entry, Entry] | None = None


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """What the units of one segment say; ``last_start`` and ``end`` are where the last valid unit begins and ends."""

    records: list[Record]
    next_unit: int
    end: int
    last_start: int | None
    torn: bool


_encoder = msgspec.msgpack.Encoder()
_header_decoder = msgspec.msgpack.Decoder(SegmentHeader)
_records_decoder = msgspec.msgpack.Decoder(list[Record])


def encode_header(header: SegmentHeader) -> bytes:
    """The bytes at the start of a segment."""
    payload = _encoder.encode(header)
    return _HEADER.pack(_HEADER_MAGIC, len(payload), zlib.crc32(payload)) + payload


def decode_header(data: bytes, where: str) -> tuple[SegmentHeader, int]:
    """The header and the offset of the first unit; raises ``CorruptLog``."""
    if len(data) < _HEADER.size:
        raise CorruptLog(f"{where}: offset 0: the segment header is cut short")
    magic, length, checksum = _HEADER.unpack_from(data)
    payload = data[_HEADER.size : _HEADER.size + length]
    if magic != _HEADER_MAGIC:
        raise CorruptLog(f"{where}: offset 0: this is not a log segment")
    if len(payload) != length or zlib.crc32(payload) != checksum:
        raise CorruptLog(f"{where}: offset 0: the segment header is damaged")
    try:
        header = _header_decoder.decode(payload)
    except msgspec.MsgspecError as error:
        raise CorruptLog(f"{where}: offset 0: the segment header cannot be read ({error})") from None
    if header.format != FORMAT:
        raise CorruptLog(f"{where}: offset 0: log format {header.format} is not known to this version")
    return header, _HEADER.size + length


class UnitCodec:
    """Writes and reads the units of one segment."""

    def __init__(self, header: SegmentHeader) -> None:
        assert len(header.salt) == SALT_BYTES
        # No byte of the magic is zero, nor would be with one bit altered: zeros there mean that it was not written.
        self._magic = bytes(byte | 0x11 for byte in header.salt[:4])
        self._seed = zlib.crc32(header.salt)

    def encode(self, number: int, records: list[Record]) -> bytearray:
        """One unit, ready to be written."""
        unit = bytearray(_UNIT.size)
        _encoder.encode_into(records, unit, _UNIT.size)
        with memoryview(unit) as view, view[_UNIT.size :] as payload:
            length = len(payload)
            checksum = self._checksum(number, payload)
        _UNIT.pack_into(unit, 0, self._magic, length, checksum, number)
        unit += self._magic
        return unit

    def decode_all(self, data: bytes, start: int, first_unit: int, where: str, *, is_last: bool) -> Content:
        """Everything from offset ``start`` on; raises ``CorruptLog``. ``is_last``: a torn end is allowed."""
        records: list[Record] = []
        offset, number, last_start = start, first_unit, None
        while (end := self._valid_end(data, offset, number)) is not None:
            try:
                records += _records_decoder.decode(memoryview(data)[offset + _UNIT.size : end - 4])
            except msgspec.MsgspecError as error:
                raise CorruptLog(f"{where}: offset {offset}: a unit cannot be read ({error})") from None
            offset, number, last_start = end, number + 1, offset
        clean = data.count(0, offset) == len(data) - offset
        if not clean:
            self._check_torn(data, offset, number, where, is_last=is_last)
        return Content(records=records, next_unit=number, end=offset, last_start=last_start, torn=not clean)

    def _checksum(self, number: int, payload: memoryview | bytes) -> int:
        return zlib.crc32(payload, zlib.crc32(_SEED.pack(number, len(payload)), self._seed))

    def _valid_end(self, data: bytes, offset: int, number: int | None) -> int | None:
        """Where the unit at ``offset`` ends if it is valid and has ``number`` (``None``: any), else ``None``."""
        if len(data) - offset < UNIT_OVERHEAD_BYTES:
            return None
        magic, length, checksum, found = _UNIT.unpack_from(data, offset)
        end: int = offset + UNIT_OVERHEAD_BYTES + length
        if magic != self._magic or end > len(data) or (number is not None and found != number):
            return None
        if data[end - len(magic) : end] != magic:
            return None
        payload = memoryview(data)[offset + _UNIT.size : end - len(magic)]
        return end if self._checksum(found, payload) == checksum else None

    def _check_torn(self, data: bytes, offset: int, number: int, where: str, *, is_last: bool) -> None:
        """Return if the bad bytes from ``offset`` on can only be a write that was never synced; else ``CorruptLog``."""
        if not is_last:
            raise CorruptLog(f"{where}: offset {offset}: a unit is damaged, and later segments follow")
        candidate = data.find(self._magic, offset + 1)
        while candidate >= 0:
            end = self._valid_end(data, candidate, None)
            if end is not None and _UNIT.unpack_from(data, candidate)[3] > number:
                raise CorruptLog(f"{where}: offset {offset}: a unit is damaged, and a later one is whole")
            candidate = data.find(self._magic, candidate + 1)
        if self._is_whole(data, offset):
            raise CorruptLog(f"{where}: offset {offset}: the last unit is damaged, and was not torn by a crash")

    def _is_whole(self, data: bytes, offset: int) -> bool:
        """Did all of the last unit arrive on the disk, so that only a later change explains that it is bad?

        It was written over zeros: its beginning, its end and every sector in between must be something else.
        """
        end = len(data.rstrip(b"\0"))
        if end - offset < UNIT_OVERHEAD_BYTES or not any(data[offset : offset + len(self._magic)]):
            return False
        announced_end = offset + UNIT_OVERHEAD_BYTES + _UNIT.unpack_from(data, offset)[1]
        if end != announced_end and data[end - len(self._magic) : end] != self._magic:
            return False
        return not _lacks_sector(data, offset, end)


def _lacks_sector(data: bytes, start: int, end: int) -> bool:
    """Is a whole sector between ``start`` and ``end`` (or the unit's part of one at an end) nothing but zeros?"""
    sector_start = start
    while sector_start < end:
        sector_end = min(end, (sector_start // SECTOR_BYTES + 1) * SECTOR_BYTES)
        if not any(data[sector_start:sector_end]):
            return True
        sector_start = sector_end
    return False
