"""The front-end as a child of the node: what it is told at its start, how it is looked after, and how it ends.

Rules: it ends when the node's end of the socket between them closes, however that came to be; it writes there when it
listens; nothing is restarted. Must not import ``raft`` or ``http``: the node pays for nothing that only a front-end
needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Final

from raftkv.core.listening import close
from raftkv.frontend.server import FrontendServer
from raftkv.process.command import module

GRACE_S: Final = 3.0
"""How long requests under way may take to finish when the node is asked to stop."""

GIVES_MEMORY_BACK: Final = {"MALLOC_MMAP_THRESHOLD_": str(128 << 10)}
"""glibc's own default, held fast: left alone it grows with the first large body, and large bodies then leave holes."""

SOCKET_NAME: Final = "replica.sock"
SOCKET_PATH_BYTES: Final = 100
"""Unix socket paths are limited to about 107 bytes."""


class FrontEndProcess:
    """A front-end in a process of its own, which asks the replica through ``replicator``.

    Its addresses were bound before anything else was done, so a taken port is refused in one line; and it listens only
    once the replica is there, so a client is refused, not left in doubt, while a large state is taken up.
    """

    def __init__(
        self, replicator: FrontendServer, listeners: list[socket.socket], *, node_id: str, config: Path | None
    ) -> None:
        self.replicator = replicator
        self._listeners = listeners
        self._node_id = node_id
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None
        self._bond: socket.socket | None = None
        self._is_listening = False

    async def start(self) -> None:
        """Start the process."""
        self._bond, childs = socket.socketpair()
        self._bond.settimeout(0)
        command = module("raftkv.serving", "--node", self._node_id)
        command += ["--replica-socket", self.replicator.path, "--parent-fd", str(childs.fileno())]
        if self._config is not None:
            command += ["--config", str(self._config)]
        inherited = [listener.fileno() for listener in self._listeners]
        for descriptor in inherited:
            command += ["--listen-fd", str(descriptor)]
        try:
            # A group of its own: Ctrl-C at a terminal reaches the node alone, which then stops in order.
            self._process = subprocess.Popen(  # noqa: S603, ASYNC220  our own module, told by us; it takes no time
                command,
                stdin=subprocess.DEVNULL,
                pass_fds=[childs.fileno(), *inherited],
                env=os.environ | GIVES_MEMORY_BACK,
                start_new_session=True,
            )
        finally:
            childs.close()
            close(self._listeners)

    @property
    def is_listening(self) -> bool:
        """Can clients connect, and be answered?"""
        if not self._is_listening and self._bond is not None:
            with contextlib.suppress(OSError):
                self._is_listening = bool(self._bond.recv(1))
        return self._is_listening

    @property
    def exit_status(self) -> int | None:
        """With what it ended by itself, if it has."""
        return None if self._process is None else self._process.poll()

    def renew_certificates(self) -> None:
        """Let it take up what the files hold now."""
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def caused(self, error: object) -> bool:  # noqa: ARG002  see ``FrontEndInside``
        """Nothing that comes up in the node's own process is of its making."""
        return False

    async def stop(self) -> None:
        """Let requests under way finish while the replica still works, then insist."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
        try:
            await asyncio.to_thread(process.wait, GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)

    def close(self) -> None:
        """Let go of it, after ``stop`` or instead: where it runs, it ends."""
        if self._bond is not None:
            self._bond.close()
            self._bond = None
