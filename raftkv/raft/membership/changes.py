"""Changing the members, one at a time, and who leads them: asked anywhere, decided and carried out by the leader.

A change is a new configuration in the log (``amending``), of one voter more or less at most, so that any majority
of the one and any of the other share a member. It is begun only when the one before is committed, and an entry of the
leader's own term is (Raft thesis, section 4.1, and its author's correction of 2015): else two leaders of two terms
could each change another old configuration, and count by majorities that share nobody.

A node that is let in learns first (section 4.2.1): it is sent everything, counts nowhere, and votes once it has kept up
for some heartbeats, when the leader promotes it by itself. The entry names the disk that caught up. A change that the
voters who answer now could not decide is refused: it would cost the cluster its quorum. A leader does not remove
itself; it hands over, and whoever leads then does it. Who is removed is told, until it is gone or a while has passed.

Bookkeeping without a clock of its own: time enters as a value (seconds, monotonic).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from raftkv.core.errors import Code, Refused, Unknown
from raftkv.core.replicator import Pending
from raftkv.core.requests import Amendment, MembersRequest, PromoteMember, RemoveMember, TransferLeadership
from raftkv.core.results import LeaderChanged, MembersChanged, Outcome
from raftkv.formats.configurations import Configuration, ConfiguredMember, encode_configuration
from raftkv.formats.entries import MEMBERS_FORMAT
from raftkv.formats.raft_messages import AskChange, ChangeAnswer, Farewell
from raftkv.process.loggers import get_logger
from raftkv.raft.electorate import Electorate
from raftkv.raft.leadership.handover import Handover
from raftkv.raft.membership.amending import amended, names, shown
from raftkv.raft.membership.asking import answer_of, message_of, outcome_of, request_of
from raftkv.raft.membership.configurations import Configurations
from raftkv.raft.ports import Handlers, Outgoing
from raftkv.raft.settings import NO_LEADER, SHUTTING_DOWN, not_read, overloaded

LEVEL_HEARTBEATS: Final = 5
"""A learner that kept up with the leader for so many heartbeats votes from then on."""

LEAVING_TIMEOUTS: Final = 3
"""For so many election timeouts a leader goes on telling a node that it was removed."""

PATIENCE_TIMEOUTS: Final = 1
"""For so many election timeouts a request waits for another change, or for a leader, to be over or there."""

WAITING_MAX: Final = 100
"""Requests of operators at one node; there is one change at a time."""

log_line = get_logger("raftkv.raft")


class ChangingCore(Protocol):
    """The engine, as far as changes need it."""

    term: int
    is_leader: bool
    leader_id: str | None
    leads_committed_term: bool
    commit_index: int
    last_index: int

    def append_configuration(self, body: bytes) -> int:
        """As leader, put a configuration into the log, where it is in force at once; returns its index."""

    def match_index(self, peer: str) -> int:
        """Up to which index ``peer`` is known to hold the same log."""

    def answered_at_s(self, peer: str) -> float:
        """As leader: when ``peer`` last acknowledged anything."""


Reply = Callable[[Outcome], None]


class _Change(msgspec.Struct, frozen=True):
    """The one under way: its entry."""

    index: int
    term: int
    reply: Reply


class _Led(msgspec.Struct, frozen=True):
    """A hand-over that somebody asked for."""

    target: str
    term: int
    until_s: float
    reply: Reply


class _Asked(msgspec.Struct, frozen=True):
    """A request of a client here (``is_ours``) or elsewhere; for what is in its way it waits until ``patient_s``.

    ``since_index`` was committed when it came.
    """

    request: MembersRequest
    until_s: float
    patient_s: float
    is_ours: bool
    reply: Reply
    since_index: int


class _Waiting(msgspec.Struct, frozen=True):
    """Who waits, until when, for what ``leader`` says; ``removes`` names the member that is to go, if one is."""

    removes: str
    pending: Pending
    until_s: float
    leader: str


class MemberChanges:
    """One node's part in changes: as the one that is asked, and as the leader. ``removed``: by the leader's word."""

    def __init__(
        self,
        *,
        electorate: Electorate,
        core: ChangingCore,
        configurations: Configurations,
        outgoing: Outgoing,
        handover: Handover,
        reads: Callable[[str], int],
        disk_of: Callable[[str], str],
        election_timeout_s: float,
        heartbeat_s: float,
    ) -> None:
        """``reads`` and ``disk_of`` are what was learnt of peers."""
        self._electorate = electorate
        self._core = core
        self._configurations = configurations
        self._outgoing = outgoing
        self._handover = handover
        self._reads = reads
        self._disk_of = disk_of
        self._timeout_s = election_timeout_s
        self._heartbeat_s = heartbeat_s
        self.told: Callable[[], None] = lambda: None
        """Called when somebody of ``leaving`` was told, and is let go."""
        self._number = 0
        self._asked: dict[int, _Waiting] = {}
        """What this node has asked the leader."""
        self._todo: list[_Asked] = []
        """What is to be done in the next turn: not sooner, as a leader's own copy counts only once it is flushed."""
        self._change: _Change | None = None
        self._led: _Led | None = None
        self._later: list[_Asked] = []
        """Removals of this very node, which lead to a hand-over first."""
        self._level: dict[str, int] = {}
        self._marked_index = 0
        self._marked_at_s = float("-inf")
        self.leaving: dict[str, tuple[ConfiguredMember, float]] = {}
        """As leader: who was removed and is told so, and until when."""
        self._farewell_index = 0
        self.removed_at_s: float | None = None

    def handlers(self) -> Handlers:
        """See ``Part``."""
        return {AskChange: self._on_ask, ChangeAnswer: self._on_answer, Farewell: self._on_farewell}

    @property
    def is_due(self) -> bool:
        """Is there anything for ``work`` to do?"""
        return bool(
            self._asked
            or self._todo
            or self._change
            or self._led
            or self._later
            or self.leaving
            or self._electorate.learners
        )

    def withholds(self, peer: str) -> bool:
        """As leader: is ``peer`` removed by an entry that is not committed yet? Then it must not hold that entry.

        It would stand no more, and vote for nobody who lacks the entry; but until the commit it may be needed for both.
        """
        return peer in self.leaving and self.leaving[peer][1] == float("inf")

    # --- asked

    def submit(self, request: MembersRequest, deadline_s: float, pending: Pending, now_s: float) -> None:
        """Do it as leader, or have the leader do it."""
        self._take(request, deadline_s, now_s, pending.resolve, is_ours=True)

    def _patient_s(self, until_s: float, now_s: float) -> float:
        return min(until_s, now_s + PATIENCE_TIMEOUTS * self._timeout_s)

    def _take(self, request: MembersRequest, until_s: float, now_s: float, reply: Reply, *, is_ours: bool) -> None:
        if len(self._asked) + len(self._todo) + len(self._later) >= WAITING_MAX:
            reply(overloaded("changes"))
            return
        patient_s = self._patient_s(until_s, now_s)
        self._todo.append(_Asked(request, until_s, patient_s, is_ours, reply, self._core.commit_index))

    def _begin(self, asked: _Asked, now_s: float) -> None:
        """Begin to do it, or wait a little for what is in the way."""
        core, leader = self._core, self._core.leader_id
        if core.is_leader:
            obstacle = self._obstacle() or self._carry_out(asked, now_s)
            if obstacle is None:
                return
        elif not asked.is_ours or leader is None or not self._outgoing.is_up(leader):
            obstacle = NO_LEADER
        elif self._reads(leader) < MEMBERS_FORMAT:
            obstacle = not_read(leader, MEMBERS_FORMAT, self._reads(leader))
        else:
            self._ask(leader, asked)
            return
        if obstacle.retry_after_s is None or now_s >= asked.patient_s or not (core.is_leader or asked.is_ours):
            asked.reply(obstacle)
        else:
            self._todo.append(asked)

    def _ask(self, leader: str, asked: _Asked) -> None:
        pending = Pending()
        pending.when_done(asked.reply)
        self._number += 1
        named = asked.request.id if isinstance(asked.request, RemoveMember) else ""
        removes = named if self._configurations.newest.find(named) else ""
        self._asked[self._number] = _Waiting(removes, pending, asked.until_s, leader)
        self._outgoing.post(leader, message_of(self._number, asked.request))

    def _on_answer(self, peer: str, answer: ChangeAnswer, _now_s: float) -> None:
        asked = self._asked.get(answer.number)
        if asked is None or asked.leader != peer:
            return
        del self._asked[answer.number]
        asked.pending.resolve(outcome_of(answer))

    def lost(self, peer: str) -> None:
        """The connection to ``peer`` is gone, and what it would have answered."""
        for number, waiting in list(self._asked.items()):
            # A leader that was asked to remove itself may be gone before it has said so: the log will say it as well.
            if waiting.leader == peer and waiting.removes != peer and not self._is_out(waiting.removes):
                del self._asked[number]
                detail = f"the leader, {peer}, was lost before it said what came of the change"
                waiting.pending.resolve(Unknown(detail=detail))

    def _is_out(self, name: str) -> bool:
        """Is it no member of the configuration in force, which may not be committed yet?"""
        return bool(name) and self._configurations.newest.find(name) is None

    def abandon(self) -> None:
        """The node ends: nobody will hear what came of anything."""
        asked, self._asked = self._asked, {}
        for waiting in asked.values():
            waiting.pending.resolve(Unknown(detail="this node ended before the leader said what came of the change"))
        self._give_up("this node ended before the change was committed")
        for undone in (*self._todo, *self._later):
            undone.reply(SHUTTING_DOWN)
        if self._led is not None:
            self._led.reply(Unknown(detail="this node ended before anybody else led"))
        self._todo, self._later, self._led = [], [], None

    def _on_farewell(self, peer: str, word: Farewell, now_s: float) -> None:
        is_leaders = peer == self._core.leader_id and word.term == self._core.term
        if is_leaders and self.removed_at_s is None:
            log_line.warning("this node was removed from the cluster", by=peer, index=word.index)
            self.removed_at_s = now_s

    # --- as leader

    def _on_ask(self, peer: str, ask: AskChange, now_s: float) -> None:
        def reply(outcome: Outcome) -> None:
            self._outgoing.post(peer, answer_of(ask.number, outcome, self._configurations.newest))

        request = request_of(ask)
        if request is None:
            reply(Refused(code=Code.NOT_SUPPORTED, detail="the leader runs a version that does not know this change"))
        else:
            self._take(request, now_s + LEAVING_TIMEOUTS * self._timeout_s, now_s, reply, is_ours=False)

    def _carry_out(self, asked: _Asked, now_s: float) -> Refused | None:
        """Do it, unless something is in its way."""
        if isinstance(asked.request, TransferLeadership):
            self._transfer(asked.request.to, asked, now_s)
        elif isinstance(asked.request, RemoveMember) and asked.request.id == self._electorate.node_id:
            self._remove_self(asked, asked.request, now_s)
        else:
            return self._append(asked.request, asked.reply, asked.since_index, now_s)
        return None

    def _obstacle(self) -> Refused | None:
        """Why nothing can be changed now, if so."""
        if not self._core.leads_committed_term:
            return Refused(code=Code.NO_LEADER, detail="the leader has only just been elected", retry_after_s=0.1)
        if self._change is not None or self._led is not None:
            detail = "another change of the members or of the leader is under way"
            return Refused(code=Code.OVERLOADED, detail=detail, retry_after_s=0.5)
        if self._configurations.newest_index > self._core.commit_index:
            detail = "the last change of the members is not committed yet"
            return Refused(code=Code.OVERLOADED, detail=detail, retry_after_s=0.5)
        for peer in self._electorate.other_voters:
            if self._reads(peer) < MEMBERS_FORMAT:
                return not_read(peer, MEMBERS_FORMAT, self._reads(peer))
        return None

    def _append(self, request: Amendment, reply: Reply, since_index: int, now_s: float) -> Refused | None:
        """Put it into the log, unless that would cost the quorum."""
        before = self._configurations.newest
        if isinstance(request, PromoteMember) and (refusal := self._not_level(before.find(request.id))) is not None:
            reply(refusal)
            return None
        disk = self._disk_of(request.id) if isinstance(request, PromoteMember) else ""
        after = amended(before, request, disk=disk)
        if isinstance(after, Refused):
            reply(after)
            return None
        if after == before:
            reply(MembersChanged(members=shown(before)))
            return None
        refusal = self._costs_quorum(after, since_index, now_s)
        if refusal is not None:
            return refusal
        gone = [member for member in before.members if after.find(member.id) is None]
        for member in gone:
            self.leaving[member.id] = (member, float("inf"))
        index = self._core.append_configuration(encode_configuration(after))
        log_line.info("members change", index=index, members=names(after))
        self._change = _Change(index, self._core.term, reply)
        return None

    def _costs_quorum(self, after: Configuration, since_index: int, now_s: float) -> Refused | None:
        """Could those who answer now not decide anything any more?

        Whose link is known to be broken is not waited for: it may have answered a moment ago, and be gone.
        Who answers and does not take entries, as its disk is full or it fetches its data, decides nothing either. It is
        waited for until it has those up to ``since_index``.
        """
        core, own, voters = self._core, self._electorate.node_id, after.voters
        since_s = now_s - self._timeout_s
        answering = {
            peer
            for peer in self._electorate.others
            if core.answered_at_s(peer) >= since_s and self._outgoing.is_up(peer)
        }
        level = {peer for peer in answering if core.match_index(peer) >= since_index}
        if voters.won({own, *level}):
            return None
        can_wait = voters.won({own, *answering})
        count, size = len({own, *(level if can_wait else answering)} & set(voters.names)), len(voters.names)
        what = "take entries" if can_wait else "answer"
        detail = f"only {count} of the {size} members that would vote {what}: no majority, and so no writes"
        return Refused(code=Code.QUORUM_UNREACHABLE, detail=detail, retry_after_s=1.0 if can_wait else None)

    def _not_level(self, member: ConfiguredMember | None) -> Refused | None:
        if member is None or member.votes or self._level.get(member.id, 0) > 0:
            return None
        if not self._outgoing.is_up(member.id):
            detail = f"{member.id} has not caught up: it does not answer the leader; once it has, it votes by itself"
            return Refused(code=Code.BAD_REQUEST, detail=detail)
        lacking = self._core.last_index - self._core.match_index(member.id)
        known = f"lacks {lacking} entries" if self._core.match_index(member.id) else "has not said what it holds"
        return Refused(code=Code.OVERLOADED, detail=f"{member.id} has not caught up: it {known}", retry_after_s=1.0)

    def _remove_self(self, asked: _Asked, request: RemoveMember, now_s: float) -> None:
        """Hand over; whoever leads then is asked to do it."""
        refusal = amended(self._configurations.newest, request)
        if isinstance(refusal, Refused):
            asked.reply(refusal)
        elif self._handover.hand_over(None, now_s):
            self._later.append(asked)
        else:
            detail = "the leader is to be removed, and there is nobody it could hand over to now"
            asked.reply(Refused(code=Code.QUORUM_UNREACHABLE, detail=detail, retry_after_s=1.0))

    def _transfer(self, target: str, asked: _Asked, now_s: float) -> None:
        member = self._configurations.newest.find(target)
        if member is None:
            asked.reply(Refused(code=Code.NOT_FOUND, detail=f"there is no member {target}"))
        elif not member.votes:
            asked.reply(Refused(code=Code.BAD_REQUEST, detail=f"{target} does not vote yet, so it cannot lead"))
        elif target == self._electorate.node_id:
            asked.reply(LeaderChanged(leader=target, term=self._core.term))
        elif not self._outgoing.is_up(target):
            detail = f"{target} does not answer the leader"
            asked.reply(Refused(code=Code.QUORUM_UNREACHABLE, detail=detail, retry_after_s=1.0))
        elif not self._handover.has_room(target):
            asked.reply(Refused(code=Code.DISK_FULL, detail=f"the disk of {target} is full", retry_after_s=5.0))
        elif self._handover.hand_over(target, now_s, asked=True):
            until_s = min(asked.until_s, now_s + 2 * self._timeout_s)
            self._led = _Led(target, self._core.term, until_s, asked.reply)
        else:
            asked.reply(Refused(code=Code.OVERLOADED, detail="another hand-over is under way", retry_after_s=0.5))

    # --- time passes

    def work(self, now_s: float) -> None:
        """Go on with what is under way."""
        for number, waiting in list(self._asked.items()):
            if self._is_out(waiting.removes) and self._core.commit_index >= self._configurations.newest_index:
                del self._asked[number]
                waiting.pending.resolve(MembersChanged(members=shown(self._configurations.newest)))
            elif now_s >= waiting.until_s:
                del self._asked[number]
                detail = "the deadline passed before the leader said what came of the change"
                waiting.pending.resolve(Unknown(detail=detail))
        self._settle(now_s)
        todo, self._todo = self._todo, []
        for asked in todo:
            self._begin(asked, now_s)
        self._pass_on(now_s)
        self._watch_learners(now_s)
        self._say_farewell(now_s)

    def _settle(self, now_s: float) -> None:
        core, change, led = self._core, self._change, self._led
        if change is not None:
            if not core.is_leader or core.term != change.term:
                self._give_up("the leader lost its lead before the change was committed")
            elif core.commit_index >= change.index:
                self._change = None
                self._committed(change, now_s)
        if led is not None:
            if core.term > led.term and core.leader_id is not None:
                self._led = None
                led.reply(
                    LeaderChanged(leader=core.leader_id, term=core.term)
                    if core.leader_id == led.target
                    else Refused(
                        code=Code.OVERLOADED, detail=f"{core.leader_id} was elected instead", retry_after_s=0.5
                    )
                )
            elif now_s >= led.until_s:
                self._led = None
                led.reply(Unknown(detail=f"{led.target} was told to lead, and does not yet"))

    def _committed(self, change: _Change, now_s: float) -> None:
        configuration = self._configurations.newest
        log_line.info("members changed", index=change.index, members=names(configuration))
        self._farewell_index = change.index
        for name, (member, _) in list(self.leaving.items()):
            self.leaving[name] = (member, now_s + LEAVING_TIMEOUTS * self._timeout_s)
            self._outgoing.post(name, Farewell(term=self._core.term, index=change.index))
        change.reply(MembersChanged(members=shown(configuration)))

    def _give_up(self, reason: str) -> None:
        change, self._change = self._change, None
        if change is not None:
            change.reply(Unknown(detail=reason))

    def _pass_on(self, now_s: float) -> None:
        """Whoever leads now removes this node, which handed over for that."""
        for asked in list(self._later):
            is_led = not self._core.is_leader and self._core.leader_id is not None
            if is_led or now_s >= asked.until_s:
                self._later.remove(asked)
                if is_led:
                    self._take(asked.request, asked.until_s, now_s, asked.reply, is_ours=True)
                else:
                    detail = "the leader is to be removed, and could not hand over in time"
                    asked.reply(Refused(code=Code.NO_LEADER, detail=detail, retry_after_s=1.0))

    def _watch_learners(self, now_s: float) -> None:
        """Let those vote who kept up."""
        if now_s - self._marked_at_s < self._heartbeat_s or not self._electorate.learners:
            return
        marked, self._marked_index, self._marked_at_s = self._marked_index, self._core.last_index, now_s
        if not self._core.leads_committed_term:
            self._level.clear()
            return
        for name in self._electorate.learners:
            has_kept_up = marked > 0 and self._core.match_index(name) >= marked
            self._level[name] = self._level.get(name, 0) + 1 if has_kept_up else 0
            if self._level[name] >= LEVEL_HEARTBEATS and self._obstacle() is None:
                self._append(PromoteMember(id=name), _nobody, marked, now_s)

    def _say_farewell(self, now_s: float) -> None:
        """Until they are gone, or have been told for long enough; then nothing is kept of them."""
        gone = [
            name
            for name, (_, until_s) in self.leaving.items()
            if now_s >= until_s
            or not self._core.is_leader
            or self._configurations.newest.find(name) is not None
            or (until_s < float("inf") and not self._outgoing.is_up(name))
        ]
        for name in gone:
            del self.leaving[name]
        if gone:
            self.told()


def _nobody(_outcome: Outcome) -> None:
    """Nobody asked for it."""
