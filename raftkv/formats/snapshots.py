"""Snapshots at rest and on their way: the framing of a body's chunks, and the manifest that says what a body covers.

::

    body      "RAFTKVS1" | chunk of the tables' names | chunk*
    chunk     payload length u32 | crc32(payload) u32 | payload
    payload   msgpack [table, [key, value, key, value, ...]], of the first chunk ["", [table, ...]]
    manifest  a line of JSON for people and programs, and a line "crc32 " with its checksum in hexadecimal

Rows stand in key order, and the table ``meta`` stands last (``raftkv.storage.snapshots.bodies``). Pure: bytes in,
values out. This module imports nothing but the standard library, msgspec and its neighbours.
"""

from __future__ import annotations

import struct
import zlib
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from raftkv.formats.configurations import Configuration

FORMAT: Final = 1
MAGIC: Final = b"RAFTKVS1"

_HEAD: Final = struct.Struct(">II")
HEAD_BYTES: Final = _HEAD.size

Number = Annotated[int, Meta(ge=0, le=1 << 62)]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot covers: the last entry it includes, the term of the one before, and the members at that point.

    ``configuration`` is what was in force there, and where it stood in the log, once members have changed.
    """

    index: Number
    term: Number
    previous_term: Number
    last_command: bytes
    members: tuple[str, ...]
    body_bytes: Number
    body_crc: Number
    rows: Number
    format: Number = FORMAT
    configuration: Configuration | UnsetType = UNSET
    configuration_index: Number | UnsetType = UNSET


_encode_chunk = msgspec.msgpack.Encoder().encode
_decode_chunk = msgspec.msgpack.Decoder(tuple[bytes, list[bytes]]).decode
_decode_manifest = msgspec.json.Decoder(Manifest).decode


def encode_chunk(table: bytes, flat: list[bytes]) -> tuple[bytes, bytes]:
    """Head and payload of a chunk."""
    payload = _encode_chunk((table, flat))
    return _HEAD.pack(len(payload), zlib.crc32(payload)), payload


def payload_bytes(head: bytes) -> int:
    """How long the payload behind a chunk's head is."""
    length: int = _HEAD.unpack(head)[0]
    return length


def decode_chunk(head: bytes, payload: bytes) -> tuple[bytes, list[bytes]]:
    """The table and the flat rows of a chunk. Raises ``ValueError`` with what is wrong, as a predicate."""
    if _HEAD.unpack(head) != (len(payload), zlib.crc32(payload)):
        raise ValueError("is damaged")
    try:
        table, flat = _decode_chunk(payload)
    except msgspec.MsgspecError as error:
        raise ValueError(f"cannot be read ({error})") from None
    return table, flat


def encode_manifest(manifest: Manifest) -> bytes:
    """What the file of a manifest holds."""
    line = msgspec.json.encode(manifest)
    return line + seal(line)


def decode_manifest(content: bytes) -> Manifest:
    """Read it. Raises ``ValueError`` with what is wrong, as a sentence."""
    line, _, rest = content.partition(b"\n")
    if b"\n" + rest != seal(line):
        raise ValueError("the manifest is damaged")
    try:
        manifest = _decode_manifest(line)
    except msgspec.MsgspecError as error:
        raise ValueError(f"the manifest cannot be read ({error})") from None
    if manifest.format != FORMAT:
        raise ValueError(f"snapshot format {manifest.format} is not known to this version")
    return manifest


def seal(line: bytes) -> bytes:
    """The line behind a manifest's first: a checksum, for people to see as well."""
    return b"\ncrc32 %08x\n" % zlib.crc32(line)
