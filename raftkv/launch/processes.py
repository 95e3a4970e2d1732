"""Node processes: started each in its own process group, heard line by line, asked for their status, ended.

Rules. Every node holds the reading end of one pipe whose writing end only the supervisor has: when the supervisor is
gone, however it went, each node reads end-of-file and ends itself. When a node has ended, its process group is killed,
so that its front-end goes with it. Asking for the status happens in threads that share nothing with the supervisor but
one slot per node, so that a node which hangs never delays anything else. This module must not import ``raftkv.node``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import ssl
import subprocess
import threading
import time
from pathlib import Path
from typing import Final

import msgspec

from raftkv.api import paths
from raftkv.api.cluster_answers import NodeStatus
from raftkv.client.channels import Channels
from raftkv.client.reach import Host, UnheardError, UnopenedError
from raftkv.core.config import ClusterConfig
from raftkv.core.errors import StartupError
from raftkv.core.proof import Prover
from raftkv.core.secret import read_key
from raftkv.process.command import module

POLL_S: Final = 1.0
FIRST_POLL_S: Final = 0.2
"""Until a node has answered for the first time it is asked more often, so that "ready" does not come late."""

ANSWER_TIMEOUT_S: Final = 0.9
_TARGET: Final = f"{paths.STATUS}?timeout={ANSWER_TIMEOUT_S:.1f}"
LINE_BYTES_MAX: Final = 8192
"""A longer line is cut in pieces."""


class NodeProcess:
    """One running node and what it says on its standard error."""

    def __init__(self, node_id: str, config_path: Path, parent_fd: int) -> None:
        """Start it; raises ``StartupError`` when the operating system will not."""
        self.id = node_id
        command = module("raftkv", "node", str(config_path), "--id", node_id, "--parent-fd", str(parent_fd))
        try:
            self._process = subprocess.Popen(  # noqa: S603  our own module, our own arguments
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=[parent_fd],
                process_group=0,
            )
        except OSError as error:
            raise StartupError(f"{node_id}: cannot be started: {error.strerror}") from None
        assert self._process.stderr is not None
        self.stderr_fd = self._process.stderr.fileno()
        os.set_blocking(self.stderr_fd, False)
        self._partial = b""

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def exit_status(self) -> int | None:
        """As ``subprocess`` gives it; ``None`` while it runs.

        What is left of the group is killed while the node's process id is still taken, before it is waited for: later
        the number may belong to a stranger.
        """
        if self._process.returncode is None:
            if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
                return None
            self._kill_group()
        return self._process.wait()

    def lines(self) -> tuple[list[str], bool]:
        """What it said since the last call, and whether more may follow. Never blocks."""
        try:
            chunk = os.read(self.stderr_fd, 1 << 16)
        except BlockingIOError:
            return [], True
        text = self._partial + chunk
        *whole, self._partial = text.split(b"\n")
        if not chunk or len(self._partial) > LINE_BYTES_MAX:
            whole, self._partial = [*whole, self._partial], b""
        return [line.decode(errors="replace") for line in whole if line.strip()], bool(chunk)

    def ask_to_end(self) -> None:
        """SIGTERM, to the node alone: it ends its front-end in good order."""
        if self.exit_status() is None:
            self._process.terminate()

    def kill(self) -> None:
        """SIGKILL, to its whole group; returns when it has ended."""
        if self._process.returncode is None:
            self._kill_group()
            self._process.wait()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Let go of its pipe."""
        assert self._process.stderr is not None
        self._process.stderr.close()


class StatusPoll:
    """Asks one node for its status, again and again, in a thread of its own; ``last`` is what it said, or ``None``."""

    def __init__(self, config: ClusterConfig, node_id: str) -> None:
        self.last: NodeStatus | None = None
        address = config.member(node_id).http_listen
        # A node that listens everywhere is asked here.
        name = {"*": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104
        self._host = Host(name, address.port, is_tls=bool(config.http.tls_cert))
        # What comes back is shown and nothing else; the names in the certificate are those that clients use.
        self._channels = Channels(tls=ssl._create_unverified_context() if self._host.is_tls else None)  # noqa: S323, SLF001
        # Where authentication is on, this says that the cluster itself asks.
        key = read_key(config.cluster.secret_path, config.cluster.name)
        self._prover = Prover(key, config.cluster.name, wall_ms=lambda: time.time_ns() // 1_000_000)
        self._stop = threading.Event()
        threading.Thread(target=self._run, name=f"status of {node_id}", daemon=True).start()

    def stop(self) -> None:
        """Ask no more; an answer under way is not waited for."""
        self._stop.set()

    def _run(self) -> None:
        has_answered = False
        while not self._stop.is_set():
            self.last = self._ask()
            has_answered = has_answered or self.last is not None
            self._stop.wait(POLL_S if has_answered and self._settled() else FIRST_POLL_S)

    def _settled(self) -> bool:
        return self.last is None or self.last.ready

    def _ask(self) -> NodeStatus | None:
        try:
            shown = [("Authorization", self._prover.authorization("GET", _TARGET, b""))]
            answer = self._channels.exchange(self._host, "GET", _TARGET, headers=shown, timeout_s=ANSWER_TIMEOUT_S)
            return msgspec.json.decode(answer.body, type=NodeStatus) if answer.status == 200 else None
        except (UnopenedError, UnheardError, msgspec.DecodeError):
            return None
        finally:
            self._channels.close()  # a node that is to end has nobody to wait for
