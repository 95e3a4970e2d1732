"""The members as this node acts on them: gossip sent and taken, rings kept in step, changes led through their phases.

A change of the ring goes in two steps (joining, settling, up; leaving, departing, left). A step is taken by one node,
the steward: the member itself while it lives, else the live member with the smallest id. It waits until every member,
alive or not, is known to place keys by the present rings, and, where data moves, until every member that gains some has
said that it has its part; only those that are being removed and are away are not waited for. So no two members are
ever more than one step apart, and each step keeps all write quorums and read quorums meeting. What a node says of
itself it has on its disk, so that it does not fall back by a restart. A member that is removed while it is cut off may
act on older rings until its links stand again.

A newcomer is no member before it has proven itself over its link: until then the node that was asked keeps it as
*invited*, to itself. Nobody is told of it, nothing is asked of it, no write waits for it, and after a while it is
forgotten. Nobody is let go whose leaving would leave fewer members than R or W ask for, or take away the only replicas
of some key.

While a node knows of a change it takes no request for another, but for the removal of a member that is away, since the
change may be waiting for it. Changes that two nodes let in at once, and newcomers that were invited before, go side by
side, each at its own pace (see ``raftkv.quorum.membership.placement``). Where several nodes let one go each, and too
few would stay, those that have not gone yet are up again.

Half of a cluster, or less, never takes a step, since it cannot know what the others do: of two members the dead one
cannot be removed. It is replaced instead, by a node of its name with an empty directory, which repair fills; then it
may leave like any other. Two processes with one name and one secret are not told from one that starts again and again:
each outlives what it hears of the other. Whoever starts nodes must see to it that there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Final

from raftkv.core.errors import Code, Refused, StartupError
from raftkv.core.requests import AddMember, RemoveMember
from raftkv.core.results import MembersChanged as MembershipResult
from raftkv.core.status import MemberState, MemberStatus, PeerStatus
from raftkv.formats.gossip import (
    MEMBERS_LIMIT,
    AgreedSizes,
    Digest,
    GossipMessage,
    MemberEntry,
    Phase,
    Remembered,
    decode_remembered,
    encode_remembered,
)
from raftkv.formats.quorum_messages import Gossip
from raftkv.process.loggers import get_logger
from raftkv.quorum.data.store import Store
from raftkv.quorum.membership.gossip import Membership, readdressed
from raftkv.quorum.membership.placement import Placement
from raftkv.quorum.outbox import Outbox, QuorumLink
from raftkv.quorum.settings import QuorumSettings

INVITED_S: Final = 300.0
"""How long a newcomer may take to link up; whoever starts it later asks again."""

INVITED_MAX: Final = 16
"""So many are awaited at a time."""

FAREWELL_S: Final = 2.0
"""How long a node that has left stays to say so."""

log_line = get_logger("raftkv.quorum")


class Members:
    """The cluster as this node sees it, kept up and acted on."""

    def __init__(
        self,
        settings: QuorumSettings,
        own: MemberEntry,
        configured: tuple[MemberEntry, ...],
        *,
        placement: Placement,
        store: Store,
        outbox: Outbox,
        link: QuorumLink,
        is_up: Callable[[str], bool],
        now_s: float,
        random: Random,
    ) -> None:
        """``configured`` are the members of the configuration; what this node remembers of them counts for more.

        But for their addresses: those of the configuration hold until a member says otherwise.
        """
        self._settings = settings
        self._placement = placement
        self._store = store
        self._outbox = outbox
        self._link = link
        self._is_up = is_up
        self._next_tick_s = now_s
        self._acted_on = -1
        self._parting_s: float | None = None
        self._invited: dict[str, tuple[MemberEntry, float]] = {}
        """Who was let in and has not linked up yet, and until when that holds."""
        self._unsaid: list[tuple[str, GossipMessage]] = []
        self._know_nothing: set[str] = set()
        """Who has said that it knows no earlier life of this node."""
        self.is_lacking = False
        """Did this node have data, under another directory, that has not been fetched from the others yet?"""
        self.has_lost_data = False
        """Did it, whether or not it was fetched since this process began?"""
        remembered = remembered_members(store)
        sizes = AgreedSizes(0, "", settings.n, settings.r, settings.w)
        self._membership = Membership(
            own,
            configured if remembered is None else readdressed(remembered.entries, configured),
            sizes if remembered is None or remembered.sizes.counter == 0 else remembered.sizes,
            suspect_after_s=settings.suspect_after_s,
            down_after_s=settings.down_after_s,
            now_s=now_s,
            random=random,
        )
        self._hide()
        self._act()

    # -- what the replica calls

    @property
    def sizes(self) -> tuple[int, int, int]:
        """N, R and W of the cluster."""
        sizes = self._membership.sizes
        return sizes.n, sizes.r, sizes.w

    @property
    def ids(self) -> list[str]:
        """All members, this node included."""
        return [entry.id for entry in self._membership.entries.values() if entry.phase is not Phase.LEFT]

    def set_sizes(self, n: int, r: int, w: int, counter: int) -> None:
        """Other numbers hold from now on, in the whole cluster as gossip reaches it."""
        self._membership.set_sizes(AgreedSizes(counter, self._settings.node_id, n, r, w))
        self._act()
        self._spread()

    def work(self, now_s: float) -> None:
        """What is due: gossip, and the next step of a change. Raises ``StartupError`` once this node has left."""
        for peer in self._membership.entries:
            if self._is_up(peer):
                self._membership.hear(peer, now_s)
        if self._is_untold and self._has_heard_enough:
            self._store.prove()
        self._hide()
        if now_s >= self._next_tick_s:
            self._next_tick_s = now_s + self._settings.gossip_s
            self._post(self._membership.tick(self._live()))
        self._welcome(now_s)
        self._lead_changes()
        self._act()
        if self._membership.own.phase is Phase.LEFT:
            self._part(now_s)

    def heard(self, peer: str, message: GossipMessage, now_s: float) -> None:
        """``peer`` gossiped."""
        if self._is_untold and isinstance(message, Digest):
            self._look_back(peer, message)
        self._post(self._membership.heard(peer, message, now_s))
        self._act()

    def speak(self) -> None:
        """Say what is to be said, now that what was staged is on the disk, unless it is full."""
        unsaid, self._unsaid = self._unsaid, []
        for peer, message in unsaid:
            # Who knows nothing of an earlier life of this node must not spread that there is a new one.
            if self._is_up(peer) and (self._is_in(peer) or not self._is_untold):
                self._outbox.post(peer, Gossip(message))

    def link_up(self, peer: str, now_s: float) -> None:
        """A connection stands: no need to wait for the next period."""
        if peer in self._invited:
            self._welcome(now_s)
        if peer in self._membership.entries:
            self._post(self._membership.tick([peer]))

    def change(self, request: AddMember | RemoveMember, now_s: float) -> MembershipResult | Refused:
        """Let a member in or out."""
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        entries = self._membership.entries
        if isinstance(request, AddMember):
            return MembershipResult(members=self._invite(request, now_s))
        if self._invited.pop(request.id, None) is not None:
            self._link_members()
        elif entries[request.id].phase is Phase.UP:
            self._membership.move(request.id, Phase.LEAVING)
        elif entries[request.id].phase is Phase.JOINING:
            self._membership.move(request.id, Phase.LEFT)
        self._act()
        self._spread()
        return MembershipResult(members=self.statuses(now_s))

    def _invite(self, request: AddMember, now_s: float) -> tuple[MemberStatus, ...]:
        """Await the newcomer; the members as it shall know them, itself among them."""
        held = self._membership.entries.get(request.id)
        if held is not None and held.phase is not Phase.LEFT:
            return self.statuses(now_s)
        self._invited.pop(request.id, None)
        entry = MemberEntry(request.id, request.http, request.peer, request.zone)
        self._invited[request.id] = (entry, now_s + INVITED_S)
        log_line.info("awaiting a newcomer", member=request.id, peer=request.peer)
        self._link_members()
        self._welcome(now_s)
        if request.id not in self._invited:
            return self.statuses(now_s)
        newcomer = MemberStatus(
            id=request.id, http=request.http, peer=request.peer, zone=request.zone, state=MemberState.JOINING
        )
        return tuple(sorted((*self.statuses(now_s), newcomer), key=lambda member: member.id))

    def _welcome(self, now_s: float) -> None:
        """Let in who was invited and has linked up; forget who does not come."""
        for member, (entry, until_s) in tuple(self._invited.items()):
            held = self._membership.entries.get(member)
            is_in = held is not None and held.phase is not Phase.LEFT
            if is_in or now_s >= until_s:
                del self._invited[member]
                self._link_members()
            elif self._has_proven_itself(member):
                del self._invited[member]
                self._membership.add(entry, now_s)
                self._act()
                self._spread()

    def _has_proven_itself(self, newcomer: str) -> bool:
        return self._is_up(newcomer)

    # -- data on the move

    @property
    def is_agreed(self) -> bool:
        """Does every member of which something is expected place keys as this node does, as far as it is known here?"""
        view, given_up = self._placement.view, self.given_up
        members = [entry for entry in self._membership.entries.values() if entry.phase is not Phase.LEFT]
        return all(entry.view == view for entry in members if entry.id not in given_up)

    @property
    def is_moving(self) -> bool:
        """Is data on the move, because a member joins or leaves?"""
        return any(entry.phase in (Phase.JOINING, Phase.LEAVING) for entry in self._membership.changing())

    @property
    def can_read(self) -> bool:
        """Is what this node holds all that it ever acknowledged? Otherwise a read quorum must do without it."""
        return not self._store.is_unproven

    @property
    def may_fetch(self) -> bool:
        """Is it known what data this node is to fetch, if any, and does every member know where it is to go?"""
        return self._store.is_unproven == self.is_lacking and self.is_agreed

    @property
    def is_synced(self) -> bool:
        """Has this node all the data that it is to hold under the present rings?"""
        return self._membership.own.synced == self._placement.view

    @property
    def given_up(self) -> set[str]:
        """The members that are being removed and cannot be reached: nothing is expected of them any more."""
        live = self._live()
        leaving = self._membership.in_phases(Phase.LEAVING, Phase.DEPARTING)
        return {member for member in leaving if member not in live}

    def synced(self) -> None:
        """Say that this node has all its data under the present rings."""
        if self.is_lacking:
            self.is_lacking = False
            self._store.prove()
            log_line.info("data is back")
        self._membership.say(view=self._placement.view, synced=self._placement.view)

    # -- what others are told

    def peers(self, misfits: Mapping[str, str]) -> tuple[PeerStatus, ...]:
        """The other members and whether they can be reached."""
        return tuple(
            PeerStatus(id=entry.id, reachable=self._is_up(entry.id), misfit=misfits.get(entry.id, ""))
            for entry in sorted(self._membership.entries.values(), key=lambda entry: entry.id)
            if entry.id != self._settings.node_id and entry.phase is not Phase.LEFT
        )

    def statuses(self, now_s: float) -> tuple[MemberStatus, ...]:
        """Every member as this node sees it."""
        ring = self._placement.reading
        shares: Mapping[str, float] = {} if ring is None else ring.shares
        membership = self._membership
        return tuple(
            MemberStatus(
                id=entry.id,
                http=entry.http,
                peer=entry.peer,
                state=membership.state(entry.id, now_s),
                zone=entry.zone,
                share=shares.get(entry.id, 0.0),
                heard_ago_ms=round(membership.heard_ago_s(entry.id, now_s) * 1000)
                if entry.id != self._settings.node_id and membership.was_heard(entry.id)
                else None,
                hints=self._store.hint_count(entry.id),
                hint_bytes=self._store.hint_bytes(entry.id),
            )
            for entry in sorted(membership.entries.values(), key=lambda entry: entry.id)
            if entry.phase is not Phase.LEFT
        )

    # -- within

    @property
    def _is_untold(self) -> bool:
        """Is it still open whether this node has lost a disk?"""
        return self._store.is_unproven and not self.is_lacking

    def _look_back(self, peer: str, digest: Digest) -> None:
        """A new directory is asked for nothing before members have said whether they know an earlier life of this node.

        One that does is enough, and a peer's digest is the first thing that comes by a connection, so that no peer who
        knows of one reads before. That there was none is believed of so many that they meet every write quorum that
        this node may have been in. Until then nobody hears of this life, who would spread it to one that knows another.
        """
        own = self._membership.own
        told = next((generation for member, generation, *_ in digest.marks if member == own.id), 0)
        if told not in (0, own.generation):
            self.is_lacking = self.has_lost_data = True
            log_line.warning("data lost: no reads are answered before the others have given it back")
        elif self._is_in(peer):
            self._know_nothing.add(peer)
            if self._has_heard_enough:
                self._store.prove()
        self._hide()

    @property
    def _has_heard_enough(self) -> bool:
        """Have so many said that they know no earlier life that each write of one is known to one of them?"""
        own = self._settings.node_id
        if self._membership.own.phase is Phase.JOINING:
            return bool(self._know_nothing)
        others = self._membership.in_phases(Phase.SETTLING, Phase.UP, Phase.LEAVING, Phase.DEPARTING)
        unheard = others.keys() - self._know_nothing - self.given_up - {own}
        return len(unheard) <= max(0, self.sizes[2] - 2)

    def _hide(self) -> None:
        self._membership.is_hidden = self._is_untold and self._membership.own.phase is not Phase.JOINING

    def _is_in(self, peer: str) -> bool:
        """Who is on its way in itself may know nothing yet of the earlier lives of others."""
        entry = self._membership.entries.get(peer)
        return entry is not None and entry.phase is not Phase.JOINING

    def _part(self, now_s: float) -> None:
        """Having left, tell everybody once more, then end."""
        if self._parting_s is None:
            self._parting_s = now_s + FAREWELL_S
            for peer in self._live():
                self._post(self._membership.tick([peer]))
        elif now_s >= self._parting_s:
            raise StartupError("this node has left the cluster; to join again, it starts with an empty data directory")

    def _spread(self) -> None:
        """Tell everybody at once what this node has just decided; gossip would take some periods."""
        self._post(self._membership.news(self._live()))

    def _live(self) -> list[str]:
        """The members that can be reached now, this one included."""
        own = self._settings.node_id
        entries = self._membership.entries.values()
        return sorted(e.id for e in entries if e.phase is not Phase.LEFT and (e.id == own or self._is_up(e.id)))

    def _refusal(self, request: AddMember | RemoveMember) -> Refused | None:
        if request.id in self._invited and isinstance(request, RemoveMember):
            return None
        others = [entry.id for entry in self._membership.changing() if entry.id != request.id]
        is_lost = isinstance(request, RemoveMember) and request.id not in self._live()
        if others and not is_lost:
            detail = f"node {others[0]} is still on its way in or out; one change goes at a time"
            return Refused(code=Code.OVERLOADED, detail=detail, retry_after_s=5.0)
        return self._bad_newcomer(request) if isinstance(request, AddMember) else self._bad_leaver(request.id)

    def _bad_leaver(self, member: str) -> Refused | None:
        held = self._membership.entries.get(member)
        if held is None or held.phase is Phase.LEFT:
            return Refused(code=Code.NOT_FOUND, detail=f"there is no member {member!r}")
        return self._loss(member) if held.phase is Phase.UP else None

    def _loss(self, member: str) -> Refused | None:
        """What would be lost if ``member`` left: the quorum of all that stay, or the only replicas of some key."""
        staying = [other for other in self._membership.in_phases(Phase.UP) if other != member]
        if not staying:
            return Refused(code=Code.BAD_REQUEST, detail="the last member cannot leave")
        n, r, w = self.sizes
        if len(staying) < max(r, w):
            detail = f"{len(staying)} members would stay, but r = {r} and w = {w}; add a node or lower them first"
            return Refused(code=Code.BAD_REQUEST, detail=detail)
        live = self._live()
        away = [other for other in self._membership.in_phases(Phase.UP) if other not in live]
        if member in away and len(away) >= n:
            detail = (
                f"{', '.join(sorted(away))} cannot be reached, and n = {n}: {member} may be among the only replicas of "
                "some keys; start one of them first, with an empty directory if its own is lost"
            )
            return Refused(code=Code.BAD_REQUEST, detail=detail)
        return None

    def _bad_newcomer(self, request: AddMember) -> Refused | None:
        """A member that asks again, because it has lost its data, is welcome; an address belongs to one member only."""
        if len(self._invited) >= INVITED_MAX and request.id not in self._invited:
            detail = f"{INVITED_MAX} newcomers are awaited already; remove one that does not come"
            return Refused(code=Code.OVERLOADED, detail=detail, retry_after_s=INVITED_S)
        if len(self._membership.entries) >= MEMBERS_LIMIT and request.id not in self._membership.entries:
            return Refused(code=Code.BAD_REQUEST, detail=f"a cluster has at most {MEMBERS_LIMIT} members")
        for entry in self._membership.entries.values():
            if entry.phase is Phase.LEFT:
                continue
            same = {entry.http, entry.peer} & {request.http, request.peer}
            if entry.id == request.id and len(same) < 2:
                detail = f"there is a member {request.id!r} already, at {entry.http} and {entry.peer}"
                return Refused(code=Code.BAD_REQUEST, detail=detail)
            if entry.id != request.id and same:
                detail = f"address {min(same)} belongs to node {entry.id}"
                return Refused(code=Code.BAD_REQUEST, detail=detail)
        return None

    def _lead_changes(self) -> None:
        """Take the next step of each change that this node is the steward of and that may go on."""
        live = self._live()
        members = len(self._membership.entries) - len(self._membership.in_phases(Phase.LEFT))
        # Half of a cluster alone never steps on, or the other half would fall two steps behind.
        if not self._membership.changing() or 2 * len(live) <= members or not self.is_agreed:
            return
        for entry in self._membership.changing():
            steward = entry.id if entry.id in live else live[0]
            if steward != self._settings.node_id:
                continue
            step = self._next_phase(entry)
            if step is not None:
                log_line.info("ring change", member=entry.id, phase=step.value)
                self._membership.move(entry.id, step)
                self._act()
                self._spread()
                return

    def _next_phase(self, entry: MemberEntry) -> Phase | None:
        if entry.phase is Phase.SETTLING:
            return Phase.UP
        if entry.phase is Phase.DEPARTING:
            return Phase.LEFT
        if entry.phase is Phase.LEAVING and self._too_few_stay():
            return Phase.UP
        future = self._membership.in_phases(Phase.UP, Phase.JOINING, Phase.SETTLING)
        entries, view = self._membership.entries, self._placement.view
        waited_for = {*self._live(), *self._placement.gaining(self._membership.sizes.n)}
        if any(member in waited_for and entries[member].synced != view for member in future):
            return None
        if entry.phase is Phase.JOINING:
            return Phase.SETTLING if entry.synced == view else None
        # Its hints may stand for acknowledgements, and nobody can ask for them once it is gone.
        has_debts = entry.id == self._settings.node_id and self._store.hints_pending > 0
        return None if has_debts else Phase.DEPARTING

    def _too_few_stay(self) -> bool:
        """Did several nodes let one go each, and together too many?"""
        _, r, w = self.sizes
        return len(self._membership.in_phases(Phase.UP)) < max(r, w)

    def _act(self) -> None:
        """Bring rings, links and what is remembered into step with what is known."""
        membership = self._membership
        if membership.version == self._acted_on:
            return
        self._placement.update(membership.entries.values())
        view = self._placement.view
        synced = membership.own.synced if membership.own.view == view or self._placement.others else view
        membership.say(view=view, synced=synced)
        self._acted_on = membership.version
        self._link_members()
        self._store.keep_members(encode_remembered(Remembered(tuple(membership.entries.values()), membership.sizes)))

    def _link_members(self) -> None:
        """Who may link up: the members, and who was invited."""
        members = [entry for entry in self._membership.entries.values() if entry.phase is not Phase.LEFT]
        invited = [entry for entry, _ in self._invited.values()]
        self._link.set_members({entry.id: entry.peer for entry in (*invited, *members)})

    def _post(self, messages: list[tuple[str, GossipMessage]]) -> None:
        self._unsaid += messages


def remembered_members(store: Store) -> Remembered | None:
    """What this node last knew of the members; ``None`` for new data. Raises ``StartupError`` when it is unreadable."""
    data = store.members
    if data is None:
        return None
    try:
        return decode_remembered(data)
    except ValueError as error:
        raise StartupError(f"what this node remembers of the members does not decode: {error}") from None
