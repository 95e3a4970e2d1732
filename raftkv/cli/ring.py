"""The table of a leaderless cluster: what the nodes say of themselves and of each other, put together. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from raftkv.api.cluster_answers import Member, Moving, NodeStatus
from raftkv.cli.survey import Surveyed
from raftkv.cli.tables import Row

COLUMNS: Final = ("node", "state", "share", "owed", "keeps", "moving", "repaired", "peers", "address")
"""``owed``: writes that others keep for the node; ``keeps``: those it keeps for others."""

NO_MEMBER: Final = "no member"

_WORST: Final = ("down", "suspect", "leaving", "joining", "up")
_STYLES: Final = {"up": "green", "joining": "yellow", "leaving": "yellow", "suspect": "yellow", "down": "red"}


def table(nodes: Sequence[Surveyed]) -> list[Row]:
    """One row for each node that answered or that another one knows of."""
    answered = {node.node: node.status for node in nodes if node.status is not None and node.status.ring}
    addresses = {node.name: node.server.partition("://")[2] for node in nodes}
    views: dict[str, list[Member]] = {}
    for status in answered.values():
        for member in status.members or ():
            if member.state != "left":
                views.setdefault(member.id, []).append(member)
    names = sorted(views.keys() | addresses.keys())
    return [_row(name, answered.get(name), views.get(name, []), addresses) for name in names]


def summary(answered: Sequence[NodeStatus]) -> str:
    """The cluster in one line: its sizes, and whether its nodes agree about the ring."""
    in_ring = [status for status in answered if status.ring]
    rings = {status.ring for status in in_ring}
    sizes = {(status.n, status.r, status.w) for status in in_ring}
    told = " or ".join(f"n={n} r={r} w={w}" for n, r, w in sorted(sizes))
    agreed = f"ring {rings.pop()}" if len(rings) == 1 else f"{len(rings)} different views of the ring, still spreading"
    return f"{told}, {agreed}, conflicts: {in_ring[0].conflicts}"


def _row(name: str, own: NodeStatus | None, views: Sequence[Member], addresses: dict[str, str]) -> Row:
    state = _state(name, own, views)
    owed = str(sum(view.hints or 0 for view in views))
    share = f"{max((view.share or 0.0 for view in views), default=0.0):.1%}"
    address = addresses.get(name) or (views[0].http if views else "-")
    if own is None:
        shown = "?" if "://" in name else name  # asked by its address, and nobody knows who that is
        told = "no answer" if state == "up" else f"{state}, no answer"  # the others may not have noticed yet
        return (shown, told, share, owed, "-", "-", "-", "-", address), "red"
    reached = f"{sum(peer.reachable for peer in own.peers)} of {len(own.peers)}"
    keeps, repaired = str(own.hints_pending or 0), str(own.repaired_keys or 0)
    return (name, state, share, owed, keeps, _moving(own.transfer), repaired, reached, address), _STYLES.get(state, "")


def _state(name: str, own: NodeStatus | None, views: Sequence[Member]) -> str:
    """A node that answers knows best what it is; of one that does not, the worst that anybody thinks is shown.

    Whom nobody counts has left, or was never there.
    """
    if own is not None:
        return next((member.state or "?" for member in own.members or () if member.id == name), NO_MEMBER)
    return min((view.state or "?" for view in views), key=_badness, default=NO_MEMBER)


def _badness(state: str) -> int:
    return _WORST.index(state) if state in _WORST else len(_WORST)


def _moving(transfer: Moving | msgspec.UnsetType | None) -> str:
    return (
        f"{transfer.ranges_done} of {transfer.ranges} ranges, {transfer.bytes / (1 << 20):.1f} MiB" if transfer else "-"
    )
