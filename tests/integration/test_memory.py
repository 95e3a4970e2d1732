"""Nodes under a memory limit against the largest that a request may ask for; what they took, they must bear again."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.processes import RealCluster

pytestmark = pytest.mark.integration

LIMIT_BYTES = 700 << 20
"""For each process of a node: what it allocates itself; the mapped state is not in it."""

VALUE = b"v" * (1 << 20)


class LimitedCluster(RealCluster):
    """Nodes that end when they allocate more than ``LIMIT_BYTES``."""

    def command(self, node):
        return ["prlimit", f"--data={LIMIT_BYTES}", "--", *super().command(node)]


def ask_for_much(cluster):
    """A thousand times a large value, alone and beside a write, once and in repeats, at a node and at several."""
    gets = [{"op": "get", "key": "large"}] * 999
    asked = []
    for node in cluster.nodes:
        # A key for each node: of leaderless writes of one key that meet, the one that loses is in doubt.
        put = {"op": "put", "key": f"small-{node}", "value": "v"}
        once = {"Idempotency-Key": f"once-{node}"}
        asked += [(node, {"operations": [*gets, gets[0]]}, {}, ""), (node, {"operations": [*gets, put]}, {}, "")]
        if cluster.mode == "raft":
            asked += [
                (node, {"operations": [*gets, put]}, once, ""),
                (node, {"operations": [*gets, put]}, once, "&w=3"),
            ]
    with ThreadPoolExecutor(3) as threads:
        return list(
            threads.map(
                lambda one: cluster.request(
                    "POST", one[0], f"/batch?timeout=50{one[3]}", json=one[1], headers=one[2], timeout=60
                ),
                asked,
            )
        )


@pytest.mark.parametrize("mode", ["raft", "quorum"])
def test_no_request_and_no_entry_of_the_log_ends_a_node_that_has_little_memory(tmp_path, mode):
    with LimitedCluster(tmp_path, mode=mode) as cluster:
        cluster.start()
        cluster.wait_ready()
        assert cluster.put("n1", "large", VALUE).status_code == 201

        for answer in ask_for_much(cluster):
            assert answer.status_code == 200, answer.text[:300]
            statuses = [result["status"] for result in answer.json()["results"]]
            assert statuses[0] == 200
            assert 413 in statuses
            assert statuses[-1] in (200, 201, 413)

        assert all(process.poll() is None for process in cluster.processes.values())
        # The state is rebuilt from the log, so that every entry is applied once more.
        cluster.kill(*cluster.nodes)
        marks = list((cluster.home / "data").glob("*/state/*/BOOT"))
        assert len(marks) == (3 if mode == "raft" else 0)
        for mark in marks:
            mark.unlink()
        cluster.start()
        cluster.wait_ready()
        assert all(cluster.get(node, "large").content == VALUE for node in cluster.nodes)
        assert all(process.poll() is None for process in cluster.processes.values())
