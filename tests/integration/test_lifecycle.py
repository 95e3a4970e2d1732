"""Starting, stopping, restarting and refusing to start, as a person or a service manager would see it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest
import trustme

from raftkv.client import Client
from raftkv.core.errors import DefiniteError
from raftkv.instruments.lab.disks import SmallDisk, why_unavailable
from raftkv.instruments.local.nodes import loopback_sites, wait_until
from raftkv.instruments.local.processes import descendants
from raftkv.process.command import module
from tests.integration.processes import RealCluster, running

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_cluster_of_any_size_serves_through_every_node_and_finds_its_data_again(tmp_path, size):
    with running(tmp_path, size=size) as cluster:
        for node in cluster.nodes:
            assert cluster.put(node, f"from-{node}", node).status_code == 201
        for node in cluster.nodes:
            assert [cluster.get(node, f"from-{other}").text for other in cluster.nodes] == cluster.nodes

        assert [cluster.stop(node) for node in cluster.nodes] == [0] * size
        cluster.start()
        cluster.wait_ready()

        for node in cluster.nodes:
            assert [cluster.get(node, f"from-{other}").text for other in cluster.nodes] == cluster.nodes


def test_a_node_refuses_connections_until_it_can_answer_them(tmp_path):
    """A client is told at once that nobody is there; it is not left waiting for a node that still begins."""
    with RealCluster(tmp_path, size=1) as cluster:
        node = cluster.nodes[0]
        cluster.start()
        refused_count, began_s = 0, time.monotonic()
        while True:
            assert time.monotonic() - began_s < 30
            try:
                connection = socket.create_connection(("127.0.0.1", cluster.http[node]), timeout=10)
                break
            except ConnectionRefusedError:
                refused_count += 1
                time.sleep(0.005)
        with connection:
            accepted_s = time.monotonic()
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            answer = connection.recv(4096)
            waited_s, starting_s = time.monotonic() - accepted_s, accepted_s - began_s

        assert refused_count > 0
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert waited_s < max(0.5, starting_s / 2)


def test_a_hangup_ends_no_node(tmp_path):
    with running(tmp_path, size=1) as cluster:
        node = cluster.nodes[0]
        cluster.processes[node].send_signal(signal.SIGHUP)

        wait_until(lambda: 'read_anew="nothing' in cluster.log(node), "the node to hear of it")
        assert cluster.put(node, "k", "v").status_code == 201
        assert cluster.stop(node) == 0


def test_a_follower_forwards_or_redirects_as_asked(tmp_path):
    with running(tmp_path) as cluster:
        leader = cluster.leader()
        follower = cluster.followers()[0]

        forwarded = cluster.put(follower, "k", "v")
        redirected = cluster.put(follower, "k", "w", params={"redirect": "1"}, allow_redirects=False)
        followed = cluster.put(follower, "k", "w", params={"redirect": "1"})

        assert forwarded.status_code == 201
        assert redirected.status_code == 307
        assert redirected.headers["Location"].startswith(cluster.url(leader, "/kv/k"))
        assert followed.status_code == 200
        assert cluster.get(follower, "k").text == "w"


@pytest.mark.parametrize("acks", ["leader", "majority", "all", "2"])
def test_a_write_waits_for_as_many_replicas_as_asked(tmp_path, acks):
    with running(tmp_path) as cluster:
        answer = cluster.put(cluster.followers()[0], "k", "v", params={"w": acks})

        assert answer.ok
        assert answer.headers["Raftkv-Durability"] == {"2": "majority"}.get(acks, acks)


def test_a_large_value_and_binary_keys_arrive_whole(tmp_path):
    with running(tmp_path) as cluster:
        value = os.urandom(1 << 20)

        assert cluster.put("n2", "a%2Fb/%E2%82%AC", value).status_code == 201

        assert cluster.get("n3", "a/b/%E2%82%AC").content == value
        assert cluster.put("n1", "k", value + b"x").status_code == 413


def test_the_end_of_the_parent_ends_the_node(tmp_path):
    with RealCluster(tmp_path, size=1) as cluster:
        reading, writing = os.pipe()
        command = [*cluster.command("n1"), "--parent-fd", str(reading)]
        process = subprocess.Popen(command, pass_fds=[reading], stdin=subprocess.DEVNULL)
        os.close(reading)
        cluster.processes["n1"] = process
        cluster.wait_ready()
        family = descendants(process.pid)

        os.close(writing)

        assert process.wait(20) == 0
        assert len(family) >= 3
        wait_until(lambda: not any(descendants(pid) for pid in family), "the family to end")


@pytest.mark.parametrize("mode", ["raft", "quorum"])
def test_a_node_that_starts_again_refuses_connections_until_it_answers(tmp_path, mode):
    def write_until_answered(node):
        """What writing came to while ``node`` started, the first answer last."""
        seen = []
        while not seen or seen[-1] == "refused":
            connection = HTTPConnection("127.0.0.1", cluster.http[node], timeout=60)
            try:
                connection.request("PUT", f"/kv/{node}", b"v")
                answer = connection.getresponse()
                seen.append("stored" if answer.status < 300 else json.loads(answer.read())["applied"])
            except ConnectionRefusedError:
                seen.append("refused")
                time.sleep(0.005)
            finally:
                connection.close()
        return seen

    with running(tmp_path, mode=mode) as cluster:
        for node in cluster.nodes:
            cluster.kill(node)
        with ThreadPoolExecutor(len(cluster.nodes)) as pool:
            writing = [pool.submit(write_until_answered, node) for node in cluster.nodes]
            cluster.start()
            for each in writing:
                seen = each.result()

                assert "refused" in seen
                assert seen[-1] in {"stored", "no"}
        cluster.wait_ready()
        assert all(cluster.put(node, "k", "w").ok for node in cluster.nodes)


def test_a_data_directory_too_deep_for_a_socket_serves_and_leaves_nothing_elsewhere(tmp_path, monkeypatch):
    elsewhere = tmp_path / "tmp"
    elsewhere.mkdir()
    monkeypatch.setenv("TMPDIR", str(elsewhere))
    with running(tmp_path, size=1, data="/".join(["deep" * 10] * 3)) as cluster:
        cluster.put("n1", "k", "v")
        cluster.kill("n1")
        left = list(elsewhere.iterdir())
        cluster.start()
        cluster.wait_ready()

        assert cluster.get("n1", "k").text == "v"
        assert cluster.stop("n1") == 0
        assert left == []


def refusal(cluster, node="n1"):
    status, said = cluster.run_to_the_end(node)
    assert status == 2, said
    lines = [line for line in said.strip().splitlines() if "event=starting" not in line]
    assert len(lines) == 1, said
    return lines[0]


def test_a_data_directory_in_use_is_refused(tmp_path):
    with running(tmp_path, size=1) as cluster:
        assert "in use by a running node" in refusal(cluster)


def test_the_data_of_another_cluster_is_refused(tmp_path):
    with running(tmp_path, size=1) as cluster:
        cluster.stop("n1")
        cluster.config.write_text(cluster.config.read_text().replace('name = "test"', 'name = "other"'))

        assert "cluster.name test (configured: other)" in refusal(cluster)


def test_a_node_that_nobody_lets_in_says_whom_it_asks_and_ends_when_told_to(tmp_path):
    with RealCluster(tmp_path, mode="quorum", newcomers=1) as cluster:
        cluster.start("n4")
        log = tmp_path / "n4.log"
        wait_until(lambda: "asking to be let in" in log.read_text(), "the newcomer to ask")

        assert cluster.stop("n4") == 0
        assert f"127.0.0.1:{cluster.http['n1']}" in log.read_text()


def test_a_newcomer_with_another_secret_is_turned_away_and_the_cluster_stays_as_it_is(tmp_path):
    with running(tmp_path, mode="quorum", newcomers=1) as cluster:
        newcomer = cluster.command("n4")
        own = Path(newcomer[newcomer.index("node") + 1])
        (tmp_path / "other").write_text("another secret of the right length")
        (tmp_path / "other").chmod(0o600)
        own.write_text(own.read_text().replace('"secret"', '"other"'))

        done = subprocess.run(newcomer, capture_output=True, text=True, timeout=60, check=False)

        assert (done.returncode, "another secret" in done.stderr) == (2, True), done.stderr
        assert {member["id"] for member in cluster.request("GET", "n1", "/status").json()["members"]} == {
            "n1",
            "n2",
            "n3",
        }


@pytest.mark.parametrize("which", ["http", "peer"])
def test_a_taken_port_is_refused_by_name(tmp_path, which):
    with RealCluster(tmp_path, size=1) as cluster:
        port = getattr(cluster, which)["n1"]
        with socket.create_server(("127.0.0.1", port)):
            assert str(port) in refusal(cluster)


def test_a_corrupt_log_is_refused(tmp_path):
    with running(tmp_path, size=1) as cluster:
        for number in range(20):
            cluster.put("n1", f"k{number}", "v")
        cluster.kill("n1")
        (segment,) = (tmp_path / "data" / "n1" / "log").glob("*.log")
        content = bytearray(segment.read_bytes())
        place = content.index(b"k3") + 1
        content[place] ^= 0xFF
        segment.write_bytes(content)

        assert segment.name in refusal(cluster)


def test_a_state_directory_that_vanished_is_rebuilt_from_the_log(tmp_path):
    with running(tmp_path, size=1) as cluster:
        cluster.put("n1", "k", "v")
        cluster.kill("n1")
        shutil.rmtree(tmp_path / "data" / "n1" / "state")

        cluster.start()
        cluster.wait_ready()

        assert cluster.get("n1", "k").text == "v"


@pytest.mark.parametrize(
    ("mode", "name", "sections"),
    [
        ("raft", "state", ""),
        ("raft", "snapshots", ""),
        ("raft", "lock", ""),
        ("quorum", "store", "[quorum]\nn = 1\nr = 1\nw = 1\n"),
    ],
)
def test_what_stands_where_something_else_belongs_is_refused_by_name(tmp_path, mode, name, sections):
    with running(tmp_path, size=1, mode=mode, sections=sections) as cluster:
        cluster.stop("n1")
        place = tmp_path / "data" / "n1" / name
        if place.is_dir():
            place.rename(tmp_path / "away")
            place.touch()
        else:
            place.unlink()
            place.mkdir()

        assert str(place) in refusal(cluster)


@pytest.mark.skipif(why_unavailable() is not None, reason="mounting a small disk needs root")
@pytest.mark.parametrize(
    ("mode", "size", "section"), [("raft", 1, "[raft]\nsegment_bytes = 1048576\n"), ("quorum", 3, "[quorum]\n")]
)
def test_a_full_disk_refuses_writes_and_goes_on_reading(tmp_path, mode, size, section):
    small = tmp_path / "small"
    sections = f"{section}disk_reserve_bytes = 8388608\n"
    with (
        SmallDisk(small, 48 << 20) as disk,
        RealCluster(tmp_path, size=size, sections=sections, data=str(small), mode=mode) as cluster,
    ):
        cluster.start()
        cluster.wait_ready()
        cluster.put("n1", "k", "v")
        disk.fill(6 << 20)
        wait_until(lambda: not any(map(cluster.is_ready, cluster.nodes)), "the nodes to notice")
        refused = cluster.put("n1", "k", "w")
        ready = cluster.request("GET", "n1", "/readyz")
        read = cluster.get("n1", "k")
        disk.free()

        assert refused.json()["code"] == ready.json()["code"] == "disk_full"
        assert refused.json()["applied"] == "no"
        assert "Retry-After" in refused.headers
        assert read.text == "v"
        assert cluster.log("n1").count("disk full") == 1
        wait_until(lambda: cluster.put("n1", "k", "x").ok, "writes to be taken again")
        cluster.wait_ready()


TLS = """
[http]
tls_cert = "cert.pem"
tls_key = "key.pem"
tls_ca = "ca.pem"
[peers]
tls_cert = "cert.pem"
tls_key = "key.pem"
tls_ca = "ca.pem"
"""


@pytest.fixture
def authority(tmp_path):
    """The file of an authority that has signed ``cert.pem`` for nodes on loopback."""
    made = trustme.CA()
    certificate = made.issue_cert("127.0.0.1")
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    (tmp_path / "key.pem").chmod(0o600)
    Path(tmp_path / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    return str(tmp_path / "ca.pem")


def test_tls_for_clients_and_for_peers(tmp_path, authority):
    with RealCluster(tmp_path, sections=TLS, scheme="https") as cluster:
        cluster.verify = authority
        cluster.start()
        cluster.wait_ready()

        assert cluster.put("n1", "k", "v").status_code == 201
        assert cluster.get("n3", "k").text == "v"
        with pytest.raises(DefiniteError, match="not trusted"):
            Client(cluster.url("n1", ""), timeout_s=1.0).set("k", "w")


def test_a_node_joins_over_https_and_one_that_was_removed_while_away_learns_it(tmp_path, authority):
    sections = "[quorum]\ngossip_s = 0.2\nsuspect_after_s = 1.0\ndown_after_s = 5.0\n" + TLS
    with RealCluster(tmp_path, sections=sections, scheme="https", mode="quorum", newcomers=1) as cluster:
        cluster.verify = authority
        cluster.start()
        cluster.wait_ready()

        def states():
            answer = cluster.request("GET", "n1", "/cluster/members").json()
            return {member["id"]: member["state"] for member in answer["members"]}

        cluster.put("n1", "k", "v")
        cluster.start("n4")
        wait_until(lambda: states() == dict.fromkeys(["n1", "n2", "n3", "n4"], "up"), "n4 to be in")
        cluster.wait_ready("n4")
        read = cluster.get("n4", "k")
        cluster.stop("n2")
        cluster.request("DELETE", "n1", "/cluster/members/n2")
        wait_until(lambda: "n2" not in states(), "n2 to be out")

        assert read.text == "v"
        assert "was removed from the cluster" in refusal(cluster, "n2")


def test_all_members_of_a_leaderless_cluster_move_at_once(tmp_path):
    with running(tmp_path, mode="quorum") as cluster:
        cluster.put("n1", "k", "v")
        for node in cluster.nodes:
            cluster.stop(node)
        text = cluster.config.read_text()
        for site, elsewhere in zip(cluster.sites.values(), loopback_sites(3), strict=True):
            text = text.replace(f'"{site.peer}"', f'"{elsewhere.peer}"')
        cluster.config.write_text(text)
        cluster.start()
        cluster.wait_ready()

        assert cluster.get("n3", "k").text == "v"


def test_up_starts_everything_and_leaves_nothing(tmp_path):
    with RealCluster(tmp_path) as cluster:
        log = (tmp_path / "up.log").open("wb")
        command = module("raftkv", "up", str(cluster.config))
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_until(lambda: all(cluster.status(node) for node in cluster.nodes), "all nodes to answer")
            cluster.wait_ready(*cluster.nodes)
            assert cluster.put("n1", "k", "v").status_code == 201
            family = descendants(process.pid)
            process.send_signal(signal.SIGINT)

            assert process.wait(30) == 0, (tmp_path / "up.log").read_text()
        finally:
            process.kill()
        assert len(family) >= 10
        assert not [pid for pid in family if descendants(pid)]
