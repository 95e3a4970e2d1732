"""Raft replicas for the simulator: the real ones, on its clock, network and disk, watched by the invariants.

The log is the real one over a virtual disk; snapshots and the applied state are in memory
(``raftkv.instruments.sim.snapshots``). PySyncObj takes its time and its chance from module names, so all replicas share
what it is given: the clock is that of whichever machine is at work.
"""

from __future__ import annotations

import random as random_module
from collections import Counter
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec

from raftkv.core.delays import DelaysSection
from raftkv.core.history import HistorySection
from raftkv.core.requests import Repair
from raftkv.core.rights import CLUSTER
from raftkv.core.rules import Rule
from raftkv.formats import layout
from raftkv.formats.configurations import Configuration
from raftkv.formats.identity import Identity, Standing
from raftkv.instruments.sim.cluster import SimulatedCluster
from raftkv.instruments.sim.contenders import check_contention
from raftkv.instruments.sim.disk import VirtualDisk
from raftkv.instruments.sim.ends import LedTime, check_ends
from raftkv.instruments.sim.invariants import Invariants
from raftkv.instruments.sim.log_order import LogOrder
from raftkv.instruments.sim.machines import Observer, SimulatedMachine
from raftkv.instruments.sim.members import MembersOperator, changes, founders
from raftkv.instruments.sim.mistakes import Copy
from raftkv.instruments.sim.observers import check_elections
from raftkv.instruments.sim.plan import DRIFT_BOUND, Plan
from raftkv.instruments.sim.raft_clients import RaftClients
from raftkv.instruments.sim.raft_replica import SimulatedReplica
from raftkv.instruments.sim.snapshots import STRAY, MemorySnapshots, MemoryState, ShownTables, rows_of
from raftkv.instruments.sim.watched_log import WatchedLog
from raftkv.peers.greeting import Greeter
from raftkv.raft.assembly import RaftWorld
from raftkv.raft.engine import internals
from raftkv.raft.settings import ReplicaSettings
from raftkv.raft.snapshots.recovery import is_on_the_line, recover_log
from raftkv.raft.standing.readmission import discarded, memory_of, with_memory
from raftkv.storage.log.log import Log

LOG_DIRECTORY: Final = Path("/log")
SEGMENT_BYTES: Final = 1 << 16


def raft_settings(members: tuple[str, ...], **changes: Any) -> ReplicaSettings:
    """Settings that suit a simulation; ``node_id`` is put in for each machine."""
    settings = ReplicaSettings(
        node_id="",
        members=members,
        election_timeout_s=1.0,
        heartbeat_s=0.1,
        clock_drift_bound=0.1,
        snapshot_entries=10**9,
        snapshot_log_bytes=1 << 40,
        trailing_entries=0,
        window_bytes=1 << 20,
        largest_command_bytes=1 << 20,
        disk_reserve_bytes=0,
        max_waiting=10_000,
    )
    return msgspec.structs.replace(settings, **changes)


class RaftMode(Observer):
    """Makes raft replicas; ``invariants`` watch them."""

    def __init__(
        self,
        settings: ReplicaSettings,
        *,
        seed: int | str = 0,
        segment_bytes: int = SEGMENT_BYTES,
        snapshot_s: float = 0.05,
        snapshot_failure_rate: float = 0.0,
        joining: Collection[str] = (),
        has_operator: bool = False,
    ) -> None:
        """Machines of ``joining`` found no cluster; they wait to be let in. An operator changes who the members are."""
        self.invariants = Invariants(settings.founding.voters)
        self._settings = settings
        self._joining = set(joining)
        self._seed = seed
        self._segment_bytes = segment_bytes
        self._snapshot_s = snapshot_s
        self._snapshot_failure_rate = snapshot_failure_rate
        self.rules: Mapping[str, Rule] = {
            "raft.idempotency_keys": settings.idempotency_keys,
            "raft.election_timeout_s": settings.election_timeout_s,
        }
        self.other_rules: Mapping[str, Rule] = {
            "raft.idempotency_keys": 1,
            "raft.election_timeout_s": 0.9 * settings.election_timeout_s,
        }
        self._led = LedTime(settings.heartbeat_s, settings.election_timeout_s)
        self._on_copies: set[str] = set()
        self._members = tuple([member.id for member in settings.founding.members])
        self._has_operator = has_operator
        self._operator: MembersOperator | None = None
        self._has_strayed = False
        self._lost_at_s = float("-inf")

    def attach(self, cluster: SimulatedCluster) -> None:
        """See ``Mode``."""
        self._cluster = cluster
        for machine in cluster.machines.values():
            machine.rules = dict(self.rules)

        def clock() -> float:
            return cluster.active.now_s()

        internals.use_sources(clock, random_module.Random(f"library {self._seed}"))
        self.invariants.watch(cluster)
        self._led.watch(cluster)
        cluster.observers.append(self)

    def ending(self, machine: SimulatedMachine, *, power: bool) -> None:
        """See ``Observer``: of the applied state, what was committed outlives the process, but not the power."""
        if isinstance(machine.process, SimulatedReplica) and not power:
            tables = machine.process.committed_tables
            machine.keeps.kept_state = None if tables is None or tables.distrusted else tables

    def make(self, machine: SimulatedMachine, port: Greeter) -> SimulatedReplica:
        """See ``Mode``."""
        if _identity(machine).standing is Standing.DISCARDING:
            machine.disk, machine.keeps = VirtualDisk(), None
            machine.save(discarded(_identity(machine)))
            self.invariants.emptied(machine.name)
            self.invariants.counts["states repaired"] += 1
        if machine.name in self._joining and _identity(machine).standing is Standing.NEW:
            machine.save(msgspec.structs.replace(_identity(machine), standing=Standing.JOINING))
        if machine.keeps is None:
            machine.keeps = MemorySnapshots(
                machine.random, machine.now_s, busy_s=self._snapshot_s, failure_rate=self._snapshot_failure_rate
            )
        snapshots: MemorySnapshots = machine.keeps
        snapshots.begin_life()
        log = WatchedLog.open(
            machine.disk, LOG_DIRECTORY, segment_bytes=self._segment_bytes, random_bytes=machine.random.randbytes
        )
        assert isinstance(log, WatchedLog)
        recover_log(log, snapshots.newest)
        log.touched_index = 1
        replica = SimulatedReplica(
            self._settings_of(machine),
            RaftWorld(
                log=log,
                state=MemoryState(snapshots, _recovered_tables(snapshots, log)),
                snapshots=snapshots,
                link=port,
                clock=machine.now_s,
                wall_ms=machine.wall_ms,
                free_bytes=machine.free_bytes,
                random=random_module.Random(machine.random.getrandbits(64)),
                reads=port.reads,
                disk_of=lambda peer: _identity(machine).disk if peer == machine.name else port.disk(peer),
                reach=partial(_check_reach, machine.name),
            ),
            misfits=port.misfits,
            memory=memory_of(_identity(machine), log.term),
            save=lambda memory: machine.save(with_memory(_identity(machine), memory)),
        )
        replica.log, replica.name = log, machine.name
        replica.bound_outboxes()
        replica.on_flush = lambda: self.invariants.flushed(machine)
        return replica

    def _settings_of(self, machine: SimulatedMachine) -> ReplicaSettings:
        """As its configuration says, which may have other rules."""
        rules = {name.removeprefix("raft."): rule for name, rule in machine.rules.items() if name in self.rules}
        members = () if machine.name in self._joining else self._settings.members
        return msgspec.structs.replace(
            self._settings, node_id=machine.name, reads=machine.reads, members=members, **rules
        )

    # --- operators

    @property
    def _is_astray(self) -> bool:
        """Is there a stray row anywhere still, if only where nothing runs now?"""
        if self._has_strayed:
            replicas = self._running()
            kept = [machine.keeps for machine in self._cluster.machines.values() if machine.keeps is not None]
            in_states = any(STRAY in replica.tables.keys(layout.KEYS) for replica in replicas)
            self._has_strayed = in_states or any(snapshots.holds(STRAY) for snapshots in kept)
        return self._has_strayed

    def can_lose(self, name: str) -> bool:
        """Would the loss of what ``name`` holds be borne now? By the others, which must all be there and count.

        Where members change, by the members that all who vote agree on, while no operator waits for another change.
        """
        if name in self._on_copies or self._is_astray:
            return False
        others, voters = set(self._cluster.machines) - {name}, set(self._cluster.machines) - {name}
        if self._operator is not None:
            agreed = None if self._operator.is_waiting else self._agreed()
            if agreed is None:
                return False
            others, voters = {one.id for one in agreed.members} - {name}, set(agreed.voters.names) - {name}
        counting = {replica.name for replica in self._running() if replica.counts} - self._on_copies
        return len(voters) >= 2 and others <= counting

    def _agreed(self) -> Configuration | None:
        """Who the members are, if every one of them that votes has the leader's word for it, and it is committed."""
        running = {replica.name: replica for replica in self._running()}
        leader = running.get(self.leader() or "")
        if leader is None or leader.parts.configurations.newest_index > leader.core.commit_index:
            return None
        newest = leader.parts.configurations.newest
        voters = [running.get(voter) for voter in newest.voters.names]
        known = [voter is not None and voter.parts.configurations.newest == newest for voter in voters]
        return newest if all(known) else None

    def _running(self) -> list[SimulatedReplica]:
        processes = [machine.process for machine in self._cluster.machines.values()]
        return [process for process in processes if isinstance(process, SimulatedReplica)]

    def may_change_voters(self) -> bool:
        """May an operator let members in or out now?

        He sees a disk that was lost before the leader misses its node; and leaves states that differ to be repaired.
        """
        strayed = {STRAY in replica.tables.keys(layout.KEYS) for replica in self._replicas() if replica.counts}
        is_torn = self._is_astray and (len(strayed) > 1 or any(replica.is_stopped for replica in self._replicas()))
        return not is_torn and self._cluster.now_s - self._lost_at_s > 2 * self._settings.election_timeout_s

    def _lost(self, name: str, *, is_copy: bool = False) -> None:
        """What ``name`` held is gone. Who is no member any more, or founded the cluster alone, is told to join it."""
        self._lost_at_s = self._cluster.now_s
        self.invariants.counts["old copies put back" if is_copy else "disks lost"] += 1
        agreed = self._agreed()
        is_out = len(self._settings.members) == 1 or (agreed is not None and agreed.find(name) is None)
        if self._operator is not None and is_out:
            self._joining.add(name)
        self.invariants.emptied(name, is_copy=is_copy)

    def empty_disk(self, name: str) -> bool:
        """The machine stops, and has an empty disk at its next start, if the cluster can bear that now; was it done?

        Like any loss of data it is borne by a majority of the others that count; they must all be there, for a while.
        """
        if not self.can_lose(name):
            return False
        self._lost(name)
        machine = self._cluster.machines[name]
        self._cluster.note(name, "has its disk emptied")
        if machine.process is not None:
            machine.end(power=True)
        machine.disk, machine.keeps, machine.identity = VirtualDisk(), None, None
        machine.rules = dict(self.rules)
        return True

    def flip_row(self, name: str, random: random_module.Random) -> bool:
        """See ``StruckMode``: snapshot and log have it whole, so any node can bear it."""
        replica = self._cluster.machines[name].process
        keys = replica.tables.keys(layout.KEYS) if isinstance(replica, SimulatedReplica) else []
        if not isinstance(replica, SimulatedReplica) or not keys:
            return False
        key = random.choice(keys)
        self._cluster.note(name, f"has a flipped bit in its row of {key!r}")
        replica.tables.damage(layout.KEYS, key)
        return True

    def stray(self, name: str) -> bool:
        """See ``StruckMode``: a row of a key that no client reads, since it is noticed after it was computed."""
        replica = self._cluster.machines[name].process
        if not isinstance(replica, SimulatedReplica) or not replica.counts or not self.can_lose(name):
            return False
        if replica.parts.electorate.learners or not replica.parts.electorate.votes:
            return False
        if not replica.store.history.is_kept:  # when it begins, all rows are counted, and this one would be
            return False
        known = next(iter(replica.tables.shown.values()), None)
        if known is None:
            return False
        self._cluster.note(name, "computes another state than the others")
        _, replaced = replica.tables.find(layout.KEYS, STRAY)
        replica.store.rows.put(layout.KEYS, STRAY, known, replaced=replaced)
        replica.store.rows.store_sum()
        self._has_strayed = True
        self.invariants.counts["states that differ"] += 1
        return True

    def look_after(self) -> None:
        """See ``StruckMode``."""
        for machine in self._cluster.machines.values():
            if machine.identity is None or not isinstance(machine.process, SimulatedReplica):
                continue
            is_wrong = machine.identity.standing is Standing.DIVERGED or (
                machine.identity.standing is Standing.DISPUTED and STRAY in machine.process.tables.keys(layout.KEYS)
            )
            if is_wrong and machine.is_working:
                self._cluster.note(machine.name, "is told to repair itself")
                machine.submit(Repair(caller=CLUSTER), 1.0)

    def can_copy(self, machine: SimulatedMachine) -> bool:
        """See ``MendingMode``: who is the only voter by its copy leads before it meets anybody who knows better."""
        replica = machine.process
        return isinstance(replica, SimulatedReplica) and not replica.parts.electorate.is_alone

    def copied(self, machine: SimulatedMachine) -> MemorySnapshots | None:
        """See ``MendingMode``: the applied state is a cache, which is made anew."""
        return None if machine.keeps is None else machine.keeps.copied()

    def put_back(self, name: str, copy: Copy) -> None:
        """See ``MendingMode``."""
        self._cluster.machines[name].keeps = copy.keeps
        self._on_copies.add(name)
        self._lost(name, is_copy=True)

    def begin_anew(self, name: str) -> None:
        """See ``MendingMode``."""
        self._cluster.machines[name].keeps = None
        self._on_copies.discard(name)
        self._lost(name)

    # --- what a whole run asks for

    def _replicas(self) -> list[SimulatedReplica]:
        working = [machine.process for machine in self._cluster.machines.values() if machine.is_working]
        return [process for process in working if isinstance(process, SimulatedReplica)]

    def clients(self, cluster: SimulatedCluster, plan: Plan) -> RaftClients:
        """See ``SimulatedMode``."""
        self._clients = RaftClients(cluster, plan)
        if self._has_operator:
            self._operator = MembersOperator(cluster, plan, self.useful, self.may_change_voters)
            self._operator.begin()
        return self._clients

    def useful(self) -> tuple[str, ...]:
        """See ``SimulatedMode``: every member, as the leader has it, or whoever led last."""
        leader = self.leader()
        if leader is not None:
            replica = self._cluster.machines[leader].process
            assert isinstance(replica, SimulatedReplica)
            self._members = tuple([member.id for member in replica.parts.configurations.newest.members])
        return self._members

    def leader(self) -> str | None:
        """See ``SimulatedMode``: the leader of the highest term that somebody leads."""
        leading = [(replica.core.term, replica.name) for replica in self._replicas() if replica.core.is_leader]
        return max(leading)[1] if leading else None

    def is_level(self) -> bool:
        """See ``SimulatedMode``."""
        members = self.useful()
        if len(members) < len(self._cluster.machines):
            return False
        replicas = [replica for replica in self._replicas() if replica.name in members]
        last = [replica.core.last_index for replica in replicas if replica.core.is_leader]
        if any(replica.parts.electorate.learners for replica in replicas):
            return False
        applied = {replica.core.applied_index for replica in replicas}
        if not all(replica.counts for replica in replicas):
            return False
        if self._is_astray and len({tuple(rows_of(replica.tables)) for replica in replicas}) > 1:
            return False
        is_level = len(replicas) == len(members) and len(last) == 1 and applied == set(last)
        return is_level and self._clients.watchers.have_seen(replicas[0].store.revision)

    def check_end(self) -> None:
        """See ``SimulatedMode``: the log explains what clients were told, and what every replica holds."""
        members = [replica for replica in self._replicas() if replica.name in self.useful()]
        configurations = {replica.parts.configurations.newest for replica in members}
        assert len(configurations) == 1, f"members disagree about who they are: {configurations}"
        states = [rows_of(replica.tables) for replica in members]
        assert all(state == states[0] for state in states), "the replicas differ"
        order = LogOrder(self.invariants.committed, self.invariants.commits)
        order.check(self._clients.noted)
        check_contention(order, self._clients.contenders.contended)
        check_elections(order, random_module.Random(f"observers {self._seed}"))
        self._clients.watchers.check(order)
        slowest = min(machine.rate for machine in self._cluster.machines.values())
        check_ends(order, self._led, slowest=slowest, now_s=self._cluster.now_s)
        tables = members[0].tables
        held = {key: layout.unpack_record(key, row) for key, row in tables.scan(layout.KEYS, b"", None) if key != STRAY}
        assert held == order.states[-1].keys, "the replicas hold what the log does not say"

    def counts(self) -> Counter[str]:
        """See ``SimulatedMode``."""
        found = Counter(self.invariants.counts)
        for machine in self._cluster.machines.values():
            found["lives"] += machine.lives_count
            if machine.keeps is not None:
                found["snapshots taken"] += machine.keeps.published_count
                found["snapshots received"] += machine.keeps.received_count
        found["entries committed"] += self.invariants.committed_index
        if self._operator is not None:
            found.update(self._operator.counts)
        return found


def drawn(plan: Plan) -> RaftMode:
    """The mode of one seed's run: what concerns raft is drawn here."""
    dice = random_module.Random(f"raft {plan.seed}")
    members = founders(plan)
    snapshot_entries = dice.choice((5, 20, 60, 10**9))
    delays = DelaysSection()
    if dice.random() < 0.1:
        delays = DelaysSection(
            leader_after_message_s=dice.choice((0.0, 0.03)), follower_update_s=0.02, follower_read_s=0.01
        )
    settings = raft_settings(
        members,
        election_timeout_s=plan.pace_s,
        heartbeat_s=plan.pace_s / dice.choice((3.5, 5)),
        clock_drift_bound=DRIFT_BOUND,
        snapshot_entries=snapshot_entries,
        snapshot_log_bytes=dice.choice((2000, 1 << 40)),
        trailing_entries=dice.choice((0, 3, 20)),
        window_bytes=dice.choice((1, 4000, 1 << 20)),
        disk_reserve_bytes=dice.choice((0, 5000)),
        max_waiting=dice.choice((2, 10_000, 10_000)),
        idempotency_keys=dice.choice((1000, 1000, 100_000)),
        delays=delays,
        history=_history(plan),
    )
    return RaftMode(
        settings,
        seed=plan.seed,
        segment_bytes=dice.choice((1 << 11, 1 << 13, 1 << 16)),
        snapshot_s=plan.pace_s * dice.choice((0.0, 0.2, 3.0)),
        snapshot_failure_rate=dice.choice((0.0, 0.0, 0.2)),
        joining=plan.names[len(members) :],
        has_operator=changes(plan),
    )


def _history(plan: Plan) -> HistorySection:
    """So short that it is forgotten all the time; never by bytes, which the model does not count."""
    dice = random_module.Random(f"history {plan.seed}")
    age_s = dice.choice((plan.pace_s, 3600.0))
    return HistorySection(events=dice.choice((3, 20, 100_000)), age_s=age_s, size_bytes=1 << 30)


def flip_row(replica: SimulatedReplica, table: bytes, key: bytes) -> bool:
    """Let the replica have another value under ``key``, as one whose machine computed otherwise; is there a row?"""
    row, part = replica.tables.find(table, key)
    if row is None:
        return False
    rows = replica.store.rows
    rows.put(table, key, row[:-1] + bytes([row[-1] ^ 1]), replaced=part)
    rows.store_sum()
    return True


def _identity(machine: SimulatedMachine) -> Identity:
    assert machine.identity is not None
    return machine.identity


def _check_reach(name: str, addresses: Mapping[str, str]) -> None:
    """A real link closes what it is not told of, and here all connections stay: so it must never be all of them."""
    assert addresses, f"{name} is to link to nobody"


def _recovered_tables(snapshots: MemorySnapshots, log: Log) -> ShownTables:
    """The state that an earlier life left, if it can be taken up; else that of the newest snapshot."""
    kept, snapshots.kept_state = snapshots.kept_state, None
    if kept is not None and is_on_the_line(kept, log, snapshots.newest):
        return kept
    return ShownTables() if snapshots.newest is None else snapshots.load(snapshots.newest)
