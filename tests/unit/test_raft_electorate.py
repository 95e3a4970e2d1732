"""Another membership is another value in one holder: every part of raft goes by it at its next step."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from raftkv.core.replicator import Pending
from raftkv.core.requests import Put, Write
from raftkv.core.voters import Voters
from raftkv.formats.identity import Standing as Membership
from raftkv.formats.raft_messages import Pong, PreVoteAnswer
from raftkv.machine.conversion import proposal_of
from raftkv.raft.electorate import Electorate
from raftkv.raft.leadership.agreed_time import AgreedTime
from raftkv.raft.leadership.elections import Elections
from raftkv.raft.measures import RaftMeasures
from raftkv.raft.reading.rounds import ReadRounds
from raftkv.raft.standing.divergence import Divergence, StateJudgement
from raftkv.raft.standing.readmission import Memory, Readmission
from raftkv.raft.writing.proposals import Proposals

ONE = Voters.of(["a"])
THREE = Voters.of(["a", "b", "c"])
FIVE = Voters.of(["a", "b", "c", "d", "e"])
JOINT = Voters((("a", "b", "c"), ("a", "d", "e")))
CLOCK_MS = 1_000_000


@pytest.fixture
def electorate():
    return Electorate("a", THREE)


def test_elections_ask_who_votes_when_they_count(electorate):
    elections = Elections(electorate=electorate, election_timeout_s=1.0, started_at_s=0.0, random=random.Random(1))
    position = SimpleNamespace(term=1, last_index=1, last_term=1, is_leader=False, election_deadline_s=0.0)
    granted = PreVoteAnswer(term=1, round=elections.open_round(position).round, granted=True)
    elections.add("b", granted)

    assert elections.won(position)
    electorate.voters = FIVE
    assert not elections.won(position)
    elections.add("d", granted)
    assert elections.won(position)
    electorate.voters = JOINT
    assert elections.won(position)


def test_a_lost_election_round_is_over(electorate):
    elections = Elections(electorate=electorate, election_timeout_s=1.0, started_at_s=0.0, random=random.Random(1))
    position = SimpleNamespace(term=1, last_index=1, last_term=1, is_leader=False, election_deadline_s=0.0)
    round_number = elections.open_round(position).round
    for peer in ("b", "c"):
        elections.add(peer, PreVoteAnswer(term=1, round=round_number, granted=False))
    electorate.voters = ONE

    assert not elections.won(position)


def test_rounds_of_reads_ask_who_votes_when_a_pong_comes(electorate):
    rounds = ReadRounds(electorate, election_timeout_s=1.0, drift_bound=0.0, heartbeat_s=0.1)
    indexes = []
    rounds.ask(indexes.append)
    ping = rounds.advance(term=1, leads=True, commit_index=7, now_s=0.0)
    electorate.voters = FIVE
    rounds.add("b", Pong(term=1, round=ping.round))

    assert indexes == []
    rounds.add("d", Pong(term=1, round=ping.round))
    assert indexes == [7]


def test_agreed_time_asks_who_votes_when_it_is_read(electorate):
    agreed = AgreedTime(electorate)
    for peer in ("b", "d", "e"):
        agreed.told(term=1, peer=peer, wall_ms=CLOCK_MS, now_s=0.0)

    assert agreed.read(term=1, wall_ms=3 * CLOCK_MS, machine_ms=0, now_s=0.0) == CLOCK_MS
    electorate.voters = ONE
    assert agreed.read(term=1, wall_ms=3 * CLOCK_MS, machine_ms=0, now_s=0.0) == 3 * CLOCK_MS


def test_differences_are_judged_by_who_votes(electorate):
    divergence = Divergence(electorate, heartbeat_s=1.0)
    divergence.applied(1, 111)
    divergence.told("b", 1, 111)

    assert divergence.judge(0.0) == StateJudgement()
    electorate.voters = FIVE
    assert divergence.judge(0.0) is None


def test_a_cluster_is_founded_by_who_votes(electorate):
    readmission = Readmission(
        electorate, Memory(standing=Membership.NEW), nonce=1, heartbeat_s=0.1, save=lambda _memory: None
    )
    electorate.voters = FIVE
    readmission.found(0.0)
    readmission.met("b", is_blank=True, knew_another_disk=False)
    readmission.found(100.0)

    assert not readmission.counts
    readmission.met("d", is_blank=True, knew_another_disk=False)
    readmission.found(100.0)
    assert readmission.counts


def test_writes_count_as_committed_by_who_votes(electorate):
    proposals = Proposals(electorate, origin=1, max_waiting=10, measures=RaftMeasures())
    pending = Pending()
    write = proposal_of(Write(operations=(Put(key=b"k", value=b"v"),)))
    proposals.add(write, acks=2, deadline_s=10.0, pending=pending)
    batch = proposals.next_batch(1, 0.0)
    electorate.voters = FIVE
    proposals.replicated(batch.sequence)

    ((_, outcome),) = proposals.take_settled()
    assert (outcome.committed, outcome.acks) == (False, 2)  # two of three would be a majority, two of five are none
