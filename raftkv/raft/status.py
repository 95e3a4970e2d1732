"""What a raft replica says of itself; looks at its parts and touches none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from raftkv.core.measures import Measured
from raftkv.core.requests import Consistency
from raftkv.core.status import PeerStatus, RaftStatus
from raftkv.raft.assembly import RaftParts, RaftWorld
from raftkv.raft.membership.amending import shown
from raftkv.raft.settings import ReplicaSettings
from raftkv.storage.log.log import Log

EXACT_MASK: Final = (1 << 52) - 1
"""Metrics are numbers of double precision: so many bits of a hash are told exactly."""

OFFERS: Final = (Consistency.LINEARIZABLE, Consistency.LEASE, Consistency.LOCAL, Consistency.EVENTUAL)


def status_of(settings: ReplicaSettings, parts: RaftParts, misfits: Mapping[str, str], world: RaftWorld) -> RaftStatus:
    """``misfits`` are the nodes that may not take part, with the reason."""
    now_s, wall_ms = world.clock(), world.wall_ms()
    core, handover, readmission = parts.core, parts.handover, parts.readmission
    machine, size = parts.applied.machine, parts.electorate.size
    leading, level_at_s = core.is_leader, parts.freshness.level_at_s
    # As follower: does the leader take writes, as it said last, and can their outcomes be learned here?
    forwards_writes = parts.following.leader_takes_writes and not parts.room.is_gone
    return RaftStatus(
        node=settings.node_id,
        mode="raft",
        role=core.role,
        leader=parts.following.leader(now_s),
        term=core.term,
        commit_index=core.commit_index,
        applied_index=core.applied_index,
        revision=machine.revision,
        last_index=core.last_index,
        voted_for=world.log.voted_for or "",
        entrusted_term=parts.transport.entrusted_term,
        peers=tuple(
            PeerStatus(
                id=peer,
                reachable=parts.transport.is_up(peer),
                match_index=core.match_index(peer) if leading else None,
                misfit=misfits.get(peer, ""),
                outstanding_bytes=world.link.outstanding_bytes(peer),
                clock_ahead_s=parts.agreed_time.ahead_s(peer, wall_ms, now_s) if leading else None,
            )
            for peer in parts.electorate.others
        ),
        offers=OFFERS,
        cluster_size=size,
        level_at_s=None if level_at_s == float("-inf") else level_at_s,
        can_write=handover.takes_writes if leading else forwards_writes,
        has_room=not parts.room.is_full,
        state_path=state_path(parts),
        n=size,
        r=machine.sizes[0],
        w=machine.sizes[1],
        misfit=misfits.get(settings.node_id, "") or readmission.reason,
        diverged=readmission.is_stopped,
        members=shown(parts.configurations.newest),
        configuration_index=parts.configurations.newest_index,
        measures=Measured(parts.measures.durations, _numbers(parts, world.log)),
    )


def _numbers(parts: RaftParts, log: Log) -> dict[str, float]:
    machine, measures = parts.applied.machine, parts.measures
    return {
        "leader_changes_total": measures.leader_changes_count,
        "proposals_pending": parts.proposals.waiting_count,
        "proposals_failed_total": measures.failed_writes_count,
        "log_bytes": log.size_bytes,
        "log_entries": len(log),
        "snapshot_index": parts.transfers.newest_index,
        "disk_free_bytes": parts.room.free_bytes,
        "disk_reserve_bytes": parts.room.reserve_bytes,
        "state_hash": machine.state_hash & EXACT_MASK,
    }


def state_path(parts: RaftParts) -> str:
    """Where the front-end may read the applied state itself: nowhere, when reads are to be delayed or refused."""
    is_held_back = parts.delays.read_s or parts.readmission.is_stopped
    return "" if is_held_back else str(parts.applied.state.directory)
