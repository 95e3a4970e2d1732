"""A front-end process and the replica behind it."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raftkv.instruments.local.nodes import free_ports
from raftkv.process.command import module

ROOT = Path(__file__).parents[2]


def until(condition: Callable[[], Any], limit_s: float = 10.0) -> Any:
    end_s = time.monotonic() + limit_s
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end_s, "it never came to be"
        time.sleep(0.02)


class FrontEnd:
    """One front-end process over one replica process."""

    def __init__(self, folder: Path, *, delay_s: float = 0.0, http_section: str = "") -> None:
        self.folder = folder
        self.delay_s = delay_s
        self.port, peer_port = free_ports(2)
        self.config = folder / "cluster.toml"
        (folder / "secret").write_text("5d2f0c6be1a94738b6e0d1f29c8a7453e4b1607f3a2d9c85716e0fb4d8c3a921")
        self.config.write_text(
            '[cluster]\nsecret_file = "secret"\n'
            f'[[node]]\nid = "n1"\nhttp = "127.0.0.1:{self.port}"\npeer = "127.0.0.1:{peer_port}"\n'
            f"[http]\n{http_section}\n"
        )
        self.replica = self.start_replica()
        self.errors = (folder / "errors").open("w+")
        self.bond, self.childs = socket.socketpair()
        self.process = self.start()

    def start_replica(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.contract.replica_process", self.socket, str(self.delay_s)]
        replica = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert replica.stdout is not None
        assert replica.stdout.readline() == "ready\n"
        return replica

    @property
    def socket(self) -> str:
        return str(self.folder / "replica.socket")

    def start(self) -> subprocess.Popen[str]:
        command = module("raftkv.serving", "--config", str(self.config), "--node", "n1")
        command += ["--replica-socket", self.socket, "--parent-fd", str(self.childs.fileno())]
        return subprocess.Popen(
            command, stdout=self.errors, stderr=self.errors, text=True, pass_fds=[self.childs.fileno()]
        )

    def wait_until_ready(self) -> FrontEnd:
        until(lambda: self.try_get("/readyz") == 200)
        return self

    def try_get(self, target: str) -> int | None:
        try:
            return self.ask("GET", target)[0]
        except OSError:
            return None

    def ask(self, method: str, target: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, target, body, headers)
            response = connection.getresponse()
            return response.status, response.read(), response.headers
        finally:
            connection.close()

    def raw(self, data: bytes) -> bytes:
        """What comes back for ``data`` until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as client:
            client.sendall(data)
            received = b""
            while chunk := client.recv(65536):
                received += chunk
            return received

    @property
    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(child) for child in children]

    def said(self) -> str:
        return Path(self.errors.name).read_text()

    def stop(self) -> None:
        self.bond.close()
        try:
            self.process.wait(10)
        finally:
            self.process.kill()
            self.replica.kill()
            self.process.wait()
            self.replica.wait()
            assert self.replica.stdout is not None
            self.replica.stdout.close()
            self.childs.close()
            self.errors.close()
