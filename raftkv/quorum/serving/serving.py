"""What this node does as a replica: it answers what coordinators ask, this node's own coordinator among them.

Rule: what was asked to be stored is staged, and answered only after ``committed``, that is when the turn's batch is
durable. Reads see what is durable. When the disk had no room for the batch, those who asked are told that nobody knows:
it was not taken, but an engine may find it at the next start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from raftkv.core.errors import Refused
from raftkv.core.judgement import of_span
from raftkv.core.rights import Access, Caller, Rights
from raftkv.formats import quorum_messages
from raftkv.formats.peers import refusal_of
from raftkv.formats.quorum_messages import (
    HINTS_PER_KEY,
    NO_ANSWER,
    EventDone,
    Examine,
    Examined,
    Fetch,
    Fetched,
    FetchedPage,
    FetchPage,
    QuestionDeclined,
    StoreDone,
    StoreRows,
    StoreRowsFor,
    Unsettled,
    WriteEvent,
    WriteEventFor,
)
from raftkv.formats.versions import KeyState, Version, decode_context, decode_state, encode_state
from raftkv.quorum.data.intake import Intake
from raftkv.quorum.data.store import Store as Replica
from raftkv.quorum.data.versions import Conflicts, HybridClock, visible
from raftkv.quorum.outbox import Outbox
from raftkv.quorum.settings import DATA_LOST, PAGE_BYTES, QuorumSettings
from raftkv.quorum.timers import Timers


@dataclass(kw_only=True, eq=False, repr=False)
class Serving:
    """Answers questions from this replica's store."""

    settings: QuorumSettings
    store: Replica
    intake: Intake
    clock: HybridClock
    conflicts: Conflicts
    outbox: Outbox
    timers: Timers
    now_s: Callable[[], float]
    now_ms: Callable[[], int]
    actor: str
    """Names this node's data in version vectors: another after its disk was lost."""

    can_read: Callable[[], bool]
    rights: Callable[[], Rights]
    """Tells who may do what, as far as it is known here."""

    tell_rights: Callable[[str], None]
    """Lets a node know of rights what this one knows."""

    _acknowledgements: list[tuple[str, StoreDone | EventDone]] = field(default_factory=list, init=False)
    repaired_count: int = field(default=0, init=False)
    """How many versions read repair, and range exchanges that others began, have brought."""

    def take(self, node: str, question: quorum_messages.Question) -> None:
        """``node`` asks; with artificial delays it is heard later."""
        wait_s = 0.0
        if node != self.settings.node_id:
            delays, update = self.settings.delays, isinstance(question, StoreRows | WriteEvent)
            wait_s = delays.follower_update_s if update else delays.follower_read_s
        if wait_s:
            if isinstance(question, StoreRows):
                for _, state in question.rows:
                    decode_state(state)  # What is malformed is the link's business, which is over by then.
            self.timers.add(self.now_s() + wait_s, lambda: self._answer(node, question))
        else:
            self._answer(node, question)

    def committed(self) -> None:
        """Everything staged is durable: say so to those who asked for it."""
        acknowledgements, self._acknowledgements = self._acknowledgements, []
        for node, message in acknowledgements:
            self.outbox.post(node, message)

    def commit_failed(self) -> None:
        """There was no room for what was staged, and it is gone."""
        acknowledgements, self._acknowledgements = self._acknowledgements, []
        for node, message in acknowledgements:
            self.outbox.post(node, Unsettled(message.id))

    def _answer(self, node: str, question: quorum_messages.Question) -> None:
        if isinstance(question, StoreRowsFor | WriteEventFor):
            refusal = self._forbidden(question)
            if refusal is not None:
                self._decline(node, question.id, refusal)
                self.tell_rights(node)
                return
        match question:
            case Examine():
                self._examine(node, question)
            case WriteEvent():
                self._make_event(node, question)
            case StoreRows() if question.id == NO_ANSWER or self._may_acknowledge():
                self._store_rows(node, question)
            case _ if not self.can_read():
                self._decline(node, question.id, DATA_LOST)
            case Fetch():
                self._fetch(node, question)
            case FetchPage():
                self._fetch_page(node, question)

    def _may_acknowledge(self) -> bool:
        """An acknowledgement also says what newer stamp is held here, which who lost its data does not know."""
        return self.can_read()

    def _forbidden(self, question: StoreRowsFor | WriteEventFor) -> Refused | None:
        """Why the user may not write that, by what is known here, though the coordinator let it through."""
        keys = [key for key, _ in question.rows] if isinstance(question, StoreRowsFor) else [question.key]
        rights, caller = self.rights(), Caller(question.user, question.generation)
        refusals = (of_span(rights, caller, Access.WRITE, key, key + b"\0") for key in keys)
        return next((refusal for refusal in refusals if refusal is not None), None)

    def _decline(self, node: str, operation_id: int, refusal: Refused) -> None:
        if operation_id != NO_ANSWER:
            self.outbox.post(node, QuestionDeclined(operation_id, refusal_of(refusal)))

    def _store_rows(self, node: str, question: StoreRows) -> None:
        rows = [(key, decode_state(encoded)) for key, encoded in question.rows]
        taken = self.intake.take_rows(rows, question.stands_for)
        if isinstance(taken, Refused):
            self._decline(node, question.id, taken)
            return
        if question.id != NO_ANSWER:
            now_ms = self.now_ms()
            replaced = tuple([_has_value(before, now_ms) for before, _ in taken])
            newer = [
                (number, *now.newest)
                for number, ((_, sent), (_, now)) in enumerate(zip(rows, taken, strict=True))
                if now is not sent and now.newest > sent.newest
            ]
            self._acknowledgements.append((node, StoreDone(question.id, replaced, tuple(newer))))
        elif not question.stands_for:
            self.repaired_count += sum(now != before for before, now in taken)

    def _make_event(self, node: str, question: WriteEvent) -> None:
        context = decode_context(question.context)
        refusal = self.intake.look_at_context(context, makes_room=question.value is None)
        if refusal is not None:
            self._decline(node, question.id, refusal)
            return
        version = Version(self.clock.next(), self.actor, question.value, question.expires_at_ms)
        made = self.store.stage_event(question.key, version, context, stands_for=question.stands_for)
        if isinstance(made, Refused):
            self._decline(node, question.id, made)
            return
        before, now = made
        stamp = now.newest  # the event's own: the clock has passed everything that is held here
        done = EventDone(question.id, stamp.counter, stamp.node, encode_state(now), _has_value(before, self.now_ms()))
        self._acknowledgements.append((node, done))

    def _examine(self, node: str, question: Examine) -> None:
        hints = [
            (target, *hint.newest)
            for target in self.store.hinted_nodes()[:HINTS_PER_KEY]
            if (hint := self.store.read_hint(target, question.key)) is not None
        ]
        self.outbox.post(node, Examined(question.id, self.store.read_encoded(question.key), tuple(hints)))

    def _fetch(self, node: str, question: Fetch) -> None:
        self.outbox.post(node, Fetched(question.id, self.fetched(question.key, question.hinted)))

    def fetched(self, key: bytes, hinted: bool) -> bytes | None:  # noqa: FBT001  as ``Fetch`` has it
        """What is held of ``key``, encoded; with ``hinted``, what is kept for others counts as well."""
        hint = self.store.read_hinted(key) if hinted else None
        if hint is None:
            return self.store.read_encoded(key)
        state = self.store.read(key)
        return encode_state(hint if state is None else self.conflicts.join(state, hint))

    def _fetch_page(self, node: str, question: FetchPage) -> None:
        rows: list[tuple[bytes, bytes]] = []
        size_bytes, complete = 0, True
        for key, state in self.store.scan(question.start, question.end):
            encoded = encode_state(state)
            rows.append((key, encoded))
            size_bytes += len(key) + len(encoded)
            if size_bytes >= PAGE_BYTES or len(rows) > question.limit:
                complete = False
                break
        self.outbox.post(node, FetchedPage(question.id, tuple(rows), complete))


def _has_value(state: KeyState | None, now_ms: int) -> bool:
    return state is not None and bool(visible(state, now_ms))
