"""The simulated clusters of the gossip measurement: joins become known, crashes suspected, and nobody else is."""

import pytest

from bench.gossip import Simulation, costs, joined_s, measure, suspected_s, table
from raftkv.core.config import QuorumSection


@pytest.mark.parametrize("count", [3, 10])
def test_a_join_is_known_to_all_within_a_few_periods(count):
    assert all(0 < joined_s(count, seed) <= 5 * QuorumSection().gossip_s for seed in range(5))


@pytest.mark.parametrize("count", [3, 10])
def test_a_crash_is_suspected_by_all_once_the_last_heartbeat_has_gone_round(count):
    settings = QuorumSection()
    waits = [suspected_s(count, seed) for seed in range(5)]

    assert all(settings.suspect_after_s - settings.gossip_s <= wait for wait in waits)
    assert all(wait <= settings.suspect_after_s + 5 * settings.gossip_s for wait in waits)


def test_gossip_alone_suspects_hardly_any_live_member():
    assert costs(10, 0).suspected < 0.001


def test_a_quiet_node_costs_three_messages_a_period():
    """A digest, what the peer knows better, and what it wanted: three messages a period for each node."""
    quiet = costs(3, 0)

    assert quiet.messages_per_s == pytest.approx(3 / QuorumSection().gossip_s, rel=0.05)


def test_the_same_seed_gives_the_same_figures():
    def bytes_sent(seed):
        simulation = Simulation(5, seed)
        simulation.run(30.0)
        return simulation.bytes_count

    assert bytes_sent(1) == bytes_sent(1)
    assert bytes_sent(1) != bytes_sent(2)


def test_the_table_has_a_row_for_each_size():
    lines = table([measure(3, 1), measure(4, 1)]).splitlines()

    assert [line.split()[0] for line in lines[4:6]] == ["3", "4"]
    assert lines[0] == lines[3] == lines[6]
