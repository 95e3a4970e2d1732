"""Every remedy against PySyncObj is taken away once, and the scenario that it is for must then fail.

A scenario that passes without its remedy tests nothing; this module is what keeps the hazard tests honest.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raftkv.raft import conversation, guards, internals, transport
from raftkv.raft.elections import Elections
from raftkv.raft.guards import Inbound
from raftkv.raft.journal import LogJournal
from raftkv.raft.messages import AppendAnswer
from raftkv.raft.proposals import Proposals
from raftkv.raft.reads import ReadRounds
from raftkv.raft.transport import GuardedTransport
from raftkv.storage.log import Log
from tests.simulation import test_hazards as hazards

Patch = Callable[[pytest.MonkeyPatch], None]


def no_flush(patch):
    patch.setattr(Log, "flush", lambda _self: None)


def forget_votes(patch):
    patch.setattr(LogJournal, "getVotedForNodeId", lambda _self: None)


def commit_index_ahead_of_the_log(patch):
    patch.setattr(LogJournal, "getRaftCommitIndex", lambda self: self._log.last_index + 50)


def answers_of_any_term(patch):
    patch.setattr(transport, "admit_answer", lambda _log, answer, **_: answer)


def appends_unguarded(patch):
    patch.setattr(transport, "admit_append", lambda _log, append: Inbound(hand_on=append))


def acknowledgements_may_lower_the_next_index(patch):
    def take_answer(self, peer, answer):
        message = {
            "type": "next_node_idx",
            "next_node_idx": answer.next_index,
            "reset": answer.reset,
            "success": answer.success,
        }
        self._onMessageReceived(self._nodes[peer], message)

    patch.setattr(GuardedTransport, "take_answer", take_answer)


def heartbeats_carry_the_leaders_commit_index(patch):
    patch.setattr(guards, "_heartbeat", lambda append, _common: append)


def mismatches_step_back_one_by_one(patch):
    admit = guards.admit_append

    def stepwise(log, append):
        verdict = admit(log, append)
        if isinstance(verdict.answer, AppendAnswer) and verdict.answer.reset:
            back = min(append.previous_index - 1, log.last_index)
            answer = AppendAnswer(
                term=append.term, sequence=append.sequence, next_index=max(2, back), success=False, reset=True
            )
            return Inbound(hand_on=verdict.hand_on, answer=answer)
        return verdict

    patch.setattr(transport, "admit_append", stepwise)


def configured(**changes) -> Patch:
    def patch_configuration(patch):
        original = internals.SyncObjConf
        patch.setattr(internals, "SyncObjConf", lambda **settings: original(**{**settings, **changes}))

    return patch_configuration


def one_origin_for_every_life(patch):
    build = Proposals.__init__
    patch.setattr(Proposals, "__init__", lambda self, **settings: build(self, **{**settings, "origin": 1}))


def no_deadlines(patch):
    patch.setattr(Proposals, "expire", lambda _self, _now_s, _reason: None)


def commands_are_not_proposed_again(patch):
    patch.setattr(Proposals, "entered_term", lambda _self, _term: None)


def the_library_applies(patch):
    patch.delattr(internals.Core, "_SyncObj__doApplyCommand")


def entries_of_any_kind(patch):
    patch.setattr(guards, "_check_shape", lambda _append: None)


def no_prevote(patch):
    patch.setattr(Elections, "due", lambda _self, _standing, _now_s: False)
    patch.setattr(Elections, "withholds", lambda _self, _now_s: False)
    patch.setattr(
        conversation.Conversation,
        "_on_request_vote",
        lambda self, peer, request: self._transport.take_vote_request(peer, request),
    )


def a_lease_for_every_leader(patch):
    patch.setattr(ReadRounds, "holds_lease", lambda _self, _term, _now_s: True)


def no_pause_for_peers_behind(patch):
    patch.setattr(GuardedTransport, "_pause", lambda _self, _node: None)


def votes_without_identity(patch):
    patch.setattr(
        GuardedTransport,
        "take_vote",
        lambda self, peer, vote: self._onMessageReceived(
            self._nodes[peer], {"type": "response_vote", "term": vote.term}
        ),
    )


TABLE = [
    ("1", no_flush, hazards.test_power_loss_of_all_nodes_keeps_every_acknowledged_write_1),
    ("1", no_flush, hazards.test_nothing_leaves_before_the_log_is_flushed_1),
    ("4", commit_index_ahead_of_the_log, hazards.test_a_leader_alone_acknowledges_nothing_after_a_restart_4),
    ("5", forget_votes, hazards.test_votes_and_terms_survive_power_loss_5),
    ("6", answers_of_any_term, hazards.test_a_stale_answer_of_an_earlier_term_commits_nothing_6),
    ("7", appends_unguarded, hazards.test_a_repeated_append_truncates_nothing_7),
    ("7", acknowledgements_may_lower_the_next_index, hazards.test_an_acknowledgement_never_lowers_what_goes_next_7),
    ("9", heartbeats_carry_the_leaders_commit_index, hazards.test_a_snapshot_does_not_commit_an_old_leaders_tail_9),
    ("10", mismatches_step_back_one_by_one, hazards.test_a_long_conflicting_tail_reconciles_at_once_10),
    (
        "12",
        configured(appendEntriesBatchSizeBytes=1 << 16),
        hazards.test_values_larger_than_any_batch_arrive_whole_12,
    ),
    ("13", one_origin_for_every_life, hazards.test_commands_of_an_earlier_life_settle_nothing_13),
    ("14", no_deadlines, hazards.test_a_lost_proposal_is_unknown_at_its_deadline_14),
    (
        "14",
        commands_are_not_proposed_again,
        hazards.test_an_unapplied_command_is_proposed_again_once_a_later_term_committed,
    ),
    (
        "17",
        configured(leaderFallbackTimeout=30.0),
        hazards.test_a_cut_off_leader_steps_down_within_an_election_timeout_17,
    ),
    ("19", the_library_applies, hazards.test_no_pickle_is_ever_loaded_19),
    ("20", entries_of_any_kind, hazards.test_a_membership_entry_of_a_peer_is_refused_20),
    ("21", no_prevote, hazards.test_a_returning_node_does_not_depose_the_leader_21),
    ("21", no_prevote, hazards.test_a_partial_partition_burns_no_terms_21),
    ("22", a_lease_for_every_leader, hazards.test_a_paused_leader_never_answers_a_lease_read_with_old_state_22),
    ("23", no_pause_for_peers_behind, hazards.test_a_follower_that_waits_for_a_snapshot_is_not_flooded_23),
    ("24", votes_without_identity, hazards.test_votes_are_counted_once_for_each_voter_24),
    ("28", configured(appendEntriesUseBatch=True), hazards.test_a_lone_client_does_not_wait_for_a_heartbeat_28),
]


@pytest.mark.parametrize(
    ("hazard", "take_away", "scenario"), TABLE, ids=[f"{row[0]}-{row[2].__name__}" for row in TABLE]
)
def test_without_its_remedy_the_scenario_fails(hazard, take_away, scenario, monkeypatch):
    take_away(monkeypatch)
    arguments = [monkeypatch] if hazard == "19" else []

    # Whatever breaks first is welcome: a broken promise, an invariant of ours, or the library's own exception.
    with pytest.raises((Exception, pytest.fail.Exception)):
        scenario(*arguments)
