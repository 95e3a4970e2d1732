"""What the nodes of a leaderless cluster say to each other: frozen values, msgpack arrays on the wire.

A frame is an array of messages, so that everything a turn of the loop has for one peer travels together. ``id`` is the
asking node's own and comes back in the answer; ids start at a random number in every life of a process, so that an
answer to an earlier life means nothing to a later one. States travel encoded (``raftkv.formats.versions``). A message
of this version that does not decode is a broken peer, and its connection ends.

Rules: what is decoded here keeps to every bound that an honest node keeps to, in size, in number and within itself, so
that nobody behind this module meets a message that makes no sense alone. Two things are left to whoever takes it, and
looks before anything is changed: states are decoded there, once; and only the asker knows whether an answer fits.

This module imports the standard library, msgspec, the bounds in ``core`` and its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from raftkv.core.config import KEY_BYTES_MAX, LIST_LIMIT_MAX, is_node_id
from raftkv.formats.fingerprint import FINGERPRINT_BYTES
from raftkv.formats.gossip import Delta, GossipMessage
from raftkv.formats.peers import MalformedMessageError, Refusal
from raftkv.formats.rights import MARK_BYTES, Document, check_document
from raftkv.formats.rows import POSITION_BYTES, OrderKey, RowKey
from raftkv.formats.versions import Actor, Counter, Expiry, Stamp, decode_context, decode_state, is_actor

MESSAGES_PER_FRAME: Final = 4096
RANGES_PER_COMPARE: Final = 64
ENTRIES_PER_PAGE: Final = 1024
ROWS_PER_STORE: Final = 1024
LOOKED_AT_PER_PAGE: Final = 4 * ENTRIES_PER_PAGE
"""So many keys at most are looked at for one returned page, and come back in it."""

HINTS_PER_KEY: Final = 64
ROWS_PER_DOCUMENT: Final = 1 << 14

LEAVES: Final = 64
HASH_BYTES: Final = FINGERPRINT_BYTES
"""The hash tree of a range has so many leaves, and each hash so many bytes (``raftkv.quorum.data.trees``)."""

NO_ANSWER = 0
"""``id`` of a message that wants no answer."""

Number = Annotated[int, Meta(ge=0)]
"""Ids, places in a question, positions, leaves as a set of bits: no integer of msgpack is beyond the last of these."""

Rows = tuple[tuple[RowKey, bytes], ...]
"""Keys and encoded states."""

Until = Annotated[bytes, Meta(max_length=POSITION_BYTES + KEY_BYTES_MAX)]
"""An order key, or empty."""

UserText = Annotated[str, Meta(max_length=64)]

Fingerprint = Annotated[bytes, Meta(max_length=16)]
Bound = Annotated[bytes, Meta(max_length=1 << 16)]
"""Where a page begins or ends: no key, perhaps, but from a request line."""


class Said(msgspec.Struct, frozen=True, array_like=True):
    """A message."""

    def check(self) -> None:
        """Raise ``ValueError`` unless what the types cannot say holds as well."""


class StoreRows(Said, frozen=True, tag=0):
    """Join each state of ``rows`` into what you hold of its key, all of them or none.

    Keep them as hints for ``stands_for`` if that is not empty.
    """

    id: Number
    rows: Annotated[Rows, Meta(min_length=1, max_length=ROWS_PER_STORE)]
    stands_for: str = ""

    def check(self) -> None:
        """See ``Said``."""
        _check_text([key for key, _ in self.rows])
        _check_node(self.stands_for)


class StoreDone(Said, frozen=True, tag=1):
    """They are durable here. ``replaced``: of each, did I hold a value?

    ``newer``: which of them, by number, are below what I hold, and the stamp of that.
    """

    id: Number
    replaced: Annotated[tuple[bool, ...], Meta(min_length=1, max_length=ROWS_PER_STORE)]
    newer: Annotated[tuple[tuple[Number, Counter, Actor], ...], Meta(max_length=ROWS_PER_STORE)] = ()

    def check(self) -> None:
        """See ``Said``."""
        if not all(is_actor(node) for _, _, node in self.newer):
            raise ValueError("a stamp by nobody's name")


class WriteEvent(Said, frozen=True, tag=2):
    """Let this write happen on what you hold of ``key`` and tell me the state that comes of it.

    ``value`` ``None`` deletes. The versions that ``context`` covers are replaced, the others become siblings.
    """

    id: Number
    key: RowKey
    value: bytes | None
    expires_at_ms: Expiry
    context: bytes
    stands_for: str = ""

    def check(self) -> None:
        """See ``Said``."""
        _check_text([self.key])
        _check_node(self.stands_for)
        decode_context(self.context)


class EventDone(Said, frozen=True, tag=3):
    """The write happened, with (``counter``, ``node``) as its stamp, and this state is durable here."""

    id: Number
    counter: Counter
    node: Actor
    state: bytes
    replaced: bool

    def check(self) -> None:
        """See ``Said``: the state goes on to other replicas as it is, so it is decoded here."""
        if decode_state(self.state).newest != Stamp(self.counter, self.node):
            raise ValueError("an event that is not the newest of its state")


class Fetch(Said, frozen=True, tag=4):
    """What do you hold of ``key``? With ``hinted``, what you keep for others counts as well."""

    id: Number
    key: RowKey
    hinted: bool = False


class Fetched(Said, frozen=True, tag=5):
    """What I hold, or nothing."""

    id: Number
    state: bytes | None


class FetchPage(Said, frozen=True, tag=6):
    """The keys you hold with ``start`` <= key < ``end`` in order, ``limit`` at most, tombstones included."""

    id: Number
    start: Bound
    end: Bound | None
    limit: Annotated[int, Meta(ge=0, le=LIST_LIMIT_MAX)]


class FetchedPage(Said, frozen=True, tag=7):
    """Keys and states in order; ``complete``: there are no more up to the end that you named."""

    id: Number
    rows: Annotated[Rows, Meta(max_length=LIST_LIMIT_MAX + 1)]
    complete: bool

    def check(self) -> None:
        """See ``Said``."""
        if not self.rows and not self.complete:
            raise ValueError("a page with nothing in it that is not the last")
        keys = [key for key, _ in self.rows]
        _check_text(keys)
        if any(one >= other for one, other in pairwise(keys)):
            raise ValueError("the keys of a page are not in order")


class QuestionDeclined(Said, frozen=True, tag=8):
    """I have not done what you asked in ``id``, and will not."""

    id: Number
    refusal: Refusal


class Gossip(Said, frozen=True, tag=9):
    """Word of the members."""

    message: GossipMessage

    def check(self) -> None:
        """See ``Said``."""
        if isinstance(self.message, Delta) and self.message.sizes.n < max(self.message.sizes.r, self.message.sizes.w):
            raise ValueError("more replicas to ask than there are")


class Compare(Said, frozen=True, tag=10):
    """These are the roots of my trees of these ranges (first and last position): which of yours differ?"""

    id: Number
    ranges: Annotated[tuple[tuple[Number, Number], ...], Meta(max_length=RANGES_PER_COMPARE)]
    roots: Annotated[tuple[Annotated[bytes, Meta(max_length=HASH_BYTES)], ...], Meta(max_length=RANGES_PER_COMPARE)]

    def check(self) -> None:
        """See ``Said``."""
        if len(self.ranges) != len(self.roots):
            raise ValueError("not one root for each range")


class Compared(Said, frozen=True, tag=11):
    """These differ, by their number in your question, and these are my leaves of them."""

    id: Number
    leaves: Annotated[
        tuple[tuple[Number, Annotated[bytes, Meta(max_length=LEAVES * HASH_BYTES)]], ...],
        Meta(max_length=RANGES_PER_COMPARE),
    ]


class OfferPage(Said, frozen=True, tag=12):
    """Of the range (``start``, ``last``), in the leaves that are bits of ``leaves``, I hold ``entries``.

    They are all that I hold there after ``after`` and up to ``until`` (order keys; ``until`` empty: to the end).
    """

    id: Number
    start: Number
    last: Number
    leaves: Number
    after: Until
    until: Until
    entries: Annotated[tuple[tuple[OrderKey, Fingerprint], ...], Meta(max_length=ENTRIES_PER_PAGE)]

    def check(self) -> None:
        """See ``Said``."""
        _check_text([where[POSITION_BYTES:] for where, _ in self.entries])


class ReturnPage(Said, frozen=True, tag=13):
    """``rows`` are what you lack up to ``until`` (at most what you named); ``wanted`` are keys that I lack."""

    id: Number
    until: Until
    rows: Annotated[Rows, Meta(max_length=LOOKED_AT_PER_PAGE)]
    wanted: Annotated[tuple[RowKey, ...], Meta(max_length=ENTRIES_PER_PAGE + LOOKED_AT_PER_PAGE)]

    def check(self) -> None:
        """See ``Said``."""
        _check_text([key for key, _ in self.rows])
        if len(set(self.wanted)) < len(self.wanted):
            raise ValueError("a key that is wanted twice")


class Unsettled(Said, frozen=True, tag=14):
    """My disk had no room for what you asked in ``id``: it is not here, but may be after my next start."""

    id: Number


class AskClock(Said, frozen=True, tag=15):
    """What does your wall clock show?"""

    id: Number


class ShowClock(Said, frozen=True, tag=16):
    """It shows this (microseconds since 1970)."""

    id: Number
    wall_us: Counter


class StoreRowsFor(StoreRows, frozen=True, tag=17):
    """``StoreRows``, if the user has the rights to write them by what you know of rights; else decline it.

    Only to those who read commands of format 4.
    """

    user: UserText = ""
    generation: Number = 0


class WriteEventFor(WriteEvent, frozen=True, tag=18):
    """``WriteEvent``, likewise."""

    user: UserText = ""
    generation: Number = 0


class AskRights(Said, frozen=True, tag=19):
    """What do you know of rights, if it does not come to ``mark``?

    With a ``promise`` that is not 0: and do not take what another proposes, unless with a later stamp than this counter
    and my name.
    """

    id: Number
    mark: Annotated[bytes, Meta(min_length=MARK_BYTES, max_length=MARK_BYTES)]
    promise: Counter = 0


class ShowRights(Said, frozen=True, tag=20):
    """All that I know of rights, and have on my disk; ``None`` if it comes to your mark.

    ``counts``: I count in a majority, since I have all that I ever promised and took. ``is_promised``: your promise is
    given, and on my disk. ``promised`` is the counter of the latest that I have given.
    """

    id: Number
    counts: bool
    is_promised: bool
    promised: Counter
    document: Annotated[Document, Meta(max_length=ROWS_PER_DOCUMENT)] | None

    def check(self) -> None:
        """See ``Said``."""
        check_document(self.document or ())


class TakeRights(Said, frozen=True, tag=21):
    """Take this in place of what you know of rights, if it is newer.

    With an ``id``: I propose it; take it only if you have promised nobody a later stamp, and say whether you have.
    """

    id: Number
    document: Annotated[Document, Meta(max_length=ROWS_PER_DOCUMENT)]

    def check(self) -> None:
        """See ``Said``."""
        check_document(self.document)


class TookRights(Said, frozen=True, tag=22):
    """I have taken what you proposed in ``id``, and have it on my disk; or I have not."""

    id: Number
    is_taken: bool


class Examine(Said, frozen=True, tag=23):
    """What do you hold of ``key``, whatever you lack, and what do you keep of it for others? Somebody looks.

    Only to those who speak protocol 5.
    """

    id: Number
    key: RowKey


class Examined(Said, frozen=True, tag=24):
    """What I hold, or nothing; and for whom I keep something of it, with the newest stamp of that."""

    id: Number
    state: bytes | None
    hints: Annotated[tuple[tuple[str, Counter, Actor], ...], Meta(max_length=HINTS_PER_KEY)] = ()

    def check(self) -> None:
        """See ``Said``."""
        for target, _, node in self.hints:
            _check_node(target)
            if not target or not is_actor(node):
                raise ValueError("a hint for nobody, or by nobody's name")


Exchanged = Compare | Compared | OfferPage | ReturnPage
Answer = StoreDone | EventDone | Fetched | FetchedPage | Examined | QuestionDeclined | Unsettled
Question = StoreRows | WriteEvent | StoreRowsFor | WriteEventFor | Fetch | FetchPage | Examine
RightsMessage = AskRights | ShowRights | TakeRights | TookRights
ClockMessage = AskClock | ShowClock
Message = Question | Answer | Gossip | Exchanged | ClockMessage | RightsMessage

encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Annotated[tuple[Message, ...], Meta(max_length=MESSAGES_PER_FRAME)]).decode


def decode(payload: bytes) -> tuple[Message, ...]:
    """Read the messages of one frame; raises ``MalformedMessageError``."""
    try:
        messages: tuple[Message, ...] = _decode(payload)
        for message in messages:
            message.check()
    except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors, and it recurses
        raise MalformedMessageError(str(error)) from None
    return messages


def frame(items: list[bytes]) -> bytes:
    """One frame of messages that are encoded already (at most ``MESSAGES_PER_FRAME``)."""
    return b"\xdc" + len(items).to_bytes(2, "big") + b"".join(items)


def _check_node(stands_for: str) -> None:
    if stands_for and not is_node_id(stands_for):
        raise ValueError("a hint for what is no node")


def _check_text(keys: Iterable[bytes]) -> None:
    for key in keys:
        key.decode()  # keys are text, or no client could be told of them
