"""The vocabulary of faults: frozen values that name what goes wrong and where, and what they mean for nodes and links.

Pure. A place is the id of a node or a word that is resolved when the fault begins: ``leader``, ``follower`` (one of
them), ``any`` (one node), ``followers``, ``minority``, ``majority``, ``all``, ``same`` (the first places of the fault
before); in the groups of a partition also ``rest`` (whoever is in no other group). What each fault does is said once,
here; ``raftkv.instruments.lab.nemesis`` does it. Imports ``raftkv.experiment`` and ``raftkv.peers.faults`` for the
orders that nodes take.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from random import Random
from typing import Annotated

import msgspec
from msgspec import Meta

from raftkv.core.voters import majority, minority
from raftkv.experiment import LinkOrder, Orders
from raftkv.instruments.local.processes import Part
from raftkv.peers.faults import NO_FAULT, Direction, Fault

Places = tuple[str, ...]
Pair = tuple[str, str]
"""From whom to whom messages go."""


class _Fault(msgspec.Struct, frozen=True, tag_field="kind"):
    """Every kind also says in ``words``, as short as a label on a picture, what it does, and to whom."""


class _AtNodes(_Fault, frozen=True, kw_only=True):
    """What happens to nodes."""

    nodes: Places

    @property
    def _named(self) -> str:
        return " ".join(self.nodes)


class Kill(_AtNodes, frozen=True, tag="kill"):
    """``kill -9``, all at once; the end of it starts them again."""

    @property
    def words(self) -> str:
        return f"kill -9 {self._named}"


class Destroy(_AtNodes, frozen=True, tag="destroy"):
    """``kill -9``, and their disks are gone: the nodes never come back, whether this ends or not."""

    @property
    def words(self) -> str:
        return f"disk of {self._named} lost"


class LostDisk(_AtNodes, frozen=True, tag="lost_disk"):
    """``kill -9``, and their disks are gone; the end of it starts them again, with empty ones."""

    @property
    def words(self) -> str:
        return f"disk of {self._named} emptied"


class Pause(_AtNodes, frozen=True, kw_only=True, tag="pause"):
    """SIGSTOP; the end of it lets them go on. The whole node stops, as a suspended machine, or one of its halves."""

    part: Part = "node"

    @property
    def words(self) -> str:
        return f"pause {self._named}"


class Partition(_Fault, frozen=True, kw_only=True, tag="partition"):
    """Two nodes hear each other only if some group holds both.

    A node in two groups joins them: ``[["n1", "n2", "n3"], ["n3", "n4", "n5"]]`` is a bridge.
    """

    groups: tuple[Places, ...]

    @property
    def words(self) -> str:
        return "partition " + " | ".join(" ".join(group) for group in self.groups)


class Mute(_Fault, frozen=True, kw_only=True, tag="mute"):
    """What ``senders`` say does not reach ``receivers``; the other way all is well."""

    senders: Places
    receivers: Places

    @property
    def words(self) -> str:
        return f"{' '.join(self.receivers)} cannot hear {' '.join(self.senders)}"


class Delay(_AtNodes, frozen=True, kw_only=True, tag="delay"):
    """Messages between these nodes and ``peers``, or all others, take so many seconds longer, each way."""

    delay_s: Annotated[float, Meta(gt=0, le=60)]
    peers: Places = ()

    @property
    def words(self) -> str:
        between = f"between {self._named} and {' '.join(self.peers)}" if self.peers else f"to and from {self._named}"
        return f"{self.delay_s * 1000:g} ms {between}"

    def is_between(self, one: str, other: str) -> bool:
        """Do messages of these two (resolved) take longer?"""
        return any(
            near in self.nodes and (far in self.peers or not self.peers) for near, far in ((one, other), (other, one))
        )


class Throttle(_AtNodes, frozen=True, kw_only=True, tag="throttle"):
    """The nodes' network sends so many bytes per second at most; only in namespaces."""

    bytes_per_s: Annotated[int, Meta(ge=1000)]

    @property
    def words(self) -> str:
        return f"{self._named} sends {self.bytes_per_s / 1000:g} kB/s"


class Loss(_AtNodes, frozen=True, kw_only=True, tag="loss"):
    """Of the packets that peers send to the nodes this share gets lost; only in namespaces."""

    share: Annotated[float, Meta(gt=0, lt=1)]

    @property
    def words(self) -> str:
        return f"{self.share:.0%} of packets to {self._named} lost"


class WallClock(_AtNodes, frozen=True, kw_only=True, tag="wall_clock"):
    """The nodes' wall clocks jump by so many seconds, and back when it ends."""

    offset_s: float

    @property
    def words(self) -> str:
        return f"clock of {self._named} {abs(self.offset_s):g} s {'ahead' if self.offset_s > 0 else 'behind'}"


class SlowClock(_AtNodes, frozen=True, kw_only=True, tag="slow_clock"):
    """The nodes' monotonic clocks run at this fraction of the true rate."""

    rate: Annotated[float, Meta(gt=0, le=1)]

    @property
    def words(self) -> str:
        return f"clock of {self._named} at {self.rate:.0%} of its speed"


class FullDisk(_AtNodes, frozen=True, kw_only=True, tag="full_disk"):
    """The nodes' disks have only so much room left: really, where a node has a small disk, else as the node sees it."""

    leave_bytes: Annotated[int, Meta(ge=0)] = 0

    @property
    def words(self) -> str:
        return f"disk of {self._named} full"


AnyFault = (
    Kill | Destroy | LostDisk | Pause | Partition | Mute | Delay | Throttle | Loss | WallClock | SlowClock | FullDisk
)


def resolve(fault: AnyFault, nodes: Sequence[str], leader: str, random: Random, same: Places = ()) -> AnyFault:
    """``fault`` with ids in all its places; raises ``ValueError`` for a place that is no node and no word."""

    def named(places: Places) -> Places:
        known = itertools.chain.from_iterable(same if place == "same" else (place,) for place in places)
        return _named(tuple(known), nodes, leader, random)

    if isinstance(fault, Partition):
        groups = [named(group) for group in fault.groups]
        return Partition(groups=tuple(_with_rest(group, groups, nodes) for group in groups))
    if isinstance(fault, Mute):
        senders, receivers = named(fault.senders), named(fault.receivers)
        groups = [senders, receivers]
        return Mute(senders=_with_rest(senders, groups, nodes), receivers=_with_rest(receivers, groups, nodes))
    if isinstance(fault, Delay):
        return msgspec.structs.replace(fault, nodes=named(fault.nodes), peers=named(fault.peers))
    return msgspec.structs.replace(fault, nodes=named(fault.nodes))


def is_resolved(fault: AnyFault, nodes: Collection[str]) -> bool:
    """Does ``fault`` name ids in all its places?"""
    if isinstance(fault, Partition):
        return {place for group in fault.groups for place in group} <= {*nodes}
    if isinstance(fault, Mute):
        return {*fault.senders, *fault.receivers} <= {*nodes}
    return {*fault.nodes, *(fault.peers if isinstance(fault, Delay) else ())} <= {*nodes}


def first_places(fault: AnyFault) -> Places:
    """What ``same`` means after ``fault`` (resolved)."""
    if isinstance(fault, Partition):
        return fault.groups[0]
    return fault.senders if isinstance(fault, Mute) else fault.nodes


def _named(places: Places, nodes: Sequence[str], leader: str, random: Random) -> Places:
    """The ids that ``places`` stand for, ``rest`` left as it is, each once, in a stable order."""
    others = [node for node in nodes if node != leader]
    found: dict[str, None] = {}
    for place in places:
        if place in nodes or place == "rest":
            chosen = [place]
        elif place == "leader":
            chosen = [leader]
        elif place == "follower":
            chosen = [random.choice([node for node in others if node not in found] or others)]
        elif place == "followers":
            chosen = others
        elif place == "any":
            chosen = [random.choice(nodes)]
        elif place in ("minority", "majority"):
            count = minority(len(nodes)) if place == "minority" else majority(len(nodes))
            chosen = random.sample(nodes, count)
        elif place == "all":
            chosen = list(nodes)
        else:
            raise ValueError(f"{place!r} is neither a node nor a word for some of them")
        found |= dict.fromkeys(chosen)
    return tuple(found)


def _with_rest(group: Places, groups: Iterable[Places], nodes: Sequence[str]) -> Places:
    if "rest" not in group:
        return group
    named = set(itertools.chain.from_iterable(groups))
    return tuple(place for place in group if place != "rest") + tuple(node for node in nodes if node not in named)


def blocked(faults: Iterable[AnyFault], nodes: Sequence[str]) -> frozenset[Pair]:
    """Between whom no message passes while ``faults`` (resolved) last."""
    found: set[Pair] = set()
    for fault in faults:
        if isinstance(fault, Partition):
            joined = {pair for group in fault.groups for pair in itertools.permutations(group, 2)}
            found |= set(itertools.permutations(nodes, 2)) - joined
        elif isinstance(fault, Mute):
            found |= {pair for pair in itertools.product(fault.senders, fault.receivers) if pair[0] != pair[1]}
    return frozenset(found)


def orders(node: str, nodes: Sequence[str], faults: Collection[AnyFault], *, links: bool) -> Orders:
    """What ``node`` has to be told while ``faults`` (resolved) last; with ``links`` also who is not to be heard."""
    cut = blocked(faults, nodes) if links else frozenset()
    found = Orders()
    for fault in faults:
        if isinstance(fault, WallClock) and node in fault.nodes:
            found = msgspec.structs.replace(found, wall_offset_s=found.wall_offset_s + fault.offset_s)
        elif isinstance(fault, SlowClock) and node in fault.nodes:
            found = msgspec.structs.replace(found, clock_rate=min(found.clock_rate, fault.rate))
    slow = [fault for fault in faults if isinstance(fault, Delay)]
    told = []
    for peer in nodes:
        # Each message is dropped or delayed once, where it is received.
        delay_s = max((fault.delay_s for fault in slow if fault.is_between(node, peer)), default=0.0)
        suffered = Fault(drop=(peer, node) in cut, delay_s=delay_s)
        if peer != node and suffered != NO_FAULT:
            told.append(LinkOrder(peer=peer, direction=Direction.FROM_PEER, fault=suffered))
    return msgspec.structs.replace(found, links=tuple(told))
