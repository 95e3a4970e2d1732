"""How front-end processes begin and end: workers, arbiters, parents, ports, bad configurations."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from raftkv.process.command import module, python
from tests.unit.front_end import FrontEnd, until

pytestmark = pytest.mark.integration


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
        front_end.process.terminate()

        assert front_end.process.wait(20) == 0  # the answer comes after 30 seconds


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
