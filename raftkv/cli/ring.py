"""The table of a leaderless cluster: what the nodes say of themselves and of each other, put together. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from raftkv.cli.tables import Row

COLUMNS: Final = ("node", "state", "share", "owed", "keeps", "moving", "repaired", "peers", "address")
"""``owed``: writes that others keep for the node; ``keeps``: those it keeps for others."""

NO_MEMBER: Final = "no member"

_WORST: Final = ("down", "suspect", "leaving", "joining", "up")
_STYLES: Final = {"up": "green", "joining": "yellow", "leaving": "yellow", "suspect": "yellow", "down": "red"}


def table(nodes: Sequence[dict[str, Any]]) -> list[Row]:
    """One row for each node that answered or that another one knows of."""
    answered = {node["node"]: node for node in nodes if "ring" in node}
    addresses = {str(node.get("node") or node["server"]): node["server"] for node in nodes}
    members: dict[str, list[dict[str, Any]]] = {}
    for node in answered.values():
        for member in node["members"]:
            if member["state"] != "left":
                members.setdefault(member["id"], []).append(member)
    names = sorted(members.keys() | addresses.keys())
    return [_row(name, answered.get(name), members.get(name, []), addresses) for name in names]


def summary(nodes: Sequence[dict[str, Any]]) -> str:
    """The cluster in one line: its sizes, and whether its nodes agree about the ring."""
    answered = [node for node in nodes if "ring" in node]
    rings = {node["ring"] for node in answered}
    sizes = {(node["n"], node["r"], node["w"]) for node in answered}
    told = " or ".join(f"n={n} r={r} w={w}" for n, r, w in sorted(sizes))
    agreed = f"ring {rings.pop()}" if len(rings) == 1 else f"{len(rings)} different views of the ring, still spreading"
    return f"{told}, {agreed}, conflicts: {answered[0]['conflicts']}"


def _row(name: str, own: dict[str, Any] | None, views: Sequence[dict[str, Any]], addresses: dict[str, str]) -> Row:
    state = _state(name, own, views)
    owed = sum(view["hints"] for view in views)
    share = max((view["share"] for view in views), default=0.0)
    address = addresses.get(name) or (views[0]["http"] if views else "-")
    if own is None:
        shown = "?" if "://" in name else name  # asked by its address, and nobody knows who that is
        told = "no answer" if state == "up" else f"{state}, no answer"  # the others may not have noticed yet
        cells = (shown, told, f"{share:.1%}", str(owed), "-", "-", "-", "-", address)
        return cells, "red"
    peers = own["peers"]
    reached = sum(1 for peer in peers if peer.get("reachable"))
    cells = (
        name,
        state,
        f"{share:.1%}",
        str(owed),
        str(own["hints_pending"]),
        _moving(own["transfer"]),
        str(own["repaired_keys"]),
        f"{reached} of {len(peers)}",
        address,
    )
    return cells, _STYLES.get(state, "")


def _state(name: str, own: dict[str, Any] | None, views: Sequence[dict[str, Any]]) -> str:
    """A node that answers knows best what it is; of one that does not, the worst that anybody thinks is shown.

    Whom nobody counts has left, or was never there.
    """
    if own is not None:
        return next((str(member["state"]) for member in own["members"] if member["id"] == name), NO_MEMBER)
    return min((str(view["state"]) for view in views), key=_WORST.index, default=NO_MEMBER)


def _moving(transfer: dict[str, Any] | None) -> str:
    if transfer is None:
        return "-"
    return f"{transfer['ranges_done']} of {transfer['ranges']} ranges, {transfer['bytes'] / (1 << 20):.1f} MiB"
