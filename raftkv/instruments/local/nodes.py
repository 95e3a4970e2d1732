"""Nodes as processes of this machine, whatever they are nodes of: started, paused, killed, ended, and asked over HTTP.

Rules. Whatever way the ``with`` block is left, every process has ended. Every wait has a deadline and raises
``ClusterError``. One thread uses it at a time. Nodes are processes: this module must not import ``raftkv.node``.
"""

from __future__ import annotations

import abc
import os
import random
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final, Self, TypeVar

import msgspec

from raftkv.client.channels import Channels
from raftkv.client.reach import Host, UnheardError, UnopenedError
from raftkv.core.config import Address
from raftkv.core.environment import without_configuration
from raftkv.instruments.local.processes import Part, Paused, alive, descendants, members

READY_S: Final = 60.0
END_S: Final = 10.0
ASK_S: Final = 1.0
LOOK_S: Final = 0.05
PORTS: Final = range(15_000, 32_000)
"""Below those that the kernel takes for outgoing connections, which would come in between."""

Found = TypeVar("Found")


class ClusterError(Exception):
    """The cluster did not do in time what was asked of it; the message is for a person."""


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """Where one node lives: its id, its addresses, and the command that everything of it runs under."""

    id: str
    http: Address
    peer: Address
    under: tuple[str, ...] = ()


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that were free a moment ago; raises ``ClusterError`` when there are too few."""
    found: list[int] = []
    with ExitStack() as held:  # all at once, so that they differ
        for port in random.SystemRandom().sample(PORTS, min(len(PORTS), 20 * count + 100)):
            if len(found) == count:
                return found
            probe = held.enter_context(socket.socket())
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
    raise ClusterError("no free ports found")


def loopback_sites(size: int) -> tuple[Site, ...]:
    """Nodes n1, n2, ... on free ports of this machine."""
    ports = [Address("127.0.0.1", port) for port in free_ports(2 * size)]
    return tuple(
        Site(id=f"n{number}", http=http, peer=peer)
        for number, http, peer in zip(range(1, size + 1), ports[:size], ports[size:], strict=True)
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


class LocalNodes(abc.ABC):
    """Nodes at ``sites``, with all they have under ``home``."""

    ready_path: str

    def __init__(self, home: Path, sites: Sequence[Site]) -> None:
        self.home = home
        self.sites = {site.id: site for site in sites}
        self.nodes = list(self.sites)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self._paused: dict[str, list[Paused]] = {}

    @abc.abstractmethod
    def command(self, node: str) -> list[str]:
        """What runs ``node`` in the foreground."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.kill(*self.processes)

    # --- processes

    def start(self, *nodes: str) -> None:
        """Start ``nodes``, all when none are named; does not wait for them."""
        for node in nodes or self.nodes:
            assert node not in self.processes
            self._launch(node)

    def _launch(self, node: str, more: Sequence[str] = (), fds: Sequence[int] = ()) -> None:
        """Start ``node`` by its command and ``more``, which inherits ``fds``."""
        with (self.home / f"{node}.log").open("ab") as log:
            self.processes[node] = subprocess.Popen(  # noqa: S603  our own commands
                [*self.sites[node].under, *self.command(node), *more],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=fds,
                env=without_configuration(os.environ),  # what is measured is what its file says
                process_group=0,  # Ctrl-C is for this program, which then ends the nodes
            )

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

    def _forget(self, node: str) -> subprocess.Popen[bytes]:
        return self.processes.pop(node)

    # --- questions

    def ask(
        self, node: str, path: str, timeout_s: float = ASK_S, *, method: str = "GET", body: bytes = b""
    ) -> tuple[int, bytes] | None:
        """The status and body of ``GET path``, or another method's; ``None`` when ``node`` does not answer."""
        try:
            status, _, found = self.exchange(node, method, path, body, timeout_s=timeout_s)
        except ClusterError:
            return None
        return status, found

    def exchange(
        self, node: str, method: str, path: str, body: bytes = b"", *, timeout_s: float, content_type: str = ""
    ) -> tuple[int, dict[str, str], bytes]:
        """The status, headers (lower case) and body of the answer; raises ``ClusterError`` when there is none."""
        address = self.sites[node].http
        channels, host = Channels(), Host(address.host, address.port)
        headers = self._headers(method, path, body) | ({"Content-Type": content_type} if content_type else {})
        try:
            answer = channels.exchange(host, method, path, headers=headers.items(), body=body, timeout_s=timeout_s)
        except (UnopenedError, UnheardError) as error:
            raise ClusterError(f"{address}: {method} {path}: {error}") from None
        finally:
            channels.close()
        told = {name.decode(): value.decode("latin-1") for name, value in answer.headers}
        return answer.status, told, answer.body

    def _headers(self, method: str, path: str, body: bytes) -> dict[str, str]:  # noqa: ARG002  some kinds sign them
        return {}

    def is_ready(self, node: str) -> bool:
        """Does ``node`` say that it can serve?"""
        answer = self.ask(node, self.ready_path)
        return answer is not None and answer[0] == 200

    def wait_ready(self, *nodes: str) -> None:
        """Wait until each of ``nodes``, or every running node, can serve."""
        for node in nodes or tuple(self.processes):
            wait_until(partial(self.is_ready, node), f"{node} to be ready")
