"""The configuration of one whole cluster, as frozen values with every default in one place.

``parse_config`` turns TOML text into a validated ``ClusterConfig`` or raises ``ConfigError``, whose message names the
key and the reason. Nothing here touches the disk or the network: reading the file and checking what depends on the
machine is the launcher's part.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from raftkv.core.backups import BackupSection
from raftkv.core.delays import DelaysSection
from raftkv.core.etcd import EtcdSection
from raftkv.core.history import HistorySection
from raftkv.core.refusals import readable

EVERYWHERE = "*"
"""As the host of a ``*_bind`` address: every address of this machine, of IPv4 and of IPv6."""

_ANYWHERE = frozenset({"0.0.0.0", "::", EVERYWHERE})  # noqa: S104  where nodes may listen, but no address of theirs

NODE_ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z"
_NODE_ID = re.compile(NODE_ID_PATTERN)
_HOST_AND_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%a-z]+\]|[^:\[\]\s]+):(?P<port>[0-9]{1,5})")

HOST_CHARACTERS_MAX = 253
"""The longest name that DNS knows (RFC 1035, section 2.3.4)."""

LABEL_CHARACTERS_MAX = 63
"""The longest part of a name between two dots, likewise."""

KEY_BYTES_MAX = 4096
"""What ``http.max_key_bytes`` may be at most, and so what any node takes from another."""

LIST_LIMIT_MAX = 100_000
"""What ``http.max_list_limit`` may be at most."""

Mode = Literal["raft", "quorum"]
Seconds = Annotated[float, Meta(gt=0, le=3600)]
Zone = Annotated[str, Meta(max_length=255)]
AddressText = Annotated[str, Meta(max_length=HOST_CHARACTERS_MAX + 8)]
"""``host:port`` before it is parsed: brackets, a colon and five digits besides the host."""


class ConfigError(ValueError):
    """The configuration is refused; the message names the key and the reason."""


class Address(msgspec.Struct, frozen=True):
    """A host (without brackets) and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Does the host name only this machine: ``localhost``, 127.0.0.0/8 or ::1?"""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def places(self) -> tuple[Address, ...]:
        """What the text alone tells of where this is, in one spelling each, so that two addresses can be compared.

        An address has many spellings (``::1`` is ``0:0:0:0:0:0:0:1``), a name does not mind capitals (RFC 4343), and
        ``localhost`` is this machine in both families (RFC 6761, section 6.3). Nothing is looked up.
        """
        name = self.host.lower()
        hosts = ("127.0.0.1", "::1") if name == "localhost" else (_one_spelling(name),)
        return tuple([Address(host, self.port) for host in hosts])


def _one_spelling(host: str) -> str:
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host.removesuffix(".")
    return str(getattr(found, "ipv4_mapped", None) or found)


def parse_address(text: str) -> Address:
    """Read ``host:port`` (IPv6 hosts in brackets); raises ``ValueError`` with a reason."""
    found = _HOST_AND_PORT.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not of the form host:port")
    port = int(found["port"])
    if not 1 <= port <= 65535:
        raise ValueError(f"port {port} is not between 1 and 65535")
    host = found["host"].strip("[]")
    if len(host) > HOST_CHARACTERS_MAX:
        raise ValueError(f"the host has more than {HOST_CHARACTERS_MAX} characters")
    _check_host(host)
    return Address(host, port)


def _check_host(host: str) -> None:
    """Raise ``ValueError`` for what is neither an address nor a name of labels as DNS knows them (RFC 1035, 2.3.4)."""
    if ":" in host or host == EVERYWHERE:
        return
    for label in host.removesuffix(".").split("."):
        if not 1 <= len(label) <= LABEL_CHARACTERS_MAX:
            what = f"a label of {len(label)} characters" if label else "an empty label"
            raise ValueError(f"the host {host!r} has {what}; 1 to {LABEL_CHARACTERS_MAX} are allowed")
    try:
        host.encode("idna")
    except UnicodeError:
        raise ValueError(f"the host {host!r} is no name that DNS can hold") from None


class ClusterSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[cluster]``: what all nodes share."""

    name: Annotated[str, Meta(min_length=1, max_length=63)] = "raftkv"
    mode: Mode = "raft"
    data_dir: str = "data"
    secret_file: str = ""

    @property
    def secret_path(self) -> Path:
        """The file of the secret that the nodes share: one of its own, or else one made beside the data."""
        return Path(self.secret_file) if self.secret_file else Path(self.data_dir) / "secret"


class NodeSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[[node]]``: one member; ``http`` and ``peer`` are advertised, ``*_bind`` is where it listens if it differs.

    ``etcd`` is one more address for clients, which is told to those of etcd's API; empty: there is none.
    """

    id: str
    http: str
    peer: str
    etcd: str = ""
    http_bind: str = ""
    peer_bind: str = ""
    etcd_bind: str = ""
    zone: Zone = ""

    @property
    def peer_address(self) -> Address:
        """Where other nodes reach this node."""
        return parse_address(self.peer)

    @property
    def http_listen(self) -> Address:
        """Where the front-end of this node listens."""
        return parse_address(self.http_bind or self.http)

    @property
    def peer_listen(self) -> Address:
        """Where the replica of this node listens for its peers."""
        return parse_address(self.peer_bind or self.peer)

    @property
    def client_listens(self) -> dict[str, Address]:
        """Every place where the front-end of this node listens, by what it is for."""
        etcd = {"etcd": parse_address(self.etcd_bind or self.etcd)} if self.etcd else {}
        return {"http": self.http_listen} | etcd

    @property
    def client_addresses(self) -> tuple[Address, ...]:
        """All by which clients may know this node."""
        return (*(parse_address(text) for text in (self.http, self.etcd) if text), *self.client_listens.values())


class RaftSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[raft]``: timing and log upkeep of the leader-follower mode.

    Elections start after a random wait between one and two election timeouts without a leader. ``clock_drift_bound`` is
    the assumption under ``consistency=lease``: within one election timeout, no two nodes' clocks drift apart by more
    than this fraction of it. ``preferred_leader`` is the node that is to lead whenever it is well; empty for any.
    ``seeds`` are HTTP addresses of nodes of a running cluster, which a node that is new to it asks to be let in.
    """

    election_timeout_s: Seconds = 1.0
    heartbeat_s: Seconds = 0.1
    clock_drift_bound: Annotated[float, Meta(ge=0, lt=0.5)] = 0.1
    preferred_leader: str = ""
    seeds: tuple[str, ...] = ()
    snapshot_entries: Annotated[int, Meta(ge=10)] = 100_000
    snapshot_log_bytes: Annotated[int, Meta(ge=1 << 16)] = 64 << 20
    trailing_entries: Annotated[int, Meta(ge=0)] = 5_000
    segment_bytes: Annotated[int, Meta(ge=1 << 16, le=1 << 30)] = 16 << 20
    disk_reserve_bytes: Annotated[int, Meta(ge=0)] = 64 << 20
    idempotency_window_s: Seconds = 3600.0
    idempotency_keys: Annotated[int, Meta(ge=1, le=10_000_000)] = 100_000


class QuorumSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[quorum]``: the leaderless mode.

    ``seeds`` are HTTP addresses of nodes of a running cluster, which a node that is new to it asks to be let in.
    A replica that has not answered within ``replica_timeout_s`` is not counted on, and a fallback asked if ``sloppy``.
    A deletion is remembered for ``tombstone_grace_s``; a node that was away for longer is not let back with its old
    data, and hints are kept no longer than that. A node goes by what it has heard of rights for ``rights_validity_s``.
    """

    n: Annotated[int, Meta(ge=1, le=15)] = 3
    r: Annotated[int, Meta(ge=1, le=15)] = 2
    w: Annotated[int, Meta(ge=1, le=15)] = 2
    vnodes: Annotated[int, Meta(ge=1, le=1024)] = 100
    conflicts: Literal["lww", "siblings"] = "lww"
    sloppy: bool = True
    seeds: tuple[str, ...] = ()
    gossip_s: Seconds = 2.0
    suspect_after_s: Seconds = 8.0
    down_after_s: Seconds = 30.0
    replica_timeout_s: Seconds = 0.5
    anti_entropy_s: Seconds = 10.0
    tombstone_grace_s: Annotated[float, Meta(gt=0, le=10 * 365 * 86_400)] = 10 * 86_400.0
    max_hints: Annotated[int, Meta(ge=0, le=100_000_000)] = 1_000_000
    transfer_bytes_per_s: Annotated[int, Meta(ge=1 << 10)] = 32 << 20
    clock_ahead_s: Annotated[float, Meta(gt=0, le=10 * 365 * 86_400)] = 300.0
    max_siblings: Annotated[int, Meta(ge=2, le=1000)] = 64
    disk_reserve_bytes: Annotated[int, Meta(ge=0)] = 64 << 20
    rights_validity_s: Annotated[float, Meta(ge=1, le=86_400)] = 10.0


class HttpSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[http]``: the front-end. ``tls_ca`` are the authorities that a node trusts when it asks another over https.

    ``tls_client_ca`` are those whose certificates say who a client is, if it shows one.
    """

    workers: Annotated[int, Meta(ge=0, le=64)] = 1
    tls_cert: str = ""
    tls_key: str = ""
    tls_ca: str = ""
    tls_client_ca: str = ""
    max_value_bytes: Annotated[int, Meta(ge=1, le=16 << 20)] = 1 << 20
    max_key_bytes: Annotated[int, Meta(ge=1, le=KEY_BYTES_MAX)] = 1024
    max_batch_operations: Annotated[int, Meta(ge=1, le=10_000)] = 1_000
    max_list_limit: Annotated[int, Meta(ge=1, le=LIST_LIMIT_MAX)] = 1_000
    hosts: tuple[Annotated[str, Meta(min_length=1, max_length=HOST_CHARACTERS_MAX)], ...] = ()
    request_timeout_s: Seconds = 5.0
    max_pending: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000
    max_connections: Annotated[int, Meta(ge=1, le=1_000_000)] = 4096
    max_held_bytes: Annotated[int, Meta(ge=8 << 20, le=1 << 40)] = 256 << 20
    console: bool = True


class AuthSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[auth]``: who may ask at all. Users and roles are not here: they are kept with the keys, for all nodes alike.

    With ``enabled`` a node serves no client before the cluster's state says that authentication is on, and makes it so
    with the root user's password from ``root_password_file`` where the state does not. ``open_to_anyone`` says in so
    many words that whoever reaches a node may read and write every key.
    """

    enabled: bool = False
    open_to_anyone: bool = False
    root_password_file: str = ""
    token_ttl_s: Annotated[float, Meta(gt=0, le=90 * 86_400)] = 3600.0
    password_remembered_s: Annotated[float, Meta(ge=0, le=3600)] = 60.0
    max_password_checks: Annotated[int, Meta(ge=1, le=64)] = 2


class LogSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[log]``: what a node says on standard error. ``access``: a line for each request, without key or value.

    ``otlp`` is a collector of OpenTelemetry, which is told of each request as a span.
    """

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["logfmt", "json"] = "logfmt"
    access: bool = False
    otlp: str = ""


class PeersSection(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``[peers]``: the node-to-node link. With TLS, every node shows a certificate signed by ``tls_ca``."""

    tls_cert: str = ""
    tls_key: str = ""
    tls_ca: str = ""
    silence_timeout_s: Seconds = 3.0
    window_bytes: Annotated[int, Meta(ge=1 << 16)] = 8 << 20


class ClusterConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One whole cluster."""

    cluster: ClusterSection = ClusterSection()
    node: tuple[NodeSection, ...] = ()
    raft: RaftSection = RaftSection()
    quorum: QuorumSection = QuorumSection()
    history: HistorySection = HistorySection()
    delays: DelaysSection = DelaysSection()
    http: HttpSection = HttpSection()
    auth: AuthSection = AuthSection()
    backup: BackupSection = BackupSection()
    etcd: EtcdSection = EtcdSection()
    log: LogSection = LogSection()
    peers: PeersSection = PeersSection()

    @property
    def seeds(self) -> tuple[str, ...]:
        """Whom a node that is new to a running cluster asks to be let in, in either mode."""
        return self.raft.seeds if self.cluster.mode == "raft" else self.quorum.seeds

    def member(self, node_id: str) -> NodeSection:
        """The section of ``node_id``; raises ``ConfigError`` when there is none."""
        for node in self.node:
            if node.id == node_id:
                return node
        known = ", ".join(node.id for node in self.node)
        raise ConfigError(f"node: there is no node with id {node_id!r} (there are: {known})")


_SECTIONS: dict[str, type[msgspec.Struct]] = {
    "cluster": ClusterSection,
    "node": NodeSection,
    "raft": RaftSection,
    "quorum": QuorumSection,
    "history": HistorySection,
    "delays": DelaysSection,
    "http": HttpSection,
    "auth": AuthSection,
    "backup": BackupSection,
    "etcd": EtcdSection,
    "log": LogSection,
    "peers": PeersSection,
}


def is_node_id(text: str) -> bool:
    """May a node be called ``text``?"""
    return _NODE_ID.match(text) is not None


def parse_config(text: str | bytes) -> ClusterConfig:
    """The configuration in TOML ``text``; raises ``ConfigError`` with the key and the reason."""
    return config_of(read_document(text))


def read_document(text: str | bytes) -> dict[str, Any]:
    """What TOML ``text`` says, as bytes UTF-8 whatever the locale says; raises ``ConfigError``.

    A byte order mark, which some editors put first, is passed over.
    """
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise ConfigError(f"not UTF-8 text (line {line})") from None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not valid TOML: {error}") from None


def config_of(document: dict[str, Any]) -> ClusterConfig:
    """The configuration that ``document`` describes; raises ``ConfigError`` with the key and the reason."""
    try:
        config = msgspec.convert(document, ClusterConfig)
    except msgspec.ValidationError as error:
        message = readable(str(error))
        raise ConfigError(message + _hint(message)) from None
    _check_nodes(config)
    _check_timing(config)
    _check_preferred_leader(config)
    _check_seeds(config)
    _check_quorum(config)
    _check_tls(config)
    _check_auth(config)
    for fault in config.backup.faults({node.id for node in config.node}):
        raise ConfigError(fault)
    return config


def _hint(message: str) -> str:
    """What may have been meant, where a key is unknown or a word none of a few."""
    path, _, reason = message.partition(": ")
    section, _, key = path.rpartition(".")
    known = _SECTIONS.get(section.partition("[")[0], ClusterConfig)
    fields = {field.name: field.type for field in msgspec.structs.fields(known)}
    if reason == "unknown key":
        close = difflib.get_close_matches(key, fields, n=1)
        return f"; did you mean {close[0]}?" if close else f"; known are {', '.join(fields)}"
    words = [str(word) for word in get_args(fields.get(key)) if isinstance(word, str)]
    return f"; known are {', '.join(words)}" if words else ""


def _check_nodes(config: ClusterConfig) -> None:
    if not config.node:
        raise ConfigError("node: at least one [[node]] is needed")
    seen: dict[Address, str] = {}
    for position, node in enumerate(config.node):
        path = f"node[{position}]"
        if not is_node_id(node.id):
            raise ConfigError(f"{path}.id: {node.id!r} must be 1 to 63 letters, digits, '_', '.' or '-'")
        if node.id in {other.id for other in config.node[:position]}:
            raise ConfigError(f"{path}.id: {node.id!r} is used twice")
        _check_addresses(node, path, seen)
        if fault := config.etcd.fault(node.etcd, node.etcd_bind, mode=config.cluster.mode):
            raise ConfigError(f"{path}.{fault}")


def _check_addresses(node: NodeSection, path: str, seen: dict[Address, str]) -> None:
    """Of the node at ``path``; ``seen`` are the places of the nodes before it, and where they stand."""
    for key in ("http", "peer", "etcd", "http_bind", "peer_bind", "etcd_bind"):
        text = getattr(node, key)
        if not text and key not in ("http", "peer"):
            continue
        try:
            address = parse_address(text) if key.endswith("_bind") else _reachable(text, key)
        except ValueError as error:
            raise ConfigError(f"{path}.{key}: {error}") from None
        if key.endswith("_bind"):
            continue  # nodes on different machines may well bind the same address
        for place in address.places:
            if place in seen:
                raise ConfigError(f"{path}.{key}: address {address} is also {seen[place]}")
        seen.update(dict.fromkeys(address.places, f"{path}.{key}"))


def _reachable(text: str, key: str) -> Address:
    """The address in ``text``; raises ``ValueError`` unless others can be told it."""
    address = parse_address(text)
    if any(place.host in _ANYWHERE for place in address.places):
        raise ValueError(f"nobody can be reached at {address.host}; that belongs in {key}_bind")
    return address


def _check_timing(config: ClusterConfig) -> None:
    raft = config.raft
    if raft.election_timeout_s <= 3 * raft.heartbeat_s:
        raise ConfigError("raft.election_timeout_s: must be more than three times raft.heartbeat_s")
    if config.peers.silence_timeout_s < 2 * raft.election_timeout_s:
        raise ConfigError("peers.silence_timeout_s: must be at least twice raft.election_timeout_s")


def _check_preferred_leader(config: ClusterConfig) -> None:
    name = config.raft.preferred_leader
    if name and all(node.id != name for node in config.node):
        raise ConfigError(f"raft.preferred_leader: there is no [[node]] with the id {name!r}")


def _check_seeds(config: ClusterConfig) -> None:
    mode = config.cluster.mode
    for position, seed in enumerate(config.seeds):
        try:
            parse_address(seed)
        except ValueError as error:
            raise ConfigError(f"{mode}.seeds[{position}]: {error}") from None


def _check_quorum(config: ClusterConfig) -> None:
    if config.cluster.mode != "quorum":
        return
    quorum = config.quorum
    for key in ("r", "w"):
        if getattr(quorum, key) > quorum.n:
            raise ConfigError(f"quorum.{key}: {getattr(quorum, key)} is more than quorum.n, which is {quorum.n}")
    if not quorum.gossip_s < quorum.suspect_after_s < quorum.down_after_s:
        raise ConfigError("quorum.suspect_after_s: must lie between quorum.gossip_s and quorum.down_after_s")


def _check_tls(config: ClusterConfig) -> None:
    http, peers = config.http, config.peers
    if bool(http.tls_cert) != bool(http.tls_key):
        raise ConfigError("http.tls_cert: tls_cert and tls_key come together")
    if http.tls_ca and not http.tls_cert:
        raise ConfigError("http.tls_ca: of no use without tls_cert, since all nodes of a cluster speak https or none")
    if http.tls_client_ca and not http.tls_cert:
        raise ConfigError(
            "http.tls_client_ca: of no use without tls_cert, since only https has certificates of clients"
        )
    if len({bool(peers.tls_cert), bool(peers.tls_key), bool(peers.tls_ca)}) != 1:
        raise ConfigError("peers.tls_cert: tls_cert, tls_key and tls_ca come together")
    loopback = all(node.peer_address.is_loopback and node.peer_listen.is_loopback for node in config.node)
    if not loopback and not config.cluster.secret_file:
        raise ConfigError("cluster.secret_file: required, because a peer address is not loopback")


def _check_auth(config: ClusterConfig) -> None:
    auth = config.auth
    if auth.enabled and auth.open_to_anyone:
        raise ConfigError("auth.open_to_anyone: with auth.enabled only users are let in; write one of the two")
    if auth.root_password_file and not auth.enabled:
        raise ConfigError("auth.root_password_file: of no use without auth.enabled = true")
    if auth.enabled or auth.open_to_anyone:
        return
    for position, node in enumerate(config.node):
        for address in node.client_addresses:
            if not address.is_loopback:
                raise ConfigError(
                    f"auth.enabled: node[{position}] serves clients at {address}, which is not loopback: under [auth]"
                    " write enabled = true and root_password_file, or open_to_anyone = true if whoever reaches it may"
                    " read and write every key"
                )
