"""The ring: where on a circle of 64-bit positions keys and nodes lie, and which nodes hold which keys. Pure.

Consistent hashing with virtual nodes (Karger et al. 1997; Dynamo, section 4.2): every node has ``vnodes`` tokens on the
circle, a key belongs to the first N distinct nodes met clockwise from its position. Everything here is a function of
the node ids, their zones and ``vnodes``, and comes out the same on every machine.

Imports the standard library and ``formats`` only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from functools import cached_property
from hashlib import blake2b
from itertools import pairwise
from typing import Final, NamedTuple

from raftkv.formats.fingerprint import fingerprint
from raftkv.formats.rows import POSITION_BYTES

POSITIONS: Final = 1 << 8 * POSITION_BYTES
FALLBACKS_COUNT: Final = 8
"""How many nodes after the primaries may stand in for them; more being unreachable at once is not survived."""

TABLES_LIMIT: Final = 8
"""For so many different N preference lists are kept; a cluster has one, requests may name others."""


def position(key: bytes) -> int:
    """Where ``key`` lies: 0 to 2**64 - 1."""
    return int.from_bytes(fingerprint(key), "big")


def turn_of(key: bytes) -> float:
    """Where ``key`` lies, from 0 to 1 round the ring."""
    return position(key) / POSITIONS


class Range(NamedTuple):
    """The positions ``start`` <= p <= ``last``; none wraps around."""

    start: int
    last: int


class Ring:
    """The nodes of a cluster on the circle; immutable.

    A key at a token belongs to that token's node, a key between two tokens to the node of the second.
    """

    def __init__(self, nodes: Mapping[str, str], vnodes: int) -> None:
        """``nodes``: ids and zones (empty when zones do not matter); raises ``ValueError`` when there is none."""
        if not nodes:
            raise ValueError("a ring has at least one node")
        self.nodes = dict(sorted(nodes.items()))
        described = repr((tuple(self.nodes.items()), vnodes)).encode()
        self.digest = blake2b(described, digest_size=4).hexdigest()
        tokens = sorted(
            (position(f"{node}\0{number}".encode()), node) for node in self.nodes for number in range(vnodes)
        )
        self._tokens = [token for token, _ in tokens]
        self._owners = [node for _, node in tokens]
        self._zoned = len(set(self.nodes.values())) > 1
        self._preferences: dict[int, list[tuple[str, ...] | None]] = {}

    def preference(self, where: int, n: int) -> tuple[str, ...]:
        """The ``n`` primaries of position ``where``, then its fallbacks, all distinct, in the order they are asked."""
        n = min(n, len(self.nodes))
        table = self._preferences.get(n)
        if table is None:
            if len(self._preferences) == TABLES_LIMIT:
                self._preferences.clear()
            table = self._preferences[n] = [None] * len(self._tokens)
        index = bisect_left(self._tokens, where) % len(self._tokens)
        found = table[index]
        if found is None:
            found = table[index] = self._walk(index, n)
        return found

    def owners(self, piece: Range, n: int) -> tuple[str, ...]:
        """The primaries of the keys in ``piece``, which must lie within one of ``ranges``."""
        return self.preference(piece.last, n)[:n]

    def ranges(self) -> tuple[Range, ...]:
        """The circle cut at every token: within one range all keys have the same preference list."""
        cuts = sorted(set(self._tokens))
        pieces = [Range(before + 1, token) for before, token in pairwise(cuts)]
        if cuts[-1] < POSITIONS - 1:
            pieces.append(Range(cuts[-1] + 1, POSITIONS - 1))
        return (Range(0, cuts[0]), *pieces)

    @property
    def tokens(self) -> list[tuple[int, str]]:
        """All tokens in order, each with its node."""
        return list(zip(self._tokens, self._owners, strict=True))

    @cached_property
    def shares(self) -> dict[str, float]:
        """The part of all positions that each node is the first replica of."""
        shares = dict.fromkeys(self.nodes, 0)
        for piece in self.ranges():
            shares[self.preference(piece.last, 1)[0]] += piece.last - piece.start + 1
        return {node: share / POSITIONS for node, share in shares.items()}

    def _walk(self, index: int, n: int) -> tuple[str, ...]:
        order: dict[str, None] = {}
        wanted = len(self.nodes) if self._zoned else min(len(self.nodes), n + FALLBACKS_COUNT)
        for step in range(len(self._owners)):
            order[self._owners[(index + step) % len(self._owners)]] = None
            if len(order) == wanted:
                break
        if not self._zoned:
            return tuple(order)
        # A node of a zone that has none yet goes first, so that losing a zone loses as few replicas as possible.
        primaries: list[str] = []
        zones: set[str] = set()
        for node in order:
            if len(primaries) < n and self.nodes[node] not in zones:
                primaries.append(node)
                zones.add(self.nodes[node])
        for node in order:
            if len(primaries) < n and node not in primaries:
                primaries.append(node)
        others = [node for node in order if node not in primaries]
        return (*primaries, *others[:FALLBACKS_COUNT])


def pieces_of(rings: Iterable[Ring]) -> tuple[Range, ...]:
    """The circle cut at every token of all ``rings``: each piece lies within one range of each. No rings, no pieces."""
    starts = sorted({piece.start for ring in rings for piece in ring.ranges()})
    if not starts:
        return ()
    lasts = [start - 1 for start in starts[1:]] + [POSITIONS - 1]
    return tuple(Range(start, last) for start, last in zip(starts, lasts, strict=True))
