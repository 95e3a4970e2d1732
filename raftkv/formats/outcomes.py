"""What the machine keeps of an idempotent write, so that a repeat returns the same: rows of the table ``outcomes``.

A row is msgpack ``[fingerprint, ["written", [result, ...], revision, 0, true, nil, [], 0]]``, under the idempotency
key; a user's under ``0xff user 0xff key``. The fingerprint is blake2b (16 bytes) of the operations as commands of
format 1 wrote them, so that a write is known again whichever format its repeat comes in; with operations that came
later, of all as they are now. What reads found is not kept: ``["missing", ""]`` stands in its place. Frozen, the
constants too: rows are compared between replicas, which may have written them with different versions.

This module imports the standard library, msgspec, ``core`` and its neighbours.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from raftkv.core.rights import NOBODY, Caller
from raftkv.formats import commands_1
from raftkv.formats.commands import AnyOperation, DeleteKey, GetKey, PutKey


class KeptPut(msgspec.Struct, frozen=True, array_like=True, tag="put_done", gc=False):
    """The key was stored at ``revision`` and is at ``version``."""

    version: int
    revision: int
    replaced: None = None
    node: str = ""


class KeptDelete(msgspec.Struct, frozen=True, array_like=True, tag="delete_done", gc=False):
    """The key was removed at ``revision``."""

    revision: int
    node: str = ""


class KeptMissing(msgspec.Struct, frozen=True, array_like=True, tag="missing", gc=False):
    """There was no such key to remove; or a read, with an empty key."""

    key: bytes


class KeptMismatch(msgspec.Struct, frozen=True, array_like=True, tag="mismatch", gc=False):
    """The key was at ``revision`` and did not match."""

    revision: int


class KeptIncrement(msgspec.Struct, frozen=True, array_like=True, tag="incremented", gc=False):
    """The integer became ``value`` at ``revision``; the key is at ``version``."""

    value: int
    version: int
    revision: int


class KeptTouch(msgspec.Struct, frozen=True, array_like=True, tag="touched", gc=False):
    """The key, last changed at ``revision``, was to expire then."""

    expires_at_ms: int
    revision: int


class KeptSpanDelete(msgspec.Struct, frozen=True, array_like=True, tag="span_deleted", gc=False):
    """So many keys were removed at ``revision``."""

    count: int
    revision: int


class KeptGrant(msgspec.Struct, frozen=True, array_like=True, tag="granted", gc=False):
    """The lease was there, and to end then."""

    lease: int
    ttl_ms: int
    expires_at_ms: int


class KeptRevoke(msgspec.Struct, frozen=True, array_like=True, tag="revoked", gc=False):
    """The lease ended at ``revision``, and so many keys with it."""

    count: int
    revision: int


class KeptRefusal(msgspec.Struct, frozen=True, array_like=True, tag="refused", gc=False):
    """It was not done, for the reason that this word names (``raftkv.core.errors.Code``)."""

    code: str


class KeptTransaction(msgspec.Struct, frozen=True, array_like=True, tag="transacted"):
    """Which branch was done, and one result for each of its operations."""

    succeeded: bool
    results: tuple[KeptResult, ...]


KeptResult = (
    KeptPut
    | KeptDelete
    | KeptMissing
    | KeptMismatch
    | KeptIncrement
    | KeptTouch
    | KeptSpanDelete
    | KeptGrant
    | KeptRevoke
    | KeptRefusal
    | KeptTransaction
)


class KeptWrite(msgspec.Struct, frozen=True, array_like=True, tag="written", gc=False):
    """One result for each operation, and the store's revision after them."""

    results: tuple[KeptResult, ...]
    revision: int
    acks: int = 0
    committed: bool = True
    refused: str | None = None
    replicas: tuple[str, ...] = ()
    hinted: int = 0


class KeptOutcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A row."""

    fingerprint: bytes
    written: KeptWrite


encode_outcome = msgspec.msgpack.Encoder().encode
decode_outcome = msgspec.msgpack.Decoder(KeptOutcome).decode


def name_of(caller: Caller, key: str) -> bytes:
    """By which the outcome of the write of this idempotency key is kept: 0xff stands in no key, and in no user."""
    if caller == NOBODY:
        return key.encode()
    return b"\xff".join((b"", caller.user.encode(), key.encode()))


def fingerprint_of(operations: tuple[AnyOperation, ...]) -> bytes:
    """What tells one write from another under the same idempotency key."""
    first_forms = [one for one in operations if isinstance(one, PutKey | DeleteKey | GetKey)]
    if len(first_forms) == len(operations):
        return blake2b(commands_1.encode_operations(first_forms), digest_size=16).digest()
    return blake2b(encode_outcome(operations), digest_size=16).digest()
