"""Rights in a leaderless cluster: told to all, durable before they count, judged by everybody with what he knows."""

from __future__ import annotations

import random

import pytest

from raftkv.core.errors import Code, Refused, Unknown
from raftkv.core.keys import prefix_end
from raftkv.core.requests import (
    ComparedField,
    Configure,
    Consistency,
    Delete,
    Get,
    KeyComparison,
    List,
    Operator,
    Put,
    Read,
    Repair,
    ShowReplicas,
    StoreHere,
    Transaction,
    Write,
)
from raftkv.core.results import Configured, KeyPage, Missing, StoredVersion, Transacted, Written
from raftkv.core.rights import CLUSTER, NOBODY, Access, Caller, Permission, Role, User
from raftkv.core.status import ReplicasShown
from raftkv.formats import rights as rows
from raftkv.formats.commands import CALLERS_FORMAT
from raftkv.instruments.sim.disk import UNLIMITED
from raftkv.quorum.membership.amending import DELETED_KEPT, came_to_be
from raftkv.quorum.membership.changes import BAD_CHANGE, TOO_MUCH
from raftkv.quorum.membership.rights import NO_MAJORITY, NOT_HEARD
from tests.simulation.leaderless import Leaderless

ANN = Caller("ann", 1)
BOTH = Permission(access=Access.BOTH, start=b"a/", end=prefix_end(b"a/"))


def put_user(*roles, name="ann", generation=1):
    return Put(key=rows.user_key(name), value=rows.encode_user(User(roles=roles, generation=generation)))


ON = (
    Put(key=rows.role_key("r"), value=rows.encode_role(Role(permissions=(BOTH,)))),
    put_user("r"),
    Put(key=rows.ENABLED, value=b""),
)


def write(caller, *operations, **options):
    return Write(operations=operations, caller=caller, **options)


def put(value=b"v", key=b"a/1"):
    return Put(key=key, value=value)


def get(key=b"a/1", caller=ANN, consistency=Consistency.EVENTUAL):
    return Read(query=Get(key=key), consistency=consistency, caller=caller)


def is_forbidden(outcome):
    return isinstance(outcome, Refused) and outcome.code is Code.FORBIDDEN


def with_rights(size=3, **settings):
    cluster = Leaderless(size, **settings)
    assert isinstance(cluster.ask("n1", write(CLUSTER, *ON)), Written)
    cluster.run(5.0)
    return cluster


def rights_at(cluster, name):
    return cluster.replica(name).parts.rights.rights


def roles_at(cluster, name):
    user = rights_at(cluster, name).users.get("ann")
    return None if user is None else user.roles


@pytest.mark.parametrize("conflicts", ["lww", "siblings"])
def test_every_node_judges_what_it_is_asked(conflicts):
    cluster = with_rights(conflicts=conflicts)

    for name in cluster.machines:
        assert isinstance(cluster.ask(name, write(ANN, put())), Written)
        assert cluster.ask(name, get()).content
        for caller in (ANN, NOBODY, None, Caller("ann", 2), Caller("eve", 1)):
            assert is_forbidden(cluster.ask(name, write(caller, put(key=b"b"))))
        assert is_forbidden(cluster.ask(name, write(None, put())))
        assert is_forbidden(cluster.ask(name, write(ANN, Delete(key=b"b"))))
        assert is_forbidden(cluster.ask(name, write(ANN, Get(key=b"b"))))
        assert is_forbidden(cluster.ask(name, get(b"b")))
        assert isinstance(cluster.ask(name, ShowReplicas(key=b"a/1", caller=ANN)), ReplicasShown)
        for caller, key in ((ANN, b"b"), (NOBODY, b"a/1"), (None, b"a/1"), (Caller("ann", 2), b"a/1")):
            assert is_forbidden(cluster.ask(name, ShowReplicas(key=key, caller=caller)))
        assert is_forbidden(cluster.ask(name, get(b"b", consistency=Consistency.LOCAL)))
        whole = Read(query=List(start=b"", end=b"z", limit=5), consistency=Consistency.EVENTUAL, caller=ANN)
        assert is_forbidden(cluster.ask(name, whole))


def test_operators_acts_are_roots():
    cluster = with_rights()

    for request in (Configure(r=1), Repair()):
        assert is_forbidden(cluster.ask("n1", request))
    assert is_forbidden(cluster.ask("n1", Configure(r=1, caller=ANN)))
    assert isinstance(cluster.ask("n1", Configure(r=1, caller=CLUSTER)), Configured)
    assert is_forbidden(cluster.ask("n1", StoreHere(key=b"a/1", value=b"v")))
    assert isinstance(cluster.ask("n1", StoreHere(key=b"a/1", value=b"v", caller=ANN)), StoredVersion)


def test_a_change_is_done_once_most_members_have_it_and_reaches_the_others():
    cluster = with_rights()
    cluster.isolate("n3")
    done = cluster.ask("n1", write(CLUSTER, put_user()))

    assert done.replicas == ("n1", "n2")
    assert [roles_at(cluster, name) for name in ("n1", "n2", "n3")] == [(), (), ("r",)]
    cluster.heal()
    cluster.run(10.0)
    assert roles_at(cluster, "n3") == ()


def test_a_change_that_no_majority_hears_of_is_refused_and_never_made():
    cluster = with_rights()
    cluster.isolate("n1")

    assert cluster.ask("n1", write(CLUSTER, put_user())) == NO_MAJORITY
    cluster.heal()
    cluster.run(10.0)
    assert [roles_at(cluster, name) for name in cluster.machines] == [("r",)] * 3


def test_a_change_that_was_made_but_not_heard_of_in_time_is_unknown():
    cluster = with_rights()
    pending = cluster.submit("n1", write(CLUSTER, put_user()), 2.0)
    cluster.run_until(lambda: roles_at(cluster, "n1") == ())
    cluster.isolate("n1")

    assert isinstance(cluster.await_outcome(pending), Unknown)
    cluster.heal()
    cluster.run(10.0)
    assert len({roles_at(cluster, name) for name in cluster.machines}) == 1


def test_a_change_is_made_of_what_a_dead_one_left_behind():
    """n1 dies when only n2 has taken what it proposed; n3 meets that in its majority and builds on it."""
    cluster = with_rights()
    cluster.cut(["n1"], ["n3"])
    cluster.run(1.0)
    cluster.submit("n1", write(CLUSTER, put_user()), 2.0)
    cluster.run_until(lambda: roles_at(cluster, "n2") == ())
    cluster.kill("n1")
    assert roles_at(cluster, "n3") == ("r",)
    assert isinstance(cluster.ask("n3", write(CLUSTER, put_user("r", name="bob"))), Written)

    assert roles_at(cluster, "n3") == ()
    assert set(rights_at(cluster, "n3").users) == {"ann", "bob"}


def test_what_two_change_at_once_is_both_done():
    cluster = with_rights()
    both = [cluster.submit(f"n{n}", write(CLUSTER, put_user("r", name=f"u{n}"))) for n in (1, 2)]
    for pending in both:
        assert isinstance(cluster.await_outcome(pending), Written)
    cluster.run(10.0)

    for name in cluster.machines:
        assert set(rights_at(cluster, name).users) == {"ann", "u1", "u2"}


def test_who_was_deleted_does_not_come_back_by_a_node_that_was_away():
    cluster = with_rights()
    cluster.kill("n3")
    assert isinstance(cluster.ask("n1", write(CLUSTER, Delete(key=rows.user_key("ann")))), Written)
    cluster.restart("n3")
    cluster.run(10.0)

    assert [roles_at(cluster, name) for name in cluster.machines] == [None] * 3


def test_rights_are_on_the_disk_before_they_are_acknowledged():
    cluster = with_rights(flush_s=0.01)
    assert isinstance(cluster.ask("n1", write(CLUSTER, put_user())), Written)
    for name in cluster.machines:
        cluster.kill(name, power=True)
    for name in cluster.machines:
        cluster.restart(name)
    cluster.run(5.0)

    assert [roles_at(cluster, name) for name in cluster.machines] == [()] * 3
    assert all(rights_at(cluster, name).enabled for name in cluster.machines)


def test_a_replica_that_knows_of_a_revocation_refuses_though_the_coordinator_does_not():
    cluster = with_rights()
    cluster.isolate("n1")
    assert isinstance(cluster.ask("n2", write(CLUSTER, put_user())), Written)
    cluster.replica("n1").parts.rights._learn = lambda document: True  # word of it does not come in time
    cluster.heal()
    cluster.run(1.0)
    outcome = cluster.ask("n1", write(ANN, put(b"late")))

    assert isinstance(outcome, Unknown)
    assert "knows that it is forbidden" in outcome.detail
    assert all(b"a/1" not in cluster.held(name) for name in ("n2", "n3"))


def test_who_is_cut_off_lets_nobody_in_once_what_it_has_heard_of_rights_is_old():
    cluster = with_rights(size=5, w=1, r=1, rights_validity_s=3.0)
    cluster.isolate("n1", "n2")
    assert isinstance(cluster.ask("n3", write(CLUSTER, put_user())), Written)
    cluster.run(4.0)

    for name in ("n1", "n2"):
        assert roles_at(cluster, name) == ("r",)
        for request in (write(ANN, put()), get(), Configure(r=1, caller=ANN)):
            refusal = cluster.ask(name, request)
            assert refusal == NOT_HEARD, request
        assert cluster.replica(name).status().rights_fault == NOT_HEARD.detail
        assert not isinstance(cluster.ask(name, get(consistency=Consistency.LOCAL)), Refused)
        assert isinstance(cluster.ask(name, write(CLUSTER, put(key=b"b"))), Written)
    cluster.heal()
    cluster.run(5.0)
    for name in cluster.machines:
        assert cluster.replica(name).status().rights_fault == ""
        assert is_forbidden(cluster.ask(name, write(ANN, put())))


def test_who_starts_anew_lets_nobody_in_before_a_majority_has_said_whether_authentication_is_on():
    cluster = with_rights(w=1, r=1)
    cluster.lose_disk("n1")
    shared = cluster.replica("n1").parts.rights
    shared._ask, shared._offered = lambda: None, lambda peer, message: False  # it hears of clocks and data before this
    cluster.run(3.0)
    assert not shared.rights.enabled

    for request in (write(NOBODY, put(b"anybody's")), write(None, put(b"anybody's")), get(caller=NOBODY)):
        assert cluster.ask("n1", request) == NOT_HEARD
    assert cluster.replica("n1").status().rights_fault == NOT_HEARD.detail


def test_who_reads_users_misses_nothing_that_was_done():
    cluster = with_rights()
    cluster.isolate("n1")
    assert isinstance(cluster.ask("n2", write(CLUSTER, put_user("r", name="bob"))), Written)
    refusal = cluster.ask("n1", get(rows.user_key("bob"), CLUSTER))
    assert refusal == NO_MAJORITY
    cluster.heal()
    cluster.run_until(lambda: cluster.replica("n1").parts.conversation.is_up("n2"))

    assert not isinstance(cluster.ask("n1", get(rows.user_key("bob"), CLUSTER)).content, Missing)


def test_of_many_that_change_the_same_at_once_none_undoes_what_another_did():
    for seed in range(15):
        let_many_change_one_user(with_rights(size=5, seed=seed), random.Random(seed))


def let_many_change_one_user(cluster, dice):
    """Each gives ann a role more, if her roles are as it has read them."""
    granted = set()

    def roles_read(name):
        page = cluster.ask(name, Read(query=List(start=rows.AUTH, end=rows.AUTH_END, limit=100), caller=CLUSTER))
        found = rows.rights_of((record.key, record.value) for record in page.content.records)
        return page.revision, found.users["ann"].roles

    for turn in range(3):
        read = {name: roles_read(name) for name in cluster.machines}
        under_way = {}
        cluster.network.slow("n1", "n2", dice.choice((1.0, 5.0)))
        for name, (revision, roles) in read.items():
            new = f"{name}-{turn}"
            change = Transaction(comparisons=(untouched_since(revision),), success=(put_user(*roles, new),))
            under_way[new] = cluster.submit(name, write(CLUSTER, change), 20.0)
            cluster.run(dice.choice((0.0, 0.002, 0.01)))
        for new, pending in under_way.items():
            outcome = cluster.await_outcome(pending)
            if isinstance(outcome, Written) and outcome.results[0].succeeded:
                granted.add(new)
    cluster.run(10.0)

    assert len({roles_at(cluster, name) for name in cluster.machines}) == 1
    assert granted <= set(roles_at(cluster, "n1"))


def rows_of(*stamped):
    return {key: rows.StampedRow(key, value, counter, "n1") for key, value, counter in stamped}


def test_what_is_stamped_tells_whether_something_came_to_be():
    ann, bob = rows.user_key("ann"), rows.user_key("bob")
    mine = (5, "n1")
    assert came_to_be(rows_of((ann, b"", 5), (bob, b"", 7)), mine, [ann]) is True
    assert came_to_be(rows_of((ann, b"", 4), (bob, b"", 7)), mine, [ann]) is False
    assert came_to_be(rows_of((bob, b"", 7)), mine, [ann]) is False
    assert came_to_be(rows_of((ann, None, 7)), mine, [ann]) is None
    assert came_to_be(rows_of((ann, b"", 7), (bob, b"", 4)), mine, [ann, bob]) is False
    many = [(rows.user_key(f"u{number}"), None, 100 + number) for number in range(DELETED_KEPT)]
    assert came_to_be(rows_of(*many), mine, [ann]) is None
    assert came_to_be(rows_of((bob, None, 3), *many[1:]), mine, [ann]) is False


def test_of_the_deleted_only_the_last_are_remembered():
    cluster = with_rights()
    for number in range(DELETED_KEPT + 5):
        assert isinstance(cluster.ask("n1", write(CLUSTER, put_user(name=f"u{number}"))), Written)
        assert isinstance(cluster.ask("n1", write(CLUSTER, Delete(key=rows.user_key(f"u{number}")))), Written)
    found = rows.decode_document(cluster.replica("n1").rights)

    assert sum(row.value is None for row in found) == DELETED_KEPT
    assert set(rights_at(cluster, "n1").users) == {"ann"}


def untouched_since(revision):
    return KeyComparison(
        start=rows.AUTH,
        end=rows.AUTH_END,
        several=True,
        target=ComparedField.REVISION,
        operator=Operator.LESS,
        operand=revision + 1,
    )


def test_who_has_lost_its_disk_counts_once_most_others_have_said_what_they_know():
    cluster = with_rights()
    cluster.isolate("n3")
    assert isinstance(cluster.ask("n1", write(CLUSTER, put_user())), Written)
    cluster.heal()
    cluster.isolate("n1")
    cluster.lose_disk("n2")
    cluster.run(5.0)
    refusal = cluster.ask("n3", write(CLUSTER, put_user("r", name="bob")))
    assert refusal == NO_MAJORITY
    cluster.heal()
    cluster.run(10.0)

    assert [roles_at(cluster, name) for name in cluster.machines] == [()] * 3
    assert isinstance(cluster.ask("n3", write(CLUSTER, put_user("r", name="bob"))), Written)
    assert [roles_at(cluster, name) for name in ("n1", "n3")] == [()] * 2


def test_what_is_of_the_past_is_exchanged_whatever_rights_are_now():
    cluster = with_rights()
    cluster.isolate("n3")
    assert isinstance(cluster.ask("n1", write(ANN, put(b"hers"))), Written)
    assert isinstance(cluster.ask("n1", write(CLUSTER, put_user())), Written)
    cluster.heal()
    cluster.run_until_level()

    assert cluster.held("n3")[b"a/1"] == b"hers"


def test_nothing_is_turned_on_before_every_node_judges():
    cluster = Leaderless(3)
    cluster.kill("n3")
    cluster.machines["n3"].reads = CALLERS_FORMAT - 1
    cluster.restart("n3")
    cluster.run(5.0)
    refusal = cluster.ask("n1", write(CLUSTER, *ON))

    assert refusal.code is Code.NOT_SUPPORTED
    assert refusal.detail.startswith("node n3 is not known to judge rights")
    assert isinstance(cluster.ask("n1", write(None, put())), Written)


def test_users_and_roles_are_read_and_changed_by_what_they_were():
    cluster = with_rights()
    page = cluster.ask("n2", Read(query=List(start=rows.AUTH, end=rows.AUTH_END, limit=10), caller=CLUSTER))
    assert isinstance(page.content, KeyPage)
    assert [record.key for record in page.content.records] == [rows.ENABLED, rows.role_key("r"), rows.user_key("ann")]
    assert rows.rights_of((one.key, one.value) for one in page.content.records).users["ann"].roles == ("r",)

    untouched = untouched_since(page.revision)
    absent = KeyComparison(start=rows.user_key("bob"), target=ComparedField.REVISION, operand=0)
    change = write(CLUSTER, Transaction(comparisons=(untouched, absent), success=(put_user(name="bob"),)))
    first, second = cluster.ask("n2", change), cluster.ask("n2", change)

    assert isinstance(first.results[0], Transacted)
    assert [one.results[0].succeeded for one in (first, second)] == [True, False]
    assert is_forbidden(cluster.ask("n1", get(rows.user_key("ann"))))
    assert isinstance(cluster.ask("n1", get(rows.user_key("eve"), CLUSTER)).content, Missing)


@pytest.mark.parametrize(
    "operation",
    [
        Put(key=rows.user_key("eve"), value=b"\xc1"),
        Put(key=rows.role_key("root"), value=rows.encode_role(Role())),
        Put(key=rows.AUTH + b"else", value=b""),
        Put(key=rows.ENABLED, value=b"", ttl_ms=5),
        Put(key=rows.ENABLED, value=b"", match=0),
        Transaction(success=(put(),), failure=(put_user(),)),
    ],
)
def test_what_means_nothing_is_not_taken(operation):
    cluster = with_rights()

    assert cluster.ask("n1", write(CLUSTER, operation)) == BAD_CHANGE
    assert cluster.ask("n1", write(CLUSTER, put_user(), put())) == BAD_CHANGE


def test_only_root_changes_rights_and_not_too_many():
    cluster = with_rights()

    for caller in (ANN, NOBODY, None):
        assert is_forbidden(cluster.ask("n1", write(caller, put_user("root"))))
    many = [put_user(name=f"u{number}") for number in range(1001)]
    assert cluster.ask("n1", write(CLUSTER, *many)) == TOO_MUCH


def test_a_full_disk_acknowledges_no_change():
    cluster = with_rights()
    for name in ("n2", "n3"):
        cluster.machines[name].disk.limit_bytes = 1
    assert cluster.ask("n1", write(CLUSTER, put_user())) == NO_MAJORITY
    for name in ("n2", "n3"):
        cluster.machines[name].disk.limit_bytes = UNLIMITED
    cluster.run(10.0)

    assert isinstance(cluster.ask("n1", write(CLUSTER, put_user())), Written)
