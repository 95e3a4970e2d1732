"""What replicas say to each other: frozen values, msgpack arrays on the wire, nothing that could run code.

Every message carries the term it was sent in wherever its meaning depends on it; one that is delayed across an
election is then recognised by its receiver. This module imports nothing of PySyncObj.
"""

from __future__ import annotations

import msgspec

from raftkv.core.errors import Refused
from raftkv.storage.snapshots import Manifest

Entry = tuple[bytes, int, int]
"""(command, log index, term), in PySyncObj's order."""


class Append(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=0):
    """Raft's AppendEntries (section 5.3); ``previous_index`` 0 is a bare heartbeat that says nothing about the log.

    ``sequence`` counts a leader's appends to one peer and comes back in the answer.
    """

    term: int
    commit_index: int
    sequence: int
    previous_index: int = 0
    previous_term: int = 0
    entries: tuple[Entry, ...] = ()


class AppendAnswer(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=1):
    """The follower matches up to ``next_index`` - 1 (``success``), or asks to go on from ``next_index`` (``reset``)."""

    term: int
    sequence: int
    next_index: int
    success: bool
    reset: bool


class RequestVote(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=2):
    """Raft's RequestVote (section 5.2)."""

    term: int
    last_log_index: int
    last_log_term: int


class Vote(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=3):
    """A vote granted in ``term``."""

    term: int


class PreVote(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=4):
    """Would you vote for me in ``term``, asks Raft's PreVote (thesis, section 9.6)?"""

    term: int
    last_log_index: int
    last_log_term: int
    round: int


class PreVoteAnswer(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=5):
    """The answer to round ``round``; ``term`` is the answering node's current term."""

    term: int
    round: int
    granted: bool


class NewerTerm(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=6):
    """What you sent belongs to an older term; mine is ``term``."""

    term: int


class Ping(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=7):
    """Is ``term`` still your term? Asked by its leader, for a read-index round (Raft thesis, section 6.4)."""

    term: int
    round: int


class Pong(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=8):
    """Yes: when the ping of ``round`` arrived, ``term`` was my term, and I withhold my vote for an election timeout."""

    term: int
    round: int


class AskReadIndex(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=9):
    """A follower asks its leader for a read index; ``lease`` allows one that rests on the leader's lease."""

    request: int
    lease: bool


class ReadIndexAnswer(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=10):
    """The read index for ``request``, or 0: I do not lead."""

    request: int
    index: int


class Propose(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=11):
    """Put this command body into the log of ``term``, or decline; report ``acks`` replicas, unless it is 0."""

    term: int
    sequence: int
    body: bytes
    acks: int


class Declined(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=12):
    """Your proposal is in no log and never will be; ``refusal`` ``None``: I do not lead the term you named."""

    sequence: int
    refusal: Refused | None


class Replicated(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=13):
    """As many replicas as you asked for have your proposal durably."""

    sequence: int


class SnapshotOffer(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=14):
    """You are too far behind for my log; this is the snapshot that I can send."""

    term: int
    manifest: Manifest


class SnapshotChunk(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=15):
    """A piece of the body of the snapshot at ``index``."""

    term: int
    index: int
    offset: int
    data: bytes


class SnapshotProgress(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=16):
    """I have the body of the snapshot at ``index`` up to ``offset``."""

    term: int
    index: int
    offset: int


Message = (
    Append
    | AppendAnswer
    | RequestVote
    | Vote
    | PreVote
    | PreVoteAnswer
    | NewerTerm
    | Ping
    | Pong
    | AskReadIndex
    | ReadIndexAnswer
    | Propose
    | Declined
    | Replicated
    | SnapshotOffer
    | SnapshotChunk
    | SnapshotProgress
)

encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode


class MalformedMessageError(ValueError):
    """A peer sent what is no message of this version."""


def decode(payload: bytes) -> Message:
    """Read one message; raises ``MalformedMessageError``."""
    try:
        message: Message = _decode(payload)
    except msgspec.DecodeError as error:
        raise MalformedMessageError(str(error)) from None
    return message
