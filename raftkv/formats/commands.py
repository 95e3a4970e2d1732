"""Commands, as they stand in raft mode's log: the replicated form of requests, in formats that are only ever added.

An entry's body (``raftkv.formats.entries``) is a batch, msgpack ``[origin, sequence, [command, ...]]``: what one node
proposes in one group commit. A command is ``[tag, ...]``, one arm of the union for each thing a log can do. ``origin``
and ``sequence`` name the batch, so that whoever proposed it knows its own when it is applied.

Rules. A struct that was released never changes: what is new is a new arm or operation with a new tag, and has its
format in ``LEAST_FORMATS``. A batch goes out in the least format that has all of its commands, so that nodes which know
no later one read it. Bytes that mean nothing here mean nothing on any node: they are skipped alike. This module imports
nothing but the standard library and msgspec.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

FORMAT: Final = 2
"""The first format of commands as here; before them were those of ``raftkv.formats.commands_1``."""

MATCHES_MAX: Final = 64

CommandKey = Annotated[bytes, Meta(min_length=1, max_length=4096)]
CommandRevision = Annotated[int, Meta(ge=0, le=1 << 62)]
CommandMatch = (
    Annotated[int, Meta(ge=-1, le=1 << 62)] | Annotated[tuple[CommandRevision, ...], Meta(max_length=MATCHES_MAX)]
)
"""What the key must be: 0 absent, -1 there, a modification revision, or several of which it must have one."""

CommandSpan = Annotated[int, Meta(ge=0, le=1 << 48)]
"""A span of time in milliseconds."""


class PutKey(msgspec.Struct, frozen=True, array_like=True, tag=0, forbid_unknown_fields=True, gc=False):
    """Store ``value``, for ``ttl_ms`` from the stamp on (0: for ever), if the key meets ``match``."""

    key: CommandKey
    value: bytes
    match: CommandMatch | None
    ttl_ms: CommandSpan


class DeleteKey(msgspec.Struct, frozen=True, array_like=True, tag=1, forbid_unknown_fields=True, gc=False):
    """Remove the key, if it meets ``match``."""

    key: CommandKey
    match: CommandMatch | None


class GetKey(msgspec.Struct, frozen=True, array_like=True, tag=2, forbid_unknown_fields=True, gc=False):
    """Tell the proposer what stands under the key in between."""

    key: CommandKey


KeyOperation = PutKey | DeleteKey | GetKey


class WriteCommand(msgspec.Struct, frozen=True, array_like=True, tag=0, forbid_unknown_fields=True, gc=False):
    """Apply the operations in order; a repeat of ``idempotency_key`` returns the first outcome instead."""

    operations: tuple[KeyOperation, ...]
    idempotency_key: Annotated[str, Meta(min_length=1)] | None


class ConfigureCommand(msgspec.Struct, frozen=True, array_like=True, tag=1, forbid_unknown_fields=True, gc=False):
    """Requests that name no R and W have these from now on."""

    r: Annotated[int, Meta(ge=0, le=1 << 16)]
    w: Annotated[int, Meta(ge=0, le=1 << 16)]


Command = WriteCommand | ConfigureCommand

LEAST_FORMATS: Final[dict[type[Command], int]] = {WriteCommand: 2, ConfigureCommand: 2}
"""Which formats have an arm: this one and all after it."""


class CommandBatch(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Commands that one node proposed together."""

    origin: int
    sequence: int
    commands: tuple[Command, ...]


_HEAD: Final = struct.Struct(">BBQBQBH")
OVERHEAD_BYTES: Final = _HEAD.size
"""What a batch adds to its commands."""

encode_command = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(CommandBatch).decode


def batch_parts(origin: int, sequence: int, commands: Sequence[bytes]) -> tuple[bytes, ...]:
    """The parts of a body, to be joined where it goes; commands are encoded before, so that their size is known."""
    # An array of three: two numbers of 64 bits, and an array whose length has 16.
    return _HEAD.pack(0x93, 0xCF, origin, 0xCF, sequence, 0xDC, len(commands)), *commands


def decode_batch(body: memoryview, command_format: int) -> CommandBatch:
    """Read a body of ``command_format``. Raises ``ValueError`` or ``RecursionError`` for what is none."""
    batch: CommandBatch = _decode(body)
    for command in batch.commands:
        if LEAST_FORMATS[type(command)] > command_format:
            raise ValueError("a command that its format does not have")
    return batch
