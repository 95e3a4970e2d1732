"""What the nodes say of their cluster, and in which order they are asked for a key. Pure: values in, values out.

With a ring, a key's primaries come first, then the others in the ring's order (Dynamo, section 4.6). With a leader,
writes go to it first, and reads to every node in turn. Whoever was out of reach lately comes last.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from raftkv.api.cluster_answers import MemberList
from raftkv.core.config import Address, parse_address
from raftkv.quorum.membership.ring import Ring, position

_AWAY: Final = frozenset({"suspect", "down"})
BELIEVED: Final = frozenset({"up", "voter", ""})
"""Only who is in, and not about to leave, says who the others are."""

_ON_THEIR_WAY: Final = frozenset({"joining", "learner", "left"})
"""They may have next to nothing of the data."""


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A member and where it serves clients; ``state`` is what other members think of it, empty where nobody says."""

    id: str
    http: Address
    state: str = ""


class ClusterView(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster as one of its nodes told it.

    ``ring`` is computed here; ``ring_told`` is the digest of the nodes' own, which during a change of members is
    followed by those of the rings to come.
    """

    nodes: tuple[Node, ...]
    leader: str | None = None
    ring: Ring | None = None
    ring_told: str = ""
    n: int = 1

    @property
    def is_agreed(self) -> bool:
        """Do the nodes place keys on the very ring that is known here?"""
        return self.ring is not None and self.ring_told.partition("+")[0] == self.ring.digest


def unknown(seeds: Sequence[Address]) -> ClusterView:
    """What is known before any node has answered."""
    return ClusterView(nodes=tuple([Node(id=str(seed), http=seed) for seed in seeds]))


def read_view(body: bytes) -> ClusterView:
    """The view in an answer to ``GET /cluster/members``; raises ``ValueError`` when it is none."""
    try:
        told = msgspec.json.decode(body, type=MemberList)
    except msgspec.DecodeError as error:
        raise ValueError(f"its members: {error}") from None
    members = [member for member in told.members if member.state not in _ON_THEIR_WAY]
    if not members:
        raise ValueError("a cluster without members")
    nodes = tuple([Node(id=one.id, http=parse_address(one.http), state=one.state or "") for one in members])
    # Whoever is the first replica of some keys is on the ring that reads ask.
    placed = tuple(sorted((one.id, one.zone or "") for one in members if one.share))
    ring = _ring(placed, told.vnodes) if placed and told.vnodes else None
    return ClusterView(nodes=nodes, leader=told.leader, ring=ring, ring_told=told.ring or "", n=max(1, told.n or 1))


@lru_cache(maxsize=4)
def _ring(placed: tuple[tuple[str, str], ...], vnodes: int) -> Ring:
    return Ring(dict(placed), vnodes)


def order(
    view: ClusterView, key: bytes | None, *, is_read: bool, turn: int, avoided: Collection[str]
) -> tuple[Node, ...]:
    """Every node, the best placed first; ``turn`` spreads what any node can do, ``avoided`` names who comes last."""
    start = turn % len(view.nodes)
    nodes = view.nodes[start:] + view.nodes[:start]
    first: tuple[str, ...] = ()
    if view.ring is not None and key is not None:
        first = view.ring.preference(position(key), view.n)
    elif view.leader is not None and not is_read:
        first = (view.leader,)
    rank = {node_id: place for place, node_id in enumerate(first)}
    return tuple(
        sorted(nodes, key=lambda node: (node.id in avoided or node.state in _AWAY, rank.get(node.id, len(rank))))
    )
