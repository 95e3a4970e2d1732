"""The replicated form of requests: what stands in the log, versioned by us.

A command is one format byte, the leader's time stamp (milliseconds since the epoch, 8 bytes) and a msgpack body:
origin, sequence, and the writes of one group commit. The node that proposes encodes the body; the leader stamps it.
``origin`` and ``sequence`` name the proposal, so that the proposer knows its own when it applies it. Formats are only
ever added: a node that meets a format it does not know must stop rather than guess.
"""

from __future__ import annotations

import struct
from typing import Final

import msgspec

from raftkv.core.requests import Write

FORMAT: Final = 1
_STAMP = struct.Struct(">BQ")
_LATEST_MS: Final = 1 << 62
"""No clock shows a later time; room is left to add lifetimes to it."""


class UnsupportedCommandError(Exception):
    """The log holds a command of a later version of raftkv; this node must stop and be upgraded."""


class Body(msgspec.Struct, frozen=True, array_like=True):
    """What the proposing node encodes."""

    origin: int
    sequence: int
    writes: tuple[Write, ...]


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded command; ``now_ms`` is the leader's stamp."""

    now_ms: int
    origin: int
    sequence: int
    writes: tuple[Write, ...]


_encode_body = msgspec.msgpack.Encoder().encode
_decode_body = msgspec.msgpack.Decoder(Body).decode


def encode_body(origin: int, sequence: int, writes: tuple[Write, ...]) -> bytes:
    """The proposer's part of a command."""
    return _encode_body(Body(origin, sequence, writes))


def stamp(body: bytes, now_ms: int) -> bytes:
    """Complete a command with the leader's time stamp."""
    return _STAMP.pack(FORMAT, now_ms) + body


def encode(now_ms: int, origin: int, sequence: int, writes: tuple[Write, ...]) -> bytes:
    """A whole command, by a node that is proposer and leader in one."""
    return stamp(encode_body(origin, sequence, writes), now_ms)


def decode(command: bytes) -> Command | None:
    """Read a command; ``None`` when it is malformed (every node then skips it alike).

    Raises ``UnsupportedCommandError`` for a format this version does not know.
    """
    if len(command) < _STAMP.size:
        return None
    command_format, now_ms = _STAMP.unpack_from(command)
    if command_format != FORMAT:
        raise UnsupportedCommandError(f"a command of format {command_format}; this version knows format {FORMAT}")
    if now_ms > _LATEST_MS:
        return None
    try:
        body = _decode_body(memoryview(command)[_STAMP.size :])
    except (ValueError, RecursionError):  # msgspec's own, text that is not UTF-8, and nesting without end
        return None
    return Command(now_ms=now_ms, origin=body.origin, sequence=body.sequence, writes=body.writes)
