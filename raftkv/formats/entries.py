"""What an entry of the log holds: a format byte, the leader's stamp, and a body that the format's module reads.

::

    entry    kind u8 (0 a command, 1 the engine's no-op after an election: nothing follows, 16 a configuration:
             ``raftkv.formats.configurations``) | command
    command  format u8 | stamp u64, ms since the epoch | body

The node that proposes encodes the body, the leader stamps it. Formats are only ever added, and every one is read for
ever; whoever meets one from the future must stop rather than guess. What a command does depends on its bytes and the
state alone, never on which version applies it: replicas that upgraded at different indexes must still be equal.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Final

from raftkv.formats import commands, commands_1
from raftkv.formats.commands import Command, CommandBatch

REGULAR: Final = b"\x00"
NO_OP: Final = b"\x01"
MEMBERS: Final = b"\x10"
"""The kinds of entries."""

MEMBERS_FORMAT: Final = 4
"""Whoever reads commands of this format knows the last kind."""

_STAMP: Final = struct.Struct(">BQ")
_LATEST_MS: Final = 1 << 62
"""No clock shows a later time; room is left to add lifetimes to it."""

_READERS: Final[Mapping[int, Callable[[memoryview, int], CommandBatch]]] = {
    1: commands_1.decode_batch,
    2: commands.decode_batch,
    3: commands.decode_batch,
    4: commands.decode_batch,
    5: commands.decode_batch,
    6: commands.decode_batch,
}

NEWEST: Final = max(_READERS)
"""The newest format that this version reads."""


class UnsupportedCommandError(Exception):
    """The log holds a command of a later version of raftkv; this node must stop and be upgraded."""


stamp = _STAMP.pack
"""``stamp(format, now_ms)`` is what the leader puts before a body."""


def encode(now_ms: int, origin: int, sequence: int, *several: Command) -> bytes:
    """A whole command, by a node that is proposer and leader in one."""
    least = max(map(commands.least_format, several), default=commands.FORMAT)
    parts = commands.batch_parts(origin, sequence, list(map(commands.encode_command, several)))
    return b"".join((stamp(least, now_ms), *parts))


def decode(command: bytes | memoryview, newest: int = NEWEST) -> tuple[int, CommandBatch] | None:
    """The stamp and the batch; ``None`` when they are malformed (every node then skips them alike).

    Raises ``UnsupportedCommandError`` for a format that is beyond ``newest``.
    """
    if len(command) < _STAMP.size:
        return None
    command_format, now_ms = _STAMP.unpack_from(command)
    read = _READERS.get(command_format)
    if read is None or command_format > newest:
        raise UnsupportedCommandError(f"a command of format {command_format}; this version reads up to {newest}")
    if now_ms > _LATEST_MS:
        return None
    try:
        return now_ms, read(memoryview(command)[_STAMP.size :], command_format)
    except (ValueError, RecursionError):  # msgspec's own, text that is not UTF-8, and nesting without end
        return None
