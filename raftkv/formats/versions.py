"""What a replica of a leaderless cluster holds of a key, and causal contexts: at rest, and between nodes.

A state is msgpack ``[[version, ...], [[actor, counter], ...]]``, a version ``[counter, node, value or nil,
expires_at_ms]``; a context is the second part alone. Equal states encode to equal bytes. What a peer or a client sent
is checked here, where it is decoded; how states merge is told in ``raftkv.quorum.data.versions``. There are very many
states and they can be in no cycle, so Python is told (``gc``) not to look for any. This module imports nothing but the
standard library and msgspec.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

MAX_COUNTER: Final = (1 << 53) - 1
"""Counters are microseconds since 1970: below this until 2255, so that every JSON reader holds them exactly."""

Counter = Annotated[int, Meta(ge=0, le=MAX_COUNTER)]
Actor = Annotated[str, Meta(max_length=128)]
"""A node's id or, where siblings are kept, one of a row's actors (``rows``)."""

Expiry = Annotated[int, Meta(ge=0, le=MAX_COUNTER)]
"""Milliseconds since 1970, 0 for never."""

MAX_VERSIONS: Final = 1 << 14
"""How many concurrent versions, or actors seen, a replica holds of a key at most: far more than the events of any
configuration leave there (``quorum.max_siblings`` at each replica)."""

_MAX_JOINED: Final = 16 * MAX_VERSIONS
"""What a state that travels may have: a coordinator joins what its replicas hold."""


class MalformedStateError(ValueError):
    """These bytes are no state, or no causal context."""


class Stamp(NamedTuple):
    """When a version was written: compared as a pair, the higher wins (Lamport 1978, section on total order).

    ``counter`` is in microseconds of the hybrid clock; ``node`` is who wrote.
    """

    counter: int
    node: str

    def __str__(self) -> str:
        return f"{self.counter}@{self.node}"


class Version(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One write: its stamp, and a value or, with ``None``, a tombstone. ``expires_at_ms`` is 0 for never."""

    counter: Counter
    node: Actor
    value: bytes | None
    expires_at_ms: Expiry = 0

    @property
    def stamp(self) -> Stamp:
        """The stamp as a pair."""
        return Stamp(self.counter, self.node)


Seen = Annotated[tuple[tuple[Actor, Counter], ...], Meta(max_length=_MAX_JOINED)]
"""For each actor, up to which of its events everything was processed; sorted by actor."""


class KeyState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a replica holds of a key: one version or more by ascending stamp, and ``seen`` (empty if the last wins)."""

    versions: Annotated[tuple[Version, ...], Meta(max_length=_MAX_JOINED)]
    seen: Seen = ()

    @property
    def newest(self) -> Stamp:
        """The highest stamp."""
        return self.versions[-1].stamp


_encoder = msgspec.msgpack.Encoder()
encode_state = _encoder.encode
_decode_state = msgspec.msgpack.Decoder(KeyState).decode
_decode_context = msgspec.msgpack.Decoder(Seen).decode


def decode_state(data: bytes) -> KeyState:
    """Read a state; raises ``MalformedStateError``."""
    try:
        state: KeyState = _decode_state(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedStateError(str(error)) from None
    versions, seen = state.versions, state.seen
    if not versions:
        raise MalformedStateError("a state without a version")
    if not all(is_actor(version.node) for version in versions):
        raise MalformedStateError("a version by nobody's name")
    if len(versions) > 1 and any(one.stamp >= other.stamp for one, other in pairwise(versions)):
        raise MalformedStateError("the versions are not in the order of their stamps")
    if seen:
        _check_order(seen)
    return state


def _check_order(seen: Seen) -> None:
    if any(one[0] >= other[0] for one, other in pairwise(seen)):
        raise MalformedStateError("the actors are not in order")


def is_actor(text: str) -> bool:
    """May ``text`` name a writer? Clients get to see it in headers."""
    return text.isascii() and text.isprintable()


def encode_context(state: KeyState) -> bytes:
    """What a client that was shown ``state`` has seen; empty for last-writer-wins."""
    return _encoder.encode(state.seen) if state.seen else b""


def decode_context(data: bytes) -> Seen:
    """Read a context; raises ``MalformedStateError``."""
    if not data:
        return ()
    try:
        seen: Seen = _decode_context(data)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedStateError(str(error)) from None
    _check_order(seen)
    return seen
