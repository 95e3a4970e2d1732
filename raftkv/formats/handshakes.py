"""The handshake of peers, on the wire, and the bytes that its proofs are made of.

Msgpack arrays: ``[version, cluster, dialer, acceptor, nonce, proof]``, then ``[nonce, proof]``, then ``[proof]``, each
in a plain frame (``raftkv.formats.frames``). Who says what when, and what comes of it, is told in
``raftkv.peers.handshake``. This module imports msgspec and its neighbours.
"""

from __future__ import annotations

from typing import Final, TypeVar

import msgspec

from raftkv.formats.peers import MalformedMessageError

HANDSHAKE_VERSION: Final = 2
NONCE_BYTES: Final = 32


class Hello(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The dialer's first message."""

    version: int
    cluster: str
    dialer: str
    acceptor: str
    nonce: bytes
    proof: bytes


class Challenge(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The acceptor's answer to a Hello."""

    nonce: bytes
    proof: bytes


class Proof(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """The dialer's answer to a Challenge."""

    proof: bytes


encode = msgspec.msgpack.Encoder().encode

Handshaking = TypeVar("Handshaking", Hello, Challenge, Proof)


def decode(payload: bytes, kind: type[Handshaking]) -> Handshaking:
    """Read the message that must be next; raises ``MalformedMessageError``."""
    try:
        return msgspec.msgpack.decode(payload, type=kind)
    except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors, and it recurses
        raise MalformedMessageError(str(error)) from None


def covered(
    label: str, *, cluster: str, dialer: str, acceptor: str, dialer_nonce: bytes, acceptor_nonce: bytes
) -> bytes:
    """What the proof or the key of ``label`` is made over: no two different lists of fields give the same bytes.

    msgpack puts a length before every field.
    """
    return encode(("raftkv peer " + label, HANDSHAKE_VERSION, cluster, dialer, acceptor, dialer_nonce, acceptor_nonce))
