"""Three-node clusters of etcd and of raftkv on loopback: started as a user would, awaited, asked, and ended.

Both keep their data below one temporary directory, so on the same disk, with the durability they have by default (a
flush before every acknowledgement) and the same election timing. A cluster that was started is ended, whatever happens.
"""

from __future__ import annotations

import abc
import asyncio
import json
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from bench import processes
from bench.dialects import Dialect, EtcdDialect, RaftkvDialect, Standing
from bench.processes import Process
from raftkv.instruments.load.connection import Connection
from raftkv.instruments.load.dialect import http_request
from raftkv.instruments.load.engine import Server
from raftkv.process.command import module

NODES = ("n1", "n2", "n3")
READY_WITHIN_S = 60.0
END_WITHIN_S = 15.0
QUOTA_BYTES = 8 << 30
"""etcd stops taking writes at 2 GiB by default, which a long run would reach."""


class ClusterError(Exception):
    """A cluster did not start, or cannot be asked any more; the message is for a person."""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One member and its client port on loopback."""

    id: str
    port: int


class Cluster(abc.ABC):
    """What both kinds share; a kind says how it is started, what its processes are, and how health is asked."""

    name: str
    dialect: Dialect
    health_target: str
    has_leader = True

    def __init__(self, home: Path) -> None:
        self.home = home
        ports = free_ports(2 * len(NODES))
        self.nodes = [Node(id=node, port=port) for node, port in zip(NODES, ports, strict=False)]
        self._peer_ports = dict(zip(NODES, ports[len(NODES) :], strict=True))
        self._started: list[subprocess.Popen[bytes]] = []

    async def start(self) -> None:
        """Start all processes and wait until every node is ready; raises ``ClusterError``."""
        self._launch()
        deadline_s = time.monotonic() + READY_WITHIN_S
        while not await self._is_ready():
            self._check_running()
            if time.monotonic() > deadline_s:
                raise ClusterError(f"{self.name} was not ready within {READY_WITHIN_S:.0f} s:\n{self._output()}")
            await asyncio.sleep(0.2)

    def end(self) -> list[str]:
        """End every process; describes those that did not end on request and were killed."""
        killed: list[str] = []
        while self._started:
            killed += processes.end(self._started.pop(), END_WITHIN_S)
        return killed

    async def standings(self) -> dict[str, Standing]:
        """How each node that answers stands; one that does not is left out."""
        found = {}
        for node in self.nodes:
            answer = await _ask(node, self.dialect.standing_request())
            if answer is not None and answer[0] == 200:
                found[node.id] = self.dialect.standing(answer[1])
        return found

    async def servers(self) -> list[Server]:
        """Where the nodes are, the leader first."""
        standings = await self.standings()
        ordered = sorted(self.nodes, key=lambda node: node.id not in standings or not standings[node.id].leads)
        return [Server("127.0.0.1", node.port) for node in ordered]

    @abc.abstractmethod
    def processes(self) -> list[Process]:
        """All processes of the cluster that run now."""

    @abc.abstractmethod
    def _commands(self) -> Sequence[Sequence[str]]:
        """What starts the cluster's processes."""

    def _launch(self) -> None:
        self.home.mkdir(parents=True)
        for number, command in enumerate(self._commands()):
            with (self.home / f"output-{number}.txt").open("wb") as output:
                # An own session: Ctrl-C is for this program, which then ends the cluster in order.
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
                )
            self._started.append(process)

    async def _is_ready(self) -> bool:
        """Is every node healthy by its own account, and does one of them lead?"""
        for node in self.nodes:
            answer = await _ask(node, http_request("GET", self.health_target))
            if answer is None or answer[0] != 200:
                return False
        return not self.has_leader or any(standing.leads for standing in (await self.standings()).values())

    def _check_running(self) -> None:
        for process in self._started:
            if process.poll() is not None:
                raise ClusterError(f"{self.name} ended with status {process.returncode}:\n{self._output()}")

    def _output(self) -> str:
        texts = [path.read_text(errors="replace") for path in sorted(self.home.glob("output-*.txt"))]
        return "\n".join(text[-2000:] for text in texts)


class EtcdCluster(Cluster):
    """etcd as packaged, default timing (heartbeat 100 ms, election 1,000 ms), no compaction, a larger quota."""

    name = "etcd"
    dialect = EtcdDialect()
    health_target = "/health"

    def _commands(self) -> Sequence[Sequence[str]]:
        peers = ",".join(f"{node.id}=http://127.0.0.1:{self._peer_ports[node.id]}" for node in self.nodes)
        commands = []
        for node in self.nodes:
            client, peer = f"http://127.0.0.1:{node.port}", f"http://127.0.0.1:{self._peer_ports[node.id]}"
            options = {
                "name": node.id,
                "data-dir": str(self.home / node.id),
                "listen-client-urls": client,
                "advertise-client-urls": client,
                "listen-peer-urls": peer,
                "initial-advertise-peer-urls": peer,
                "initial-cluster": peers,
                "initial-cluster-token": self.home.parent.name,
                "quota-backend-bytes": str(QUOTA_BYTES),
                "logger": "zap",
                "log-level": "error",
            }
            commands.append([etcd_program() or "etcd", *(f"--{key}={value}" for key, value in options.items())])
        return commands

    def processes(self) -> list[Process]:
        """One process for each node."""
        found = []
        for node, started in zip(self.nodes, self._started, strict=True):
            ticks = processes.started_ticks(started.pid)
            if ticks is not None:
                found.append(Process(pid=started.pid, started_ticks=ticks, node=node.id, part="etcd"))
        return found


class RaftkvCluster(Cluster):
    """raftkv by ``raftkv up``, its defaults throughout."""

    name = "raftkv"
    mode = "raft"
    dialect = RaftkvDialect()
    health_target = "/readyz"

    def _commands(self) -> Sequence[Sequence[str]]:
        lines = ["[cluster]", 'name = "bench"', f'mode = "{self.mode}"']
        lines += [f"data_dir = {json.dumps(str(self.home / 'data'))}"]
        for node in self.nodes:
            lines += ["", "[[node]]", f'id = "{node.id}"', f'http = "127.0.0.1:{node.port}"']
            lines += [f'peer = "127.0.0.1:{self._peer_ports[node.id]}"']
        path = self.home / "cluster.toml"
        path.write_text("\n".join(lines) + "\n")
        return [module("raftkv", "up", str(path))]

    def processes(self) -> list[Process]:
        """The supervisor; for each node its replica, the arbiter below that, and the arbiter's front-end workers."""
        (supervisor,) = self._started
        found = [(supervisor.pid, "", "supervisor")]
        for pid in processes.children(supervisor.pid):
            arguments = processes.command_line(pid)
            node = arguments[arguments.index("--id") + 1] if "--id" in arguments else ""
            found.append((pid, node, "replica"))
            for arbiter in processes.children(pid):
                found.append((arbiter, node, "arbiter"))
                found += [(worker, node, "front-end") for worker in processes.descendants(arbiter)]
        return [
            Process(pid=pid, started_ticks=ticks, node=node, part=part)
            for pid, node, part in found
            if (ticks := processes.started_ticks(pid)) is not None
        ]


def etcd_program() -> str | None:
    """Where etcd is installed, or ``None``."""
    return shutil.which("etcd")


def free_ports(count: int) -> list[int]:
    """Ports that were free just now, below the range from which the kernel takes ports for outgoing connections."""
    found: list[int] = []
    source = random.SystemRandom()
    for _ in range(1000):
        port = source.randrange(15_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
        if len(found) == count:
            return found
    raise ClusterError("no free ports found")


async def _ask(node: Node, request: bytes) -> tuple[int, bytes] | None:
    connection = Connection("127.0.0.1", node.port)
    try:
        async with asyncio.timeout(3):
            await connection.open()
            return await connection.exchange(request)
    except OSError:  # TimeoutError is one
        return None
    finally:
        connection.close()


class QuorumCluster(RaftkvCluster):
    """raftkv without a leader: N = 3, R = 2, W = 2, its defaults throughout."""

    name = "quorum"
    mode = "quorum"
    has_leader = False
