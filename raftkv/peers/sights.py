"""What nodes show each other while somebody looks at the cluster, beside whatever replicas say.

A node that is asked what it sees asks each peer that it reaches for a sight, at most every ``LOOK_S``, and tells what
it has heard so far. A peer answers at once and keeps no account of who looks, so nothing is sent, or timed, when nobody
does. What happens to a node is noted all the time, by what changes between two looks at its own status; the last of it
is kept. None of this has any effect on replication: sights that are lost, late or wrong are only seen wrong.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Protocol

import msgspec

from raftkv.core.sights import (
    HANDED_OVER,
    Happening,
    HappeningKind,
    MemberSeen,
    PeerSeen,
    Sample,
    Sight,
    SightsShown,
    WorkSeen,
    WorkShower,
    no_work,
)
from raftkv.core.status import ModeStatus, QuorumStatus, RaftStatus
from raftkv.formats import sightings
from raftkv.formats.peers import MalformedMessageError
from raftkv.formats.sightings import AskSight, SightTold

LOOK_S: Final = 0.2
"""A peer is asked no more often, however many look."""

HAPPENINGS_MAX: Final = 500
"""So many are kept of each node; of a quiet cluster those of days, of one in trouble those of minutes."""

SAMPLES_MAX: Final = 64
"""So many are kept of another node, for those who ask this one."""

TOLD_MAX: Final = 100
"""So many are told at once, the oldest first; the rest comes with the next looks."""


class SightsLink(Protocol):
    """Reaches the peers that were met."""

    def send(self, peer: str, payload: bytes) -> bool:
        """Send, if it is reached."""

    def close_peer(self, peer: str) -> None:
        """Drop the connection."""

    def speaks(self, peer: str) -> int:
        """The newest protocol that both speak; 0 for one that was not met."""


class ReplicaEvents(Protocol):
    """Whoever takes what is not about sights."""

    def link_up(self, peer: str) -> None:
        """See ``LinkEvents``."""

    def link_down(self, peer: str) -> None:
        """See ``LinkEvents``."""

    def received(self, peer: str, payload: bytes) -> None:
        """See ``LinkEvents``."""


class Happenings:
    """What has happened to one node: noted by its own, or heard from it."""

    def __init__(self, life: str) -> None:
        self.life = life
        self._kept: deque[Happening] = deque(maxlen=HAPPENINGS_MAX)

    @property
    def last_number(self) -> int:
        """That of the newest; 0 if there is none."""
        return self._kept[-1].number if self._kept else 0

    def after(self, number: int) -> tuple[Happening, ...]:
        """The oldest of those after ``number``, as many as are told at once."""
        found = [one for one in self._kept if one.number > number]
        return tuple(found[:TOLD_MAX])

    def add(self, heard: tuple[Happening, ...]) -> None:
        """Those that are new."""
        self._kept.extend([one for one in heard if one.number > self.last_number])


class _Heard:
    """The last sight of one peer."""

    def __init__(self, sight: Sight, at_s: float) -> None:
        self.sight = sight
        self.at_s = at_s
        self.happenings = Happenings(sight.life)
        self.samples: deque[Sample] = deque(maxlen=SAMPLES_MAX)

    @property
    def last_sample(self) -> int:
        """The number of the newest; 0 if there is none."""
        return self.samples[-1].number if self.samples else 0

    def take(self, sight: Sight, at_s: float) -> None:
        """It shows itself like this now."""
        self.sight, self.at_s = sight, at_s
        self.happenings.add(sight.happenings)
        if sight.work is not None:
            last = self.last_sample
            self.samples.extend([one for one in sight.work.samples if one.number > last])

    def shown(self, now_s: float, after: Mapping[str, int]) -> Sight:
        """The same for whoever knows of it what ``after`` says."""
        place = _place(self.sight.node, self.happenings.life)
        work = self.sight.work
        if work is not None:
            known = after.get(_samples(place), 0)
            work = msgspec.structs.replace(work, samples=tuple([one for one in self.samples if one.number > known]))
        return msgspec.structs.replace(
            self.sight,
            heard_ago_ms=round((now_s - self.at_s) * 1000),
            happenings=self.happenings.after(after.get(place, 0)),
            work=work,
        )


class Sights:
    """One node's looks at the others, and theirs at it; for the replica it stands between it and the link."""

    def __init__(self, link: SightsLink, *, life: str, clock: Callable[[], float], wall_ms: Callable[[], int]) -> None:
        self._link = link
        self._clock = clock
        self._wall_ms = wall_ms
        self._own = Happenings(life)
        self._noted: ModeStatus | None = None
        self._heard: dict[str, _Heard] = {}
        self._asked_at_s: dict[str, float] = {}
        self._listener: ReplicaEvents
        self._status: Callable[[], ModeStatus]

    def attach(
        self, listener: ReplicaEvents, status: Callable[[], ModeStatus], show_work: WorkShower = no_work
    ) -> None:
        """``listener`` takes what is the replica's; ``status`` tells how it stands, ``show_work`` what it does."""
        self._listener, self._status, self._show_work = listener, status, show_work
        self.link_up, self.link_down = listener.link_up, listener.link_down

    # -- what has happened here

    def note(self, status: ModeStatus) -> None:
        """The node stands like this now: whatever differs from the last time has happened."""
        before, self._noted = self._noted, status
        if before is None:
            return
        at_ms = self._wall_ms()
        for kind, subject, term, detail in _differences(before, status):
            number = self._own.last_number + 1
            happening = Happening(number=number, at_ms=at_ms, kind=kind, subject=subject, term=term, detail=detail)
            self._own.add((happening,))

    # -- what others show

    def show_sights(self, after: Mapping[str, int]) -> SightsShown:
        """What is seen now; who can be reached is asked to show itself for the next time."""
        now_s = self._clock()
        status = self._status()
        self.note(status)
        known = {peer.id for peer in status.peers}
        for peer in tuple(self._heard):
            if peer not in known:
                del self._heard[peer]
        for peer in known:
            self._ask(peer, now_s)
        place = _place(status.node, self._own.life)
        sights = [self._sight(status, after.get(place, 0), after.get(_samples(place), 0))]
        sights += [self._heard[peer].shown(now_s, after) for peer in sorted(self._heard)]
        return SightsShown(sights=tuple(sights))

    def _ask(self, peer: str, now_s: float) -> None:
        is_due = now_s - self._asked_at_s.get(peer, float("-inf")) >= LOOK_S
        if is_due and self._link.speaks(peer) >= sightings.PROTOCOL:
            self._asked_at_s[peer] = now_s
            heard = self._heard.get(peer)
            known = (
                AskSight()
                if heard is None
                else AskSight(
                    life=heard.happenings.life, after=heard.happenings.last_number, samples_after=heard.last_sample
                )
            )
            self._link.send(peer, sightings.encode(known))

    def _sight(self, status: ModeStatus, after: int, samples_after: int) -> Sight:
        return sight_of(
            status,
            life=self._own.life,
            at_ms=self._wall_ms(),
            happenings=self._own.after(after),
            work=self._show_work(samples_after),
        )

    def received(self, peer: str, payload: bytes) -> None:
        """See ``LinkEvents``."""
        if not payload.startswith(sightings.MARK):
            self._listener.received(peer, payload)
            return
        try:
            message = sightings.decode(payload)
        except MalformedMessageError:
            self._link.close_peer(peer)
            return
        if isinstance(message, AskSight):
            after, samples_after = (message.after, message.samples_after) if message.life == self._own.life else (0, 0)
            sight = self._sight(self._status(), after, samples_after)
            self._link.send(peer, sightings.encode(SightTold(sight=sight)))
        elif message.sight.node == peer:
            self._take(peer, message.sight)

    def _take(self, peer: str, sight: Sight) -> None:
        heard = self._heard.get(peer)
        if heard is None or heard.happenings.life != sight.life:
            heard = self._heard[peer] = _Heard(sight, self._clock())
        heard.take(sight, self._clock())


def _place(node: str, life: str) -> str:
    return f"{node}/{life}"


def _samples(place: str) -> str:
    return f"{place}/samples"


def sight_of(
    status: ModeStatus, *, life: str, at_ms: int, happenings: tuple[Happening, ...], work: WorkSeen | None = None
) -> Sight:
    """How a node is seen that stands like this."""
    numbers = status.measures.numbers
    free, log = numbers.get("disk_free_bytes"), numbers.get("log_bytes")
    more = {
        "disk_free_bytes": None if free is None else round(free),
        "log_bytes": None if log is None else round(log),
        "peers": tuple([PeerSeen(**_shown(peer, PeerSeen)) for peer in status.peers]),
        "members": tuple([MemberSeen(**_shown(member, MemberSeen)) for member in status.members]),
    }
    return Sight(life=life, at_ms=at_ms, happenings=happenings, work=work, **{**_shown(status, Sight), **more})


def _shown(source: msgspec.Struct, kind: type[msgspec.Struct]) -> dict[str, Any]:
    """What ``source`` has of the fields of ``kind``."""
    return {name: getattr(source, name) for name in kind.__struct_fields__ if name in source.__struct_fields__}


_Difference = tuple[HappeningKind, str, int, str]


def _differences(before: ModeStatus, now: ModeStatus) -> Iterator[_Difference]:
    """What has happened between two looks at one node: kind, subject, term, detail."""
    if isinstance(before, RaftStatus) and isinstance(now, RaftStatus):
        yield from _elections(before, now)
        if before.configuration_index != now.configuration_index:
            yield HappeningKind.MEMBERS, "", now.term, ", ".join([member.id for member in now.members])
    elif isinstance(before, QuorumStatus) and isinstance(now, QuorumStatus):
        states = {member.id: member.state for member in before.members}
        for member in now.members:
            if states.get(member.id) != member.state:
                yield HappeningKind.STATE, member.id, 0, member.state
    reached = {peer.id: peer.reachable for peer in before.peers}
    for peer in now.peers:
        if reached.get(peer.id, False) != peer.reachable:
            yield HappeningKind.REACHES if peer.reachable else HappeningKind.LOSES, peer.id, 0, peer.misfit
    if before.has_room != now.has_room:
        yield HappeningKind.ROOMY if now.has_room else HappeningKind.FULL, "", 0, ""
    if before.misfit != now.misfit:
        yield HappeningKind.MISFIT if now.misfit else HappeningKind.FITS, "", 0, now.misfit


def _elections(before: RaftStatus, now: RaftStatus) -> Iterator[_Difference]:
    is_new_term = before.term != now.term
    if now.voted_for == now.node and (is_new_term or before.voted_for != now.voted_for):
        yield HappeningKind.STANDS, "", now.term, HANDED_OVER if now.entrusted_term == now.term else ""
    elif now.voted_for and (is_new_term or before.voted_for != now.voted_for):
        yield HappeningKind.VOTES, now.voted_for, now.term, ""
    if now.leader == now.node:
        if is_new_term or before.leader != now.node:
            yield HappeningKind.LEADS, "", now.term, ""
    elif now.leader is None:
        if before.leader is not None:
            yield HappeningKind.LEADERLESS, before.leader, now.term, ""
    elif is_new_term or before.leader != now.leader:
        yield HappeningKind.FOLLOWS, now.leader, now.term, ""
