"""Rounds of puts and gets over the real code, in worlds that are the same every time; each is counted once.

- ``front``: a front-end's connections, its door, handlers and end of the socket, and the replica's end, behind which
  all is answered at once; gets read a real LMDB state;
- ``raft``: three raft replicas of the simulator, at rest, of which the leader is given a round of requests;
- ``quorum``: three leaderless ones, likewise.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Final

from gunicorn.config import Config

from bench.counting import Counted, Counting
from raftkv.core.config import ClusterConfig, ClusterSection, NodeSection
from raftkv.core.replicator import Hear, Pending, Subscribers, Subscription
from raftkv.core.requests import Barrier, Consistency, Get, Put, Read, Request, Write
from raftkv.core.results import Answer, PutDone, Ready, Written
from raftkv.core.status import RaftStatus
from raftkv.formats import entries, layout
from raftkv.formats.rights import encode_document
from raftkv.frontend.applied import AppliedState
from raftkv.frontend.remote import RemoteReplicator
from raftkv.frontend.server import FrontendServer
from raftkv.http.counts import Counts
from raftkv.http.door.room import Seats
from raftkv.http.door.server import Prepared, make_application, settings
from raftkv.http.door.worker import Protocol
from raftkv.http.metrics import requests_of
from raftkv.http.routes import ROUTES
from raftkv.instruments.sim.cluster import SimulatedCluster
from raftkv.instruments.sim.quorum import QuorumMode, quorum_settings
from raftkv.instruments.sim.raft import RaftMode, SimulatedReplica, raft_settings
from raftkv.machine.conversion import command_of
from raftkv.machine.machine import Machine
from raftkv.machine.repeats import RepeatLimits
from raftkv.storage.state.tables import StateTables
from raftkv.storage.state.trust import open_state

ROUND: Final = 10
"""Requests that are given at once, as concurrent clients do."""

ROUNDS: Final = 5
KEYS: Final = 100
VALUE: Final = b"v" * 100


# --- front-end


class _AtOnce:
    """``SharedReplicator`` that has an answer to everything; its state stands in LMDB at ``state_path``."""

    rights = encode_document(())

    def __init__(self, state_path: str, index: int, revision: int) -> None:
        self.state_path, self._index, self._revision = state_path, index, revision
        self._subscribers = Subscribers()

    def submit(self, request: Request, deadline_s: float) -> Pending:  # noqa: ARG002  see Replicator
        pending = Pending()
        if isinstance(request, Barrier):
            pending.resolve(Ready(applied_index=self._index))
        else:
            pending.resolve(Written(results=(PutDone(version=2, revision=7),), revision=7, acks=2))
        return pending

    def subscribe(self, hear: Hear) -> Subscription:
        return self._subscribers.add(hear)

    def status(self) -> RaftStatus:
        levels = (Consistency.LINEARIZABLE, Consistency.LEASE, Consistency.LOCAL)
        return RaftStatus(
            node="n1",
            mode="raft",
            role="leader",
            leader="n1",
            term=1,
            commit_index=self._index,
            applied_index=self._index,
            revision=self._revision,
            peers=(),
            offers=levels,
            cluster_size=3,
            level_at_s=0.0,
            state_path=self.state_path,
        )

    def work(self, now_s: float) -> float:
        return now_s + 60.0

    def close(self) -> None:
        """See ``Replicator``."""


class _Wire:
    """The transport of a client's connection: what is written to it is kept."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(bytes(data))

    def get_extra_info(self, name: str) -> object:
        return {"peername": ("127.0.0.1", 50_000), "sockname": ("127.0.0.1", 8001)}.get(name)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, **_: int) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def abort(self) -> None: ...
    def close(self) -> None: ...


class _Loop(asyncio.SelectorEventLoop):
    """No timer of it is due while it ``is_still``."""

    is_still = False
    _still_s = 0.0

    def time(self) -> float:
        """See asyncio."""
        if not self.is_still:
            self._still_s = super().time()
        return self._still_s


def _fill(directory: Path) -> tuple[int, int]:
    """A state with some keys; its applied index and revision."""
    engine = open_state(directory, layout.TABLES)
    tables = StateTables(engine, layout.TABLES, directory)
    machine = Machine(tables, RepeatLimits())
    for number in range(1, KEYS + 1):
        command = command_of(Write(operations=(Put(key=b"k%d" % number, value=VALUE),)))
        machine.apply(number, 1, entries.encode(1000 + number, 1, number, command))
    tables.commit()
    engine.close()
    return machine.applied_index, machine.revision


def _request(kind: str, number: int) -> bytes:
    query = b"?consistency=local" if kind == "local get" else b""
    if kind == "put":
        return b"PUT /kv/k%d HTTP/1.1\r\nHost: 127.0.0.1:8001\r\nContent-Length: %d\r\n\r\n%b" % (
            number,
            len(VALUE),
            VALUE,
        )
    return b"GET /kv/k%d%b HTTP/1.1\r\nHost: 127.0.0.1:8001\r\n\r\n" % (number, query)


async def _front(home: Path) -> dict[str, Counted]:
    replicator = _AtOnce(str(home / "state"), *_fill(home / "state"))
    node = NodeSection(id="n1", http="127.0.0.1:8001", peer="127.0.0.1:9001")
    config = ClusterConfig(cluster=ClusterSection(name="counted"), node=(node,))
    path = str(home / "s")
    server = FrontendServer(replicator, path=path, wake=lambda: None, max_pending=1000)
    await server.start()
    counts = Counts(requests_of(ROUTES), slots=2)
    remote = RemoteReplicator(path, open_state=AppliedState, max_pending=1000)
    prepared = Prepared(directory=home, secret=b"k" * 32, certificates=None, first_password="")
    application = make_application(config, "n1", remote, prepared, counts=counts)
    await application.begin()
    cfg = Config()
    chosen = settings([0], name="counted", workers=1, max_key_bytes=1024, max_connections=100)
    for name, value in chosen.items():
        if name != "worker_class":
            cfg.set(name, value)
    loop = asyncio.get_running_loop()
    worker = SimpleNamespace(
        cfg=cfg,
        log=SimpleNamespace(
            access_log_enabled=False, **{n: getattr(logging, n) for n in ("debug", "exception", "error")}
        ),
        asgi=application,
        loop=loop,
        nr_conns=0,
        nr=0,
        max_requests=1 << 60,
        worker_connections=100,
        seats=Seats(100, monotonic_s=loop.time),
        alive=True,
        state={},
    )
    clients = []
    for _ in range(ROUND):
        protocol, wire = Protocol(worker), _Wire()
        protocol.connection_made(wire)
        clients.append((protocol, wire))
    found = {}
    for kind in ("put", "get", "local get"):
        rounds = []
        for _ in range(3 + ROUNDS):
            server.push(replicator.status())  # or it would count as stuck
            await asyncio.sleep(0.01)
            rounds.append(await _front_round(kind, clients))
        rounds = rounds[3:]
        found[f"front, {kind}"] = _least(rounds)
    for protocol, _ in clients:
        protocol.connection_lost(None)
    application.end()
    await server.stop()
    return found


def _least(rounds: Sequence[Counted]) -> Counted:
    """The least of each, as a date that is rendered once a second is in one of them at most."""
    names = {kind: {name for one in rounds for name in getattr(one, kind)} for kind in ("layers", "calls")}
    return Counted(
        **{kind: {n: min(getattr(one, kind).get(n, 0.0) for one in rounds) for n in names[kind]} for kind in names}
    )


async def _front_round(kind: str, clients: list[tuple[Protocol, _Wire]]) -> Counted:
    counting, loop = Counting(), asyncio.get_running_loop()
    assert isinstance(loop, _Loop)
    loop.is_still = True
    with counting.on():
        for number, (protocol, _) in enumerate(clients, 1):
            protocol.data_received(_request(kind, number))
        for _ in range(1000):
            if all(wire.written for _, wire in clients):
                break
            await asyncio.sleep(0)
    loop.is_still = False
    for _, wire in clients:
        answer = b"".join(wire.written)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer
        assert kind == "put" or answer.endswith(VALUE), answer
        wire.written.clear()
    return counting.per(len(clients))


# --- replicas


def _put(number: int) -> Request:
    return Write(operations=(Put(key=b"k%d" % number, value=VALUE),))


def _replica_round(cluster: SimulatedCluster, at: str, ask: Callable[[int], Request]) -> Counted:
    """Requests at rest, until they are answered and everybody knows. What clocks bring about is rarer than that."""
    cluster.run(1.0)
    machine = cluster.machines[at]
    counting = Counting()
    with counting.on():
        pending = [machine.submit(ask(number), 5.0) for number in range(1, ROUND + 1)]
        cluster.run(0.05)
    assert all(isinstance(one.outcome, Written | Answer | Ready) for one in pending), pending[0].outcome
    return counting.per(ROUND)


def _raft() -> dict[str, Counted]:
    names = ("n1", "n2", "n3")
    mode = RaftMode(raft_settings(names, election_timeout_s=100.0, heartbeat_s=20.0), seed=0)
    cluster = SimulatedCluster(names, mode, seed=0, latency_s=(0.001, 0.001))

    def leader() -> str:
        return next((m.name for m in cluster.machines.values() if _leads(m.process)), "")

    cluster.run_until(lambda: leader() != "", limit_s=1000.0)
    cluster.run(2.0)
    at = leader()
    for _ in range(3):
        _replica_round(cluster, at, _put)
    found = {
        "raft, put": _replica_round(cluster, at, _put),
        "raft, barrier": _replica_round(cluster, at, lambda _: Barrier(consistency=Consistency.LINEARIZABLE)),
    }
    assert leader() == at
    return found


def _leads(process: object) -> bool:
    return isinstance(process, SimulatedReplica) and process.core.leads_committed_term


def _quorum() -> dict[str, Counted]:
    names = ("n1", "n2", "n3")
    quiet = {"gossip_s": 100.0, "suspect_after_s": 1000.0, "down_after_s": 2000.0, "anti_entropy_s": 1000.0}
    cluster = SimulatedCluster(names, QuorumMode(quorum_settings(**quiet)), seed=0, latency_s=(0.001, 0.001))
    cluster.run(2.0)
    for _ in range(3):
        _replica_round(cluster, "n1", _put)

    def get(number: int) -> Request:
        return Read(query=Get(key=b"k%d" % number), consistency=Consistency.EVENTUAL)

    return {"quorum, put": _replica_round(cluster, "n1", _put), "quorum, get": _replica_round(cluster, "n1", get)}


def _of_front_end() -> dict[str, Counted]:
    with tempfile.TemporaryDirectory(prefix="counted-") as home, asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(_front(Path(home)))


WORLDS: Final = {"front": _of_front_end, "raft": _raft, "quorum": _quorum}


def count(*worlds: str) -> dict[str, Counted]:
    """The counts of all worlds or some, by world and request; takes a few seconds."""
    found: dict[str, Counted] = {}
    for world in worlds or WORLDS:
        found |= WORLDS[world]()
    return found
