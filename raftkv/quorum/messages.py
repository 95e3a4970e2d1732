"""What the nodes of a leaderless cluster say to each other: frozen values, msgpack arrays on the wire.

A frame is an array of messages, so that everything a turn of the loop has for one peer travels together. ``id`` is the
asking node's own and comes back in the answer; ids start at a random number in every life of a process, so that an
answer to an earlier life means nothing to a later one. States travel encoded (``versions.encode_state``). A message of
this version that does not decode is a broken peer, and its connection ends.
"""

from __future__ import annotations

import msgspec

from raftkv.core.errors import Refused
from raftkv.quorum.membership import GossipMessage

NO_ANSWER = 0
"""``id`` of a message that wants no answer."""


class Store(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """Join ``state`` into what you hold of ``key``; keep it as a hint for ``stands_for`` if that is not empty."""

    id: int
    key: bytes
    state: bytes
    stands_for: str = ""


class StoreDone(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """It is durable here. The newest stamp I hold is (``counter``, ``node``); ``replaced``: I had a value."""

    id: int
    counter: int
    node: str
    replaced: bool


class Event(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Let this write happen on what you hold of ``key`` and tell me the state that comes of it.

    ``value`` ``None`` deletes. The versions that ``context`` covers are replaced, the others become siblings.
    """

    id: int
    key: bytes
    value: bytes | None
    expires_at_ms: int
    context: bytes
    stands_for: str = ""


class EventDone(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The write happened, with (``counter``, ``node``) as its stamp, and this state is durable here."""

    id: int
    counter: int
    node: str
    state: bytes
    replaced: bool


class Fetch(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """What do you hold of ``key``? With ``hinted``, what you keep for others counts as well."""

    id: int
    key: bytes
    hinted: bool = False


class Fetched(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """What I hold, or nothing."""

    id: int
    state: bytes | None


class FetchPage(msgspec.Struct, frozen=True, array_like=True, tag=6):
    """The keys you hold with ``start`` <= key < ``end`` in order, ``limit`` at most, tombstones included."""

    id: int
    start: bytes
    end: bytes | None
    limit: int


class FetchedPage(msgspec.Struct, frozen=True, array_like=True, tag=7):
    """Keys and states; ``complete``: there are no more up to the end that you named."""

    id: int
    rows: tuple[tuple[bytes, bytes], ...]
    complete: bool


class Declined(msgspec.Struct, frozen=True, array_like=True, tag=8):
    """I have not done what you asked in ``id``, and will not."""

    id: int
    refusal: Refused


class Gossip(msgspec.Struct, frozen=True, array_like=True, tag=9):
    """Word of the members."""

    message: GossipMessage


class Compare(msgspec.Struct, frozen=True, array_like=True, tag=10):
    """These are the roots of my trees of these ranges (first and last position): which of yours differ?"""

    id: int
    ranges: tuple[tuple[int, int], ...]
    roots: tuple[bytes, ...]


class Compared(msgspec.Struct, frozen=True, array_like=True, tag=11):
    """These differ, by their number in your question, and these are my leaves of them."""

    id: int
    leaves: tuple[tuple[int, bytes], ...]


class OfferPage(msgspec.Struct, frozen=True, array_like=True, tag=12):
    """Of the range (``start``, ``last``), in the leaves that are bits of ``leaves``, I hold ``entries``.

    They are all that I hold there after ``after`` and up to ``until`` (order keys; ``until`` empty: to the end).
    """

    id: int
    start: int
    last: int
    leaves: int
    after: bytes
    until: bytes
    entries: tuple[tuple[bytes, bytes], ...]


class ReturnPage(msgspec.Struct, frozen=True, array_like=True, tag=13):
    """``rows`` are what you lack up to ``until`` (at most what you named); ``wanted`` are keys that I lack."""

    id: int
    until: bytes
    rows: tuple[tuple[bytes, bytes], ...]
    wanted: tuple[bytes, ...]


class Unsettled(msgspec.Struct, frozen=True, array_like=True, tag=14):
    """My disk had no room for what you asked in ``id``: it is not here, but may be after my next start."""

    id: int


Exchanged = Compare | Compared | OfferPage | ReturnPage
Answer = StoreDone | EventDone | Fetched | FetchedPage | Declined | Unsettled
Question = Store | Event | Fetch | FetchPage
Message = Question | Answer | Gossip | Exchanged

encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[Message, ...]).decode


class MalformedMessageError(ValueError):
    """A peer sent what is no message of this version."""


def decode(payload: bytes) -> tuple[Message, ...]:
    """Read the messages of one frame; raises ``MalformedMessageError``."""
    try:
        messages: tuple[Message, ...] = _decode(payload)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise MalformedMessageError(str(error)) from None
    return messages


def frame(items: list[bytes]) -> bytes:
    """One frame of messages that are encoded already (at most 65,535 of them)."""
    return b"\xdc" + len(items).to_bytes(2, "big") + b"".join(items)
