"""Changes of rights in a leaderless cluster, one after another: each is decided by a majority of the members.

This is CASPaxos (Rystsov, 2018) over one register, the document of rights: single-decree Paxos (Lamport, 2001) whose
value is changed rather than fixed. Who changes it draws a stamp and asks for promises. Once a majority has given theirs
and shown what it knows, the latest of that is what the change is made of, compared with, and judged by. Once a majority
has taken what comes of it, it is done, and whoever changes anything later has met a node that has it. So of two that
change users at once the second sees what the first has done, and of several that found a cluster one does.

A stamp that somebody has promised past is worth nothing: its change begins anew, after a pause by chance, so that two
do not keep each other from ending. What a change had made by then may have been taken by some. If it is the latest that
a majority shows, the change goes on from what it was made of; if something else is, what is stamped there tells whether
that was made of it. Either way a majority takes the latest once more before anything is said. Pure: time enters as a
value, the disk and the others by ``SharedRights``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from random import Random
from typing import Final

import msgspec

from raftkv.core.errors import Code, Refused, Unknown
from raftkv.core.judgement import of_operator
from raftkv.core.replicator import Pending
from raftkv.core.requests import Write
from raftkv.core.results import AnyResult, QuorumWritten
from raftkv.formats.commands import CALLERS_FORMAT
from raftkv.formats.quorum_messages import ShowRights, TookRights
from raftkv.formats.rights import DOCUMENT_BYTES_MAX, Document, Stamp, StampedRow, are_bounded, rights_of, size_of
from raftkv.quorum.membership.amending import Amending, came_to_be, confirmed
from raftkv.quorum.membership.rights import BUSY, NO_MAJORITY, WAITING_MAX, SharedRights
from raftkv.quorum.timers import Timers

PAUSE_S: Final = 0.1
"""Who gave way to another begins anew after so long at most, and twice as long each time, up to ``PAUSE_LIMIT_S``."""

PAUSE_LIMIT_S: Final = 2.0

BAD_CHANGE: Final = Refused(
    code=Code.BAD_REQUEST,
    detail="users, roles and whether authentication is on are only put, as such, deleted and compared, by themselves",
)
TOO_MUCH: Final = Refused(code=Code.BAD_REQUEST, detail="there are too many users and roles, or they are too large")
LATE: Final = Unknown(detail="the deadline passed before a majority of the members knew of the change")
OVERTAKEN: Final = Unknown(detail="another change of users or roles came in between: look whether this one is there")


class ChangeStage(Enum):
    """How far a change is."""

    WAITING = auto()
    ASKING = auto()
    TELLING = auto()


class _Made(msgspec.Struct, frozen=True):
    """What was proposed: of what, at which keys, and what is told once it is done."""

    rows: Mapping[bytes, StampedRow]
    keys: tuple[bytes, ...]
    outcome: Refused | tuple[AnyResult, ...]


class _Change(msgspec.Struct):
    """A change; ``agreed`` are the others that have promised, or taken it. ``made`` is what was proposed, by stamp."""

    write: Write
    deadline_s: float
    pending: Pending
    stage: ChangeStage = ChangeStage.WAITING
    stamp: Stamp = (0, "")
    pause_s: float = PAUSE_S
    agreed: set[str] = msgspec.field(default_factory=set)
    made: dict[Stamp, _Made] = msgspec.field(default_factory=dict)


@dataclass(kw_only=True, eq=False, repr=False)
class RightsChanges:
    """What this node's clients change."""

    shared: SharedRights
    timers: Timers
    random: Random
    next_stamp: Callable[[], int]
    fault: Callable[[], str]
    """Tells why no stamps are given now, if so."""

    _changes: list[_Change] = field(default_factory=list, init=False)
    _beyond: int = field(default=0, init=False)
    """The latest counter that others are known to have promised."""

    def __post_init__(self) -> None:
        self.shared.hear = self._hear

    def write(self, write: Write, deadline_s: float, pending: Pending) -> None:
        """Change rights; the outcome comes once a majority has it."""
        if len(self._changes) >= WAITING_MAX:
            pending.resolve(BUSY)
            return
        self._changes.append(_Change(write, deadline_s, pending))
        if len(self._changes) == 1:
            self._begin()

    def work(self, now_s: float) -> None:
        """Ask again who said nothing; whose deadline has come is told so."""
        late = [one for one in self._changes if one.deadline_s <= now_s]
        for change in late:
            self._end(change, LATE if change.made else NO_MAJORITY)
        for change in self._changes[:1]:
            self._go_round(change)

    def close(self) -> None:
        """The node ends."""
        self._changes, changes = [], self._changes
        for change in changes:
            change.pending.resolve(LATE if change.made else NO_MAJORITY)

    def speak(self) -> None:
        """See how far the change is, now that all that this node has promised and taken is on its disk."""
        while self._changes:
            change = self._changes[0]
            shared = self.shared
            if change.stage is ChangeStage.WAITING or not (shared.counts and shared.is_most(change.agreed)):
                return
            if change.stage is ChangeStage.TELLING:
                outcome = change.made[change.stamp].outcome
                self._end(change, outcome if isinstance(outcome, Refused) else self._written(change, outcome))
                for peer in shared.others:
                    shared.tell(peer)
            elif not self._decide(change):
                return

    # -- within

    def _begin(self) -> None:
        """Draw a stamp for the first change, and ask for promises."""
        shared = self.shared
        if not self._changes or self._changes[0].stage is not ChangeStage.WAITING:
            return
        change = self._changes[0]
        if self.fault() or not shared.counts:
            self._pause(change)
            return
        counter = max(self.next_stamp(), 1 + max(shared.newest[0], shared.promised[0], self._beyond))
        change.stamp, change.stage = (counter, shared.node_id), ChangeStage.ASKING
        change.agreed.clear()
        shared.promise(change.stamp)
        shared.proposal = counter
        shared.ask_all()

    def _go_round(self, change: _Change) -> None:
        if change.stage is ChangeStage.ASKING:
            self.shared.ask_all()
        elif change.stage is ChangeStage.TELLING:
            self._tell(change)

    def _tell(self, change: _Change) -> None:
        if self.shared.newest == change.stamp:
            for peer in self.shared.others:
                if peer not in change.agreed:
                    self.shared.tell(peer, change.stamp[0])

    def _hear(self, peer: str, answer: ShowRights | TookRights, counter: int) -> None:
        """``peer`` has promised, or taken, what bears ``counter``; or not."""
        change = self._changes[0] if self._changes else None
        if change is None or change.stamp[0] != counter:
            return
        if isinstance(answer, TookRights):
            is_due, is_agreed = change.stage is ChangeStage.TELLING, answer.is_taken
        else:
            if not self.shared.is_too_far_ahead(answer.promised):
                self._beyond = max(self._beyond, answer.promised)
            is_due, is_agreed = change.stage is ChangeStage.ASKING, answer.is_promised
        if not is_due:
            return
        if is_agreed:
            change.agreed.add(peer)
        elif isinstance(answer, TookRights) or answer.counts:
            self._pause(change)

    def _pause(self, change: _Change) -> None:
        """Begin anew later."""
        change.stage, self.shared.proposal = ChangeStage.WAITING, 0
        self.timers.add(self.shared.clock() + self.random.uniform(0.0, change.pause_s), self._begin)
        change.pause_s = min(2 * change.pause_s, PAUSE_LIMIT_S)

    def _decide(self, change: _Change) -> bool:
        """A majority has promised: make of the latest what is to be. Has this change come to its end by that?"""
        shared, rows = self.shared, self.shared.rows
        if shared.promised != change.stamp or shared.newest > change.stamp:
            self._pause(change)
            return False
        if shared.newest in change.made:
            rows = change.made[shared.newest].rows
        elif change.made:
            known = [came_to_be(rows, stamp, one.keys) for stamp, one in change.made.items()]
            if True in known:
                done = list(change.made.values())[known.index(True)]
                return self._propose(change, rows, confirmed(rows, change.stamp), done.outcome)
            if None in known:
                self._end(change, OVERTAKEN)
                return True
        rights = rights_of((row.key, row.value) for row in rows.values() if row.value is not None)
        refusal = of_operator(rights, change.write.caller)
        amending = Amending(rows, change.stamp)
        results = None if refusal else amending.do_all(change.write.operations)
        refusal = refusal or self._refusal(results, amending.document, is_on=rights.enabled)
        outcome = refusal or results or ()
        document = amending.document
        if refusal is not None or not any(row.stamp == change.stamp for row in document):
            if not change.made:
                self._end(change, refusal or self._written(change, results or ()))
                return True
            # What it made before must not come back after it was said that it did not come to be.
            document = confirmed(rows, change.stamp)
        return self._propose(change, rows, document, outcome)

    def _propose(
        self,
        change: _Change,
        rows: Mapping[bytes, StampedRow],
        document: Document,
        outcome: Refused | tuple[AnyResult, ...],
    ) -> bool:
        """Let a majority take ``document``, which is made of ``rows``; ``outcome`` is what is told then."""
        keys = tuple([row.key for row in document if row.stamp == change.stamp])
        change.made[change.stamp] = _Made(rows, keys, outcome)
        change.stage, self.shared.proposal = ChangeStage.TELLING, 0
        change.agreed.clear()
        self.shared.take(document)
        self._tell(change)
        return False

    def _refusal(self, results: tuple[AnyResult, ...] | None, document: Document, *, is_on: bool) -> Refused | None:
        if results is None:
            return BAD_CHANGE
        sizes = {row.key: len(row.key) + len(row.value) for row in document if row.value is not None}
        if size_of(document) > DOCUMENT_BYTES_MAX or not are_bounded(sizes):
            return TOO_MUCH
        if is_on or not rights_of((row.key, row.value) for row in document if row.value is not None).enabled:
            return None
        return self._not_read()

    def _not_read(self) -> Refused | None:
        """Nothing is turned on before every node judges: who does not would let everybody in."""
        for peer in self.shared.others:
            if self.shared.reads(peer) < CALLERS_FORMAT:
                detail = f"node {peer} is not known to judge rights: every node must run a version that does"
                return Refused(code=Code.NOT_SUPPORTED, detail=detail, retry_after_s=1.0)  # it may not be met yet
        return None

    def _end(self, change: _Change, outcome: QuorumWritten | Refused | Unknown) -> None:
        """``change`` has its outcome; the next begins."""
        is_first = change is self._changes[0]
        self._changes.remove(change)
        change.pending.resolve(outcome)
        if is_first:
            self.shared.proposal = 0
            self._begin()

    def _written(self, change: _Change, results: tuple[AnyResult, ...]) -> QuorumWritten:
        held_by = tuple(sorted({self.shared.node_id, *change.agreed}))
        return QuorumWritten(results=results, revision=change.stamp[0], acks=len(held_by), replicas=held_by, hinted=0)
