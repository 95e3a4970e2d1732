"""A cluster of real node processes for experiments: started, killed, paused, asked, and given orders to be faulty.

Rules. Whatever way the ``with`` block is left, every process has ended; if this process is killed, the nodes end by
themselves, because they watch a pipe that only it holds. Every wait has a deadline and raises ``ClusterError``. One
thread uses a cluster at a time. Nodes are processes: this module must not import ``raftkv.node``.
"""

from __future__ import annotations

import base64
import http.client
import os
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote

import msgspec

from raftkv.core.config import Address
from raftkv.core.proof import Prover
from raftkv.experiment import DONE, Orders
from raftkv.instruments.lab.processes import Part, Paused, alive, descendants, members
from raftkv.process.command import module

READY_S: Final = 30.0
END_S: Final = 10.0
ASK_S: Final = 1.0
ORDER_S: Final = 30.0
"""Orders may meet a node that is only starting, on a machine where many others start as well."""

COPY_S: Final = 30.0
LOOK_S: Final = 0.05


Found = TypeVar("Found")


class ClusterError(Exception):
    """The cluster did not do in time what was asked of it; the message is for a person."""


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """Where one node lives: its id, its addresses, and the command that everything of it runs under."""

    id: str
    http: Address
    peer: Address
    under: tuple[str, ...] = ()


def loopback_sites(size: int) -> tuple[Site, ...]:
    """Nodes n1, n2, ... on ports of this machine that were free a moment ago."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2 * size)]  # all held, so that they differ
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return tuple(
        Site(
            id=f"n{number + 1}",
            http=Address("127.0.0.1", ports[number]),
            peer=Address("127.0.0.1", ports[size + number]),
        )
        for number in range(size)
    )


def wait_until(condition: Callable[[], Found | None], what: str, limit_s: float = READY_S) -> Found:
    """Ask ``condition`` until it says something true; raises ``ClusterError`` after ``limit_s``."""
    end_s = time.monotonic() + limit_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end_s:
            raise ClusterError(f"waited {limit_s:g} s in vain for {what}")
        time.sleep(LOOK_S)


class Cluster:
    """Nodes at ``sites``, with all they have under ``home``; ``sections`` is more TOML for their configuration.

    ``newcomers`` are not among ``nodes``: each has a file of its own, and joins the others once it is started by name.
    """

    def __init__(
        self,
        home: Path,
        sites: Sequence[Site],
        sections: str = "",
        *,
        mode: str = "raft",
        data: str = "data",
        newcomers: Sequence[Site] = (),
    ) -> None:
        self.home = home
        self.sites = {site.id: site for site in (*sites, *newcomers)}
        self.nodes = [site.id for site in sites]
        self.mode = mode
        self.config = home / "cluster.toml"
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._controls: dict[str, socket.socket] = {}
        self._paused: dict[str, list[Paused]] = {}
        self._data = Path(home, data)
        text = f'[cluster]\nname = "test"\nmode = "{mode}"\ndata_dir = "{data}"\nsecret_file = "secret"\n'
        self.config.write_text(text + "".join(map(_node_section, sites)) + sections)
        for site in newcomers:
            self._own_config(site.id).write_text(text + _node_section(site) + sections)
        secret = home / "secret"
        key = os.urandom(32).hex().encode()
        secret.write_bytes(key)
        secret.chmod(0o600)
        self.prover = Prover(key, "test", wall_ms=lambda: time.time_ns() // 1_000_000)
        self._watched, self._held = os.pipe()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        try:
            self.kill(*self.processes)
        finally:
            os.close(self._held)
            os.close(self._watched)

    # --- processes

    def data_dir(self, node: str) -> Path:
        """Where ``node`` keeps its data."""
        return self._data / node

    def command(self, node: str) -> list[str]:
        """What runs ``node`` in the foreground."""
        is_newcomer = node not in self.nodes
        config = self._own_config(node) if is_newcomer else self.config
        command = module("raftkv", "node", str(config), "--id", node)
        if is_newcomer:
            command += [f"--join={self.sites[other].http}" for other in self.nodes]
        return [*self.sites[node].under, *command]

    def start(self, *nodes: str) -> None:
        """Start ``nodes``, all when none are named; does not wait for them."""
        for node in nodes or self.nodes:
            assert node not in self.processes
            ours, theirs = socket.socketpair()
            with theirs, (self.home / f"{node}.log").open("ab") as log:
                fds = [self._watched, theirs.fileno()]
                self.processes[node] = subprocess.Popen(  # noqa: S603  our own module, our own arguments
                    [*self.command(node), "--parent-fd", str(fds[0]), "--experiment-fd", str(fds[1])],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=fds,
                    process_group=0,
                )
            ours.settimeout(ORDER_S)
            self._controls[node] = ours

    def kill(self, *nodes: str) -> None:
        """``kill -9`` of the nodes, all at once; whatever they started must end by itself."""
        processes = [self._forget(node) for node in nodes]
        family = set[int]().union(*(descendants(process.pid) for process in processes))
        for process in processes:
            process.kill()
        self.resume(*nodes)  # what is left of them must be able to notice
        for process in processes:
            process.wait()
        wait_until(lambda: not alive(family), f"the processes of {', '.join(nodes)} to end", END_S)

    def stop(self, node: str) -> int:
        """End ``node`` in good order; returns its exit status."""
        process = self._forget(node)
        family = descendants(process.pid)
        process.terminate()
        status = process.wait(2 * END_S)
        if alive(family):
            raise ClusterError(f"{node} stopped and left processes behind")
        return status

    def pause(self, *nodes: str, part: Part = "node") -> None:
        """Stop ``nodes`` in their tracks, as a machine that is suspended."""
        for node in nodes:
            self._paused.setdefault(node, []).append(Paused(members(self.processes[node].pid, part)))

    def resume(self, *nodes: str) -> None:
        """Let everything of ``nodes`` go on, if it was paused."""
        for node in nodes:
            for paused in self._paused.pop(node, []):
                paused.resume()

    def ended(self) -> dict[str, int]:
        """Nodes that ended by themselves, with their exit status; they are no longer counted as running."""
        statuses = {node: process.poll() for node, process in self.processes.items()}
        found = {node: status for node, status in statuses.items() if status is not None}
        for node in found:
            self._forget(node)
        self.resume(*found)
        return found

    def log(self, node: str) -> str:
        """What ``node`` has said so far, over all its lives."""
        return (self.home / f"{node}.log").read_text()

    def _own_config(self, node: str) -> Path:
        return self.home / f"{node}.toml"

    def _forget(self, node: str) -> subprocess.Popen[bytes]:
        control = self._controls.pop(node, None)
        if control is not None:
            control.close()
        return self.processes.pop(node)

    # --- orders

    def order(self, node: str, orders: Orders) -> None:
        """Make ``node`` as faulty as ``orders`` say; in force on return. Raises ``ClusterError``."""
        control = self._controls[node]
        try:
            control.sendall(msgspec.json.encode(orders) + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                chunk = control.recv(4096)
                if not chunk:
                    raise ConnectionError("it hung up")
                answer += chunk
        except OSError as error:
            raise ClusterError(f"{node} does not take orders: {error}") from None
        if answer != DONE:
            raise ClusterError(f"{node}: {answer.decode().strip()}")

    # --- questions

    def ask(
        self, node: str, path: str, timeout_s: float = ASK_S, *, method: str = "GET", body: bytes = b""
    ) -> tuple[int, bytes] | None:
        """The status and body of ``GET path``, or another method's; ``None`` when ``node`` does not answer.

        Whatever is asked is asked with a proof of the cluster's secret.
        """
        address = self.sites[node].http
        connection = http.client.HTTPConnection(address.host, address.port, timeout=timeout_s)
        try:
            headers = {"Authorization": self.prover.authorization(method, path, body)}
            connection.request(method, path, body or None, headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def status(self, node: str) -> dict[str, Any] | None:
        """What ``node`` says of itself, ``None`` when it says nothing."""
        answer = self.ask(node, "/status")
        return msgspec.json.decode(answer[1], type=dict[str, Any]) if answer is not None and answer[0] == 200 else None

    def leader_now(self) -> str | None:
        """The running node that leads in the newest term and knows it; nobody leads in quorum mode."""
        nodes = list(self.processes) if self.mode == "raft" else []
        with ThreadPoolExecutor(max_workers=len(self.nodes)) as asking:  # one that hangs must not delay a nemesis
            statuses = list(asking.map(self.status, nodes))
        found = [
            (status["term"], node)
            for node, status in zip(nodes, statuses, strict=True)
            if status is not None and _leads(status)
        ]
        return max(found)[1] if found else None

    def leader(self) -> str:
        """The node that leads, once there is one."""
        return wait_until(self.leader_now, "a leader")

    def followers(self) -> list[str]:
        """All nodes but the leader, once there is one."""
        leader = self.leader()
        return [node for node in self.nodes if node != leader]

    def wait_ready(self, *nodes: str) -> None:
        """Wait until each of ``nodes``, or every running node, can serve."""
        for node in nodes or tuple(self.processes):
            wait_until(partial(self.is_ready, node), f"{node} to be ready")

    def is_ready(self, node: str) -> bool:
        """Does ``node`` say that it can serve?"""
        answer = self.ask(node, "/readyz")
        return answer is not None and answer[0] == 200

    def copy(self, node: str, consistency: str = "local") -> dict[bytes, bytes]:
        """Everything that ``node`` answers with when it is asked for all keys; raises ``ClusterError``."""
        found: dict[bytes, bytes] = {}
        start: str | None = ""
        while start is not None:
            answer = self.ask(node, f"/kv?consistency={consistency}&start={quote(start, safe='')}", COPY_S)
            if answer is None or answer[0] != 200:
                raise ClusterError(f"{node} does not show what it holds: {answer}")
            page = msgspec.json.decode(answer[1], type=_Page)
            found |= {item.key.encode(): _bytes(item.value) for item in page.items}
            start = page.next
        return found

    def wait_level(self, limit_s: float = READY_S) -> None:
        """Wait until every node runs, is ready and has applied as much as every other; clients must be quiet."""
        self.wait_ready(*self.nodes)
        wait_until(self._is_level, "all nodes to be level", limit_s)

    def _is_level(self) -> bool:
        statuses = [self.status(node) for node in self.nodes]
        places = {(status["applied_index"], status["revision"]) for status in statuses if status is not None}
        return None not in statuses and len(places) == 1


def _node_section(site: Site) -> str:
    return f'[[node]]\nid = "{site.id}"\nhttp = "{site.http}"\npeer = "{site.peer}"\n'


class _Item(msgspec.Struct, frozen=True):
    key: str
    value: str | dict[str, str]


class _Page(msgspec.Struct, frozen=True):
    items: list[_Item]
    next: str | None


def _bytes(value: str | dict[str, str]) -> bytes:
    return value.encode() if isinstance(value, str) else base64.b64decode(value["base64"])


def _leads(status: dict[str, Any]) -> bool:
    return bool(status["role"] == "leader")
