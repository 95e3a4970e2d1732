"""A cluster of the version before is upgraded node by node while it serves: its data, and what its nodes say, go on.

The version before is taken out of the repository's own history, so it is the real one, with its own words and files;
where a checkout has no history the tests say so and are skipped. What versions do to each other without one, the
simulator tries in any checkout (``tests/simulation/test_versions.py``).
"""

import io
import subprocess
import tarfile
import time
from functools import partial
from pathlib import Path

import msgspec
import pytest

from raftkv.instruments.lab.script import Workload
from raftkv.instruments.lab.workload import Clients
from raftkv.instruments.local.cluster import LocalCluster
from raftkv.instruments.local.nodes import loopback_sites, wait_until
from tests.integration.audit import audit
from tests.integration.trial import SEED, leftovers, run_trial

pytestmark = pytest.mark.integration

BEFORE = "cccd3b982f80ba039b61d60e9a347eb997369d9b"
"""The version before: the last one without members, users and backups."""

ROOT = Path(__file__).parents[2]
WORKLOAD = Workload(seed=SEED, clients=20)
LEADERLESS = Workload(seed=SEED, clients=20, rate_per_s=100, retry_share=0, mix={"once": 60, "recall": 20, "get": 20})


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """The command under which a node runs the version before."""
    git = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "archive", BEFORE, "raftkv"]
    taken = subprocess.run(git, capture_output=True, check=False)
    if taken.returncode:
        pytest.skip(f"the history of this checkout does not have the version before: {taken.stderr.decode().strip()}")
    home = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(taken.stdout)) as files:
        files.extractall(home, filter="data")
    return ("env", f"PYTHONPATH={home}")


def change_version(cluster, node, under):
    """End ``node`` in good order and let it go on as another version."""
    assert cluster.stop(node) == 0
    cluster.sites[node] = msgspec.structs.replace(cluster.sites[node], under=under)
    cluster.start(node)
    cluster.wait_ready(node)
    environment = Path(f"/proc/{cluster.processes[node].pid}/environ").read_bytes().split(b"\0")
    assert not under or under[-1].encode() in environment


def test_a_cluster_with_a_leader_is_upgraded_node_by_node_under_load(tmp_path, before):
    """One node goes back once, as people do who see something that they do not like; the leader comes last."""

    def upgrade(stage):
        followers = stage.cluster.followers()
        leader = stage.cluster.leader()
        for under in ((), before):
            change_version(stage.cluster, followers[0], under)
            stage.progress(100)
        for node in [*followers, leader]:
            change_version(stage.cluster, node, ())
            stage.progress(100)

    run_trial(tmp_path, "upgrade", upgrade, workload=WORKLOAD, under=dict.fromkeys(["n1", "n2", "n3"], before))


def test_a_leaderless_cluster_is_upgraded_node_by_node_under_load(tmp_path, before):
    sites = [msgspec.structs.replace(site, under=before) for site in loopback_sites(3)]
    with LocalCluster(tmp_path, sites, mode="quorum") as cluster:
        cluster.start()
        cluster.wait_ready()
        with Clients(LEADERLESS, {site.id: site.http for site in sites}) as clients:
            for node in cluster.nodes:
                change_version(cluster, node, ())
                time.sleep(1)
        history = clients.history()
        found = audit(history, {node: cluster.copy(node, "eventual") for node in cluster.nodes})
        wait_until(partial(equal, cluster), "all nodes to hold the same")

    assert found.acknowledged_count > 100
    assert not found.lost
    assert not found.invented
    assert not leftovers(tmp_path)


def equal(cluster):
    copies = [cluster.copy(node) for node in cluster.nodes]
    return all(copy == copies[0] for copy in copies)
