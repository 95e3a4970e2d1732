"""Nodes that are killed and revived while clients use them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from raftkv.instruments.local.nodes import wait_until
from tests.integration.etcd_clusters import EtcdCluster

ROUND_S = 8.0
AFTER_S = 2.0


def a_follower_but_n1(cluster: EtcdCluster, _turn: int) -> str:
    """For clients that know n1 alone, and give up where it has no leader."""
    leader = cluster.leader()
    return next(node for node in cluster.sites if node not in (leader, "n1"))


def leader_and_follower(cluster: EtcdCluster, turn: int) -> str:
    """The leader, then a follower: for clients that know all nodes."""
    leader = cluster.leader()
    return leader if turn % 2 == 0 else next(node for node in cluster.sites if node != leader)


@contextlib.contextmanager
def killed_again_and_again(cluster: EtcdCluster, which: Callable[[EtcdCluster, int], str]) -> Iterator[list[str]]:
    """Within, a node is killed and revived every few seconds; which, so far."""
    killed: list[str] = []
    is_over = threading.Event()

    def kill() -> None:
        while not is_over.wait(ROUND_S):
            node = which(cluster, len(killed))
            cluster.kill(node)
            killed.append(node)
            is_over.wait(AFTER_S)
            cluster.revive(node)
            wait_until(lambda node=node: cluster.serves(node), f"{node} to serve")

    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill)
        try:
            yield killed
        finally:
            is_over.set()
            killing.result()
