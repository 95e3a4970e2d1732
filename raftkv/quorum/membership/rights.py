"""Users and roles of a leaderless cluster: one document, which every node has on its disk and judges by.

Documents follow one another: each is made of the one before and has a later stamp, as ``changes`` sees to. Of two, the
later stands, so who meets somebody that knows a later one takes it. A change is done once a majority of the members
has it on their disks.

A node that has not heard for ``validity_s`` from a majority how things stand judges nobody: it lets no user in. Who
asked a majority later than a change was done has met a node that has it. So nobody goes by a right that was taken away
longer than that ago, whatever the network does: it is refused, or this node says that it does not know. A replica
judges, too, what a coordinator asks it to write, by what it knows. Who reads users and roles waits for such a round of
questions, so nothing that was done before he asked is missing.

Who has lost its disk, or has just been let in, counts in no majority before it has heard from most others. Pure but for
the disk; clocks only measure how long ago something was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from raftkv.core.errors import Code, Refused, StartupError
from raftkv.core.judgement import of_operator
from raftkv.core.pages import page_of
from raftkv.core.replicator import Pending
from raftkv.core.requests import Get, List, Read
from raftkv.core.results import Answer, KeyPage, Missing, StampedRecord
from raftkv.core.rights import CLUSTER, Caller, Rights
from raftkv.core.voters import majority
from raftkv.formats.commands import CALLERS_FORMAT
from raftkv.formats.quorum_messages import NO_ANSWER, AskRights, RightsMessage, ShowRights, TakeRights, TookRights
from raftkv.formats.rights import (
    NEVER,
    Document,
    Stamp,
    StampedRow,
    decode_document,
    decode_stamp,
    encode_document,
    encode_stamp,
    mark_of,
    rights_of,
    stamp_of,
)
from raftkv.quorum.data.store import Store
from raftkv.quorum.membership.amending import is_in, record_of
from raftkv.quorum.outbox import Outbox

ASKS_PER_VALIDITY: Final = 4
"""How often a node asks how things stand in the time for which it may go by it."""

LOST_S: Final = 1.0
"""A question without an answer for so long is asked again."""

WAITING_MAX: Final = 1_000
"""So many read users and roles, or change them, at a time."""

NOT_HEARD: Final = Refused(
    code=Code.QUORUM_UNREACHABLE,
    detail="this node has not heard lately from a majority of the members what rights there are, so it lets nobody in",
    retry_after_s=1.0,
)
NO_MAJORITY: Final = Refused(
    code=Code.QUORUM_UNREACHABLE,
    detail="no majority of the members said in time what users and roles there are",
    retry_after_s=1.0,
)
Word = TypeVar("Word")

BUSY: Final = Refused(code=Code.OVERLOADED, detail="too many look at users and roles", retry_after_s=1.0)


class _Asked(msgspec.Struct, frozen=True):
    """A question that is under way."""

    id: int
    sent_s: float
    promise: int


class _Reader(msgspec.Struct):
    """Who waits for what is not older than ``since_s``."""

    read: Read
    since_s: float
    deadline_s: float
    pending: Pending


@dataclass(kw_only=True, eq=False, repr=False)
class SharedRights:
    """What this node knows of rights. ``rights`` are those that it judges by, ``encoded`` those on its disk."""

    node_id: str
    store: Store
    outbox: Outbox
    members: Callable[[], Iterable[str]]
    is_up: Callable[[str], bool]
    reads: Callable[[str], int]
    """Tells the newest format of commands that a peer is known to read."""

    has_its_data: Callable[[], bool]
    """Has this node all that it ever acknowledged?"""

    has_lost_data: Callable[[], bool]
    """Has somebody said since this node started that it had data, under another directory?"""

    is_founder: bool
    """Is its directory new, and was it a member from the start, so that it counts unless it has lost an earlier one?"""

    clock: Callable[[], float]
    is_too_far_ahead: Callable[[int], bool]
    """Is a counter further ahead than any stamp should be? No promise is given to it, and nothing with it taken."""

    gossip_s: float
    validity_s: float

    rights: Rights = field(init=False)
    rows: Mapping[bytes, StampedRow] = field(init=False)
    encoded: bytes = field(init=False)
    promised: Stamp = field(init=False)
    """This node takes no change with an earlier stamp."""

    counts: bool = field(init=False)
    """Does it count in a majority?"""

    proposal: int = field(default=0, init=False)
    """With what counter this node asks for promises; 0 while it does not."""

    hear: Callable[[str, ShowRights | TookRights, int], None] = field(init=False)
    """Is told of answers, with the counter for which a promise was asked."""

    _mark: bytes = field(init=False)
    _is_durable: bool = field(default=True, init=False)
    _readers: list[_Reader] = field(default_factory=list, init=False)
    _confirmed_s: dict[str, float] = field(default_factory=dict, init=False)
    """When a question was sent that a peer has answered, which counts."""

    _heard: set[str] = field(default_factory=set, init=False)
    _asked: dict[str, _Asked] = field(default_factory=dict, init=False)
    _to_ask: set[str] = field(default_factory=set, init=False)
    _to_answer: dict[str, tuple[AskRights, bool]] = field(default_factory=dict, init=False)
    _to_tell: dict[str, int] = field(default_factory=dict, init=False)
    """To whom to tell all, and as which proposal."""

    _to_confirm: dict[str, TookRights] = field(default_factory=dict, init=False)
    _has_heard_once: bool = field(default=False, init=False)
    _last_id: int = field(default=0, init=False)
    _next_tick_s: float = field(default=0.0, init=False)
    _turn: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        data, promise = self.store.rights, self.store.promised
        try:
            document = () if data is None else decode_document(data)
            self.promised = NEVER if promise is None else decode_stamp(promise)
        except ValueError as error:
            raise StartupError(f"what this node remembers of rights does not decode: {error}") from None
        self.counts = promise is not None
        self._hold(document)

    # -- clients

    def doubt(self, caller: Caller | None) -> Refused | None:
        """Why ``caller`` cannot be judged here now, if so; the cluster itself need not be."""
        return None if caller == CLUSTER or not self.fault else NOT_HEARD

    @property
    def fault(self) -> str:
        """Why nobody can be judged here now; empty if a majority has said lately how things stand."""
        is_on = self.rights.enabled
        is_known = self._since_s + self.validity_s > self.clock() if is_on else self._has_heard()
        return "" if is_known else NOT_HEARD.detail

    def _has_heard(self) -> bool:
        """Have so many said since this node started how things stand that it is one of a majority?

        Before, authentication may be on; it cannot be where a member does not judge.
        """
        if not self._has_heard_once:
            others = self.others
            strangers = [peer for peer in others if self.is_up(peer) and self.reads(peer) < CALLERS_FORMAT]
            heard_count = 1 + len(self._heard.intersection(others))
            self._has_heard_once = bool(strangers) or heard_count >= majority(1 + len(others))
        return self._has_heard_once

    def read(self, read: Read, deadline_s: float, pending: Pending) -> None:
        """What stands under keys of rights, to root, once a majority has said how things stand now."""
        if len(self._readers) >= WAITING_MAX:
            pending.resolve(BUSY)
            return
        self._readers.append(_Reader(read, self.clock(), deadline_s, pending))
        self.ask_all()

    def work(self, now_s: float) -> None:
        """Ask whose word is getting old, and one member after another; whose deadline has come is refused."""
        self._see_whether_it_counts()
        others = self.others
        if self.fault:
            self.ask_all()
        elif self.rights.enabled:
            age_s = self.validity_s / ASKS_PER_VALIDITY
            self._to_ask.update(peer for peer in others if self._confirmed_s.get(peer, 0.0) + age_s <= now_s)
        if self._readers:
            self.ask_all()
        if now_s >= self._next_tick_s and others:
            self._next_tick_s = now_s + self.gossip_s
            self._turn += 1
            self._to_ask.add(others[self._turn % len(others)])
        for reader in [one for one in self._readers if one.deadline_s <= now_s]:
            self._readers.remove(reader)
            reader.pending.resolve(NO_MAJORITY)

    def close(self) -> None:
        """The node ends."""
        self._readers, readers = [], self._readers
        for reader in readers:
            reader.pending.resolve(NO_MAJORITY)

    # -- members

    def meet(self, peer: str) -> None:
        """``peer`` has just been connected."""
        self._to_ask.add(peer)

    def lost(self, peer: str) -> None:
        """The connection to ``peer`` is gone: nothing that it was asked will be answered."""
        self._asked.pop(peer, None)

    def tell(self, peer: str, proposal: int = NO_ANSWER) -> None:
        """Tell ``peer`` all that is known here: because it should have known it, or as a proposal."""
        self._to_tell[peer] = proposal or self._to_tell.get(peer, NO_ANSWER)

    def ask_all(self) -> None:
        """Ask everybody how things stand."""
        self._to_ask.update(self.others)

    def heard(self, peer: str, message: RightsMessage) -> None:
        """``peer`` asks, or says what it knows."""
        match message:
            case AskRights():
                stamp = (message.promise, peer)
                is_promised = message.promise > 0 and self.counts and stamp >= self.promised
                is_promised = is_promised and not self.is_too_far_ahead(message.promise)
                if is_promised:
                    self.promise(stamp)
                self._to_answer[peer] = message, is_promised
            case ShowRights():
                self._shown(peer, message)
            case TakeRights():
                is_taken = self._offered(peer, message)
                if message.id != NO_ANSWER and self.counts:
                    self._to_confirm[peer] = TookRights(message.id, is_taken)
            case TookRights():
                self.hear(peer, message, message.id)

    def promise(self, stamp: Stamp) -> None:
        """Take nothing with an earlier stamp from now on."""
        if stamp > self.promised:
            self.promised = stamp
            self._is_durable = False
            self.store.keep_promise(encode_stamp(stamp))

    def take(self, document: Document) -> None:
        """Judge by ``document`` from now on, which is newer."""
        self._hold(document)
        self._is_durable = False
        self.store.keep_rights(self.encoded)

    def committed(self) -> None:
        """Everything staged is durable."""
        self._is_durable = True

    def commit_failed(self) -> None:
        """There was no room; what was staged waits for the next commit that finds some."""

    def speak(self) -> bool:
        """Say what is to be said; false if what would be said is not on the disk yet."""
        if not self._is_durable:
            return False
        for peer, (question, is_promised) in self._flushed(self._to_answer):
            document = None if question.mark == self._mark else self.document
            self.outbox.post(peer, ShowRights(question.id, self.counts, is_promised, self.promised[0], document))
        for peer, proposal in self._flushed(self._to_tell):
            self.outbox.post(peer, TakeRights(proposal, self.document))
        for peer, answer in self._flushed(self._to_confirm):
            self.outbox.post(peer, answer)
        self._ask()
        self._serve_readers()
        return True

    @property
    def document(self) -> Document:
        """All that is known here."""
        return tuple(self.rows.values())

    @property
    def newest(self) -> Stamp:
        """The stamp of the document."""
        return stamp_of(self.document)

    @property
    def others(self) -> list[str]:
        """The other members."""
        return sorted(set(self.members()) - {self.node_id})

    def is_most(self, nodes: set[str]) -> bool:
        """Are ``nodes``, and this one if it counts, a majority of the members?"""
        members = set(self.members())
        found = (nodes & members) | ({self.node_id} if self.counts else set())
        return len(found) >= majority(len(members))

    # -- within

    @property
    def _since_s(self) -> float:
        """As of when what is known here misses nothing that was done."""
        members = set(self.members())
        times = sorted([self._confirmed_s.get(peer, float("-inf")) for peer in members - {self.node_id}], reverse=True)
        wanted = majority(len(members)) - self.counts
        return times[wanted - 1] if 0 < wanted <= len(times) else (float("-inf") if wanted else self.clock())

    def _flushed(self, words: dict[str, Word]) -> list[tuple[str, Word]]:
        found = [(peer, word) for peer, word in words.items() if self._may_hear(peer)]
        words.clear()
        return found

    def _ask(self) -> None:
        now_s = self.clock()
        for peer in sorted(self._to_ask):
            asked = self._asked.get(peer)
            if not self._may_hear(peer):
                self._to_ask.discard(peer)
            elif asked is None or asked.sent_s + LOST_S <= now_s:
                self._to_ask.discard(peer)
                self._last_id += 1
                self._asked[peer] = _Asked(self._last_id, now_s, self.proposal)
                self.outbox.post(peer, AskRights(self._last_id, self._mark, self.proposal))

    def _serve_readers(self) -> None:
        if not self._readers:
            return
        since_s = self._since_s
        for reader in [one for one in self._readers if one.since_s <= since_s]:
            self._readers.remove(reader)
            reader.pending.resolve(self._found(reader.read))

    def _found(self, read: Read) -> Answer | Refused:
        refusal = None if read.caller is None else of_operator(self.rights, read.caller)
        if refusal is not None:
            return refusal
        query = read.query
        content: Missing | StampedRecord | KeyPage
        if isinstance(query, Get):
            row = self.rows.get(query.key)
            content = Missing(key=query.key) if row is None or row.value is None else record_of(row)
        else:
            assert isinstance(query, List)
            found = [row for row in self.rows.values() if row.value is not None and is_in(row.key, query)]
            content = page_of(query, map(record_of, found))
        return Answer(content=content, consistency=read.consistency, revision=self.newest[0], replicas=(self.node_id,))

    def _shown(self, peer: str, message: ShowRights) -> None:
        asked = self._asked.get(peer)
        if asked is None or asked.id != message.id:
            return
        del self._asked[peer]
        if message.document is not None and self.is_too_far_ahead(stamp_of(message.document)[0]):
            return
        self._heard.add(peer)
        if message.document is not None and not self._learn(message.document):
            self.tell(peer)
        if message.counts:
            self._confirmed_s[peer] = asked.sent_s
        if asked.promise:
            self.hear(peer, message, asked.promise)

    def _offered(self, peer: str, message: TakeRights) -> bool:
        """Is what ``peer`` proposes taken here?"""
        stamp = stamp_of(message.document)
        if self.is_too_far_ahead(stamp[0]):
            return False
        if message.id == NO_ANSWER or not self.counts:
            self._learn(message.document)
            return False
        if stamp != (message.id, peer) or stamp < self.promised or stamp < self.newest:
            return False
        self.promise(stamp)
        self._learn(message.document)
        return True

    def _learn(self, document: Document) -> bool:
        """Take ``document`` if it is not older; is it not?

        Not even a promise forbids that: who was promised to has heard of all that a majority had taken by then.
        """
        stamp, newest = stamp_of(document), self.newest
        if stamp > newest:
            self.take(document)
        return stamp >= newest

    def _see_whether_it_counts(self) -> None:
        if self.counts or not self.has_its_data():
            return
        others = self.others
        most = min(majority(len(others) + 1), len(others))
        if (self.is_founder and not self.has_lost_data()) or len(self._heard.intersection(others)) >= most:
            self.counts, self._is_durable = True, False
            self.store.keep_promise(encode_stamp(self.promised))

    def _may_hear(self, peer: str) -> bool:
        return self.is_up(peer) and self.reads(peer) >= CALLERS_FORMAT

    def _hold(self, document: Document) -> None:
        self.rows = {row.key: row for row in document}
        self.encoded = encode_document(document)
        self._mark = mark_of(document)
        self.rights = rights_of((row.key, row.value) for row in document if row.value is not None)
