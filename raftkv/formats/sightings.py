"""What nodes say of themselves to those who look: one byte that begins no message of a mode, and msgpack of names.

``{"type": "ask_sight", ...}`` asks, ``{"type": "sight", ...}`` answers. Names are only ever added; one that this
version does not know is passed over. It is spoken from protocol 4 on (``raftkv.formats.greetings``). This module
imports msgspec, ``core`` and its neighbours.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from raftkv.core.sights import Sight
from raftkv.formats.peers import MalformedMessageError

MARK: Final = b"\xc1"
"""The byte that msgpack never uses."""

PROTOCOL: Final = 4
"""The oldest protocol between nodes in which this is understood."""

SIGHT_BYTES_MAX: Final = 256 << 10
"""More is no sight of a cluster that there is."""


class AskSight(msgspec.Struct, frozen=True, kw_only=True, tag="ask_sight"):
    """Show yourself, and what happened ``after`` that happening of your ``life``; all there is if that is another.

    ``samples_after`` is the same of samples.
    """

    life: Annotated[str, Meta(max_length=64)] = ""
    after: Annotated[int, Meta(ge=0, le=1 << 62)] = 0
    samples_after: Annotated[int, Meta(ge=0, le=1 << 62)] = 0


class SightTold(msgspec.Struct, frozen=True, kw_only=True, tag="sight"):
    """The answer."""

    sight: Sight


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(AskSight | SightTold).decode


def encode(message: AskSight | SightTold) -> bytes:
    """The payload of a frame."""
    return MARK + _encode(message)


def decode(payload: bytes) -> AskSight | SightTold:
    """Read it; raises ``MalformedMessageError``."""
    if len(payload) > SIGHT_BYTES_MAX:
        raise MalformedMessageError(f"a sight of {len(payload)} bytes")
    try:
        message: AskSight | SightTold = _decode(payload[len(MARK) :])
    except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors, and it recurses
        raise MalformedMessageError(str(error)) from None
    return message
