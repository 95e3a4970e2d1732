"""The status of real nodes as a stream, in both modes, at a node and through the proxy, while nodes are killed."""

import json
import subprocess

import pytest
import requests

from raftkv.process.command import module
from tests.integration.processes import RealCluster
from tests.integration.test_proxy import proxy_for

pytestmark = pytest.mark.integration
LINES = {"Accept": "application/x-ndjson"}


class Follower:
    """Statuses of one node, as they come."""

    def __init__(self, url):
        self.response = requests.get(f"{url}/status", headers=LINES, stream=True, timeout=15)
        assert self.response.status_code == 200
        self.node = self.response.headers["raftkv-node"]
        self.lines = filter(None, self.response.iter_lines(chunk_size=1))

    def until(self, condition):
        while not condition(found := json.loads(next(self.lines))):
            # Between the deaths of its two processes a node may say that it has no status to tell.
            assert found.get("node", self.node) == self.node
        return found


def test_a_follower_shows_writes_and_another_leader_as_they_come(tmp_path):
    with RealCluster(tmp_path) as cluster:
        cluster.start()
        cluster.wait_ready()
        leader = requests.get(cluster.url("n1", "/status"), timeout=10).json()["leader"]
        other = next(node for node in cluster.nodes if node != leader)
        follower = Follower(cluster.url(other, ""))
        assert follower.until(lambda found: found["leader"] == leader)["role"] == "follower"
        revision = requests.put(cluster.url(other, "/kv/a"), data=b"v", timeout=10).json()["revision"]
        assert follower.until(lambda found: found["revision"] >= revision)["revision"] == revision
        cluster.kill(leader)

        found = follower.until(lambda found: found["leader"] not in (leader, None))

        assert found["term"] > 1
        assert found["ready"] or follower.until(lambda found: found["ready"])
        assert [peer["reachable"] for peer in found["peers"] if peer["id"] == leader] == [False]


@pytest.mark.parametrize("mode", ["raft", "quorum"])
def test_a_stream_through_the_proxy_is_cut_off_when_its_node_is_killed_and_another_can_be_followed(tmp_path, mode):
    with RealCluster(tmp_path, mode=mode) as cluster:
        cluster.start()
        cluster.wait_ready()
        with proxy_for(cluster) as url:
            follower = Follower(url)
            before = follower.until(lambda _: True)["revision"]
            assert requests.put(f"{url}/kv/a", data=b"v", timeout=10).ok
            follower.until(lambda found: found["revision"] > before)
            cluster.kill(follower.node)

            with pytest.raises(requests.RequestException):
                follower.until(lambda _: False)

            again = Follower(url)
            assert again.node != follower.node
            assert again.until(lambda found: found["ready"])["mode"] == mode


def test_the_command_prints_a_line_now_and_one_for_a_write(tmp_path):
    with RealCluster(tmp_path, size=1) as cluster:
        cluster.start()
        cluster.wait_ready()
        command = [*module("raftkv"), "--server", cluster.url("n1", ""), "status", "--follow"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as follower:
            assert follower.stdout.readline().endswith("revision 0  peers 0/0  ready\n")
            assert requests.put(cluster.url("n1", "/kv/a"), data=b"v", timeout=10).ok
            assert "  revision 1  " in follower.stdout.readline()
            cluster.kill("n1")

            assert follower.wait(15) == 3
            assert follower.stderr.read().startswith("raftkv: the stream broke off: ")
