"""How a row in LMDB proves itself: a hash of table, key and value stands before the value, 64 bits of XXH3.

The state is read straight from a memory map, so nothing else would notice a byte that the disk or a stray write has
changed. What does not check out is ``DamagedState``: the state is a cache of snapshot and log, and is rebuilt from
them. ``FORMAT`` names this layout; a state of another is rebuilt as well.

This module imports nothing but the standard library, lmdb and its neighbours in ``storage``.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final, NamedTuple

import lmdb
from xxhash import xxh3_64_digest, xxh3_64_intdigest

from raftkv.storage.disk import DiskError
from raftkv.storage.state.parts import table_seed

FORMAT: Final = b"3\n"
"""Format 1 had no seals, and no file that names it; format 2 never left the development of this one."""

_SEAL_BYTES: Final = 8
_SEAL: Final = struct.Struct(">Q")

seal = _SEAL.pack
"""What stands before a value: the hash as bytes."""


def sealed_part(row: bytes) -> int:
    """The seal of ``row`` as a number: the part in the sum of rows, unless the key is a long one."""
    part: int = _SEAL.unpack_from(row)[0]
    return part


class DamagedState(DiskError):  # noqa: N818  the name says what is wrong; it is an error by its base
    """The applied state does not check out; it must not be used, and can be rebuilt. The message names its place."""

    def __init__(self, directory: Path, detail: str) -> None:
        """``detail`` says what does not check out."""
        self.directory = directory
        super().__init__(f"{directory}: the applied state is damaged ({detail})")


class Table(NamedTuple):
    """One table of the state in ``directory``; ``seed`` is what the seals of its rows begin with."""

    directory: Path
    database: lmdb._Database
    name: bytes
    seed: int

    @classmethod
    def of(cls, directory: Path, name: bytes, database: lmdb._Database) -> Table:
        """The table ``name``."""
        return cls(directory, database, name, table_seed(name))

    def part(self, key: bytes, value: bytes) -> int:
        """The part in the sum of rows; of what is stored under a physical key, the seal as a number."""
        return xxh3_64_intdigest(value, xxh3_64_intdigest(key, self.seed))

    def opened(self, key: bytes, row: bytes) -> bytes:
        """The value in the row found under ``key``; raises ``DamagedState``."""
        value = row[_SEAL_BYTES:]
        if not row.startswith(xxh3_64_digest(value, xxh3_64_intdigest(key, self.seed))):
            raise DamagedState(self.directory, f"a row of {len(row)} bytes in table {self.name.decode()}")
        return value

    def unreadable(self, error: lmdb.Error) -> DamagedState:
        """``error``, which came of a read: what lies between the rows is damaged."""
        return DamagedState(self.directory, str(error))
