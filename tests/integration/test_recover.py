"""Two of three are lost for good under load: the third becomes a cluster of one, and that one of three again."""

import json
import secrets
import shutil
import subprocess

from raftkv.client import Client
from raftkv.instruments.local.nodes import wait_until
from raftkv.process.command import module
from raftkv.raft.snapshots.recovery import behind
from raftkv.storage.disk import RealDisk
from raftkv.storage.log.recovery import recover
from raftkv.storage.snapshots.files import newest_in
from tests.integration.processes import RealCluster
from tests.integration.test_backup import Load
from tests.integration.test_raft_members import let_join, states

SECTIONS = "[raft]\nsnapshot_entries = 80\n"


def typed(*arguments):
    done = subprocess.run(module("raftkv", *arguments), capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stdout + done.stderr


def files(home):
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in home.rglob("*") if path.is_file()}


def held(home, keys):
    """Those of ``keys`` that are in the log of the node behind its snapshot."""
    newest = newest_in(home / "snapshots")
    assert newest is not None
    tail = b"".join([command for command, _, _ in behind(recover(RealDisk(), home / "log"), newest[1])])
    return {key for key in keys if key.encode() in tail}


def client_of(cluster):
    return Client([f"http://127.0.0.1:{port}" for port in cluster.http.values()], timeout_s=20)


def test_a_survivor_becomes_a_cluster_with_all_that_it_held_and_the_lost_nodes_no_part_of_it(tmp_path):
    (tmp_path / "new").mkdir()
    secret = secrets.token_hex(32)
    for place in (tmp_path, tmp_path / "new"):
        (place / "secret").write_text(secret)
    with (
        RealCluster(tmp_path, sections=SECTIONS) as old,
        RealCluster(tmp_path / "new", 1, SECTIONS, name="recovered", newcomers=2) as new,
    ):
        old.start()
        old.wait_ready()
        survivor = old.followers()[0]
        returning, gone = [node for node in old.nodes if node != survivor]
        home = old.data_dir(survivor)
        with Load(old, "load") as load:
            wait_until(lambda: len(load.acknowledged) > 200 and newest_in(home / "snapshots"), "a snapshot", 60.0)
            status, said = typed("recover", "--from", str(home))
            assert (status, "in use by a running node" in said) == (2, True)
            old.kill(returning, gone)
            acknowledged = dict(load.acknowledged)
            old.kill(survivor)
        old.data_dir(returning).rename(tmp_path / "astray")
        shutil.rmtree(old.data_dir(gone))
        before = files(home)

        status, said = typed("recover", "--from", str(home), "--config", str(new.config), "--yes", "--json")

        assert status == 0, said
        assert 'WARNING: a new cluster is made of one survivor of "test"' in said
        told = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
        assert files(home) == before
        new.start()
        new.wait_ready("n1")
        with client_of(new) as client:
            found = {record.key: record for record in client.list("load/")}
            for key, revision in acknowledged.items():
                assert key in found or revision > told["revision"]
            assert held(home, acknowledged) <= found.keys()
            assert len(found) > 190
            assert client.set("load/later", "1") > told["revision"] + 1_000_000

        let_join(new, "n2")
        let_join(new, "n3")

        # A node of the lost cluster comes back, and calls on one of the new ones where another of its own was.
        (tmp_path / "astray").rename(old.data_dir(returning))
        text = old.config.read_text()
        old.config.write_text(text.replace(str(old.sites["n3"].peer), str(new.sites["n3"].peer)))
        old.start(returning)
        wait_until(lambda: "the dialer belongs to another cluster" in new.log("n3"), "it to be refused")
        new.kill("n2")
        assert new.put("n3", "after").status_code == 201
        assert states(new, "n1") == dict.fromkeys(("n1", "n2", "n3"), "voter")
        assert old.leader_now() is None


def test_a_leaderless_cluster_has_no_quorum_to_lose(tmp_path):
    with RealCluster(tmp_path, mode="quorum") as cluster:
        cluster.start()
        cluster.wait_ready()
        assert cluster.put("n1", "k").status_code == 201
        cluster.kill(*cluster.nodes)

        status, said = typed("recover", "--from", str(cluster.data_dir("n1")))

        assert status == 2
        assert "of a leaderless cluster, which has no quorum to lose" in said
        assert said.count("\n") == 1
