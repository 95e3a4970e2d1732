"""The real front-end process: gunicorn, its workers, sockets, and a replica process behind them."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme

from raftkv.instruments.local.nodes import free_ports
from raftkv.process.command import module, python

pytestmark = pytest.mark.integration

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


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., FrontEnd]]:
    made: list[FrontEnd] = []

    def start(**more: Any) -> FrontEnd:
        made.append(FrontEnd(tmp_path, **more))
        return made[-1].wait_until_ready()

    yield start
    for one in made:
        one.stop()


def test_it_serves_and_is_silent_whatever_it_is_sent(make: Callable[..., FrontEnd]) -> None:
    front_end = make()

    assert front_end.ask("PUT", "/kv/a%2Fb", b"v")[0] == 201
    status, body, headers = front_end.ask("GET", "/kv/a/b")
    assert (status, body, headers["raftkv-node"]) == (200, b"v", "n1")
    status, body, headers = front_end.ask("HEAD", "/kv/a/b")
    assert (status, body, headers["content-length"]) == (200, b"", "1")
    assert front_end.ask("GET", "/kv/a/b", **{"If-None-Match": "*"})[0] == 304
    assert json.loads(front_end.ask("GET", "/kv")[1])["items"][0]["key"] == "a/b"
    for bad in [
        b"GET /kv/a HTTP/1.1\r\nHost: localhost\r\nBroken\r\n\r\n",
        b"GET /kv/" + 20_000 * b"a" + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /kv/a HTTP/1.1\r\nHost: localhost\r\n" + 200 * b"A: b\r\n" + b"\r\n",
        b"NONSENSE\r\n\r\n",
        b"PUT /kv/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"PUT /kv/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
        b"PUT /kv/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + 5_000 * b"9" + b"\r\n\r\n",
        b"PUT /kv/b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"PUT /kv/b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"PUT /kv/b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ]:
        answer = front_end.raw(bad)
        assert answer.startswith(b"HTTP/1.1 4"), (bad[:60], answer[:200])
        assert b"application/problem+json" in answer
        assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["applied"] == "no"

    assert front_end.ask("GET", "/kv/b")[0] == 404
    assert front_end.said() == ""


def test_requests_wait_side_by_side_on_the_hot_path_and_in_flask(make: Callable[..., FrontEnd]) -> None:
    front_end = make(delay_s=0.5)

    async def run() -> float:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{front_end.port}", connector=connector) as session:

            async def ask(target: str) -> int:
                async with session.get(target) as response:
                    await response.read()
                    return response.status

            started_s = time.monotonic()
            statuses = await asyncio.gather(*[ask("/kv") for _ in range(100)], *[ask("/kv/a") for _ in range(100)])
            assert set(statuses) == {200, 404}
            return time.monotonic() - started_s

    assert asyncio.run(run()) < 3  # one after another they would take 100 seconds


def test_a_half_sent_body_stores_nothing(make: Callable[..., FrontEnd]) -> None:
    front_end = make()
    with socket.create_connection(("127.0.0.1", front_end.port)) as client:
        client.sendall(b"PUT /kv/half HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf")
        time.sleep(0.1)
    with socket.create_connection(("127.0.0.1", front_end.port)) as client:
        client.sendall(b"PUT /kv/half HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        time.sleep(0.1)
    time.sleep(0.2)

    assert front_end.ask("GET", "/kv/half")[0] == 404
    assert json.loads(front_end.ask("GET", "/status")[1])["revision"] == 0
    assert front_end.said() == ""


def test_a_large_body_gets_its_answer_although_it_is_not_wanted(make: Callable[..., FrontEnd]) -> None:
    front_end = make(http_section="max_value_bytes = 1000")

    status, body, _ = front_end.ask("PUT", "/kv/a", 2_000_000 * b"v")

    assert status == 413
    assert json.loads(body)["code"] == "value_too_large"
    assert front_end.ask("PUT", "/kv/a", 1000 * b"v")[0] == 201


def test_the_default_limit_takes_a_value_of_a_mebibyte(make: Callable[..., FrontEnd]) -> None:
    front_end = make()
    value = os.urandom(1 << 20)

    assert front_end.ask("PUT", "/kv/a", value)[0] == 201
    assert front_end.ask("GET", "/kv/a")[1] == value
    assert front_end.ask("PUT", "/kv/a", value + b"!")[0] == 413


def test_pipelined_requests_are_answered_in_order(make: Callable[..., FrontEnd]) -> None:
    front_end = make()
    requests = b"".join(
        b"PUT /kv/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n%s\r\n%d" % (close, number)
        for number, close in enumerate([b"", b"", b"", b"Connection: close\r\n"])
    )

    received = front_end.raw(requests)

    assert received.count(b"HTTP/1.1 2") == 4
    positions = [received.index(b'"version":%d' % version) for version in (1, 2, 3, 4)]
    assert positions == sorted(positions)
    assert front_end.ask("GET", "/kv/k")[1] == b"3"


SETTINGS = 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("cut", [1, 5, 16, len(PREFACE)])
def test_http2_is_told_apart_however_late_its_first_bytes_come_and_however_they_are_cut(
    make: Callable[..., FrontEnd], cut: int
) -> None:
    front_end = make()
    with socket.create_connection(("127.0.0.1", front_end.port), timeout=10) as client:
        front_end.ask("GET", "/livez")  # whatever a new connection starts has run by now
        client.sendall(PREFACE[:cut])
        front_end.ask("GET", "/livez")
        client.sendall(PREFACE[cut:])
        first = client.recv(9, socket.MSG_WAITALL)

    assert (first[3], first[5:]) == (SETTINGS, bytes(4)), first


def test_who_closed_their_half_is_still_answered(make: Callable[..., FrontEnd]) -> None:
    front_end = make()

    def said(data: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", front_end.port), timeout=5) as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            received = b""
            while chunk := client.recv(65536):
                received += chunk
            return received

    head = b"PUT /kv/k HTTP/1.1\r\nHost: localhost\r\n"
    whole = said(head + b"Content-Length: 1\r\n\r\n1")
    three = said(3 * b"GET /kv/k HTTP/1.1\r\nHost: localhost\r\n\r\n")
    half = said(head + b"Content-Length: 10\r\n\r\nhalf")
    half_chunk = said(head + b"Transfer-Encoding: chunked\r\n\r\n9\r\nhalf")
    half_behind_another = said(
        b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n" + head + b"Content-Length: 10\r\n\r\nhalf"
    )
    half_header = said(head)

    assert whole.startswith(b"HTTP/1.1 201 Created\r\n")
    assert three.count(b"HTTP/1.1 200 OK\r\n") == 3
    for answer in (half, half_chunk):
        assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert b"did not arrive whole" in answer
    assert half_behind_another.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"did not arrive whole" in half_behind_another
    assert half_header == b""
    assert front_end.ask("GET", "/kv/k")[1] == b"1"
    assert front_end.said() == ""


def test_status_lines_say_what_the_status_means(make: Callable[..., FrontEnd]) -> None:
    front_end = make()
    close = b"Host: localhost\r\nConnection: close\r\n"

    assert front_end.raw(b'DELETE /kv/k HTTP/1.1\r\n%sIf-Match: "7"\r\n\r\n' % close).startswith(
        b"HTTP/1.1 412 Precondition Failed\r\n"
    )
    assert front_end.raw(b"GET /%s HTTP/1.1\r\n%s\r\n" % (20_000 * b"a", close)).split(b" ", 2)[1] == b"414"
    assert b" Error\r\n" not in front_end.raw(b"GET /%s HTTP/1.1\r\n%s\r\n" % (20_000 * b"a", close))


def test_the_wish_for_a_websocket_is_not_heeded(make: Callable[..., FrontEnd]) -> None:
    front_end = make()
    upgrade = b"Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    key = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"

    answer = front_end.raw(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n%s%s\r\n" % (upgrade, key))

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'{"status":"alive"}' in answer


@pytest.mark.parametrize("max_key_bytes", [1024, 4096])
def test_keys_of_any_characters_fit_into_a_request_line(make: Callable[..., FrontEnd], max_key_bytes: int) -> None:
    front_end = make(http_section=f"max_key_bytes = {max_key_bytes}")
    key = (max_key_bytes // 2) * "%C3%A9"

    assert front_end.ask("PUT", f"/kv/{key}", b"v")[0] == 201
    status, body, _ = front_end.ask("GET", f"/kv?prefix={key}&start={key}&end={key[:-1]}A")

    assert status == 200
    assert len(json.loads(body)["items"]) == 1


def test_a_killed_worker_is_replaced(make: Callable[..., FrontEnd]) -> None:
    front_end = make()
    (worker,) = front_end.workers

    os.kill(worker, signal.SIGKILL)

    until(lambda: front_end.workers and front_end.workers != [worker])
    front_end.wait_until_ready()
    assert front_end.ask("PUT", "/kv/a", b"v")[0] == 201


def test_the_replica_may_go_and_come_back(make: Callable[..., FrontEnd]) -> None:
    front_end = make()
    front_end.replica.kill()
    front_end.replica.wait()
    assert front_end.replica.stdout is not None
    front_end.replica.stdout.close()

    until(lambda: front_end.try_get("/readyz") == 503)
    status, body, headers = front_end.ask("PUT", "/kv/a", b"v")
    assert (status, headers["retry-after"]) == (503, "1")
    assert json.loads(body)["code"] == "no_leader"
    assert front_end.ask("GET", "/livez")[0] == 200

    front_end.replica = front_end.start_replica()
    front_end.wait_until_ready()
    assert front_end.ask("PUT", "/kv/a", b"v")[0] == 201
    assert front_end.said() == ""


def test_it_ends_with_its_parent(make: Callable[..., FrontEnd]) -> None:
    front_end = make(http_section="workers = 2")
    workers = until(lambda: len(front_end.workers) == 2 and front_end.workers)

    front_end.bond.close()
    status = front_end.process.wait(10)

    assert status == 0
    until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


def test_workers_end_with_a_killed_arbiter(make: Callable[..., FrontEnd]) -> None:
    front_end = make()
    (worker,) = front_end.workers

    front_end.process.kill()

    until(lambda: not Path(f"/proc/{worker}").exists() or "(zombie)" in Path(f"/proc/{worker}/status").read_text())


def test_open_connections_do_not_hold_the_end(make: Callable[..., FrontEnd]) -> None:
    front_end = make(delay_s=30)
    address = ("127.0.0.1", front_end.port)
    with socket.create_connection(address) as idle, socket.create_connection(address) as waiting:
        idle.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        waiting.sendall(b"GET /kv?timeout=60 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(100).startswith(b"HTTP/1.1 200")
        started_s = time.monotonic()
        front_end.process.terminate()

        assert front_end.process.wait(10) == 0
        assert time.monotonic() - started_s < 5


def test_a_taken_port_is_named_in_one_line(make: Callable[..., FrontEnd], tmp_path: Path) -> None:
    front_end = make()
    command = module("raftkv.serving", "--config", str(front_end.config), "--node", "n1")
    command += ["--replica-socket", "x", "--parent-fd", "0"]

    second = subprocess.run(command, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL, check=False)

    assert (second.returncode, second.stdout) == (2, "")
    assert second.stderr == f"http: cannot listen on 127.0.0.1:{front_end.port}: Address already in use\n"


def bound_twice() -> tuple[socket.socket, socket.socket]:
    """Two sockets at one address, as is possible while nobody listens there."""
    sockets = socket.socket(), socket.socket()
    for each in sockets:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        each.bind(sockets[0].getsockname() if each is sockets[1] else ("127.0.0.1", 0))
    return sockets


def test_a_port_at_which_somebody_else_came_to_listen_first_is_named(tmp_path: Path) -> None:
    front_end = FrontEnd(tmp_path)
    ours, theirs = bound_twice()
    with ours, theirs:
        theirs.listen()
        command = module("raftkv.serving", "--config", str(front_end.config), "--node", "n1")
        command += ["--replica-socket", front_end.socket, "--parent-fd", str(front_end.childs.fileno())]
        command += ["--listen-fd", str(ours.fileno())]
        inherited = [ours.fileno(), front_end.childs.fileno()]
        second = subprocess.run(command, capture_output=True, text=True, timeout=20, pass_fds=inherited, check=False)
        port = theirs.getsockname()[1]
    front_end.stop()

    assert second.stderr.startswith(f"http: cannot listen on 127.0.0.1:{port}: Address already in use\n")
    assert second.returncode == 2


SLOW_TO_START = """
import sys
from raftkv.http.door.server import serve, settings

def make():
    open(sys.argv[2]).read()

    async def application(scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()

    return application

chosen = settings([int(sys.argv[1])], name="slow", workers=1, max_key_bytes=100, max_connections=100)
serve(chosen, make, parent_fd=int(sys.argv[3]))
"""


def test_who_comes_before_a_worker_can_answer_is_refused_for_certain_and_it_says_when_it_can(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    bond, childs = socket.socketpair()
    with socket.socket() as bound, childs:
        bound.bind(("127.0.0.1", 0))
        command = python("-c", SLOW_TO_START, str(bound.fileno()), str(gate), str(childs.fileno()))
        server = subprocess.Popen(command, pass_fds=[bound.fileno(), childs.fileno()])
        address = bound.getsockname()
    try:
        with gate.open("w"):  # which waits until the worker has come as far
            for _ in range(3):
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(address, timeout=5)
            bond.setblocking(False)
            with pytest.raises(BlockingIOError):
                bond.recv(1)
        bond.settimeout(20)
        assert bond.recv(1)
        socket.create_connection(address, timeout=5).close()
    finally:
        bond.close()
        server.terminate()
        assert server.wait(10) == 0


@pytest.mark.parametrize(
    "text", ["nonsense", '[[node]]\nid = "n2"\nhttp = "127.0.0.1:1"\npeer = "127.0.0.1:2"\n', None]
)
def test_a_bad_configuration_ends_with_one_line(tmp_path: Path, text: str | None) -> None:
    config = tmp_path / "cluster.toml"
    if text is not None:
        config.write_text(text)
    command = module("raftkv.serving", "--config", str(config), "--node", "n1")
    command += ["--replica-socket", "x", "--parent-fd", "0"]

    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, stdin=subprocess.DEVNULL, check=False)

    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert str(config) in ended.stderr


def test_tls(make: Callable[..., FrontEnd], tmp_path: Path) -> None:
    import ssl

    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    front_end = FrontEnd(tmp_path, http_section='tls_cert = "cert.pem"\ntls_key = "key.pem"')

    def ask() -> int | None:
        connection = http.client.HTTPSConnection("127.0.0.1", front_end.port, timeout=5, context=context)
        try:
            connection.request("PUT", "/kv/a", b"v")
            return connection.getresponse().status
        except ConnectionError:
            return None
        finally:
            connection.close()

    try:
        assert until(ask) in (201, 503)
    finally:
        front_end.stop()


def test_a_connection_too_many_is_answered_and_closed_and_the_others_are_served(make: Callable[..., FrontEnd]) -> None:
    front_end = make(http_section="max_connections = 10")
    clients = [http.client.HTTPConnection("127.0.0.1", front_end.port, timeout=10) for _ in range(10)]

    def ask(client: http.client.HTTPConnection) -> int:
        client.request("GET", "/livez")
        response = client.getresponse()
        response.read()
        return response.status

    def ask_anew() -> int | None:
        fresh = http.client.HTTPConnection("127.0.0.1", front_end.port, timeout=10)
        try:
            return ask(fresh)
        except OSError:  # reset, with our request unread
            return None
        finally:
            fresh.close()

    until(lambda: {ask(client) for client in clients} == {200})  # once those that asked for readiness are gone
    with socket.create_connection(("127.0.0.1", front_end.port), timeout=10) as one_more:
        assert [ask(client) for client in clients] == [200] * 10  # none is idle
        one_more.sendall(b"GET /kv/a HTTP/1.1\r\nHost: localhost\r\n\r\n")
        received = b""
        while chunk := one_more.recv(65536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 429 ")
    assert json.loads(body)["code"] == "overloaded"
    assert ask_anew() == 200  # health is answered
    assert [ask(client) for client in clients] == [200] * 10
    for client in clients:
        client.close()


def test_descriptors_bound_the_connections_that_there_is_room_for() -> None:
    program = "import resource, sys; from raftkv.http.door.server import SPARE_DESCRIPTORS, room_for\n"
    program += "resource.setrlimit(resource.RLIMIT_NOFILE, (200, 400))\n"
    program += "print(room_for(50), room_for(150), resource.getrlimit(resource.RLIMIT_NOFILE)[0] - SPARE_DESCRIPTORS)\n"
    program += "print(room_for(1000), 400 - SPARE_DESCRIPTORS)"

    said = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True
    ).stdout

    assert said.split() == ["50", "150", "150", "272", "272"]
