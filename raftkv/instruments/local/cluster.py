"""A cluster of real raftkv nodes for experiments, measurements and tests: as ``raftkv node`` starts them.

The rules are those of ``LocalNodes``. If this process is killed the nodes end by themselves, because they watch a pipe
that only it holds.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from raftkv.api import paths
from raftkv.api.answers import Listed
from raftkv.api.cluster_answers import NodeStatus
from raftkv.api.values import value_from_json
from raftkv.core.proof import Prover
from raftkv.experiment import DONE, Orders
from raftkv.instruments.local.nodes import READY_S, ClusterError, LocalNodes, Site, wait_until
from raftkv.process.command import module

ORDER_S: Final = 30.0
"""Orders may meet a node that is only starting, on a machine where many others start as well."""

COPY_S: Final = 30.0


class LocalCluster(LocalNodes):
    """Nodes at ``sites``, with all they have under ``home``; ``sections`` is more TOML for their configuration.

    ``newcomers`` are not among ``nodes``: each has a file of its own, and joins the others once it is started by name.
    Unless they are ``obedient``, nodes take no orders to be faulty, and nothing that such orders need is in their way.
    """

    ready_path = paths.READYZ

    def __init__(
        self,
        home: Path,
        sites: Sequence[Site],
        sections: str = "",
        *,
        mode: str = "raft",
        name: str = "test",
        data: str = "data",
        newcomers: Sequence[Site] = (),
        obedient: bool = True,
    ) -> None:
        super().__init__(home, [*sites, *newcomers])
        self.nodes = [site.id for site in sites]
        self.mode = mode
        self.config = home / "cluster.toml"
        self._is_obedient = obedient
        self._controls: dict[str, socket.socket] = {}
        self._data = Path(home, data)
        text = f'[cluster]\nname = "{name}"\nmode = "{mode}"\ndata_dir = "{data}"\nsecret_file = "secret"\n'
        if "[auth]" not in sections and any(not site.http.is_loopback for site in [*sites, *newcomers]):
            text += "[auth]\nopen_to_anyone = true\n"  # in namespaces, which only this machine reaches
        self.config.write_text(text + "".join(map(_node_section, sites)) + sections)
        for site in newcomers:
            self._own_config(site.id).write_text(text + _node_section(site) + sections)
        secret = home / "secret"
        key = secret.read_bytes() if secret.exists() else os.urandom(32).hex().encode()
        secret.write_bytes(key)
        secret.chmod(0o600)
        self.prover = Prover(key, name, wall_ms=lambda: time.time_ns() // 1_000_000)
        self._watched, self._held = os.pipe()

    def __exit__(self, *error: object) -> None:
        try:
            super().__exit__(*error)
        finally:
            os.close(self._held)
            os.close(self._watched)

    def data_dir(self, node: str) -> Path:
        """Where ``node`` keeps its data."""
        return self._data / node

    def command(self, node: str) -> list[str]:
        """See ``LocalNodes``."""
        if node in self.nodes:
            return module("raftkv", "node", str(self.config), "--id", node)
        command = module("raftkv", "node", str(self._own_config(node)), "--id", node)
        return command + [f"--join={self.sites[other].http}" for other in self.nodes]

    def _launch(self, node: str, more: Sequence[str] = (), fds: Sequence[int] = ()) -> None:
        more, fds = [*more, "--parent-fd", str(self._watched)], [*fds, self._watched]
        if not self._is_obedient:
            super()._launch(node, more, fds)
            return
        ours, theirs = socket.socketpair()
        with theirs:
            super()._launch(node, [*more, "--experiment-fd", str(theirs.fileno())], [*fds, theirs.fileno()])
        ours.settimeout(ORDER_S)
        self._controls[node] = ours

    def _own_config(self, node: str) -> Path:
        return self.home / f"{node}.toml"

    def _forget(self, node: str) -> subprocess.Popen[bytes]:
        control = self._controls.pop(node, None)
        if control is not None:
            control.close()
        return super()._forget(node)

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

    def _headers(self, method: str, path: str, body: bytes) -> dict[str, str]:
        """Whatever is asked is asked with a proof of the cluster's secret."""
        return {"Authorization": self.prover.authorization(method, path, body)}

    def status(self, node: str) -> NodeStatus | None:
        """What ``node`` says of itself, ``None`` when it says nothing."""
        answer = self.ask(node, paths.STATUS)
        return msgspec.json.decode(answer[1], type=NodeStatus) if answer is not None and answer[0] == 200 else None

    def leader_now(self) -> str | None:
        """The running node that leads in the newest term and knows it; nobody leads in quorum mode."""
        nodes = list(self.processes) if self.mode == "raft" else []
        with ThreadPoolExecutor(max_workers=len(self.nodes)) as asking:  # one that hangs must not delay a nemesis
            statuses = list(asking.map(self.status, nodes))
        found = [
            (status.term, node)
            for node, status in zip(nodes, statuses, strict=True)
            if status is not None and status.role == "leader"
        ]
        return max(found)[1] if found else None

    def leader(self) -> str:
        """The node that leads, once there is one."""
        return wait_until(self.leader_now, "a leader")

    def followers(self) -> list[str]:
        """All nodes but the leader, once there is one."""
        leader = self.leader()
        return [node for node in self.nodes if node != leader]

    def copy(self, node: str, consistency: str = "local") -> dict[bytes, bytes]:
        """Everything that ``node`` answers with when it is asked for all keys; raises ``ClusterError``."""
        found: dict[bytes, bytes] = {}
        start: bytes | None = b""
        while start is not None:
            answer = self.ask(node, f"{paths.KEYS}?consistency={consistency}&start={quote(start, safe='')}", COPY_S)
            if answer is None or answer[0] != 200:
                raise ClusterError(f"{node} does not show what it holds: {answer}")
            page = msgspec.json.decode(answer[1], type=Listed)
            found |= {value_from_json(item.key): item.content() or b"" for item in page.items}
            start = None if page.next is None else value_from_json(page.next)
        return found

    def wait_level(self, limit_s: float = READY_S) -> None:
        """Wait until every node runs, is ready and has applied as much as every other; clients must be quiet."""
        self.wait_ready(*self.nodes)
        wait_until(self._is_level, "all nodes to be level", limit_s)

    def _is_level(self) -> bool:
        statuses = [self.status(node) for node in self.nodes]
        places = {(status.applied_index, status.revision) for status in statuses if status is not None}
        return None not in statuses and len(places) == 1


def _node_section(site: Site) -> str:
    return f'[[node]]\nid = "{site.id}"\nhttp = "{site.http}"\npeer = "{site.peer}"\n'
