"""The peer port: who knocks is admitted, timed and counted here, before anyone knows who it is.

Rules: at most ``STRANGER_LIMIT`` connections are unauthenticated at once, TLS handshakes included, and the oldest goes
for a new one, but never one from a host where a member has proven itself for one from elsewhere: over a slow network a
member's handshake outlasts many strangers. Each has ``HANDSHAKE_TIMEOUT_S`` to prove itself. So silent, slow and
endless strangers cost a bounded amount of memory and of file descriptors, and cannot keep a member out. Imports
``raftkv.core`` and its neighbours only.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable

from raftkv.core.config import Address
from raftkv.core.listening import listen
from raftkv.peers.notices import Notices

STRANGER_LIMIT = 64
HANDSHAKE_TIMEOUT_S = 2.0
PROVEN_LIMIT = 1024
"""As many hosts as a cluster may have members."""

# Out of file descriptors or memory: trying again at once would only spin.
_EXHAUSTED_PAUSE_S = 0.1


class Listener:
    """Accepts connections on one address and hands each socket to ``admit``.

    ``admit`` returns once the connection is authenticated or lost, must own the socket from its first step, and closes
    it when it is cancelled.
    """

    def __init__(self, address: Address, admit: Callable[[socket.socket], Awaitable[None]], notices: Notices) -> None:
        self._address = address
        self._admit = admit
        self._notices = notices
        self._sockets: list[socket.socket] = []
        self._acceptors: list[asyncio.Task[None]] = []
        self._strangers: dict[asyncio.Task[None], str] = {}
        """Who has not proven itself yet, the oldest first, and from which host it came."""
        self._proven: dict[str, None] = {}

    def open(self) -> Address:
        """Bind, listen and begin to accept; returns the bound address. Raises ``StartupError`` when that is refused."""
        self._sockets = listen(self._address, "peer")
        loop = asyncio.get_running_loop()
        self._acceptors = [loop.create_task(self._accept(listening)) for listening in self._sockets]
        return Address(self._address.host, self._sockets[0].getsockname()[1])

    def stranger_count(self) -> int:
        """Connections that have not proven themselves yet."""
        return len(self._strangers)

    def proven(self, host: str) -> None:
        """A member has proven itself from ``host``."""
        self._proven.pop(host, None)
        self._proven[host] = None
        if len(self._proven) > PROVEN_LIMIT:
            del self._proven[next(iter(self._proven))]

    async def close(self) -> None:
        """Stop accepting and turn away everyone who is still unauthenticated."""
        tasks = [*self._acceptors, *self._strangers]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listening in self._sockets:
            listening.close()
        self._sockets, self._acceptors = [], []

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listening)
            except OSError as error:
                # Either the stranger hung up before it was its turn, or this process is out of something.
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    reason = error.strerror or "out of resources"
                    self._notices.warn("peer_port_exhausted", reason=reason, peer=None, now_s=loop.time())
                    await asyncio.sleep(_EXHAUSTED_PAUSE_S)
                continue
            self._receive_stranger(loop, accepted, str(address[0]))
            # Accepting may not wait at all while strangers queue up: let the rest of the node, and the task just made
            # (which owns the socket only once it runs), have their turn.
            await asyncio.sleep(0)

    def _receive_stranger(self, loop: asyncio.AbstractEventLoop, accepted: socket.socket, host: str) -> None:
        if len(self._strangers) >= STRANGER_LIMIT:
            leaving = self._first_to_go(host)
            if leaving is None:
                accepted.close()
                return
            leaving.cancel()
            del self._strangers[leaving]
        stranger = loop.create_task(self._time_out(accepted))
        self._strangers[stranger] = host
        stranger.add_done_callback(lambda done: self._strangers.pop(done, None))

    def _first_to_go(self, newcomer: str) -> asyncio.Task[None] | None:
        """Who goes for a stranger from the host ``newcomer``; ``None`` when it goes itself."""
        for stranger, host in self._strangers.items():
            if host not in self._proven:
                return stranger
        return next(iter(self._strangers)) if newcomer in self._proven else None

    async def _time_out(self, accepted: socket.socket) -> None:
        try:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                await self._admit(accepted)
        except Exception as error:  # noqa: BLE001  nothing that a stranger brings about may reach the node
            # Mostly TimeoutError and what TLS raises. The name of the type is all the log needs to tell them apart.
            reason = f"no handshake came about ({type(error).__name__})"
            now_s = asyncio.get_running_loop().time()
            self._notices.warn("peer_refused", reason=reason, peer=None, now_s=now_s)
