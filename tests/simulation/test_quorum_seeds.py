"""Leaderless clusters by seed: every run keeps the promises, and each planted bug is found by one or by a scenario."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest

from raftkv.instruments.sim import promises
from raftkv.instruments.sim.planted import REMEDIES, without
from raftkv.instruments.sim.run import simulate
from tests.simulation import test_quorum_fates as fates
from tests.simulation import test_quorum_newcomers as newcomers
from tests.simulation import test_quorum_rights as rights
from tests.simulation import test_quorum_rings as rings
from tests.simulation import test_quorum_scenarios as scenarios
from tests.simulation import test_quorum_time as times
from tests.simulation import test_speculation as speculation
from tests.simulation.test_seeds import is_broken_promise
from tests.unit import test_quorum_coordination, test_quorum_exchange, test_quorum_store
from tests.unit.opened_store import opened

SEEDS = range(200)
CHUNK = 20

FOUND_BY_SEED = {
    "standing clock": 3,
    "early answers": 66,
    "overwriting": 0,
    "tombstones dropped": 0,
    "one replica twice": 56,
    "always definite": 7,
    "rules": 2,
    "old copies": 122,
    "judged requests": 4,
}
"""A seed that finds each. As any change of the code changes every run, it may have become another one of ``SEEDS``."""

FOUND_BY_SCENARIO: dict[str, Callable[[], None]] = {
    "hopeless waited for": scenarios.test_a_request_ends_once_too_few_answer_in_time,
    "silent asked again": scenarios.test_clients_go_on_at_once_behind_a_fresh_partition_and_after_it,
    "reserve for deletions": scenarios.test_deletions_use_the_reserve_of_a_full_disk_down_to_half_of_it,
    "made twice": fates.test_a_write_that_was_seen_and_deleted_is_not_made_again,
    "overtaken though shown": (
        fates.test_a_write_that_w_replicas_came_to_show_is_done_although_a_concurrent_one_was_first_at_the_third
    ),
    "shown by one": fates.test_a_write_that_fewer_than_w_replicas_came_to_show_is_not_called_done,
    "first word believed": fates.test_the_word_of_one_who_has_met_nobody_does_not_say_that_no_disk_was_lost,
    "strangers counted": newcomers.test_a_newcomer_that_does_not_come_is_neither_listed_nor_asked_nor_counted,
    "anybody let go": newcomers.test_nobody_is_let_go_without_whom_a_quorum_is_lost,
    "all let go": lambda: newcomers.test_members_that_let_each_other_go_at_once_do_not_all_leave((2, 2, 1)),
    "no observing": scenarios.test_a_wild_clock_drags_no_other_along_by_writes_hints_or_exchanges,
    "one stamp": test_quorum_coordination.test_a_write_that_would_lose_is_stamped_again_once_and_alone,
    "empty answers": fates.test_a_node_that_lost_its_disk_answers_no_reads_before_it_has_its_data_back,
    "empty acknowledgements": fates.test_a_node_that_lost_its_disk_acknowledges_no_writes_before_it_has_its_data_back,
    "too few read": fates.test_a_read_of_two_replicas_waits_for_the_second,
    "late counted": speculation.test_an_answer_that_comes_after_that_of_another_is_still_used_to_repair,
    "late waited for": (
        speculation.test_when_the_first_replica_is_slow_another_is_asked_and_that_one_asked_last_until_it_is_quick_again
    ),
    "late asked first": (
        speculation.test_when_the_first_replica_is_slow_another_is_asked_and_that_one_asked_last_until_it_is_quick_again
    ),
    "fixed delay": speculation.test_how_long_is_waited_follows_the_answers_within_bounds,
    "boundless delay": speculation.test_how_long_is_waited_follows_the_answers_within_bounds,
    "passed over": speculation.test_a_replica_that_reads_pass_over_is_compared_now_and_then,
    "others left behind": speculation.test_where_the_answers_differ_the_others_are_asked_as_well_and_repaired,
    "full disk ignored": scenarios.test_a_write_that_finds_the_disk_full_is_unknown_and_the_next_is_refused,
    "hints dropped when sent": scenarios.test_a_hint_stays_until_the_node_that_it_is_for_has_it_on_its_disk,
    "grown hints dropped": lambda: test_quorum_store.test_a_hint_is_dropped_only_if_it_has_not_grown(
        opened(test_quorum_store.MemoryEngine(test_quorum_store.TABLES))
    ),
    "hints of the departed": scenarios.test_hints_for_a_node_that_has_left_reach_the_new_owners,
    "definite origin": fates.test_a_write_that_its_origin_may_have_made_is_never_definitely_refused,
    "dropped without comparing": (
        rings.test_what_does_not_belong_to_a_node_is_handed_to_all_owners_before_it_is_forgotten
    ),
    "not all owners asked": rings.test_a_node_is_not_in_until_it_has_asked_who_alone_has_the_data,
    "moved nothing": rings.test_a_node_is_not_in_until_it_has_asked_who_alone_has_the_data,
    "stepping alone": rings.test_no_step_is_taken_while_a_live_member_has_not_heard_of_the_one_before,
    "old owners only": rings.test_a_write_that_comes_in_after_the_data_was_fetched_is_not_missed_when_reads_move,
    "arriving at once": rings.test_a_write_while_two_nodes_join_is_not_missed_when_reads_move_to_one_of_them,
    "changes confused": (
        rings.test_what_a_newcomer_had_fetched_before_it_was_let_go_counts_for_nothing_when_it_joins_again
    ),
    "one actor": rings.test_a_node_that_lost_its_disk_does_not_claim_to_have_seen_what_it_forgot,
    "first sizes": scenarios.test_nodes_that_begin_with_other_sizes_take_no_part_with_each_other_and_say_which,
    "own stamps": times.test_a_write_at_a_node_whose_clock_is_ahead_is_stamped_like_any_other_and_hides_no_later_one,
    "own expiry": times.test_a_key_lives_as_long_as_it_was_told_at_every_node_whatever_one_clock_shows,
    "own grace": times.test_deletions_that_others_have_forgotten_are_not_undone_by_a_node_whose_clock_is_behind,
    "shown before its time": times.test_data_stays_out_until_all_clocks_are_heard_where_two_differ_about_its_age,
    "declined stamps kept": times.test_a_write_beyond_what_others_take_is_refused_and_kept_nowhere,
    "stamping in a leap": times.test_while_agreed_time_leaps_nobody_stamps_what_another_declines,
    "first clock believed": times.test_a_node_that_has_heard_no_majority_of_clocks_refuses_and_shows_only_its_own_copy,
    "done before durable": test_quorum_exchange.test_a_session_goes_on_only_when_what_came_in_is_durable,
    "judging replicas": rights.test_a_replica_that_knows_of_a_revocation_refuses_though_the_coordinator_does_not,
    "promises of rights": rights.test_of_many_that_change_the_same_at_once_none_undoes_what_another_did,
    "latest rights": rights.test_a_change_is_made_of_what_a_dead_one_left_behind,
    "most members": rights.test_a_change_that_no_majority_hears_of_is_refused_and_never_made,
    "rights heard lately": rights.test_who_is_cut_off_lets_nobody_in_once_what_it_has_heard_of_rights_is_old,
    "rights read anew": rights.test_who_reads_users_misses_nothing_that_was_done,
    "who counts": rights.test_who_has_lost_its_disk_counts_once_most_others_have_said_what_they_know,
}


@pytest.mark.parametrize("first", SEEDS[::CHUNK])
def test_every_seed_keeps_the_promises(first):
    failures = {seed: simulate(seed, mode="quorum").failure for seed in range(first, first + CHUNK)}
    broken = {seed: failure for seed, failure in failures.items() if failure}

    assert not broken, "\n".join(
        f"python -m raftkv.instruments.lab.seeds --mode quorum --seed {seed}" for seed in broken
    )


def test_one_seed_is_one_run():
    one, again = (simulate(11, mode="quorum").digest for _ in range(2))

    assert one == again


@pytest.mark.parametrize("bug", FOUND_BY_SEED)
def test_a_planted_bug_is_found_by_a_seed(bug):
    with without(bug, "quorum"):
        assert any(is_broken_promise(simulate(seed, mode="quorum").failure) for seed in (FOUND_BY_SEED[bug], *SEEDS))


@pytest.mark.parametrize(("bug", "scenario"), FOUND_BY_SCENARIO.items())
def test_a_planted_bug_is_found_by_its_scenario(bug, scenario):
    scenario()
    with without(bug, "quorum"), pytest.raises(AssertionError):
        scenario()


def test_every_planted_bug_is_looked_for_and_the_documents_tell_of_it():
    page = (Path(__file__).parents[2] / "docs" / "how_we_know.rst").read_text()

    assert set(REMEDIES["quorum"]) == {*FOUND_BY_SEED, *FOUND_BY_SCENARIO}
    assert [name for name, bug in REMEDIES["quorum"].items() if f'   {name}, "{bug.what}", ' not in page] == []


ANOMALIES = {
    "stale read, R + W <= N": (13, lambda read, write: read.is_strict and write.is_strict),
    "stale read, sloppy quorums": (171, lambda read, write: read.r + write.w > max(read.n, write.n)),
}
"""Seeds that break what is promised only of strict quorums that meet, and what would have to be promised otherwise."""


@pytest.mark.parametrize("name", ANOMALIES)
def test_an_anomaly_is_found_where_nothing_is_promised(name):
    known, meet = ANOMALIES[name]
    with mock.patch.object(promises, "meet", meet):
        assert any("stale" in simulate(seed, mode="quorum").failure for seed in (known, *SEEDS))
