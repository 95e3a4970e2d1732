"""Rules that differ, old copies of a directory and emptied ones, on real nodes."""

import shutil

import pytest

from raftkv.instruments.local.nodes import wait_until
from tests.integration.processes import RealCluster, running

pytestmark = pytest.mark.integration

KEYS = [f"k{number}" for number in range(20)]


def fill(cluster, node, value):
    for key in KEYS:
        assert cluster.put(node, key, value).status_code in (200, 201)


def found(cluster, node):
    return {cluster.get(node, key).text for key in KEYS}


def unready(cluster, node):
    """What ``/readyz`` says, if it says that the node is not ready."""
    status, body = cluster.ask(node, "/readyz") or (0, b"")
    return body.decode() if status == 503 else ""


def misfit(cluster, node, peer):
    status = cluster.status(node)
    return next((one.misfit for one in status.peers if one.id == peer), None) or "" if status else ""


@pytest.mark.parametrize("mode", ["raft", "quorum"])
def test_an_old_copy_of_a_data_directory_is_refused_and_an_emptied_one_taken_back(tmp_path, mode):
    with running(tmp_path, mode=mode) as cluster:
        fill(cluster, "n1", "old")
        cluster.stop("n3")
        shutil.copytree(cluster.data_dir("n3"), tmp_path / "copy")
        cluster.start("n3")
        cluster.wait_ready()
        fill(cluster, "n1", "new")
        cluster.stop("n3")
        shutil.rmtree(cluster.data_dir("n3"))
        shutil.copytree(tmp_path / "copy", cluster.data_dir("n3"))
        for _ in range(3):  # however often it starts
            cluster.start("n3")
            wait_until(
                lambda: "this node takes no part: its data is a copy" in unready(cluster, "n3"), "n3 to be found out"
            )
            wait_until(lambda: "its data is a copy" in misfit(cluster, "n1", "n3"), "n1 to say why")
            assert "its data is a copy" in cluster.status("n3").misfit
            assert found(cluster, "n1") == found(cluster, "n2") == {"new"}
            cluster.stop("n3")
        assert "data_is_an_old_copy" in cluster.log("n3")

        shutil.rmtree(cluster.data_dir("n3"))
        cluster.start("n3")
        cluster.wait_ready()
        wait_until(lambda: found(cluster, "n3") == {"new"}, "n3 to have what it lost")
        cluster.kill("n1")
        cluster.wait_ready("n2", "n3")
        assert found(cluster, "n3") == {"new"}
        cluster.start("n1")
        cluster.wait_ready()


def test_two_emptied_directories_of_three_are_refused_with_the_reason(tmp_path):
    with running(tmp_path) as cluster:
        fill(cluster, "n1", "v")
        for node in ("n2", "n3"):
            cluster.stop(node)
            shutil.rmtree(cluster.data_dir(node))
        cluster.start("n2", "n3")

        wait_until(lambda: "its data was lost" in unready(cluster, "n2"), "n2 to say why")
        assert cluster.put("n1", "k0", "w", params={"timeout": "1"}).status_code >= 500
        assert cluster.get("n1", "k0", "?consistency=local").text == "v"


@pytest.mark.parametrize(
    ("mode", "changed", "told"),
    [
        ("raft", "[http]\nmax_value_bytes = 2000000\n", "http.max_value_bytes 2000000 (here 1048576)"),
        ("raft", "[http]\nmax_batch_operations = 9\n", "http.max_batch_operations 9 (here 1000)"),
        ("quorum", "[quorum]\ntombstone_grace_s = 5.0\n", "quorum.tombstone_grace_s 5.0 (here 864000.0)"),
    ],
)
def test_a_node_with_other_rules_takes_no_part_and_both_sides_say_which(tmp_path, mode, changed, told):
    with running(tmp_path, mode=mode) as cluster:
        cluster.stop("n3")
        right = cluster.config.read_text()
        cluster.config.write_text(right + changed)
        cluster.start("n3")

        wait_until(lambda: told in misfit(cluster, "n1", "n3"), "n1 to say which")
        wait_until(lambda: "n1 has other rules" in unready(cluster, "n3"), "n3 to say so")
        wait_until(lambda: "n1 has other rules" in misfit(cluster, "n3", "n1"), "n3's status to say so")
        assert told in cluster.log("n1")
        cluster.stop("n3")
        cluster.config.write_text(right)
        cluster.start("n3")
        cluster.wait_ready()


def test_nodes_that_first_start_with_other_sizes_take_no_part_until_their_files_agree(tmp_path):
    with RealCluster(tmp_path, mode="quorum") as cluster:
        text = cluster.config.read_text()
        for node, (r, w) in {"n1": (2, 2), "n2": (1, 3), "n3": (1, 1)}.items():
            cluster.config.write_text(f"{text}[quorum]\nr = {r}\nw = {w}\n")
            cluster.start(node)
            wait_until(lambda node=node: cluster.ask(node, "/livez"), "it to have read its file")

        wait_until(lambda: "quorum.r 1 (here 2), quorum.w 3 (here 2)" in misfit(cluster, "n1", "n2"), "n1 to say which")
        wait_until(lambda: "quorum.r 2 (here 1), quorum.w 2 (here 3)" in misfit(cluster, "n2", "n1"), "n2 as well")
        wait_until(lambda: "quorum.w 3 (here 1)" in misfit(cluster, "n3", "n2"), "n3 too")
        for node in cluster.http:
            assert "has other rules: quorum." in unready(cluster, node)
            assert cluster.put(node, "k").status_code == 503
            cluster.stop(node)

        cluster.config.write_text(text)
        cluster.start()
        cluster.wait_ready()
        assert cluster.request("POST", "n1", "/config", json={"w": 3}).status_code == 200
        cluster.stop("n3")
        cluster.start("n3")
        cluster.wait_ready()
        wait_until(lambda: cluster.request("GET", "n3", "/config").json()["w"] == 3, "n3 to go by the new W")


@pytest.mark.parametrize(
    ("mode", "changed", "told"),
    [
        ("raft", "[raft]\nidempotency_keys = 1\n", "raft.idempotency_keys 100000 (configured: 1)"),
        ("quorum", "[quorum]\nvnodes = 7\n", "quorum.vnodes 100 (configured: 7)"),
    ],
)
def test_a_rule_that_holds_for_life_is_refused_at_the_start(tmp_path, mode, changed, told):
    with running(tmp_path, mode=mode) as cluster:
        cluster.stop("n3")
        cluster.config.write_text(cluster.config.read_text() + changed)

        status, said = cluster.run_to_the_end("n3")
        assert status == 2
        assert told in said
