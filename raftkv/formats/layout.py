"""How the machine's state lies in tables; the only place that packs and unpacks rows.

====================  ========================================  ==================================================
table                 key                                       value
====================  ========================================  ==================================================
``keys``              the client's key                          version, create and mod revision, expiry; the value
``expiry``            when (ms, 8 bytes) + the client's key     empty; of a lease ``ff`` and its number, not a key
``events``            revision (8 bytes) + place (4 bytes)      what changed then (``pack_event``)
``leases``            number (8 bytes)                          ttl, end and queued end (ms), keys attached
``lease_keys``        number (8 bytes) + the client's key       empty
``outcomes``          idempotency key                           order number, fingerprint and outcome, msgpack
``outcome_order``     order number (8 bytes)                    stamp (ms, 8 bytes) + idempotency key
``meta``              name                                      8-byte numbers, big-endian; ``history`` has eight
====================  ========================================  ==================================================

The number ``sum`` in ``meta`` is that of the other tables' rows (``raftkv.formats.seals``). All numbers are
unsigned 64-bit and big-endian, so that bytewise order is numeric order.

A row of ``keys`` whose version has its highest bit set goes on after the expiry with 12 bytes: the lease that the key
is attached to, and the place of its last change among those of one revision (4 bytes). No row of a state that keeps
no history has it.
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

_HEADER = struct.Struct(">QQQQ")
_LONG_HEADER = struct.Struct(">QQQQQI")
_TAIL = struct.Struct(">QI")
_PLACE = struct.Struct(">QI")
_LEASE = struct.Struct(">QQQI")
_EVENT = struct.Struct(">BQH")
_LENGTH = struct.Struct(">I")
HEADER_BYTES: Final = _HEADER.size
NUMBER_BYTES: Final = landmarks.NUMBER_BYTES
PLACE_BYTES: Final = _PLACE.size

_LONG: Final = 1 << 63
"""What is added to the version in a row of ``keys`` with the longer header."""

LEASE_MARK: Final = b"\xff"
"""Stands before a lease's number in ``expiry``; keys are UTF-8 and never begin with it."""

pack_number = landmarks.pack_number
unpack_number = landmarks.unpack_number
pack_place = _PLACE.pack
"""``pack_place(revision, place)``: the key of an event."""

unpack_place = _PLACE.unpack
pack_lease = _LEASE.pack
"""``pack_lease(ttl_ms, expires_at_ms, queued_at_ms, key_count)``: the row of a lease."""

unpack_lease = _LEASE.unpack


def pack_record(  # noqa: PLR0917  the fields of a row
    version: int, create_revision: int, mod_revision: int, expires_at_ms: int, lease: int, place: int, value: bytes
) -> bytes:
    """The row of one key; ``place`` is that of its last change among those of its revision."""
    if lease or place:
        return _LONG_HEADER.pack(version | _LONG, create_revision, mod_revision, expires_at_ms, lease, place) + value
    return _HEADER.pack(version, create_revision, mod_revision, expires_at_ms) + value


def unpack_header(row: bytes) -> tuple[int, int, int, int, int, int]:
    """(version, create revision, mod revision, expiry in ms, lease, place) of a row, without touching the value."""
    version, create_revision, mod_revision, expires_at_ms = _HEADER.unpack_from(row)
    if version < _LONG:
        return version, create_revision, mod_revision, expires_at_ms, 0, 0
    lease, place = _TAIL.unpack_from(row, HEADER_BYTES)
    return version - _LONG, create_revision, mod_revision, expires_at_ms, lease, place


def last_change(row: bytes) -> tuple[int, int]:
    """Which change of a key its row is of: its revision and its place."""
    _, _, mod_revision, _, _, place = unpack_header(row)
    return mod_revision, place


def value_of(row: bytes) -> bytes:
    """The value in the row of a key."""
    return row[_LONG_HEADER.size if row[0] & 0x80 else HEADER_BYTES :]


def unpack_record(key: bytes, row: bytes, *, with_value: bool = True) -> KeyRecord:
    """The record in a row."""
    version, create_revision, mod_revision, expires_at_ms, lease, _ = unpack_header(row)
    return KeyRecord(
        key=key,
        value=value_of(row) if with_value else b"",
        version=version,
        create_revision=create_revision,
        mod_revision=mod_revision,
        expires_at_ms=expires_at_ms,
        lease=lease,
    )


_HISTORY = struct.Struct(">8Q")


class HistoryNumbers(msgspec.Struct):
    """What bounds history, and how much of it there is.

    At most ``events_max`` events, none older than ``age_max_ms``, and of no more bytes than ``bytes_max`` or
    ``key_bytes``, the rows of all keys, whichever is more. Nothing before revision ``compacted`` can be read. Up to
    ``passed`` events are gone, but for those that a later one points at; ``event_count`` counts those after it,
    ``event_bytes`` all.
    """

    events_max: int = 0
    age_max_ms: int = 0
    bytes_max: int = 0
    compacted: int = 0
    passed: int = 0
    event_count: int = 0
    event_bytes: int = 0
    key_bytes: int = 0


def pack_history(numbers: HistoryNumbers) -> bytes:
    """The row ``history`` of ``meta``: u64 each, in the order of the fields."""
    return _HISTORY.pack(*msgspec.structs.astuple(numbers))


def unpack_history(row: bytes | None) -> HistoryNumbers:
    """What the row says; all 0 where there is none."""
    return HistoryNumbers() if row is None else HistoryNumbers(*_HISTORY.unpack(row))


_IS_PUT: Final = 1
_POINTS: Final = 2
_HOLDS: Final = 4
_FORGOT: Final = 8
_EXPIRED: Final = 16


class Event(msgspec.Struct, frozen=True, gc=False):
    """One change of one key, as history keeps it.

    ``row`` is that of ``keys`` afterwards, empty when the key was removed; ``expired``: by time, its own or a lease's.
    ``previous`` is what was there before: where its event is, or its row, ``None`` if there was nothing; empty bytes
    say that it is not kept. ``stamp_ms`` is the machine's time.
    """

    key: bytes
    row: bytes
    stamp_ms: int
    previous: tuple[int, int] | bytes | None = None
    expired: bool = False


def pack_event(
    key: bytes,
    row: bytes,
    stamp_ms: int,
    previous: tuple[int, int] | bytes | None,
    expired: bool,  # noqa: FBT001
) -> bytes:
    """The row of one event; see ``Event``.

    ::

        flags u8 | stamp u64 | length of the key u16 | key | previous | row of ``keys``, or nothing

    The flags add up: 1 put, 2 ``previous`` is the revision u64 and the place u32 of an event, 4 it is a row behind its
    length u32, 8 it is not kept, 16 removed by time.
    """
    flags = (_IS_PUT if row else 0) | (_EXPIRED if expired else 0)
    if previous is None:
        return _EVENT.pack(flags, stamp_ms, len(key)) + key + row
    if isinstance(previous, tuple):
        return _EVENT.pack(flags | _POINTS, stamp_ms, len(key)) + key + _PLACE.pack(*previous) + row
    if previous:
        head = _EVENT.pack(flags | _HOLDS, stamp_ms, len(key))
        return b"".join((head, key, _LENGTH.pack(len(previous)), previous, row))
    return _EVENT.pack(flags | _FORGOT, stamp_ms, len(key)) + key + row


def unpack_event(packed: bytes) -> Event:
    """The event in a row."""
    flags, stamp_ms, key_bytes = _EVENT.unpack_from(packed)
    start = _EVENT.size + key_bytes
    key = packed[_EVENT.size : start]
    previous: tuple[int, int] | bytes | None = None
    if flags & _POINTS:
        previous = _PLACE.unpack_from(packed, start)
        start += _PLACE.size
    elif flags & _HOLDS:
        (length,) = _LENGTH.unpack_from(packed, start)
        start += _LENGTH.size + length
        previous = packed[start - length : start]
    elif flags & _FORGOT:
        previous = b""
    return Event(key, packed[start:], stamp_ms, previous, bool(flags & _EXPIRED))
