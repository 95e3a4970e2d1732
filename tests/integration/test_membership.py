"""Nodes killed and restarted while a loaded leaderless cluster grows by one node and shrinks by another.

A transfer is throttled, so that every kill falls into it, which ``/status`` must show. Afterwards: the members agree,
each holds exactly the keys that the ring gives it, and every node answers a quorum read of every key that was ever
touched with what was acknowledged last, deletions included.
"""

import shutil
import time
from collections import Counter

import pytest

from raftkv.instruments.lab.history import DeleteAction, History, ObservedOperation, Outcome, PutAction
from raftkv.instruments.lab.script import Workload
from raftkv.instruments.lab.workload import Clients
from raftkv.instruments.local.nodes import wait_until
from raftkv.quorum.membership.ring import Ring, position
from tests.integration.audit import audit
from tests.integration.processes import running
from tests.integration.trial import SEED, leftovers, report

NEWCOMER, LEAVER = "n4", "n2"
BEFORE = ["n1", "n2", "n3"]
BETWEEN = ["n1", "n2", "n3", "n4"]
AFTER = ["n1", "n3", "n4"]

N, VNODES = 3, 25
BATCH = 500
SETTLED_S = 60.0
WORKLOAD = Workload(
    seed=SEED,
    clients=20,
    rate_per_s=100,
    retry_share=0,
    value_bytes=200,
    mix={"once": 40, "forget": 10, "recall": 10, "put": 15, "delete": 5, "get": 20},
)


class Loaded:
    """Keys that were there before anything happened; each is written, and perhaps deleted, by us alone."""

    def __init__(self, cluster, count):
        self._cluster = cluster
        self.kept = [b"loaded/%d" % number for number in range(count)]
        self.operations = []
        self._write("n1", self.kept, lambda key: PutAction(key * 30))
        self.delete("n1")

    def delete(self, node):
        """Delete a tenth of what is left, through ``node``."""
        self._write(node, self.kept[::10], lambda key: DeleteAction())
        del self.kept[::10]

    def _write(self, node, keys, action_on):
        for first in range(0, len(keys), BATCH):
            actions = [(key, action_on(key)) for key in keys[first : first + BATCH]]
            invoked_ns = time.monotonic_ns()
            batch(self._cluster, node, [asked(key, action) for key, action in actions])
            returned_ns = time.monotonic_ns()
            self.operations += [
                ObservedOperation(
                    client=-1,
                    key=key,
                    action=action,
                    invoked_ns=invoked_ns,
                    returned_ns=returned_ns,
                    outcome=Outcome.OK,
                    result=True if isinstance(action, DeleteAction) else None,
                )
                for key, action in actions
            ]


def asked(key, action):
    if isinstance(action, PutAction):
        return {"op": "put", "key": key.decode(), "value": action.value.decode()}
    return {"op": "delete", "key": key.decode()}


def batch(cluster, node, operations):
    answer = cluster.request("POST", node, "/batch", json={"operations": operations})
    assert answer.status_code == 200, answer.text
    return answer.json()["results"]


def answers(cluster, node, keys):
    """What ``node`` answers to a quorum read of each of ``keys``, where it finds something."""
    found = {}
    for first in range(0, len(keys), BATCH):
        operations = [{"op": "get", "key": key.decode()} for key in keys[first : first + BATCH]]
        results = batch(cluster, node, operations)
        found |= {each["key"].encode(): each["value"].encode() for each in results if each["status"] == 200}
    return found


def strike(cluster, victims, watched):
    """Kill and restart each group of ``victims`` while data moves to ``watched``; returns how far it was each time."""
    seen = []
    for group in victims:
        seen.append(wait_until(lambda: moving(cluster, watched), f"data to move to {watched}"))
        cluster.kill(*group)
        cluster.start(*group)
        for node in group:
            if node != LEAVER:  # it may be out before it is ready
                cluster.wait_ready(node)
    return seen


def moving(cluster, node):
    """How far the transfer to ``node`` is, if it is in the middle."""
    status = cluster.status(node)
    transfer = None if status is None else status.transfer
    return transfer if transfer and transfer.keys and transfer.ranges_done < transfer.ranges else None


def settled(cluster, members):
    """Does every one of ``members``, and nobody else, belong to the cluster, as all of them say, with nothing owed?"""
    statuses = [cluster.status(node) for node in members]
    if None in statuses or len({status.ring for status in statuses}) != 1:
        return False
    everybody_up = dict.fromkeys(members, "up")
    return all(
        {member.id: member.state for member in status.members} == everybody_up
        and all(member.reachable for member in status.members)
        and status.transfer is None
        and status.hints_pending == 0
        for status in statuses
    )


def in_place(cluster, members, keys, prefix=b""):
    """Does every node hold those of ``keys`` that the ring gives it, and nothing else with ``prefix``?"""
    ring = Ring(dict.fromkeys(members, ""), VNODES)
    owners = {key: ring.preference(position(key), N)[:N] for key in keys}
    return all(
        {key for key in cluster.copy(node) if key.startswith(prefix)} == {key for key in keys if node in owners[key]}
        for node in members
    )


def run_change(home, name, *, while_joining, while_leaving, key_count, bytes_per_s):
    sections = f"[quorum]\nn = {N}\nr = 2\nw = 2\nvnodes = {VNODES}\ntransfer_bytes_per_s = {bytes_per_s}\n"
    sections += "gossip_s = 0.2\nsuspect_after_s = 1.0\ndown_after_s = 5.0\nanti_entropy_s = 0.5\n"
    with running(home, mode="quorum", sections=sections, newcomers=1) as cluster:
        loaded = Loaded(cluster, key_count)
        began_s = time.monotonic()
        with Clients(WORKLOAD, {site.id: site.http for site in cluster.sites.values()}) as clients:
            cluster.start(NEWCOMER)
            wait_until(lambda: moving(cluster, NEWCOMER), "data to move to the newcomer")
            loaded.delete(NEWCOMER)
            progress = strike(cluster, while_joining, NEWCOMER)
            wait_until(lambda: settled(cluster, BETWEEN), "the newcomer to be in", SETTLED_S)
            # Whoever still holds what it has passed on would gain nothing when another leaves.
            wait_until(lambda: in_place(cluster, BETWEEN, loaded.kept, b"loaded/"), "the rest to be dropped", SETTLED_S)

            assert cluster.request("DELETE", NEWCOMER, f"/cluster/members/{LEAVER}").status_code == 200
            progress += strike(cluster, while_leaving, "n1")
            wait_until(lambda: settled(cluster, AFTER), "the leaver to be out", SETTLED_S)
            loaded.delete("n1")
        wait_until(lambda: settled(cluster, AFTER), "all hints to be handed over", SETTLED_S)
        left = wait_until(cluster.ended, "the node that left to end")

        history = History([*loaded.operations, *clients.history()])
        keys = list(history.by_key())
        copies = {node: answers(cluster, node, keys) for node in AFTER}
        wait_until(lambda: in_place(cluster, AFTER, copies["n1"]), "every key to be where it belongs", SETTLED_S)
        cluster.kill(*AFTER)
        cluster.start(*AFTER)
        cluster.wait_ready(*AFTER)
        copies |= {f"{node}, restarted": answers(cluster, node, keys) for node in AFTER}
        found = audit(history, copies)
    report(
        name,
        seed=SEED,
        seconds=round(time.monotonic() - began_s, 1),
        outcomes=Counter(operation.outcome.value for operation in history),
        faults={"Kill": len(progress)},
        progress=progress,
        audited_keys=found.acknowledged_count,
    )

    assert left == {LEAVER: 2}
    assert not found, found
    assert found.acknowledged_count > key_count
    assert not leftovers(home)


@pytest.mark.integration
def test_the_newcomer_and_the_leaver_are_killed_in_the_middle(tmp_path):
    run_change(
        tmp_path,
        "membership, short",
        while_joining=[[NEWCOMER]],
        while_leaving=[[LEAVER]],
        key_count=1_000,
        bytes_per_s=60_000,
    )


@pytest.mark.integration
def test_a_member_of_two_that_lost_its_disk_is_replaced_under_its_name_and_leaves(tmp_path):
    sections = "[quorum]\nn = 2\nr = 1\nw = 1\ngossip_s = 0.2\nsuspect_after_s = 1.0\ndown_after_s = 5.0\n"
    with running(tmp_path, size=2, mode="quorum", sections=sections) as cluster:
        loaded = Loaded(cluster, 500)
        cluster.kill("n2")
        shutil.rmtree(cluster.data_dir("n2"))
        assert cluster.request("DELETE", "n1", "/cluster/members/n2").status_code == 200
        cluster.start("n2")
        left = wait_until(cluster.ended, "the node that left to end")
        wait_until(lambda: settled(cluster, ["n1"]), "n1 to be alone")
        history = History(loaded.operations)
        found = audit(history, {"n1": answers(cluster, "n1", list(history.by_key()))})

    assert left == {"n2": 2}
    assert not found, found


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("while_joining", "while_leaving"),
    [
        pytest.param([[NEWCOMER], [NEWCOMER]], [[LEAVER]], id="who moves"),
        pytest.param([[node] for node in BEFORE], [["n1"], ["n1"]], id="who sends, who receives"),
        pytest.param([BETWEEN, BETWEEN], [BETWEEN], id="all"),
    ],
)
def test_kills_in_the_middle_of_a_change_of_members(tmp_path, request, while_joining, while_leaving):
    run_change(
        tmp_path,
        f"membership, {request.node.callspec.id}",
        while_joining=while_joining,
        while_leaving=while_leaving,
        key_count=20_000,
        bytes_per_s=400_000,
    )
