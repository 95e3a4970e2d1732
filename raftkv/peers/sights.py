"""What nodes show each other while somebody looks at the cluster, beside whatever replicas say.

A node that is asked what it sees asks each peer that it reaches for a sight, at most every ``LOOK_S``, and tells what
it has heard so far. A peer answers at once and keeps no account of who looks, so nothing is sent, or timed, when nobody
does. What happens to a node is noted all the time, by what changes between two looks at its own status; the last of it
is kept. None of this has any effect on replication: sights that are lost, late or wrong are only seen wrong.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Final, Protocol

import msgspec

from raftkv.core.results import MemberStatus, ModeStatus, QuorumStatus, RaftStatus
from raftkv.core.sights import Happening, HappeningKind, MemberSeen, PeerSeen, Sight, SightsShown
from raftkv.formats import sightings
from raftkv.formats.peers import MalformedMessageError
from raftkv.formats.sightings import AskSight, SightTold

LOOK_S: Final = 0.2
"""A peer is asked no more often, however many look."""

HAPPENINGS_MAX: Final = 500
"""So many are kept of each node; of a quiet cluster those of days, of one in trouble those of minutes."""

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

    def attach(self, listener: ReplicaEvents, status: Callable[[], ModeStatus]) -> None:
        """``listener`` takes what is the replica's; ``status`` tells how it stands."""
        self._listener, self._status = listener, status
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
        sights = [self._sight(status, after.get(_place(status.node, self._own.life), 0))]
        for peer in sorted(self._heard):
            heard = self._heard[peer]
            sights.append(
                msgspec.structs.replace(
                    heard.sight,
                    heard_ago_ms=round((now_s - heard.at_s) * 1000),
                    happenings=heard.happenings.after(after.get(_place(peer, heard.happenings.life), 0)),
                )
            )
        return SightsShown(sights=tuple(sights))

    def _ask(self, peer: str, now_s: float) -> None:
        is_due = now_s - self._asked_at_s.get(peer, float("-inf")) >= LOOK_S
        if is_due and self._link.speaks(peer) >= sightings.PROTOCOL:
            self._asked_at_s[peer] = now_s
            heard = self._heard.get(peer)
            known = (
                AskSight()
                if heard is None
                else AskSight(life=heard.happenings.life, after=heard.happenings.last_number)
            )
            self._link.send(peer, sightings.encode(known))

    def _sight(self, status: ModeStatus, after: int) -> Sight:
        return sight_of(status, life=self._own.life, at_ms=self._wall_ms(), happenings=self._own.after(after))

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
            after = message.after if message.life == self._own.life else 0
            self._link.send(peer, sightings.encode(SightTold(sight=self._sight(self._status(), after))))
        elif message.sight.node == peer:
            self._take(peer, message.sight)

    def _take(self, peer: str, sight: Sight) -> None:
        heard = self._heard.get(peer)
        if heard is None or heard.happenings.life != sight.life:
            heard = self._heard[peer] = _Heard(sight, self._clock())
        heard.sight, heard.at_s = sight, self._clock()
        heard.happenings.add(sight.happenings)


def _place(node: str, life: str) -> str:
    return f"{node}/{life}"


def sight_of(status: ModeStatus, *, life: str, at_ms: int, happenings: tuple[Happening, ...]) -> Sight:
    """How a node is seen that stands like this."""
    numbers = status.measures.numbers
    free, log = numbers.get("disk_free_bytes"), numbers.get("log_bytes")
    sight = Sight(
        node=status.node,
        life=life,
        at_ms=at_ms,
        mode=status.mode,
        role=status.role,
        leader=status.leader,
        revision=status.revision,
        can_read=status.can_read,
        can_write=status.can_write,
        has_room=status.has_room,
        misfit=status.misfit,
        disk_free_bytes=None if free is None else round(free),
        log_bytes=None if log is None else round(log),
        peers=tuple(
            [
                PeerSeen(
                    id=peer.id,
                    reachable=peer.reachable,
                    match_index=peer.match_index,
                    outstanding_bytes=peer.outstanding_bytes,
                    misfit=peer.misfit,
                )
                for peer in status.peers
            ]
        ),
        members=tuple([_member(member) for member in status.members]),
        happenings=happenings,
    )
    if isinstance(status, RaftStatus):
        return msgspec.structs.replace(
            sight,
            term=status.term,
            voted_for=status.voted_for,
            commit_index=status.commit_index,
            applied_index=status.applied_index,
            last_index=status.last_index,
        )
    return msgspec.structs.replace(sight, hints_pending=status.hints_pending, repaired_keys=status.repaired_keys)


def _member(member: MemberStatus) -> MemberSeen:
    return MemberSeen(
        id=member.id,
        http=member.http,
        state=member.state,
        zone=member.zone,
        share=member.share,
        heard_ago_ms=member.heard_ago_ms,
        hints=member.hints,
    )


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
        yield HappeningKind.STANDS, "", now.term, ""
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
