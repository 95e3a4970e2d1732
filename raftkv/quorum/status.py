"""What a replica of the leaderless mode says of itself; looks at its parts and touches none."""

from __future__ import annotations

from collections.abc import Mapping

from raftkv.core.results import QuorumStatus
from raftkv.quorum.assembly import QuorumParts
from raftkv.quorum.settings import OFFERS, QuorumSettings


def status_of(
    settings: QuorumSettings, parts: QuorumParts, misfits: Mapping[str, str], *, hints_pending: int, now_s: float
) -> QuorumStatus:
    """``misfits`` are the nodes that may not take part, with the reason."""
    n, r, w = parts.members.sizes
    return QuorumStatus(
        node=settings.node_id,
        mode="quorum",
        role="replica",
        leader=None,
        revision=parts.stamps.last,
        peers=parts.members.peers(misfits),
        offers=OFFERS,
        cluster_size=len(parts.placement.nodes),
        can_read=parts.members.can_read,
        can_write=not parts.upkeep.is_full,
        has_room=not parts.upkeep.is_full,
        n=n,
        r=r,
        w=w,
        ring=parts.placement.view,
        vnodes=settings.vnodes,
        conflicts=settings.conflicts,
        hints_pending=hints_pending,
        members=parts.members.statuses(now_s),
        transfer=parts.anti_entropy.transfer,
        repaired_keys=parts.anti_entropy.repaired_count + parts.serving.repaired_count,
        short_share=parts.placement.short_share(n, r, w, sloppy=settings.sloppy),
        misfit=misfits.get(settings.node_id, ""),
        clock_fault=parts.timeliness.fault,
    )
