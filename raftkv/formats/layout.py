"""How the machine's state lies in tables; the only place that packs and unpacks rows.

====================  ========================================  ==================================================
table                 key                                       value
====================  ========================================  ==================================================
``keys``              the client's key                          version, create and mod revision, expiry; the value
``expiry``            expiry (ms, 8 bytes) + the client's key   empty
``outcomes``          idempotency key                           order number, fingerprint and outcome, msgpack
``outcome_order``     order number (8 bytes)                    stamp (ms, 8 bytes) + idempotency key
``meta``              name                                      8-byte numbers, big-endian
====================  ========================================  ==================================================

The number ``sum`` in ``meta`` is that of the other tables' rows (``raftkv.formats.seals``). All numbers are
unsigned 64-bit and big-endian, so that bytewise order is numeric order. A table of events by revision can join without
touching these: every record already carries the revisions of its creation and last change.
"""

from __future__ import annotations

import struct
from typing import Final

from raftkv.core.results import KeyRecord
from raftkv.formats import landmarks

KEYS: Final = b"keys"
EXPIRY: Final = b"expiry"
OUTCOMES: Final = b"outcomes"
OUTCOME_ORDER: Final = b"outcome_order"
META: Final = landmarks.META
TABLES: Final = (KEYS, EXPIRY, OUTCOMES, OUTCOME_ORDER, META)

APPLIED_INDEX: Final = landmarks.APPLIED_INDEX
APPLIED_TERM: Final = landmarks.APPLIED_TERM
SUM: Final = landmarks.SUM
REVISION: Final = b"revision"
CLOCK_MS: Final = b"clock_ms"
OUTCOME_FIRST: Final = b"outcome_first"
OUTCOME_NEXT: Final = b"outcome_next"
READ_SIZE: Final = b"read_size"
WRITE_SIZE: Final = b"write_size"

_HEADER = struct.Struct(">QQQQ")
HEADER_BYTES: Final = _HEADER.size
NUMBER_BYTES: Final = landmarks.NUMBER_BYTES

pack_number = landmarks.pack_number
unpack_number = landmarks.unpack_number


def pack_record(version: int, create_revision: int, mod_revision: int, expires_at_ms: int, value: bytes) -> bytes:
    """The row of one key."""
    return _HEADER.pack(version, create_revision, mod_revision, expires_at_ms) + value


def unpack_header(row: bytes) -> tuple[int, int, int, int]:
    """(version, create revision, mod revision, expiry in ms) of a row, without touching the value."""
    header: tuple[int, int, int, int] = _HEADER.unpack_from(row)
    return header


def unpack_record(key: bytes, row: bytes, *, with_value: bool = True) -> KeyRecord:
    """The record in a row."""
    version, create_revision, mod_revision, expires_at_ms = _HEADER.unpack_from(row)
    return KeyRecord(
        key=key,
        value=bytes(row[HEADER_BYTES:]) if with_value else b"",
        version=version,
        create_revision=create_revision,
        mod_revision=mod_revision,
        expires_at_ms=expires_at_ms,
    )
