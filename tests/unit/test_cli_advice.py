"""What the nodes' answers together say of the cluster, in one sentence."""

import pytest

from raftkv.cli import main
from raftkv.cli.advice import health, hints, remark, unserved
from tests.unit.fake_server import FakeServer, json, problem, unused_url
from tests.unit.statuses import STATUS, node_status, silent, surveyed
from tests.unit.test_cli_commands import PAGE
from tests.unit.test_cli_leaderless import member


def nodes(answering, size, *, ready=True, ring=False, reason=None):
    members = [member(f"n{number}") for number in range(size)]
    more = {"ring": "abc", "members": members} if ring else {}
    names = [f"n{number}" for number in range(size)]
    up = [surveyed(node=name, cluster_size=size, ready=ready, reason=reason, **more) for name in names[:answering]]
    return [*up, *(silent(f"http://{name}", f"http://{name} gone") for name in names[answering:])]


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (nodes(3, 3), ""),
        (nodes(2, 3), "degraded: 2 of 3 nodes answer; no further failure can be borne"),
        (nodes(4, 5), "degraded: 4 of 5 nodes answer; 1 further failure can be borne"),
        (
            nodes(1, 3, ready=False),
            "1 of 3 nodes answers: no writes, no linearizable reads; local reads answer (--consistency local)",
        ),
        (nodes(1, 3), "degraded: 1 of 3 nodes answers"),  # that we do not reach others does not mean that it does not
        (nodes(2, 3, ring=True), "degraded: 2 of 3 nodes answer"),
        (
            nodes(1, 3, ready=False, ring=True, reason="no quorum: 1 of 3"),
            "1 of 3 nodes answers, none of them ready (no quorum: 1 of 3); local reads answer (--consistency local)",
        ),
        (nodes(3, 3, ring=True), ""),
        (nodes(0, 2), "no node answers: http://n0, http://n1 each gone"),
        (
            [*nodes(0, 2), silent("http://n2", "http://n2 is slow")],
            "no node answers: http://n0, http://n1 each gone; http://n2 is slow",
        ),
    ],
)
def test_what_is_missing_is_told_with_what_it_means(found, told):
    assert remark(found) == told


def test_a_node_that_answers_and_is_not_ready_is_told_with_its_reason_where_others_are_ready():
    reason = "stamps ahead of the agreed time"
    (unready, *_), ready = nodes(3, 3, ready=False, ring=True, reason=reason), nodes(3, 3, ring=True)

    assert remark([unready, *ready[1:]]) == "degraded: n0 is not ready: stamps ahead of the agreed time"
    assert remark(nodes(3, 3, ready=False, ring=True, reason=reason)) == ""


def test_a_node_that_was_removed_and_is_still_named_is_no_failure():
    assert remark([*nodes(3, 3), silent("http://old:8001")]) == ""


def test_a_refusal_for_lack_of_nodes_is_explained_by_a_look_at_all_of_them(capfd):
    lonely = json({**STATUS, "ready": False, "reason": "no quorum", "cluster_size": 3})
    with FakeServer(problem(503, "no_leader", "no", {"Retry-After": "10"}), lonely, PAGE) as server:
        status = main.run(["get", "k", "--server", f"{server.url},{unused_url()}", "--timeout", "2s"])

    assert status == 3
    assert "1 of 3 nodes answers: no writes, no linearizable reads" in capfd.readouterr().err


def test_status_names_why_no_node_answers(capfd):
    assert main.run(["status", "--server", unused_url(), "--timeout", "0.5"]) == 3
    assert "refuses connections" in capfd.readouterr().err


def test_nodes_that_answer_and_take_no_part_are_named_before_anything_is_said_of_what_can_be_borne():
    reason = "this node takes no part: its data is a copy"
    copy = surveyed(node="n3", cluster_size=3, ready=False, reason=reason)
    other = surveyed(node="n1", cluster_size=3, ready=False, reason="no quorum: 1 of 3")
    told = remark([other, silent("http://n2", "refused", "n2"), copy])

    assert told == (
        "degraded: 2 of 3 nodes answer; n1 is not ready: no quorum: 1 of 3; "
        "n3 is not ready: this node takes no part: its data is a copy"
    )


@pytest.mark.parametrize(
    ("size", "told"),
    [
        (1, "healthy: no failure can be borne"),
        (2, "healthy: no failure can be borne"),
        (3, "healthy: one failure can be borne"),
        (5, "healthy: two failures can be borne"),
        (9, "healthy: 4 failures can be borne"),
    ],
)
def test_a_cluster_that_lacks_nothing_says_what_it_can_bear(size, told):
    assert health([node.status for node in nodes(size, size)]) == told


def test_a_ring_says_it_of_the_replicas_of_a_key():
    ring = [node_status(node=f"n{number}", ring="abc", n=3, r=2, w=2) for number in range(5)]

    assert health(ring) == "healthy: of the 3 replicas of each key one failure can be borne"


def test_why_nobody_is_served_is_told_with_what_that_means():
    assert unserved([node_status(ready=False, reason="no leader")]) == "no leader: no writes, no linearizable reads"
    assert unserved([node_status(ready=False, reason="no clocks", ring="abc")]) == "no clocks"
    full = node_status(ready=False, has_room=False, reason="the disk is full: reads go on")
    assert unserved([full]) == "the disk is full: reads go on"


def test_what_may_become_trouble_is_told_before_it_is():
    peers = [{"id": "n2", "http": None, "reachable": True, "clock_ahead_s": 12.34}]
    other = [{"id": "n1", "http": None, "reachable": True, "clock_ahead_s": -12.34}]
    room = {"disk_free_bytes": 800 << 20, "disk_reserve_bytes": 512 << 20}

    assert hints([node_status(peers=peers), node_status(node="n2", peers=other)]) == [
        "the clock of n2 is 12.3 s ahead of that of n1"
    ]
    assert hints([node_status(**room)]) == ["n1: 800 MiB of disk are free; below 512 MiB writes are refused"]
    assert hints([node_status(**room, has_room=False)]) == []  # of which its reason speaks
    assert hints([node_status(**room | {"disk_free_bytes": 2 << 30})]) == []
    assert hints([node_status(), node_status(node="n2", version="1.1"), node_status(node="n3")]) == [
        "versions differ: 1.0: n1, n3; 1.1: n2"
    ]
    assert hints([node_status(), node_status(node="n2")]) == []
    ends = [node_status(certificate_ends_in_s=left_s) for left_s in (-1, 86_400, 10 * 86_400, 30 * 86_400)]
    assert hints(ends) == [f"n1: a certificate {told}" for told in ("has ended", "ends in 1 day", "ends in 10 days")]


def test_a_learner_that_answers_bears_no_failure():
    learner = {"id": "n3", "http": "h:1", "peer": "h:2", "reachable": True, "state": "learner"}
    nodes = [surveyed(node=name, cluster_size=2, members=[learner]) for name in ("n1", "n3")]

    assert "1 of 2 nodes answers" in remark(nodes)


def test_of_backups_the_newest_of_all_nodes_counts_once_two_intervals_have_passed():
    def told(*ages_s: int | None) -> list[str]:
        return hints([node_status(backup_interval_s=3600, backup_age_s=age_s) for age_s in ages_s])

    assert told(None, None) == ["no backup is known, though one is to be made every 60 min"]
    assert told(10_000, None, 7200) == []
    assert told(10_000, 7201) == ["the newest backup is 2 h old, though one is to be made every 60 min"]
    assert hints([node_status(backup_age_s=10**9)]) == []
