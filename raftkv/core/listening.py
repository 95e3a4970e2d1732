"""Addresses as this machine binds them: every address that a name stands for, in one place for all that listens.

A host name may stand for several addresses of both families (``localhost`` is ::1 and 127.0.0.1 on most machines), and
``*`` stands for every address there is. Whoever is told a name may try any of them, so all are bound, with one port.
An address that the machine does not have is passed over as long as another one is there. Imports the standard library
and ``raftkv.core`` only.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from typing import Final

from raftkv.core.config import EVERYWHERE, Address
from raftkv.core.errors import StartupError

BACKLOG: Final = 1024
"""Connections that may wait to be accepted; the kernel lowers it to its own limit."""

_NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})
"""How a machine says that it has no such address, or none of that family."""


def listen(address: Address, purpose: str) -> list[socket.socket]:
    """Bind and listen on all that ``address`` stands for; without blocking, at least one.

    Raises ``StartupError`` with one line that names ``purpose``, the address and the reason.
    """
    sockets = bind(address, purpose)
    try:
        for bound in sockets:
            bound.listen(BACKLOG)
    except OSError as error:
        close(sockets)
        raise _refused(address, purpose, error) from None
    return sockets


def bind(address: Address, purpose: str) -> list[socket.socket]:
    """Bind all that ``address`` stands for, to listen there later. Raises as ``listen`` does."""
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for family, target in _resolved(address):
            port = sockets[0].getsockname()[1] if sockets and not address.port else target[1]
            try:
                sockets.append(_bound(family, (target[0], port, *target[2:])))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
    except (OSError, UnicodeError) as error:
        close(sockets)
        raise _refused(address, purpose, error) from None
    if not sockets:
        raise _refused(address, purpose, missing)
    return sockets


def bind_all(addresses: Mapping[str, Address]) -> list[socket.socket]:
    """Bind all that each of ``addresses`` stands for, whose purpose is its key. Raises as ``listen`` does."""
    sockets: list[socket.socket] = []
    try:
        for purpose, address in addresses.items():
            sockets += bind(address, purpose)
    except StartupError:
        close(sockets)
        raise
    return sockets


def close(sockets: list[socket.socket]) -> None:
    """Let go of ``sockets``."""
    for each in sockets:
        each.close()


def _resolved(address: Address) -> list[tuple[socket.AddressFamily, tuple[str, int, *tuple[int, ...]]]]:
    host = None if address.host == EVERYWHERE else address.host
    found = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys((family, target) for family, _, _, _, target in found))  # type: ignore[misc]  # of IP


def _bound(family: socket.AddressFamily, target: tuple[str, int, *tuple[int, ...]]) -> socket.socket:
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own
        bound.settimeout(0)
        bound.bind(target)
    except BaseException:
        bound.close()
        raise
    return bound


def _refused(address: Address, purpose: str, error: Exception | None) -> StartupError:
    reason = getattr(error, "strerror", None) or str(error)
    return StartupError(f"{purpose}: cannot listen on {address}: {reason}")
