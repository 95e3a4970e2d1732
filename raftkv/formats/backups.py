"""Backups at rest and on their way: the body of a snapshot, and behind it what it is a backup of.

::

    backup    body of ``raftkv.formats.snapshots`` | manifest | manifest's length u32 | "RAFTKVB1"
    manifest  a line of JSON for people and programs, and a line "crc32 " with its checksum in hexadecimal

Where etcd's tools carried it, zeros up to whole ``BLOCK_BYTES`` and a SHA-256 of all before stand behind that: they
take no snapshot without. What stands last is known last, as a backup is written while it is read: so a file that was
cut short has no end, and is none. The leaderless mode's body has the tables ``data``, whose values are states
(``raftkv.formats.versions``), and ``meta``, which has users and roles (``raftkv.formats.rights``) if there are any; of
earlier builds ``data`` alone. Pure: bytes in, values out. This module imports nothing but the standard library, msgspec
and its neighbour.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Final

import msgspec

from raftkv.formats.snapshots import Number, seal

FORMAT: Final = 1
MAGIC: Final = b"RAFTKVB1"
MEDIA_TYPE: Final = "application/vnd.raftkv.backup"

MANIFEST_BYTES_MAX: Final = 1 << 20

BLOCK_BYTES: Final = 512
SEAL_BYTES: Final = 32

_END: Final = struct.Struct(">I8s")
END_BYTES: Final = _END.size


class BackupManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup is of, and how it can be checked.

    ``nodes`` gave their data. ``revision`` is the store's, or the highest counter of a stamp where there is no leader;
    ``index`` and ``term`` are those of the last entry in it, 0 where there is none. ``made_ms`` is the time by the
    clock of who made it. ``tables`` counts rows by table. ``digest`` is blake2b, 32 bytes in hexadecimal, of the body.
    """

    cluster: str
    mode: str
    nodes: tuple[str, ...]
    revision: Number
    index: Number
    term: Number
    made_ms: Number
    version: str
    tables: Mapping[str, int]
    rows: Number
    body_bytes: Number
    body_crc: Number
    digest: str
    conflicts: str = ""
    format: Number = FORMAT


class RestoredFrom(msgspec.Struct, frozen=True, kw_only=True):
    """``restored.json``: which backup a data directory was made of, and by how much revisions were moved on."""

    digest: str
    cluster: str
    revision: Number
    advance: Number


_decode_origin = msgspec.json.Decoder(RestoredFrom).decode


def encode_origin(origin: RestoredFrom) -> bytes:
    """What the file holds."""
    return msgspec.json.encode(origin) + b"\n"


def decode_origin(content: bytes) -> RestoredFrom:
    """Read it. Raises ``ValueError``, as msgspec's own errors are."""
    return _decode_origin(content)


_decode = msgspec.json.Decoder(BackupManifest).decode


def encode_ending(manifest: BackupManifest) -> bytes:
    """What stands behind the body."""
    line = msgspec.json.encode(manifest)
    content = line + seal(line)
    return content + _END.pack(len(content), MAGIC)


def padding_bytes(size: int) -> int:
    """How many zeros make a backup of ``size`` bytes whole blocks."""
    return -size % BLOCK_BYTES


def bytes_behind(size: int, tail: bytes) -> int:
    """How much of a file of ``size`` bytes, which ends with ``tail``, is the seal of etcd's tools, with its zeros."""
    if size % BLOCK_BYTES != SEAL_BYTES or tail.endswith(MAGIC):
        return 0
    backup = tail[:-SEAL_BYTES].rstrip(b"\0")
    return len(tail) - len(backup) if backup.endswith(MAGIC) else 0


def manifest_bytes(end: bytes) -> int:
    """How long the manifest before a file's last ``END_BYTES`` is. Raises ``ValueError`` with what is wrong."""
    if len(end) != END_BYTES:
        raise ValueError("is no backup, or was cut short: it has no end")
    length, magic = _END.unpack(end)
    if magic != MAGIC or length > MANIFEST_BYTES_MAX:
        raise ValueError("is no backup, or was cut short: it has no end")
    return int(length)


def decode_manifest(content: bytes) -> BackupManifest:
    """Read a manifest. Raises ``ValueError`` with what is wrong."""
    line, _, rest = content.partition(b"\n")
    if b"\n" + rest != seal(line):
        raise ValueError("has a damaged manifest")
    try:
        manifest = _decode(line)
    except msgspec.MsgspecError as error:
        raise ValueError(f"has a manifest that cannot be read ({error})") from None
    if manifest.format != FORMAT:
        raise ValueError(f"has backup format {manifest.format}, which is not known to this version")
    return manifest
