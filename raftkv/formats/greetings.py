"""Greetings: what nodes say on each new connection before anything else, and what they then make of each other.

A greeting is msgpack ``["greeting", node, disk, [start, nonce], rules, is_blank, others, [oldest, newest], reads,
configured, origin]``. The verdict that follows it is a text, empty if the other fits. The greeting is the one message
that every version must understand of every other: fields are only ever appended, each with what it means not to send
it.
This module imports msgspec, from ``core`` what a rule's value may be, and its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from raftkv.core.rules import Rule
from raftkv.formats.identity import Life, Lives
from raftkv.formats.peers import MalformedMessageError

PROTOCOLS: Final = (3, 5)
"""The oldest and the newest protocol between nodes that this version speaks: all that follows a greeting."""

PROTOCOLS_BEFORE: Final = (2, 2)
"""What versions spoke that did not say it yet."""

COMMANDS_BEFORE: Final = 1
"""The newest format of commands that they read."""

COMMANDS_OF_PROTOCOL: Final = 2
"""Whoever speaks protocol 3 reads commands up to this format at least."""


class Greeting(msgspec.Struct, frozen=True, array_like=True, tag="greeting"):
    """What a node says of itself.

    ``is_blank``: it has never voted nor held an entry. ``others`` is whom it remembers, the one it greets among them.
    ``protocols`` are the oldest and the newest that it speaks, ``reads`` the newest format of commands that it reads.
    ``configured``: its log says who the members are, or will, and not its file. ``origin`` is what its cluster was
    restored from.
    """

    node: str
    disk: str
    life: Life
    rules: Mapping[str, Rule]
    is_blank: bool
    others: Mapping[str, Lives]
    protocols: tuple[int, int] = PROTOCOLS_BEFORE
    reads: int = COMMANDS_BEFORE
    configured: bool = False
    origin: str = ""


encode_greeting = encode_verdict = msgspec.msgpack.Encoder().encode
_decode_greeting = msgspec.msgpack.Decoder(Greeting).decode
_decode_verdict = msgspec.msgpack.Decoder(str).decode


def decode_greeting(payload: bytes) -> Greeting:
    """Read it; raises ``MalformedMessageError``."""
    try:
        greeting: Greeting = _decode_greeting(payload)
    except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors, and it recurses
        raise MalformedMessageError(str(error)) from None
    return greeting


def decode_verdict(payload: bytes) -> str:
    """Read it; raises ``MalformedMessageError``."""
    try:
        verdict: str = _decode_verdict(payload)
    except (ValueError, RecursionError) as error:
        raise MalformedMessageError(str(error)) from None
    return verdict
