"""Reading a backup: what it says of itself, whether it is whole, and its rows.

Rule: nothing of a file is used before its manifest was found at its end, and its length is what that says. This module
imports nothing but the standard library, ``raftkv.core``, ``raftkv.formats`` and its neighbours in ``storage``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from raftkv.core.errors import StartupError
from raftkv.formats.backups import (
    BLOCK_BYTES,
    END_BYTES,
    SEAL_BYTES,
    BackupManifest,
    bytes_behind,
    decode_manifest,
    manifest_bytes,
)
from raftkv.storage.backups.writing import DIGEST_BYTES
from raftkv.storage.disk import translated
from raftkv.storage.snapshots.bodies import chunks_of

_BLOCK_BYTES: Final = 1 << 20
_TAIL_BYTES: Final = BLOCK_BYTES + SEAL_BYTES + END_BYTES


class CorruptBackup(StartupError):  # noqa: N818  the name says what is wrong; it is an error by its base
    """A file is no backup, or not all of one; the message names it."""


def read_manifest(path: Path) -> BackupManifest:
    """What the backup at ``path`` says of itself. Raises ``CorruptBackup`` or ``DiskError``."""
    with translated(path), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        file.seek(max(0, size - _TAIL_BYTES))
        size -= bytes_behind(size, file.read(_TAIL_BYTES))
        try:
            file.seek(max(0, size - END_BYTES))
            length = manifest_bytes(file.read(END_BYTES))
            body_bytes = size - END_BYTES - length
            file.seek(max(0, body_bytes))
            manifest = decode_manifest(file.read(length))
        except ValueError as error:
            raise CorruptBackup(f"{path} {error}") from None
    if manifest.body_bytes != body_bytes:
        raise CorruptBackup(f"{path} has a body of {body_bytes} bytes instead of {manifest.body_bytes}")
    return manifest


def verify(path: Path) -> BackupManifest:
    """Read all of the backup at ``path``: checksum and rows; as ``read_manifest``."""
    manifest = read_manifest(path)
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with translated(path), path.open("rb") as file:
        left = manifest.body_bytes
        while block := file.read(min(_BLOCK_BYTES, left)):
            digest.update(block)
            left -= len(block)
    if left or digest.hexdigest() != manifest.digest:
        raise CorruptBackup(f"{path} is damaged: its checksum is wrong")
    found: dict[str, int] = dict.fromkeys(manifest.tables, 0)
    for table, flat in chunks(path, manifest):
        if table:
            found[table.decode()] += len(flat) // 2
    if found != dict(manifest.tables):
        raise CorruptBackup(f"{path} does not have the rows that it says")
    return manifest


def chunks(path: Path, manifest: BackupManifest) -> Iterator[tuple[bytes, list[bytes]]]:
    """The tables and flat rows of the backup at ``path``, the names of the tables first, under an empty name."""
    with translated(path), path.open("rb") as file:
        yield from chunks_of(path, file, manifest.body_bytes)
