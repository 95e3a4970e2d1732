"""How stale a local read says that it may be: an upper bound, whatever the network does, and small when all is well.

That nothing committed before is missed is an invariant of the simulator, checked at every step (``sim.invariants``).
"""

from __future__ import annotations

import msgspec

from raftkv.core.requests import Consistency
from raftkv.formats import raft_messages as messages
from tests.simulation.cluster import Cluster

HEARTBEAT_S = 0.1


def staleness_s(cluster, node):
    level_at_s = cluster.members[node].replica.status().level_at_s
    return float("inf") if level_at_s is None else cluster.machines[node].now_s() - level_at_s


def test_in_a_healthy_cluster_no_node_is_older_than_a_few_heartbeats():
    cluster = Cluster(3)
    cluster.elect()
    cluster.run(1.0)

    oldest_s = 0.0
    for _ in range(200):
        cluster.step()
        oldest_s = max(oldest_s, *[staleness_s(cluster, node) for node in cluster.members])

    assert oldest_s < 2.5 * HEARTBEAT_S


def test_a_value_is_as_old_as_its_way_here_was_long():
    cluster = Cluster(3, election_timeout_s=10.0)
    leader = cluster.elect()
    near, far = cluster.others(leader)
    cluster.network.latency_s = (0.001, 0.001)
    cluster.network.slow(leader, far, 500.0)
    cluster.run(3.0)
    for number in range(40):
        cluster.put_now(leader, b"k", b"%d" % number)
        cluster.step()

        assert staleness_s(cluster, far) >= 0.5
        assert staleness_s(cluster, near) < 3 * HEARTBEAT_S
    assert staleness_s(cluster, far) < 3.0


def test_a_leader_that_was_deposed_vouches_for_nobody():
    """However fast the clocks are of those who elect another one: it still believes that it leads."""
    cluster = Cluster(5, clock_drift_bound=0.9)
    old = cluster.elect()
    mate, *rest = cluster.others(old)
    cluster.run(1.0)
    cluster.cut({old, mate}, set(rest))
    cluster.run(0.2)
    for node in rest:
        cluster.machines[node].rate = 5.0
    cluster.run_until(lambda: cluster.leader() in rest)
    cluster.put_now(cluster.leader(), b"k", b"new")
    written_s = cluster.now_s
    cluster.run(0.3)

    assert cluster.members[old].core.is_leader
    assert cluster.get_now(mate, b"k", Consistency.LOCAL) is None
    for node in (old, mate):
        assert staleness_s(cluster, node) > cluster.now_s - written_s


def test_a_reading_of_an_earlier_life_says_nothing():
    cluster = Cluster(3)
    leader = cluster.elect()
    away = cluster.others(leader)[0]
    cluster.run(0.5)
    earlier = cluster.members[away].replica.parts.freshness.reading(cluster.now_s)
    echo = messages.Level(index=cluster.members[leader].core.commit_index, reading=earlier)
    cluster.kill(away)
    cluster.put_now(leader, b"k")
    cluster.restart(away)
    cluster.cut(leader, away)
    cluster.run(earlier.elapsed_us / 1e6 + 1.0)

    cluster.members[away].replica.conversation.received(leader, messages.encode(echo))
    cluster.step()

    assert cluster.members[away].replica.status().level_at_s is None


def test_a_local_read_through_the_replica_carries_its_own_age():
    cluster = Cluster(3)
    leader = cluster.elect()
    cluster.run(1.0)

    for node in cluster.members:
        answer = cluster.get(node, b"k", Consistency.LOCAL).outcome
        assert answer.level_at_s == cluster.members[node].replica.status().level_at_s
    assert msgspec.structs.replace(answer, level_at_s=None) != answer
    assert leader in cluster.members
