"""A real cluster for tests: one process per node on loopback, real signals, real disks; nothing outlives the test."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from raftkv.instruments.local.cluster import LocalCluster
from raftkv.instruments.local.nodes import loopback_sites
from raftkv.instruments.local.processes import descendants, parents


class RealCluster(LocalCluster):
    """Nodes n1..nN on loopback under ``home``, with requests of every kind; ``http`` and ``peer`` are their ports.

    Those after the first ``size`` are newcomers.
    """

    def __init__(
        self,
        home: Path,
        size: int = 3,
        sections: str = "",
        scheme: str = "http",
        data: str = "data",
        *,
        mode: str = "raft",
        name: str = "test",
        newcomers: int = 0,
    ) -> None:
        sites = loopback_sites(size + newcomers)
        super().__init__(home, sites[:size], sections, mode=mode, name=name, data=data, newcomers=sites[size:])
        self.scheme = scheme
        self.verify: str | bool = True
        self.http = {node: site.http.port for node, site in self.sites.items()}
        self.peer = {node: site.peer.port for node, site in self.sites.items()}

    def run_to_the_end(self, node: str, limit_s: float = 20.0) -> tuple[int, str]:
        """For a node that should refuse to start: its exit status and what it said."""
        done = subprocess.run(self.command(node), capture_output=True, text=True, timeout=limit_s, check=False)
        return done.returncode, done.stderr

    def url(self, node: str, path: str) -> str:
        return f"{self.scheme}://127.0.0.1:{self.http[node]}{path}"

    def request(self, method: str, node: str, path: str, **options) -> requests.Response:
        """Whatever is asked is asked with a proof of the cluster's secret, unless ``auth`` is given."""
        options.setdefault("timeout", 15)
        options.setdefault("auth", self._prove)
        return requests.request(method, self.url(node, path), verify=self.verify, **options)

    def _prove(self, prepared: requests.PreparedRequest) -> requests.PreparedRequest:
        body = prepared.body or b""
        body = body.encode() if isinstance(body, str) else body
        if isinstance(body, bytes):
            prepared.headers["Authorization"] = self.prover.authorization(prepared.method, prepared.path_url, body)
        return prepared

    def put(self, node: str, key: str, value: bytes | str = b"v", **options) -> requests.Response:
        return self.request("PUT", node, f"/kv/{key}", data=value, **options)

    def get(self, node: str, key: str, query: str = "", **options) -> requests.Response:
        return self.request("GET", node, f"/kv/{key}{query}", **options)

    def ask(self, node: str, path: str, timeout_s: float = 2.0) -> tuple[int, bytes] | None:
        """As the base does, over TLS where the cluster speaks it."""
        try:
            answer = self.request("GET", node, path, timeout=timeout_s)
        except requests.RequestException:
            return None
        return answer.status_code, answer.content


@contextmanager
def running(*where: Any, **kind: Any) -> Iterator[RealCluster]:
    """A cluster as ``RealCluster`` makes it, every node of which is ready."""
    with RealCluster(*where, **kind) as cluster:
        cluster.start()
        cluster.wait_ready()
        yield cluster


def workers(cluster: RealCluster, node: str) -> list[int]:
    """The front-end's workers: grandchildren of the node, whose children are the arbiter and who writes snapshots."""
    first = cluster.processes[node].pid
    above = parents()
    return [pid for pid in descendants(first) - {first} if above.get(pid, first) != first]
