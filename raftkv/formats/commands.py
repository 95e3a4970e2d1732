"""Commands, as they stand in raft mode's log: the replicated form of requests, in formats that are only ever added.

An entry's body (``raftkv.formats.entries``) is a batch, msgpack ``[origin, sequence, [command, ...]]``: what one node
proposes in one group commit. A command is ``[tag, ...]``, one arm of the union for each thing a log can do. ``origin``
and ``sequence`` name the batch, so that whoever proposed it knows its own when it is applied.

Rules. A struct that was released never changes: what is new is a new arm, operation or comparison with a new tag, and
has its format in ``LEAST_FORMATS`` or ``LATER_FORMATS``. A batch goes out in the least format that has all of its
commands, so that nodes which know no later one read it. Bytes that mean nothing here mean nothing on any node: they are
skipped alike. This module imports nothing but the standard library and msgspec.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta

FORMAT: Final = 2
"""The first format of commands as here; before them were those of ``raftkv.formats.commands_1``."""

HISTORY_FORMAT: Final = 3
"""The first that has history, transactions and leases."""

CALLERS_FORMAT: Final = 4
"""The first that says who asks."""

KEEPING_FORMAT: Final = 5
"""The first whose puts may keep the value or the lease that is there, and that counts keys."""

BYTES_FORMAT: Final = 6
"""What stores a key that is no text goes out in it, and is else as before: versions that do not read it would carry it
out alike, but their front-ends could not tell of such a key."""

MATCHES_MAX: Final = 64

CommandKey = Annotated[bytes, Meta(min_length=1, max_length=4096)]
CommandRevision = Annotated[int, Meta(ge=0, le=1 << 62)]
CommandMatch = (
    Annotated[int, Meta(ge=-1, le=1 << 62)] | Annotated[tuple[CommandRevision, ...], Meta(max_length=MATCHES_MAX)]
)
"""What the key must be: 0 absent, -1 there, a modification revision, or several of which it must have one."""

CommandSpan = Annotated[int, Meta(ge=0, le=1 << 48)]
"""A span of time in milliseconds."""

CommandLease = Annotated[int, Meta(ge=1, le=1 << 62)]
"""The number of a lease."""

CommandInteger = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)]

DEPTH_MAX: Final = 8
"""How deep transactions stand in transactions."""


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


class PutLeased(msgspec.Struct, frozen=True, array_like=True, tag=3, forbid_unknown_fields=True, gc=False):
    """Store ``value`` for as long as the lease lives."""

    key: CommandKey
    value: bytes
    match: CommandMatch | None
    lease: CommandLease


class IncrementKey(msgspec.Struct, frozen=True, array_like=True, tag=4, forbid_unknown_fields=True, gc=False):
    """Add ``by`` to the integer that is the value, 0 if there is no key; not beyond the bounds."""

    key: CommandKey
    by: CommandInteger
    minimum: CommandInteger | None
    maximum: CommandInteger | None


class TouchKey(msgspec.Struct, frozen=True, array_like=True, tag=5, forbid_unknown_fields=True, gc=False):
    """Let the key live for ``ttl_ms`` from the stamp on (0: for ever); value and revision stay."""

    key: CommandKey
    ttl_ms: CommandSpan


class DeleteRange(msgspec.Struct, frozen=True, array_like=True, tag=6, forbid_unknown_fields=True, gc=False):
    """Remove every key with ``start`` <= key < ``end`` (nil: to the last)."""

    start: bytes
    end: bytes | None


class ListRange(msgspec.Struct, frozen=True, array_like=True, tag=7, forbid_unknown_fields=True, gc=False):
    """Tell the proposer what stands in the range in between, ``limit`` keys at most."""

    start: bytes
    end: bytes | None
    limit: Annotated[int, Meta(ge=1, le=1 << 32)]
    keys_only: bool


class GrantLease(msgspec.Struct, frozen=True, array_like=True, tag=8, forbid_unknown_fields=True, gc=False):
    """Let there be a lease of ``ttl_ms`` under this number (0: one that is free)."""

    lease: Annotated[int, Meta(ge=0, le=1 << 62)]
    ttl_ms: Annotated[int, Meta(ge=1, le=1 << 48)]


class RevokeLease(msgspec.Struct, frozen=True, array_like=True, tag=9, forbid_unknown_fields=True, gc=False):
    """Let the lease end, with all keys that are attached to it."""

    lease: CommandLease


class PutKept(msgspec.Struct, frozen=True, array_like=True, tag=11, forbid_unknown_fields=True, gc=False):
    """Write the key, which must be there, anew: its value stays where ``value`` is nil.

    ``lease`` 0 is none; nil keeps lease and expiry.
    """

    key: CommandKey
    value: bytes | None
    lease: Annotated[int, Meta(ge=0, le=1 << 62)] | None


class CountRange(msgspec.Struct, frozen=True, array_like=True, tag=12, forbid_unknown_fields=True, gc=False):
    """Tell the proposer how many keys there are in the range in between."""

    start: bytes
    end: bytes | None


class Transact(msgspec.Struct, frozen=True, array_like=True, tag=10, forbid_unknown_fields=True):
    """If all comparisons hold, apply ``success``, else ``failure``: all of it or nothing."""

    comparisons: tuple[Comparison, ...]
    success: tuple[BranchOperation, ...]
    failure: tuple[BranchOperation, ...]


class CompareKey(msgspec.Struct, frozen=True, array_like=True, tag=0, forbid_unknown_fields=True, gc=False):
    """Does the ``target`` of the key stand to ``operand`` as ``operator`` says?

    Targets: 0 value, 1 version, 2 revision, 3 create revision, 4 lease, 5 existence (1 or 0). Operators: 0 ``==``, 1
    ``!=``, 2 ``<``, 3 ``>``. The numbers of a key that does not exist are 0; its value compares to nothing.
    """

    key: CommandKey
    target: Annotated[int, Meta(ge=0, le=5)]
    operator: Annotated[int, Meta(ge=0, le=3)]
    operand: CommandInteger | bytes


class CompareRange(msgspec.Struct, frozen=True, array_like=True, tag=1, forbid_unknown_fields=True, gc=False):
    """The same of every key with ``start`` <= key < ``end`` (nil: to the last); true where there is none."""

    start: bytes
    end: bytes | None
    target: Annotated[int, Meta(ge=0, le=5)]
    operator: Annotated[int, Meta(ge=0, le=3)]
    operand: CommandInteger | bytes


class CompareSpan(msgspec.Struct, frozen=True, array_like=True, tag=2, forbid_unknown_fields=True, gc=False):
    """As ``CompareRange``; where there is none, as ``CompareKey`` of a key that does not exist."""

    start: bytes
    end: bytes | None
    target: Annotated[int, Meta(ge=0, le=5)]
    operator: Annotated[int, Meta(ge=0, le=3)]
    operand: CommandInteger | bytes


Comparison = CompareKey | CompareRange | CompareSpan
BranchOperation = (
    KeyOperation | PutLeased | IncrementKey | TouchKey | DeleteRange | ListRange | Transact | PutKept | CountRange
)
AnyOperation = BranchOperation | GrantLease | RevokeLease


class WriteCommand(msgspec.Struct, frozen=True, array_like=True, tag=0, forbid_unknown_fields=True, gc=False):
    """Apply the operations in order; a repeat of ``idempotency_key`` returns the first outcome instead."""

    operations: tuple[KeyOperation, ...]
    idempotency_key: Annotated[str, Meta(min_length=1)] | None


class OperateCommand(msgspec.Struct, frozen=True, array_like=True, tag=2, forbid_unknown_fields=True):
    """``WriteCommand`` with operations that came later."""

    operations: tuple[AnyOperation, ...]
    idempotency_key: Annotated[str, Meta(min_length=1)] | None


class KeepAliveCommand(msgspec.Struct, frozen=True, array_like=True, tag=3, forbid_unknown_fields=True, gc=False):
    """Let each of the leases live for its ttl from the stamp on."""

    leases: Annotated[tuple[CommandLease, ...], Meta(max_length=10_000)]


class CompactCommand(msgspec.Struct, frozen=True, array_like=True, tag=4, forbid_unknown_fields=True, gc=False):
    """Let nothing before ``revision`` be readable any more."""

    revision: CommandRevision


class AdoptCommand(msgspec.Struct, frozen=True, array_like=True, tag=5, forbid_unknown_fields=True, gc=False):
    """Keep history from here on: at most so many events, as old and, beyond what the keys take up, as large as this.

    With it begins what ``raftkv.machine`` does otherwise than before: one revision for all that one request changes.
    """

    events: Annotated[int, Meta(ge=1, le=1 << 32)]
    age_ms: CommandSpan
    size_bytes: Annotated[int, Meta(ge=0, le=1 << 48)]


class LeaseTimeCommand(msgspec.Struct, frozen=True, array_like=True, tag=6, forbid_unknown_fields=True, gc=False):
    """The entry's stamp has leapt: lease time, which goes on with the stamps, comes to ``lease_ms`` with it at most."""

    lease_ms: CommandSpan


class ConfigureCommand(msgspec.Struct, frozen=True, array_like=True, tag=1, forbid_unknown_fields=True, gc=False):
    """Requests that name no R and W have these from now on."""

    r: Annotated[int, Meta(ge=0, le=1 << 16)]
    w: Annotated[int, Meta(ge=0, le=1 << 16)]


AskedCommand = WriteCommand | ConfigureCommand | OperateCommand | KeepAliveCommand | CompactCommand
"""What clients ask for; the others are the leader's own."""


class CallersCommand(msgspec.Struct, frozen=True, array_like=True, tag=7, forbid_unknown_fields=True, gc=False):
    """Do ``command`` if the user has the rights to it where it is applied, and is still of that generation."""

    user: Annotated[str, Meta(max_length=64)]
    generation: Annotated[int, Meta(ge=0, le=1 << 62)]
    command: AskedCommand


Command = AskedCommand | AdoptCommand | LeaseTimeCommand | CallersCommand

LEAST_FORMATS: Final[dict[type[Command], int]] = {
    WriteCommand: 2,
    ConfigureCommand: 2,
    OperateCommand: HISTORY_FORMAT,
    KeepAliveCommand: HISTORY_FORMAT,
    CompactCommand: HISTORY_FORMAT,
    AdoptCommand: HISTORY_FORMAT,
    LeaseTimeCommand: HISTORY_FORMAT,
    CallersCommand: CALLERS_FORMAT,
}
"""Which formats have an arm: this one and all after it."""

LATER_FORMATS: Final[dict[type[BranchOperation | Comparison], int]] = {
    PutKept: KEEPING_FORMAT,
    CountRange: KEEPING_FORMAT,
    CompareSpan: KEEPING_FORMAT,
}
"""The same of operations and comparisons that came after their arm."""


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
        if least_format(command) > command_format:
            raise ValueError("a command that its format does not have")
        if isinstance(command, WriteCommand):
            continue  # as most are: nothing stands in it
        asked = command.command if isinstance(command, CallersCommand) else command
        if isinstance(asked, OperateCommand) and depth(asked.operations) > DEPTH_MAX:
            raise ValueError("transactions that stand too deep in each other")
    return batch


def least_format(command: Command) -> int:
    """The least format that has ``command`` and all that is in it."""
    least = LEAST_FORMATS[type(command)]
    if isinstance(command, WriteCommand):
        return least  # as most are, and it is quicker to be told so than that it is none of the others
    if isinstance(command, CallersCommand):
        return max(least, least_format(command.command))
    return max(least, _least_of(command.operations)) if isinstance(command, OperateCommand) else least


def _least_of(several: Iterable[AnyOperation | Comparison]) -> int:
    least = 0
    for one in several:
        if isinstance(one, Transact):
            least = max(least, _least_of(one.comparisons), _least_of(one.success), _least_of(one.failure))
        else:
            least = max(least, LATER_FORMATS.get(type(one), 0))  # type: ignore[arg-type]  # grants and revocations
    return least


def depth(operations: Iterable[AnyOperation]) -> int:
    """How deep transactions stand in each other; without any it is 0."""
    deepest = 0
    for one in operations:  # asked of every command, wherever it is read: comprehensions take twice as long
        if isinstance(one, Transact):
            deepest = max(deepest, 1 + depth(one.success), 1 + depth(one.failure))
    return deepest
