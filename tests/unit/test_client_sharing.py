"""One client for many threads, and for processes that were forked while it had connections: everyone gets their own."""

import gc
import http.client
import multiprocessing
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raftkv import Client
from raftkv.client import channels
from raftkv.instruments.local.nodes import free_ports
from tests.unit.key_server import KeyServer

TRIES = 800


@pytest.fixture
def server():
    with KeyServer() as running:
        yield running


def check(store, name, rounds):
    """How many answers were wrong."""
    wrong = 0
    for number in range(rounds):
        key = f"{name}-{number}"
        try:
            store.set(key, key.encode())
            wrong += store.get(key) != key.encode()
        except Exception:  # noqa: BLE001  whatever a mixed-up answer makes of it
            wrong += 1
    return wrong


def test_threads_share_a_client_and_each_gets_its_own_answers(server):
    with Client(server.url, timeout_s=20.0) as store, ThreadPoolExecutor(16) as pool:
        wrong = sum(pool.map(lambda thread: check(store, f"t{thread}", TRIES // 16), range(16)))

    assert wrong == 0
    assert server.connections <= 16


def test_forked_processes_share_a_client_and_each_gets_its_own_answers(server):
    context = multiprocessing.get_context("fork")
    store = Client(server.url, timeout_s=20.0)
    store.set("warm", b"warm")
    results = context.Queue()

    def work(name):
        with ThreadPoolExecutor(2) as pool:
            results.put(sum(pool.map(lambda half: check(store, f"{name}-{half}", TRIES // 8), range(2))))

    children = [context.Process(target=work, args=(f"c{number}",)) for number in range(3)]
    for child in children:
        child.start()
    wrong = check(store, "parent", TRIES // 4) + sum(results.get(timeout=60) for _ in children)
    for child in children:
        child.join()

    assert wrong == 0
    assert not [key for key in server.stored if key.startswith("PUT") or "/kv/" in key]
    assert all(value.decode() == key for key, value in server.stored.items())


def test_a_fork_in_the_middle_of_other_threads_calls_harms_neither_side(server):
    """What was lent, and the lock, were another thread's: in the child that thread does not exist."""
    store, stop = Client(server.url, timeout_s=20.0), threading.Event()
    wrong = []

    def busy(name):
        while not stop.is_set():
            wrong.append(check(store, name, 1))

    threads = [threading.Thread(target=busy, args=(f"t{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    statuses = []
    for number in range(10):
        child = os.fork()
        if child == 0:
            os._exit(check(store, f"child-{number}", 3))
        statuses.append(os.waitpid(child, 0)[1])
    stop.set()
    for thread in threads:
        thread.join()

    assert statuses == [0] * 10
    assert sum(wrong) == 0


def test_a_child_keeps_no_copy_of_its_parents_connections_open_and_takes_none_from_it(server):
    store = Client(server.url, timeout_s=20.0)
    store.set("k", b"k")
    opened = server.connections
    child = os.fork()
    if child == 0:
        open_sockets = [one for one in gc.get_objects() if isinstance(one, socket.socket) and one.fileno() >= 0]
        mine = [one for one in open_sockets if _is_connected_to(one, server.port)]
        os._exit(len(mine))

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.get("k") == b"k"
    assert server.connections == opened


def _is_connected_to(one, port):
    try:
        return one.getpeername()[1] == port
    except OSError:
        return False


def test_more_threads_than_connections_wait_for_one(server, monkeypatch):
    monkeypatch.setattr(channels, "CHANNELS_MAX", 2)
    with Client(server.url, timeout_s=20.0) as store, ThreadPoolExecutor(8) as pool:
        wrong = sum(pool.map(lambda thread: check(store, f"t{thread}", 10), range(8)))

    assert wrong == 0
    assert server.connections == 2


def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again(server):
    with Client(server.url, timeout_s=5.0, idempotent=False) as store:
        store.set("k", b"k")
        server.drop_connections()
        time.sleep(0.1)  # for the close to arrive
        store.set("k", b"l")  # in doubt at once, were it sent on the old one

    assert server.stored["k"] == b"l"
    assert server.connections == 2


def test_what_the_last_write_said_is_of_ones_own_thread(server):
    with Client(server.url, timeout_s=20.0) as store, ThreadPoolExecutor(1) as pool:
        store.set("k", b"k")
        pool.submit(lambda: store.set("k", b"k", acks="leader")).result()

        assert store.durability == "majority"


def test_an_application_that_gunicorn_loads_before_it_forks_shares_its_client(server, tmp_path):
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "gunicorn", "--preload", "-w", "4", "-k", "gthread", "--threads", "4"]
    command += ["-b", f"127.0.0.1:{port}", "tests.unit.echo_application:application"]
    environment = {**os.environ, "STORE_URL": server.url}
    with (tmp_path / "log").open("wb") as log:
        gunicorn = subprocess.Popen(
            command, env=environment, cwd=Path(__file__).parents[2], stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait_for(port, gunicorn, tmp_path / "log")
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda number: _ask(port, f"k{number}"), range(TRIES)))
    finally:
        gunicorn.terminate()
        gunicorn.wait(30)

    assert [found for number, (found, _) in enumerate(answers) if found != f"k{number}".encode()] == []
    assert len({pid for _, pid in answers}) > 1
    assert all(value.decode() == key for key, value in server.stored.items())


def _wait_for(port, process, log):
    for _ in range(300):
        assert process.poll() is None, log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError(log.read_text())


def _ask(port, key):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", f"/{key}")
        response = connection.getresponse()
        return response.read(), response.headers["Pid"]
    finally:
        connection.close()
