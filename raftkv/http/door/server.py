"""The front-end: ``python -P -m raftkv.serving --config FILE --node ID --replica-socket PATH --parent-fd N``.

gunicorn's arbiter with one or more ASGI workers, each with its own link to the replica. Rules: the address is bound
once, before anything else, and a taken one ends the process with one line and exit status 2; nobody listens there
before a worker can answer, so whoever comes too early is refused, and knows that nothing was done; ``--parent-fd`` is a
socket, to which each worker writes a byte when it listens; when its other end closes, however that came to be, the
whole front-end ends, so that none outlives its node; nothing is written to the standard streams unless something is
wrong.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from gunicorn import sock
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter

from raftkv import __version__
from raftkv.api import headers
from raftkv.core.certificates import Renewing, serving_clients
from raftkv.core.config import ClusterConfig, ConfigError
from raftkv.core.environment import read_config, refusal
from raftkv.core.errors import StartupError
from raftkv.core.listening import bind_all
from raftkv.core.passwords import root_password
from raftkv.core.proof import Verifier
from raftkv.core.secret import read_key
from raftkv.core.validity import Certificates
from raftkv.formats.tokens import Tokens
from raftkv.frontend.applied import AppliedState
from raftkv.frontend.direct import DirectReplicator
from raftkv.frontend.remote import RemoteReplicator
from raftkv.http.counts import Counts
from raftkv.http.door import access
from raftkv.http.door.admission import Admission
from raftkv.http.door.asgi import Application, feed_on_loop, onlookers_on_loop
from raftkv.http.door.beside import NOTHING_BESIDE, Beside
from raftkv.http.door.browsers import names_of
from raftkv.http.door.callers import Callers, freshened
from raftkv.http.door.passwords import Passwords
from raftkv.http.door.pinned import check_version
from raftkv.http.handlers.handler import Context
from raftkv.http.metrics import requests_of
from raftkv.http.routes import ROUTES
from raftkv.process import logs, streams
from raftkv.process.loggers import get_logger

GRACE_S: Final = 2
"""How long a worker may take to finish what it has begun when the node stops."""

KEEPALIVE_S: Final = 75
SPARE_DESCRIPTORS: Final = 128
"""What a worker has open besides its clients: the replica's socket, the applied state, the standard library's own."""


log_line = get_logger("raftkv.http")

SLOTS_A_WORKER: Final = 2
"""A new worker may be there before the one that it replaces has ended."""


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no annotations
    """The gunicorn application, told everything by us: no configuration file, no environment, no command line."""

    def __init__(
        self,
        settings: dict[str, Any],
        make: Callable[[], object],
        certificates: Renewing | None = None,
        parent_fd: int | None = None,
    ) -> None:
        """``make`` builds the ASGI application; it is called in each worker, after the fork."""
        self._settings = settings
        self._make = make
        self._certificates = certificates
        self._parent_fd = parent_fd
        super().__init__()

    def load_config(self) -> None:
        """See gunicorn."""
        for name, value in self._settings.items():
            self.cfg.set(name, value)

    def load(self) -> object:
        """See gunicorn."""
        return self._make()

    def run(self) -> None:
        """See gunicorn."""
        try:
            _Arbiter(self).run()
        except RuntimeError as error:
            sys.exit(f"{error}")

    def listens(self) -> None:
        """Whoever started this process may send clients."""
        if self._parent_fd is not None:
            with contextlib.suppress(OSError):
                os.write(self._parent_fd, b"\n")
            self._parent_fd = None

    def renew_certificates(self) -> None:
        """Let handshakes be made with what the files hold now; those of before stay if they will not do."""
        try:
            if self._certificates is not None:
                self._certificates.renew()
        except StartupError as error:
            log_line.error("the certificates stay as they are", reason=str(error))  # noqa: TRY400  one line


class _Arbiter(Arbiter):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's, but it does not listen itself, and SIGHUP ends no worker: they go on with new certificates."""

    def start(self) -> None:
        """See gunicorn, whose arbiter would listen long before a worker answers; each does so when it begins to."""
        sock.BaseSocket._is_listening = staticmethod(lambda _: True)  # noqa: SLF001  what it asks before it listens
        super().start()

    def halt(self, reason: str | None = None, exit_status: int = 0) -> None:
        """See gunicorn, which ends with a status of its own where no worker can start."""
        super().halt(reason, 2 if exit_status == self.WORKER_BOOT_ERROR else exit_status)

    def handle_hup(self) -> None:
        """See gunicorn. Workers that are forked later have the certificates from here."""
        self.app.renew_certificates()
        self.kill_workers(signal.SIGHUP)

    def handle_usr2(self) -> None:
        """See gunicorn, which starts a second arbiter on it: a node is upgraded by its own restart."""

    def handle_ttin(self) -> None:
        """See gunicorn, which has one worker more on it: how many there are is what ``http.workers`` says."""

    handle_ttou = handle_ttin


Choose = Callable[[ClusterConfig], Beside]
"""What is served beside the native API, as the configuration has it."""


class Prepared(NamedTuple):
    """What a front-end has read before it starts; paths in its configuration are relative to ``directory``.

    ``secret`` is the cluster's key, ``first_password`` that of the first root user, if there is to be one, and
    ``beside`` what is served beside the native API.
    """

    directory: Path
    secret: bytes
    certificates: Renewing | None
    first_password: str
    beside: Beside = NOTHING_BESIDE


def check_otlp(collector: str) -> None:
    """Can requests be told to ``collector``, if one is named? Raises ``StartupError``."""
    if not collector:
        return
    if not re.fullmatch(r"https?://[^/?#\s]+/?", collector):
        raise StartupError(f"log.otlp: {collector!r} is no base URL, as http://127.0.0.1:4318 is")
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.exporter.otlp.proto.http") is None:
        raise StartupError("log.otlp: OpenTelemetry is not installed here: pip install 'raftkv[otel]'")


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


def make_application(
    config: ClusterConfig,
    node_id: str,
    replicator: RemoteReplicator | DirectReplicator,
    prepared: Prepared,
    *,
    counts: Counts,
) -> Application:
    """The ASGI application of a worker, which asks ``replicator``."""
    secret, directory = prepared.secret, prepared.directory
    shown = {"http": config.http.tls_cert, "peers": config.peers.tls_cert}
    paths = {name: directory / path for name, path in shown.items() if path}
    verifier = Verifier(secret, config.cluster.name, wall_ms=_wall_ms)
    context = Context(
        node=node_id,
        cluster=config.cluster.name,
        version=__version__,
        scheme="https" if config.http.tls_cert else "http",
        limits=config.http,
        members=config.node,
        status=lambda: replicator.pulse,
        silence=lambda: replicator.silence,
        subscribe=replicator.subscribe,
        feed=feed_on_loop(replicator),
        onlookers=onlookers_on_loop(replicator),
        last_status=lambda: replicator.last_pulse,
        monotonic_s=time.monotonic,
        wall_s=time.time,
        node_header=((headers.NODE.raw, node_id.encode()),),
        admission=Admission(verifier, is_open=not config.cluster.secret_file),
        callers=Callers(
            replicator.rights,
            Tokens(secret, config.cluster.name, wall_ms=_wall_ms, ttl_ms=round(config.auth.token_ttl_s * 1000)),
            Passwords(config.auth, monotonic_s=time.monotonic),
            freshen=lambda: freshened(replicator),
            is_demanded=config.auth.enabled,
        ),
        counted=replicator.counted,
        certificate_ends=Certificates(paths, monotonic_s=time.monotonic).ends,
        counts=counts,
    )
    hears: list[access.Hears] = [access.tell] if config.log.access else []
    if config.log.otlp:
        from raftkv.http.door.spans import spans_to  # noqa: PLC0415  only where it is wanted is it installed

        hears.append(spans_to(config.log.otlp, node=node_id, version=__version__))
    return Application(
        replicator,
        context,
        hosts=names_of(config),
        counts=counts,
        hears=hears,
        start=replicator.start,
        stop=replicator.close,
        root_password=prepared.first_password,
        beside=prepared.beside,
    )


def request_line_limit(max_key_bytes: int) -> int:
    """Room for the longest request that is within the limits: prefix, start and end, every byte percent-encoded."""
    return max(8190, 3 * 3 * max_key_bytes + 1024)


def room_for(connections: int) -> int:
    """Raise this process's limit of descriptors, if need be; how many of ``connections`` it has room for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + SPARE_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return connections if soft == resource.RLIM_INFINITY else max(1, min(connections, soft - SPARE_DESCRIPTORS))


def settings(
    listeners: Sequence[int], *, name: str, workers: int, max_key_bytes: int, max_connections: int
) -> dict[str, Any]:
    """Settings of gunicorn for whatever of ours listens at the descriptors ``listeners``, which are bound."""
    return {
        "bind": [f"fd://{listener}" for listener in listeners],
        "workers": workers,
        "worker_class": "raftkv.http.door.worker.Worker",
        "worker_connections": room_for(max_connections),
        "asgi_loop": "uvloop",
        "asgi_lifespan": "on",
        # A client that left is not waited for: what it asked runs on in the replica, its answer is nobody's.
        "asgi_disconnect_grace_period": 0,
        "http_parser": "python",
        # Every shared default path of the control socket would be fought over by the nodes of one user.
        "control_socket_disable": True,
        "timeout": 30,
        "graceful_timeout": GRACE_S,
        "keepalive": KEEPALIVE_S,
        "limit_request_line": request_line_limit(max_key_bytes),
        "limit_request_fields": 100,
        "limit_request_field_size": 8190,
        "loglevel": "error",
        "logconfig_dict": logs.foreign(),
        "proc_name": name,
    }


def node_settings(config: ClusterConfig, node_id: str, listeners: Sequence[int], directory: Path) -> dict[str, Any]:
    """Settings for the front-end of a node; paths in the configuration are relative to ``directory``."""
    http = config.http
    chosen = settings(
        listeners,
        name=f"raftkv-http {node_id}",
        workers=http.workers,
        max_key_bytes=http.max_key_bytes,
        max_connections=http.max_connections,
    )
    if config.http.tls_cert:
        chosen["certfile"] = str(directory / config.http.tls_cert)
        chosen["keyfile"] = str(directory / config.http.tls_key)
        if http.tls_client_ca:
            chosen["ca_certs"] = str(directory / http.tls_client_ca)
    return chosen


def certificates_of(config: ClusterConfig, directory: Path, protocols: Sequence[str]) -> Renewing | None:
    """What the front-end shows its clients; ``None``: it speaks no TLS. Raises ``StartupError``."""
    http = config.http
    if not http.tls_cert:
        return None
    client_ca = directory / http.tls_client_ca if http.tls_client_ca else ""
    cert, key = directory / http.tls_cert, directory / http.tls_key
    return Renewing(lambda: serving_clients(cert, key, client_ca, protocols))


def prepare(config: ClusterConfig, directory: Path, environment: Mapping[str, str], choose: Choose) -> Prepared:
    """See ``Prepared``. Raises ``StartupError``."""
    check_version()
    check_otlp(config.log.otlp)
    beside = choose(config)
    return Prepared(
        directory=directory,
        secret=read_key(directory / config.cluster.secret_path, config.cluster.name),
        certificates=certificates_of(config, directory, beside.protocols),
        first_password=root_password(config.auth, directory, environment),
        beside=beside,
    )


def end_with_parent(parent_fd: int) -> None:
    """End this process, the arbiter, and its workers when the other end of ``parent_fd`` closes.

    A node that stops in order has ended the front-end before. So the node was killed, and nothing it had begun can be
    finished: everything ends at once, and the address is free for the node's next start.
    """

    def watch() -> None:
        with contextlib.suppress(ConnectionResetError):
            while os.read(parent_fd, 4096):
                pass
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(GRACE_S + 3)
        os._exit(1)  # the arbiter is stuck; workers notice that their parent is gone and end by themselves

    threading.Thread(target=watch, name="parent", daemon=True).start()


def main(arguments: list[str], choose: Choose) -> int:
    """Run until told to stop; the exit status is 2 when the front-end cannot start."""
    streams.lossy()  # before anybody takes standard error as it is
    parser = argparse.ArgumentParser(prog="raftkv.serving", description="The front-end of one raftkv node.")
    parser.add_argument("--config", type=Path, help="none: the environment says it all")
    parser.add_argument("--node", required=True)
    parser.add_argument("--replica-socket", required=True)
    parser.add_argument("--parent-fd", required=True, type=int)
    parser.add_argument(
        "--listen-fd", action="append", type=int, help="a bound socket to listen at, of possibly several"
    )
    options = parser.parse_args(arguments)
    try:
        config = read_config(options.config, os.environ)
        listeners = options.listen_fd
        if not listeners:
            listeners = [bound.detach() for bound in bind_all(config.member(options.node).client_listens)]
        directory = Path.cwd() if options.config is None else options.config.resolve().parent
        prepared = prepare(config, directory, os.environ, choose)
    except (OSError, ConfigError, StartupError) as error:
        told = refusal(error, options.config, os.environ) if isinstance(error, ConfigError) else error
        print(told, file=sys.stderr)  # noqa: T201  the command line's own voice
        return 2
    logs.configure(config.log, node=options.node, process="frontend")
    chosen = node_settings(config, options.node, listeners, directory)
    end_with_parent(options.parent_fd)
    counts = Counts(
        requests_of((*ROUTES, *prepared.beside.routes), prepared.beside.calls),
        slots=SLOTS_A_WORKER * config.http.workers,
    )
    chosen["pre_fork"] = lambda _, worker: counts.give(worker)
    chosen["child_exit"] = lambda _, worker: counts.take_back(worker)

    def make() -> Application:
        replicator = RemoteReplicator(
            options.replica_socket, open_state=AppliedState, max_pending=config.http.max_pending
        )
        return make_application(config, options.node, replicator, prepared, counts=counts)

    serve(chosen, make, prepared.certificates, options.parent_fd)
    return 0


def serve(
    chosen: dict[str, Any],
    make: Callable[[], object],
    certificates: Renewing | None = None,
    parent_fd: int | None = None,
) -> None:
    """Serve the ASGI application that ``make`` builds in each worker, until told to stop."""
    if certificates is not None:
        chosen["ssl_context"] = lambda _, __: certificates.context
    # gunicorn keeps settings from such variables in reserve; nothing but our own counts.
    for name in ("GUNICORN_CMD_ARGS", "WEB_CONCURRENCY", "GUNICORN_PID", "GUNICORN_FD", "LISTEN_FDS", "LISTEN_PID"):
        os.environ.pop(name, None)
    Server(chosen, make, certificates, parent_fd).run()
