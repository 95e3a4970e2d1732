"""One node of a cluster: the replica, its link to the peers, its socket for the front-end, and the front-end's process.

The composition root. This process is the replica: one thread, one loop. It starts the HTTP front-end as a child, so
that requests never compete with replication for the interpreter, and ends it when it ends itself; the child watches a
pipe and ends on its own when this process is killed. Nothing is restarted: a node that cannot go on says why, in one
line, and ends.

Exit status: 0 after a signal, 2 when the node cannot start or its disk failed, 1 after a broken invariant. Nothing that
becomes of standard output and standard error ends it or holds it up.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import fcntl
import gc
import os
import platform
import signal
import socket
import sys
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import uvloop

from raftkv import __version__
from raftkv.core.config import Address, ClusterConfig
from raftkv.core.errors import DataDiscarded, StartupError
from raftkv.core.listening import bind_all
from raftkv.core.status import ModeStatus
from raftkv.experiment import Surroundings
from raftkv.frontend.child import SOCKET_NAME, SOCKET_PATH_BYTES, FrontEndProcess
from raftkv.frontend.server import FrontendServer
from raftkv.process import logs, streams
from raftkv.process.garbage import collect_rarely
from raftkv.process.loggers import get_logger
from raftkv.process.memory import GIVE_BACK_S, give_back
from raftkv.process.notify import ServiceManager, standing
from raftkv.replicas.building import build, load, renew_certificates
from raftkv.storage.disk import RealDisk, translated
from raftkv.storage.engines.port import DamagedState
from raftkv.storage.state.trust import distrust

if TYPE_CHECKING:
    from raftkv.backup.keeper import ScheduledBackups
    from raftkv.http.door.inside import FrontEndInside

    FrontEnd = FrontEndProcess | FrontEndInside

PULSE_S: Final = 0.1
"""How often the front-end is told how the node stands, besides every change."""

MAKE_WAY_S: Final = 5.0
"""How long a node that is asked to end lets others take over from it, at most."""

MAKE_WAY_LOOK_S: Final = 0.005

CHILD_CHECK_S: Final = 0.5
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

log_line = get_logger("raftkv.node")

OPEN_TO_ALL = (
    "NO AUTHENTICATION (auth.open_to_anyone): whoever reaches this address reads and writes every key; "
    "let only trusted networks reach it, or listen on loopback"
)


def run_node(
    config: ClusterConfig,
    config_path: Path | None,
    node_id: str,
    parent_fd: int | None,
    surroundings: Surroundings | None = None,
) -> int:
    """Run node ``node_id`` until SIGTERM, SIGINT or the end of ``parent_fd``; returns the exit status.

    ``config`` has its paths resolved; ``config_path`` is the file, if any, that the front-end's process reads
    again, with the same environment over it. ``surroundings`` are the machine's own unless an experiment makes them
    faulty.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is a log to say so in
    streams.lossy()
    _say_what_kills()
    logs.configure(config.log, node=node_id, process="replica")
    manager = ServiceManager(os.environ)
    try:
        config.member(node_id)
        home = Path(config.cluster.data_dir) / node_id
        with translated(home):
            RealDisk().make_directory(home)
            home.chmod(0o700)  # what is stored is nobody else's to read, whatever the files below are made with
            lock = _lock(home)
        surroundings = surroundings or Surroundings()
        _say_what_starts(config, node_id, home)
        load(config.cluster.mode)
        collect_rarely()
        try:
            while True:
                node = _Node(
                    config,
                    config_path,
                    node_id,
                    home=home,
                    parent_fd=parent_fd,
                    surroundings=surroundings,
                    manager=manager,
                )
                with translated(home):  # a start that the machine refuses; once it serves, the loop has what fails
                    status = uvloop.run(node.run())
                if not node.rebuilds:
                    return status
                del node
                gc.collect()  # what it mapped must not outlive it
        finally:
            os.close(lock)
    except StartupError as error:
        manager.status(str(error))
        streams.last_words(f"raftkv: {node_id}: {error}\n")
        return 2


def _say_what_starts(config: ClusterConfig, node_id: str, home: Path) -> None:
    own = config.member(node_id)
    log_line.info(
        "starting",
        version=__version__,
        cluster=config.cluster.name,
        mode=config.cluster.mode,
        data=str(home),
        pid=os.getpid(),
        **_told(own.client_listens),
        peer=str(own.peer_listen),
        python=platform.python_version(),
    )


def _told(addresses: Mapping[str, Address]) -> dict[str, str]:
    return {purpose: str(address) for purpose, address in addresses.items()}


def _say_what_kills() -> None:
    """A map whose file was cut short under it ends a process by SIGBUS; then at least say so, and where."""
    with contextlib.suppress(OSError, ValueError):
        faulthandler.enable(sys.stderr, all_threads=False)


def _lock(home: Path) -> int:
    """Hold the data directory for this process; the kernel lets go when it ends, however it ends."""
    lock = os.open(home / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise StartupError(f"{home}: in use by a running node") from None
    return lock


@contextlib.contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Let signals raise ``KeyboardInterrupt``: who asks a cluster to be let in waits, and the loop waits with it."""
    previous = {number: signal.signal(number, signal.default_int_handler) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _Node:
    """Everything of one node that lives on the loop."""

    def __init__(
        self,
        config: ClusterConfig,
        config_path: Path | None,
        node_id: str,
        *,
        home: Path,
        parent_fd: int | None,
        surroundings: Surroundings,
        manager: ServiceManager,
    ) -> None:
        self._config = config
        self._config_path = config_path
        self._node_id = node_id
        self._home = home
        self._parent_fd = parent_fd
        self._surroundings = surroundings
        self._manager = manager
        self._is_ready = False
        self._monotonic_s = surroundings.monotonic_s
        self._scheduled = False
        self._flushing = False
        self._timer: asyncio.TimerHandle | None = None
        self._pushed: ModeStatus | None = None
        self._pushed_at_s = float("-inf")
        self._give_back_at_s = self._monotonic_s() + GIVE_BACK_S
        self._position: object = None
        self._failure: BaseException | None = None
        self._closed = False
        self._front_end: FrontEnd | None = None
        self._backups: ScheduledBackups | None = None
        self._home_fd: int | None = None
        self.rebuilds = False
        """Must another be made in its place, which rebuilds the applied state, or fetches all of it?"""

    async def run(self) -> int:
        """Start, serve until told to stop or unable to go on, end; returns the exit status."""
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._loop.set_exception_handler(self._on_loop_exception)
        self._watch_for_the_end()
        self._surroundings.attach(self._loop)
        own = self._config.member(self._node_id)
        listeners = bind_all(own.client_listens)
        self._manager.building()
        try:
            with _signals_interrupt():
                built = build(self._config, self._node_id, self._home, events=self, surroundings=self._surroundings)
            self._replica, self._link, self._events = built.replica, built.link, built.events
            self._sights = built.sights
        except KeyboardInterrupt:
            return 0
        try:
            front_end = self._front_end = self._make_front_end(listeners)
            await self._link.start()
            await front_end.replicator.start()
            self.wake()
            await front_end.start()
            if self._config.backup.interval_s > 0:
                from raftkv.backup.keeper import ScheduledBackups  # noqa: PLC0415  it needs the client, and few want it

                self._backups = ScheduledBackups(self._config, self._node_id, self._loop)
                self._backups.start()
            log_line.info("listening", **_told(own.client_listens), peer=str(own.peer_listen))
            is_local = all(address.is_loopback for address in own.client_listens.values())
            if not (is_local or self._config.auth.enabled):
                log_line.warning(OPEN_TO_ALL, **_told(own.client_listens))
            status = await self._serve(front_end)
        finally:
            await self._end()
        return status

    def _make_front_end(self, listeners: list[socket.socket]) -> FrontEnd:
        """A process of its own, unless the replica is to answer clients by itself; nothing is started yet."""
        http = self._config.http
        if not http.workers:
            from raftkv.frontend.direct import DirectReplicator  # noqa: PLC0415  what few want costs memory and time
            from raftkv.http.door.inside import FrontEndInside  # noqa: PLC0415  likewise
            from raftkv.serving import beside  # noqa: PLC0415  likewise

            direct = DirectReplicator(self._replica, wake=self.wake, fail=self._fail, max_pending=http.max_pending)
            return FrontEndInside(
                direct, listeners, node_id=self._node_id, config=self._config, path=self._config_path, choose=beside
            )
        server = FrontendServer(self._replica, path=self._socket_path(), wake=self.wake, max_pending=http.max_pending)
        return FrontEndProcess(server, listeners, node_id=self._node_id, config=self._config_path)

    def _socket_path(self) -> str:
        """Where the front-end's socket is found: by a descriptor of its directory if the path is too long for one."""
        path = str(self._home / SOCKET_NAME)
        if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
            return path
        self._home_fd = os.open(self._home, os.O_RDONLY | os.O_DIRECTORY)
        return f"/proc/{os.getpid()}/fd/{self._home_fd}/{SOCKET_NAME}"

    # --- serving

    def wake(self) -> None:
        """Let the replica work soon: something came in."""
        if not self._scheduled:
            self._scheduled = True
            if not self._flushing:
                self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self._failure is not None or self._closed:
            return
        try:
            self._replica.begin_work(self._monotonic_s())
        except Exception as error:  # noqa: BLE001  whatever it is, this node must not go on
            self._fail(error)
            return
        if self._replica.sent_ahead:
            # The loop writes to its sockets between two turns: appends leave before the leader's disk is waited for.
            self._flushing = True
            self._loop.call_soon(self._finish_turn)
        else:
            self._finish_turn()

    def _finish_turn(self) -> None:
        self._flushing = False
        if self._failure is not None or self._closed:
            return
        try:
            now_s = self._monotonic_s()
            due_s = self._replica.finish_work(now_s)
            self._pulse(now_s)
        except Exception as error:  # noqa: BLE001
            self._fail(error)
            return
        if self._scheduled:
            self._loop.call_soon(self._turn)
            return
        if due_s <= now_s:
            self.wake()
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(due_s - now_s, self._turn_by_timer)

    def _turn_by_timer(self) -> None:
        self._timer = None
        self.wake()

    def _pulse(self, now_s: float) -> None:
        """Tell the front-end how this node stands, ten times a second and whenever who leads changes."""
        if self._front_end is not None:
            self._front_end.replicator.tell_rights()
        position = self._replica.position()
        if position == self._position and now_s - self._pushed_at_s < PULSE_S:
            return
        if now_s >= self._give_back_at_s:
            self._give_back_at_s = now_s + GIVE_BACK_S
            give_back(self._replica.state_path)
        self._position = position
        status = self._replica.status()
        self._sights.note(status)
        if self._backups is not None:
            status = msgspec.structs.replace(status, measures=status.measures.with_numbers(self._backups.numbers))
        status = msgspec.structs.replace(status, log_lines_dropped=streams.lines_dropped())
        self._pushed, self._pushed_at_s = status, now_s
        if self._front_end is not None:
            self._front_end.replicator.push(self._pushed)
        self._tell_manager(status, now_s)

    def _tell_manager(self, status: ModeStatus, now_s: float) -> None:
        """Started is a node that clients can ask, quorum or none: nodes are started one by one, and none may wait."""
        if not self._is_ready:
            if self._front_end is None or not self._front_end.is_listening:
                return
            self._is_ready = True
            self._manager.ready()
        self._manager.alive(now_s)
        self._manager.status(standing(status))

    async def _serve(self, front_end: FrontEnd) -> int:
        """Wait for the end; returns the exit status."""
        while not self._stopping.is_set():
            try:
                await asyncio.wait_for(self._stopping.wait(), CHILD_CHECK_S)
            except TimeoutError:
                ended = front_end.exit_status
                if ended is not None:
                    log_line.error("the front-end ended", status=ended)  # noqa: TRY400  the timeout is no error
                    return 2 if ended == 2 else 1
        self._manager.stopping()
        await self._make_way()
        await front_end.stop()
        return self._explain_failure()

    async def _make_way(self) -> None:
        """While clients are served still, let others take over what they would otherwise wait for."""
        until_s = self._monotonic_s() + MAKE_WAY_S
        while self._failure is None and (now_s := self._monotonic_s()) < until_s and not self._replica.make_way(now_s):
            self.wake()
            await asyncio.sleep(MAKE_WAY_LOOK_S)

    def _explain_failure(self) -> int:
        if self._failure is None:
            return 0
        if isinstance(self._failure, DamagedState):
            # The state is only a cache: nothing of it was served, and snapshot and log have it whole.
            distrust(self._failure.directory)
            self.rebuilds = True
            log_line.error("the node begins anew and rebuilds its applied state", reason=str(self._failure))
            return 1
        if isinstance(self._failure, DataDiscarded):
            self.rebuilds = True
            log_line.warning("the node begins anew", reason=str(self._failure))
            return 1
        if isinstance(self._failure, StartupError):
            streams.last_words(f"raftkv: {self._node_id}: {self._failure}\n")
            return 2
        told = "".join(traceback.format_exception(self._failure))
        streams.last_words(f"{told}raftkv: {self._node_id}: a broken invariant; this node must not go on\n")
        return 1

    # --- the link's events: whatever a peer sends is work

    def link_up(self, peer: str) -> None:
        """See ``LinkEvents``."""
        self._events.link_up(peer)
        self.wake()

    def link_down(self, peer: str) -> None:
        """See ``LinkEvents``."""
        self._events.link_down(peer)
        self.wake()

    def received(self, peer: str, payload: bytes) -> None:
        """See ``LinkEvents``."""
        self._events.received(peer, payload)
        self.wake()

    # --- the end

    def _watch_for_the_end(self) -> None:
        for number in _SIGNALS:
            self._loop.add_signal_handler(number, self._stopping.set)
        self._loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        if self._parent_fd is not None:
            self._loop.add_reader(self._parent_fd, self._on_parent)

    def _on_hangup(self) -> None:
        """Take up certificates that were renewed; a terminal that closes ends no node."""
        if self._front_end is None or not self._front_end.is_listening:
            log_line.info("SIGHUP is ignored while the node starts")
            return
        try:
            renewed = renew_certificates(self._config, self._link)
        except StartupError as error:
            log_line.error("SIGHUP: the certificates stay as they are", reason=str(error))  # noqa: TRY400  one line
            return
        if renewed:
            self._front_end.renew_certificates()
        read = "the certificates" if renewed else "nothing: there are no certificates"
        log_line.info("SIGHUP: the configuration itself is read when the node starts again", read_anew=read)

    def _on_parent(self) -> None:
        assert self._parent_fd is not None
        if not os.read(self._parent_fd, 1024):
            self._loop.remove_reader(self._parent_fd)
            self._stopping.set()

    def _on_loop_exception(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        error = context.get("exception")
        is_of_clients = self._front_end is not None and self._front_end.caused(error)
        if isinstance(error, Exception) and not is_of_clients:
            self._fail(error)
        else:
            loop.default_exception_handler(context)

    def _fail(self, error: BaseException) -> None:
        """Stop at once: nothing may be flushed, sent or answered after a broken invariant or a failed disk."""
        if self._failure is None:
            self._failure = error
            self._stopping.set()

    async def _end(self) -> None:
        """Settle what is pending, unless the node failed; close what is open."""
        if self._timer is not None:
            self._timer.cancel()
        if self._failure is None:
            self._replica.close()
            self._closed = True
        await self._link.stop()
        if self._front_end is not None:
            await self._front_end.replicator.stop()
            self._front_end.close()
        if self._backups is not None:
            await self._backups.end()
        if self._home_fd is not None:
            os.close(self._home_fd)
