"""Builds a replica of quorum mode."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import msgspec

from raftkv import __version__
from raftkv.core.config import ClusterConfig
from raftkv.core.sights import SightsShower
from raftkv.experiment import Surroundings
from raftkv.formats.gossip import MemberEntry
from raftkv.formats.rows import TABLES
from raftkv.joining import check_still_member, join
from raftkv.peers.greeting import Greeter
from raftkv.peers.link import PeerLink
from raftkv.quorum.assembly import QuorumWorld
from raftkv.quorum.data.store import Store
from raftkv.quorum.data.versions import CONFLICTS
from raftkv.quorum.membership.gossip import is_awaited, readdressed
from raftkv.quorum.membership.members import remembered_members
from raftkv.quorum.replica import QuorumReplica
from raftkv.quorum.settings import QuorumSettings
from raftkv.replicas.reach import BESIDE_A_ROW_BYTES, Reach, frame_limit_bytes
from raftkv.storage.change_counts import ChangeCounts
from raftkv.storage.disk import RealDisk
from raftkv.storage.engines.rocks import RocksEngine


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


def quorum_replica(  # noqa: PLR0917
    config: ClusterConfig,
    node_id: str,
    home: Path,
    link: PeerLink,
    greeter: Greeter,
    surroundings: Surroundings,
    *,
    show_sights: SightsShower,
) -> QuorumReplica:
    """The replica of ``node_id``, over what is below ``home``. Raises ``StartupError``."""
    disk = RealDisk()
    conflicts = CONFLICTS[config.quorum.conflicts]
    engine = RocksEngine(home / "store", TABLES)
    store = Store(
        engine,
        conflicts,
        max_siblings=config.quorum.max_siblings,
        max_row_bytes=frame_limit_bytes(config) - BESIDE_A_ROW_BYTES,
        counts=_change_counts(),
    )
    entries = {node.id: MemberEntry(node.id, node.http, node.peer, node.zone) for node in config.node}
    remembered = remembered_members(store)
    islet_in = remembered is not None and not is_awaited(remembered, node_id)
    if remembered is not None and (islet_in or not config.quorum.seeds):
        check_still_member(config.member(node_id), readdressed(remembered.entries, entries.values()), config.http)
    elif config.quorum.seeds:
        members = join(config.member(node_id), config.quorum.seeds, config.http, config.cluster)
        entries = {entry.id: entry for entry in members}
    own = msgspec.structs.replace(entries[node_id], generation=surroundings.wall_ms())
    world = QuorumWorld(
        store=store,
        link=Reach(link, greeter),
        clock=surroundings.monotonic_s,
        wall_us=lambda: surroundings.wall_ms() * 1000,
        free_bytes=lambda: surroundings.free_bytes(disk.free_bytes(home)),
        random=random.SystemRandom(),
        reads=greeter.reads,
        speaks=greeter.speaks,
        show_sights=show_sights,
        store_path=str(home / "store"),
    )
    return QuorumReplica(quorum_settings(config, node_id), own, entries.values(), world, misfits=greeter.misfits)


def _change_counts() -> ChangeCounts | None:
    """Without them front-ends remember nothing, and ask."""
    with contextlib.suppress(OSError):
        return ChangeCounts()
    return None
