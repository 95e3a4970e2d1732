"""The rows of a replica's tables in the leaderless mode: how states lie on the disk.

===========  ====================================  ======================================================
table        key                                   value
===========  ====================================  ======================================================
``data``     the client's key                      the state, and the actor that writes on this row
``order``    ring position (8 bytes) + key         the state's mark
``hints``    node the hint is for, NUL, key        as ``data``
``meta``     name                                  a number in decimal, or what the name says
===========  ====================================  ======================================================

A row is msgpack ``[[version, ...], [[actor, counter], ...], actor]``, a state (``raftkv.formats.versions``) and one
field more, which is left away where nobody has written on the row. A mark is the fingerprint of the encoded state, with
a byte 1 behind it if that may be purged one day. This module imports msgspec, the bounds in ``core`` and its
neighbours.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from raftkv.core.config import KEY_BYTES_MAX
from raftkv.formats.fingerprint import FINGERPRINT_BYTES, fingerprint
from raftkv.formats.versions import KeyState, MalformedStateError, Seen, Version

DATA: Final = b"data"
ORDER: Final = b"order"
HINTS: Final = b"hints"
META: Final = b"meta"
TABLES: Final = (DATA, ORDER, HINTS, META)

CLOCK: Final = b"clock"
"""No counter up to this number may be given again."""

ALIVE: Final = b"alive_ms"
"""When the data was last in service, ms since the epoch."""

UNPROVEN: Final = b"unproven"
"""1: the node may have had data, under another directory, that is not here; else 0."""

ACTOR: Final = b"actor"
"""The directory's name in version vectors."""

CONFLICTS: Final = b"conflicts"
"""The name of the way to settle them."""

MEMBERS: Final = b"members"
"""``Remembered`` of ``raftkv.formats.gossip``."""

RIGHTS: Final = b"rights"
"""A document of ``raftkv.formats.rights``."""

PROMISED: Final = b"promised"
"""A stamp of ``raftkv.formats.rights``: no change of rights with an earlier one is taken."""

META_NAMES: Final = (CLOCK, ALIVE, UNPROVEN, ACTOR, CONFLICTS, MEMBERS, RIGHTS, PROMISED)

POSITION_BYTES: Final = FINGERPRINT_BYTES

RowKey = Annotated[bytes, Meta(min_length=1, max_length=KEY_BYTES_MAX)]
"""A client's key, at rest and between nodes."""

OrderKey = Annotated[bytes, Meta(min_length=POSITION_BYTES + 1, max_length=POSITION_BYTES + KEY_BYTES_MAX)]
"""Position and key, as the table ``order`` has them."""

_MORTAL: Final = b"\1"


class Held(msgspec.Struct, frozen=True, gc=False):
    """A row of ``data`` or ``hints``. ``actor`` writes on it; empty when nobody has yet.

    ``encoded`` is the state as it came from the disk, if it did and the row is nothing else; otherwise empty.
    """

    state: KeyState
    actor: str = ""
    encoded: bytes = b""


class HeldRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A state's fields and one more, so that a row decodes as a state where the actor does not matter."""

    versions: tuple[Version, ...]
    seen: Seen
    actor: str = ""


_encode_row = msgspec.msgpack.Encoder().encode
_decode_row = msgspec.msgpack.Decoder(HeldRow).decode


def order_key(key: bytes) -> OrderKey:
    """Where ``key`` lies in the order of the ring."""
    return fingerprint(key) + key


def hint_key(target: str, key: bytes) -> bytes:
    """The row of the hint of ``key`` for ``target``."""
    return target.encode() + b"\0" + key


def target_of(row: bytes) -> str:
    """The node that a hint is for."""
    return row.partition(b"\0")[0].decode()


def encode_held(held: Held, encoded: bytes) -> bytes:
    """The row of ``held``, whose state is ``encoded``."""
    if not held.actor:
        return encoded
    return _encode_row(HeldRow(held.state.versions, held.state.seen, held.actor))


def decode_held(data: bytes) -> Held:
    """Read a row; raises ``MalformedStateError``."""
    try:
        row: HeldRow = _decode_row(data)
    except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors, and it recurses
        raise MalformedStateError(str(error)) from None
    return Held(KeyState(row.versions, row.seen), row.actor, b"" if row.actor else data)


def mark_of(state: KeyState, encoded: bytes) -> bytes:
    """What stands for ``state`` where states are compared: equal for equal ones, different for different ones."""
    mark = fingerprint(encoded)
    for version in state.versions:
        if version.value is not None and not version.expires_at_ms:
            return mark
    return mark + _MORTAL


def is_mortal(mark: bytes) -> bool:
    """May the state of this mark be purged one day, as no version of it is without end?"""
    return len(mark) > FINGERPRINT_BYTES


def encode_number(number: int) -> bytes:
    """A number of ``meta``."""
    return b"%d" % number


def decode_number(found: bytes | None) -> int:
    """Read it; one that was never written counts as 0."""
    return int(found or b"0")
