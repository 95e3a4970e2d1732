"""Our remedies against PySyncObj's hazards, and how to take each away: planted bugs, by which the simulator is tested.

A simulator that finds nothing may be blind. Each entry undoes one remedy, as if it had been forgotten; random seeds,
or a scenario written for it, must then find something. Numbers are those of ``docs/pysyncobj.rst``. For simulations
only: what is changed here is changed for the whole process, for as long as the context lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final
from unittest import mock

import msgspec

from raftkv.instruments.sim import raft
from raftkv.instruments.sim.planted_standing import STANDING
from raftkv.instruments.sim.remedy import Remedy, Replace, remedy
from raftkv.machine.machine import Machine
from raftkv.raft import conversation
from raftkv.raft.engine import guards, internals, transport
from raftkv.raft.engine.guards import Inbound
from raftkv.raft.engine.journal import LogJournal
from raftkv.raft.engine.transport import GuardedTransport
from raftkv.raft.leadership.agreed_time import AgreedTime
from raftkv.raft.leadership.elections import Elections
from raftkv.raft.leadership.handover import Handover
from raftkv.raft.messages import Append, AppendAnswer
from raftkv.raft.reading import gate
from raftkv.raft.reading.freshness import Freshness
from raftkv.raft.reading.rounds import Confirmed, ReadRounds
from raftkv.raft.replica import RaftReplica
from raftkv.raft.room import Room
from raftkv.raft.snapshots.transfer import Transfers, base_entries
from raftkv.raft.writing import appends, proposals
from raftkv.raft.writing.proposals import Proposals
from raftkv.storage.log import Log


@contextmanager
def without(name: str) -> Iterator[None]:
    """Everything as it is, but for one remedy."""
    with ExitStack() as stack:

        def replace(owner: Any, attribute: str, value: Any) -> None:
            stack.enter_context(mock.patch.object(owner, attribute, value))

        REMEDIES[name].take_away(replace)
        yield


def _no_flush(replace: Replace) -> None:
    replace(Log, "flush", lambda _self: None)


def _unsynced(replace: Replace) -> None:
    """The log is written, and never synced."""
    flush = Log._flush

    class _Unsynced:
        def __init__(self, file: Any) -> None:
            self._file = file
            self.write_at, self.truncate, self.close = file.write_at, file.truncate, file.close

        def sync(self) -> None:
            """Say that it was done."""

    def flush_without_sync(self: Any) -> None:
        if self._file is not None and not isinstance(self._file, _Unsynced):
            self._file = _Unsynced(self._file)
        flush(self)

    replace(Log, "_flush", flush_without_sync)


def _answers_before_the_flush(replace: Replace) -> None:
    """Everything leaves in the first half of a round, as the leader's appends may."""
    begin_work = RaftReplica.begin_work

    def begin_and_send(self: Any, now_s: float) -> None:
        begin_work(self, now_s)
        self._send(self._transport.drain())
        self.sent_ahead = True

    replace(RaftReplica, "begin_work", begin_and_send)


def _votes_forgotten(replace: Replace) -> None:
    replace(LogJournal, "getVotedForNodeId", lambda _self: None)


def _terms_forgotten(replace: Replace) -> None:
    replace(LogJournal, "getVotedForNodeId", lambda _self: None)
    replace(LogJournal, "getCurrentTerm", lambda _self: 0)


def _commit_index_ahead(replace: Replace) -> None:
    replace(LogJournal, "getRaftCommitIndex", lambda self: self._log.last_index + 50)


def _commit_index_is_the_last(replace: Replace) -> None:
    replace(LogJournal, "getRaftCommitIndex", lambda self: max(1, self._log.last_index))


def _answers_of_any_term(replace: Replace) -> None:
    def admit_answer(log: Any, answer: AppendAnswer, **_: Any) -> AppendAnswer | None:
        return answer if log.is_leader else None

    replace(transport, "admit_answer", admit_answer)


def _appends_unguarded(replace: Replace) -> None:
    replace(transport, "admit_append", lambda _log, append: Inbound(hand_on=append))


def _appends_untrimmed(replace: Replace) -> None:
    """Old appends are recognised, repeated ones are not."""
    replace(guards, "_matching", lambda _log, _entries: 0)
    admit = guards.admit_append

    def untrimmed(log: Any, append: Append) -> Inbound:
        if append.term < log.term or append.previous_index == 0:
            return admit(log, append)
        return Inbound(hand_on=append)

    replace(transport, "admit_append", untrimmed)


def _next_index_may_fall(replace: Replace) -> None:
    def take_answer(self: Any, peer: str, answer: AppendAnswer) -> None:
        message = {
            "type": "next_node_idx",
            "next_node_idx": answer.next_index,
            "reset": answer.reset,
            "success": answer.success,
        }
        self._onMessageReceived(self._nodes[peer], message)

    replace(GuardedTransport, "take_answer", take_answer)


def _next_index_below_the_known(replace: Replace) -> None:
    """What is known to be held goes again when it is asked for."""

    def take_answer(self: Any, peer: str, answer: AppendAnswer) -> None:
        core, node = self.core, self._nodes[peer]
        next_before = core.next_index(node)
        set_next_index = core.set_next_index
        core.set_next_index = lambda *_: None
        try:
            taken(self, peer, answer)
        finally:
            core.set_next_index = set_next_index
        if not answer.reset:
            set_next_index(node, max(next_before, core.next_index(node)))

    taken = GuardedTransport.take_answer
    replace(GuardedTransport, "take_answer", take_answer)


def _heartbeats_commit(replace: Replace) -> None:
    replace(guards, "_heartbeat", lambda append, _common: append)


def _heartbeats_commit_what_they_say(replace: Replace) -> None:
    """Appends without a place in the log advance the commit index; they are stripped of their entries still."""

    def heartbeat(append: Append, _known_common: int) -> Append:
        return Append(term=append.term, commit_index=append.commit_index, sequence=append.sequence)

    replace(guards, "_heartbeat", heartbeat)


def _mismatches_step_back(replace: Replace) -> None:
    admit = guards.admit_append

    def stepwise(log: Any, append: Append) -> Inbound:
        verdict = admit(log, append)
        if isinstance(verdict.answer, AppendAnswer) and verdict.answer.reset:
            back = min(append.previous_index - 1, log.last_index)
            answer = AppendAnswer(
                term=append.term, sequence=append.sequence, next_index=max(2, back), success=False, reset=True
            )
            return Inbound(hand_on=verdict.hand_on, answer=answer)
        return verdict

    replace(transport, "admit_append", stepwise)


def configured(**changes: Any) -> Callable[[Replace], None]:
    """Other settings of the library."""

    def reconfigure(replace: Replace) -> None:
        original = vars(internals)["SyncObjConf"]
        replace(internals, "SyncObjConf", lambda **settings: original(**{**settings, **changes}))

    return reconfigure


def _library_applies(replace: Replace) -> None:
    """The library's own way of applying a command: it is unpickled."""
    library = next(kind for kind in internals.Core.__mro__ if kind.__name__ == "SyncObj")
    replace(internals.Core, "_SyncObj__doApplyCommand", vars(library)["_SyncObj__doApplyCommand"])


def _entries_of_any_kind(replace: Replace) -> None:
    replace(guards, "_check_shape", lambda _append: None)


def _one_origin(replace: Replace) -> None:
    build = Proposals.__init__

    def build_with_origin(self: Any, **settings: Any) -> None:
        build(self, **{**settings, "origin": 1})

    replace(Proposals, "__init__", build_with_origin)


def _no_deadlines(replace: Replace) -> None:
    replace(Proposals, "expire", lambda _self, _now_s, _reason: None)


def _not_proposed_again(replace: Replace) -> None:
    replace(Proposals, "entered_term", lambda _self, _term: None)


def _proposed_again_too_early(replace: Replace) -> None:
    """A command is proposed again as soon as there is another leader, wherever the first one may be."""
    release = Proposals.release

    def release_and_requeue(self: Any, **more: Any) -> None:
        current = self._current
        release(self, **more)
        if current is not None and self._current is None and not current.outcomes:
            self._requeue(current)

    replace(Proposals, "release", release_and_requeue)


def _declined_in_any_term(replace: Replace) -> None:
    """A proposal that is declined is held against whoever leads when the news arrives."""

    def on_declined(self: Any, _peer: str, declined: Any) -> None:
        if declined.refusal is None:
            self.declined_term = self._core.term
        self._proposals.declined(declined.sequence, declined.refusal)

    replace(conversation.Conversation, "_on_declined", on_declined)


def _no_prevote(replace: Replace) -> None:
    replace(Elections, "due", lambda _self, _standing, _now_s: False)
    _votes_not_withheld(replace)


def _votes_not_withheld(replace: Replace) -> None:
    def on_request_vote(self: Any, peer: str, request: Any) -> None:
        self._transport.take_vote_request(peer, request)

    replace(Elections, "withholds", lambda _self, _now_s: False)
    replace(conversation.Conversation, "_on_request_vote", on_request_vote)


def _lease_for_every_leader(replace: Replace) -> None:
    replace(ReadRounds, "holds_lease", lambda _self, _term, _now_s: True)


def _lease_without_drift(replace: Replace) -> None:
    build = ReadRounds.__init__

    def build_without_drift(self: Any, **settings: Any) -> None:
        build(self, **{**settings, "drift_bound": -0.5})

    replace(ReadRounds, "__init__", build_without_drift)


def _lease_from_the_answer(replace: Replace) -> None:
    """The lease begins when a round is confirmed, not when it began."""
    finish = ReadRounds._finish_if_enough
    advance = ReadRounds.advance

    def advance_noting(self: Any, **position: Any) -> Any:
        self.noted_s = position["now_s"]
        return advance(self, **position)

    def finish_late(self: Any) -> None:
        if self._round is not None:
            self._round.began_at_s = max(self._round.began_at_s, getattr(self, "noted_s", 0.0))
        finish(self)

    replace(ReadRounds, "advance", advance_noting)
    replace(ReadRounds, "_finish_if_enough", finish_late)


def _no_start_holdoff(replace: Replace) -> None:
    """A node that has just started votes at once, whatever it promised before."""
    build = Elections.__init__

    def build_free(self: Any, **settings: Any) -> None:
        build(self, **settings)
        self.heard_at_s = float("-inf")

    replace(Elections, "__init__", build_free)


def _reads_without_a_round(replace: Replace) -> None:
    """Whoever believes that it leads answers linearizable reads at its commit index."""

    def serve(self: Any, position: Any, _now_s: float) -> None:
        readers, self._fresh = self._fresh, []
        self._with_index(readers, position.commit_index)

    replace(gate.ReadGate, "_serve", serve)


def _reads_before_the_terms_first_commit(replace: Replace) -> None:
    replace(internals.Core, "leads_committed_term", property(lambda self: self.is_leader))


def _reads_before_apply(replace: Replace) -> None:
    """A read is answered as soon as there is a read index, applied here or not."""
    step = gate.ReadGate._pass_applied
    replace(gate.ReadGate, "_pass_applied", lambda self, _applied_index: step(self, 1 << 62))


def _no_pause(replace: Replace) -> None:
    replace(GuardedTransport, "_pause", lambda _self, _node: None)


def _offers_ahead_of_heartbeats(replace: Replace) -> None:
    """The offer of a snapshot goes out before anything that says who leads."""
    post = GuardedTransport.post

    def offer_first(self: Any, peer: str, message: Any) -> None:
        post(self, peer, message)
        outbox = self._peers[peer].outbox
        outbox.sort(key=lambda one: type(one).__name__ != "SnapshotOffer")

    replace(GuardedTransport, "post", offer_first)


def _votes_without_identity(replace: Replace) -> None:
    def take_vote(self: Any, peer: str, vote: Any) -> None:
        self._onMessageReceived(self._nodes[peer], {"type": "response_vote", "term": vote.term})

    replace(GuardedTransport, "take_vote", take_vote)


def _snapshots_wipe_the_tail(replace: Replace) -> None:
    """A snapshot at start cuts the log to begin, and end, with it."""

    def recover_log(log: Any, newest: Any) -> None:
        if newest is not None and log.first_index < newest.index:
            log.reset(*base_entries(newest))

    replace(raft, "recover_log", recover_log)


def _snapshots_always_installed(replace: Replace) -> None:
    """An offered snapshot replaces the log, whatever this node holds already."""
    replace(conversation.Conversation, "common_with", lambda _self, _manifest: 0)


def _retries_applied_twice(replace: Replace) -> None:
    replace(Machine, "_write_once", lambda self, write, _name: _write_anew(self, write))


def _write_anew(machine: Any, write: Any) -> Any:
    return machine._write(msgspec.structs.replace(write, idempotency_key=None))


def _leaders_clock(replace: Replace) -> None:
    replace(AgreedTime, "read", lambda _self, *, wall_ms, **_: wall_ms)


def _entries_kept_for_nobody(replace: Replace) -> None:
    replace(Transfers, "_needed", lambda _self, _now_s: [])


def _held_counts_as_shown(replace: Replace) -> None:
    for module in (appends, proposals):
        replace(module, "shown_from", lambda _size: 100)


def _level_when_told(replace: Replace) -> None:
    """A follower takes itself to be level when the leader's word arrives, however long that was on its way."""

    def echoed(self: Any, level: Any, now_s: float) -> None:
        self.level(level.index, now_s)

    replace(Freshness, "echoed", echoed)


def _level_by_unconfirmed_leaders(replace: Replace) -> None:
    """A leader vouches for the readings it has when it sends pings, before anybody confirmed that it leads."""
    advance = ReadRounds.advance

    def advance_and_vouch(self: Any, **position: Any) -> Any:
        ping = advance(self, **position)
        if ping is not None:
            self.confirmed = Confirmed(
                index=position["commit_index"], began_at_s=position["now_s"], readings=dict(self._readings)
            )
        return ping

    replace(ReadRounds, "advance", advance_and_vouch)


def _level_when_confirmed(replace: Replace) -> None:
    """A leader vouches for the readings that it has when a round is confirmed, with the index from its beginning."""
    take = ReadRounds.take_confirmed

    def take_late(self: Any) -> Any:
        confirmed = take(self)
        return confirmed and msgspec.structs.replace(confirmed, readings=dict(self._readings))

    replace(ReadRounds, "take_confirmed", take_late)


def _level_of_any_life(replace: Replace) -> None:
    """Readings of all lives of a node are taken for those of the present one."""
    build = Freshness.__init__

    def build_nameless(self: Any, **settings: Any) -> None:
        build(self, **{**settings, "life": 0})

    replace(Freshness, "__init__", build_nameless)


def _level_before_it_shows(replace: Replace) -> None:
    """What was applied counts as shown, though readers of the state do not see it yet."""
    apply = RaftReplica._apply

    def apply_and_show(self: Any, index: int, term: int, entry: bytes) -> None:
        apply(self, index, term, entry)
        self._freshness.shown(index)

    replace(RaftReplica, "_apply", apply_and_show)


def _no_handing_over(replace: Replace) -> None:
    replace(Handover, "begin", lambda _self, _target, **_: False)


def _lease_after_handing_over(replace: Replace) -> None:
    replace(ReadRounds, "forswear", lambda _self, _term: None)


def _handing_over_to_who_is_behind(replace: Replace) -> None:
    step = Handover.step
    replace(Handover, "step", lambda self, **position: step(self, **{**position, "last_index": 0}))


def _proposals_not_held(replace: Replace) -> None:
    """Proposals of peers are turned away while the leader hands over."""
    replace(Handover, "hold", lambda _self, _peer, _proposal: False)


def _words_of_anybody(replace: Replace) -> None:
    """A node stands for election whoever tells it to, whenever that was."""

    def on_hand_over(self: Any, _peer: str, _word: Any) -> None:
        self._transport.handed_over_term = self._core.term

    replace(conversation.Conversation, "_on_hand_over", on_hand_over)


def _votes_withheld_from_the_chosen(replace: Replace) -> None:
    """Nobody sees that a request for votes comes of a hand-over."""
    take = conversation.Conversation._on_request_vote

    def on_request_vote(self: Any, peer: str, request: Any) -> None:
        take(self, peer, msgspec.structs.replace(request, handed_over=False))

    replace(conversation.Conversation, "_on_request_vote", on_request_vote)


def _the_full_stand_too(replace: Replace) -> None:
    replace(Elections, "yields", lambda _self, _now_s: False)


def _chosen_without_room(replace: Replace) -> None:
    replace(Handover, "choose", lambda _self, matches: min(matches, key=lambda peer: (matches[peer], peer)))


def _deletions_refused(replace: Replace) -> None:
    replace(Room, "takes", lambda self, **_: not self.is_full)
    replace(proposals, "makes_room", lambda _write: False)


def _entries_into_the_last_room(replace: Replace) -> None:
    check = Room.check

    def check_and_go_on(self: Any, now_s: float) -> None:
        check(self, now_s)
        self.is_gone = False

    replace(Room, "check", check_and_go_on)


REMEDIES: Final[dict[str, Remedy]] = {
    "flush": remedy("1", "the log is flushed before anything that rests on it counts", _no_flush),
    "sync": remedy("1", "a flush is synced", _unsynced),
    "flush before answers": remedy("1", "answers and votes leave after the flush", _answers_before_the_flush),
    "stored commit index": remedy("4", "the commit index is no later than the log's end", _commit_index_ahead),
    "known commit index": remedy("4", "what was not known to be committed is not", _commit_index_is_the_last),
    "stored vote": remedy("5", "the vote is in the log", _votes_forgotten),
    "stored term": remedy("5", "term and vote are in the log", _terms_forgotten),
    "terms of answers": remedy("6", "answers of another term are dropped", _answers_of_any_term),
    "guarded appends": remedy("7, 9, 10", "appends pass the guards at all", _appends_unguarded),
    "trimmed appends": remedy("7", "appends are trimmed to the first true conflict", _appends_untrimmed),
    "next index": remedy("7", "an acknowledgement never lowers what goes next", _next_index_may_fall),
    "known index": remedy("7", "what is known to be held is not asked for again", _next_index_below_the_known),
    "stripped appends": remedy("9", "what does not continue our log is stripped of its entries", _heartbeats_commit),
    "common commit index": remedy("9", "heartbeats commit what is provably common", _heartbeats_commit_what_they_say),
    "mismatches": remedy("10", "a mismatch is answered with the commit index", _mismatches_step_back),
    "snapshot and tail": remedy("11", "a log that holds the snapshot's last entry is kept", _snapshots_wipe_the_tail),
    "needless snapshots": remedy("11", "no snapshot replaces what is held in common", _snapshots_always_installed),
    "whole entries": remedy("12", "a batch exceeds every command", configured(appendEntriesBatchSizeBytes=1 << 10)),
    "origins": remedy("13", "a command carries a random origin", _one_origin),
    "deadlines": remedy("14", "every write has a deadline", _no_deadlines),
    "proposing again": remedy("14", "an unapplied command is proposed again", _not_proposed_again),
    "not too early": remedy("14", "only what can never be applied is proposed again", _proposed_again_too_early),
    "terms of refusals": remedy("14", "a refusal concerns the term it was for", _declined_in_any_term),
    "idempotency": remedy("14", "a retry returns the first outcome", _retries_applied_twice),
    "no pickles": remedy("19", "commands are opaque bytes", _library_applies),
    "known kinds": remedy("20", "entries of other kinds than ours are malformed", _entries_of_any_kind),
    "stepping down": remedy("17", "a leader without a majority steps down", configured(leaderFallbackTimeout=30.0)),
    "pre-vote": remedy("21", "pre-vote and withheld votes", _no_prevote),
    "withheld votes": remedy("21, 22", "votes are withheld after hearing from a leader", _votes_not_withheld),
    "start hold-off": remedy("22", "who has just started withholds its vote", _no_start_holdoff),
    "lease": remedy("22", "a lease is confirmed by a majority", _lease_for_every_leader),
    "drift bound": remedy("22", "a lease is shorter than the promise it rests on", _lease_without_drift),
    "lease's beginning": remedy("22", "a lease counts from when its round began", _lease_from_the_answer),
    "read round": remedy("22", "a linearizable read is confirmed by a majority", _reads_without_a_round),
    "own term's commit": remedy("22", "a read index needs a commit in its term", _reads_before_the_terms_first_commit),
    "applied index": remedy("22", "a read waits until its index is applied", _reads_before_apply),
    "pauses": remedy("23", "sending to a peer that is behind is paused", _no_pause),
    "heartbeat before offer": remedy("23", "a leader is known before its offer", _offers_ahead_of_heartbeats),
    "identity of votes": remedy("24", "one vote for each voter and term", _votes_without_identity),
    "agreed time": remedy("-", "commands are stamped with the agreed time", _leaders_clock),
    "kept log": remedy("-", "the log is kept for followers that need it", _entries_kept_for_nobody),
    "shown writes": remedy("-", "w beyond the majority counts what is shown", _held_counts_as_shown),
    "own reading": remedy("-", "a local read's age counts from this node's own reading", _level_when_told),
    "confirmed level": remedy("-", "only a confirmed leader vouches for a reading", _level_by_unconfirmed_leaders),
    "earlier readings": remedy("-", "a round vouches for readings from before it", _level_when_confirmed),
    "lives of readings": remedy("-", "an earlier life's reading says nothing", _level_of_any_life),
    "shown level": remedy("-", "level is what readers see, not what is applied", _level_before_it_shows),
    "handing over": remedy("-", "a leader without room hands over", _no_handing_over),
    "chosen member": remedy("-", "the member that has room and lacks least is chosen", _chosen_without_room),
    "level before the word": remedy(
        "-", "a member is level before it is told to stand", _handing_over_to_who_is_behind
    ),
    "lease given back": remedy("22", "who hands over holds no lease in that term", _lease_after_handing_over),
    "proposals held": remedy("-", "proposals are held while a leader hands over", _proposals_not_held),
    "whose word": remedy("21", "only the leader of this very term tells a member to stand", _words_of_anybody),
    "votes for the chosen": remedy(
        "21", "votes are not withheld from the chosen member", _votes_withheld_from_the_chosen
    ),
    "standing back": remedy("-", "who has no room leaves it to others to stand", _the_full_stand_too),
    "reserve for deletions": remedy("-", "deletions may use the reserve", _deletions_refused),
    "last room": remedy("-", "a follower's last room is kept for terms and votes", _entries_into_the_last_room),
    **STANDING,
    "batching": remedy("28", "the library sends at once", configured(appendEntriesUseBatch=True)),
}
