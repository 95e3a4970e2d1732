"""A network of its own for a cluster: one network namespace per node, joined by a bridge; needs root on Linux.

Partitions are packets dropped by nftables rules inside the receiving namespace, so connections stall and time out as
they do when a switch fails; slow links are a token bucket on the node's own interface. Clients reach every node over
the bridge, whatever the rules between nodes say. Leaving the ``with`` block removes everything; what a killed process
left behind is removed by the next one.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, Self

from raftkv.core.config import Address
from raftkv.instruments.local.nodes import Site

HTTP_PORT: Final = 8001
PEER_PORT: Final = 9001
COMMAND_S: Final = 20.0

_PREFIX: Final = "rk"
_OURS: Final = re.compile(rf"{_PREFIX}(\d+)[a-z]\w*")
_NETWORK: Final = "198.18"
"""Reserved for benchmarks (RFC 2544), so no real network is shadowed."""

_serial = itertools.count()


def why_unavailable(tools: Collection[str] = ("ip", "nft", "tc")) -> str | None:
    """Why namespaces cannot be had here, ``None`` when they can; without partitions and slow links ``ip`` is enough."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return f"not installed: {', '.join(missing)}" if missing else None


class Namespaces:
    """The network of nodes n1 to n<size>; ``sites`` says where they live."""

    def __init__(self, size: int) -> None:
        assert size < 250
        self._name = f"{_PREFIX}{os.getpid()}{chr(ord('a') + next(_serial) % 26)}"
        self._nodes = [f"n{number + 1}" for number in range(size)]
        self._net = ""

    @property
    def sites(self) -> tuple[Site, ...]:
        """Where the nodes live."""
        return tuple(
            Site(
                id=node,
                http=Address(self._ip(node), HTTP_PORT),
                peer=Address(self._ip(node), PEER_PORT),
                under=("ip", "netns", "exec", self._namespace(node)),
            )
            for node in self._nodes
        )

    def __enter__(self) -> Self:
        _remove_leftovers()
        taken = _run("ip", "-4", "-oneline", "address")
        self._net = next(net for number in range(256) if f" {(net := f'{_NETWORK}.{number}')}." not in taken)
        try:
            bridge = f"{self._name}br"
            _run("ip", "link", "add", bridge, "type", "bridge")
            _run("ip", "address", "add", f"{self._net}.254/24", "dev", bridge)
            _run("ip", "link", "set", bridge, "up")
            for number, node in enumerate(self._nodes):
                self._add(node, f"{self._name}v{number}", bridge)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        _remove(self._name)

    def drop(self, pairs: Collection[tuple[str, str]], losses: Mapping[str, float]) -> None:
        """Let no packet pass from the first to the second of each pair, and lose shares of what nodes hear; else none.

        ``losses`` says for a node which share of the packets of its peers gets lost on the way to it.
        """
        for node in self._nodes:
            rules = [f"ip saddr {self._ip(sender)} drop" for sender, receiver in sorted(set(pairs)) if receiver == node]
            if node in losses:
                peers = ", ".join(self._ip(peer) for peer in self._nodes if peer != node)
                rules.append(f"ip saddr {{ {peers} }} numgen random mod 1000 < {round(losses[node] * 1000)} drop")
            chain = "\n".join(["type filter hook input priority 0", *rules])
            # One transaction: there is no moment without rules.
            table = (
                f"table inet raftkv\ndelete table inet raftkv\ntable inet raftkv {{\nchain input {{\n{chain}\n}}\n}}\n"
            )
            self._inside(node, "nft", "-f", "-", text=table)

    def throttle(self, rates: Mapping[str, int]) -> None:
        """Let the nodes of ``rates`` send so many bytes per second at most; all others send as fast as they can."""
        for node in self._nodes:
            with contextlib.suppress(subprocess.CalledProcessError):  # there is none yet
                self._inside(node, "tc", "qdisc", "del", "dev", "eth0", "root")
            if node in rates:
                shape = ("rate", f"{rates[node] * 8}bit", "burst", "16kb", "latency", "500ms")
                self._inside(node, "tc", "qdisc", "add", "dev", "eth0", "root", "tbf", *shape)

    def _add(self, node: str, interface: str, bridge: str) -> None:
        space = self._namespace(node)
        _run("ip", "netns", "add", space)
        _run("ip", "link", "add", interface, "type", "veth", "peer", "name", "eth0", "netns", space)
        _run("ip", "link", "set", interface, "master", bridge, "up")
        self._inside(node, "ip", "address", "add", f"{self._ip(node)}/24", "dev", "eth0")
        self._inside(node, "ip", "link", "set", "eth0", "up")
        self._inside(node, "ip", "link", "set", "lo", "up")

    def _inside(self, node: str, *command: str, text: str = "") -> None:
        _run("ip", "netns", "exec", self._namespace(node), *command, text=text)

    def _namespace(self, node: str) -> str:
        return f"{self._name}{node}"

    def _ip(self, node: str) -> str:
        assert self._net, "enter the network before its addresses are asked for"
        return f"{self._net}.{self._nodes.index(node) + 1}"


def _run(*command: str, text: str = "") -> str:
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=COMMAND_S, check=False)  # noqa: S603
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
    return done.stdout


def _remove(name: str) -> None:
    """Remove every namespace and interface whose name begins with ``name``."""
    for space in _run("ip", "netns", "list").splitlines():
        if space.startswith(name):
            _run("ip", "netns", "delete", space.split()[0])
    for interface in _interfaces():
        if interface.startswith(name):
            with contextlib.suppress(subprocess.CalledProcessError):  # its other end may have taken it along
                _run("ip", "link", "delete", interface)


def _interfaces() -> list[str]:
    return [path.name for path in Path("/sys/class/net").iterdir()]


def _remove_leftovers() -> None:
    """Remove what belongs to processes that are gone."""
    spaces = [line.split()[0] for line in _run("ip", "netns", "list").splitlines() if line]
    for name in [*spaces, *_interfaces()]:
        found = _OURS.match(name)
        if found is not None and not Path("/proc", found[1]).exists():
            _remove(f"{_PREFIX}{found[1]}")
