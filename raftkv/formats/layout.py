"""How the machine's state lies in tables; the only place that packs and unpacks rows.

====================  ========================================  ==================================================
table                 key                                       value
====================  ========================================  ==================================================
``keys``              the client's key                          version, create and mod revision, expiry; the value
``expiry``            when (ms, 8 bytes) + the client's key     empty; of a lease ``ff`` and its number, not a key
``events``            last revision (8 bytes) + chunk (4)       events of one command (``pack_chunk``)
``leases``            number (8 bytes)                          ttl, end and queued end (ms), keys attached
``lease_keys``        number (8 bytes) + the client's key       empty
``outcomes``          idempotency key                           order number, fingerprint and outcome, msgpack
``outcome_order``     order number (8 bytes)                    lease time (ms, 8 bytes) + idempotency key
``meta``              name                                      8-byte numbers, big-endian; ``history`` has seven
====================  ========================================  ==================================================

The number ``sum`` in ``meta`` is that of the other tables' rows (``raftkv.formats.seals``). All numbers are
unsigned 64-bit and big-endian, so that bytewise order is numeric order.

A row of ``keys`` whose version has its highest bit set goes on after the expiry with 8 bytes: the lease that the key is
attached to.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from raftkv.core.results import KeyRecord
from raftkv.formats import landmarks

KEYS: Final = b"keys"
EXPIRY: Final = b"expiry"
OUTCOMES: Final = b"outcomes"
OUTCOME_ORDER: Final = b"outcome_order"
EVENTS: Final = b"events"
LEASES: Final = b"leases"
LEASE_KEYS: Final = b"lease_keys"
META: Final = landmarks.META
TABLES: Final = (KEYS, EXPIRY, OUTCOMES, OUTCOME_ORDER, EVENTS, LEASES, LEASE_KEYS, META)

COUNTED: Final = {"keys": KEYS, "leases": LEASES, "events": EVENTS}
"""The tables whose rows are told of."""

APPLIED_INDEX: Final = landmarks.APPLIED_INDEX
APPLIED_TERM: Final = landmarks.APPLIED_TERM
SUM: Final = landmarks.SUM
REVISION: Final = b"revision"
CLOCK_MS: Final = b"clock_ms"
OUTCOME_FIRST: Final = b"outcome_first"
OUTCOME_NEXT: Final = b"outcome_next"
READ_SIZE: Final = b"read_size"
WRITE_SIZE: Final = b"write_size"

HISTORY: Final = b"history"
"""The row of ``HistoryNumbers``; a state without it keeps no history."""

LEASE_NEXT: Final = b"lease_next"
LEASE_LEAPT: Final = b"lease_leapt"

RIGHTS: Final = b"rights"
"""The revision of the last change of users and roles (``raftkv.formats.rights``), for who keeps them in memory."""

_HEADER = struct.Struct(">QQQQ")
_LONG_HEADER = struct.Struct(">QQQQQ")
_TAIL = struct.Struct(">Q")
_PLACE = struct.Struct(">QI")
_LEASE = struct.Struct(">QQQI")
_CHUNK = struct.Struct(">QI")
_EVENT = struct.Struct(">BQHII")
HEADER_BYTES: Final = _HEADER.size
NUMBER_BYTES: Final = landmarks.NUMBER_BYTES

_LONG: Final = 1 << 63
"""What is added to the version in a row of ``keys`` with the longer header."""

LEASE_MARK: Final = b"\xff"
"""Stands before a lease's number in ``expiry``; no key that begins so expires by itself (``machine.conversion``)."""

pack_number = landmarks.pack_number
unpack_number = landmarks.unpack_number
pack_place = _PLACE.pack
"""``pack_place(revision, number)``: the key of a chunk of events, of which that revision is the last."""

unpack_place = _PLACE.unpack
pack_lease = _LEASE.pack
"""``pack_lease(ttl_ms, ends_at_ms, queued_at_ms, key_count)``: the row of a lease."""

unpack_lease = _LEASE.unpack


def pack_record(  # noqa: PLR0917  the fields of a row
    version: int, create_revision: int, mod_revision: int, expires_at_ms: int, lease: int, value: bytes
) -> bytes:
    """The row of one key."""
    if lease:
        return _LONG_HEADER.pack(version | _LONG, create_revision, mod_revision, expires_at_ms, lease) + value
    return _HEADER.pack(version, create_revision, mod_revision, expires_at_ms) + value


def unpack_header(row: bytes) -> tuple[int, int, int, int, int]:
    """(version, create revision, mod revision, expiry in ms, lease) of a row, without touching the value."""
    version, create_revision, mod_revision, expires_at_ms = _HEADER.unpack_from(row)
    if version < _LONG:
        return version, create_revision, mod_revision, expires_at_ms, 0
    return version - _LONG, create_revision, mod_revision, expires_at_ms, _TAIL.unpack_from(row, HEADER_BYTES)[0]


def value_of(row: bytes) -> bytes:
    """The value in the row of a key."""
    return row[_LONG_HEADER.size if row[0] & 0x80 else HEADER_BYTES :]


def unpack_record(key: bytes, row: bytes, *, with_value: bool = True) -> KeyRecord:
    """The record in a row."""
    version, create_revision, mod_revision, expires_at_ms, lease = unpack_header(row)
    return KeyRecord(
        key=key,
        value=value_of(row) if with_value else b"",
        version=version,
        create_revision=create_revision,
        mod_revision=mod_revision,
        expires_at_ms=expires_at_ms,
        lease=lease,
    )


_HISTORY = struct.Struct(">7Q")


class HistoryNumbers(msgspec.Struct):
    """What bounds history, and how much of it there is.

    At most ``events_max`` events, none older than ``age_max_ms``, and of no more bytes than ``bytes_max`` or
    ``key_bytes``, the rows of all keys, whichever is more. Nothing before revision ``compacted`` can be read.
    """

    events_max: int = 0
    age_max_ms: int = 0
    bytes_max: int = 0
    compacted: int = 0
    event_count: int = 0
    event_bytes: int = 0
    key_bytes: int = 0


def pack_history(numbers: HistoryNumbers) -> bytes:
    """The row ``history`` of ``meta``: u64 each, in the order of the fields."""
    return _HISTORY.pack(*msgspec.structs.astuple(numbers))


def unpack_history(row: bytes | None) -> HistoryNumbers:
    """What the row says; all 0 where there is none."""
    return HistoryNumbers() if row is None else HistoryNumbers(*_HISTORY.unpack(row))


_HELD: Final = 1
_FORGOT: Final = 2
_EXPIRED: Final = 4


class Event(msgspec.Struct, frozen=True, gc=False):
    """One change of one key, as history keeps it.

    ``before`` and ``row`` are those of ``keys``, before and afterwards: ``None`` if there was nothing before, and empty
    bytes if it is not kept; empty if the key was removed. ``expired``: by time, its own or a lease's.
    """

    revision: int
    key: bytes
    before: bytes | None
    row: bytes
    expired: bool = False


def event_parts(
    revision: int,
    key: bytes,
    before: bytes | None,
    row: bytes,
    expired: bool,  # noqa: FBT001  by position: this is done for every change
) -> tuple[bytes, ...]:
    """One event in a chunk, to be joined.

    ::

        flags u8 | revision u64 | lengths of the key u16, the row before u32 and the row u32 | key | row before | row

    The flags add up: 1 there was a row before, 2 it is not kept, 4 removed by time.
    """
    if before is None:
        return _EVENT.pack(_EXPIRED if expired else 0, revision, len(key), 0, len(row)), key, row
    flags = (_HELD if before else _HELD | _FORGOT) | (_EXPIRED if expired else 0)
    return _EVENT.pack(flags, revision, len(key), len(before), len(row)), key, before, row


def pack_chunk(stamp_ms: int, count: int, parts: list[bytes]) -> bytes:
    """The row of a chunk: ``stamp u64 | events u32 | event...``; the stamp is the machine's time."""
    return b"".join((_CHUNK.pack(stamp_ms, count), *parts))


unpack_chunk = _CHUNK.unpack_from
"""(stamp in ms, number of events) of a chunk; the first event stands at ``CHUNK_BYTES``."""

CHUNK_BYTES: Final = _CHUNK.size


def unpack_event(chunk: bytes, start: int) -> tuple[Event, int]:
    """The event that stands at ``start`` in a chunk, and where it ends."""
    flags, revision, key_bytes, before_bytes, row_bytes = _EVENT.unpack_from(chunk, start)
    key_start = start + _EVENT.size
    before_start = key_start + key_bytes
    row_start = before_start + before_bytes
    end = row_start + row_bytes
    before = chunk[before_start:row_start] if flags & _HELD else None
    return Event(revision, chunk[key_start:before_start], before, chunk[row_start:end], bool(flags & _EXPIRED)), end
