"""Builds the replica that a configuration asks for, with its link to the peers: the one place where the mode is chosen.

Everything real is put in here: disks, sockets, clocks. Whatever comes out is driven in the same way, whichever mode.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final, Protocol

import msgspec

from raftkv import __version__
from raftkv.core.certificates import serving_clients
from raftkv.core.config import Address, ClusterConfig, parse_address
from raftkv.core.errors import StartupError
from raftkv.core.rules import rules_of
from raftkv.core.secret import read_key
from raftkv.experiment import Surroundings
from raftkv.formats import entries
from raftkv.formats.configurations import ConfiguredMember
from raftkv.formats.gossip import MemberEntry
from raftkv.formats.identity import Standing
from raftkv.formats.rows import TABLES
from raftkv.frontend.server import OpenReplicator
from raftkv.joining import check_not_removed, check_still_member, join
from raftkv.peers.greeting import Greeter
from raftkv.peers.link import LinkEvents, PeerLink
from raftkv.peers.tls import peer_tls
from raftkv.process.loggers import get_logger
from raftkv.quorum.assembly import QuorumWorld
from raftkv.quorum.data.store import Store
from raftkv.quorum.data.versions import CONFLICTS
from raftkv.quorum.membership.gossip import is_awaited, readdressed
from raftkv.quorum.membership.members import remembered_members
from raftkv.quorum.replica import QuorumReplica
from raftkv.quorum.settings import QuorumSettings
from raftkv.raft.assembly import RaftWorld
from raftkv.raft.engine import internals
from raftkv.raft.replica import RaftReplica
from raftkv.raft.settings import ReplicaSettings
from raftkv.raft.snapshots.recovery import discard_data, recover_log, recover_state
from raftkv.raft.standing.readmission import discarded, memory_of, with_memory
from raftkv.storage.disk import RealDisk, translated
from raftkv.storage.engines.rocks import RocksEngine
from raftkv.storage.identity import IdentityFile, begin_life, exists, founders_in
from raftkv.storage.log.log import Log
from raftkv.storage.snapshots.files import SnapshotFiles

log_line = get_logger("raftkv.replicas")


class DrivenReplica(OpenReplicator, Protocol):
    """A replica as its process drives it: a turn has two halves, with a chance to send in between.

    If ``sent_ahead`` after ``begin_work``, the loop lets sockets be written before ``finish_work`` waits for the disk.
    """

    sent_ahead: bool

    @property
    def conversation(self) -> LinkEvents:
        """Takes the link's events."""

    def begin_work(self, now_s: float) -> None:
        """The first half of ``work``."""

    def finish_work(self, now_s: float) -> float:
        """The second half."""

    def make_way(self, now_s: float) -> bool:
        """Before the end, again and again until it is true: has this node nothing to do that another could take over?

        It works on meanwhile. Whatever becomes of it, it is true within an election timeout or so.
        """

    def position(self) -> tuple[str, str | None, int, str]:
        """Role, leader, term and place of the applied state: what the front-end must hear of at once."""


class Built(msgspec.Struct, frozen=True):
    """A replica, its link, which is not started yet, and who takes the link's events for it."""

    replica: DrivenReplica
    link: PeerLink
    events: LinkEvents


def build(config: ClusterConfig, node_id: str, home: Path, *, events: LinkEvents, surroundings: Surroundings) -> Built:
    """The replica of ``node_id``. ``events`` are told of the link's, and pass them on. Raises ``StartupError``."""
    rules = rules_of(config)
    link = _link(config, node_id, events, surroundings)
    is_joining = config.cluster.mode == "raft" and bool(config.raft.seeds) and not exists(home)
    if is_joining:
        _let_in(config, node_id, link)
    is_alone = len(config.node) == 1 and not is_joining
    identity = begin_life(home, node_id, rules, os.urandom, is_alone=is_alone, is_joining=is_joining)
    greeter = Greeter(identity, rules.all, link=link, clock=surroundings.monotonic_s, reads=entries.NEWEST)
    if config.cluster.mode == "quorum":
        if identity.identity.others:
            _refuse_without(home / "store")
        leaderless = _quorum(config, node_id, home, link, greeter, surroundings)
        greeter.attach(leaderless.conversation)
        return Built(leaderless, link, greeter)
    if config.raft.seeds and not is_joining and identity.identity.standing is Standing.JOINING:
        _let_in(config, node_id, link)  # again: it has not heard from the others yet, and they may have moved
    replica = _raft(config, node_id, home, link, greeter, identity, surroundings)
    _check_belongs(config, node_id, replica)
    greeter.attach(replica.conversation, replica)
    return Built(replica, link, greeter)


def _largest_command_bytes(config: ClusterConfig) -> int:
    # A batch may carry several values; an entry this large still travels in one message.
    return max(4 << 20, 2 * config.http.max_value_bytes + (1 << 20))


BESIDE_A_ROW_BYTES: Final = 3 << 20
"""What else is in a frame that carries a row of a leaderless store: a page of others, keys, and who wrote what."""


def _frame_limit_bytes(config: ClusterConfig) -> int:
    return 3 * _largest_command_bytes(config) + (1 << 20)


def _link(config: ClusterConfig, node_id: str, events: LinkEvents, surroundings: Surroundings) -> PeerLink:
    peers = config.peers
    return PeerLink(
        cluster=config.cluster.name,
        node_id=node_id,
        secret=read_key(config.cluster.secret_path, config.cluster.name),
        listen=config.member(node_id).peer_listen,
        members={node.id: node.peer_address for node in config.node},
        events=events,
        silence_timeout_s=peers.silence_timeout_s,
        frame_limit_bytes=_frame_limit_bytes(config),
        tls=peer_tls(peers.tls_cert, peers.tls_key, peers.tls_ca) if peers.tls_cert else None,
        random=random.Random(),  # noqa: S311  jitter, not secrets
        faults=surroundings.faults,
    )


def renew_certificates(config: ClusterConfig, link: PeerLink) -> bool:
    """Let ``link`` show what the files hold now; is there any certificate? The front-end renews its own by itself.

    Raises ``StartupError`` and changes nothing if any of the files will not do, those of the front-end among them.
    """
    http, peers = config.http, config.peers
    if http.tls_cert:
        serving_clients(http.tls_cert, http.tls_key, http.tls_client_ca)
    if peers.tls_cert:
        link.renew_tls(peer_tls(peers.tls_cert, peers.tls_key, peers.tls_ca))
    return bool(http.tls_cert or peers.tls_cert)


# -- raft -------------------------------------------------------------------------------------------------------------


def _let_in(config: ClusterConfig, node_id: str, link: PeerLink) -> None:
    """Ask the seeds to be let in; the members that they tell of are those to be linked to."""
    members = join(config.member(node_id), config.raft.seeds, config.http, config.cluster)
    link.set_members({member.id: parse_address(member.peer) for member in members})


def _check_belongs(config: ClusterConfig, node_id: str, replica: RaftReplica) -> None:
    """Nobody links to a node that was removed, so it would not hear of it: one that held anything asks."""
    configurations = replica.parts.configurations
    others = [member.http for member in configurations.newest.members if member.id != node_id and member.http]
    if others and not replica.is_blank:
        check_not_removed(config.member(node_id), others, configurations.newest_index, config.http, config.cluster)


def raft_settings(config: ClusterConfig, node_id: str, founders: Collection[str]) -> ReplicaSettings:
    """What the configuration means for one raft replica of a cluster that ``founders`` began."""
    known = {node.id: ConfiguredMember(node.id, node.http, node.peer, node.zone) for node in config.node}
    return ReplicaSettings(
        history=config.history,
        **msgspec.structs.asdict(config.raft),
        node_id=node_id,
        members=tuple([known.get(name, ConfiguredMember(name)) for name in sorted(founders)]),
        window_bytes=config.peers.window_bytes,
        largest_command_bytes=_largest_command_bytes(config),
        max_waiting=config.http.max_pending,
        delays=config.delays,
        export=("raftkv.storage.backups.export",),
        export_arguments=(config.cluster.name, node_id, __version__),
    )


def _raft(  # noqa: PLR0917
    config: ClusterConfig,
    node_id: str,
    home: Path,
    link: PeerLink,
    greeter: Greeter,
    identity: IdentityFile,
    surroundings: Surroundings,
) -> RaftReplica:
    internals.use_sources(surroundings.monotonic_s, random.Random())  # noqa: S311  jitter, not secrets
    disk = RealDisk()
    if identity.identity.standing is Standing.MEMBER:
        _refuse_without(home / "log")
    if identity.identity.standing is Standing.DISCARDING:
        discard_data(home)
        identity.save(discarded(identity.identity))
    log = Log.open(disk, home / "log", segment_bytes=config.raft.segment_bytes)
    snapshots = SnapshotFiles(home / "snapshots")
    recover_log(log, snapshots.newest)
    state = recover_state(home / "state", log, snapshots)
    reach, loop = _Reach(link, greeter), asyncio.get_running_loop()

    def later(addresses: Mapping[str, str]) -> None:
        """The engine is at work while it tells this, and a link that closes is told to it."""
        loop.call_soon(reach.set_members, addresses)

    world = RaftWorld(
        log=log,
        state=state,
        snapshots=snapshots,
        link=greeter,
        clock=surroundings.monotonic_s,
        wall_ms=surroundings.wall_ms,
        free_bytes=lambda: surroundings.free_bytes(disk.free_bytes(home)),
        random=random.SystemRandom(),
        reads=greeter.reads,
        disk_of=lambda peer: identity.identity.disk if peer == node_id else greeter.disk(peer),
        reach=later,
    )
    return RaftReplica(
        raft_settings(config, node_id, founders_in(identity.identity)),
        world,
        misfits=greeter.misfits,
        memory=memory_of(identity.identity, log.term),
        save=lambda memory: identity.save(with_memory(identity.identity, memory)),
    )


def _refuse_without(path: Path) -> None:
    """A member has had this since before it counted; without it nobody knows what it acknowledged, or its votes."""
    with translated(path):
        is_there = path.is_dir() and any(path.iterdir())
    if not is_there:
        raise StartupError(
            f"{path}: missing or empty, though this node was a member; nothing else says what it has promised: put it"
            f" back, or move {path.parent} away and let the node start with an empty one"
        )


# -- quorum -----------------------------------------------------------------------------------------------------------


def quorum_settings(config: ClusterConfig, node_id: str) -> QuorumSettings:
    """What the configuration means for one replica of a leaderless cluster."""
    return QuorumSettings(
        **msgspec.structs.asdict(config.quorum),
        node_id=node_id,
        window_bytes=config.peers.window_bytes,
        max_waiting=config.http.max_pending,
        delays=config.delays,
        export=("raftkv.quorum.data.export",),
        export_arguments=(config.cluster.name, node_id, __version__, config.quorum.conflicts),
    )


class _Reach:
    """The link as the replica sees it: addresses are text, as gossip carries them."""

    def __init__(self, link: PeerLink, greeter: Greeter) -> None:
        self._link = link
        self.send = greeter.send
        self.flush = greeter.flush
        self.outstanding_bytes = greeter.outstanding_bytes
        self.close_peer = greeter.close_peer

    def set_members(self, addresses: Mapping[str, str]) -> None:
        """See ``QuorumLink``."""
        members: dict[str, Address] = {}
        for node, address in addresses.items():
            try:
                members[node] = parse_address(address)
            except ValueError as error:
                # It came by gossip, or by the log, and must not keep this node from the others.
                log_line.warning("member without an address", member=node, reason=str(error))
        self._link.set_members(members)


def _quorum(  # noqa: PLR0917
    config: ClusterConfig, node_id: str, home: Path, link: PeerLink, greeter: Greeter, surroundings: Surroundings
) -> QuorumReplica:
    disk = RealDisk()
    conflicts = CONFLICTS[config.quorum.conflicts]
    engine = RocksEngine(home / "store", TABLES)
    store = Store(
        engine,
        conflicts,
        max_siblings=config.quorum.max_siblings,
        max_row_bytes=_frame_limit_bytes(config) - BESIDE_A_ROW_BYTES,
    )
    entries = {node.id: MemberEntry(node.id, node.http, node.peer, node.zone) for node in config.node}
    remembered = remembered_members(store)
    is_let_in = remembered is not None and not is_awaited(remembered, node_id)
    if remembered is not None and (is_let_in or not config.quorum.seeds):
        check_still_member(config.member(node_id), readdressed(remembered.entries, entries.values()), config.http)
    elif config.quorum.seeds:
        members = join(config.member(node_id), config.quorum.seeds, config.http, config.cluster)
        entries = {entry.id: entry for entry in members}
    own = msgspec.structs.replace(entries[node_id], generation=surroundings.wall_ms())
    world = QuorumWorld(
        store=store,
        link=_Reach(link, greeter),
        clock=surroundings.monotonic_s,
        wall_us=lambda: surroundings.wall_ms() * 1000,
        free_bytes=lambda: surroundings.free_bytes(disk.free_bytes(home)),
        random=random.SystemRandom(),
        reads=greeter.reads,
        store_path=str(home / "store"),
    )
    return QuorumReplica(quorum_settings(config, node_id), own, entries.values(), world, misfits=greeter.misfits)
