"""A whole raft cluster in one process: real replicas and real logs on a virtual clock, network and disk.

Links are FIFO, as TCP keeps them: a cut holds messages back rather than losing one from the middle, and after the
silence timeout the connection breaks and everything on it is gone. After every step Raft's invariants are checked
against what all nodes ever committed. One seed gives one run.
"""

from __future__ import annotations

import random
from collections import defaultdict, deque
from pathlib import Path

import msgspec

from raftkv.core.replicator import Pending
from raftkv.core.requests import Consistency, Get, Put, Read, Write
from raftkv.core.results import Answer, Record, Written
from raftkv.machine import layout
from raftkv.machine.machine import MachineLimits
from raftkv.raft import internals
from raftkv.raft.recovery import recover_log
from raftkv.raft.replica import RaftReplica
from raftkv.raft.settings import ReplicaSettings
from raftkv.storage.log import Log
from raftkv.storage.snapshots import Manifest, SnapshotFailedError, WrittenBody
from raftkv.storage.tables import MemoryTables
from tests.unit.virtual_disk import VirtualDisk

STEP_S = 0.005
SILENCE_S = 3.0
SEGMENT_BYTES = 1 << 16
FLOOD_COUNT = 20_000
ROUNDS_COUNT = 100


def copy_of(tables: MemoryTables) -> list[tuple[bytes, bytes, bytes]]:
    return [(table, key, value) for table in layout.TABLES for key, value in tables.scan(table, b"", None)]


def load_rows(rows: list[tuple[bytes, bytes, bytes]]) -> MemoryTables:
    tables = MemoryTables()
    for table, key, value in rows:
        tables.put(table, key, value)
    return tables


class MemoryState:
    """``StatePort`` in memory; it does not outlive its process, so every restart rebuilds it from snapshot and log."""

    def __init__(self, store: MemorySnapshots, tables: MemoryTables) -> None:
        self.tables = tables
        self.directory = Path("1")
        self._store = store
        store.generations[self.directory] = tables

    def fresh_directory(self) -> Path:
        return Path(str(int(self.directory.name) + 1))

    def switch(self, directory: Path) -> None:
        self.tables, self.directory = self._store.generations[directory], directory

    def discard(self, directory: Path) -> None:
        self._store.generations.pop(directory, None)

    def close(self) -> None:
        pass


class MemorySnapshots:
    """``Snapshots`` in memory. What was published outlives the process; writing and loading take a few polls."""

    def __init__(self) -> None:
        self.newest: Manifest | None = None
        self.bodies: dict[int, bytes] = {}
        self.opened: set[int] = set()
        self.generations: dict[Path, MemoryTables] = {}
        self._written: tuple[WrittenBody, bytes] | None = None
        self._polls = 0
        self._load: tuple[Manifest, Path] | None = None

    def start_write(self, state_directory: Path) -> None:
        tables = self.generations[state_directory]
        body = msgspec.msgpack.encode(copy_of(tables))
        index = layout.unpack_number(tables.get(layout.META, layout.APPLIED_INDEX))
        term = layout.unpack_number(tables.get(layout.META, layout.APPLIED_TERM))
        self._written = (
            WrittenBody(index=index, term=term, rows=0, body_bytes=len(body), body_crc=0, path=Path("body")),
            body,
        )
        self._polls = 5

    def poll_write(self) -> WrittenBody | None:
        self._polls -= 1
        if self._polls > 0:
            return None
        assert self._written is not None
        return self._written[0]

    def publish(self, written, *, previous_term, last_command, members) -> Manifest:
        assert self._written is not None
        self.bodies[written.index] = self._written[1]
        self.newest = Manifest(
            index=written.index,
            term=written.term,
            previous_term=previous_term,
            last_command=last_command,
            members=members,
            body_bytes=written.body_bytes,
            body_crc=written.body_crc,
            rows=written.rows,
        )
        return self.newest

    def read_body(self, manifest: Manifest, offset: int, size: int) -> bytes:
        if manifest != self.newest and manifest.index not in self.opened:
            raise SnapshotFailedError("replaced by a newer one")
        self.opened.add(manifest.index)
        return self.bodies[manifest.index][offset : offset + size]

    def begin_receive(self, manifest: Manifest) -> MemoryReceiver:
        return MemoryReceiver(self, manifest)

    def start_load(self, manifest: Manifest, state_directory: Path) -> None:
        self._load = (manifest, state_directory)
        self._polls = 5

    def poll_load(self) -> bool:
        self._polls -= 1
        if self._polls > 0:
            return False
        assert self._load is not None
        manifest, directory = self._load
        self.generations[directory] = self.load(manifest)
        return True

    def load(self, manifest: Manifest) -> MemoryTables:
        body = self.bodies[manifest.index]
        return load_rows(msgspec.msgpack.decode(body, type=list[tuple[bytes, bytes, bytes]]))

    def close(self) -> None:
        pass


class MemoryReceiver:
    def __init__(self, store: MemorySnapshots, manifest: Manifest) -> None:
        self._store, self._manifest, self._body = store, manifest, b""

    def write(self, offset: int, data: bytes) -> None:
        assert offset == len(self._body)
        self._body += data

    def finish(self) -> Manifest:
        assert len(self._body) == self._manifest.body_bytes
        self._store.bodies[self._manifest.index] = self._body
        self._store.newest = self._manifest
        return self._manifest

    def abort(self) -> None:
        pass


class Port:
    """``PeerPort`` of one node, over the virtual network."""

    def __init__(self, cluster: Cluster, node_id: str) -> None:
        self._cluster, self._node_id = cluster, node_id

    def send(self, peer: str, payload: bytes) -> bool:
        return self._cluster.network.send(self._node_id, peer, payload)

    def flush(self) -> None:
        pass

    def outstanding_bytes(self, peer: str) -> int:
        return sum(len(payload) for _, payload in self._cluster.network.queues[self._node_id, peer])

    def close_peer(self, peer: str) -> None:
        raise AssertionError(f"{self._node_id} found a message of {peer} malformed")


class Network:
    """FIFO links with latency. ``cut`` holds directed pairs that carry nothing at the moment."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.queues: dict[tuple[str, str], deque[tuple[float, bytes]]] = defaultdict(deque)
        self.up: set[frozenset[str]] = set()
        self.cut: dict[tuple[str, str], float] = {}
        self.now_s = 0.0
        self.latency_s = (0.0005, 0.004)
        self.sent_count = 0
        self.sent_this_step = 0

    def send(self, source: str, target: str, payload: bytes) -> bool:
        if frozenset((source, target)) not in self.up:
            return False
        queue = self.queues[source, target]
        due_s = self.now_s + self.rng.uniform(*self.latency_s)
        if queue:
            due_s = max(due_s, queue[-1][0])
        queue.append((due_s, payload))
        self.sent_count += 1
        self.sent_this_step += 1
        assert self.sent_this_step < FLOOD_COUNT, "a flood of messages in one moment"
        return True

    def due(self, source: str, target: str) -> bytes | None:
        queue = self.queues[source, target]
        if (source, target) in self.cut or not queue or queue[0][0] > self.now_s:
            return None
        return queue.popleft()[1]


class Member:
    """One node: its disk and snapshots outlive its process, ``replica`` is the process."""

    def __init__(self, node_id: str) -> None:
        self.id = node_id
        self.disk = VirtualDisk()
        self.snapshots = MemorySnapshots()
        self.replica: RaftReplica | None = None
        self.log: Log | None = None
        self.paused = False
        self.commit_index = 0

    @property
    def core(self) -> internals.Core:
        assert self.replica is not None
        return self.replica._core


class Cluster:
    def __init__(self, size: int, *, seed: int = 0, start_s: float = 1000.0, **overrides) -> None:
        self.rng = random.Random(seed)
        self.now_s = start_s
        self.network = Network(random.Random(seed + 1))
        self.members = {f"n{number}": Member(f"n{number}") for number in range(1, size + 1)}
        self.overrides = overrides
        self.posted_this_step = 0
        self.committed: dict[int, tuple[bytes, int]] = {}
        self.leaders: dict[int, str] = {}
        internals.use_sources(lambda: self.now_s, random.Random(seed + 2))
        for node_id in self.members:
            self.start(node_id)

    def settings(self, node_id: str) -> ReplicaSettings:
        values = {
            "node_id": node_id,
            "members": tuple(sorted(self.members)),
            "election_timeout_s": 1.0,
            "heartbeat_s": 0.1,
            "clock_drift_bound": 0.1,
            "snapshot_entries": 10**9,
            "snapshot_log_bytes": 1 << 40,
            "trailing_entries": 0,
            "window_bytes": 1 << 20,
            "largest_command_bytes": 1 << 20,
            "disk_reserve_bytes": 0,
            "max_waiting": 10_000,
            "limits": MachineLimits(),
        }
        return ReplicaSettings(**{**values, **self.overrides})

    # --- processes

    def start(self, node_id: str) -> None:
        member = self.members[node_id]
        assert member.replica is None
        member.log = Log.open(member.disk, Path("/log"), segment_bytes=SEGMENT_BYTES)
        recover_log(member.log, member.snapshots.newest)
        newest = member.snapshots.newest
        tables = MemoryTables() if newest is None else member.snapshots.load(newest)
        member.paused = False
        member.replica = RaftReplica(
            self.settings(node_id),
            log=member.log,
            state=MemoryState(member.snapshots, tables),
            snapshots=member.snapshots,
            link=Port(self, node_id),
            clock=lambda: self.now_s,
            wall_ms=lambda: int(self.now_s * 1000),
            free_bytes=lambda: 1 << 40,
            random=random.Random(self.rng.getrandbits(64)),
        )
        self._bound_outboxes(member.replica)

    def _bound_outboxes(self, replica: RaftReplica) -> None:
        """On a clock that stands still, PySyncObj's sending can go round for ever; end it before memory does."""
        post = replica._transport.post

        def counting(peer, message):
            self.posted_this_step += 1
            assert self.posted_this_step < FLOOD_COUNT, "a flood of messages in one moment"
            post(peer, message)

        replica._transport.post = counting

    def kill(self, node_id: str, *, power: bool = False) -> None:
        """``kill -9``; with ``power`` the machine loses what was not synced."""
        member = self.members[node_id]
        for peer in self.members:
            self.disconnect(node_id, peer)
        member.replica = member.log = None
        if power:
            member.disk = member.disk.after_crash(self.rng.getrandbits(64))

    def restart(self, node_id: str) -> None:
        self.start(node_id)

    def pause(self, node_id: str) -> None:
        self.members[node_id].paused = True

    def resume(self, node_id: str) -> None:
        self.members[node_id].paused = False

    # --- links

    def disconnect(self, one: str, other: str) -> None:
        pair = frozenset((one, other))
        if pair not in self.network.up:
            return
        self.network.up.discard(pair)
        for source, target in ((one, other), (other, one)):
            self.network.queues[source, target].clear()
            replica = self.members[source].replica
            if replica is not None:
                replica.conversation.link_down(target)

    def cut(self, sources: str | set[str], targets: str | set[str], *, both: bool = True) -> None:
        for source in [sources] if isinstance(sources, str) else sorted(sources):
            for target in [targets] if isinstance(targets, str) else sorted(targets):
                if source != target:
                    self.network.cut[source, target] = self.now_s
                    if both:
                        self.network.cut[target, source] = self.now_s

    def isolate(self, *node_ids: str) -> None:
        inside = set(node_ids)
        self.cut(inside, set(self.members) - inside)

    def heal(self) -> None:
        self.network.cut.clear()

    def _tend_links(self) -> None:
        network = self.network
        for (source, target), since_s in list(network.cut.items()):
            if self.now_s - since_s > SILENCE_S:
                self.disconnect(source, target)
        for one in self.members:
            for other in self.members:
                pair = frozenset((one, other))
                if one >= other or pair in network.up or network.cut.keys() & {(one, other), (other, one)}:
                    continue
                ends = [self.members[one], self.members[other]]
                if any(end.replica is None or end.paused for end in ends):
                    continue
                network.up.add(pair)
                ends[0].replica.conversation.link_up(other)
                ends[1].replica.conversation.link_up(one)

    # --- time

    def step(self) -> None:
        self.now_s += STEP_S
        self.network.now_s = self.now_s
        self.network.sent_this_step = self.posted_this_step = 0
        self._tend_links()
        for source in self.members:
            for target in self.members:
                member = self.members[target]
                while member.replica is not None and not member.paused:
                    payload = self.network.due(source, target)
                    if payload is None:
                        break
                    member.replica.conversation.received(source, payload)
        for member in self.members.values():
            if member.replica is not None and not member.paused:
                rounds = 0
                while member.replica.work(self.now_s) <= self.now_s:
                    rounds += 1
                    assert rounds < ROUNDS_COUNT, "a replica that always has more to do at once"
        self.check()

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds / STEP_S)):
            self.step()

    def run_until(self, condition, limit_s: float = 30.0) -> None:
        end_s = self.now_s + limit_s
        while not condition():
            assert self.now_s < end_s, "nothing happened within the limit"
            self.step()

    # --- invariants

    def check(self) -> None:
        for member in self.members.values():
            if member.replica is None:
                continue
            core = member.core
            if core.is_leader:
                assert self.leaders.setdefault(core.term, member.id) == member.id, f"two leaders in term {core.term}"
            first = max(core.first_index + 1, member.commit_index + 1)
            for index in range(first, core.commit_index + 1):
                command, _, term = member.log.entry(index)
                known = self.committed.setdefault(index, (command, term))
                assert known == (command, term), f"{member.id} committed another entry at {index}"
            member.commit_index = core.commit_index

    # --- clients

    def leader(self) -> str | None:
        """The leader of the highest term that somebody leads."""
        leading = [
            (member.core.term, member.id)
            for member in self.members.values()
            if member.replica is not None and not member.paused and member.core.is_leader
        ]
        return max(leading)[1] if leading else None

    def elect(self) -> str:
        self.run_until(lambda: self.leader() is not None and self.members[self.leader()].core.leads_committed_term)
        return self.leader()

    def submit(self, node_id: str, request, timeout_s: float = 5.0) -> Pending:
        return self.members[node_id].replica.submit(request, self.now_s + timeout_s)

    def put(self, node_id: str, key: bytes, value: bytes = b"v", timeout_s: float = 5.0, **write) -> Pending:
        return self.submit(node_id, Write(operations=(Put(key=key, value=value),), **write), timeout_s)

    def put_now(self, node_id: str, key: bytes, value: bytes = b"v") -> Written:
        pending = self.put(node_id, key, value)
        self.run_until(lambda: pending.outcome is not None)
        assert isinstance(pending.outcome, Written), pending.outcome
        return pending.outcome

    def get(self, node_id: str, key: bytes, consistency=Consistency.LINEARIZABLE, timeout_s: float = 5.0) -> Pending:
        return self.submit(node_id, Read(query=Get(key=key), consistency=consistency), timeout_s)

    def get_now(self, node_id: str, key: bytes, consistency=Consistency.LINEARIZABLE) -> bytes | None:
        pending = self.get(node_id, key, consistency)
        self.run_until(lambda: pending.outcome is not None)
        assert isinstance(pending.outcome, Answer), pending.outcome
        content = pending.outcome.content
        return content.value if isinstance(content, Record) else None

    def settle(self) -> None:
        """Heal, start everything, and wait until all nodes have applied the same."""
        self.heal()
        for member in self.members.values():
            member.paused = False
            if member.replica is None:
                self.start(member.id)

        def level() -> bool:
            applied = {member.core.applied_index for member in self.members.values()}
            leader = self.leader()
            return leader is not None and applied == {self.members[leader].core.last_index}

        self.run_until(level, limit_s=60.0)
        states = [copy_of(member.replica._state.tables) for member in self.members.values()]
        assert all(state == states[0] for state in states), "the replicas diverged"
