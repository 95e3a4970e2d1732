"""``raftkv status`` of real clusters that lose nodes: what a person should know, whatever hangs."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import NamedTuple

import pytest

from raftkv.cli.survey import ANSWER_S
from raftkv.instruments.local.nodes import wait_until
from raftkv.instruments.local.processes import descendants
from raftkv.process.command import module
from tests.integration.processes import RealCluster, running

pytestmark = pytest.mark.integration


class Said(NamedTuple):
    exit_status: int
    out: list[str]
    err: list[str]


def status(cluster: RealCluster, *options: str) -> Said:
    command = [*module("raftkv"), "--server", ",".join(cluster.url(node, "") for node in cluster.nodes), "status"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=30, check=False)
    return Said(done.returncode, done.stdout.splitlines(), done.stderr.splitlines())


def freeze(cluster: RealCluster, node: str, number: int = signal.SIGSTOP) -> None:
    """Let all processes of ``node`` stand still, or go on: its ports stay open, and nobody answers."""
    for pid in descendants(cluster.processes[node].pid):
        os.kill(pid, number)


def test_a_raft_cluster_says_what_it_can_bear_while_node_after_node_hangs(tmp_path) -> None:
    with running(tmp_path, 3) as cluster:
        healthy = status(cluster)
        leader = wait_until(cluster.leader_now, "a leader")
        first, second = (node for node in cluster.nodes if node != leader)
        freeze(cluster, first)
        degraded = status(cluster)
        freeze(cluster, second)
        wait_until(lambda: status(cluster).exit_status == 3, "the leader to notice")
        alone = status(cluster)
        local = cluster.get(leader, "none", "?consistency=local")
        for node in (first, second):
            freeze(cluster, node, signal.SIGCONT)

    assert (healthy.exit_status, healthy.err) == (0, [])
    assert healthy.out[-1] == "healthy: one failure can be borne"
    assert (degraded.exit_status, degraded.err) == (
        0,
        ["raftkv: degraded: 2 of 3 nodes answer; no further failure can be borne"],
    )
    assert alone.err == [
        "raftkv: 1 of 3 nodes answers: no writes, no linearizable reads; local reads answer (--consistency local)"
    ]
    assert local.status_code == 404  # as it says: they answer
    for said in (healthy, degraded, alone):
        assert [line.split()[0] for line in said.out[1:4]] == ["n1", "n2", "n3"]
    assert sum("no answer" in line for line in alone.out) == 2


def test_a_cluster_that_hangs_as_a_whole_is_given_up_in_time_and_named(tmp_path) -> None:
    with running(tmp_path, 1) as cluster:
        freeze(cluster, "n1")
        usual, patient = status(cluster), status(cluster, "--timeout", "1.5")
        freeze(cluster, "n1", signal.SIGCONT)
        url = cluster.url("n1", "")

    assert usual.exit_status == patient.exit_status == 3
    assert usual.err == [f"raftkv: no node answers: {url} did not answer within {ANSWER_S:g} s"]
    assert patient.err == [f"raftkv: no node answers: {url} did not answer within 1.5 s"]


def test_a_ring_says_what_its_keys_can_bear(tmp_path) -> None:
    with running(tmp_path, 3, mode="quorum") as cluster:
        healthy = status(cluster)
        freeze(cluster, "n2")
        degraded = status(cluster)
        freeze(cluster, "n2", signal.SIGCONT)

    assert healthy.out[-1] == "healthy: of the 3 replicas of each key one failure can be borne"
    assert degraded.exit_status == 0
    assert degraded.err == ["raftkv: degraded: 2 of 3 nodes answer"]
