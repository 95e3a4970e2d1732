"""The front-end inside the replica's process, on its loop (``http.workers = 0``): fewer hand-overs, nothing between.

The node owns what gunicorn's arbiter and worker own elsewhere: sockets, signals, certificates, the end. Of gunicorn
the connection is left, and its settings. Rules: an error of what answers clients costs a line, as it would in a process
of its own; one of the replica's stays the end of the node. Imported only where it is wanted.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

from raftkv.core.config import Address, ClusterConfig
from raftkv.core.errors import StartupError
from raftkv.core.listening import BACKLOG, close
from raftkv.frontend.direct import DirectReplicator
from raftkv.http.counts import Counts
from raftkv.http.door.asgi import Application
from raftkv.http.door.beside import SecondConnection
from raftkv.http.door.room import Seats
from raftkv.http.door.server import GRACE_S, Choose, Server, make_application, node_settings, prepare
from raftkv.http.door.worker import HANDSHAKE_WITHIN_S, Protocol, leave_all
from raftkv.http.metrics import requests_of
from raftkv.http.routes import ROUTES

LOOK_S: Final = 0.02
"""How often it is looked whether the last client has left, at the end."""

_OF_CLIENTS: Final = ("raftkv.http", "gunicorn", "flask", "werkzeug")
_OF_THE_REPLICA: Final = (
    "raftkv.raft",
    "raftkv.quorum",
    "raftkv.machine",
    "raftkv.storage",
    "raftkv.peers",
    "pysyncobj",
)


class InnerWorker:
    """What a connection needs of its worker."""

    def __init__(self, cfg: Any, asgi: Application, loop: asyncio.AbstractEventLoop) -> None:
        self.cfg = cfg
        self.asgi = asgi
        self.loop = loop
        self.log = cfg.logger_class(cfg)
        self.alive = True
        self.nr = self.nr_conns = 0
        self.max_requests = sys.maxsize
        self.state: dict[str, Any] = {}
        self.second: set[SecondConnection] = set()
        self.seats = Seats(cfg.worker_connections, monotonic_s=loop.time)


class FrontEndInside:
    """Answers clients at ``listeners``, which are bound, from the replica behind ``replicator``.

    ``path`` is the file of ``config``, if there is one.
    """

    def __init__(
        self,
        replicator: DirectReplicator,
        listeners: list[socket.socket],
        *,
        node_id: str,
        config: ClusterConfig,
        path: Path | None,
        choose: Choose,
    ) -> None:
        """Raises ``StartupError``."""
        self.replicator = replicator
        self._listeners = listeners
        self._servers: list[asyncio.Server] = []
        prepared = prepare(config, Path.cwd() if path is None else path.resolve().parent, os.environ, choose)
        self._certificates = prepared.certificates
        counts = Counts(requests_of((*ROUTES, *prepared.beside.routes), prepared.beside.calls))
        chosen = node_settings(config, node_id, [one.fileno() for one in listeners], prepared.directory)
        self._make = partial(make_application, config, node_id, replicator, prepared, counts=counts)
        self._gunicorn = Server(chosen, self._make, prepared.certificates)
        self._worker: InnerWorker | None = None
        self.is_listening = False

    async def start(self) -> None:
        """Listen. Raises ``StartupError``."""
        loop = asyncio.get_running_loop()
        worker = self._worker = InnerWorker(self._gunicorn.cfg, self._make(), loop)
        await worker.asgi.begin()
        tls: dict[str, Any] = {}
        if self._certificates is not None:
            tls = {"ssl": self._certificates.context, "ssl_handshake_timeout": HANDSHAKE_WITHIN_S}
        for listener in self._listeners:
            try:
                listener.listen(BACKLOG)  # uvloop does so as well, but keeps to itself that it could not
            except OSError as error:
                address = Address(*listener.getsockname()[:2])
                raise StartupError(f"http: cannot listen on {address}: {error.strerror}") from None
            self._servers.append(
                await loop.create_server(lambda: Protocol(worker), sock=listener, backlog=BACKLOG, **tls)
            )
        self.is_listening = True

    @property
    def exit_status(self) -> None:
        """It never ends by itself."""

    def renew_certificates(self) -> None:
        """Take up what the files hold now."""
        self._gunicorn.renew_certificates()

    def caused(self, error: object) -> bool:
        """Did ``error`` come up in what answers clients, and not in the replica?"""
        modules = tuple(_modules(error)) if isinstance(error, BaseException) else ()
        return any(one.startswith(_OF_CLIENTS) for one in modules) and not any(
            one.startswith(_OF_THE_REPLICA) for one in modules
        )

    async def stop(self) -> None:
        """Take no new clients, and let requests under way finish while the replica still works."""
        worker = self._worker
        if worker is None:
            return
        loop = asyncio.get_running_loop()
        worker.alive = False
        for server in self._servers:
            server.close()
        worker.asgi.leave()
        leave_all(worker.second)
        until_s = loop.time() + GRACE_S
        while worker.nr_conns and loop.time() < until_s:  # noqa: ASYNC110  gunicorn counts them and tells nobody
            await asyncio.sleep(LOOK_S)
        worker.asgi.end()

    def close(self) -> None:
        """Listen no more."""
        for server in self._servers:
            server.close()
        close(self._listeners)


def _modules(error: BaseException) -> Iterator[str]:
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame.f_globals.get("__name__", "")
        trace = trace.tb_next
