"""Where keys belong now, and where they are moving from and to: the rings in force while the members change.

Reads ask the ring whose replicas have the data. While nodes join or leave, a write goes to the key's replicas of every
ring in force and needs one acknowledgement more for each node that the reading ring does not name, so that every read
quorum meets every write quorum before, during and after the change, as long as no two nodes are more than one phase
apart (``raftkv.quorum.membership.members`` sees to the phases).

Several members may be on their way at once, and nobody knows in which order they arrive: reads may come to ask those
that stay with any of them. In force are the ring of those that stay, and that ring with each single one on its way
(as Cassandra computes pending ranges). That is enough: whoever holds a key in a ring also holds it in the ring of those
that stay and itself, since what is taken out of a ring takes no key from the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Final

from raftkv.formats.gossip import MemberEntry, Phase
from raftkv.quorum.coordination.targets import Targets
from raftkv.quorum.membership.gossip import CHANGING
from raftkv.quorum.membership.ring import Range, Ring, pieces_of, position

READ: Final = frozenset({Phase.SETTLING, Phase.UP, Phase.LEAVING})
"""Members in these phases have the data that is theirs, and reads ask them."""

Replicas = tuple[frozenset[str], tuple[str, ...], frozenset[str]]
"""The primaries of some keys, their fallbacks, and their primaries in the other rings in force."""


class Placement:
    """The rings in force. ``is_usable`` says whether a node can be asked now; it changes from moment to moment."""

    def __init__(self, vnodes: int, *, is_usable: Callable[[str], bool]) -> None:
        self.is_usable = is_usable
        self._vnodes = vnodes
        self._rings: dict[tuple[tuple[str, str], ...], Ring] = {}
        self.reading: Ring | None = None
        self.others: tuple[Ring, ...] = ()
        self.view = ""
        """Names the rings in force, and the change that they are of: equal on nodes that place keys alike."""
        self._gaining: dict[int, frozenset[str]] = {}
        self._short: tuple[tuple[object, ...], float] | None = None
        """The last ``short_share`` and what it was asked of."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes of the ring that reads ask."""
        return () if self.reading is None else tuple(self.reading.nodes)

    def is_placed(self, node: str) -> bool:
        """Is ``node`` in a ring in force?"""
        return any(node in ring.nodes for ring in (self.reading, *self.others) if ring is not None)

    def update(self, members: Iterable[MemberEntry]) -> None:
        """Set the rings that follow from where the ``members`` stand."""
        members = sorted(members, key=lambda entry: entry.id)
        reading = {entry.id: entry.zone for entry in members if entry.phase in READ}
        staying = {entry.id: entry.zone for entry in members if entry.phase is Phase.UP}
        moving = [entry for entry in members if entry.phase in CHANGING]
        self.reading = self._ring(reading) if reading else None
        rings = [self._ring(nodes) for nodes in rings_ahead(staying, moving) if nodes]
        self.others = tuple(dict.fromkeys(ring for ring in rings if ring is not self.reading))
        self._gaining.clear()
        self._rings = {key: ring for key, ring in self._rings.items() if ring is self.reading or ring in self.others}
        # A change that is called off and begun again is another one: what was synced for the first is not for it.
        change = [(entry.id, entry.zone, entry.phase, entry.phase_version) for entry in moving]
        self.view = "" if self.reading is None else self.reading.digest
        if moving:
            described = repr((staying, change)).encode()
            self.view += "+" + blake2b(described, digest_size=8).hexdigest()

    def targets(self, key: bytes, n: int, *, sloppy: bool, without: frozenset[str] = frozenset()) -> Targets:
        """Whom a write of ``key`` is for, as if the nodes of ``without`` could not be reached."""
        primaries, fallbacks = self._preference(self.reading, key, n)
        besides: dict[str, None] = {}
        for ring in self.others:
            besides.update(dict.fromkeys(self._preference(ring, key, n)[0]))
        extra = tuple(node for node in besides if node not in primaries)

        def usable(node: str) -> bool:
            return node not in without and self.is_usable(node)

        return Targets(primaries, fallbacks, besides=extra, usable=usable, sloppy=sloppy)

    def replicas(self, key: bytes, n: int) -> Replicas:
        """What is equal for keys whose writes are for the same nodes."""
        primaries, fallbacks = self._preference(self.reading, key, n)
        besides = frozenset([node for ring in self.others for node in self._preference(ring, key, n)[0]])
        return frozenset(primaries), fallbacks, besides

    def order(self, key: bytes, n: int) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """The primaries of ``key``, those that it moves to besides, and all other nodes, fallbacks first."""
        primaries, fallbacks = self._preference(self.reading, key, n)
        besides = dict.fromkeys([node for ring in self.others for node in self._preference(ring, key, n)[0]])
        besides_only = tuple([node for node in besides if node not in primaries])
        others = dict.fromkeys((*fallbacks, *self.nodes))
        rest = tuple([node for node in others if node not in primaries and node not in besides_only])
        return primaries, besides_only, rest

    def read_targets(self, key: bytes, n: int, *, sloppy: bool) -> Targets:
        """Whom a read of ``key`` asks."""
        primaries, fallbacks = self._preference(self.reading, key, n)
        return Targets(primaries, fallbacks, usable=self.is_usable, sloppy=sloppy)

    def short_share(self, n: int, r: int, w: int, *, sloppy: bool) -> float:
        """The part of all ranges, 0 to 1, whose keys cannot be written or read now by these numbers."""
        nodes = {node for ring in (self.reading, *self.others) if ring is not None for node in ring.nodes}
        usable = frozenset(node for node in nodes if self.is_usable(node))
        if self.reading is None or len(usable) == len(nodes) >= max(r, w):
            return 0.0
        asked = (self.view, usable, n, r, w, sloppy)
        if self._short is None or self._short[0] != asked:
            pieces = self.pieces()
            short_count = sum(1 for piece in pieces if self._is_short(piece, usable, (n, r, w), sloppy=sloppy))
            self._short = asked, short_count / len(pieces)
        return self._short[1]

    def _is_short(self, piece: Range, usable: frozenset[str], sizes: tuple[int, int, int], *, sloppy: bool) -> bool:
        assert self.reading is not None
        n, r, w = sizes
        preferred = self.reading.preference(piece.last, n)
        asked_count = min(n, len(usable.intersection(preferred if sloppy else preferred[:n])))
        besides = self.other_owners(piece, n).difference(preferred[:n])
        return asked_count < r or asked_count + len(usable & besides) < w + len(besides)

    def owners(self, piece: Range, n: int) -> tuple[str, ...]:
        """The nodes whose data of ``piece`` reads ask for."""
        return () if self.reading is None else self.reading.owners(piece, n)

    def other_owners(self, piece: Range, n: int) -> set[str]:
        """The owners of ``piece`` in the other rings in force."""
        return {node for ring in self.others for node in ring.owners(piece, n)}

    def gaining(self, n: int) -> frozenset[str]:
        """The nodes that some ring in force gives data which reads do not ask them for yet."""
        if n not in self._gaining:
            gained = (self.other_owners(piece, n).difference(self.owners(piece, n)) for piece in self.pieces())
            self._gaining[n] = frozenset().union(*gained)
        return self._gaining[n]

    def pieces(self) -> tuple[Range, ...]:
        """The circle cut wherever any ring in force has a token, so that no piece has two preference lists in one."""
        rings = (*(() if self.reading is None else (self.reading,)), *self.others)
        return pieces_of(rings)

    def _preference(self, ring: Ring | None, key: bytes, n: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        if ring is None:
            return (), ()
        nodes = ring.preference(position(key), n)
        return nodes[:n], nodes[n:]

    def _ring(self, nodes: Mapping[str, str]) -> Ring:
        key = tuple(sorted(nodes.items()))
        ring = self._rings.get(key)
        if ring is None:
            ring = self._rings[key] = Ring(nodes, self._vnodes)
        return ring


def rings_ahead(staying: Mapping[str, str], moving: Iterable[MemberEntry]) -> Iterator[Mapping[str, str]]:
    """Those that stay, and those with each one that is on its way; the nodes' ids and zones."""
    yield staying
    for entry in moving:
        yield {**staying, entry.id: entry.zone}
