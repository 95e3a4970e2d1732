"""What the laboratory does to the machine it runs on ends with it, however it ends."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from raftkv.experiment import Orders
from raftkv.instruments.lab import namespaces
from raftkv.instruments.lab.namespaces import Namespaces
from raftkv.instruments.lab.nemesis import Nemesis
from raftkv.instruments.local.cluster import LocalCluster
from raftkv.instruments.local.nodes import ClusterError, loopback_sites, wait_until
from raftkv.instruments.local.processes import alive, descendants
from raftkv.process.command import module

pytestmark = pytest.mark.integration

needs_namespaces = pytest.mark.skipif(
    namespaces.why_unavailable() is not None, reason=namespaces.why_unavailable() or ""
)

EXPERIMENT = """
import sys
import time
from pathlib import Path
from raftkv.instruments.local.cluster import LocalCluster
from raftkv.instruments.local.nodes import loopback_sites

with LocalCluster(Path(sys.argv[1]), loopback_sites(3)) as cluster:
    cluster.start()
    cluster.wait_ready()
    cluster.pause("n2")
    print("ready", flush=True)
    time.sleep(600)
"""

SCENARIO = """
title = "Long"
expect = "Nothing: it is killed."
duration_s = 600
nodes = 1

[workload]
mix = { put = 1 }

[[variant]]
name = "one"
about = "One node."
"""

NETWORK = """
from raftkv.instruments.lab.namespaces import Namespaces

with Namespaces(2) as made:
    print(made.sites[0].under[-1], flush=True)
    input()
"""


def test_nodes_end_when_the_experimenter_is_killed_even_one_that_is_paused(tmp_path):
    command = [sys.executable, "-c", EXPERIMENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as experimenter:
        assert experimenter.stdout.readline() == b"ready\n"
        family = descendants(experimenter.pid)
        experimenter.kill()
        experimenter.wait()

        assert len(family) >= 10
        wait_until(lambda: not alive(family), "the nodes to end")


def test_what_a_killed_run_left_is_removed_by_the_next_and_nothing_of_one_that_lives(tmp_path):
    (tmp_path / "long.toml").write_text(SCENARIO)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    runs = []

    def begun():
        """A run that has begun, and its folder: a node is at work in that."""
        before = set(temporary.iterdir())
        command = module("raftkv", "lab", "run", str(tmp_path / "long.toml"), "--out", str(tmp_path / f"{len(runs)}"))
        environment = {**os.environ, "TMPDIR": str(temporary)}
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment, start_new_session=True)
        runs.append(run)
        made = wait_until(lambda: {log.parent for log in temporary.glob(".*/*.log")} - before, "a node", 60)
        return run, *made

    try:
        living, its_own = begun()
        killed, left = begun()
        family = descendants(killed.pid)
        killed.kill()
        killed.wait()
        wait_until(lambda: not alive(family), "the node of who was killed to end", 60)
        assert left.is_dir()

        third, new = begun()
        assert not left.exists()
        assert set(temporary.iterdir()) == {its_own, new}
        for run in (living, third):
            assert run.poll() is None
            assert alive(descendants(run.pid))
            run.send_signal(signal.SIGINT)
            run.wait(60)
        assert list(temporary.iterdir()) == []
    finally:
        for run in runs:
            run.kill()
            run.wait()


def test_a_node_refuses_senseless_orders_and_goes_on(tmp_path):
    with LocalCluster(tmp_path, loopback_sites(1)) as cluster:
        cluster.start()
        cluster.wait_ready()
        with pytest.raises(ClusterError, match="refused"):
            cluster.order("n1", Orders(clock_rate=7.0))
        cluster.order("n1", Orders(free_bytes=0))
        cluster.order("n1", Orders())

        assert cluster.stop("n1") == 0


def test_a_node_that_ends_by_itself_is_written_down_and_started_again(tmp_path):
    with LocalCluster(tmp_path, loopback_sites(1)) as cluster, Nemesis(cluster, random=Random(0)) as nemesis:
        cluster.start()
        cluster.wait_ready()
        process = cluster.processes["n1"]
        process.terminate()
        process.wait()
        nemesis.revive()
        cluster.wait_ready("n1")

        assert nemesis.deaths == [("n1", 0)]


@needs_namespaces
def test_a_network_is_gone_when_it_is_left():
    with Namespaces(2) as made:
        names = [site.under[-1] for site in made.sites]
        assert all(Path("/run/netns", name).exists() for name in names)

    assert not [name for name in names if Path("/run/netns", name).exists()]
    assert not list(Path("/sys/class/net").glob(f"rk{os.getpid()}*"))


@needs_namespaces
def test_what_a_killed_experimenter_left_of_a_network_is_removed_by_the_next(tmp_path):
    command = [sys.executable, "-c", NETWORK]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as experimenter:
        left = experimenter.stdout.readline().decode().strip()
        os.kill(experimenter.pid, signal.SIGKILL)
    assert Path("/run/netns", left).exists()

    with Namespaces(1):
        assert not Path("/run/netns", left).exists()
        assert not list(Path("/sys/class/net").glob(f"rk{experimenter.pid}*"))
