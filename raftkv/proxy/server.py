"""The process of the proxy: gunicorn with the worker of the front-end, in the foreground, until told to stop."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from raftkv import __version__
from raftkv.client.credentials import Credentials
from raftkv.core.config import Address, HttpSection, LogSection
from raftkv.core.errors import StartupError
from raftkv.core.listening import listen
from raftkv.core.proof import Prover
from raftkv.http.door.pinned import check_version
from raftkv.http.door.server import serve, settings
from raftkv.process import logs, streams
from raftkv.proxy.application import ProxyApplication
from raftkv.proxy.cluster import Cluster

MAX_KEY_BYTES = 4096
"""The longest key that a configuration allows."""


def run_proxy(
    listen_at: Address,
    servers: Sequence[str],
    *,
    timeout_s: float,
    cacert: str | None,
    announce: str,
    hosts: Iterable[str] = (),
    credentials: Credentials | None = None,
    prover: Prover | None = None,
) -> None:
    """Serve at ``listen_at`` for the nodes at ``servers`` (base URLs) until a signal; prints ``announce`` once bound.

    ``credentials`` or ``prover`` say who asks where the proxy itself asks.

    ``hosts`` are names that it answers to besides its own and those of the servers.
    Raises ``StartupError`` when the address is taken or the servers make no sense.
    """
    check_version()
    seeds, tls = seeds_of(servers), _tls(servers, cacert)
    names = {listen_at.host, *hosts, *[seed.host for seed in seeds]}
    listeners = listen(listen_at, "proxy")
    streams.lossy()
    logs.configure(LogSection(), process="proxy")
    print(announce, flush=True)  # noqa: T201  the command line's own voice; who does not read it is served all the same

    def make() -> ProxyApplication:
        cluster = Cluster(seeds, tls=tls, monotonic_s=time.monotonic, credentials=credentials, prover=prover)
        return ProxyApplication(
            cluster, timeout_s=timeout_s, version=__version__, monotonic_s=time.monotonic, hosts=names
        )

    chosen = settings(
        [listener.detach() for listener in listeners],
        name="raftkv-proxy",
        workers=1,
        max_key_bytes=MAX_KEY_BYTES,
        max_connections=HttpSection().max_connections,
    )
    serve(chosen, make)


def seeds_of(servers: Sequence[str]) -> tuple[Address, ...]:
    """The addresses of base URLs; raises ``StartupError`` when one has a path, or their schemes differ."""
    seeds = []
    for server in servers:
        parts = urlsplit(server)
        if parts.path:
            raise StartupError(f"{server}: a node has no path")
        assert parts.hostname is not None
        seeds.append(Address(parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)))
    if len({urlsplit(server).scheme for server in servers}) != 1:
        raise StartupError("the nodes of one cluster speak either http or https, all of them")
    return tuple(seeds)


def _tls(servers: Sequence[str], cacert: str | None) -> ssl.SSLContext | None:
    if not servers[0].startswith("https:"):
        return None
    try:
        return ssl.create_default_context(cafile=cacert)
    except OSError as error:
        raise StartupError(f"{cacert}: {error.strerror or error}") from None
