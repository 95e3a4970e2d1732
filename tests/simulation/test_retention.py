"""A follower that needs a snapshot while writes never pause: the leader keeps the log it will need next."""

from __future__ import annotations

from raftkv.raft.snapshots.retention import ENTRY_OVERHEAD_BYTES, HELD_LOGS
from raftkv.raft.snapshots.transfer import ABSENT_S
from tests.simulation.cluster import Cluster

SLOW_S = 1.0


def loads_slowly(member, seconds=SLOW_S):
    """Let this node's next snapshots take a second to load, while one follows the other every few milliseconds."""
    snapshots = member.snapshots
    start_load = snapshots.start_load

    def slow_start(manifest, directory):
        start_load(manifest, directory)
        snapshots.busy_until_s = member.machine.now_s() + seconds

    snapshots.start_load = slow_start


def away_and_behind(**settings):
    """A cluster under writes, and one of its followers that needs a snapshot."""
    cluster = Cluster(3, snapshot_entries=4, **settings)
    leader = cluster.elect()
    away = cluster.others(leader)[0]
    cluster.kill(away)
    for number in range(30):
        cluster.put_now(leader, b"a%d" % number)
    return cluster, leader, away


def write_without_pause(cluster, leader, seconds):
    """Writes one after the other, each a log entry; returns the last key that was acknowledged."""
    end_s, number = cluster.now_s + seconds, 0
    while cluster.now_s < end_s:
        cluster.put_now(leader, b"c%d" % number)
        number += 1
    return b"c%d" % (number - 1)


def catches_up_under_writes(cluster, leader, away):
    loads_slowly(cluster.members[away])
    cluster.restart(away)
    write_without_pause(cluster, leader, 4.0)
    gap = cluster.members[leader].core.last_index - cluster.members[away].core.applied_index
    assert gap < 20, f"the follower is {gap} entries behind"


def test_a_follower_catches_up_from_a_slow_snapshot_while_writes_go_on():
    catches_up_under_writes(*away_and_behind())


def test_a_transfer_goes_on_after_the_connection_broke():
    cluster, leader, away = away_and_behind()
    loads_slowly(cluster.members[away])
    cluster.restart(away)
    write_without_pause(cluster, leader, 0.5)
    offered = cluster.members[leader].replica.parts.transfers._sending[away].manifest
    cluster.disconnect(leader, away)
    write_without_pause(cluster, leader, 3.5)

    gap = cluster.members[leader].core.last_index - cluster.members[away].core.applied_index
    assert gap < 20
    assert offered.index in cluster.members[away].snapshots.bodies


def test_what_was_kept_goes_once_the_follower_has_caught_up():
    cluster, leader, away = away_and_behind()
    cluster.restart(away)
    write_without_pause(cluster, leader, 3.0)
    cluster.run(2.0)

    assert len(cluster.members[leader].log) < 20


def loading_for_ever(**settings):
    """A cluster whose leader keeps its log for a follower that never finishes loading."""
    cluster, leader, away = away_and_behind(**settings)
    loads_slowly(cluster.members[away], seconds=10**9)
    cluster.restart(away)
    cluster.run_until(lambda: cluster.members[away].replica.parts.transfers._loading is not None)
    return cluster, leader, away


def test_for_a_follower_that_stays_away_the_log_is_kept_for_a_while_only():
    cluster, leader, away = loading_for_ever()
    cluster.kill(away)
    write_without_pause(cluster, leader, 2.0)
    kept_count = len(cluster.members[leader].log)
    cluster.run(ABSENT_S + 2.0)

    assert kept_count > 50
    assert len(cluster.members[leader].log) < 20


def test_the_log_kept_for_followers_is_bounded_in_bytes():
    log_bytes = 1 << 13
    cluster, leader, _ = loading_for_ever(snapshot_log_bytes=log_bytes)
    largest_bytes = 0
    for number in range(400):
        cluster.put_now(leader, b"k%d" % number, bytes(200))
        log = cluster.members[leader].log
        largest_bytes = max(largest_bytes, log.size_bytes + len(log) * ENTRY_OVERHEAD_BYTES)

    assert log_bytes * (HELD_LOGS - 1) < largest_bytes < log_bytes * (HELD_LOGS + 1)


def test_a_log_that_is_kept_for_followers_does_not_make_snapshots_come_faster():
    cluster, leader, _ = loading_for_ever(snapshot_log_bytes=1 << 13)
    snapshots = cluster.members[leader].snapshots
    cluster.members[leader].replica.parts.transfers._entries_between = 10**9
    published = set()
    for number in range(100):
        cluster.put_now(leader, b"k%d" % number, bytes(200))
        published.add(snapshots.newest)

    assert 2 <= len(published) <= 5
