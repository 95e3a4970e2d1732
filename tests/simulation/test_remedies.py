"""Every remedy against PySyncObj is taken away once, and the scenario that it is for must then fail.

A scenario that passes without its remedy tests nothing; this module is what keeps the hazard tests honest.
``test_seeds`` does the same with random seeds.
"""

from __future__ import annotations

import pytest

from raftkv.instruments.sim import planted
from tests.simulation import test_clock as clock
from tests.simulation import test_divergence as divergence
from tests.simulation import test_freshness as freshness
from tests.simulation import test_handover as handover
from tests.simulation import test_hazards as hazards
from tests.simulation import test_hazards_leadership as leadership
from tests.simulation import test_hazards_snapshots as snapshots
from tests.simulation import test_leases as leases
from tests.simulation import test_member_cases as cases
from tests.simulation import test_members as members
from tests.simulation import test_pace as pace
from tests.simulation import test_preference as preference
from tests.simulation import test_readmission as readmission
from tests.simulation import test_recovery as recovery
from tests.simulation import test_restored as restored
from tests.simulation import test_retention as retention
from tests.simulation import test_rights as rights
from tests.simulation import test_versions as versions
from tests.unit import test_peers_greeting as greeting
from tests.unit import test_raft_stamping as stamping

TABLE = [
    ("flush", hazards.test_power_loss_of_all_nodes_keeps_every_acknowledged_write_1),
    ("flush", hazards.test_nothing_leaves_before_the_log_is_flushed_1),
    ("stored commit index", hazards.test_a_leader_alone_acknowledges_nothing_after_a_restart_4),
    ("stored vote", leadership.test_votes_and_terms_survive_power_loss_5),
    ("terms of answers", hazards.test_a_stale_answer_of_an_earlier_term_commits_nothing_6),
    ("guarded appends", hazards.test_a_repeated_append_truncates_nothing_7),
    ("next index", hazards.test_an_acknowledgement_never_lowers_what_goes_next_7),
    ("known index", snapshots.test_a_reset_below_what_a_follower_is_known_to_hold_does_not_stop_it),
    ("stripped appends", snapshots.test_a_snapshot_does_not_commit_an_old_leaders_tail_9),
    ("mismatches", hazards.test_a_long_conflicting_tail_reconciles_at_once_10),
    ("whole entries", hazards.test_values_larger_than_any_batch_arrive_whole_12),
    ("origins", hazards.test_commands_of_an_earlier_life_settle_nothing_13),
    ("deadlines", hazards.test_a_lost_proposal_is_unknown_at_its_deadline_14),
    ("proposing again", hazards.test_an_unapplied_command_is_proposed_again_once_a_later_term_committed),
    ("stepping down", leadership.test_a_cut_off_leader_steps_down_within_an_election_timeout_17),
    ("no pickles", hazards.test_no_pickle_is_ever_loaded_19),
    ("known kinds", hazards.test_a_membership_entry_of_a_peer_is_refused_20),
    ("pre-vote", leadership.test_a_returning_node_does_not_depose_the_leader_21),
    ("pre-vote", leadership.test_a_partial_partition_burns_no_terms_21),
    ("withheld votes", leadership.test_a_partial_partition_burns_no_terms_21),
    ("lease", leadership.test_a_paused_leader_never_answers_a_lease_read_with_old_state_22),
    ("read round", leadership.test_a_paused_leader_never_answers_a_lease_read_with_old_state_22),
    ("start hold-off", leadership.test_a_node_that_has_just_started_ends_no_lease_that_it_may_have_granted_22),
    ("drift bound", leadership.test_a_lease_is_over_before_those_whose_clocks_run_faster_elect_another_22),
    ("lease's beginning", leadership.test_a_lease_is_no_longer_when_its_confirmation_is_slow_22),
    ("needless snapshots", snapshots.test_an_offered_snapshot_does_not_replace_what_a_follower_holds_already_11),
    ("pauses", snapshots.test_a_follower_that_waits_for_a_snapshot_is_not_flooded_23),
    ("heartbeat before offer", snapshots.test_a_follower_that_has_just_started_takes_the_first_snapshot_offered_23),
    ("identity of votes", leadership.test_votes_are_counted_once_for_each_voter_24),
    ("batching", hazards.test_a_lone_client_does_not_wait_for_a_heartbeat_28),
    ("batching", pace.test_what_comes_in_while_the_leader_flushes_leaves_right_after),
    ("one append a turn", pace.test_what_came_in_before_one_turn_leaves_in_one_append),
    ("kept log", retention.test_a_follower_catches_up_from_a_slow_snapshot_while_writes_go_on),
    ("own reading", freshness.test_a_value_is_as_old_as_its_way_here_was_long),
    ("confirmed level", freshness.test_a_leader_that_was_deposed_vouches_for_nobody),
    ("lives of readings", freshness.test_a_reading_of_an_earlier_life_says_nothing),
    ("leaps at the beginning", stamping.test_it_waits_as_long_as_the_state_may_tell_yet_that_they_do),
    ("handing over", handover.test_a_leader_without_room_hands_over_and_no_write_is_refused),
    ("chosen member", handover.test_the_member_that_lacks_least_and_has_room_is_chosen),
    ("level before the word", handover.test_a_member_that_is_not_level_is_not_told_to_stand),
    ("lease given back", handover.test_who_handed_over_holds_no_lease_whatever_comes_of_it),
    ("proposals held", handover.test_when_nothing_comes_of_it_the_leader_goes_on),
    ("whose word", handover.test_a_word_of_an_earlier_term_or_of_another_member_moves_nobody),
    ("votes for the chosen", handover.test_it_takes_no_election_timeout),
    ("preferred leader", preference.test_no_write_is_refused_or_in_doubt_while_leadership_goes_to_the_preferred_one),
    ("well for a while", preference.test_who_comes_and_goes_does_not_lead),
    ("keeping up", preference.test_who_does_not_keep_up_does_not_lead),
    ("connections kept", preference.test_who_comes_and_goes_does_not_lead),
    ("who wants to lead", preference.test_leadership_does_not_go_to_and_fro_where_files_differ),
    ("longer each time", preference.test_each_attempt_that_comes_to_nothing_is_farther_from_the_one_before),
    ("standing back", handover.test_a_node_without_room_leaves_it_to_others_to_stand),
    (
        "reserve for deletions",
        handover.test_where_nobody_has_room_writes_are_refused_deletions_taken_and_everybody_says_so,
    ),
    ("last room", handover.test_a_follower_without_any_room_takes_no_entries_and_catches_up_when_it_has_some),
    ("room for the log", handover.test_a_snapshot_takes_no_new_segment_where_the_log_may_need_one_soon),
    ("one early segment", handover.test_snapshots_that_fail_again_and_again_take_one_segment),
    ("own term before a change", cases.test_a_member_comes_and_another_goes_in_two_terms),
    ("own term before a change", cases.test_two_members_come_in_two_terms),
    ("own term before a change", cases.test_two_members_go_in_two_terms),
    ("one change at a time", members.test_there_is_one_change_at_a_time),
    ("learning first", cases.test_a_new_node_that_nobody_reaches_costs_no_quorum_while_a_member_is_down),
    ("catching up", cases.test_who_has_not_caught_up_is_not_let_vote_by_request),
    ("promotion", members.test_a_node_that_is_let_in_learns_and_then_votes_by_itself),
    ("in force when appended", members.test_a_change_that_was_not_committed_is_undone_with_its_entry),
    ("undone with its entry", members.test_a_change_that_was_not_committed_is_undone_with_its_entry),
    ("undone with its entry", cases.test_a_leader_that_is_cut_off_with_a_new_node_changes_nothing),
    ("members before votes", members.test_what_is_in_force_is_what_was_appended_last_also_after_a_restart_of_all),
    ("members of the snapshot", cases.test_a_snapshot_does_not_carry_members_that_come_after_it),
    ("learners do not stand", cases.test_who_only_learns_never_leads),
    ("living quorum", members.test_what_would_cost_the_quorum_is_refused),
    ("entries taken", members.test_who_answers_and_has_no_room_for_entries_is_not_counted_on),
    ("leaders removed", members.test_a_leader_that_is_removed_hands_over_first_and_ends),
    ("farewells", members.test_a_leader_that_is_removed_hands_over_first_and_ends),
    ("former members", members.test_a_member_that_was_removed_comes_back_as_one_that_lost_its_disk),
    ("pre-vote", cases.test_a_member_that_was_removed_and_has_not_heard_of_it_disturbs_nobody),
    ("pauses", cases.test_a_new_member_that_lacks_everything_costs_the_leader_nothing),
    ("removal withheld", cases.test_a_member_that_is_being_removed_elects_the_other_when_the_leader_is_gone),
    ("founded once", members.test_who_founded_the_cluster_alone_and_repairs_itself_does_not_found_it_again),
    ("disk that caught up", cases.test_a_voter_that_was_let_in_and_lost_its_disk_counts_no_sooner_than_any_other),
    (
        "flush of the only voter",
        cases.test_the_only_voter_commits_nothing_of_a_learner_before_it_is_flushed,
    ),
    (
        "flush of the only voter",
        cases.test_the_only_voter_that_leads_again_commits_nothing_before_it_is_flushed,
    ),
    ("entries taken", cases.test_a_leader_that_has_only_just_been_elected_takes_nobody_for_alive),
    ("links by word", members.test_a_node_is_let_in_by_a_snapshot_of_before_any_change),
    ("leaders by request", cases.test_leadership_moves_as_often_as_it_is_asked_for),
    ("emptied disks", readmission.test_an_emptied_node_elects_nobody_who_lacks_what_it_had_acknowledged),
    ("uncounted answers", readmission.test_an_emptied_node_acknowledges_and_confirms_nothing_that_counts),
    ("uncounted pongs", readmission.test_an_emptied_node_acknowledges_and_confirms_nothing_that_counts),
    ("terms of all", readmission.test_a_forgotten_vote_is_not_given_again),
    ("forgotten votes", readmission.test_a_forgotten_vote_is_not_given_again),
    ("durable standing", readmission.test_an_emptied_node_that_restarts_has_not_forgotten_that_it_does_not_count),
    ("founders", readmission.test_a_cluster_is_founded_by_a_majority_of_new_nodes_and_a_late_one_catches_up_first),
    ("wait for the missing", readmission.test_two_emptied_nodes_that_meet_before_the_third_found_no_cluster_anew),
    ("old copies", readmission.test_an_old_copy_of_a_disk_takes_no_part_and_says_why),
    ("outdated greetings", greeting.test_a_greeting_from_a_life_that_is_over_undoes_nothing_that_was_learnt_since),
    ("own memory", readmission.test_an_old_copy_of_a_disk_takes_no_part_and_says_why),
    ("rules", readmission.test_nodes_with_other_rules_take_no_part_and_both_say_which),
    ("restored clusters", restored.test_a_node_of_the_old_cluster_takes_no_part_in_the_restored_one),
    ("read by all", versions.test_what_a_member_does_not_read_is_refused_by_its_name_until_it_is_upgraded),
    *[("agreed time", scenario) for scenario in clock.SCENARIOS],
    *[("lease time", scenario) for scenario in leases.SCENARIOS],
    ("lease time of the log", leases.after_a_power_cut_lease_time_goes_on_from_the_log),
    ("ticks", leases.while_no_node_runs_no_lease_ends),
    ("time of outcomes", leases.a_repeat_after_a_leap_is_told_the_same),
    ("compared hashes", divergence.test_a_follower_that_is_wrong_stops_serving_and_says_so),
    ("compared hashes", divergence.test_a_leader_that_is_wrong_stops_leading),
    ("stopped replicas", divergence.test_a_follower_that_is_wrong_stops_serving_and_says_so),
    ("elections of the stopped", divergence.test_a_candidate_that_stops_does_not_lead_though_others_vote_for_it),
    ("repaired replicas", divergence.test_a_repaired_replica_does_not_count_before_it_has_all_again),
    ("ended differences", divergence.test_a_difference_that_a_rebuild_has_ended_stops_nobody),
    ("givers", divergence.test_a_repair_waits_for_a_node_that_fetches_its_own_data),
    ("one repair at a time", divergence.test_of_two_that_are_told_to_repair_themselves_at_once_one_does_at_most),
    ("ties", divergence.test_in_a_tie_both_stop),
    ("durable standing", divergence.test_whoever_was_wrong_still_is_after_a_restart),
    ("judged where it is applied", rights.test_a_write_through_a_node_that_knows_of_no_revocation_is_refused_by_all),
    ("rights of a snapshot", rights.test_a_snapshot_brings_the_rights_by_which_what_follows_is_judged),
    ("generations", rights.test_rights_outlive_the_loss_of_power_everywhere),
    ("nobody's commands", rights.test_rights_outlive_the_loss_of_power_everywhere),
    ("entries of a survivor", recovery.test_what_the_survivor_was_sent_is_there_though_it_never_heard_of_the_commit),
    ("longest log", recovery.test_of_several_survivors_the_one_that_is_chosen_has_what_any_of_them_had_acknowledged),
    ("names of outcomes", rights.test_the_idempotency_keys_of_each_user_are_his_own),
    ("judged reads", rights.test_reads_are_judged_by_the_state_that_answers_them),
]


@pytest.mark.parametrize(("remedy", "scenario"), TABLE, ids=[f"{row[0]}-{row[1].__name__}" for row in TABLE])
def test_without_its_remedy_the_scenario_fails(remedy, scenario, monkeypatch):
    arguments = [monkeypatch] if "pickle" in scenario.__name__ else []

    # Only a broken promise or invariant counts: a plant that no longer fits the code raises something else, and fails.
    with planted.without(remedy), pytest.raises((AssertionError, pytest.fail.Exception)):
        scenario(*arguments)
