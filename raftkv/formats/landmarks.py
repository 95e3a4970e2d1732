"""The rows by which any version knows an applied state: where it stands, and what its rows add up to.

They stand in the table ``meta`` of every state and of every snapshot's body, so their names are a format. The rest of a
state is the machine's own affair (``raftkv.formats.layout``). This module imports nothing but the standard library.
"""

from __future__ import annotations

import struct
from typing import Final

META: Final = b"meta"

APPLIED_INDEX: Final = b"applied_index"
APPLIED_TERM: Final = b"applied_term"
"""The last entry that is in the state, and its term; 8 bytes each, big-endian."""

SUM: Final = b"sum"
"""The sum of the rows in the other tables (``raftkv.formats.seals``), 8 bytes, big-endian."""

_NUMBER: Final = struct.Struct(">Q")
NUMBER_BYTES: Final = _NUMBER.size

pack_number = _NUMBER.pack


def unpack_number(packed: bytes | None) -> int:
    """The number in ``packed``; a row that was never written counts as 0."""
    if packed is None:
        return 0
    number: int = _NUMBER.unpack(packed)[0]
    return number
