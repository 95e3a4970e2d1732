"""A node under a service manager: what it says over a real socket, from its start to its end, and while it hangs."""

import os
import signal
import socket
import subprocess

import pytest
import requests

from raftkv.instruments.local.nodes import wait_until
from tests.integration.processes import RealCluster

pytestmark = pytest.mark.integration

LIMIT_US = 1_000_000


@pytest.fixture
def manager(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listener.settimeout(30)
        yield listener


def told(listener):
    """The next datagram as a dict, and the process that sent it."""
    data, control, _, _ = listener.recvmsg(4096, socket.CMSG_SPACE(12))
    sender = int.from_bytes(control[0][2][:4], "little")
    return dict(line.split("=", 1) for line in data.decode().splitlines()), sender


def drained(listener):
    listener.setblocking(False)
    try:
        while True:
            listener.recv(4096)
    except BlockingIOError:
        listener.settimeout(30)


def started(cluster, listener):
    """The first node, under a service manager that watches it."""
    told_where = {"NOTIFY_SOCKET": listener.getsockname(), "WATCHDOG_USEC": str(LIMIT_US)}
    with (cluster.home / "log").open("wb") as log:
        return subprocess.Popen(cluster.command(cluster.nodes[0]), env=os.environ | told_where, stderr=log)


def until(listener, key, *, by):
    """What is told until ``key`` is; all of it by process ``by``."""
    found = []
    while key not in (found[-1] if found else ()):
        heard, sender = told(listener)

        assert sender == by
        found.append(heard)
    return found


@pytest.mark.parametrize("size", [1, 3])
def test_a_node_is_started_once_clients_can_ask_it_with_or_without_a_quorum(tmp_path, manager, size):
    """Its own process alone speaks; one node of three is started too, or whoever starts them in turn would wait."""
    with RealCluster(tmp_path, size=size) as cluster:
        node = started(cluster, manager)
        try:
            until(manager, "READY", by=node.pid)

            assert requests.get(cluster.url(cluster.nodes[0], "/livez"), timeout=10).status_code == 200
            wanted = "leader in term" if size == 1 else "takes no part: it is new and has met 1 of the 2 new nodes"
            while not until(manager, "STATUS", by=node.pid)[-1]["STATUS"].startswith(wanted):
                pass
        finally:
            node.send_signal(signal.SIGTERM)

            assert node.wait(30) == 0
        until(manager, "STOPPING", by=node.pid)


def test_a_node_that_hangs_says_no_longer_that_it_is_alive(tmp_path, manager):
    with RealCluster(tmp_path, size=1) as cluster:
        node = started(cluster, manager)
        try:
            until(manager, "READY", by=node.pid)
            until(manager, "WATCHDOG", by=node.pid)
            node.send_signal(signal.SIGSTOP)
            wait_until(lambda: os.waitid(os.P_PID, node.pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT), "the node to stop")
            drained(manager)
            manager.settimeout(2 * LIMIT_US / 1e6)
            with pytest.raises(TimeoutError):
                told(manager)

            manager.settimeout(30)
            node.send_signal(signal.SIGCONT)
            until(manager, "WATCHDOG", by=node.pid)
        finally:
            node.kill()
            node.wait(30)


def test_why_a_node_did_not_start_is_its_last_status(tmp_path, manager):
    with RealCluster(tmp_path, size=1) as cluster, socket.socket() as taken:
        taken.bind(("127.0.0.1", cluster.http[cluster.nodes[0]]))
        taken.listen()
        node = started(cluster, manager)

        assert node.wait(30) == 2
        assert "Address already in use" in until(manager, "STATUS", by=node.pid)[-1]["STATUS"]
