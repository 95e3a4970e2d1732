"""``raftkv config check``: everything that a start would find wrong, all at once, with nothing created.

The rules are those of ``raftkv.launch.config_file``, and the addresses are bound as a node binds them; besides, what a
start would bear but a person should know: certificates that end soon, a disk with little room, few descriptors. This
module must not import ``raftkv.node``.
"""

from __future__ import annotations

import os
import resource
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from raftkv.core.config import Address, ClusterConfig, ConfigError, NodeSection, parse_address
from raftkv.core.environment import refusal
from raftkv.core.errors import StartupError
from raftkv.core.listening import bind, close
from raftkv.core.rules import rules_of
from raftkv.launch.config_file import checks, resolved
from raftkv.storage.identity import held_identity

ENDS_SOON_S: Final = 30 * 86_400
"""Certificates with less than a month left are worth a word."""

_DAY_S: Final = 86_400


class Finding(msgspec.Struct, frozen=True):
    """One line: what was looked at and how it is. ``error``: a node would not start."""

    level: Literal["ok", "warning", "error"]
    text: str


def inspect(path: Path | None, node_id: str | None) -> Iterator[Finding]:
    """What there is to say of the configuration in ``path`` and the environment, for ``node_id`` or for all nodes."""
    try:
        config = resolved(path)
        nodes = config.node if node_id is None else (config.member(node_id),)
    except (StartupError, ConfigError) as error:
        yield Finding("error", str(error))
        return
    where = path or "the environment"
    count = len(config.node)
    yield Finding("ok", f"{where}: {config.cluster.mode}, {count} node{'' if count == 1 else 's'}, all keys known")
    wrong = list(filter(None, map(_refused, checks(config))))
    yield from (Finding("error", str(refusal(each, path, os.environ))) for each in wrong)
    if not wrong:
        yield from _files(config)
    yield from _certificates(config, nodes)
    yield from _names(config)
    for node in nodes:
        yield from _held(config, node.id)
        yield from _addresses(node, is_asked_for=node_id is not None)
    yield from _descriptors(config)


def _refused(check: Callable[[], None]) -> ConfigError | None:
    try:
        check()
    except ConfigError as error:
        return error
    return None


def _files(config: ClusterConfig) -> Iterator[Finding]:
    """Of a data directory that may be used and a secret that is one."""
    free_bytes = _free_bytes(config.cluster.data_dir)
    mode = config.raft if config.cluster.mode == "raft" else config.quorum
    told = f"cluster.data_dir: {config.cluster.data_dir} can be written, {free_bytes >> 20} MiB free"
    if free_bytes < mode.disk_reserve_bytes:
        yield Finding("warning", f"{told}: less than disk_reserve_bytes, so writes are refused")
    else:
        yield Finding("ok", told)
    secret = config.cluster.secret_path
    kept = "is kept and hard to guess" if secret.exists() else "is made at the first start"
    yield Finding("ok", f"cluster.secret_file: {secret} {kept}")
    backup = config.backup
    if backup.interval_s:
        room = f"{_free_bytes(backup.directory) >> 20} MiB free"
        yield Finding("ok", f"backup.directory: {backup.directory} can be written, {room}")


def _free_bytes(directory: str) -> int:
    """Where it lies, or will."""
    existing = Path(directory)
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def _held(config: ClusterConfig, node_id: str) -> Iterator[Finding]:
    """Is what lies in the node's directory its own, of a cluster with these rules?"""
    home = Path(config.cluster.data_dir) / node_id
    if not config.cluster.data_dir or not home.is_dir():
        return
    try:
        held_identity(home, node_id, rules_of(config), is_alone=len(config.node) == 1)
    except StartupError as error:
        yield Finding("error", f"{node_id}: {error}")
    else:
        yield Finding("ok", f"{node_id}: {home} is its own")


def _certificates(config: ClusterConfig, nodes: tuple[NodeSection, ...]) -> Iterator[Finding]:
    """Does each certificate fit its key and its authority, name the nodes that show it, and last?"""
    http, peers = config.http, config.peers
    if http.tls_cert:
        hosts = [parse_address(node.http).host for node in nodes]
        yield from _certificate("http", http.tls_cert, http.tls_key, http.tls_ca, hosts)
    if peers.tls_cert:
        # Peers are known by their authority; whether a name is checked too is the link's own rule.
        yield from _certificate("peers", peers.tls_cert, peers.tls_key, peers.tls_ca, [])


def _certificate(section: str, cert: str, key: str, ca: str, hosts: list[str]) -> Iterator[Finding]:
    path = f"{section}.tls_cert: {cert}"
    try:
        shown = _shown(cert, key, ca, "")
        for host in hosts:
            _shown(cert, key, ca, host)
    except ssl.SSLCertVerificationError as error:
        yield Finding("error", f"{path}: {error.verify_message}")
        return
    except FileNotFoundError:
        return  # every file that is named and missing was told of
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        yield Finding("error", f"{path}: {reason}")
        return
    end_s = ssl.cert_time_to_seconds(str(shown["notAfter"]))
    left_s = end_s - time.time()
    told = f"{path} ends on {time.strftime('%Y-%m-%d', time.gmtime(end_s))}, in {left_s / _DAY_S:.0f} days"
    yield Finding("warning" if left_s < ENDS_SOON_S else "ok", told)


def _shown(cert: str, key: str, ca: str, host: str) -> dict[str, object]:
    """The certificate as a client gets it that trusts ``ca``, or it alone, and asks for ``host``.

    Raises ``OSError``, of which ``SSLCertVerificationError`` is one, and ``ValueError``.
    """
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # An encrypted key would make OpenSSL ask on the terminal; the empty password makes it fail instead.
    server.load_cert_chain(cert, key, password="")
    client.load_verify_locations(ca or cert)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    client.check_hostname = bool(host)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    showing = server.wrap_bio(to_server, to_client, server_side=True)
    seeing = client.wrap_bio(to_client, to_server, server_hostname=host or None)
    for _ in range(3):  # TLS 1.3 is through after two turns
        for end in (seeing, showing):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return dict(seeing.getpeercert() or {})


def _names(config: ClusterConfig) -> Iterator[Finding]:
    """Can every node be found by the names that it is told the others by?"""
    hosts = [address.host for node in config.node for address in (parse_address(node.http), node.peer_address)]
    for host in dict.fromkeys(hosts):
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            # Names of containers and of pods are known once those are there: a node starts without them.
            yield Finding("warning", f"{host}: {reason}")
            continue
        addresses = ", ".join(sorted({str(each[4][0]) for each in found}))
        if addresses != host:
            yield Finding("ok", f"{host} is {addresses}")


def _addresses(node: NodeSection, *, is_asked_for: bool) -> Iterator[Finding]:
    for kind, address in (node.client_listens | {"peer": node.peer_listen}).items():
        try:
            close(bind(address, kind))
        except StartupError as error:
            if is_asked_for or _is_here(address):
                yield Finding("error", f"{node.id}: {error}")
            else:
                yield Finding("ok", f"{node.id}: {kind} {address} is another machine's")
        else:
            yield Finding("ok", f"{node.id}: {kind} {address} is free")


def _is_here(address: Address) -> bool:
    """Does this machine have such an address, whatever its port is used for?"""
    try:
        close(bind(Address(address.host, 0), "any"))
    except StartupError:
        return False
    return True


def _descriptors(config: ClusterConfig) -> Iterator[Finding]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = config.http.max_connections
    if hard != resource.RLIM_INFINITY and hard < wanted:
        told = f"{wanted}, but only {hard} descriptors may be open (ulimit -Hn)"
        yield Finding("warning", f"http.max_connections: {told}")
