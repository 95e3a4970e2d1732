"""Who counts as a member of a leaderless cluster, where it is, and who is let go."""

import pytest

from raftkv.core.errors import Refused
from raftkv.core.requests import AddMember, RemoveMember
from raftkv.core.results import MembersChanged, Written
from raftkv.formats.gossip import MemberEntry, Phase
from raftkv.http.handlers.cluster import unready
from raftkv.instruments.sim.quorum import entry_of
from raftkv.quorum.membership.members import INVITED_S
from tests.simulation.leaderless import KEYS, Leaderless, joining

# -- members that have moved


def test_the_address_that_the_configuration_gives_a_member_holds_when_nobody_is_there_to_tell():
    cluster = Leaderless(3)
    cluster.run(2.0)
    for name, machine in cluster.machines.items():
        cluster.kill(name)
        machine.keeps.configured = tuple(MemberEntry(other, f"{other}:3", f"{other}:4") for other in cluster.machines)
    cluster.isolate("n1")
    cluster.restart("n1")
    alone = {entry.id: (entry.http, entry.peer) for entry in cluster.replica("n1").entries.values()}

    assert alone == {name: (f"{name}:3", f"{name}:4") for name in cluster.machines}


def test_where_a_member_says_that_it_is_counts_for_more_than_an_old_configuration():
    cluster = Leaderless(3)
    cluster.kill("n3")
    cluster.machines["n3"].keeps.configured = (entry_of("n1"), entry_of("n2"), MemberEntry("n3", "n3:3", "n3:4"))
    cluster.restart("n3")
    cluster.run(2.0)
    cluster.start_again("n1")
    cluster.run(2.0)

    assert {cluster.replica(name).entries["n3"].peer for name in cluster.machines} == {"n3:4"}


# -- who counts as a member


def test_a_newcomer_that_does_not_come_is_neither_listed_nor_asked_nor_counted():
    """Somebody lets a node in that is not there (or has not the secret), and one member is down."""
    cluster = Leaderless(4, members=3)
    cluster.isolate("n4")
    cluster.run(5.0)
    cluster.ask("n1", AddMember(id="n4", http="n4:1", peer="n4:2"))
    cluster.run(2.0)
    cluster.kill("n3")
    cluster.run(1.0)
    outcomes = [cluster.put("n1", key, b"value") for key in KEYS]
    status = cluster.replica("n1").status()

    assert all(isinstance(outcome, Written) for outcome in outcomes)
    assert [member.id for member in status.members] == ["n1", "n2", "n3"]
    assert "n4" not in cluster.replica("n2").entries
    assert unready(status, 0.0) is None


def test_a_newcomer_is_let_in_once_it_has_linked_up_however_late():
    cluster = Leaderless(4, members=3)
    cluster.isolate("n4")
    cluster.run(5.0)
    joining(cluster, "n4", via="n1")
    cluster.run(20.0)
    cluster.heal()
    cluster.run_until_level()

    assert cluster.replica("n2").entries["n4"].phase is Phase.UP


def test_whoever_was_awaited_in_vain_is_forgotten_or_let_go_by_name():
    cluster = Leaderless(4, members=3)
    for way in ("time", "name"):
        cluster.isolate("n4")
        cluster.run(5.0)
        cluster.ask("n1", AddMember(id="n4", http="n4:1", peer="n4:2"))
        if way == "time":
            cluster.run(INVITED_S + 1.0)
        else:
            assert isinstance(cluster.ask("n1", RemoveMember(id="n4")), MembersChanged)
        cluster.heal()
        cluster.run(5.0)
        assert "n4" not in cluster.replica("n1").entries


def test_nobody_is_let_go_without_whom_a_quorum_is_lost():
    cluster = Leaderless(3)
    first = cluster.ask("n1", RemoveMember(id="n3"))
    cluster.run(20.0)
    second = cluster.ask("n1", RemoveMember(id="n2"))
    cluster.run(5.0)

    assert isinstance(first, MembersChanged)
    assert isinstance(second, Refused)
    assert "w = 2" in second.detail
    assert cluster.replica("n2").entries["n2"].phase is Phase.UP


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 2, 1)])
def test_members_that_let_each_other_go_at_once_do_not_all_leave(sizes):
    n, r, w = sizes
    names = ["n1", "n2", "n3"][: max(r, w) + 1]
    cluster = Leaderless(len(names), n=n, r=r, w=w)
    for key in KEYS:
        cluster.put("n1", key, b"value")
    told = [
        cluster.submit(name, RemoveMember(id=other)) for name, other in zip(names, [*names[1:], names[0]], strict=True)
    ]
    cluster.run(20.0)
    left = cluster.mode.useful()

    assert all(isinstance(pending.outcome, MembersChanged) for pending in told)
    assert len(left) >= max(r, w)
    assert [cluster.get(left[0], key) for key in KEYS] == [b"value"] * len(KEYS)


def test_nobody_is_let_go_who_may_be_the_last_replica_of_a_key():
    cluster = Leaderless(5, n=2, r=1, w=1)
    cluster.kill("n4")
    cluster.kill("n5")
    cluster.run(4.0)
    refused = cluster.ask("n1", RemoveMember(id="n5"))
    cluster.restart("n4")
    cluster.run(4.0)
    taken = cluster.ask("n1", RemoveMember(id="n5"))

    assert isinstance(refused, Refused)
    assert "n4, n5 cannot be reached" in refused.detail
    assert isinstance(taken, MembersChanged)


@pytest.mark.parametrize("sloppy", [True, False])
def test_a_node_is_ready_when_every_key_has_its_quorum_and_only_then(sloppy):
    cluster = Leaderless(5, sloppy=sloppy)
    cluster.kill("n4")
    cluster.kill("n5")
    cluster.run(1.0)
    outcomes = [isinstance(cluster.put("n1", key, b"value"), Written) for key in KEYS]
    reason = unready(cluster.replica("n1").status(), 0.0)

    assert (reason is None) == sloppy == all(outcomes)
    assert sloppy or "3 of 5 members are reachable" in reason[1]


def test_a_node_is_not_ready_while_who_joins_cannot_be_reached_and_writes_wait_for_it():
    cluster = Leaderless(4, members=3, anti_entropy_s=1000.0)
    for key in KEYS:
        cluster.put("n1", key, b"value")
    cluster.pause("n3")
    joining(cluster, "n4", via="n1")
    cluster.run(1.0)
    cluster.isolate("n4")
    cluster.isolate("n3")
    cluster.run(1.0)
    outcomes = [isinstance(cluster.put("n1", key, b"value"), Written) for key in KEYS]

    assert not all(outcomes)
    assert "no quorum for" in unready(cluster.replica("n1").status(), 0.0)[1]
