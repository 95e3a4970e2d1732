"""A raft cluster of three as the contract suite sees it: one node's replicator, with its peers working beside it.

The simulated cluster is taken along with the real clock, because the suite's deadlines are real.
"""

from __future__ import annotations

import time

from tests.simulation.cluster import Cluster

HEAD_START_S = 20.0


class RaftSubject:
    def __init__(self, max_pending: int, *, ask_the_leader: bool) -> None:
        self._cluster = Cluster(3, seed=7, start_s=time.monotonic() - HEAD_START_S, max_waiting=max_pending)
        leader = self._cluster.elect()
        asked = leader if ask_the_leader else next(node for node in self._cluster.members if node != leader)
        self._cluster.run(0.5)
        assert self._cluster.now_s < time.monotonic()
        self.replicator = self._cluster.members[asked].replica

    def turn(self) -> None:
        for machine in self._cluster.machines.values():
            machine.wake()  # the suite asks the replica, not its machine
        self._cluster.schedule.run_to(time.monotonic())

    def stop(self) -> None:
        for member in self._cluster.members.values():
            member.replica.close()
