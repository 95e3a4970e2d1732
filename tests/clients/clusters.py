"""Clusters on request: what the tests of etcd's Go client ask for, kill and revive, each in a cluster of its own.

``POST /`` with a size starts one. ``POST`` to the URL of one does something to it or to one of its nodes. Every
answer is JSON; what fails is 500 with the error.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from raftkv.instruments.local.nodes import wait_until
from tests.integration.etcd_clusters import EtcdCluster

Begin = Callable[[Path, int], EtcdCluster]
"""A cluster of so many nodes in a folder, not yet started."""


class Clusters:
    """All that run; ``kills`` counts the nodes that were killed so far."""

    def __init__(self, home: Path, begin: Begin) -> None:
        self.home = home
        self.kills = 0
        self._begin = begin
        self._running: dict[str, EtcdCluster] = {}
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def start(self, size: int) -> dict[str, Any]:
        """A new one."""
        with self._lock:
            number = str(next(self._numbers))
        home = self.home / number
        home.mkdir()
        cluster = self._begin(home, size).__enter__()
        self._running[number] = cluster
        told = {node: cluster.ask(node, "maintenance/status") for node in cluster.sites}
        nodes = [
            {"At": str(site.http), "Peer": str(site.peer), "ID": told[node]["header"]["member_id"]}
            for node, site in cluster.sites.items()
        ]
        return {"URL": number, "Nodes": nodes}

    def do(self, number: str, what: str, index: int) -> int:
        """Something to a cluster, or to its node of ``index``."""
        cluster = self._running[number]
        node = list(cluster.sites)[index]
        if what == "end":
            del self._running[number]
            cluster.close()
            shutil.rmtree(cluster.home)
        elif what == "leader":
            return list(cluster.sites).index(cluster.leader())
        elif what == "kill":
            self.kills += 1
            cluster.kill(node)
        elif what == "revive":
            cluster.revive(node)
            wait_until(partial(cluster.answers, node), f"{node} to answer")
        else:
            assert what == "wait", what
            wait_until(partial(cluster.serves, node), f"{node} to serve")
        return 0

    def close(self) -> None:
        """End all that run."""
        for cluster in self._running.values():
            cluster.close()


@contextlib.contextmanager
def served(clusters: Clusters) -> Iterator[str]:
    """Within, ``clusters`` can be asked at the URL; then all of them have ended."""

    class Asked(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            try:
                if "size" in body:
                    told: Any = clusters.start(body["size"])
                    told["URL"] = f"{url}/{told['URL']}"
                else:
                    told = clusters.do(self.path.strip("/"), body["do"], body["node"])
                status, content = 200, json.dumps(told).encode()
            except Exception as error:  # noqa: BLE001  it is told, and fails the test that asked
                status, content = 500, repr(error).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
    url = f"http://127.0.0.1:{server.server_port}"
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield url
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
        clusters.close()
