"""Planted bugs of raft mode: our remedies against PySyncObj's hazards, and the rules that are our own.

Numbers of hazards are those of ``docs/pysyncobj.rst``. Part of ``raftkv.instruments.sim.planted``.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from raftkv.formats import layout
from raftkv.formats.peers import refused_by
from raftkv.formats.raft_messages import Append, AppendAnswer, SnapshotOffer
from raftkv.instruments.sim import raft
from raftkv.instruments.sim.planted.coordination import COORDINATION
from raftkv.instruments.sim.planted.members import MEMBERS
from raftkv.instruments.sim.planted.rights import RIGHTS
from raftkv.instruments.sim.planted.standing import STANDING
from raftkv.instruments.sim.planted.swaps import Remedy, Swap, around, called_with, gives, instead, remedy, rule, then
from raftkv.machine import conversion
from raftkv.machine.repeats import Repeats
from raftkv.raft.applied import AppliedMachine
from raftkv.raft.engine import guards, internals, transport
from raftkv.raft.engine.guards import Inbound
from raftkv.raft.engine.journal import LogJournal
from raftkv.raft.engine.transport import GuardedTransport
from raftkv.raft.leadership import preference
from raftkv.raft.leadership.agreed_time import AgreedTime
from raftkv.raft.leadership.elections import Elections
from raftkv.raft.leadership.handover import Handover
from raftkv.raft.leadership.lease_time import LeaseTime
from raftkv.raft.leadership.preference import Preference
from raftkv.raft.leadership.voting import Voting
from raftkv.raft.reading.freshness import Freshness
from raftkv.raft.reading.gate import ReadGate
from raftkv.raft.reading.rounds import Confirmed, ReadRounds
from raftkv.raft.replica import RaftReplica
from raftkv.raft.room import DiskRoom
from raftkv.raft.snapshots.installing import Installing
from raftkv.raft.snapshots.transfer import Transfers, base_entries
from raftkv.raft.writing import appends, proposals, proposing
from raftkv.raft.writing.proposals import Proposals
from raftkv.raft.writing.proposing import Proposing
from raftkv.raft.writing.stamping import Stamping
from raftkv.storage.log.log import Log

_LIBRARY: Final = next(kind for kind in internals.Core.__mro__ if kind.__name__ == "SyncObj")


class _Unsynced:
    """A file that says that it was synced, and never is."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.write_at, self.truncate, self.close = file.write_at, file.truncate, file.close

    def sync(self) -> None:
        """Do nothing."""


def _flush_without_sync(flush: Any, log: Any) -> None:
    if log._file is not None and not isinstance(log._file, _Unsynced):
        log._file = _Unsynced(log._file)
    flush(log)


def _send_at_once(replica: Any, _now_s: float) -> None:
    """Everything leaves in the first half of a round, as the leader's appends may."""
    replica._send(replica.parts.transport.drain())
    replica.sent_ahead = True


def _send_each(append: Any, core: Any, *command: bytes) -> Any:
    appended = append(core, *command)
    core.send_appends()
    return appended


def _untrimmed(admit: Any, log: Any, append: Append) -> Any:
    """Old appends are recognised, repeated ones are not."""
    known = append.term < log.term or append.previous_index == 0
    return admit(log, append) if known else Inbound(hand_on=append)


def _step_back(admit: Any, log: Any, append: Append) -> Any:
    verdict = admit(log, append)
    if not isinstance(verdict.answer, AppendAnswer) or not verdict.answer.reset:
        return verdict
    back = max(2, min(append.previous_index - 1, log.last_index))
    return Inbound(hand_on=verdict.hand_on, answer=msgspec.structs.replace(verdict.answer, next_index=back))


def _without_entries(append: Append, _known_common: int) -> Append:
    """Appends without a place in the log advance the commit index; they are stripped of their entries still."""
    return Append(term=append.term, commit_index=append.commit_index, sequence=append.sequence)


def _take_as_the_library(self: Any, peer: str, answer: AppendAnswer, _now_s: float) -> None:
    told = {
        "next_node_idx": answer.next_index,
        "reset": answer.reset,
        "success": answer.success,
    }
    self._onMessageReceived(self._nodes[peer], {"type": "next_node_idx", **told})


def _take_below_the_known(taken: Any, self: Any, peer: str, answer: AppendAnswer, now_s: float) -> None:
    """What is known to be held goes again when it is asked for."""
    core = self.core
    next_before = core.next_index(peer)
    set_next_index = core.set_next_index
    core.set_next_index = lambda *_: None
    try:
        taken(self, peer, answer, now_s)
    finally:
        core.set_next_index = set_next_index
    if not answer.reset:
        set_next_index(peer, max(next_before, core.next_index(peer)))


def configured(**changes: Any) -> Swap:
    """Other settings of the library."""
    return called_with(internals, "SyncObjConf", **changes)


def _requeue_too_early(release: Any, self: Any, **more: Any) -> None:
    """A command is proposed again as soon as there is another leader, wherever the first one may be."""
    current = self._current
    release(self, **more)
    if current is not None and self._current is None and not current.outcomes:
        self._requeue(current)


def _declined_in_any_term(self: Any, _peer: str, declined: Any, _now_s: float) -> None:
    """A proposal that is declined is held against whoever leads when the news arrives."""
    if declined.refusal is None:
        self._declined_term = self.core.term
    refusal = None if declined.refusal is None else refused_by(declined.refusal)
    self.proposals.declined(declined.sequence, refusal)


_VOTES_NOT_WITHHELD: Final = (
    gives(Elections, "withholds", value=False),
    instead(
        Voting, "_on_request_vote", lambda self, peer, request, _now_s: self.ballots.take_vote_request(peer, request)
    ),
)


def _note_the_time(advance: Any, self: Any, **position: Any) -> Any:
    self.noted_s = position["now_s"]
    return advance(self, **position)


def _finish_late(finish: Any, self: Any) -> None:
    """The lease begins when a round is confirmed, not when it began."""
    if self._round is not None:
        self._round.began_at_s = max(self._round.began_at_s, getattr(self, "noted_s", 0.0))
    finish(self)


def _serve_at_once(self: Any, position: Any, _now_s: float) -> None:
    """Whoever believes that it leads answers linearizable reads at its commit index."""
    readers, self._fresh = self._fresh, []
    self._with_index(readers, position.commit_index)


def _offer_first(self: Any, peer: str, _message: Any) -> None:
    """The offer of a snapshot goes out before anything that says who leads."""
    self._peers[peer].outbox.sort(key=lambda one: not isinstance(one, SnapshotOffer))


def _evict_by_the_clock(evict: Any, self: Any, _lease_ms: int) -> None:
    evict(self, layout.unpack_number(self._tables.get(layout.META, layout.CLOCK_MS)))


def _leap_where_nothing_is_adopted(stamp: Any, self: Any) -> Any:
    machine, now_s = self.machine(), self.clock()
    if machine.adopted.events:
        return stamp(self)
    term, wall_ms = self.core.term, self.wall_ms()
    return self.agreed_time.read(term=term, wall_ms=wall_ms, machine_ms=machine.clock_ms, now_s=now_s)


def _take_any_vote(self: Any, peer: str, vote: Any) -> None:
    self._onMessageReceived(self._nodes[peer], {"type": "response_vote", "term": vote.term})


def _cut_to_the_snapshot(log: Any, newest: Any) -> None:
    """A snapshot at start cuts the log to begin, and end, with it."""
    if newest is not None and log.first_index < newest.index:
        log.reset(*base_entries(newest))


def _vouch_unconfirmed(advance: Any, self: Any, **position: Any) -> Any:
    """A leader vouches for the readings it has when it sends pings, before anybody confirmed that it leads."""
    ping = advance(self, **position)
    if ping is not None:
        index, now_s = position["commit_index"], position["now_s"]
        self.confirmed = Confirmed(index=index, began_at_s=now_s, readings=dict(self._readings))
    return ping


def _vouch_late(take: Any, self: Any) -> Any:
    """A leader vouches for the readings that it has when a round is confirmed, with the index from its beginning."""
    confirmed = take(self)
    return confirmed and msgspec.structs.replace(confirmed, readings=dict(self._readings))


def _stand_on_any_word(self: Any, _peer: str, _word: Any, _now_s: float) -> None:
    """A node stands for election whoever tells it to, whenever that was."""
    self.ballots.handed_over_term = self.core.term


def _hide_the_hand_over(take: Any, self: Any, peer: str, request: Any, now_s: float) -> None:
    """Nobody sees that a request for votes comes of a hand-over."""
    take(self, peer, msgspec.structs.replace(request, handed_over=False), now_s)


def _prefer_whoever_wants_to(take: Any, self: Any, peer: str, wish: Any, now_s: float) -> None:
    """A leader makes way for whoever wants to lead, though it wants to lead itself."""
    wants, self.is_preferred = self.is_preferred, False
    take(self, peer, wish, now_s)
    self.is_preferred = wants


REMEDIES: Final[dict[str, Remedy]] = {
    "flush": remedy("1", "the log is flushed before anything that rests on it counts", gives(Log, "flush")),
    "sync": remedy("1", "a flush is synced", around(Log, "_flush", _flush_without_sync)),
    "flush before answers": remedy(
        "1", "answers and votes leave after the flush", then(RaftReplica, "begin_work", _send_at_once)
    ),
    "stored commit index": remedy(
        "4",
        "the commit index is no later than the log's end",
        instead(LogJournal, "getRaftCommitIndex", lambda self: self._log.last_index + 50),
    ),
    "known commit index": remedy(
        "4",
        "what was not known to be committed is not",
        instead(LogJournal, "getRaftCommitIndex", lambda self: max(1, self._log.last_index)),
    ),
    "stored vote": remedy("5", "the vote is in the log", gives(LogJournal, "getVotedForNodeId")),
    "stored term": remedy(
        "5",
        "term and vote are in the log",
        gives(LogJournal, "getVotedForNodeId"),
        gives(LogJournal, "getCurrentTerm", 0),
    ),
    "terms of answers": remedy(
        "6",
        "answers of another term are dropped",
        instead(transport, "admit_answer", lambda log, answer, **_: answer if log.is_leader else None),
    ),
    "guarded appends": remedy(
        "7, 9, 10",
        "appends pass the guards at all",
        instead(transport, "admit_append", lambda _log, append: Inbound(hand_on=append)),
    ),
    "trimmed appends": remedy(
        "7",
        "appends are trimmed to the first true conflict",
        gives(guards, "_matching", 0),
        around(transport, "admit_append", _untrimmed),
    ),
    "next index": remedy(
        "7",
        "an acknowledgement never lowers what goes next",
        instead(GuardedTransport, "take_answer", _take_as_the_library),
    ),
    "known index": remedy(
        "7",
        "what is known to be held is not asked for again",
        around(GuardedTransport, "take_answer", _take_below_the_known),
    ),
    "stripped appends": remedy(
        "9",
        "what does not continue our log is stripped of its entries",
        instead(guards, "_heartbeat", lambda append, _common: append),
    ),
    "common commit index": remedy(
        "9", "heartbeats commit what is provably common", instead(guards, "_heartbeat", _without_entries)
    ),
    "mismatches": remedy(
        "10", "a mismatch is answered with the commit index", around(transport, "admit_append", _step_back)
    ),
    "snapshot and tail": remedy(
        "11", "a log that holds the snapshot's last entry is kept", instead(raft, "recover_log", _cut_to_the_snapshot)
    ),
    "needless snapshots": remedy(
        "11", "no snapshot replaces what is held in common", gives(Installing, "common_with", 0)
    ),
    "whole entries": remedy("12", "a batch exceeds every command", configured(appendEntriesBatchSizeBytes=1 << 10)),
    "origins": remedy("13", "a command carries a random origin", called_with(Proposals, "__init__", origin=1)),
    "deadlines": remedy("14", "every write has a deadline", gives(Proposals, "expire")),
    "proposing again": remedy("14", "an unapplied command is proposed again", gives(Proposals, "entered_term")),
    "not too early": remedy(
        "14",
        "only what can never be applied is proposed again",
        around(Proposals, "release", _requeue_too_early),
    ),
    "terms of refusals": remedy(
        "14", "a refusal concerns the term it was for", instead(Proposing, "_on_declined", _declined_in_any_term)
    ),
    "idempotency": remedy("14", "a retry returns the first outcome", gives(Repeats, "keep")),
    "no pickles": remedy(
        "19",
        "commands are opaque bytes",
        instead(internals.Core, "_SyncObj__doApplyCommand", vars(_LIBRARY)["_SyncObj__doApplyCommand"]),
    ),
    "known kinds": remedy("20", "entries of other kinds than ours are malformed", gives(guards, "_check_shape")),
    "stepping down": remedy("17", "a leader without a majority steps down", configured(leaderFallbackTimeout=30.0)),
    "pre-vote": remedy("21", "pre-vote and withheld votes", gives(Elections, "due", value=False), *_VOTES_NOT_WITHHELD),
    "withheld votes": remedy("21, 22", "votes are withheld after hearing from a leader", *_VOTES_NOT_WITHHELD),
    "start hold-off": remedy(
        "22",
        "who has just started withholds its vote",
        then(Elections, "__init__", lambda self, **_: setattr(self, "heard_at_s", float("-inf"))),
    ),
    "lease": remedy("22", "a lease is confirmed by a majority", gives(ReadRounds, "holds_lease", value=True)),
    "drift bound": remedy(
        "22",
        "a lease is shorter than the promise it rests on",
        called_with(ReadRounds, "__init__", drift_bound=-0.5),
    ),
    "lease's beginning": remedy(
        "22",
        "a lease counts from when its round began",
        around(ReadRounds, "advance", _note_the_time),
        around(ReadRounds, "_finish_if_enough", _finish_late),
    ),
    "read round": remedy(
        "22", "a linearizable read is confirmed by a majority", instead(ReadGate, "_serve", _serve_at_once)
    ),
    "own term's commit": remedy(
        "22",
        "a read index needs a commit in its term",
        instead(internals.Core, "leads_committed_term", property(lambda self: self.is_leader)),
    ),
    "applied index": remedy(
        "22",
        "a read waits until its index is applied",
        around(ReadGate, "_pass_applied", lambda step, self, _applied_index: step(self, 1 << 62)),
    ),
    "pauses": remedy("23", "sending to a peer that is behind is paused", gives(GuardedTransport, "_pause")),
    "heartbeat before offer": remedy(
        "23", "a leader is known before its offer", then(GuardedTransport, "post", _offer_first)
    ),
    "identity of votes": remedy(
        "24", "one vote for each voter and term", instead(GuardedTransport, "take_vote", _take_any_vote)
    ),
    "agreed time": rule(
        "commands are stamped with the agreed time", instead(AgreedTime, "read", lambda _self, *, wall_ms, **_: wall_ms)
    ),
    "lease time": rule("leases end by lease time", gives(LeaseTime, "led")),
    "lease time of the log": rule(
        "a leader takes lease time from what it applies of earlier terms", gives(LeaseTime, "inherited")
    ),
    "ticks": rule("where there are leases, time stands in the log", instead(proposing, "TICK_MS", 1 << 60)),
    "time of outcomes": rule(
        "outcomes for repeats are kept by lease time", around(Repeats, "evict", _evict_by_the_clock)
    ),
    "leaps at the beginning": rule(
        "no stamp leaps before it shows whether members read that it did",
        around(Stamping, "stamp_ms", _leap_where_nothing_is_adopted),
    ),
    "kept log": rule(
        "the log is kept for followers that need it", instead(Transfers, "_needed", lambda _self, _now_s: [])
    ),
    "shown writes": rule(
        "w beyond the majority counts what is shown",
        gives(appends, "shown_from", 100),
        gives(proposals, "shown_from", 100),
    ),
    "own reading": rule(
        "a local read's age counts from this node's own reading",
        instead(Freshness, "echoed", lambda self, level, now_s: self.level(level.index, now_s)),
    ),
    "confirmed level": rule(
        "only a confirmed leader vouches for a reading", around(ReadRounds, "advance", _vouch_unconfirmed)
    ),
    "earlier readings": rule(
        "a round vouches for readings from before it", around(ReadRounds, "take_confirmed", _vouch_late)
    ),
    "lives of readings": rule("an earlier life's reading says nothing", called_with(Freshness, "__init__", life=0)),
    "shown level": rule(
        "level is what readers see, not what is applied",
        then(AppliedMachine, "apply", lambda self, index, _term, _entry: self._freshness.shown(index)),
    ),
    "announcements": rule(
        "what is announced can be read already",
        then(AppliedMachine, "apply", lambda self, index, _term, _entry: self._announce(index)),
    ),
    "handing over": rule("a leader without room hands over", gives(Handover, "begin", value=False)),
    "chosen member": rule(
        "the member that has room and lacks least is chosen",
        instead(Handover, "choose", lambda _self, matches: min(matches, key=lambda peer: (matches[peer], peer))),
    ),
    "level before the word": rule(
        "a member is level before it is told to stand", called_with(Handover, "step", last_index=0)
    ),
    "lease given back": remedy("22", "who hands over holds no lease in that term", gives(ReadRounds, "forswear")),
    "proposals held": rule("proposals are held while a leader hands over", gives(Handover, "hold", value=False)),
    "whose word": remedy(
        "21",
        "only the leader of this very term tells a member to stand",
        instead(Voting, "_on_hand_over", _stand_on_any_word),
    ),
    "votes for the chosen": remedy(
        "21",
        "votes are not withheld from the chosen member",
        around(Voting, "_on_request_vote", _hide_the_hand_over),
    ),
    "preferred leader": rule("a leader makes way for who is configured to lead", gives(Preference, "work")),
    "well for a while": rule("and only once that has been well for a while", instead(preference, "WELL_TIMES", 1)),
    "keeping up": rule(
        "who does not keep up is not well",
        instead(Preference, "_well_count", lambda _self, _peer, before, _now_s: before.well_count + 1 if before else 0),
    ),
    "connections kept": rule("nor who comes and goes", gives(Preference, "lost")),
    "who wants to lead": rule(
        "who is configured to lead makes way for nobody",
        around(Preference, "_on_want_to_lead", _prefer_whoever_wants_to),
    ),
    "longer each time": rule(
        "attempts that come to nothing become seldom", instead(preference, "WELL_TIMES_MAX", preference.WELL_TIMES)
    ),
    "standing back": rule("who has no room leaves it to others to stand", gives(Elections, "yields", value=False)),
    "reserve for deletions": rule(
        "deletions may use the reserve",
        instead(DiskRoom, "takes", lambda self, **_: not self.is_full),
        gives(conversion, "makes_room", value=False),
    ),
    "last room": rule(
        "a follower's last room is kept for terms and votes",
        then(DiskRoom, "check", lambda self, _now_s: setattr(self, "is_gone", False)),
    ),
    "room for the log": rule(
        "a snapshot takes no segment that the log may need soon", gives(DiskRoom, "spares", value=True)
    ),
    "one early segment": rule(
        "all attempts at a snapshot take one segment",
        then(Transfers, "_start_write", lambda self, _now_s: setattr(self, "_has_rotated", False)),
    ),
    **MEMBERS,
    **STANDING,
    **COORDINATION,
    **RIGHTS,
    "one append a turn": rule("commands of one turn share an append", around(internals.Core, "append", _send_each)),
    "batching": remedy("28", "what was appended leaves in the same turn", gives(GuardedTransport, "send_appends")),
}
