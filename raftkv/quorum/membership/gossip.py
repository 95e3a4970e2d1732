"""Gossip about the members of a leaderless cluster. Pure: time enters as a value, messages come out as values.

Each node keeps an entry for every member and, every gossip period, shows a digest of them to one random peer, which
answers with what it knows better and asks for what it knows worse (push-pull anti-entropy, Demers et al. 1987; Dynamo,
section 4.8.1). An entry has two halves that merge by themselves, so all orders of merging come to the same: what the
node says of itself, by (generation, heartbeat), and what places it on the ring, phase and zone, which another node may
set, by a version of its own. A zone therefore changes only by leaving and joining, never by a restart.

A node whose heartbeat does not advance is first suspect, then down (van Renesse et al. 1998); it stays a member until
it is removed, since a node that is merely away keeps its data. What is sent to a node that cannot be reached is lost;
that it is there again is for its connection to tell.

What goes over the wire and to the disk is ``raftkv.formats.gossip``. Imports that, ``core`` and msgspec only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from random import Random
from typing import Final

import msgspec

from raftkv.core.status import MemberState
from raftkv.formats.gossip import (
    MEMBERS_LIMIT,
    NUMBER_MAX,
    AgreedSizes,
    Delta,
    Digest,
    GossipMessage,
    MemberEntry,
    Phase,
    Remembered,
)

CHANGING: Final = frozenset({Phase.JOINING, Phase.SETTLING, Phase.LEAVING, Phase.DEPARTING})
LEFT_LIMIT: Final = 256
"""So many members that have left are remembered, the latest."""

_STEPS: Final = {phase: step for step, phase in enumerate(Phase)}


def merged(one: MemberEntry, other: MemberEntry) -> MemberEntry:
    """The join of two entries of one member."""
    said = max(one, other, key=lambda entry: (entry.age, entry.view, entry.synced, entry.http, entry.peer))
    return _placed_as(said, max(one, other, key=lambda entry: (entry.phase_version, _STEPS[entry.phase], entry.zone)))


def _placed_as(said: MemberEntry, placed: MemberEntry) -> MemberEntry:
    return msgspec.structs.replace(said, phase=placed.phase, phase_version=placed.phase_version, zone=placed.zone)


class Membership:
    """What one node knows of all members."""

    def __init__(
        self,
        own: MemberEntry,
        known: Iterable[MemberEntry],
        sizes: AgreedSizes,
        *,
        suspect_after_s: float,
        down_after_s: float,
        now_s: float,
        random: Random,
    ) -> None:
        self.sizes = sizes
        self.entries: dict[str, MemberEntry] = {}
        self.version = 0
        """Grows whenever anything but heartbeats changed here."""
        self._own_id = own.id
        self._suspect_after_s = suspect_after_s
        self._down_after_s = down_after_s
        self._random = random
        self._heard_s: dict[str, float] = {}
        """When there was a sign of life of each member; when it became known, if there was none yet."""
        self._were_heard: set[str] = set()
        self.is_hidden = False
        """Is nobody to hear of this life of the node yet? Then it shows itself as one that never started."""

        known = tuple(known)
        for entry in known:
            if entry.id == own.id:
                own = _placed_as(own, entry)
        for entry in (own, *known):
            self._take(entry, now_s)

    @property
    def own(self) -> MemberEntry:
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
        wanted = tuple(self._shown(self.entries[member]) for member in message.wanted if member in self.entries)
        return [(peer, Delta(wanted, self.sizes))] if wanted else []

    def news(self, live: Iterable[str]) -> list[tuple[str, GossipMessage]]:
        """All that is known here for each of ``live`` at once: of a change that everybody waits for."""
        delta = Delta(tuple(map(self._shown, self.entries.values())), self.sizes)
        return [(peer, delta) for peer in sorted(set(live) - {self._own_id})]

    def _digest(self) -> Digest:
        entries = map(self._shown, self.entries.values())
        marks = tuple((e.id, e.generation, e.heartbeat, e.phase_version, e.check) for e in entries)
        return Digest(marks, self.sizes.counter)

    def _shown(self, entry: MemberEntry) -> MemberEntry:
        """``entry`` as others are told of it."""
        if not self.is_hidden or entry.id != self._own_id:
            return entry
        return msgspec.structs.replace(entry, generation=0, heartbeat=0, view="", synced="")

    def _compare(self, peer: str, digest: Digest) -> list[tuple[str, GossipMessage]]:
        better: list[MemberEntry] = []
        wanted: list[str] = []
        known = {mark[0] for mark in digest.marks}
        for member, generation, heartbeat, phase_version, check in digest.marks:
            held = self.entries.get(member)
            if held is None:
                wanted.append(member)
                continue
            entry = self._shown(held)
            age = generation, heartbeat
            is_rival = entry.phase_version == phase_version and entry.check != check
            if entry.age > age or entry.phase_version > phase_version or is_rival:
                better.append(entry)
            if entry.age < age or entry.phase_version < phase_version or is_rival:
                wanted.append(member)
        better += [self._shown(entry) for entry in self.entries.values() if entry.id not in known]
        if not better and not wanted and digest.sizes == self.sizes.counter:
            return []
        return [(peer, Delta(tuple(better), self.sizes, tuple(wanted)))]

    def _take(self, entry: MemberEntry, now_s: float) -> None:
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

    def add(self, entry: MemberEntry, now_s: float) -> None:
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

    def changing(self) -> tuple[MemberEntry, ...]:
        """The members on their way in or out."""
        return tuple(entry for entry in self.entries.values() if entry.phase in CHANGING)


def _following(number: int) -> int:
    return min(number + 1, NUMBER_MAX)


def _without_heartbeat(entry: MemberEntry) -> MemberEntry:
    return msgspec.structs.replace(entry, heartbeat=0)


def readdressed(remembered: Iterable[MemberEntry], configured: Iterable[MemberEntry]) -> tuple[MemberEntry, ...]:
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


def is_awaited(remembered: Remembered, own_id: str) -> bool:
    """Has nobody confirmed yet that the node which keeps this is a member? Then it must ask to be let in again."""
    own = next((entry for entry in remembered.entries if entry.id == own_id), None)
    return own is not None and own.phase is Phase.JOINING and own.phase_version == 0
