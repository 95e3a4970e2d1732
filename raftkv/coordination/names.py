"""How locks and elections lie among the keys: one key for each contender. Pure.

A contender's key is ``SYSTEM``, the kind, ``ff``, the name, ``00``, how many may hold at once (four hexadecimal digits)
and the lease with which it goes (sixteen); names have no ``00``, so that they stand in their own order. No such key
expires by itself, only with its lease. Its value is msgpack ``[is_own, content]``: was the lease granted for it alone,
and the holder's name or a candidate's proposal. In the order of their create revisions contenders have come: the first
``permits`` hold, and that revision is the fencing token.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from raftkv.core.keys import ELECTION_KEYS, END_OF_NAME, LOCK_KEYS, SYSTEM
from raftkv.core.results import KeyRecord

NAME_BYTES_MAX: Final = 1024

_DIGITS: Final = 4 + 16


class Kind(NamedTuple):
    """Locks, or elections: where their keys begin, and whether whoever looks reads the notes, which are short."""

    start: bytes
    has_short_notes: bool

    @property
    def end(self) -> bytes:
        """Where they end."""
        return self.start + b"\xff"


LOCKS: Final = Kind(LOCK_KEYS, has_short_notes=True)
ELECTIONS: Final = Kind(ELECTION_KEYS, has_short_notes=False)


class Queue(NamedTuple):
    """All who contend for one name."""

    kind: Kind
    name: bytes

    @property
    def start(self) -> bytes:
        """Where their keys begin."""
        return self.kind.start + self.name + END_OF_NAME

    @property
    def end(self) -> bytes:
        """Where they end."""
        return self.kind.start + self.name + END_OF_NAME + b"g"

    def of_permits(self, permits: int) -> tuple[bytes, bytes]:
        """Where the keys begin and end of those for whom ``permits`` may hold at once."""
        return self.start + b"%04x" % permits, self.start + b"%04x" % (permits + 1)

    def key(self, permits: int, lease: int) -> bytes:
        """The key of a contender."""
        return self.start + b"%04x%016x" % (permits, lease)


class ContenderNote(msgspec.Struct, frozen=True, array_like=True):
    """The value of a contender's key."""

    is_own: bool
    content: bytes


class Contender(NamedTuple):
    """One who holds, or waits. ``note`` is left out where only keys were read."""

    key: bytes
    name: bytes
    permits: int
    lease: int
    token: int
    revision: int
    note: ContenderNote | None


encode_note: Final = msgspec.msgpack.Encoder().encode
_decode_note: Final = msgspec.msgpack.Decoder(ContenderNote).decode


def contender_of(kind: Kind, record: KeyRecord) -> Contender:
    """The contender whose key that is."""
    rest = record.key[len(kind.start) :]
    digits = rest[-_DIGITS:]
    return Contender(
        key=record.key,
        name=rest[: -_DIGITS - len(END_OF_NAME)],
        permits=int(digits[:4], 16),
        lease=int(digits[4:], 16),
        token=record.create_revision,
        revision=record.mod_revision,
        note=_decode_note(record.value) if record.value else None,
    )


def in_order(contenders: Iterable[Contender]) -> list[Contender]:
    """As they came."""
    return sorted(contenders, key=lambda one: one.token)


def names_among(keys: Iterable[bytes]) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Those of clients among ``keys``, and the names of the locks and of the elections that the others are about."""
    own: list[bytes] = []
    names: dict[Kind, dict[bytes, None]] = {LOCKS: {}, ELECTIONS: {}}
    for key in keys:
        if not key.startswith(SYSTEM):
            own.append(key)
            continue
        for kind, found in names.items():
            if key.startswith(kind.start):
                found[key[len(kind.start) : -_DIGITS - len(END_OF_NAME)]] = None
    return own, list(names[LOCKS]), list(names[ELECTIONS])
