"""Real faults on real processes: nothing acknowledged is lost, nothing refused is applied, nobody lies about a read."""

import os
import signal
import socket

import pytest
import requests

from raftkv.instruments.lab.faults import Kill, Mute, Partition, Pause
from raftkv.instruments.local.nodes import wait_until
from raftkv.instruments.local.processes import descendants
from tests.integration.processes import RealCluster, running
from tests.integration.trial import run_trial

pytestmark = pytest.mark.integration


@pytest.fixture
def cluster(tmp_path):
    with RealCluster(tmp_path) as made:
        made.start()
        made.wait_ready()
        yield made


def short_run(stage):
    stage.strike(Kill(nodes=("leader",)), for_s=1.0, rest_s=2.0)
    stage.strike(Pause(nodes=("leader",), part="replica"), for_s=3.0)
    stage.strike(Pause(nodes=("leader",)), for_s=3.0)
    stage.strike(Partition(groups=(("leader",), ("rest",))), for_s=3.0)
    stage.progress(50)
    stage.strike(Mute(senders=("leader",), receivers=("rest",)), for_s=2.0)
    stage.progress(50)
    stage.strike(Kill(nodes=("all",)), for_s=0.5)
    stage.progress(50)


def test_kills_pauses_and_partitions_under_load(tmp_path):
    run_trial(tmp_path, "short run", short_run, sections="[raft]\nsnapshot_entries = 200\ntrailing_entries = 20\n")


def test_a_leader_cut_off_from_the_majority_stops_answering_but_for_local_reads(cluster):
    cluster.put(cluster.nodes[0], "k", "old")
    leader = cluster.leader()
    others = [node for node in cluster.nodes if node != leader]
    wait_until(lambda: cluster.get(leader, "k", "?consistency=local").content == b"old", "the write to be applied")
    cluster.pause(*others)
    wait_until(lambda: cluster.status(leader).role != "leader", "the leader to step down", limit_s=5)

    read = cluster.get(leader, "k", "?timeout=1")
    lease = cluster.get(leader, "k", "?consistency=lease&timeout=1")
    write = cluster.put(leader, "k", "new", params={"timeout": "1"})
    local = cluster.get(leader, "k", "?consistency=local")
    ready = cluster.request("GET", leader, "/readyz")
    cluster.resume(*others)

    assert [read.status_code, lease.status_code, write.status_code] == [503, 503, 503]
    assert write.json()["applied"] == "no"
    assert "Retry-After" in write.headers
    assert local.content == b"old"
    assert local.headers["Raftkv-Consistency"] == "local"
    assert int(local.headers["Raftkv-Staleness-Ms"]) > 500
    assert ready.status_code == 503
    cluster.wait_ready()
    assert cluster.get(leader, "k").content == b"old"


def test_a_node_away_for_many_writes_catches_up_from_a_snapshot(tmp_path):
    with running(tmp_path, sections="[raft]\nsnapshot_entries = 200\ntrailing_entries = 20\n") as cluster:
        away = cluster.followers()[0]
        cluster.kill(away)
        operations = [{"op": "put", "key": f"k{number}", "value": "v" * 100} for number in range(100)]
        near = next(iter(cluster.processes))
        for _ in range(30):
            answer = cluster.request("POST", near, "/batch", json={"operations": operations})
            assert answer.status_code == 200, answer.text
        for number in range(600):
            assert cluster.put(near, f"single{number}", "v").ok
        wait_until(lambda: list((tmp_path / "data" / near / "snapshots").glob("*.manifest")), "a snapshot")

        cluster.start(away)
        cluster.wait_ready(away)

        wait_until(lambda: cluster.get(away, "single599", "?consistency=local").ok, "the node to catch up")
        assert cluster.get(away, "k99", "?consistency=local").content == b"v" * 100
        assert "snapshot installed" in cluster.log(away)
        # What it took over carries it through a restart on its own.
        cluster.kill(away)
        cluster.start(away)
        cluster.wait_ready(away)
        assert cluster.get(away, "single599", "?consistency=local").ok


def test_a_restart_of_a_front_end_worker_hurts_nobody(cluster):
    node = cluster.nodes[0]
    cluster.put(node, "k", "v")
    # node -> gunicorn's arbiter -> worker: the worker is the one without children
    family = descendants(cluster.processes[node].pid) - {cluster.processes[node].pid}
    (worker,) = [pid for pid in family if descendants(pid) == {pid}]
    os.kill(worker, signal.SIGKILL)

    def served():
        try:
            return cluster.get(node, "k").content == b"v"
        except requests.ConnectionError:
            return False

    wait_until(served, "a new worker")


def test_a_stranger_on_the_peer_port_changes_nothing(cluster):
    cluster.put("n1", "k", "v")
    port = cluster.peer[cluster.leader()]
    connections = []
    for payload in (b"", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 4096, b"\x00\x00\x00\x05hello", b"\x80\x04\x95" * 100):
        connection = socket.create_connection(("127.0.0.1", port), timeout=5)
        connection.sendall(payload)
        connections.append(connection)
    for connection in connections[1:4]:
        connection.settimeout(5)
        try:
            answer = connection.recv(4096)
        except OSError:
            answer = b""
        assert len(answer) < 256

    assert cluster.get("n2", "k").content == b"v"
    assert cluster.put("n3", "k", "w").ok
    for connection in connections:
        connection.close()
