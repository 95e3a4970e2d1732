"""What a replica of the leaderless mode says of itself; looks at its parts and touches none."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from raftkv.core.measures import DurationCounts, Measured
from raftkv.core.status import QuorumStatus
from raftkv.quorum.assembly import QuorumParts
from raftkv.quorum.settings import OFFERS, QuorumSettings


def status_of(
    settings: QuorumSettings,
    parts: QuorumParts,
    misfits: Mapping[str, str],
    *,
    hints_pending: int,
    changes_path: str,
    now_s: float,
    outstanding_bytes: Callable[[str], int],
    durations: Mapping[str, DurationCounts],
) -> QuorumStatus:
    """``misfits`` are the nodes that may not take part, with the reason; ``outstanding_bytes`` is the link's."""
    n, r, w = parts.members.sizes
    numbers = {
        "operations_running": parts.coordination.size,
        "disk_free_bytes": parts.upkeep.free_bytes,
        "disk_reserve_bytes": settings.disk_reserve_bytes,
    }
    peers = [
        msgspec.structs.replace(
            peer, outstanding_bytes=outstanding_bytes(peer.id), clock_ahead_s=parts.time.ahead_s(peer.id)
        )
        for peer in parts.members.peers(misfits)
    ]
    return QuorumStatus(
        node=settings.node_id,
        mode="quorum",
        role="replica",
        leader=None,
        revision=parts.stamps.last,
        peers=tuple(peers),
        offers=OFFERS,
        cluster_size=len(parts.placement.nodes),
        can_read=parts.members.can_read,
        can_write=not parts.upkeep.is_full,
        has_room=not parts.upkeep.is_full,
        changes_path=changes_path,
        n=n,
        r=r,
        w=w,
        ring=parts.placement.view,
        vnodes=settings.vnodes,
        conflicts=settings.conflicts,
        hints_pending=hints_pending,
        members=parts.members.statuses(now_s),
        transfer=parts.anti_entropy.transfer,
        speculative_reads=parts.speculation.asked_count,
        repaired_keys=parts.anti_entropy.repaired_count + parts.serving.repaired_count,
        short_share=parts.placement.short_share(n, r, w, sloppy=settings.sloppy),
        misfit=misfits.get(settings.node_id, ""),
        clock_fault=parts.timeliness.fault,
        rights_fault=parts.rights.fault,
        measures=Measured(durations, numbers),
    )
