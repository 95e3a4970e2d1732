"""All that a name stands for is bound, with one port."""

import errno
import socket

import pytest

from raftkv.core import listening
from raftkv.core.config import Address
from raftkv.core.errors import StartupError
from raftkv.core.listening import bind, bind_all, close, listen

FOUND = [(socket.AF_INET6, ("::1", 0, 0, 0)), (socket.AF_INET, ("127.0.0.1", 0))]


def families(sockets):
    return sorted(each.family.name for each in sockets)


def reaches(host, port):
    with socket.create_connection((host, port), 1):
        return True


@pytest.fixture
def both(monkeypatch):
    """A machine on which the name stands for both families, IPv6 first."""
    monkeypatch.setattr(
        listening, "_resolved", lambda address: [(family, (t[0], address.port, *t[2:])) for family, t in FOUND]
    )


@pytest.mark.usefixtures("both")
def test_a_name_of_both_families_is_bound_in_both_with_one_port():
    sockets = listen(Address("localhost", 0), "http")
    port = sockets[0].getsockname()[1]
    try:
        assert families(sockets) == ["AF_INET", "AF_INET6"]
        assert reaches("127.0.0.1", port)
        assert reaches("::1", port)
    finally:
        close(sockets)


def test_a_star_is_every_address_of_both_families():
    sockets = listen(Address("*", 0), "peer")
    port = sockets[0].getsockname()[1]
    try:
        assert reaches("127.0.0.1", port)
        assert reaches("::1", port)
    finally:
        close(sockets)


def test_where_one_of_several_addresses_is_taken_none_stays_bound():
    (taken,) = listen(Address("127.0.0.1", 0), "peer")
    (free,) = bind(Address("127.0.0.1", 0), "http")
    address = Address("127.0.0.1", free.getsockname()[1])
    free.close()
    wanted = {"http": address, "etcd": Address("127.0.0.1", taken.getsockname()[1])}
    try:
        with pytest.raises(StartupError, match=r"^etcd: cannot listen on 127\.0\.0\.1:\d+: Address already in use$"):
            bind_all(wanted)
        close(listen(address, "http"))
    finally:
        taken.close()


@pytest.mark.usefixtures("both")
def test_an_address_that_the_machine_lacks_is_passed_over_unless_it_is_the_only_one(monkeypatch):
    bound = listening._bound

    def without_ipv6(family, target):
        if family == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")
        return bound(family, target)

    monkeypatch.setattr(listening, "_bound", without_ipv6)
    sockets = bind(Address("localhost", 0), "http")
    close(sockets)

    assert families(sockets) == ["AF_INET"]
    monkeypatch.setattr(listening, "_resolved", lambda _address: FOUND[:1])
    with pytest.raises(StartupError, match=r"http: cannot listen on localhost:0: Cannot assign"):
        bind(Address("localhost", 0), "http")


@pytest.mark.usefixtures("both")
def test_one_of_several_that_is_taken_refuses_all():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = Address("localhost", taken.getsockname()[1])

        with pytest.raises(StartupError, match=rf"peer: cannot listen on {address}: Address already in use"):
            listen(address, "peer")
