"""Gossip about the members of a leaderless cluster. Pure: time enters as a value, messages come out as values.

Each node keeps an entry for every member and, every gossip period, shows a digest of them to one random peer, which
answers with what it knows better and asks for what it knows worse (push-pull anti-entropy, Demers et al. 1987; Dynamo,
section 4.8.1). An entry has two halves that merge by themselves, so all orders of merging come to the same: what the
node says of itself, by (generation, heartbeat), and what places it on the ring, phase and zone, which another node may
set, by a version of its own. A zone therefore changes only by leaving and joining, never by a restart.

A node whose heartbeat does not advance is first suspect, then down (van Renesse et al. 1998); it stays a member until
it is removed, since a node that is merely away keeps its data. What is sent to a node that cannot be reached is lost;
that it is there again is for its connection to tell.

Imports ``core`` and msgspec only.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from random import Random
from typing import Annotated, Final
from zlib import crc32

import msgspec
from msgspec import Meta

from raftkv.core.config import NODE_ID_PATTERN, AddressText, Zone
from raftkv.core.results import MemberState


class Phase(enum.StrEnum):
    """Where a member stands between joining and having left.

    Each change of the ring takes two steps, so that nodes that are one step apart still place keys on replicas in
    common.
    """

    JOINING = "joining"
    SETTLING = "settling"
    UP = "up"
    LEAVING = "leaving"
    DEPARTING = "departing"
    LEFT = "left"


CHANGING: Final = frozenset({Phase.JOINING, Phase.SETTLING, Phase.LEAVING, Phase.DEPARTING})
MEMBERS_LIMIT: Final = 1024
"""No more members are taken in, so that a digest of all stays far below the limit of a frame."""

LEFT_LIMIT: Final = 256
"""So many members that have left are remembered, the latest."""


NUMBER_MAX: Final = 1 << 53
"""Where numbers end. What counts on from what others say stays there: who says so much has made the number useless,
but must not stop anybody."""

NodeId = Annotated[str, Meta(pattern=NODE_ID_PATTERN)]
Number = Annotated[int, Meta(ge=0, le=NUMBER_MAX)]
View = Annotated[str, Meta(max_length=64)]

_STEPS: Final = {phase: step for step, phase in enumerate(Phase)}


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """What is known of one member.

    ``generation`` is when its process started (ms since the epoch), ``heartbeat`` counts its gossip periods. ``view``
    names the rings that it places keys by, ``synced`` the view for which it has all the data that it is to hold.
    """

    id: NodeId
    http: AddressText
    peer: AddressText
    zone: Zone = ""
    generation: Number = 0
    heartbeat: Number = 0
    view: View = ""
    synced: View = ""
    phase: Phase = Phase.UP
    phase_version: Number = 0

    @property
    def age(self) -> tuple[int, int]:
        """Higher is newer, of what the member says itself."""
        return self.generation, self.heartbeat

    @property
    def check(self) -> int:
        """Tells places of one version apart: those of two nodes that moved one member at once."""
        return crc32(f"{self.phase}\0{self.zone}".encode())


def merged(one: Entry, other: Entry) -> Entry:
    """The join of two entries of one member."""
    said = max(one, other, key=lambda entry: (entry.age, entry.view, entry.synced, entry.http, entry.peer))
    return _placed_as(said, max(one, other, key=lambda entry: (entry.phase_version, _STEPS[entry.phase], entry.zone)))


def _placed_as(said: Entry, placed: Entry) -> Entry:
    return msgspec.structs.replace(said, phase=placed.phase, phase_version=placed.phase_version, zone=placed.zone)


class AgreedSizes(msgspec.Struct, frozen=True, array_like=True, order=True):
    """N, R and W of the whole cluster; the highest (``counter``, ``node``) holds."""

    counter: Number
    node: Annotated[str, Meta(max_length=63)]
    n: Annotated[int, Meta(ge=1, le=MEMBERS_LIMIT)]
    r: Annotated[int, Meta(ge=1, le=MEMBERS_LIMIT)]
    w: Annotated[int, Meta(ge=1, le=MEMBERS_LIMIT)]


Mark = tuple[NodeId, Number, Number, Number, Number]
"""Id, generation, heartbeat, phase version and check of an entry."""


class Digest(msgspec.Struct, frozen=True, array_like=True, tag=0):
    """How far I know each member."""

    marks: Annotated[tuple[Mark, ...], Meta(max_length=MEMBERS_LIMIT)]
    sizes: Number


class Delta(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """What I know better, and of ``wanted`` you know better: tell me."""

    entries: Annotated[tuple[Entry, ...], Meta(max_length=MEMBERS_LIMIT)]
    sizes: AgreedSizes
    wanted: Annotated[tuple[NodeId, ...], Meta(max_length=MEMBERS_LIMIT)] = ()


GossipMessage = Digest | Delta


class Membership:
    """What one node knows of all members."""

    def __init__(
        self,
        own: Entry,
        known: Iterable[Entry],
        sizes: AgreedSizes,
        *,
        suspect_after_s: float,
        down_after_s: float,
        now_s: float,
        random: Random,
    ) -> None:
        self.sizes = sizes
        self.entries: dict[str, Entry] = {}
        self.version = 0
        """Grows whenever anything but heartbeats changed here."""
        self._own_id = own.id
        self._suspect_after_s = suspect_after_s
        self._down_after_s = down_after_s
        self._random = random
        self._heard_s: dict[str, float] = {}
        """When there was a sign of life of each member; when it became known, if there was none yet."""
        self._were_heard: set[str] = set()
        known = tuple(known)
        for entry in known:
            if entry.id == own.id:
                own = _placed_as(own, entry)
        for entry in (own, *known):
            self._take(entry, now_s)

    @property
    def own(self) -> Entry:
        """The entry of this node."""
        return self.entries[self._own_id]

    # -- gossip

    def tick(self, live: Iterable[str]) -> list[tuple[str, GossipMessage]]:
        """A gossip period has passed: advance the heartbeat and show the digest to one of ``live``."""
        own = self.own
        self.entries[self._own_id] = msgspec.structs.replace(own, heartbeat=own.heartbeat + 1)
        others = sorted(set(live) - {self._own_id})
        return [(self._random.choice(others), self._digest())] if others else []

    def heard(self, peer: str, message: GossipMessage, now_s: float) -> list[tuple[str, GossipMessage]]:
        """``peer`` sent ``message``; what to answer."""
        if isinstance(message, Digest):
            return self._compare(peer, message)
        for entry in message.entries:
            self._take(entry, now_s)
        if message.sizes > self.sizes:
            self.sizes = message.sizes
            self.version += 1
        wanted = tuple(self.entries[member] for member in message.wanted if member in self.entries)
        return [(peer, Delta(wanted, self.sizes))] if wanted else []

    def news(self, live: Iterable[str]) -> list[tuple[str, GossipMessage]]:
        """All that is known here for each of ``live`` at once: of a change that everybody waits for."""
        delta = Delta(tuple(self.entries.values()), self.sizes)
        return [(peer, delta) for peer in sorted(set(live) - {self._own_id})]

    def _digest(self) -> Digest:
        marks = tuple((e.id, e.generation, e.heartbeat, e.phase_version, e.check) for e in self.entries.values())
        return Digest(marks, self.sizes.counter)

    def _compare(self, peer: str, digest: Digest) -> list[tuple[str, GossipMessage]]:
        better: list[Entry] = []
        wanted: list[str] = []
        known = {mark[0] for mark in digest.marks}
        for member, generation, heartbeat, phase_version, check in digest.marks:
            entry = self.entries.get(member)
            if entry is None:
                wanted.append(member)
                continue
            age = generation, heartbeat
            is_rival = entry.phase_version == phase_version and entry.check != check
            if entry.age > age or entry.phase_version > phase_version or is_rival:
                better.append(entry)
            if entry.age < age or entry.phase_version < phase_version or is_rival:
                wanted.append(member)
        better += [entry for entry in self.entries.values() if entry.id not in known]
        if not better and not wanted and digest.sizes == self.sizes.counter:
            return []
        return [(peer, Delta(tuple(better), self.sizes, tuple(wanted)))]

    def _take(self, entry: Entry, now_s: float) -> None:
        held = self.entries.get(entry.id)
        if held is None and len(self.entries) >= MEMBERS_LIMIT:
            return
        joined = entry if held is None else merged(held, entry)
        if (
            entry.id == self._own_id
            and held is not None
            and joined.age >= held.age
            and joined != _placed_as(held, joined)
        ):
            # An earlier life of this node seems later, because the clock was set back since: outlive it.
            joined = _placed_as(msgspec.structs.replace(held, generation=_following(joined.generation)), joined)
        if joined == held:
            return
        self.entries[entry.id] = joined
        if held is None:
            self._heard_s[entry.id] = now_s
        elif joined.age > held.age:
            self.hear(entry.id, now_s)
        if held is None or _without_heartbeat(joined) != _without_heartbeat(held):
            self.version += 1
            self._forget()

    def _forget(self) -> None:
        left = [entry for entry in self.entries.values() if entry.phase is Phase.LEFT and entry.id != self._own_id]
        for entry in sorted(left, key=lambda entry: entry.generation)[: max(0, len(left) - LEFT_LIMIT)]:
            del self.entries[entry.id]

    # -- what this node says

    def say(self, *, view: str, synced: str) -> None:
        """Say that this node places keys by ``view`` and has all its data for ``synced``."""
        own = self.own
        if (own.view, own.synced) != (view, synced):
            self.entries[self._own_id] = msgspec.structs.replace(
                own, view=view, synced=synced, heartbeat=own.heartbeat + 1
            )
            self.version += 1

    def add(self, entry: Entry, now_s: float) -> None:
        """Let a node in that is no member now: it is joining, and nothing holds that it said in an earlier life."""
        held = self.entries.get(entry.id)
        if held is not None:
            assert held.phase is Phase.LEFT
            entry = msgspec.structs.replace(entry, generation=_following(held.generation))
        version = 1 if held is None else _following(held.phase_version)
        self._take(msgspec.structs.replace(entry, phase=Phase.JOINING, phase_version=version), now_s)

    def move(self, member: str, phase: Phase) -> None:
        """``member`` enters ``phase``."""
        held = self.entries[member]
        version = _following(held.phase_version)
        self.entries[member] = msgspec.structs.replace(held, phase=phase, phase_version=version)
        self.version += 1

    def set_sizes(self, sizes: AgreedSizes) -> None:
        """Other numbers hold from now on, unless newer ones do."""
        if sizes > self.sizes:
            self.sizes = sizes
            self.version += 1

    # -- what this node knows

    def hear(self, member: str, now_s: float) -> None:
        """There is life in ``member``: its connection stands."""
        self._heard_s[member] = now_s
        self._were_heard.add(member)

    def heard_ago_s(self, member: str, now_s: float) -> float:
        """How long there was no sign of ``member``, or, if there never was one, how long it is known."""
        return max(0.0, now_s - self._heard_s.get(member, now_s))

    def was_heard(self, member: str) -> bool:
        """Was there ever a sign of ``member`` in this life of the process?"""
        return member in self._were_heard

    def is_silent(self, member: str, now_s: float) -> bool:
        """Is ``member`` suspect or down?"""
        return member != self._own_id and self.heard_ago_s(member, now_s) > self._suspect_after_s

    def state(self, member: str, now_s: float) -> MemberState:
        """How ``member`` looks to this node."""
        phase = self.entries[member].phase
        if phase is Phase.LEFT:
            return MemberState.LEFT
        silent_s = 0.0 if member == self._own_id else self.heard_ago_s(member, now_s)
        if silent_s > self._down_after_s:
            return MemberState.DOWN
        if silent_s > self._suspect_after_s:
            return MemberState.SUSPECT
        if phase in (Phase.JOINING, Phase.SETTLING):
            return MemberState.JOINING
        return MemberState.UP if phase is Phase.UP else MemberState.LEAVING

    def in_phases(self, *phases: Phase) -> Mapping[str, str]:
        """The members in one of ``phases``: ids and zones."""
        return {entry.id: entry.zone for entry in self.entries.values() if entry.phase in phases}

    def changing(self) -> tuple[Entry, ...]:
        """The members on their way in or out."""
        return tuple(entry for entry in self.entries.values() if entry.phase in CHANGING)


def _following(number: int) -> int:
    return min(number + 1, NUMBER_MAX)


def _without_heartbeat(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry, heartbeat=0)


def readdressed(remembered: Iterable[Entry], configured: Iterable[Entry]) -> tuple[Entry, ...]:
    """What is ``remembered`` of the members, each at the address that the file now gives it, if the file names it.

    When all nodes have moved at once nobody could tell the others where it is. What a member says of itself later, in
    a newer life or heartbeat, counts for more.
    """
    named = {entry.id: entry for entry in configured}
    return tuple(
        msgspec.structs.replace(entry, http=named[entry.id].http, peer=named[entry.id].peer)
        if entry.id in named
        else entry
        for entry in remembered
    )


class Remembered(msgspec.Struct, frozen=True, array_like=True):
    """What a node keeps of the members over a restart."""

    entries: tuple[Entry, ...]
    sizes: AgreedSizes

    def is_awaited(self, own_id: str) -> bool:
        """Has nobody confirmed yet that the node which keeps this is a member? Then it must ask to be let in again."""
        own = next((entry for entry in self.entries if entry.id == own_id), None)
        return own is not None and own.phase is Phase.JOINING and own.phase_version == 0


encode_remembered = msgspec.msgpack.Encoder().encode
decode_remembered = msgspec.msgpack.Decoder(Remembered).decode
