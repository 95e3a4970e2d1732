"""Parts of raft need of the engine what they declare, and no more: here they work on one that is none."""

from __future__ import annotations

import random
from types import SimpleNamespace

from raftkv.core.errors import Code, Refused
from raftkv.core.replicator import Pending
from raftkv.core.results import KeyPage, KeyRecord, Transacted, Written
from raftkv.core.voters import Voters
from raftkv.formats.entries import NO_OP
from raftkv.formats.identity import Standing
from raftkv.formats.raft_messages import AskTerm, HandOver, PreVote, PreVoteAnswer, RequestVote, TermAnswer, Vote
from raftkv.raft.applied import COMMIT_DELAY_S, HEARD_DELAY_S, AppliedMachine
from raftkv.raft.electorate import Electorate
from raftkv.raft.leadership.agreed_time import AgreedTime
from raftkv.raft.leadership.elections import Elections
from raftkv.raft.leadership.handover import Handover
from raftkv.raft.leadership.voting import Voting
from raftkv.raft.measures import RaftMeasures
from raftkv.raft.reading.rounds import ReadRounds
from raftkv.raft.room import DiskRoom
from raftkv.raft.standing.divergence import Divergence, StateJudgement
from raftkv.raft.standing.participation import Participation
from raftkv.raft.standing.readmission import Memory, Readmission
from raftkv.raft.writing.proposals import answers_bytes

TIMEOUT_S = 1.0


class Engine:
    """Answers the ports of several parts; remembers what it was told, and what was posted."""

    def __init__(self, *, is_leader=False, matches=(), up=("b", "c")):
        self.term, self.is_leader, self.leads_committed_term, self.leader_id = 3, is_leader, is_leader, "a"
        self.last_index, self.last_term, self.election_deadline_s = 10, 3, 0.0
        self.handed_over_term = None
        self.posted, self.votes_asked, self.votes_taken = [], [], []
        self._matches, self._up = dict(matches), up

    def post(self, peer, message):
        self.posted.append((peer, message))

    def is_up(self, peer):
        return peer in self._up

    def match_index(self, peer):
        return self._matches[peer]

    def match_indexes(self):
        return self._matches

    def take_vote(self, peer, _vote):
        self.votes_taken.append(peer)

    def take_vote_request(self, peer, _request):
        self.votes_asked.append(peer)


class Setting(SimpleNamespace):
    def __init__(self, engine, *, free_bytes=100, standing=Standing.MEMBER):
        electorate = Electorate("a", Voters.of("abc"))
        super().__init__(
            electorate=electorate,
            room=DiskRoom(lambda: free_bytes, reserve_bytes=50),
            rounds=ReadRounds(electorate, election_timeout_s=TIMEOUT_S, drift_bound=0.0, heartbeat_s=0.1),
            elections=Elections(
                electorate=electorate, election_timeout_s=TIMEOUT_S, started_at_s=0.0, random=random.Random(1)
            ),
            readmission=Readmission(
                electorate, Memory(standing=standing), nonce=1, heartbeat_s=0.1, save=lambda _memory: None
            ),
        )
        self.room.check(0.0)
        self.voting = Voting(
            electorate=electorate,
            core=engine,
            ballots=engine,
            outgoing=engine,
            elections=self.elections,
            rounds=self.rounds,
            agreed_time=AgreedTime(electorate),
            readmission=self.readmission,
            room=self.room,
            election_timeout_s=TIMEOUT_S,
        )


def test_who_would_be_elected_stands_and_who_would_not_be_asks_again_later():
    engine = Engine()
    voting = Setting(engine).voting
    voting.work(2.0)
    asked = {peer: message for peer, message in engine.posted if isinstance(message, PreVote)}

    assert set(asked) == {"b", "c"}
    assert 2.0 < engine.election_deadline_s < float("inf")
    answer = PreVoteAnswer(term=3, round=asked["b"].round, granted=True)
    voting.handlers()[PreVoteAnswer]("b", answer, 2.0)
    voting.work(2.1)
    assert engine.election_deadline_s == float("-inf")


def test_who_stops_counting_wins_no_election_that_it_began():
    engine = Engine()
    setting = Setting(engine)
    voting = setting.voting
    voting.work(2.0)
    (request,) = {message.round for _, message in engine.posted if isinstance(message, PreVote)}
    voting.handlers()[PreVoteAnswer]("b", PreVoteAnswer(term=3, round=request, granted=True), 2.0)
    setting.readmission.judged(StateJudgement("its state differs"))

    voting.work(2.1)
    voting.handlers()[Vote]("b", Vote(term=3, wall_ms=1), 2.2)

    assert engine.election_deadline_s > 2.1
    assert engine.votes_taken == []
    engine.handed_over_term = 3
    voting.work(2.3)
    assert engine.election_deadline_s > 2.3


def test_a_vote_is_withheld_after_hearing_from_a_leader_but_not_from_whom_that_one_chose():
    engine = Engine()
    setting = Setting(engine)
    setting.elections.heard(5.0)
    take = setting.voting.handlers()[RequestVote]
    take("b", RequestVote(term=4, last_log_index=10, last_log_term=3), 5.5)

    assert engine.votes_asked == []
    take("c", RequestVote(term=4, last_log_index=10, last_log_term=3, handed_over=True), 5.5)
    assert engine.votes_asked == ["c"]


def test_a_leader_without_room_tells_the_member_with_room_that_lacks_nothing():
    engine = Engine(is_leader=True, matches={"b": 4, "c": 10})
    setting, forsworn = Setting(engine, free_bytes=10), []
    handover = Handover(
        electorate=Electorate("a", Voters.of(["a", "b", "c"])),
        core=engine,
        outgoing=engine,
        room=setting.room,
        election_timeout_s=TIMEOUT_S,
        held_bytes=100,
        forswear=forsworn.append,
    )
    handover.told("c", has_room=True)
    handover.work(1.0)

    assert engine.posted == [("c", HandOver(term=3))]
    assert forsworn == [3]


def repair(*, standing, up):
    engine = Engine(up=up)
    setting = Setting(engine, standing=standing)
    divergence = Divergence(setting.electorate, heartbeat_s=0.1)
    for peer in up:
        divergence.told(peer, 1, 7)
    participation = Participation(
        electorate=setting.electorate,
        core=engine,
        outgoing=engine,
        rounds=setting.rounds,
        readmission=setting.readmission,
        divergence=divergence,
        turn_away=lambda _refusal: None,
    )
    pending = Pending()
    participation.repair(pending, 5.0)
    for peer, ask in [posted for posted in engine.posted if isinstance(posted[1], AskTerm)]:
        participation.handlers()[TermAnswer](peer, TermAnswer(nonce=ask.nonce, term=3), 1.0)
    return pending.outcome, participation.discards


def test_only_a_node_that_is_wrong_is_repaired_and_only_when_all_others_are_there():
    sound, sound_discards = repair(standing=Standing.MEMBER, up=("b", "c"))
    alone, alone_discards = repair(standing=Standing.DIVERGED, up=("b",))
    _, discards = repair(standing=Standing.DIVERGED, up=("b", "c"))

    assert isinstance(sound, Refused)
    assert sound.code is Code.NOT_SUPPORTED
    assert alone.code is Code.QUORUM_UNREACHABLE
    assert (sound_discards, alone_discards, discards) == (False, False, True)


def test_all_that_commands_have_read_counts_in_pages_and_in_transactions_too():
    record = KeyRecord(key=b"k", value=b"v" * 1000, version=1, create_revision=1, mod_revision=1)
    page = KeyPage(records=(record, record), next_start=None)
    nested = Transacted(succeeded=True, results=(Transacted(succeeded=True, results=(page,)), record))
    weights = [answers_bytes((Written(results=(one,), revision=1, acks=1),)) for one in (record, page, nested)]

    assert weights[0] > 1000
    assert weights == [weights[0], 2 * weights[0], 3 * weights[0]]


def test_what_was_applied_is_shown_sooner_while_somebody_wants_to_hear_of_it():
    now_s, commits, heard = [0.0], [], []
    nothing = lambda *_: None  # noqa: E731  the other parts are told, and need do nothing
    machine = SimpleNamespace(applied_index=0, revision=0, state_hash=0)
    machine.skip = lambda index, _term: setattr(machine, "applied_index", index)
    applied = AppliedMachine(
        SimpleNamespace(tables=SimpleNamespace(commit=lambda: commits.append(now_s[0]))),
        machine,
        divergence=SimpleNamespace(applied=nothing),
        visibility=SimpleNamespace(awaited=False, committed=nothing),
        freshness=SimpleNamespace(shown=nothing),
        proposals=SimpleNamespace(entered_term=nothing),
        stamped=nothing,
        clock=lambda: now_s[0],
        measures=RaftMeasures(),
    )

    def shown_after(index):
        began_s = now_s[0]
        applied.apply(index, 1, NO_OP)
        assert not applied.commit(began_s, at_once=False)
        assert not commits or commits[-1] < began_s
        now_s[0] = applied.due_s
        applied.commit(now_s[0], at_once=False)
        assert commits[-1] == now_s[0]
        now_s[0] += 1
        return commits[-1] - began_s

    assert shown_after(1) == COMMIT_DELAY_S
    subscription = applied.subscribers.add(lambda shown: heard.append(shown.applied_index))
    assert 0 < shown_after(2) < 2 * HEARD_DELAY_S < COMMIT_DELAY_S
    assert heard == [1, 2]
    subscription.end()
    assert shown_after(3) > HEARD_DELAY_S * 2
