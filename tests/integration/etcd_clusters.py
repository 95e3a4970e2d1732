"""Nodes that speak etcd's API: raftkv, started by one command, or real etcd. Killed, revived, and asked."""

from __future__ import annotations

import abc
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Self

import requests
import trustme

from raftkv.core.environment import without_configuration
from raftkv.instruments.local.nodes import loopback_sites, wait_until
from raftkv.instruments.local.processes import alive, descendants, parents, send, stat
from raftkv.process.command import module
from tests.integration.etcd_oracle import encoded, program

SIZE: Final = 3
END_S: Final = 20.0
TOKEN_S: Final = 5
ROOT_PASSWORD: Final = "correct horse battery"
ASK_S: Final = 5.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class RefusedError(AssertionError):
    """A node answered that the question is wrong, or that it may not be asked."""


class EtcdCluster(abc.ABC):
    """Nodes n1, n2, ... with all they have under ``home``; whatever way the ``with`` block is left, they have ended.

    Where they are ``secured`` they speak TLS, and tokens are good for ``TOKEN_S``.
    """

    def __init__(self, home: Path, *, size: int = SIZE, secured: bool = False) -> None:
        self.home = home
        self.sites = {site.id: site for site in loopback_sites(size)}
        self.is_secured = secured
        self.scheme = "https" if secured else "http"
        self.authority = home / "ca.pem"
        self._root: dict[str, str] = {}
        if secured:
            authority = trustme.CA()
            authority.cert_pem.write_to_path(self.authority)
            shown = authority.issue_cert("127.0.0.1")
            shown.private_key_and_cert_chain_pem.write_to_path(home / "node.pem")
            shown.private_key_pem.write_to_path(home / "node.key")
            (home / "node.key").chmod(0o600)
        self.first: dict[str, int] = {}
        self._own: dict[str, subprocess.Popen[bytes]] = {}

    @abc.abstractmethod
    def command(self, node: str) -> list[str]:
        """What runs ``node`` in the foreground."""

    def __enter__(self) -> Self:
        try:
            self.start()
            wait_until(lambda: all(map(self.serves, self.sites)), "all nodes to serve")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def start(self) -> None:
        """All nodes for the first time; does not wait for them."""
        self.revive(*self.sites)

    def revive(self, *nodes: str) -> None:
        """Start ``nodes`` on the data that they have; does not wait for them."""
        for node in nodes:
            self._own[node] = self._begun(node, self.command(node))
            self.first[node] = self._own[node].pid

    def kill(self, *nodes: str) -> None:
        """``kill -9`` of the nodes, all at once."""
        family = set[int]().union(*(descendants(self.first.pop(node)) for node in nodes))
        send(signal.SIGKILL, family)
        for node in nodes:
            if node in self._own:
                self._own.pop(node).wait(END_S)
        wait_until(lambda: not alive(family), f"{', '.join(nodes)} to end")

    def close(self) -> None:
        """End everything."""
        self.kill(*self.first)

    def _begun(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with (self.home / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.home,
                env=without_configuration(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )

    def let_in(self, name: str, password: str, prefix: bytes) -> None:
        """Switch authentication on: ``name`` has what begins with ``prefix`` to itself."""
        begin, end = encoded(prefix), encoded(prefix[:-1] + bytes([prefix[-1] + 1]))
        permission = {"permType": "READWRITE", "key": begin, "range_end": end}
        root = {"name": "root", "password": ROOT_PASSWORD}
        for path, body in (
            ("user/add", root),
            ("role/add", {"name": "root"}),
            ("user/grant", {"user": "root", "role": "root"}),
            ("role/add", {"name": name}),
            ("role/grant", {"name": name, "perm": permission}),
            ("user/add", {"name": name, "password": password}),
            ("user/grant", {"user": name, "role": name}),
            ("enable", {}),
        ):
            assert self.ask("n1", f"auth/{path}", body) is not None, path
        self._root = root

    # --- questions

    @property
    def hosts(self) -> list[str]:
        """Where clients reach the nodes."""
        return [str(site.http) for site in self.sites.values()]

    def ask(self, node: str, path: str, body: object = None) -> dict[str, Any] | None:
        """What ``node`` answers to ``POST /v3/PATH``, ``None`` when it does not or cannot. Raises ``RefusedError``."""
        token = ""
        if self._root:  # anew each time, as tokens do not last
            told = self._asked(node, "auth/authenticate", self._root)
            if told is None:
                return None
            token = told["token"]
        return self._asked(node, path, body, token)

    def _asked(self, node: str, path: str, body: object, token: str = "") -> dict[str, Any] | None:
        url = f"{self.scheme}://{self.sites[node].http}/v3/{path}"
        shown = {"authorization": token} if token else {}
        trusted = str(self.authority) if self.is_secured else True
        try:
            answer = requests.post(url, json=body or {}, headers=shown, timeout=ASK_S, verify=trusted)
        except requests.RequestException:
            return None
        if 400 <= answer.status_code < 500:
            raise RefusedError(answer.text)
        return answer.json() if answer.ok else None

    def leader(self) -> str:
        """The running node that leads, once there is one."""
        return wait_until(lambda: next(filter(self._leads, self.first), None), "a leader")

    def _leads(self, node: str) -> bool:
        try:
            told = self.ask(node, "maintenance/status")
        except RefusedError:  # a suite has switched authentication on; asked again, once it is over
            return False
        return told is not None and told.get("leader") == told["header"]["member_id"]

    def answers(self, node: str) -> bool:
        """Does it answer, whether it has a leader or not?"""
        url, trusted = f"{self.scheme}://{self.sites[node].http}/version", str(self.authority)
        try:
            return requests.get(url, timeout=ASK_S, verify=trusted if self.is_secured else True).ok
        except requests.RequestException:
            return False

    def serves(self, node: str) -> bool:
        """Does it read linearizably, or refuse to, as it does while a suite tries authentication?"""
        try:
            return self.ask(node, "kv/range", {"key": "AA=="}) is not None
        except RefusedError:
            return True

    def cpu_s(self) -> float:
        """What the nodes that run have had of the processors so far."""
        told = map(stat, set[int]().union(*map(descendants, self.first.values())))
        return sum(int(ticks) for fields in told if fields is not None for ticks in fields[11:13]) / _TICKS


_SECURED: Final = f"""
[http]
tls_cert = "node.pem"
tls_key = "node.key"
tls_ca = "ca.pem"

[auth]
open_to_anyone = true
token_ttl_s = {TOKEN_S}

"""


class RaftkvCluster(EtcdCluster):
    """``raftkv up``; a node that is revived is started by ``raftkv node``."""

    def __init__(self, home: Path, *, size: int = SIZE, secured: bool = False) -> None:
        super().__init__(home, size=size, secured=secured)
        nodes = [
            f'[[node]]\nid = "{one.id}"\nhttp = "{one.http}"\npeer = "{one.peer}"\n' for one in self.sites.values()
        ]
        told = '[cluster]\ndata_dir = "data"\n' + (_SECURED if secured else "") + "".join(nodes)
        (home / "cluster.toml").write_text(told)
        self._up: subprocess.Popen[bytes] | None = None

    def command(self, node: str) -> list[str]:
        """See ``EtcdCluster``."""
        return module("raftkv", "node", "cluster.toml", "--id", node)

    def start(self) -> None:
        """See ``EtcdCluster``."""
        self._up = up = self._begun("up", module("raftkv", "up", "cluster.toml"))
        children = wait_until(lambda: self._children(up.pid), "all nodes to be started")
        self.first = dict(zip(self.sites, children, strict=True))

    def _children(self, pid: int) -> list[int] | None:
        words = {child: _command_line(child) for child, parent in parents().items() if parent == pid}
        found = [child for node in self.sites for child, said in words.items() if node in said]
        return found if len(found) == len(self.sites) else None

    def close(self) -> None:
        """See ``EtcdCluster``."""
        super().close()
        if self._up is not None:
            self._up.terminate()
            self._up.wait(END_S)


class RealEtcd(EtcdCluster):
    """Nodes of etcd 3.5."""

    def command(self, node: str) -> list[str]:
        """See ``EtcdCluster``."""
        client, peer = f"{self.scheme}://{self.sites[node].http}", f"http://{self.sites[node].peer}"
        members = ",".join(f"{site.id}=http://{site.peer}" for site in self.sites.values())
        command = [program("etcd"), "--name", node, "--data-dir", str(self.home / node), "--log-level", "warn"]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client]
        command += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        if self.is_secured:
            command += ["--cert-file", "node.pem", "--key-file", "node.key", "--auth-token-ttl", str(TOKEN_S)]
        return [*command, "--initial-cluster", members, "--initial-cluster-state", "new"]


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []
