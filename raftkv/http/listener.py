"""The address of a front-end: bound once, by whoever can still say in one line that it is taken.

Imports nothing but the standard library and ``raftkv.core``, so that the replica's process can bind before it starts.
"""

from __future__ import annotations

import socket
from typing import Final

from raftkv.core.config import Address
from raftkv.core.errors import StartupError

_BACKLOG: Final = 1024


def listen(address: Address) -> socket.socket:
    """Bind and listen; raises ``StartupError`` with one line that names the address and the reason."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, target = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(target)
            listener.listen(_BACKLOG)
        except BaseException:
            listener.close()
            raise
    except OSError as error:
        raise StartupError(f"http: cannot listen on {address}: {error.strerror or error}") from None
    return listener
