"""Commands of format 1, the values of the API of their time: read from old logs for ever, never written again.

The body is msgpack ``[origin, sequence, [write, ...]]``. Frozen: nothing here changes. Of a write's fields ``acks``,
``n``, ``sloppy`` and ``context`` meant nothing to the machine; ``sizes`` stood alone, without operations. The bytes of
operations live on in the fingerprints of idempotent writes (``raftkv.formats.outcomes``).

This module imports msgspec and the format that came after it, in which its commands are told.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from raftkv.formats.commands import (
    Command,
    CommandBatch,
    CommandKey,
    CommandMatch,
    CommandSpan,
    ConfigureCommand,
    DeleteKey,
    GetKey,
    KeyOperation,
    PutKey,
    WriteCommand,
)


class Put1(msgspec.Struct, frozen=True, array_like=True, tag="put", gc=False):
    """``PutKey``."""

    key: CommandKey
    value: bytes
    match: CommandMatch | None = None
    ttl_ms: CommandSpan = 0


class Delete1(msgspec.Struct, frozen=True, array_like=True, tag="delete", gc=False):
    """``DeleteKey``."""

    key: CommandKey
    match: CommandMatch | None = None


class Get1(msgspec.Struct, frozen=True, array_like=True, tag="get", gc=False):
    """``GetKey``."""

    key: CommandKey


class Write1(msgspec.Struct, frozen=True, array_like=True, tag="write"):
    """``WriteCommand``, or with ``sizes`` a ``ConfigureCommand``."""

    operations: tuple[Put1 | Delete1 | Get1, ...]
    acks: int = 0
    idempotency_key: Annotated[str, Meta(min_length=1)] | None = None
    n: int = 0
    sloppy: bool | None = None
    context: bytes = b""
    sizes: tuple[int, int] | None = None


class Batch1(msgspec.Struct, frozen=True, array_like=True):
    """``CommandBatch``."""

    origin: int
    sequence: int
    writes: tuple[Write1, ...]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Batch1).decode


def encode_operations(operations: Iterable[KeyOperation]) -> bytes:
    """Operations as this format wrote them."""
    return _encode([_first_form(operation) for operation in operations])


def decode_batch(body: memoryview, _command_format: int = 1) -> CommandBatch:
    """Read a body. Raises ``ValueError`` or ``RecursionError`` for what is none."""
    batch: Batch1 = _decode(body)
    return CommandBatch(batch.origin, batch.sequence, tuple(map(_command_of, batch.writes)))


def _command_of(write: Write1) -> Command:
    if write.sizes is None:
        return WriteCommand(tuple(map(_later_form, write.operations)), write.idempotency_key)
    if write.operations or write.idempotency_key is not None:
        raise ValueError("sizes stand alone")
    return ConfigureCommand(*write.sizes)


def _later_form(operation: Put1 | Delete1 | Get1) -> KeyOperation:
    if isinstance(operation, Put1):
        return PutKey(operation.key, operation.value, operation.match, operation.ttl_ms)
    return DeleteKey(operation.key, operation.match) if isinstance(operation, Delete1) else GetKey(operation.key)


def _first_form(operation: KeyOperation) -> Put1 | Delete1 | Get1:
    if isinstance(operation, PutKey):
        return Put1(operation.key, operation.value, operation.match, operation.ttl_ms)
    return Delete1(operation.key, operation.match) if isinstance(operation, DeleteKey) else Get1(operation.key)
