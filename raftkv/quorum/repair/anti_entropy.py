"""When this node compares itself with others, and about what: the schedule of range exchanges.

In this order: the ranges that it gains while the members change, and all of its own if its disk was lost; a repair that
somebody asked for; every ``anti_entropy_s`` the next peer in turn, about all ranges they share; and ranges that are no
longer its own, which are compared with all their owners and only then forgotten. One session of its own is under way at
a time.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from raftkv.core.errors import Unknown
from raftkv.core.replicator import Pending
from raftkv.core.results import Repaired
from raftkv.core.sights import ExchangeSeen, Fate, ReplicaAsked, SampleKind
from raftkv.core.status import Transfer
from raftkv.formats.quorum_messages import Compare, Compared, Exchanged, OfferPage, QuestionDeclined, ReturnPage
from raftkv.quorum.data.intake import Intake
from raftkv.quorum.data.store import Store
from raftkv.quorum.data.trees import Trees, root_of
from raftkv.quorum.membership.members import Members
from raftkv.quorum.membership.placement import Placement
from raftkv.quorum.membership.ring import Range
from raftkv.quorum.outbox import Outbox
from raftkv.quorum.repair.exchange import Answering, ExchangeSession, ExchangeTotals
from raftkv.quorum.sampling import Sampling
from raftkv.quorum.settings import QuorumSettings

BUILD_KEYS: Final = 1_000
"""How many keys one turn may hash: about two milliseconds."""

STALLED_S: Final = 10.0
"""A session without an answer for so long is given up."""

RETRY_S: Final = 1.0
FOREIGN_RANGES: Final = 32
"""So many ranges that are no longer this node's own are handed over in one session."""


class _Repair:
    """A repair that somebody waits for."""

    def __init__(self, pending: Pending, deadline_s: float, peers: list[str], unreachable: tuple[str, ...]) -> None:
        self.pending = pending
        self.deadline_s = deadline_s
        self.left = deque(peers)
        self.done: list[str] = []
        self.unreachable = list(unreachable)
        self.totals = ExchangeTotals()


class _Foreign:
    """A range that is no longer this node's own: which roots its owners had in common with it.

    ``asked``: how often each was compared with. A pass ends after twice, so that one that never gets equal is not asked
    without end.
    """

    PASSES: Final = 2

    def __init__(self) -> None:
        self.matched: dict[str, bytes] = {}
        self.asked: Counter[str] = Counter()


class AntiEntropy:
    """The exchanges of this node, its own and those that others begin."""

    def __init__(
        self,
        settings: QuorumSettings,
        *,
        placement: Placement,
        members: Members,
        store: Store,
        intake: Intake,
        outbox: Outbox,
        new_id: Callable[[], int],
        is_up: Callable[[str], bool],
        sampling: Sampling,
        now_s: float,
    ) -> None:
        self._settings = settings
        self._sampling = sampling
        self._placement = placement
        self._members = members
        self._store = store
        self._intake = intake
        self._outbox = outbox
        self._new_id = new_id
        self._is_up = is_up
        self._trees = Trees(store.scan_order)
        store.on_change = self._trees.changed
        self._answering = Answering(store=store, trees=self._trees, outbox=outbox)
        self._session: ExchangeSession | None = None
        self._repairs: deque[_Repair] = deque()
        self._view = ""
        self._pieces: tuple[Range, ...] = ()
        self._moves: dict[str, list[Range]] | None = None
        self._move: ExchangeSession | None = None
        self._moved = ExchangeTotals()
        self._moves_count = 0
        self._turn = 0
        self._next_round_s = now_s + settings.anti_entropy_s
        self._retry_s = now_s
        self._foreign: dict[Range, _Foreign] = {}
        self.repaired_count = 0
        """How many versions the sessions of this node have brought."""

    # -- what the replica calls

    def work(self, now_s: float) -> None:
        """Do what is due."""
        if self._placement.view != self._view:
            self._follow_view()
        if self._trees.is_busy:
            finished = self._trees.grow(BUILD_KEYS)
            if self._session is not None:
                self._session.grown(finished)
            self._answering.grown(finished)
        for repair in [repair for repair in self._repairs if now_s >= repair.deadline_s]:
            self._repairs.remove(repair)
            repair.pending.resolve(Unknown(detail="the deadline passed; what was repaired until then stays repaired"))
        session = self._session
        if session is not None and session.asked_s is not None and now_s - session.asked_s > STALLED_S:
            session.fail()
        if self._session is None:
            self._begin_next(now_s)
        if self._session is not None:
            self._session.ask(now_s)

    def next_s(self, now_s: float) -> float:
        """When ``work`` is to be called again at the latest."""
        if self._trees.is_busy or self._view != self._placement.view:
            return now_s
        if self._session is not None:
            return self._session.resume_s if self._session.asked_s is None else now_s + STALLED_S
        return max(self._retry_s, min(self._next_round_s, self._retry_s if self._has_work else self._next_round_s))

    def take(self, peer: str, message: Exchanged | QuestionDeclined, now_s: float) -> None:
        """``peer`` sent ``message``."""
        if isinstance(message, Compare | OfferPage):
            self._answering.take(peer, message)
            return
        session = self._session
        if session is not None and session.id == message.id and session.peer == peer and session.asked_s is not None:
            assert isinstance(message, Compared | ReturnPage | QuestionDeclined)
            session.take(message, now_s)
            session.ask(now_s)

    def lost(self, peer: str) -> None:
        """The connection to ``peer`` is gone."""
        self._answering.lost(peer)
        if self._session is not None and self._session.peer == peer:
            self._session.fail()

    def committed(self) -> None:
        """Everything staged is durable."""
        if self._session is not None:
            self._session.committed()

    def commit_failed(self) -> None:
        """There was no room for what was staged, what a session brought in perhaps included."""
        if self._session is not None:
            self._session.fail()

    def repair(self, pending: Pending, deadline_s: float) -> None:
        """Compare all of this node's ranges with every peer that shares them."""
        peers = [peer for peer in self._placement.nodes if peer != self._settings.node_id]
        up = [peer for peer in peers if self._is_up(peer)]
        away = tuple(peer for peer in peers if peer not in up)
        self._repairs.append(_Repair(pending, deadline_s, up, away))

    def close(self) -> None:
        """Nobody may wait any more."""
        for repair in self._repairs:
            repair.pending.resolve(Unknown(detail="this node is shutting down"))
        self._repairs.clear()

    @property
    def transfer(self) -> Transfer | None:
        """How far the data that this node gains has moved in; ``None`` when nothing is on the move."""
        if self._moves is None:
            return None
        done = self._moves_count - sum(len(pieces) for pieces in self._moves.values())
        keys, size_bytes = self._moved.received, self._moved.received_bytes
        if self._move is not None and not self._move.over:
            done += len(self._move.done_ranges)
            keys += self._move.totals.received
            size_bytes += self._move.totals.received_bytes
        return Transfer(ranges_done=done, ranges=self._moves_count, keys=keys, bytes=size_bytes)

    @property
    def exchange(self) -> ExchangeSeen | None:
        """The session of its own that is under way."""
        session = self._session
        if session is None:
            return None
        totals = session.totals
        return ExchangeSeen(
            peer=session.peer,
            ranges=totals.ranges,
            compared=session.compared_count,
            differing=totals.differing,
            received=totals.received,
            sent=totals.sent,
        )

    # -- what comes next

    @property
    def _has_work(self) -> bool:
        return bool(self._repairs) or self._may_move

    @property
    def _may_move(self) -> bool:
        """Is there data to fetch, and does everybody know where it is to go? That they do is told by gossip."""
        members = self._members
        return (members.is_lacking or (members.is_moving and not members.is_synced)) and members.may_fetch

    def _follow_view(self) -> None:
        self._view = self._placement.view
        if self._session is not None:
            self._session.fail()
        self._pieces = self._placement.pieces()
        self._trees.set_ranges(self._pieces)
        self._moves = None
        self._foreign.clear()

    def _begin_next(self, now_s: float) -> None:
        if now_s < self._retry_s:
            return
        if self._may_move:
            self._begin_move(now_s)
        elif self._repairs:
            self._begin_repair(self._repairs[0], now_s)
        elif now_s >= self._next_round_s:
            self._begin_round(now_s)

    def _begin_move(self, now_s: float) -> None:
        if self._moves is None:
            self._moves = self._gained()
            self._moves_count = sum(len(pieces) for pieces in self._moves.values())
            self._moved = ExchangeTotals()
        for peer, pieces in self._moves.items():
            if pieces and self._is_up(peer):
                self._begin(peer, pieces, now_s, self._move_done)
                self._move = self._session
                return
        if self._lacks():
            self._retry_s = now_s + RETRY_S
            return
        self._moves = None
        self._members.synced()

    def _lacks(self) -> bool:
        """Is there a range of which so few owners were asked that an acknowledged write may have been missed?

        So many are asked that they meet every write quorum; fewer only where R of them would not meet it anyway. Who
        is being removed while it is away is not waited for: what it alone has is given up by whoever removes it.
        """
        assert self._moves is not None
        n, r, w = self._members.sizes
        needed = max(1, min(r, n - w + 1))
        given_up = self._members.given_up
        unasked = Counter(piece for peer, pieces in self._moves.items() if peer not in given_up for piece in pieces)
        for piece, count in unasked.items():
            owners = set(self._placement.owners(piece, n)) - given_up - {self._settings.node_id}
            if len(owners) - count < min(needed, len(owners)):
                return True
        return False

    def _gained(self) -> dict[str, list[Range]]:
        """The ranges that this node comes to own, or has to fetch again, by the nodes that have their data."""
        n, here = self._members.sizes[0], self._settings.node_id
        gained: dict[str, list[Range]] = {}
        for piece in self._pieces:
            owners = self._placement.owners(piece, n)
            if self._members.is_lacking if here in owners else here in self._placement.other_owners(piece, n):
                for owner in owners:
                    if owner != here:
                        gained.setdefault(owner, []).append(piece)
        return gained

    def _begin_repair(self, repair: _Repair, now_s: float) -> None:
        if not repair.left:
            self._repairs.popleft()
            totals = repair.totals
            repair.pending.resolve(
                Repaired(
                    peers=tuple(repair.done),
                    unreachable=tuple(repair.unreachable),
                    ranges=totals.ranges,
                    differing=totals.differing,
                    received=totals.received,
                    sent=totals.sent,
                )
            )
            return
        peer = repair.left[0]
        pieces = self._shared(peer)
        if not pieces or not self._is_up(peer):
            repair.left.popleft()
            (repair.done if self._is_up(peer) else repair.unreachable).append(peer)
            return
        self._begin(peer, pieces, now_s, self._repair_done)

    def _begin_round(self, now_s: float) -> None:
        self._next_round_s = now_s + self._settings.anti_entropy_s
        up = [peer for peer in self._placement.nodes if peer != self._settings.node_id and self._is_up(peer)]
        if not up:
            return
        self._turn += 1
        if self._turn % 2 == 0 and not self._placement.others and self._begin_handing_over(now_s):
            return
        peer = up[self._turn % len(up)]
        pieces = self._shared(peer)
        if pieces:
            self._begin(peer, pieces, now_s, self._round_done)

    def _begin_handing_over(self, now_s: float) -> bool:
        """Compare ranges that are not this node's own any more with their owners; is there such a range?"""
        n, here = self._members.sizes[0], self._settings.node_id
        if not self._foreign:
            for piece in self._pieces:
                if here not in self._placement.owners(piece, n) and next(self._store.scan_order(piece), None):
                    self._foreign[piece] = _Foreign()
                    if len(self._foreign) == FOREIGN_RANGES:
                        break
        by_owner: dict[str, list[Range]] = {}
        for piece, foreign in self._foreign.items():
            root = self._root(piece)
            for owner in self._placement.owners(piece, n):
                is_equal = owner in foreign.matched and foreign.matched[owner] == root
                if not is_equal and foreign.asked[owner] < _Foreign.PASSES and self._is_up(owner):
                    by_owner.setdefault(owner, []).append(piece)
        if not by_owner:
            self._foreign.clear()
            return False
        owner, pieces = next(iter(by_owner.items()))
        for piece in pieces:
            self._foreign[piece].asked[owner] += 1
        self._begin(owner, pieces, now_s, self._handed_over)
        self._next_round_s = now_s
        self._turn -= 1
        return True

    def _root(self, piece: Range) -> bytes | None:
        leaves = self._trees.leaves(piece)
        return None if leaves is None else root_of(leaves)

    def _shared(self, peer: str) -> list[Range]:
        n, here = self._members.sizes[0], self._settings.node_id
        return [piece for piece in self._pieces if {here, peer} <= set(self._placement.owners(piece, n))]

    # -- sessions

    def _begin(self, peer: str, pieces: list[Range], now_s: float, done: Callable[[ExchangeSession], None]) -> None:
        self._session = ExchangeSession(
            self._new_id(),
            peer,
            pieces,
            store=self._store,
            intake=self._intake,
            trees=self._trees,
            outbox=self._outbox,
            now_s=now_s,
            bytes_per_s=self._settings.transfer_bytes_per_s,
            done=lambda session: self._over(session, done, now_s),
        )

    def _over(self, session: ExchangeSession, done: Callable[[ExchangeSession], None], began_s: float) -> None:
        self._session = None
        self.repaired_count += session.totals.received
        self._count(session)
        if session.failed:
            self._retry_s = began_s + RETRY_S
        done(session)

    def _count(self, session: ExchangeSession) -> None:
        totals, tally = session.totals, self._sampling.tally
        tally.exchanges += 1
        tally.ranges += session.compared_count
        tally.differing += totals.differing
        tally.received += totals.received
        tally.sent += totals.sent
        if self._sampling.is_watched:
            self._sampling.take(
                SampleKind.EXCHANGE,
                [ReplicaAsked(node=session.peer, fate=Fate.LOST if session.failed else Fate.HOLDS)],
                done=not session.failed,
                ranges=session.compared_count,
                differing=totals.differing,
                received=totals.received,
                sent=totals.sent,
            )

    def _move_done(self, session: ExchangeSession) -> None:
        if self._moves is not None:
            done = set(session.done_ranges)
            self._moves[session.peer] = [piece for piece in self._moves[session.peer] if piece not in done]
            self._moved.add(session.totals)

    def _repair_done(self, session: ExchangeSession) -> None:
        if self._repairs:
            repair = self._repairs[0]
            if repair.left and repair.left[0] == session.peer:
                repair.left.popleft()
                (repair.unreachable if session.failed else repair.done).append(session.peer)
                repair.totals.add(session.totals)

    def _round_done(self, session: ExchangeSession) -> None:
        """The next round comes in its time."""

    def _handed_over(self, session: ExchangeSession) -> None:
        """Forget what every owner was found to hold as it is held here now."""
        if session.failed:
            self._foreign.clear()
            return
        n = self._members.sizes[0]
        for piece, root in session.matched.items():
            foreign = self._foreign.get(piece)
            if foreign is None:
                continue
            foreign.matched[session.peer] = root
            owners = self._placement.owners(piece, n)
            if {foreign.matched.get(owner) for owner in owners} == {self._root(piece)}:
                del self._foreign[piece]
                self._store.drop_range(piece)
