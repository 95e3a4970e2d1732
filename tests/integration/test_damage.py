"""The applied state, damaged by whatever changes bytes on a disk: nothing of it is served, and it is rebuilt."""

import os
import shutil

import pytest

from raftkv.instruments.local.nodes import wait_until
from tests.integration.processes import running

pytestmark = pytest.mark.integration

VALUE = b"a value that stands out" * 50


def state_file(cluster, node):
    (found,) = (cluster.home / "data" / node / "state").glob("*/data.mdb")
    return found


def flip(path):
    """One bit of the value, in the running node's map."""
    content = path.read_bytes()
    with path.open("r+b") as file:
        found = content.find(b"stands out")
        assert found > 0
        while found >= 0:
            file.seek(found)
            file.write(bytes([content[found] ^ 1]))
            found = content.find(b"stands out", found + 1)


@pytest.mark.parametrize("query", ["?consistency=local", "?consistency=lease", ""])
def test_a_flipped_bit_is_never_served_and_the_node_rebuilds_its_state_by_itself(tmp_path, query):
    with running(tmp_path, sections="[raft]\nsnapshot_entries = 1000000\n") as cluster:
        assert cluster.put("n1", "k", VALUE, timeout=10).status_code == 201
        for node in cluster.nodes:
            wait_until(lambda node=node: cluster.get(node, "k", "?consistency=local").status_code == 200, "the value")
            flip(state_file(cluster, node))
            seen = []

            def right(node=node, seen=seen):
                answer = cluster.ask(node, f"/kv/k{query}")
                seen.append(answer)
                return answer is not None and answer[0] == 200

            wait_until(right, "the node to be back", 20)
            assert {content for status, content in filter(None, seen) if status == 200} == {VALUE}
            assert "rebuilds its applied state" in cluster.log(node)
            cluster.wait_ready()
        assert all(process.poll() is None for process in cluster.processes.values())


@pytest.mark.parametrize("left", [0.5, 8192, 100, 0])
def test_a_state_that_was_cut_short_is_rebuilt_at_the_start(tmp_path, left):
    with running(tmp_path, size=1) as cluster:
        for number in range(30):
            assert cluster.put("n1", f"k{number}", VALUE).status_code == 201
        cluster.stop("n1")
        path = state_file(cluster, "n1")
        os.truncate(path, int(left * path.stat().st_size) if left == 0.5 else left)
        cluster.start()
        cluster.wait_ready()

        assert {cluster.get("n1", f"k{number}").content for number in range(30)} == {VALUE}


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        (("identity.json",), "identity.json: missing, though there is data beside it (log"),
        (("log",), "log"),
        (("log", "log.extent"), "log: missing or empty, though this node was a member"),
        (("log", "log.extent", "state", "snapshots"), "log: missing or empty, though this node was a member"),
    ],
)
@pytest.mark.parametrize("size", [1, 3])
def test_a_member_that_lost_what_says_what_it_promised_does_not_start(tmp_path, size, lost, told):
    with running(tmp_path, size=size) as cluster:
        assert cluster.put("n1", "k", b"v").status_code == 201
        for node in cluster.nodes:
            cluster.stop(node)
            for name in lost:
                path = cluster.data_dir(node) / name
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        cluster.start()
        statuses = {process.wait(20) for process in cluster.processes.values()}

        assert statuses == {2}
        assert all(told in cluster.log(node) for node in cluster.nodes)


def test_a_leaderless_member_that_lost_its_store_does_not_start(tmp_path):
    with running(tmp_path, mode="quorum") as cluster:
        assert cluster.put("n1", "k", b"v").status_code == 201
        for node in cluster.nodes:
            cluster.stop(node)
            shutil.rmtree(cluster.data_dir(node) / "store")
        cluster.start()

        assert {process.wait(20) for process in cluster.processes.values()} == {2}
        assert all(
            "store: missing or empty, though this node was a member" in cluster.log(node) for node in cluster.nodes
        )
