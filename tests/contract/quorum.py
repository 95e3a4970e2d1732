"""A leaderless cluster of three as the contract suite sees it: one node's replicator, with its peers working beside it.

The replicas are real, on engines in memory; what they send each other arrives at the next turn.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict, deque

from raftkv.formats.entries import NEWEST
from raftkv.formats.gossip import MemberEntry
from raftkv.formats.rows import TABLES
from raftkv.quorum.assembly import QuorumWorld
from raftkv.quorum.data.store import Store
from raftkv.quorum.data.versions import CONFLICTS
from raftkv.quorum.replica import QuorumReplica
from raftkv.quorum.settings import QuorumSettings
from raftkv.storage.change_counts import ChangeCounts
from raftkv.storage.engines.memory import MemoryEngine

NODES = ("n1", "n2", "n3")
TURN_S = 0.001


def settings(node_id: str, **changes) -> QuorumSettings:
    values = {
        "node_id": node_id,
        "n": 3,
        "r": 2,
        "w": 2,
        "vnodes": 8,
        "conflicts": "lww",
        "sloppy": True,
        "gossip_s": 2.0,
        "suspect_after_s": 8.0,
        "down_after_s": 30.0,
        "replica_timeout_s": 0.5,
        "anti_entropy_s": 10.0,
        "tombstone_grace_s": 86_400.0,
        "max_hints": 1000,
        "transfer_bytes_per_s": 1 << 30,
        "clock_ahead_s": 60.0,
        "max_siblings": 64,
        "disk_reserve_bytes": 0,
        "window_bytes": 1 << 20,
        "max_waiting": 1000,
    }
    return QuorumSettings(**{**values, **changes})


class Wire:
    """``QuorumLink`` of one node; the cluster carries what it sends."""

    def __init__(self, node_id: str, sent: dict[tuple[str, str], deque[bytes]]) -> None:
        self._node_id, self._sent = node_id, sent

    def send(self, peer: str, payload: bytes) -> bool:
        self._sent[self._node_id, peer].append(payload)
        return True

    def flush(self) -> None:
        pass

    def outstanding_bytes(self, peer: str) -> int:
        return sum(map(len, self._sent[self._node_id, peer]))

    def close_peer(self, peer: str) -> None:
        raise AssertionError(f"{self._node_id} found a message of {peer} malformed")

    def set_members(self, addresses: dict[str, str]) -> None:
        assert set(addresses) == set(NODES)


class QuorumSubject:
    def __init__(self, max_pending: int, *, counts: ChangeCounts | None = None, **changes) -> None:
        """``counts`` are those of n2, the node that is asked."""
        self._sent: dict[tuple[str, str], deque[bytes]] = defaultdict(deque)
        entries = [MemberEntry(node, f"{node}:1", f"{node}:2") for node in NODES]
        self.replicas = {
            node: QuorumReplica(
                settings(node, max_waiting=max_pending, **changes),
                entries[number],
                entries,
                QuorumWorld(
                    store=Store(
                        MemoryEngine(TABLES),
                        CONFLICTS[changes.get("conflicts", "lww")],
                        counts=counts if node == "n2" else None,
                    ),
                    link=Wire(node, self._sent),
                    clock=time.monotonic,
                    wall_us=lambda: time.time_ns() // 1000,
                    free_bytes=lambda: 1 << 40,
                    random=random.Random(number),
                    reads=lambda _: NEWEST,
                ),
            )
            for number, node in enumerate(NODES)
        }
        for one in NODES:
            for other in NODES:
                if one != other:
                    self.replicas[one].conversation.link_up(other)
        self.replicator = self.replicas["n2"]
        while any(replica.status().clock_fault for replica in self.replicas.values()):
            self.turn()  # nothing is asked of a cluster before its nodes have heard each other's clocks

    def turn(self) -> None:
        for (source, target), payloads in self._sent.items():
            while payloads:
                self.replicas[target].conversation.received(source, payloads.popleft())
        for replica in self.replicas.values():
            replica.work(time.monotonic())
        time.sleep(TURN_S)

    def stop(self) -> None:
        for replica in self.replicas.values():
            replica.close()
