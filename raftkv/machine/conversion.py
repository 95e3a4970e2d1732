"""From requests to commands: the one place where what a client asks becomes bytes of the log.

It happens once, at the node that proposes. A request that is to go through the log needs an arm in
``raftkv.formats.commands``, a line in ``_CONVERSIONS`` here, and a handler in the machine; whoever replicates
(``raftkv.raft``) sees bytes, and how large and of what kind they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from raftkv.core.errors import Code, Refused
from raftkv.core.requests import ABSENT, ANY, Configure, Delete, Get, Match, Operation, Put, Write
from raftkv.formats.commands import (
    LEAST_FORMATS,
    OVERHEAD_BYTES,
    Command,
    ConfigureCommand,
    DeleteKey,
    GetKey,
    KeyOperation,
    PutKey,
    WriteCommand,
    encode_command,
)

Change = Write | Configure
"""Requests that go through the log."""


class Proposal(msgspec.Struct, frozen=True, gc=False):
    """A command as it travels: encoded, with the least format that has it, and how many operations it counts for.

    ``makes_room``: it only deletes.
    """

    command: bytes
    least_format: int
    operation_count: int
    makes_room: bool

    @property
    def size_bytes(self) -> int:
        """What it takes up at most, in a batch or alone."""
        return len(self.command) + OVERHEAD_BYTES


def proposal_of(request: Change) -> Proposal | Refused:
    """``request`` as a command, or why it can be none."""
    command = command_of(request)
    if isinstance(command, Refused):
        return command
    operations = command.operations if isinstance(command, WriteCommand) else ()
    return Proposal(
        encode_command(command), LEAST_FORMATS[type(command)], max(1, len(operations)), makes_room(operations)
    )


def makes_room(operations: tuple[KeyOperation, ...]) -> bool:
    """Does a write of ``operations`` only delete?"""
    for operation in operations:  # all() with a generator takes twice as long, and this is asked of every write
        if not isinstance(operation, DeleteKey):
            return False
    return bool(operations)


def command_of(request: Change) -> Command | Refused:
    """``request`` as a command, not encoded yet."""
    return _CONVERSIONS[type(request)](request)


def _write(request: Write) -> Command | Refused:
    for operation in request.operations:
        if not isinstance(operation, Get) and operation.match is not None and _is_negative(operation.match):
            return Refused(code=Code.BAD_REQUEST, detail="a revision cannot be negative")
    return WriteCommand(tuple([_operation(operation) for operation in request.operations]), request.idempotency_key)


def _configure(request: Configure) -> Command | Refused:
    return ConfigureCommand(request.r, request.w)


_CONVERSIONS: Final[Mapping[type[Change], Callable[[Any], Command | Refused]]] = {Write: _write, Configure: _configure}


def _operation(operation: Operation) -> KeyOperation:
    if isinstance(operation, Put):
        return PutKey(operation.key, operation.value, operation.match, operation.ttl_ms)
    return DeleteKey(operation.key, operation.match) if isinstance(operation, Delete) else GetKey(operation.key)


def _is_negative(match: Match) -> bool:
    return any(one < ABSENT for one in match) if isinstance(match, tuple) else match < min(ABSENT, ANY)
