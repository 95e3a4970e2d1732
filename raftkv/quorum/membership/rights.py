"""Users and roles of a leaderless cluster: one document, which every node has on its disk and judges by.

Its rows have a stamp each, and of two that stand under one key the later stands, so all orders of merging come to the
same: whoever changes different users at the same time loses nothing, and of two changes of one user the later holds. A
node that knows of a change has it on its disk before it says so. A change is acknowledged once a majority of all
members has said so; it reaches the others with the next word of each with any that has it.

What is promised: a write of a user is refused by its coordinator and by every replica that knows that the user has no
right to it; and whoever revokes a right is told that it is done only when most members know. What is not: a write goes
through while all that it asks know nothing of the revocation yet. Pure but for the disk; time enters as a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from raftkv.core.errors import Code, Refused, StartupError, Unknown
from raftkv.core.judgement import of_operator
from raftkv.core.pages import page_of
from raftkv.core.replicator import Pending
from raftkv.core.requests import (
    AnyOperation,
    ComparedField,
    Delete,
    Get,
    KeyComparison,
    List,
    Operator,
    Put,
    Read,
    Transaction,
    Write,
)
from raftkv.core.results import (
    Answer,
    AnyResult,
    KeyPage,
    Missing,
    QuorumWritten,
    StampedDelete,
    StampedPut,
    StampedRecord,
    Transacted,
)
from raftkv.core.rights import Rights
from raftkv.core.voters import majority
from raftkv.formats.commands import CALLERS_FORMAT
from raftkv.formats.quorum_messages import RightsMark, RightsMessage, RightsTold
from raftkv.formats.rights import (
    AUTH,
    AUTH_END,
    DOCUMENT_BYTES_MAX,
    ENABLED,
    Document,
    StampedRow,
    are_bounded,
    decode_document,
    decoded,
    encode_document,
    mark_of,
    rights_of,
    size_of,
)
from raftkv.quorum.data.store import Store
from raftkv.quorum.outbox import Outbox

BAD_CHANGE: Final = Refused(
    code=Code.BAD_REQUEST,
    detail="users, roles and whether authentication is on are only put, as such, deleted and compared, by themselves",
)
TOO_MUCH: Final = Refused(code=Code.BAD_REQUEST, detail="there are too many users and roles, or they are too large")
LATE: Final = Unknown(detail="the deadline passed before a majority of the members knew of the change")


def is_of_rights(request: Write | Read) -> bool:
    """Is it about users and roles, and not about clients' keys?"""
    if isinstance(request, Read):
        query = request.query
        start = query.key if isinstance(query, Get) else query.start if isinstance(query, List) else b""
        return start >= AUTH
    return any(map(_is_of_rights, request.operations))


def _is_of_rights(operation: AnyOperation) -> bool:
    if isinstance(operation, Transaction):
        compared = [one.start for one in operation.comparisons]
        return any(start >= AUTH for start in compared) or any(
            map(_is_of_rights, (*operation.success, *operation.failure))
        )
    return isinstance(operation, Put | Delete | Get) and operation.key >= AUTH


class _Change(msgspec.Struct, kw_only=True):
    """A change that is on this node's disk, or about to be; ``held_by`` are the members that are known to have it."""

    pending: Pending
    deadline_s: float
    results: tuple[AnyResult, ...]
    counter: int
    held_by: set[str]


@dataclass(kw_only=True, eq=False, repr=False)
class SharedRights:
    """What this node knows of rights. ``rights`` are those that it judges by."""

    node_id: str
    store: Store
    outbox: Outbox
    members: Callable[[], Iterable[str]]
    is_up: Callable[[str], bool]
    reads: Callable[[str], int]
    """Tells the newest format of commands that a peer is known to read."""

    next_stamp: Callable[[], int]
    gossip_s: float

    rights: Rights = field(init=False)
    _rows: Mapping[bytes, StampedRow] = field(init=False)
    _mark: bytes = field(init=False)
    _is_durable: bool = field(default=True, init=False)
    _has_news: bool = field(default=False, init=False)
    _changes: list[_Change] = field(default_factory=list, init=False)
    _answers: dict[str, bool] = field(default_factory=dict, init=False)
    """Whom to answer, and whether with all that is known."""

    _next_tick_s: float = field(default=0.0, init=False)
    _turn: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        data = self.store.rights
        try:
            document = () if data is None else decode_document(data)
        except ValueError as error:
            raise StartupError(f"what this node remembers of rights does not decode: {error}") from None
        self._hold(document)

    # -- clients

    def read(self, read: Read) -> Answer | Refused:
        """What stands here under keys of rights, to root."""
        refusal = None if read.caller is None else of_operator(self.rights, read.caller)
        if refusal is not None:
            return refusal
        query = read.query
        content: Missing | StampedRecord | KeyPage
        if isinstance(query, Get):
            row = self._rows.get(query.key)
            content = Missing(key=query.key) if row is None or row.value is None else _record(row)
        else:
            assert isinstance(query, List)
            found = [row for row in self._rows.values() if row.value is not None and _is_in(row.key, query)]
            content = page_of(query, map(_record, found))
        return Answer(content=content, consistency=read.consistency, revision=self._newest, replicas=(self.node_id,))

    def write(self, write: Write, deadline_s: float, pending: Pending) -> None:
        """Change rights; the outcome comes once a majority has it."""
        refusal = of_operator(self.rights, write.caller) or self._not_read()
        if refusal is not None:
            pending.resolve(refusal)
            return
        counter = max(self.next_stamp(), self._newest + 1)
        attempt = _Attempt(self._rows, counter, self.node_id)
        results = attempt.do_all(write.operations)
        document = attempt.document
        if results is None or size_of(document) > DOCUMENT_BYTES_MAX or not are_bounded(_sizes(document)):
            pending.resolve(BAD_CHANGE if results is None else TOO_MUCH)
            return
        change = _Change(
            pending=pending, deadline_s=deadline_s, results=results, counter=counter, held_by={self.node_id}
        )
        if document == self._document:
            pending.resolve(self._written(change))
            return
        self._changes.append(change)
        self._take(document)
        self._has_news = True

    def work(self, now_s: float) -> None:
        """Let one member after another compare; whose deadline has come is told that nobody knows what comes of it."""
        if now_s >= self._next_tick_s:
            self._next_tick_s = now_s + self.gossip_s
            others = sorted(set(self.members()) - {self.node_id})
            self._turn += 1
            if others:
                self.meet(others[self._turn % len(others)])
        for change in [one for one in self._changes if one.deadline_s <= now_s]:
            self._changes.remove(change)
            change.pending.resolve(LATE)

    def close(self) -> None:
        """The node ends."""
        self._changes, changes = [], self._changes
        for change in changes:
            change.pending.resolve(LATE)

    # -- members

    def meet(self, peer: str) -> None:
        """Let ``peer`` compare: it has just been connected, or it is its turn."""
        if self._may_hear(peer):
            self._answers.setdefault(peer, False)

    def tell(self, peer: str) -> None:
        """``peer`` has asked for something that it should have known to be forbidden."""
        if self._may_hear(peer):
            self._answers[peer] = True

    def heard(self, peer: str, message: RightsMessage) -> None:
        """``peer`` says what it knows."""
        if isinstance(message, RightsMark):
            if message.mark == self._mark:
                self._is_held_by(peer)
            else:
                self._answers[peer] = True
            return
        merged = _merged(self._rows, message.document)
        self._answers[peer] = self._answers.get(peer, False) or merged != message.document
        if merged == message.document:
            self._is_held_by(peer)
        if merged != self._document:
            self._take(merged)

    def committed(self) -> None:
        """Everything staged is durable."""
        self._is_durable = True

    def commit_failed(self) -> None:
        """There was no room; what was staged waits for the next commit that finds some."""

    def speak(self) -> None:
        """Say what is to be said, unless it is not on the disk yet."""
        if not self._is_durable:
            return
        if self._has_news:
            self._has_news = False
            for peer in self.members():
                if peer != self.node_id and self._may_hear(peer):
                    self._answers[peer] = True
        answers, self._answers = self._answers, {}
        for peer, wants_all in answers.items():
            self.outbox.post(peer, RightsTold(self._document) if wants_all else RightsMark(self._mark))
        self._settle()

    # -- within

    @property
    def _document(self) -> Document:
        return tuple(self._rows.values())

    @property
    def _newest(self) -> int:
        return max((row.counter for row in self._rows.values()), default=0)

    def _may_hear(self, peer: str) -> bool:
        return self.is_up(peer) and self.reads(peer) >= CALLERS_FORMAT

    def _not_read(self) -> Refused | None:
        """Nothing changes before every node judges: who does not would let everybody in."""
        for peer in self.members():
            if peer != self.node_id and self.reads(peer) < CALLERS_FORMAT:
                detail = f"node {peer} is not known to judge rights: every node must run a version that does"
                return Refused(code=Code.NOT_SUPPORTED, detail=detail)
        return None

    def _hold(self, document: Document) -> None:
        self._rows = {row.key: row for row in document}
        self._mark = mark_of(document)
        self.rights = rights_of((row.key, row.value) for row in document if row.value is not None)

    def _take(self, document: Document) -> None:
        self._hold(document)
        self._is_durable = False
        self.store.keep_rights(encode_document(document))

    def _is_held_by(self, peer: str) -> None:
        for change in self._changes:
            change.held_by.add(peer)

    def _settle(self) -> None:
        """Tell those whose change a majority has."""
        members = set(self.members())
        for change in list(self._changes):
            if len(change.held_by & members) >= majority(len(members)):
                self._changes.remove(change)
                change.pending.resolve(self._written(change))

    def _written(self, change: _Change) -> QuorumWritten:
        held_by = tuple(sorted(change.held_by))
        return QuorumWritten(
            results=change.results, revision=change.counter, acks=len(held_by), replicas=held_by, hinted=0
        )


class _Attempt:
    """Operations on a document: none of them is to be seen unless all could be done."""

    def __init__(self, rows: Mapping[bytes, StampedRow], counter: int, node: str) -> None:
        self._before = rows
        self._rows = dict(rows)
        self._counter, self._node = counter, node

    @property
    def document(self) -> Document:
        """What comes of it."""
        return tuple(row for _, row in sorted(self._rows.items()))

    def do_all(self, operations: Iterable[AnyOperation]) -> tuple[AnyResult, ...] | None:
        """The results; ``None`` where one of the operations cannot be done to rights."""
        results: list[AnyResult] = []
        for one in operations:
            result = self._do(one)
            if result is None:
                return None
            results.append(result)
        return tuple(results)

    def _do(self, one: AnyOperation) -> AnyResult | None:  # noqa: PLR0911  one line for each way out
        if isinstance(one, Transaction):
            if not all(AUTH <= each.start < AUTH_END for each in one.comparisons):
                return None
            succeeded = all(map(self._holds, one.comparisons))
            results = self.do_all(one.success if succeeded else one.failure)
            return None if results is None else Transacted(succeeded=succeeded, results=results)
        if not isinstance(one, Put | Delete | Get) or not AUTH <= one.key < AUTH_END:
            return None
        row = self._rows.get(one.key)
        standing = None if row is None or row.value is None else row
        if isinstance(one, Get):
            return Missing(key=one.key) if standing is None else _record(standing)
        if one.match is not None or (isinstance(one, Put) and not _is_meaningful(one)):
            return None
        if isinstance(one, Delete) and standing is None:
            return Missing(key=one.key)
        self._rows[one.key] = StampedRow(
            one.key, one.value if isinstance(one, Put) else None, self._counter, self._node
        )
        if isinstance(one, Delete):
            return StampedDelete(revision=self._counter, node=self._node)
        return StampedPut(version=self._counter, revision=self._counter, node=self._node, replaced=standing is not None)

    def _holds(self, one: KeyComparison) -> bool:
        """All comparisons see the document as it was before."""
        if one.several:
            rows = [row for row in self._before.values() if row.value is not None and _is_in(row.key, one)]
            return all(_compare(one, row) for row in rows)
        row = self._before.get(one.start)
        return _compare(one, None if row is None or row.value is None else row)


def _compare(one: KeyComparison, row: StampedRow | None) -> bool:
    found: int | bytes | None = 0 if row is None else row.counter
    if one.target is ComparedField.VALUE:
        found = None if row is None else row.value
    elif one.target is ComparedField.EXISTS:
        found = int(row is not None)
    if found is None or type(found) is not type(one.operand):
        return False
    match one.operator:
        case Operator.EQUAL:
            return found == one.operand
        case Operator.UNEQUAL:
            return found != one.operand
        case Operator.LESS:
            return found < one.operand  # type: ignore[operator]
        case Operator.GREATER:
            return found > one.operand  # type: ignore[operator]


def _is_meaningful(put: Put) -> bool:
    is_plain = not put.ttl_ms and not put.lease
    return is_plain and (put.key == ENABLED or decoded(put.key, put.value) is not None)


def _is_in(key: bytes, span: List | KeyComparison) -> bool:
    return span.start <= key and (span.end is None or key < span.end)


def _record(row: StampedRow) -> StampedRecord:
    counter = row.counter
    return StampedRecord(
        key=row.key,
        value=row.value or b"",
        version=counter,
        create_revision=counter,
        mod_revision=counter,
        node=row.node,
    )


def _merged(rows: Mapping[bytes, StampedRow], others: Document) -> Document:
    """Of each key the row with the later stamp."""
    merged = dict(rows)
    for row in others:
        held = merged.get(row.key)
        if held is None or (row.stamp, row.value or b"") > (held.stamp, held.value or b""):
            merged[row.key] = row
    return tuple(row for _, row in sorted(merged.items()))


def _sizes(document: Document) -> dict[bytes, int]:
    return {row.key: len(row.key) + len(row.value) for row in document if row.value is not None}
