"""Members of a real raft cluster come and go: nodes join, vote, are restarted, lead, are removed, and end."""

import json
import re
import shutil
import subprocess

import msgspec

from raftkv.core.config import Address
from raftkv.instruments.local.nodes import free_ports, loopback_sites, wait_until
from raftkv.process.command import module
from tests.integration import test_authentication, test_tls
from tests.integration.processes import running

JOINED_S = 60.0


def typed(cluster, *words):
    """What somebody types who has the file of the cluster."""
    command = module("raftkv", "--config", str(cluster.config), *words)
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=2 * JOINED_S)


def at_ports(cluster, node):
    return [f"--http={cluster.sites[node].http}", f"--peer={cluster.sites[node].peer}"]


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


def test_a_machine_that_is_lost_is_replaced_by_another(tmp_path):
    with running(tmp_path, newcomers=1) as cluster:
        assert cluster.put("n1", "k", b"v").status_code == 201
        cluster.kill("n2")
        shutil.rmtree(cluster.data_dir("n2"))
        cluster.start("n4")

        done = typed(cluster, "members", "replace", "n2", "n4", *at_ports(cluster, "n4"), "--within=60s")

        told = ["n4 was let in; it is given the data", "n4 votes", "n2 was removed"]
        assert (done.returncode, done.stderr.splitlines()) == (0, [f"raftkv: {line}" for line in told])
        assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == ["n1", "n3", "n4"]
        cluster.wait_ready("n4")  # it votes before its door is open
        cluster.kill("n3")
        assert cluster.get("n4", "k").content == b"v"
        assert cluster.put("n4", "k", b"w").status_code == 200


def test_a_node_is_moved_to_other_ports(tmp_path):
    with running(tmp_path) as cluster:
        before = cluster.sites["n3"]
        http, peer = [Address("127.0.0.1", port) for port in free_ports(2)]
        cluster.stop("n3")
        cluster.sites["n3"] = msgspec.structs.replace(before, http=http, peer=peer)
        cluster.http["n3"] = http.port

        done = typed(cluster, "members", "move", "n3", *at_ports(cluster, "n3"))
        text = cluster.config.read_text()
        cluster.config.write_text(text.replace(str(before.http), str(http)).replace(str(before.peer), str(peer)))
        cluster.start("n3")

        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1].split()[-2:] == [str(http), str(peer)]
        cluster.wait_ready("n3")
        cluster.kill(next(node for node in ("n1", "n2") if node != cluster.leader()))
        assert cluster.put("n3", "k", b"v").status_code == 201


def test_a_node_joins_a_cluster_that_has_users(tmp_path):
    cluster = test_authentication.cluster_of(tmp_path, newcomers=1)
    with cluster:
        cluster.start()
        cluster.wait_ready()
        user = test_authentication.let_be(cluster, "ann", "a password of ann's")

        let_join(cluster, "n4")

        assert cluster.put("n4", "ann/k", b"v", auth=user).status_code == 201
        assert cluster.get("n4", "ann/k", auth=user).content == b"v"
        assert cluster.put("n4", "k", b"v", auth=user).status_code == 403
        assert cluster.get("n4", "ann/k", auth=None).status_code == 401


class GrowingCluster(test_tls.SecuredCluster):
    """One more node, by the same page, whose file names only itself."""

    def __init__(self, home, authority):
        super().__init__(home, authority)
        certificate = next(line for line in test_tls.lines() if "CN=n3 " in line)
        test_tls.run(re.sub(r"\bn3\b", "n4", certificate), authority)
        test_tls.run(
            next(line for line in test_tls.lines() if line.startswith("for ")).replace("n1 n2 n3", "n4"), authority
        )
        shutil.copytree(home / "n3", home / "n4")
        self.install("n4", "n4")
        (site,) = loopback_sites(1)
        self.sites["n4"] = msgspec.structs.replace(site, id="n4")
        self.http["n4"] = site.http.port
        head, *_ = self.config.read_text().partition("[[node]]")
        tail = self.config.read_text()[self.config.read_text().index("[http]") :]
        section = f'[[node]]\nid = "n4"\nhttp = "{site.http}"\npeer = "{site.peer}"\n'
        (home / "n4" / "cluster.toml").write_text(head + section + tail)

    def command(self, node):
        joins = [f"--join={self.sites['n1'].http}"] if node == "n4" else []
        return super().command(node) + joins


def test_a_node_joins_over_tls(tmp_path):
    authority = tmp_path / "authority"
    authority.mkdir()
    for line in test_tls.lines():
        test_tls.run(line, authority)
    with GrowingCluster(tmp_path, authority) as cluster:
        cluster.start()
        cluster.wait_ready()
        assert cluster.put("n1", "k", b"v").status_code == 201

        let_join(cluster, "n4")

        assert cluster.get("n4", "k").content == b"v"
        assert all("peer_refused" not in cluster.log(node) for node in cluster.sites)
