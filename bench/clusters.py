"""Clusters of etcd and of raftkv on loopback, of three nodes as a rule: started, asked how they stand, and ended.

Both keep their data below one temporary directory, so on the same disk, with the durability they have by default (a
flush before every acknowledgement) and the same election timing.
"""

from __future__ import annotations

import abc
import os
import shutil
from pathlib import Path

import msgspec

from bench.dialects import Dialect, EtcdSpeech, RaftkvSpeech
from bench.processes import Process
from raftkv.instruments.load.engine import LoadTarget
from raftkv.instruments.local.cluster import LocalCluster
from raftkv.instruments.local.nodes import LocalNodes, loopback_sites, wait_until
from raftkv.instruments.local.processes import descendants, parents

SIZE = 3
READY_S = 60.0
QUOTA_BYTES = 8 << 30
"""etcd stops taking writes at 2 GiB by default, which a long run would reach."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What a node says of itself; ``applied_index`` tells when the nodes have the same."""

    term: int
    leads: bool
    applied_index: int


class Measured(LocalNodes):
    """What both kinds share; a kind says how a node is started, what its processes are, and how it says it stands."""

    name: str
    dialect: Dialect
    has_leader = True

    def begin(self) -> None:
        """Start all nodes and wait until each is ready and one leads; raises ``ClusterError``."""
        self.start()
        wait_until(self._is_ready, f"{self.name} to be ready", READY_S)

    @abc.abstractmethod
    def standing(self, node: str) -> Standing | None:
        """How ``node`` stands, if it answers."""

    def standings(self) -> dict[str, Standing]:
        """How each node that answers stands; one that does not is left out."""
        found = {node: self.standing(node) for node in self.nodes}
        return {node: standing for node, standing in found.items() if standing is not None}

    def servers(self) -> list[LoadTarget]:
        """Where the nodes are, the leader first."""
        standings = self.standings()
        ordered = sorted(self.nodes, key=lambda node: node not in standings or not standings[node].leads)
        return [LoadTarget(self.sites[node].http.host, self.sites[node].http.port) for node in ordered]

    def parts(self) -> list[Process]:
        """All processes of the cluster that run now; here one for each node."""
        return [Process(pid=process.pid, node=node, part=self.name) for node, process in self.processes.items()]

    def _is_ready(self) -> bool:
        if not all(map(self.is_ready, self.nodes)):
            return False
        return not self.has_leader or any(standing.leads for standing in self.standings().values())


class EtcdCluster(Measured):
    """etcd as packaged, default timing (heartbeat 100 ms, election 1,000 ms), no compaction, a larger quota."""

    name = "etcd"
    dialect = EtcdSpeech
    ready_path = "/health"

    def __init__(self, home: Path, size: int = SIZE) -> None:
        home.mkdir(parents=True)
        super().__init__(home, loopback_sites(size))

    def command(self, node: str) -> list[str]:
        """See ``LocalNodes``."""
        client, peer = (f"http://{address}" for address in (self.sites[node].http, self.sites[node].peer))
        options = {
            "name": node,
            "data-dir": str(self.home / node),
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": ",".join(f"{site.id}=http://{site.peer}" for site in self.sites.values()),
            "initial-cluster-token": self.home.parent.name,
            "quota-backend-bytes": str(QUOTA_BYTES),
            "logger": "zap",
            "log-level": "error",
        }
        return [etcd_program() or "etcd", *(f"--{key}={value}" for key, value in options.items())]

    def standing(self, node: str) -> Standing | None:
        """The gateway writes 64-bit numbers as strings."""
        answer = self.ask(node, "/v3/maintenance/status", method="POST", body=b"{}")
        if answer is None or answer[0] != 200:
            return None
        document = msgspec.json.decode(answer[1])
        return Standing(
            term=int(document["raftTerm"]),
            leads=document.get("leader", "") == document["header"]["member_id"],
            applied_index=int(document["raftAppliedIndex"]),
        )


class RaftkvCluster(Measured, LocalCluster):
    """raftkv with its defaults throughout, but for what ``sections`` of TOML say."""

    name = mode = "raft"
    dialect = RaftkvSpeech

    def __init__(self, home: Path, size: int = SIZE, sections: str = "") -> None:
        home.mkdir(parents=True)
        LocalCluster.__init__(self, home, loopback_sites(size), sections, mode=self.mode, obedient=False)

    def standing(self, node: str) -> Standing | None:
        """The members of ``/status`` that matter here."""
        status = self.status(node)
        if status is None:
            return None
        return Standing(term=status.term, leads=status.role == "leader", applied_index=status.applied_index)

    def parts(self) -> list[Process]:
        """For each node its replica, the arbiter below that, and the arbiter's front-end workers."""
        parent_of = parents()
        found = []
        for node, process in self.processes.items():
            for pid in sorted(descendants(process.pid)):
                part = "arbiter" if parent_of.get(pid) == process.pid else "front-end"
                found.append(Process(pid=pid, node=node, part="replica" if pid == process.pid else part))
        return found


class EarlierCluster(RaftkvCluster):
    """raftkv as it stands in the checkout that the environment variable ``RAFTKV_EARLIER`` names."""

    name = "earlier"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        checkout = Path(os.environ["RAFTKV_EARLIER"]).resolve(strict=True)
        under = ("env", f"PYTHONPATH={checkout}")
        self.sites = {node: msgspec.structs.replace(site, under=under) for node, site in self.sites.items()}


class OneProcessCluster(RaftkvCluster):
    """raftkv with ``http.workers = 0``: each replica answers clients itself."""

    name = "one-process"

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        under = ("env", "RAFTKV_HTTP__WORKERS=0")
        self.sites = {node: msgspec.structs.replace(site, under=under) for node, site in self.sites.items()}


class GatewayCluster(RaftkvCluster):
    """raftkv as clients of etcd's JSON gateway ask it."""

    name = "gateway"
    dialect = EtcdSpeech


class QuorumCluster(RaftkvCluster):
    """raftkv without a leader: N = 3, R = 2, W = 2, its defaults throughout."""

    name = mode = "quorum"
    has_leader = False


SYSTEMS: dict[str, type[Measured]] = {
    kind.name: kind
    for kind in (EtcdCluster, RaftkvCluster, GatewayCluster, OneProcessCluster, QuorumCluster, EarlierCluster)
}


def etcd_program() -> str | None:
    """Where etcd is installed, or ``None``."""
    return shutil.which("etcd")
