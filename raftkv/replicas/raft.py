"""Builds a replica of raft mode."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from raftkv import __version__
from raftkv.core.config import ClusterConfig
from raftkv.core.sights import SightsShower
from raftkv.experiment import Surroundings
from raftkv.formats.configurations import ConfiguredMember
from raftkv.formats.identity import Standing
from raftkv.joining import check_not_removed
from raftkv.peers.greeting import Greeter
from raftkv.peers.link import PeerLink
from raftkv.raft.assembly import RaftWorld
from raftkv.raft.engine import internals
from raftkv.raft.replica import RaftReplica
from raftkv.raft.room import spared_by_upkeep
from raftkv.raft.settings import ReplicaSettings
from raftkv.raft.snapshots.recovery import discard_data, recover_log, recover_state
from raftkv.raft.standing.readmission import discarded, memory_of, with_memory
from raftkv.replicas.reach import Reach, largest_command_bytes, refuse_without
from raftkv.storage.disk import RealDisk
from raftkv.storage.identity import IdentityFile, founders_in
from raftkv.storage.log.log import Log
from raftkv.storage.snapshots.files import SnapshotFiles


def raft_settings(config: ClusterConfig, node_id: str, founders: Collection[str]) -> ReplicaSettings:
    """What the configuration means for one raft replica of a cluster that ``founders`` began."""
    known = {node.id: ConfiguredMember(node.id, node.http, node.peer, node.zone) for node in config.node}
    return ReplicaSettings(
        history=config.history,
        **msgspec.structs.asdict(config.raft),
        node_id=node_id,
        members=tuple([known.get(name, ConfiguredMember(name)) for name in sorted(founders)]),
        window_bytes=config.peers.window_bytes,
        largest_command_bytes=largest_command_bytes(config),
        max_waiting=config.http.max_pending,
        delays=config.delays,
        export=("raftkv.storage.backups.export",),
        export_arguments=(config.cluster.name, node_id, __version__),
    )


def raft_replica(  # noqa: PLR0917
    config: ClusterConfig,
    node_id: str,
    home: Path,
    link: PeerLink,
    greeter: Greeter,
    identity: IdentityFile,
    surroundings: Surroundings,
    *,
    show_sights: SightsShower,
) -> RaftReplica:
    """The replica of ``node_id``, over what is below ``home``. Raises ``StartupError``."""
    internals.use_sources(surroundings.monotonic_s, random.Random())  # noqa: S311  jitter, not secrets
    disk = RealDisk()
    if identity.identity.standing is Standing.MEMBER:
        refuse_without(home / "log")
    if identity.identity.standing is Standing.DISCARDING:
        discard_data(home)
        identity.save(discarded(identity.identity))
    log = Log.open(disk, home / "log", segment_bytes=config.raft.segment_bytes)
    snapshots = SnapshotFiles(home / "snapshots", spared_bytes=spared_by_upkeep(config.raft.disk_reserve_bytes))
    recover_log(log, snapshots.newest)
    state = recover_state(home / "state", log, snapshots)
    reach, loop = Reach(link, greeter), asyncio.get_running_loop()

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
        show_sights=show_sights,
    )
    return RaftReplica(
        raft_settings(config, node_id, founders_in(identity.identity)),
        world,
        misfits=greeter.misfits,
        memory=memory_of(identity.identity, log.term),
        save=lambda memory: identity.save(with_memory(identity.identity, memory)),
    )


def check_belongs(config: ClusterConfig, node_id: str, replica: RaftReplica) -> None:
    """Nobody links to a node that was removed, so it would not hear of it: one that held anything asks."""
    configurations = replica.parts.configurations
    others = [member.http for member in configurations.newest.members if member.id != node_id and member.http]
    if others and not replica.is_blank:
        check_not_removed(config.member(node_id), others, configurations.newest_index, config.http, config.cluster)
