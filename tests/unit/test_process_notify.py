"""What a service manager hears: a real datagram socket in its place."""

import os
import socket

import msgspec
import pytest

from raftkv.core.status import PeerStatus, QuorumStatus, RaftStatus
from raftkv.process.notify import STATUS_CHARACTERS_MAX, ServiceManager, standing

LIMIT_US = 2_000_000


@pytest.fixture(params=["path", "abstract"])
def heard(request, tmp_path):
    """A datagram socket that is bound to where ``NOTIFY_SOCKET`` points."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@raftkv-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address.replace("@", "\0", 1))
        listener.setblocking(False)
        yield address, listener


def datagrams(listener):
    found = []
    while True:
        try:
            found.append(listener.recv(4096).decode())
        except BlockingIOError:
            return found


def test_all_of_a_life_is_told(heard):
    address, listener = heard
    manager = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": str(LIMIT_US)})
    manager.building()
    manager.ready()
    for now_s in (10.0, 10.4, 10.5, 10.9, 11.0):
        manager.alive(now_s)
    for sentence in ("one", "one", "two\nlines", "x" * 500):
        manager.status(sentence)
    manager.stopping()

    assert datagrams(listener) == [
        "WATCHDOG_USEC=86400000000",
        f"WATCHDOG_USEC={LIMIT_US}\nWATCHDOG=1\nREADY=1",
        *["WATCHDOG=1"] * 3,
        "STATUS=one",
        "STATUS=two lines",
        f"STATUS={'x' * STATUS_CHARACTERS_MAX}",
        "STOPPING=1",
    ]


@pytest.mark.parametrize(
    "watchdog",
    [{}, {"WATCHDOG_USEC": "x"}, {"WATCHDOG_USEC": "9", "WATCHDOG_PID": "1"}],
    ids=["none", "bad", "another's"],
)
def test_who_is_not_watched_says_nothing_of_being_alive(heard, watchdog):
    address, listener = heard
    manager = ServiceManager({"NOTIFY_SOCKET": address} | watchdog)
    manager.building()
    manager.ready()
    manager.alive(1.0)

    assert datagrams(listener) == ["READY=1"]


def test_no_child_hears_of_the_socket():
    environment = {"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    ServiceManager(environment)

    assert environment == {"HOME": "/"}


@pytest.mark.parametrize("address", ["", "relative", "/nobody/is/here", "@nobody", "/" + "x" * 300, "vsock:2:1"])
def test_a_service_manager_that_is_not_there_costs_nothing(address):
    manager = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1"})
    manager.ready()
    manager.alive(1.0)
    manager.stopping()


def test_a_service_manager_that_does_not_listen_is_not_waited_for(heard):
    address, listener = heard
    manager = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1"})
    for now_s in range(5000):
        manager.alive(float(now_s))

    assert 0 < len(datagrams(listener)) < 5000


def peers(*reachable):
    return tuple(PeerStatus(id=f"n{n}", reachable=one) for n, one in enumerate(reachable, 2))


RAFT = RaftStatus(
    node="n1",
    mode="raft",
    role="leader",
    leader="n1",
    revision=0,
    peers=peers(True, False),
    offers=(),
    cluster_size=3,
    term=5,
    commit_index=0,
    applied_index=0,
)
QUORUM = QuorumStatus(
    node="n1",
    mode="quorum",
    role="replica",
    leader=None,
    revision=0,
    peers=peers(True, True),
    offers=(),
    cluster_size=3,
    ring="",
    vnodes=1,
    conflicts="lww",
    hints_pending=0,
    members=(),
)


@pytest.mark.parametrize(
    ("status", "changes", "sentence"),
    [
        (RAFT, {}, "leader in term 5; sees 2 of 3 nodes"),
        (RAFT, {"role": "follower", "leader": "n2"}, "follower of n2 in term 5; sees 2 of 3 nodes"),
        (RAFT, {"role": "follower", "leader": None}, "follower in term 5, no leader known; sees 2 of 3 nodes"),
        (RAFT, {"role": "follower", "leader": "n2", "diverged": True}, "diverged, follower of n2 in term 5; sees 2 of"),
        (RAFT, {"misfit": "another cluster's name"}, "takes no part: another cluster's name"),
        (QUORUM, {}, "replica; sees 3 of 3 nodes"),
    ],
)
def test_a_status_is_one_sentence(status, changes, sentence):
    assert standing(msgspec.structs.replace(status, **changes)).startswith(sentence)
