"""A real cluster for tests: one process per node on loopback, real signals, real disks; nothing outlives the test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Self

import requests

READY_S = 30.0


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago; all are held until the last is found, so they differ."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in held]
    for each in held:
        each.close()
    return ports


def wait_for(condition, what: str, limit_s: float = READY_S):
    end_s = time.monotonic() + limit_s
    while time.monotonic() < end_s:
        found = condition()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {limit_s} s in vain for {what}")


def descendants(pid: int) -> set[int]:
    """``pid`` and everything below it that is alive."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parents[int(entry.name)] = int(fields[1])
    found = {pid} & parents.keys()
    while True:
        more = {child for child, parent in parents.items() if parent in found} - found
        if not more:
            return found
        found |= more


def alive(pids: set[int]) -> set[int]:
    return {pid for pid in pids if descendants(pid)}


class RealCluster:
    """Nodes n1..nN under ``home``; ``sections`` is more TOML for the configuration file."""

    def __init__(self, home: Path, size: int = 3, sections: str = "", scheme: str = "http", data: str = "data") -> None:
        self.home = home
        self.scheme = scheme
        self.verify: str | bool = True
        ports = free_ports(2 * size)
        self.nodes = [f"n{number + 1}" for number in range(size)]
        self.http = dict(zip(self.nodes, ports[:size], strict=True))
        self.peer = dict(zip(self.nodes, ports[size:], strict=True))
        self.config = home / "cluster.toml"
        text = f'[cluster]\nname = "test"\ndata_dir = "{data}"\nsecret_file = "secret"\n'
        for node in self.nodes:
            text += (
                f'[[node]]\nid = "{node}"\nhttp = "127.0.0.1:{self.http[node]}"\npeer = "127.0.0.1:{self.peer[node]}"\n'
            )
        self.config.write_text(text + sections)
        secret = home / "secret"
        secret.write_text("a secret of the tests, 32 bytes long")
        secret.chmod(0o600)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.families: dict[str, set[int]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for node in list(self.processes):
            self.kill(node)

    def command(self, node: str) -> list[str]:
        return [sys.executable, "-m", "raftkv.cli.main", "node", str(self.config), "--id", node]

    def log(self, node: str) -> str:
        return (self.home / f"{node}.log").read_text()

    def start(self, *nodes: str) -> None:
        for node in nodes or self.nodes:
            with (self.home / f"{node}.log").open("ab") as log:
                self.processes[node] = subprocess.Popen(
                    self.command(node), stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )

    def run_to_the_end(self, node: str, limit_s: float = 20.0) -> tuple[int, str]:
        """For a node that should refuse to start: its exit status and what it said."""
        done = subprocess.run(self.command(node), capture_output=True, text=True, timeout=limit_s, check=False)
        return done.returncode, done.stderr

    def kill(self, *nodes: str) -> None:
        """``kill -9`` of the nodes, all at once; whatever they started must end by itself."""
        processes = [self.processes.pop(node) for node in nodes]
        family = set().union(*(descendants(process.pid) for process in processes))
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()
        wait_for(lambda: not alive(family), f"the processes of {nodes} to end", limit_s=5.0)

    def stop(self, node: str) -> int:
        process = self.processes.pop(node)
        family = descendants(process.pid)
        process.terminate()
        status = process.wait(20)
        assert not alive(family), "a node that stopped left processes behind"
        return status

    def signal(self, node: str, number: signal.Signals) -> None:
        os.kill(self.processes[node].pid, number)

    # --- requests

    def url(self, node: str, path: str) -> str:
        return f"{self.scheme}://127.0.0.1:{self.http[node]}{path}"

    def request(self, method: str, node: str, path: str, **options) -> requests.Response:
        options.setdefault("timeout", 15)
        return requests.request(method, self.url(node, path), verify=self.verify, **options)

    def put(self, node: str, key: str, value: bytes | str = b"v", **options) -> requests.Response:
        return self.request("PUT", node, f"/kv/{key}", data=value, **options)

    def get(self, node: str, key: str, query: str = "", **options) -> requests.Response:
        return self.request("GET", node, f"/kv/{key}{query}", **options)

    def status(self, node: str) -> dict | None:
        try:
            answer = self.request("GET", node, "/status", timeout=2)
        except requests.RequestException:
            return None
        return answer.json() if answer.status_code == 200 else None

    def leader(self) -> str:
        """The node that leads and knows it, once there is one."""

        def leading() -> str | None:
            for node in self.processes:
                status = self.status(node)
                if status is not None and status["role"] == "leader":
                    return node
            return None

        return wait_for(leading, "a leader")

    def wait_ready(self, *nodes: str) -> None:
        for node in nodes or list(self.processes):

            def ready(node=node) -> bool:
                try:
                    return self.request("GET", node, "/readyz", timeout=2).status_code == 200
                except requests.RequestException:
                    return False

            wait_for(ready, f"{node} to be ready")

    def followers(self) -> list[str]:
        leader = self.leader()
        return [node for node in self.nodes if node != leader]


class Load:
    """Clients that write each key once, through all nodes, and remember what they were told."""

    def __init__(self, cluster: RealCluster, clients: int = 6) -> None:
        self.cluster = cluster
        self.acknowledged: dict[str, str] = {}
        self.refused: list[str] = []
        self.unknown: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._client, args=(number,)) for number in range(clients)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, count: int) -> None:
        target = len(self.acknowledged) + count
        wait_for(lambda: len(self.acknowledged) >= target, f"{count} more acknowledged writes")

    def _client(self, number: int) -> None:
        session = requests.Session()
        session.verify = self.cluster.verify
        turn = 0
        while not self._stop.is_set():
            node = self.cluster.nodes[(number + turn) % len(self.cluster.nodes)]
            turn += 1
            key, value = f"load-{number}-{turn}", f"value-{number}-{turn}"
            try:
                answer = session.put(self.cluster.url(node, f"/kv/{key}"), data=value, timeout=15)
            except requests.ConnectionError as error:
                # A refused connection carried nothing; anything else may have.
                refused = "refused" in str(error).lower()
                (self.refused if refused else self.unknown).append(key)
                time.sleep(0.02)
                continue
            except requests.RequestException:
                self.unknown.append(key)
                continue
            if answer.status_code == 201:
                self.acknowledged[key] = value
            else:
                assert answer.headers["content-type"] == "application/problem+json", answer.text
                told = answer.json()["applied"]
                (self.refused if told == "no" else self.unknown).append(key)
                time.sleep(0.02)

    def verify(self) -> None:
        """Every acknowledged write is there, on every node; no refused one is anywhere."""
        found = {}
        node = next(iter(self.cluster.processes))
        start = "load-"
        while start is not None:
            page = self.cluster.request(
                "GET", node, "/kv", params={"start": start, "end": "load.", "limit": 1000}
            ).json()
            found.update({item["key"]: item["value"] for item in page["items"]})
            start = page["next"]
        missing = [key for key, value in self.acknowledged.items() if found.get(key) != value]
        assert not missing, f"{len(missing)} acknowledged writes are gone, such as {missing[:3]}"
        applied = [key for key in self.refused if key in found]
        assert not applied, f"{len(applied)} refused writes were applied, such as {applied[:3]}"
