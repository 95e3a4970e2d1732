"""Rights in a cluster: judged by the log's order alone, whatever the node that was asked knows of them."""

from __future__ import annotations

from raftkv.core.errors import Code, Refused
from raftkv.core.keys import prefix_end
from raftkv.core.requests import Consistency, Delete, Get, List, Put, Read, Repair, Write
from raftkv.core.results import Answer, Written
from raftkv.core.rights import CLUSTER, Access, Caller, Permission, Role, User
from raftkv.formats import rights as rows
from raftkv.formats.commands import CALLERS_FORMAT
from tests.simulation.cluster import Cluster
from tests.simulation.test_versions import ask, cluster_that_reads

ANN = Caller("ann", 1)


def put_user(*roles, generation=1):
    return Put(key=rows.user_key("ann"), value=rows.encode_user(User(roles=roles, generation=generation)))


BOTH = Permission(access=Access.BOTH, start=b"a/", end=prefix_end(b"a/"))
ON = (
    Put(key=rows.role_key("r"), value=rows.encode_role(Role(permissions=(BOTH,)))),
    put_user("r"),
    Put(key=rows.ENABLED, value=b""),
)
REVOKED = put_user()


def write(caller, *operations, **options):
    return Write(operations=operations, caller=caller, **options)


def put(value=b"v", key=b"a/1"):
    return Put(key=key, value=value)


def get(key=b"a/1", **more):
    return Read(query=Get(key=key), caller=ANN, **more)


def cluster_with_rights(size=3, **settings):
    cluster = Cluster(size, **settings)
    leader = cluster.elect()
    cluster.run(1.0)
    assert isinstance(ask(cluster, leader, write(CLUSTER, *ON)), Written)
    cluster.run(0.5)
    return cluster, leader


def is_forbidden(outcome):
    return isinstance(outcome, Refused) and outcome.code is Code.FORBIDDEN


def with_one_behind(size=3):
    """A follower that hears nobody's entries but talks to all, and so does not know that ann has no rights any more."""
    cluster, leader = cluster_with_rights(size)
    assert isinstance(ask(cluster, leader, write(ANN, put(b"hers"))), Written)
    cluster.run(0.5)
    behind = cluster.others(leader)[0]
    cluster.cut(leader, behind)
    assert isinstance(ask(cluster, leader, write(CLUSTER, REVOKED, put(b"not hers"))), Written)
    cluster.run(0.3)
    return cluster, leader, behind


def test_nobody_asks_as_a_user_before_every_node_runs_a_version_that_judges():
    cluster = cluster_that_reads(n3=CALLERS_FORMAT - 1)
    refusal = ask(cluster, "n1", write(CLUSTER, *ON))
    cluster.kill("n3")
    cluster.machines["n3"].reads = CALLERS_FORMAT
    cluster.restart("n3")
    cluster.run(2.0)

    assert refusal.code is Code.NOT_SUPPORTED
    assert refusal.detail.startswith("node n3 reads commands up to format 3, this one has format 4")
    assert isinstance(ask(cluster, "n3", write(CLUSTER, *ON)), Written)
    assert isinstance(ask(cluster, "n2", write(ANN, put())), Written)
    assert is_forbidden(ask(cluster, "n2", write(ANN, put(key=b"b"))))
    assert is_forbidden(ask(cluster, "n2", write(None, put())))
    cluster.settle()


def test_a_write_through_a_node_that_knows_of_no_revocation_is_refused_by_all():
    cluster, leader = cluster_with_rights()
    asked = cluster.others(leader)[0]
    cluster.cut(leader, asked, both=False)
    pending = cluster.submit(asked, write(ANN, put(b"late")))
    assert isinstance(ask(cluster, leader, write(CLUSTER, REVOKED)), Written)
    assert cluster.members[asked].replica.store.rights.users["ann"].roles == ("r",)
    cluster.heal()

    assert is_forbidden(cluster.await_outcome(pending))
    assert ask(cluster, leader, Read(query=Get(key=b"a/1"))).content.key == b"a/1"
    cluster.settle()


def test_a_snapshot_brings_the_rights_by_which_what_follows_is_judged():
    cluster, leader = cluster_with_rights(snapshot_entries=10)
    away = cluster.others(leader)[0]
    cluster.isolate(away)
    assert isinstance(ask(cluster, leader, write(CLUSTER, REVOKED)), Written)
    for number in range(60):
        assert isinstance(ask(cluster, leader, write(CLUSTER, put(b"%d" % number))), Written)
    cluster.run_until(lambda: cluster.members[leader].core.first_index > 30)
    cluster.heal()
    cluster.run_until(lambda: cluster.members[away].snapshots.received_count == 1)
    cluster.settle()

    assert is_forbidden(ask(cluster, leader, write(ANN, put(b"late"))))
    assert is_forbidden(ask(cluster, away, write(ANN, put(b"late"))))
    cluster.settle()


def test_rights_outlive_the_loss_of_power_everywhere():
    cluster, _ = cluster_with_rights()
    for name in cluster.members:
        cluster.kill(name, power=True)
    for name in cluster.members:
        cluster.restart(name)
    leader = cluster.elect()

    assert isinstance(ask(cluster, leader, write(ANN, put())), Written)
    assert is_forbidden(ask(cluster, leader, write(Caller("ann", 2), put())))
    assert is_forbidden(ask(cluster, leader, write(None, put())))
    cluster.settle()


def test_what_a_user_asks_the_leader_alone_to_acknowledge_is_answered_when_it_was_judged():
    cluster, leader = cluster_with_rights()

    assert ask(cluster, leader, write(ANN, put(), acks=1)).committed
    assert is_forbidden(ask(cluster, leader, write(ANN, put(key=b"b"), acks=1)))


def test_reads_are_judged_by_the_state_that_answers_them():
    cluster, leader, behind = with_one_behind()

    assert is_forbidden(ask(cluster, leader, get()))
    assert is_forbidden(ask(cluster, leader, write(ANN, Get(key=b"a/1"))))
    assert is_forbidden(ask(cluster, leader, Read(query=List(start=b"a/", end=b"a0", limit=1), caller=ANN)))
    assert ask(cluster, behind, get(consistency=Consistency.LOCAL)).content.value == b"hers"
    cluster.heal()


def test_batches_of_gets_need_the_right_to_each():
    cluster, leader = cluster_with_rights()

    assert isinstance(ask(cluster, leader, write(ANN, Get(key=b"a/1"), Get(key=b"a/2"))), Written)
    assert is_forbidden(ask(cluster, leader, write(ANN, Get(key=b"a/1"), Get(key=b"b"))))


def test_of_several_replicas_the_newest_says_what_may_be_read():
    """Else one that has not heard of the revocation would let out what another holds that was written after it."""
    cluster, _, behind = with_one_behind(5)
    eventual = get(consistency=Consistency.EVENTUAL, r=3)

    assert is_forbidden(ask(cluster, behind, eventual))
    one = ask(cluster, behind, get(consistency=Consistency.EVENTUAL, r=1))
    assert isinstance(one, Answer)
    assert one.content.value == b"hers"


def test_a_right_that_one_replica_has_not_heard_of_is_given_by_a_newer_one():
    cluster, leader, behind = with_one_behind(5)
    cluster.heal()
    cluster.run(1.0)
    cluster.cut(leader, behind)
    assert isinstance(ask(cluster, leader, write(CLUSTER, put_user("r"), put(b"hers again"))), Written)
    cluster.run(0.3)

    answer = ask(cluster, behind, get(consistency=Consistency.EVENTUAL, r=3))
    assert answer.content.value == b"hers again"


def test_the_idempotency_keys_of_each_user_are_his_own():
    cluster, leader = cluster_with_rights()
    assert isinstance(ask(cluster, leader, write(ANN, put(b"hers"), idempotency_key="once")), Written)
    outcome = ask(cluster, leader, write(CLUSTER, put(b"another's"), idempotency_key="once"))

    assert outcome.refused is None
    assert outcome.results[0].version == 2


def test_operators_acts_are_roots():
    cluster, leader = cluster_with_rights()

    assert is_forbidden(ask(cluster, leader, Repair(caller=ANN)))
    assert is_forbidden(ask(cluster, leader, Repair()))
    assert ask(cluster, leader, Repair(caller=CLUSTER)).code is Code.NOT_SUPPORTED


def test_authentication_can_be_turned_off_again():
    cluster, leader = cluster_with_rights()
    assert is_forbidden(ask(cluster, leader, write(None, put())))
    assert isinstance(ask(cluster, leader, write(CLUSTER, Delete(key=rows.ENABLED))), Written)

    assert isinstance(ask(cluster, leader, write(None, put())), Written)
    cluster.settle()
