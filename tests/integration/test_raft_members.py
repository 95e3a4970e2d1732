"""Members of a real raft cluster come and go: nodes join, vote, are restarted, lead, are removed, and end."""

import json

from raftkv.instruments.local.nodes import wait_until
from tests.integration.processes import running

JOINED_S = 60.0


def states(cluster, node):
    answer = cluster.ask(node, "/cluster/members")
    return {one["id"]: one["state"] for one in json.loads(answer[1])["members"]} if answer and answer[0] == 200 else {}


def let_join(cluster, node, *, through="n1"):
    cluster.start(node)
    wait_until(lambda: states(cluster, through).get(node) == "voter", f"{node} to vote", JOINED_S)
    wait_until(lambda: states(cluster, node).get(node) == "voter", f"{node} to hear of it", JOINED_S)


def test_a_cluster_of_one_becomes_one_of_three_and_one_again(tmp_path):
    with running(tmp_path, size=1, newcomers=2) as cluster:
        assert cluster.put("n1", "before", b"one").status_code == 201

        let_join(cluster, "n2")
        let_join(cluster, "n3")
        for node in ("n1", "n2", "n3"):
            assert cluster.get(node, "before").content == b"one"
            assert cluster.put(node, f"through-{node}").status_code == 201

        for node in ("n1", "n2", "n3"):  # each comes back knowing who the others are, whatever its file says
            cluster.kill(node)
            cluster.start(node)
            wait_until(lambda node=node: (cluster.ask(node, "/readyz") or (0,))[0] == 200, f"{node}, ready", JOINED_S)
            assert states(cluster, node) == {"n1": "voter", "n2": "voter", "n3": "voter"}

        led = cluster.request("POST", "n1", "/cluster/transfer", json={"to": "n2"})
        assert (led.status_code, led.json()["leader"]) == (200, "n2")

        for gone in ("n2", "n3"):
            wait_until(
                lambda gone=gone: cluster.request("DELETE", "n1", f"/cluster/members/{gone}").status_code in (200, 404),
                f"{gone} to be removed",
                JOINED_S,
            )
            wait_until(lambda gone=gone: gone not in states(cluster, "n1"), f"{gone} to be gone", JOINED_S)
            assert cluster.processes[gone].wait(JOINED_S) == 2
        assert states(cluster, "n1") == {"n1": "voter"}
        assert cluster.put("n1", "after").status_code == 201
        assert cluster.get("n1", "through-n3").status_code == 200


def test_a_node_is_let_in_though_what_it_is_sent_is_a_snapshot_of_before_any_change(tmp_path):
    """Such a snapshot does not say who the members are, and the node must stay linked until the log has told it."""
    sections = "[raft]\nsnapshot_entries = 50\ntrailing_entries = 1\nsegment_bytes = 65536\n"
    with running(tmp_path, size=1, newcomers=1, sections=sections) as cluster:
        for number in range(120):
            cluster.put("n1", f"k{number}", b"v" * 1000)
        wait_until(lambda: any((cluster.data_dir("n1") / "snapshots").glob("*.manifest")), "a snapshot")

        let_join(cluster, "n2")

        assert "snapshot installed" in cluster.log("n2")
        assert cluster.get("n2", "k0").status_code == 200


def test_a_founder_that_was_removed_while_it_was_away_learns_it_when_it_starts(tmp_path):
    with running(tmp_path) as cluster:
        cluster.put("n1", "k")
        gone = cluster.followers()[0]
        cluster.kill(gone)
        (asked, _) = [node for node in cluster.nodes if node != gone]
        wait_until(
            lambda: cluster.request("DELETE", asked, f"/cluster/members/{gone}").status_code in (200, 404),
            "the removal",
            JOINED_S,
        )

        status, said = cluster.run_to_the_end(gone)

        assert status == 2
        assert "was removed from the cluster" in said.splitlines()[-1]
