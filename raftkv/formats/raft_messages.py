"""What replicas say to each other: frozen values, msgpack arrays on the wire, nothing that could run code.

Every message carries the term it was sent in wherever its meaning depends on it; one that is delayed across an
election is then recognised by its receiver. Who may say what, and what comes of it, is no matter of
this module. It imports msgspec, ``core`` and its neighbours.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from raftkv.formats.configurations import Configuration
from raftkv.formats.peers import MalformedMessageError, Refusal
from raftkv.formats.snapshots import Manifest

Number = Annotated[int, Meta(ge=0, le=1 << 62)]
"""Terms, log indexes, counters: what a peer may send stays within what the log can store, with room to count on."""

CommandFormat = Annotated[int, Meta(ge=1, le=255)]

Entry = tuple[bytes, Number, Number]
"""(command, log index, term), in PySyncObj's order."""


class Append(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=0):
    """Raft's AppendEntries (section 5.3); ``previous_index`` 0 is a bare heartbeat that says nothing about the log.

    ``sequence`` counts a leader's appends to one peer and comes back in the answer.
    """

    term: Number
    commit_index: Number
    sequence: Number
    previous_index: Number = 0
    previous_term: Number = 0
    entries: tuple[Entry, ...] = ()


class AppendAnswer(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=1):
    """The follower matches up to ``next_index`` - 1 (``success``), or asks to go on from ``next_index`` (``reset``).

    ``counts`` is false while the follower makes good what its disk lost: it counts towards no majority then.
    """

    term: Number
    sequence: Number
    next_index: Number
    success: bool
    reset: bool
    counts: bool = True


class RequestVote(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=2):
    """Raft's RequestVote (section 5.2); ``handed_over``: the leader of the term before told the sender to stand."""

    term: Number
    last_log_index: Number
    last_log_term: Number
    handed_over: bool = False


class Vote(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=3):
    """A vote granted in ``term``; ``wall_ms`` is the voter's wall clock (0: not told)."""

    term: Number
    wall_ms: Number = 0


class PreVote(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=4):
    """Would you vote for me in ``term``, asks Raft's PreVote (thesis, section 9.6)?"""

    term: Number
    last_log_index: Number
    last_log_term: Number
    round: Number


class PreVoteAnswer(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=5):
    """The answer to round ``round``; ``term`` is the answering node's current term."""

    term: Number
    round: Number
    granted: bool


class NewerTerm(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=6):
    """What you sent belongs to an older term; mine is ``term``."""

    term: Number


class Ping(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=7):
    """Is ``term`` still your term? Asked by its leader, for a read-index round (Raft thesis, section 6.4).

    ``takes_writes`` is false while the leader's disk is too full for writes.
    """

    term: Number
    round: Number
    takes_writes: bool = True


class ClockReading(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A node's monotonic clock, as the microseconds of its process's ``life``, a random number."""

    life: Number
    elapsed_us: Number


class Pong(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=8):
    """Yes: when the ping of ``round`` arrived, ``term`` was my term, and I withhold my vote for an election timeout.

    ``wall_ms`` is the answering node's wall clock (0: not told), ``reading`` its monotonic one, to be returned;
    ``has_room`` says whether its disk has room for more than acknowledging.
    """

    term: Number
    round: Number
    wall_ms: Number = 0
    reading: ClockReading | None = None
    has_room: bool = True


class AskReadIndex(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=9):
    """A follower asks its leader for a read index; ``lease`` allows one that rests on the leader's lease."""

    request: Number
    lease: bool


class ReadIndexAnswer(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=10):
    """The read index for ``request``, or 0: I do not lead."""

    request: Number
    index: Number


class Propose(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=11):
    """Put this body of ``command_format`` into the log of ``term``, or decline; report ``acks`` replicas, unless 0.

    ``makes_room``: it only deletes.
    """

    term: Number
    sequence: Number
    command_format: CommandFormat
    body: bytes
    acks: Number
    makes_room: bool = False


class ProposalDeclined(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=12):
    """Your proposal is in no log and never will be; ``refusal`` ``None``: I do not lead the term you named."""

    sequence: Number
    refusal: Refusal | None


class Replicated(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=13):
    """As many replicas as you asked for have your proposal durably."""

    sequence: Number


class SnapshotOffer(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=14):
    """You are too far behind for my log; this is the snapshot that I can send."""

    term: Number
    manifest: Manifest


class SnapshotChunk(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=15):
    """A piece of the body of the snapshot at ``index``."""

    term: Number
    index: Number
    offset: Number
    data: bytes


class SnapshotProgress(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=16):
    """I have the body of the snapshot at ``index`` up to ``offset``."""

    term: Number
    index: Number
    offset: Number


class AskApplied(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=17):
    """A write waits until you show the log up to ``index``, applied and readable: tell me how far you are."""

    term: Number
    index: Number


class AppliedShown(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=18):
    """Readers of my state see everything up to ``index``."""

    term: Number
    index: Number


class SeenRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag="record", gc=False):
    """A key as one replica has it; ``node`` is empty."""

    key: bytes
    value: bytes
    version: Number
    create_revision: Number
    mod_revision: Number
    expires_at_ms: Number = 0
    node: str = ""


class SeenLeasedRecord(SeenRecord, frozen=True, kw_only=True, array_like=True, tag="leased_record", gc=False):
    """The same of a key with a lease, which there is only where every member reads commands of format 3."""

    lease: Number


class AppliedView(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """What one replica's applied state holds under a key; ``revision`` is the store's there."""

    applied_index: Number
    revision: Number
    record: SeenRecord | SeenLeasedRecord | None


class AskRecord(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=19):
    """What do you have under ``key``?"""

    request: Number
    key: bytes


class RecordAnswer(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=20):
    """What I have, for ``request``."""

    request: Number
    view: AppliedView


class AskRecordFor(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=35):
    """The same for a user of that generation, who must be allowed to read it; only where all read commands of format 4.

    It is answered by a ``RecordAnswer`` or, where the user has no right to it, by a ``RecordForbidden``.
    """

    request: Number
    key: bytes
    user: Annotated[str, Meta(max_length=64)]
    generation: Number


class RecordForbidden(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=36):
    """The user of ``request`` may not read the key, in my state at ``applied_index``."""

    request: Number
    applied_index: Number


class Level(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=21):
    """All that had been committed anywhere when you took ``reading`` is within ``index``, whatever your term is now."""

    index: Number
    reading: ClockReading


class HandOver(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=22):
    """I lead ``term`` and make way for you: stand for election at once (Raft thesis, section 3.10)."""

    term: Number


class WantToLead(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=40):
    """Leader of ``term``: I am configured to lead, and could. Only to who reads commands of format 4."""

    term: Number


MemberWord = Annotated[str, Meta(max_length=300)]


class AskChange(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=37):
    """Leader, do to the member ``node`` what ``act`` says, for an operator who asked me; only to who reads format 4.

    Acts: 0 let it in, 1 remove it, 2 let it vote, 3 give it these addresses, 4 let it lead.
    """

    number: Number
    act: Annotated[int, Meta(ge=0, le=255)]
    node: MemberWord
    http: MemberWord = ""
    peer: MemberWord = ""
    zone: MemberWord = ""


class ChangeAnswer(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=38):
    """What came of it: a refusal, nobody knows (``in_doubt``), or it is done: these are the members, or who leads."""

    number: Number
    refusal: Refusal | None = None
    in_doubt: MemberWord = ""
    configuration: Configuration | None = None
    leader: MemberWord = ""
    term: Number = 0


class Farewell(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=39):
    """You were removed, by the entry at ``index``, which is committed: end."""

    term: Number
    index: Number


class AskTerm(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=30):
    """My disk was emptied: what is your term? See ``raftkv.raft.standing.readmission``."""

    nonce: Number


class TermAnswer(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=31):
    """The answer to it; ``term`` is on the answering node's disk."""

    nonce: Number
    term: Number


class AskReadmission(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=32):
    """Leader of ``term``: forget what I acknowledged on the disk that is gone, and tell me how far I must come."""

    nonce: Number
    term: Number


class ReadmissionAnswer(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=33):
    """As far as ``index``, confirmed by a round that began after the question; 0: this node does not lead."""

    nonce: Number
    index: Number


class StateHash(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=34):
    """My applied state had this hash at ``index``; both 0: it has no say, it is being fetched. See ``divergence``."""

    index: Number
    state_hash: Number


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
    | ProposalDeclined
    | Replicated
    | SnapshotOffer
    | SnapshotChunk
    | SnapshotProgress
    | AskApplied
    | AppliedShown
    | AskRecord
    | RecordAnswer
    | AskRecordFor
    | RecordForbidden
    | Level
    | HandOver
    | WantToLead
    | AskChange
    | ChangeAnswer
    | Farewell
    | AskTerm
    | TermAnswer
    | AskReadmission
    | ReadmissionAnswer
    | StateHash
)

encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Message).decode


class ContradictionError(MalformedMessageError):
    """A peer sent another entry at an ``index`` that this node has committed."""

    def __init__(self, index: int) -> None:
        super().__init__(f"entry {index} conflicts with what is committed")
        self.index = index


def decode(payload: bytes) -> Message:
    """Read one message; raises ``MalformedMessageError``."""
    # msgspec's own errors are ValueErrors, as is what it raises for text that is not UTF-8; and it recurses.
    try:
        message: Message = _decode(payload)
    except (ValueError, RecursionError) as error:
        raise MalformedMessageError(str(error)) from None
    return message
