"""``raftkv up``: every node of a cluster on this machine, started together, watched, stopped together.

One thread, one loop: the nodes' standard errors, signals, and what the status threads have left in their slots. Rules:
nothing is restarted; a node that ends is announced and the others go on; a start that fails ends them all; whatever way
this function is left, every node has ended. This module must not import ``raftkv.node``: nodes are processes.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

from raftkv.core.config import ClusterConfig
from raftkv.core.errors import StartupError
from raftkv.core.listening import bind_all, close
from raftkv.launch.config_file import ensure_secret
from raftkv.launch.etcd_ports import endpoints
from raftkv.launch.processes import NodeProcess, StatusPoll
from raftkv.launch.views import Chronicle, NodeView

LOOK_S: Final = 0.2
"""How often the nodes are looked at."""

STOP_S: Final = 10.0
"""How long nodes may take to end in good order."""

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Display(Protocol):
    """What a person sees of it."""

    def event(self, sentence: str) -> None:
        """Something happened to the cluster."""

    def line(self, node_id: str, text: str) -> None:
        """A node said something."""

    def show(self, views: tuple[NodeView, ...]) -> None:
        """How the nodes stand."""


def up(config: ClusterConfig, config_path: Path, display: Display) -> int:
    """Run every node of ``config`` until a signal or until all have ended; returns the exit status.

    0 after a signal, 1 when all nodes ended by themselves, 2 when one could not start.
    """
    check_addresses(config)
    ensure_secret(config)
    with _signals() as signal_fd:
        return _Supervisor(config, config_path, display, signal_fd).run()


def check_addresses(config: ClusterConfig) -> None:
    """Raise ``StartupError`` unless every address can be listened on, before anything is created or started."""
    for node in config.node:
        try:
            close(bind_all(node.client_listens | {"peer": node.peer_listen}))
        except StartupError as error:
            raise StartupError(f"{node.id}: {error}") from None


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """Turn the signals that end us into bytes on a descriptor; the terminal's own reach only us, not the nodes."""
    reading, writing = socket.socketpair()
    for end in (reading, writing):
        end.setblocking(False)  # noqa: FBT003  the socket's own signature
    # Whoever started us by nohup wants us to stay.
    heard = [number for number in _SIGNALS if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    previous = {number: signal.signal(number, lambda *_: None) for number in heard}
    previous_fd = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    try:
        yield reading.fileno()
    finally:
        signal.set_wakeup_fd(previous_fd)
        for number, handler in previous.items():
            signal.signal(number, handler)
        reading.close()
        writing.close()


class _Supervisor:
    def __init__(self, config: ClusterConfig, config_path: Path, display: Display, signal_fd: int) -> None:
        self._config = config
        self._config_path = config_path
        self._display = display
        self._signal_fd = signal_fd
        self._chronicle = Chronicle()
        self._nodes: list[NodeProcess] = []
        self._polls: dict[str, StatusPoll] = {}
        self._answered: set[str] = set()
        self._gone: set[str] = set()
        self._selector = selectors.DefaultSelector()
        self._selector.register(signal_fd, selectors.EVENT_READ)

    def run(self) -> int:
        """See ``up``."""
        reading, writing = os.pipe()
        try:
            self._start(reading)
            return self._watch()
        finally:
            self._stop()
            os.close(reading)
            os.close(writing)

    def _start(self, parent_fd: int) -> None:
        for node in self._config.node:
            process = NodeProcess(node.id, self._config_path, parent_fd)
            self._nodes.append(process)
            self._selector.register(process.stderr_fd, selectors.EVENT_READ, process)
            self._polls[node.id] = StatusPoll(self._config, node.id)
        count = len(self._nodes)
        self._display.event(f"starting {count} node{'s' if count > 1 else ''} of {self._config.cluster.name!r}")
        if for_etcd := endpoints(self._config):
            self._display.event(f"clients of etcd: --endpoints={for_etcd}")

    def _watch(self) -> int:
        while True:
            if self._hear():
                self._display.event("stopping")
                return 0
            views = self._views()
            for sentence in self._chronicle.observe(views):
                self._display.event(sentence)
            self._display.show(views)
            failed = [view.id for view in views if view.exit_status == 2 and view.id not in self._answered]
            if failed:
                self._hear()
                self._display.event(f"{failed[0]} could not start; stopping the rest")
                return 2
            if all(view.exit_status is not None for view in views):
                self._display.event("all nodes have ended")
                return 1

    def _hear(self) -> bool:
        """Wait a moment; pass on what nodes say; true when a signal came."""
        signalled = False
        for key, _ in self._selector.select(LOOK_S):
            if key.data is None:
                signalled = bool(os.read(self._signal_fd, 64)) or signalled
                continue
            node: NodeProcess = key.data
            lines, is_open = node.lines()
            if not is_open:
                self._selector.unregister(node.stderr_fd)
            for line in lines:
                self._display.line(node.id, line)
        return signalled

    def _views(self) -> tuple[NodeView, ...]:
        scheme = "https" if self._config.http.tls_cert else "http"
        views = []
        for node in self._nodes:
            status, exit_status = self._polls[node.id].last, node.exit_status()
            if exit_status is not None and node.id not in self._gone:
                # What it said last, until it was asked in vain: only what answers after that was started anew.
                self._gone |= {node.id} if status is None else set()
                status = None
            if status is not None:
                self._answered.add(node.id)
            url = f"{scheme}://{self._config.member(node.id).http}"
            is_new = node.id not in self._answered
            views.append(
                NodeView(id=node.id, url=url, pid=node.pid, status=status, exit_status=exit_status, is_new=is_new)
            )
        return tuple(views)

    def _stop(self) -> None:
        """SIGTERM to all, then SIGKILL: after ``STOP_S``, or at once on a second signal or when nobody can be told."""
        for poll in self._polls.values():
            poll.stop()
        try:
            for node in self._nodes:
                node.ask_to_end()
            deadline_s = time.monotonic() + STOP_S
            while any(node.exit_status() is None for node in self._nodes) and time.monotonic() < deadline_s:
                if self._hear():
                    break
        finally:
            late = [node.id for node in self._nodes if node.exit_status() is None]
            for node in self._nodes:
                node.kill()
                node.close()
            self._selector.close()
        if late:
            self._display.event(f"killed: {', '.join(late)}")
        if self._nodes:
            self._display.event("stopped")
