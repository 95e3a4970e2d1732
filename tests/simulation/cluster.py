"""A simulated raft cluster for scenarios that are written by hand: short words for what such scenarios do."""

from __future__ import annotations

from raftkv.core.replicator import Pending
from raftkv.core.requests import Consistency, Get, Put, Read, Write
from raftkv.core.results import Answer, KeyRecord, Written
from raftkv.instruments.sim import raft
from raftkv.instruments.sim.snapshots import rows_of
from tests.simulation.scenario import Scenario

STEP_S = 0.005


class Member:
    """One machine, and the raft replica that runs on it."""

    def __init__(self, machine) -> None:
        self.id = machine.name
        self.machine = machine

    @property
    def replica(self) -> raft.SimulatedReplica:
        return self.machine.process

    @property
    def core(self):
        return self.replica.core

    @property
    def log(self):
        return self.replica.log

    @property
    def snapshots(self):
        return self.machine.keeps

    @property
    def wall_offset_s(self) -> float:
        return self.machine.wall_offset_s

    @wall_offset_s.setter
    def wall_offset_s(self, seconds: float) -> None:
        self.machine.wall_offset_s = seconds


class Cluster(Scenario):
    def __init__(
        self, size: int, *, joining: int = 0, seed: int = 0, start_s: float = 1000.0, begins: bool = True, **settings
    ) -> None:
        """Beside ``size`` nodes that found the cluster, ``joining`` ones that wait to be let in."""
        names = tuple(f"n{number}" for number in range(1, size + joining + 1))
        super().__init__(
            names,
            raft.RaftMode(raft.raft_settings(names[:size], **settings), seed=seed, joining=names[size:]),
            start_s=start_s,
            seed=seed,
            begins=begins,
        )
        self.members = {name: Member(machine) for name, machine in self.machines.items()}

    def step(self) -> None:
        """Let a few milliseconds pass."""
        self.run(STEP_S)

    def disconnect(self, one: str, other: str) -> None:
        self.network.disconnect(one, other, now=True)

    def cut(self, sources, targets, *, both=True):
        return super().cut(_names(sources), _names(targets), both=both)

    def leader(self) -> str | None:
        """The leader of the highest term that somebody leads."""
        leading = [
            (member.core.term, member.id)
            for member in self.members.values()
            if member.machine.is_working and member.core.is_leader
        ]
        return max(leading)[1] if leading else None

    def elect(self, *among: str) -> str:
        """Let time pass until somebody leads, of ``among`` or at all, whose term has committed something."""
        cores = [self.members[name].core for name in among]
        if cores:
            self.run_until(lambda: any(core.leads_committed_term for core in cores))
            return next(name for name in among if self.members[name].core.is_leader)
        self.run_until(lambda: self.leader() is not None and self.members[self.leader()].core.leads_committed_term)
        return self.leader()

    def put(self, node_id: str, key: bytes, value: bytes = b"v", timeout_s: float = 5.0, **write) -> Pending:
        return self.submit(node_id, Write(operations=(Put(key=key, value=value),), **write), timeout_s)

    def put_now(self, node_id: str, key: bytes, value: bytes = b"v") -> Written:
        outcome = self.await_outcome(self.put(node_id, key, value))
        assert isinstance(outcome, Written), outcome
        return outcome

    def fill(self, node_id: str, count: int, value: bytes = b"v") -> None:
        """Write k0, k1 and so on, one after the other."""
        for number in range(count):
            self.put_now(node_id, b"k%d" % number, value)

    def get(self, node_id: str, key: bytes, consistency=Consistency.LINEARIZABLE, timeout_s: float = 5.0) -> Pending:
        return self.submit(node_id, Read(query=Get(key=key), consistency=consistency), timeout_s)

    def get_now(self, node_id: str, key: bytes, consistency=Consistency.LINEARIZABLE) -> bytes | None:
        outcome = self.await_outcome(self.get(node_id, key, consistency))
        assert isinstance(outcome, Answer), outcome
        content = outcome.content
        return content.value if isinstance(content, KeyRecord) else None

    def settle(self) -> None:
        """Heal, start everything, and wait until all nodes have applied the same."""
        self.heal()
        for name in self.machines:
            self.resume(name)
            self.restart(name)

        def level() -> bool:
            applied = {member.core.applied_index for member in self.members.values()}
            leader = self.leader()
            return leader is not None and applied == {self.members[leader].core.last_index}

        self.run_until(level, limit_s=60.0)
        states = [rows_of(member.replica.tables) for member in self.members.values()]
        assert all(state == states[0] for state in states), "the replicas diverged"


def _names(names: str | set[str]) -> set[str]:
    return {names} if isinstance(names, str) else names
